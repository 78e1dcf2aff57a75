"""The OpenRouter driver against the strict stand-in: what is paid for arrives, what fails says so and what it may have cost."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import anyio
import anyio.to_thread
import pytest

from kheish_mcp.capabilities import (
    CAPABILITIES,
    EditRequest,
    Exchange,
    Generation,
    ImageRequest,
    NativeWebSearch,
    SpeechRequest,
    Transcript,
    TranscriptionRequest,
)
from kheish_mcp.drivers.http import Endpoint
from kheish_mcp.drivers.openrouter.driver import OpenRouter
from kheish_mcp.errors import (
    DataLoss,
    DeadlineExceeded,
    InvalidArgument,
    Json,
    KheishError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from kheish_mcp.formats import recognise
from kheish_mcp.media import Media, Pcm
from kheish_mcp.secret import Secret
from tests.clocks import Clockwork
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import faults

pytestmark = pytest.mark.anyio
KEY = "sk-or-v1-driver0123456789abcdef0123456789abcdef"
DRAWS, DRAWS_ONE = "openai/gpt-image-2", "google/gemini-3.1-flash-image-preview"
SPEAKS, SPEAKS_PCM, SPEAKS_PLAINLY = (
    "openai/gpt-4o-mini-tts-2025-12-15", "google/gemini-3.1-flash-tts-preview", "hexgrad/kokoro-82m",
)  # fmt: skip
HEARS, HEARS_PLAINLY = "openai/whisper-1", "google/chirp-3"
SAMPLES = b"\x10\x00\xf0\xff" * 6000
PIER = ImageRequest("a pier at dusk")
HELLO = SpeechRequest("Hello there.")
IN_JSON = ("envelope", "string", "zod")
SHAPES = (*IN_JSON, "html", "empty")


@pytest.fixture
def emulator() -> Iterator[OpenRouterEmulator]:
    """The stand-in; at the end the key was nowhere but in its header."""
    with OpenRouterEmulator(key=KEY) as running:
        yield running
        assert running.violations == []


@pytest.fixture
async def driver(emulator: OpenRouterEmulator) -> AsyncGenerator[OpenRouter]:
    """A driver of a route without preferences, which waits for nothing between attempts."""
    opened = OpenRouter(Endpoint("home", emulator.base_url, Secret(KEY)), clock=Clockwork().clock)
    yield opened
    await opened.close()


def preferring(emulator: OpenRouterEmulator, **preferences: Json) -> OpenRouter:
    """A driver of a route with preferences."""
    return OpenRouter(Endpoint("home", emulator.base_url, Secret(KEY), preferences))


async def draw(driver: OpenRouter, request: ImageRequest = PIER, model: str = DRAWS) -> Generation:
    """One request for pictures."""
    return await driver.generate_image(model, request, Exchange())


async def speak(driver: OpenRouter, request: SpeechRequest = HELLO, model: str = SPEAKS) -> Generation:
    """One request for speech."""
    return await driver.generate_audio(model, request, Exchange())


async def hear(driver: OpenRouter) -> Transcript:
    """One request for a transcript."""
    return await driver.transcribe(
        HEARS, TranscriptionRequest(Media(SAMPLES, "audio/pcm", pcm=Pcm(16_000))), Exchange()
    )


def http_date_in(seconds: float) -> str:
    """A Retry-After that names a moment so many seconds from now."""
    return faults.http_date(time.time() + seconds)


async def refused_drawing(driver: OpenRouter, kind: type[KheishError], *, billed: bool) -> KheishError:
    """One request for a picture that has to fail, with what is known of the money, and without the key."""
    with pytest.raises(kind) as caught:
        await draw(driver)
    assert caught.value.details["possibly_billed"] is billed
    assert KEY not in json.dumps(caught.value.as_json())
    return caught.value


# What it is


def test_it_offers_what_the_page_says_and_starts_with_the_contract_s_models():
    flags = {kind.flag for kind in CAPABILITIES if issubclass(OpenRouter, kind)}
    assert flags == {kind.flag for kind in CAPABILITIES} - {NativeWebSearch.flag}
    assert OpenRouter.preferred["image_generation"] == OpenRouter.preferred["image_edit"]
    assert OpenRouter.preferred["image_generation"][:2] == (DRAWS_ONE, DRAWS)
    assert OpenRouter.preferred["audio_generation"] == (SPEAKS,)
    assert OpenRouter.preferred["transcription"] == ("openai/gpt-4o-mini-transcribe",)
    assert (OpenRouter.needs_key, OpenRouter.takes_any_model) == (True, True)
    assert OpenRouter.default_base_url == "https://openrouter.ai/api/v1"


async def test_every_preferred_model_has_a_card_with_its_capability(driver: OpenRouter):
    cards = {card.id: card for card in driver.models()}
    for flag, models in OpenRouter.preferred.items():
        assert all(flag in cards[model].capabilities for model in models)
    assert "alloy" in cards[SPEAKS].voices
    assert cards[SPEAKS].formats == ("mp3", "wav", "pcm")


# Pictures


async def test_a_picture_comes_with_its_cost_and_id_and_the_story_is_told_in_order(
    emulator: OpenRouterEmulator, driver: OpenRouter
):
    story: list[Any] = []

    async def sent() -> None:
        story.append(("sent", len(emulator.requests)))

    async def responded(generation_id: str | None) -> None:
        story.append(("responded", generation_id))

    made = await driver.generate_image(DRAWS, PIER, Exchange(sent, responded))
    [bill] = emulator.ledger
    assert story == [("sent", 0), ("responded", bill.generation_id)]
    assert (made.model, made.cost_usd, made.generation_id) == (DRAWS, bill.cost, bill.generation_id)
    assert made.warnings == ()
    assert recognise(made.media[0]).media_type == "image/png"
    assert emulator.requests[0].body == {"model": DRAWS, "prompt": "a pier at dusk"}


async def test_every_wish_reaches_a_model_that_has_it(emulator: OpenRouterEmulator, driver: OpenRouter):
    request = ImageRequest("a pier", "1536x1024", "", 2, "high", "transparent", "webp", 5)
    made = await draw(driver, request)
    facts = [recognise(one) for one in made.media]
    assert [(one.media_type, one.width, one.height) for one in facts] == [("image/webp", 1536, 1024)] * 2
    assert made.media[0] != made.media[1]
    assert made.cost_usd == emulator.ledger[0].cost


async def test_a_wish_that_the_model_has_not_is_refused_in_the_provider_s_words(driver: OpenRouter):
    with pytest.raises(InvalidArgument, match="quality") as caught:
        await draw(driver, replace(PIER, quality="high"), DRAWS_ONE)
    assert caught.value.details["possibly_billed"] is False


async def test_an_edit_sends_the_pictures_and_brings_one(emulator: OpenRouterEmulator, driver: OpenRouter):
    first = (await draw(driver)).media[0]
    subject = replace(first, media_type=recognise(first).media_type)
    made = await driver.edit_image(DRAWS, EditRequest("at dawn", images=(subject, subject)), Exchange())
    assert recognise(made.media[0]).media_type == "image/png"
    assert len(emulator.requests[-1].body["input_references"]) == 2


async def test_what_cannot_be_is_refused_before_anything_is_sent(emulator: OpenRouterEmulator, driver: OpenRouter):
    picture = Media(b"x", "image/png")
    for request in (replace(PIER, size="1x1", aspect_ratio="1:1"), EditRequest("x", images=(picture,), mask=picture)):
        with pytest.raises(InvalidArgument):
            await draw(driver, request)
    for speech in (replace(HELLO, speed=9.0), replace(HELLO, format="flac")):
        with pytest.raises(InvalidArgument):
            await speak(driver, speech)
    with pytest.raises(InvalidArgument):
        await driver.transcribe(HEARS, TranscriptionRequest(Media(b"%PDF-", "application/pdf")), Exchange())
    assert emulator.requests == []


@pytest.mark.parametrize(("fault", "count"), [(faults.extra_images(2), 4), (faults.fewer_images(), 1)])
async def test_all_that_came_is_kept_were_it_more_or_fewer(
    emulator: OpenRouterEmulator, driver: OpenRouter, fault: faults.Fault, count: int
):
    emulator.fail_next(fault)
    made = await draw(driver, replace(PIER, count=2))
    assert len([recognise(one) for one in made.media]) == count


async def test_one_broken_picture_does_not_take_the_others_along(emulator: OpenRouterEmulator, driver: OpenRouter):
    spoilt = faults.pictures("one is broken", lambda data: [{**data[0], "b64_json": "@@"}, *data[1:]])
    emulator.fail_next(spoilt)
    made = await draw(driver, replace(PIER, count=2))
    assert len(made.media) == 1
    assert len(made.warnings) == 1
    assert "base64" in made.warnings[0]
    assert made.remains == (b"@@",)
    assert made.cost_usd == emulator.ledger[0].cost


async def test_a_cost_that_is_not_said_is_not_known(emulator: OpenRouterEmulator, driver: OpenRouter):
    emulator.fail_next(faults.no_usage())
    assert (await draw(driver)).cost_usd is None


async def test_the_bytes_count_and_not_their_label(emulator: OpenRouterEmulator, driver: OpenRouter):
    emulator.fail_next(faults.wrong_media_type())
    assert recognise((await draw(driver)).media[0]).media_type == "image/png"


async def test_words_under_a_picture_s_label_are_given_on_as_what_nobody_takes(
    emulator: OpenRouterEmulator, driver: OpenRouter
):
    emulator.fail_next(faults.not_an_image())
    [media] = (await draw(driver)).media
    with pytest.raises(KheishError):
        recognise(media)


async def test_a_large_picture_comes_whole(emulator: OpenRouterEmulator, driver: OpenRouter):
    emulator.picture_bytes = 9_000_000
    assert len((await draw(driver)).media[0].data) >= 9_000_000


async def test_a_picture_behind_a_url_of_the_provider_s_own_is_fetched_without_the_key(
    emulator: OpenRouterEmulator, driver: OpenRouter
):
    emulator.fail_next(faults.url_answer("own"))
    made = await draw(driver)
    assert recognise(made.media[0]).media_type == "image/png"
    assert "authorization" not in emulator.requests[-1].headers


@pytest.mark.parametrize("target", ["other", "loopback-alias"])
async def test_a_picture_behind_a_url_of_somebody_else_is_not_fetched(
    emulator: OpenRouterEmulator, driver: OpenRouter, target: faults.Target
):
    emulator.fail_next(faults.url_answer(target))
    assert "origin" in (await refused_drawing(driver, Unavailable, billed=True)).message
    assert emulator.other_requests == []
    assert len(emulator.requests) == 1


async def test_a_picture_that_lies_nowhere_was_paid_for(emulator: OpenRouterEmulator, driver: OpenRouter):
    emulator.fail_next(faults.url_answer("own"))
    emulator.always(faults.status(404, "Not here"), path="/files/0.png")
    assert "Not here" in (await refused_drawing(driver, Unavailable, billed=True)).message


@pytest.mark.parametrize(
    "fault",
    [
        faults.no_images(), faults.malformed_json(), faults.gzip_bomb(),
        faults.cut_body(), faults.reset_after_headers(), faults.reset_before_headers(), faults.status(200, shape="html"),
        faults.status(200, shape="empty"),
    ],
    ids=lambda fault: fault.name,
)  # fmt: skip
async def test_an_answer_that_breaks_or_makes_no_sense_may_have_been_billed_and_is_asked_once(
    emulator: OpenRouterEmulator, driver: OpenRouter, fault: faults.Fault
):
    emulator.always(fault)
    refusal = await refused_drawing(driver, Unavailable, billed=True)
    assert refusal.hint
    assert not refusal.retryable
    assert len(emulator.requests) == 1


@pytest.mark.parametrize("fault", [faults.bad_base64(), faults.truncated_base64()], ids=lambda fault: fault.name)
async def test_a_picture_that_is_not_base64_is_lost_data_and_its_letters_go_with_the_refusal(
    emulator: OpenRouterEmulator, driver: OpenRouter, fault: faults.Fault
):
    emulator.always(fault)
    refusal = await refused_drawing(driver, DataLoss, billed=True)
    [letters] = refusal.remains
    assert letters.startswith(b"@@" if fault.name == "bad base64" else b"iVBOR")
    assert len(emulator.requests) == 1


@pytest.mark.parametrize(
    ("code", "kind", "billed"),
    [
        (400, InvalidArgument, False), (401, Unauthenticated, False), (402, ResourceExhausted, False),
        (403, PermissionDenied, False), (404, NotFound, False), (408, DeadlineExceeded, False),
        (413, InvalidArgument, False), (422, InvalidArgument, False), (429, ResourceExhausted, False),
        (500, Unavailable, False), (502, Unavailable, False), (503, Unavailable, False), (504, DeadlineExceeded, True),
        (524, DeadlineExceeded, True), (529, Unavailable, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", SHAPES)
async def test_every_status_is_its_refusal_in_every_shape(
    emulator: OpenRouterEmulator,
    driver: OpenRouter,
    code: int,
    kind: type[KheishError],
    billed: bool,
    shape: faults.Shape,
):
    emulator.always(faults.status(code, "It cannot be done", retry_after=7, shape=shape))
    refusal = await refused_drawing(driver, kind, billed=billed)
    assert "<" not in refusal.message
    assert ("It cannot be done" in refusal.message) is (shape not in ("html", "empty"))
    assert (refusal.retry_after_s, refusal.details["status"]) == (7, code)
    assert len(emulator.requests) == {429: 3, 503: 3, 502: 2 if shape in IN_JSON else 1}.get(code, 1)


async def test_an_error_in_a_200_is_that_error(emulator: OpenRouterEmulator, driver: OpenRouter):
    emulator.always(faults.error_in_200(429))
    assert (await refused_drawing(driver, ResourceExhausted, billed=True)).details["status"] == 429
    with pytest.raises(ResourceExhausted):
        await speak(driver)
    with pytest.raises(ResourceExhausted):
        await driver.transcribe(HEARS, TranscriptionRequest(Media(SAMPLES, "audio/pcm", pcm=Pcm(16_000))), Exchange())


async def test_an_account_without_credit_is_told_where_to_get_it(emulator: OpenRouterEmulator, driver: OpenRouter):
    emulator.fail_next(faults.status(402, "This request requires more credits"))
    refusal = await refused_drawing(driver, ResourceExhausted, billed=False)
    assert refusal.hint is not None
    assert "openrouter.ai/settings/credits" in refusal.hint


async def test_moderation_s_reasons_are_kept(emulator: OpenRouterEmulator, driver: OpenRouter):
    metadata = {"reasons": ["violence"], "flagged_input": "a fight"}
    emulator.fail_next(faults.status(403, "Flagged", metadata=metadata))
    refusal = await refused_drawing(driver, PermissionDenied, billed=False)
    assert refusal.details["reasons"] == ["violence"]
    assert "a fight" not in json.dumps(refusal.as_json())


async def test_a_key_that_an_error_repeats_is_taken_out(emulator: OpenRouterEmulator, driver: OpenRouter):
    emulator.fail_next(faults.key_in_error())
    assert "[secret]" in (await refused_drawing(driver, InvalidArgument, billed=False)).message


async def test_a_redirect_is_not_followed_to_anywhere(emulator: OpenRouterEmulator, driver: OpenRouter):
    for elsewhere in (True, False):
        emulator.fail_next(faults.redirect(other_origin=elsewhere))
        await refused_drawing(driver, Unavailable, billed=False)
    assert emulator.other_requests == []
    assert len(emulator.requests) == 2


async def test_a_proxy_of_the_environment_is_told_nothing(
    emulator: OpenRouterEmulator, driver: OpenRouter, monkeypatch: pytest.MonkeyPatch
):
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(name, emulator.other_origin)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert (await draw(driver)).media
    assert emulator.other_requests == []


async def test_a_wrong_key_is_unauthenticated(emulator: OpenRouterEmulator):
    driver = OpenRouter(Endpoint("home", emulator.base_url, Secret("sk-or-v1-another0123456789")))
    with pytest.raises(Unauthenticated, match="User not found"):
        await draw(driver)
    await driver.close()


async def test_a_cancelled_call_is_ended_at_the_provider_too(emulator: OpenRouterEmulator, driver: OpenRouter):
    emulator.fail_next(faults.hang())
    async with anyio.create_task_group() as group:
        group.start_soon(draw, driver)
        await anyio.to_thread.run_sync(emulator.wait_for, lambda: len(emulator.requests) == 1)
        group.cancel_scope.cancel()
    await anyio.to_thread.run_sync(emulator.wait_for, lambda: emulator.requests[0].disconnected)
    assert (await draw(driver)).media


async def test_eight_calls_at_once_share_the_line_and_not_their_answers(
    emulator: OpenRouterEmulator, driver: OpenRouter
):
    made: list[Generation] = []

    async def one() -> None:
        made.append(await draw(driver, replace(PIER, size="512x512")))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(one)
    assert len({one.media[0].data for one in made}) == 8
    assert {one.generation_id for one in made} == {bill.generation_id for bill in emulator.ledger}


# Patience


@pytest.mark.parametrize("path", ["/images", "/audio/speech", "/audio/transcriptions"])
async def test_a_busy_provider_is_asked_again_and_pays_once(
    emulator: OpenRouterEmulator, driver: OpenRouter, path: str
):
    calls = {"/images": draw, "/audio/speech": speak, "/audio/transcriptions": hear}
    emulator.fail_next(faults.status(429, retry_after=5), path=path)
    emulator.fail_next(faults.status(503, retry_after=http_date_in(5)), path=path)
    assert await calls[path](driver)
    assert len(emulator.requests) == 3
    assert len(emulator.ledger) == 1


async def test_a_model_that_keeps_failing_is_left_alone_and_another_is_not(
    emulator: OpenRouterEmulator, driver: OpenRouter
):
    emulator.always(faults.status(500), path="/images")
    for _ in range(5):
        await refused_drawing(driver, Unavailable, billed=False)
    refusal = await refused_drawing(driver, Unavailable, billed=False)
    assert refusal.retry_after_s == 30
    assert len(emulator.requests) == 5
    assert DRAWS in [card.id for card in driver.models()]  # nothing is unlisted
    emulator.heal()
    assert (await draw(driver, model=DRAWS_ONE)).media
    assert (await speak(driver)).media


async def test_answers_that_make_no_sense_open_the_breaker_too(emulator: OpenRouterEmulator, driver: OpenRouter):
    emulator.always(faults.malformed_json())
    for _ in range(5):
        await refused_drawing(driver, Unavailable, billed=True)
    assert "left alone" in (await refused_drawing(driver, Unavailable, billed=False)).message
    assert len(emulator.requests) == 5


async def test_after_its_rest_a_model_that_works_again_is_asked_again(emulator: OpenRouterEmulator):
    works = Clockwork()
    driver = OpenRouter(Endpoint("home", emulator.base_url, Secret(KEY)), clock=works.clock)
    emulator.fail_next(faults.status(500), times=5)
    for _ in range(5):
        await refused_drawing(driver, Unavailable, billed=False)
    works.time += 30
    assert (await draw(driver)).media
    assert (await draw(driver)).media
    await driver.close()


async def test_who_is_cancelled_closes_the_line_within_a_second(emulator: OpenRouterEmulator, driver: OpenRouter):
    for fault in (faults.hang(), faults.stall(), faults.keep_alives()):
        emulator.fail_next(fault)
        asked = len(emulator.requests)
        async with anyio.create_task_group() as group:
            group.start_soon(draw, driver)
            await anyio.to_thread.run_sync(emulator.wait_for, lambda n=asked: len(emulator.requests) > n)
            group.cancel_scope.cancel()

        def over(n: int = asked) -> bool:
            return emulator.requests[n].disconnected or emulator.requests[n].ended is not None

        await anyio.to_thread.run_sync(emulator.wait_for, over, 1)


# Preferences


async def test_each_endpoint_gets_the_preferences_that_it_takes_and_the_caller_hears_of_the_others(
    emulator: OpenRouterEmulator,
):
    driver = preferring(emulator, zdr=True, data_collection="deny", only=["openai"])
    drawn = await draw(driver)
    spoken = await speak(driver)
    heard = await driver.transcribe(
        HEARS, TranscriptionRequest(Media(SAMPLES, "audio/pcm", pcm=Pcm(16_000)), prompt="Kheish"), Exchange()
    )
    await driver.close()
    sent = [seen.body["provider"] for seen in emulator.requests]
    assert sent[0] == {"only": ["openai"]}
    assert sent[1] == {"zdr": True, "data_collection": "deny"}
    assert sent[2]["options"]["openai"] == {"prompt": "Kheish"}
    assert [len(one.warnings) for one in (drawn, spoken, heard)] == [1, 2, 1]
    assert "preferences data_collection, zdr" in drawn.warnings[0]
    assert "preferences only" in spoken.warnings[0]
    assert "preferences only" in heard.warnings[0]


# Speech


@pytest.mark.parametrize(
    ("model", "wanted", "media_type", "told"),
    [
        (SPEAKS, None, "audio/mpeg", False),
        (SPEAKS, "mp3", "audio/mpeg", False),
        (SPEAKS, "wav", "audio/wav", False),
        (SPEAKS, "pcm", "audio/pcm", False),
        (SPEAKS_PCM, None, "audio/wav", False),
        (SPEAKS_PCM, "mp3", "audio/wav", True),
        (SPEAKS_PCM, "pcm", "audio/pcm", False),
    ],
)
async def test_speech_comes_in_the_format_that_was_asked_or_says_that_it_does_not(
    emulator: OpenRouterEmulator, driver: OpenRouter, model: str, wanted: Any, media_type: str, told: bool
):
    voice = "Kore" if model == SPEAKS_PCM else ""
    spoken = await speak(driver, replace(HELLO, format=wanted, voice=voice), model)
    facts = recognise(spoken.media[0])
    assert facts.media_type == media_type
    assert facts.duration_s
    assert [one for one in spoken.warnings if "instead of an mp3" in one] == list(spoken.warnings[:-1])
    assert len(spoken.warnings) == (2 if told else 1)
    assert len(emulator.requests) == 1


async def test_the_cost_of_speech_is_not_known_yet_and_the_id_leads_to_it(
    emulator: OpenRouterEmulator, driver: OpenRouter
):
    spoken = await speak(driver)
    assert spoken.cost_usd is None
    assert "later" in spoken.warnings[-1]
    assert spoken.generation_id == emulator.ledger[0].generation_id


async def test_a_model_that_turns_out_to_give_only_samples_is_asked_once_more_for_those(
    emulator: OpenRouterEmulator, driver: OpenRouter
):
    emulator.fail_next(faults.status(400, "response_format mp3 is not supported by this model"))
    spoken = await speak(driver)
    assert recognise(spoken.media[0]).media_type == "audio/wav"
    assert [seen.body["response_format"] for seen in emulator.requests] == ["mp3", "pcm"]
    assert len(emulator.ledger) == 1


async def test_the_second_request_is_on_record_as_another_attempt(emulator: OpenRouterEmulator, driver: OpenRouter):
    story: list[str] = []

    def hook(name: str) -> Callable[..., Awaitable[None]]:
        async def told(*_: object) -> None:
            story.append(name)

        return told

    emulator.fail_next(faults.status(400, "response_format mp3 is not supported by this model"))
    exchange = Exchange(hook("sent"), hook("responded"), again=hook("again"))
    await driver.generate_audio(SPEAKS, HELLO, exchange)
    assert story == ["sent", "responded", "again", "sent", "responded"]


@pytest.mark.parametrize(
    ("fault", "wanted", "requests"),
    [
        (faults.status(400, "response_format is unsupported"), "mp3", 2),
        (faults.status(400, "response_format is unsupported"), "wav", 1),
        (faults.status(413, "This format is too large"), "mp3", 1),
        (faults.status(400, "There is no such voice"), "mp3", 1),
    ],
)
async def test_no_other_refusal_of_speech_is_asked_again(
    emulator: OpenRouterEmulator, driver: OpenRouter, fault: faults.Fault, wanted: Any, requests: int
):
    emulator.always(fault)
    with pytest.raises(InvalidArgument):
        await speak(driver, replace(HELLO, format=wanted))
    assert len(emulator.requests) == requests


async def test_a_voice_that_is_not_known_here_is_left_to_the_provider(emulator: OpenRouterEmulator, driver: OpenRouter):
    with pytest.raises(InvalidArgument, match="voice"):
        await speak(driver, model=SPEAKS_PLAINLY)
    spoken = await speak(driver, replace(HELLO, voice="af_heart", speed=1.5), SPEAKS_PLAINLY)
    assert recognise(spoken.media[0]).media_type == "audio/mpeg"


async def test_samples_without_a_rate_are_assumed_and_said(emulator: OpenRouterEmulator, driver: OpenRouter):
    emulator.fail_next(faults.pcm_without_rate())
    spoken = await speak(driver, replace(HELLO, format="pcm"))
    assert spoken.media[0].pcm == Pcm(24_000)
    assert "24 kHz" in spoken.warnings[0]


async def test_a_wav_under_mp3_s_name_is_a_wav(emulator: OpenRouterEmulator, driver: OpenRouter):
    emulator.fail_next(faults.wav_labelled_mp3())
    assert recognise((await speak(driver)).media[0]).media_type == "audio/wav"


@pytest.mark.parametrize(
    "fault", [faults.empty_speech(), faults.cut_body(), faults.reset_after_headers()], ids=lambda fault: fault.name
)
async def test_speech_that_does_not_come_whole_is_a_failure_that_may_have_been_billed(
    emulator: OpenRouterEmulator, driver: OpenRouter, fault: faults.Fault
):
    emulator.fail_next(fault)
    with pytest.raises(Unavailable) as caught:
        await speak(driver)
    assert caught.value.details["possibly_billed"] is True
    assert len(emulator.requests) == 1


@pytest.mark.parametrize(
    ("body", "media_type", "word"),
    [
        (b'{"status": "queued"}', "application/json", "words"),
        (b'{"status": "queued"}', "audio/mpeg", "words"),
        (b'["queued"]', "application/json", "no sound"),
        (b'"queued"', "text/plain", "no sound"),
    ],
)
async def test_words_where_sound_belongs_are_a_failure(
    emulator: OpenRouterEmulator, driver: OpenRouter, body: bytes, media_type: str, word: str
):
    said = replace(faults.empty_speech(), spoil=lambda answer, _: replace(answer, body=body, media_type=media_type))
    emulator.fail_next(said)
    with pytest.raises(Unavailable, match=word) as caught:
        await speak(driver)
    assert caught.value.remains == (body,)


async def test_sound_that_begins_with_a_brace_is_sound(emulator: OpenRouterEmulator, driver: OpenRouter):
    emulator.fail_next(replace(faults.empty_speech(), spoil=lambda answer, _: replace(answer, body=b"{\x00" + SAMPLES)))
    spoken = await speak(driver, replace(HELLO, format="pcm"))
    assert spoken.media[0].data == b"{\x00" + SAMPLES


# Transcription


@pytest.mark.parametrize("rate", [16_000, 24_000])
async def test_samples_are_heard_for_as_long_as_they_last(emulator: OpenRouterEmulator, driver: OpenRouter, rate: int):
    audio = Media(SAMPLES, "audio/pcm", pcm=Pcm(rate))
    heard = await driver.transcribe(HEARS, TranscriptionRequest(audio, "en"), Exchange())
    assert heard.duration_s == pytest.approx(len(SAMPLES) / 2 / rate, abs=0.001)
    assert heard.text
    assert (heard.segments, heard.words) == ((), ())
    [bill] = emulator.ledger
    assert (heard.model, heard.cost_usd, heard.generation_id) == (HEARS, bill.cost, bill.generation_id)


async def test_what_was_spoken_is_heard_in_every_format(emulator: OpenRouterEmulator, driver: OpenRouter):
    for wanted in ("mp3", "wav"):
        spoken = (await speak(driver, replace(HELLO, format=wanted))).media[0]
        audio = replace(spoken, media_type=recognise(spoken).media_type)
        assert (await driver.transcribe(HEARS, TranscriptionRequest(audio), Exchange())).text


async def test_times_and_words_come_where_they_are_asked(driver: OpenRouter):
    audio = Media(SAMPLES, "audio/pcm", pcm=Pcm(16_000))
    timed = await driver.transcribe(HEARS, TranscriptionRequest(audio, timestamps="segment"), Exchange())
    worded = await driver.transcribe(HEARS, TranscriptionRequest(audio, timestamps="word"), Exchange())
    assert " ".join(segment.text for segment in timed.segments) == timed.text
    assert timed.words == ()
    assert " ".join(word.text for word in worded.words) == worded.text
    assert worded.language == "english"


async def test_a_model_without_times_refuses_and_the_hint_names_one_with_them(driver: OpenRouter):
    request = TranscriptionRequest(Media(SAMPLES, "audio/pcm", pcm=Pcm(16_000)), timestamps="word")
    with pytest.raises(InvalidArgument, match="verbose_json") as caught:
        await driver.transcribe(HEARS_PLAINLY, request, Exchange())
    assert caught.value.hint is not None
    assert "openai/whisper-1" in caught.value.hint
