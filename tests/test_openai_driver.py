"""The OpenAI driver against a strict stand-in, and the routes that lead to it."""

from __future__ import annotations

import email
import email.policy
import io
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from kheish_mcp.capabilities import (
    CAPABILITIES,
    EditRequest,
    Exchange,
    Generation,
    ImageRequest,
    KeyStanding,
    SpeechRequest,
    TranscriptionRequest,
)
from kheish_mcp.conversation import ChatRequest, Reply, Text, ToolSpec, Turn
from kheish_mcp.drivers.http import Endpoint
from kheish_mcp.drivers.openai.driver import CARDS, OpenAI
from kheish_mcp.errors import (
    InvalidArgument,
    Json,
    KheishError,
    NotFound,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from kheish_mcp.formats import recognise
from kheish_mcp.media import Media, Pcm
from kheish_mcp.secret import Secret
from kheish_mcp.workers import Workers
from tests.conftest import CANARY, environment
from tests.emulators.openai import OpenAIEmulator
from tests.emulators.provider import chat, faults, synthetic
from tests.emulators.provider.answers import Answer
from tests.hosts import call, client_of, daemon_of, refused

pytestmark = pytest.mark.anyio

DRAWS, SPEAKS, HEARS, TALKS = "gpt-image-2", "gpt-4o-mini-tts", "gpt-4o-mini-transcribe", "gpt-5.4-mini"
PIER = ImageRequest("a pier at dusk")
HELLO = SpeechRequest("Hello there.")
SOUND = TranscriptionRequest(Media(b"\x10\x00\xf0\xff" * 6000, "audio/pcm", pcm=Pcm(16_000)))
PNG = Media(synthetic.picture(7, (64, 48), "png"), "image/png")


@pytest.fixture
def openai() -> Iterator[OpenAIEmulator]:
    """The stand-in; at the end the key was nowhere but in its header."""
    with OpenAIEmulator(CANARY) as running:
        yield running
        assert running.violations == []


@pytest.fixture
async def driver(openai: OpenAIEmulator) -> AsyncGenerator[OpenAI]:
    """A driver of a route without preferences."""
    async with opened(openai) as made:
        yield made


@asynccontextmanager
async def opened(openai: OpenAIEmulator, **preferences: Json) -> AsyncGenerator[OpenAI]:
    """A driver of a route with preferences, for as long as it is needed."""
    workers = Workers()
    made = OpenAI(Endpoint("studio", openai.base_url, Secret(CANARY), preferences), workers)
    yield made
    await made.close()
    await workers.close()


async def draw(driver: OpenAI, request: ImageRequest = PIER, model: str = DRAWS) -> Generation:
    """One request for pictures."""
    return await driver.generate_image(model, request, Exchange())


def parts_of(seen: Any) -> list[tuple[str, str, bytes]]:
    """The parts of a form that was sent: name, file name, content."""
    head = f"Content-Type: {seen.headers['content-type']}\r\n\r\n".encode()
    form: Any = email.message_from_bytes(head + seen.body, policy=email.policy.HTTP)
    return [
        (part.get_param("name", header="content-disposition"), part.get_filename(""), part.get_payload(decode=True))
        for part in form.get_payload()
    ]


# Pictures


async def test_pictures_come_as_asked_and_nobody_says_what_they_cost(openai: OpenAIEmulator, driver: OpenAI):
    made = await draw(driver, replace(PIER, size="256x128", count=2, quality="low", output_format="webp"))
    assert [recognise(media).media_type for media in made.media] == ["image/webp", "image/webp"]
    assert (recognise(made.media[0]).width, recognise(made.media[0]).height) == (256, 128)
    assert made.media[0].data != made.media[1].data
    assert (made.model, made.cost_usd, made.warnings) == (DRAWS, None, ())
    assert "response_format" not in openai.requests[0].body


async def test_a_server_that_gives_links_is_asked_for_base64(openai: OpenAIEmulator, driver: OpenAI):
    made = await draw(driver, replace(PIER, size="64x64"), "sd-cpp-local")
    assert openai.requests[0].body["response_format"] == "b64_json"
    assert recognise(made.media[0]).width == 64
    assert len(openai.requests) == 1


async def test_a_server_that_knows_no_such_wish_is_asked_once_more_and_its_link_is_followed(
    openai: OpenAIEmulator, driver: OpenAI
):
    openai.fail_next(faults.status(400, "Unknown parameter: 'response_format'."))
    made = await draw(driver, model="sd-cpp-local")
    assert [seen.path for seen in openai.requests[:2]] == ["/images/generations"] * 2
    assert "response_format" not in openai.requests[1].body
    assert openai.requests[2].path.startswith("/files/")
    assert "authorization" not in openai.requests[2].headers
    assert recognise(made.media[0]).media_type == "image/png"
    assert len(openai.ledger) == 1


async def test_any_other_refusal_is_given_on_at_once(openai: OpenAIEmulator, driver: OpenAI):
    openai.always(faults.status(400, "Unknown parameter: 'quality'."))
    with pytest.raises(InvalidArgument, match="quality"):
        await draw(driver)
    assert len(openai.requests) == 1


async def test_a_link_to_somebody_else_is_not_followed(openai: OpenAIEmulator, driver: OpenAI):
    answer = Answer(payload={"created": 0, "data": [{"url": f"{openai.other_origin}/files/0.png"}]})
    openai.fail_next(faults.Fault("elsewhere", instead=lambda _asked, _origins: answer))
    with pytest.raises(Unavailable):
        await draw(driver)
    assert openai.other_requests == []


async def test_the_prompt_as_it_was_rewritten_is_told(openai: OpenAIEmulator, driver: OpenAI):
    def spoil(answer: Answer, _origins: faults.Origins) -> Answer:
        assert answer.payload is not None
        answer.payload["data"][0]["revised_prompt"] = "a long pier at dusk"
        return answer

    openai.fail_next(faults.Fault("rewritten", spoil=spoil))
    assert (await draw(driver)).revised_prompt == "a long pier at dusk"


async def test_an_edit_sends_its_pictures_in_order(openai: OpenAIEmulator, driver: OpenAI):
    pictures = tuple(Media(synthetic.picture(seed, (32, 32), "png"), "image/png") for seed in (1, 2))
    made = await driver.edit_image(DRAWS, EditRequest("merge", images=pictures, aspect_ratio="3:2"), Exchange())
    assert recognise(made.media[0]).media_type == "image/png"
    parts = parts_of(openai.requests[0])
    assert [(name, file) for name, file, _ in parts if file] == [("image[]", "image-1.png"), ("image[]", "image-2.png")]
    assert [data for name, _, data in parts if name == "image[]"] == [picture.data for picture in pictures]
    assert ("size", "", b"1248x832") in parts


async def test_a_mask_is_clear_where_the_picture_may_change(openai: OpenAIEmulator, driver: OpenAI):
    mask = Image.new("L", (64, 48), 0)
    mask.paste(255, (0, 0, 16, 16))
    out = io.BytesIO()
    mask.save(out, "PNG")
    request = EditRequest("a boat here", images=(PNG,), mask=Media(out.getvalue(), "image/png"))
    await driver.edit_image(DRAWS, request, Exchange())
    [sent] = [data for name, _, data in parts_of(openai.requests[0]) if name == "mask"]
    with Image.open(io.BytesIO(sent)) as picture:
        assert [picture.getpixel(place) for place in ((3, 3), (40, 40))] == [(255, 255, 255, 0), (0, 0, 0, 255)]


async def test_a_mask_of_another_size_costs_nothing(openai: OpenAIEmulator, driver: OpenAI):
    mask = Media(synthetic.picture(9, (32, 32), "png"), "image/png")
    with pytest.raises(InvalidArgument, match="32 x 32"):
        await driver.edit_image(DRAWS, EditRequest("a boat", images=(PNG,), mask=mask), Exchange())
    assert openai.requests == []


# Sound


@pytest.mark.parametrize(
    ("wanted", "media_type"), [(None, "audio/mpeg"), ("mp3", "audio/mpeg"), ("wav", "audio/wav"), ("pcm", "audio/pcm")]
)
async def test_speech_comes_in_every_format(openai: OpenAIEmulator, driver: OpenAI, wanted: Any, media_type: str):
    spoken = await driver.generate_audio(SPEAKS, replace(HELLO, format=wanted), Exchange())
    facts = recognise(spoken.media[0])
    assert facts.media_type == media_type
    assert facts.duration_s == pytest.approx(12 * 0.06, abs=0.03)
    assert spoken.cost_usd is None
    assert "cost" in spoken.warnings[-1]
    assert openai.requests[0].body["voice"] == "alloy"


async def test_words_where_sound_belongs_are_their_refusal(openai: OpenAIEmulator, driver: OpenAI):
    answer = Answer(payload={"error": {"message": "Slow down", "code": 429}})
    openai.fail_next(faults.Fault("words", instead=lambda _asked, _origins: answer))
    with pytest.raises(ResourceExhausted, match="Slow down"):
        await driver.generate_audio(SPEAKS, HELLO, Exchange())


@pytest.mark.parametrize(
    ("model", "more", "times"),
    [
        (HEARS, {}, (False, False)),
        (HEARS, {"language": "en", "prompt": "Kheish"}, (False, False)),
        ("whisper-1", {"timestamps": "segment"}, (True, False)),
        ("whisper-1", {"timestamps": "word"}, (True, True)),
        ("gpt-4o-transcribe-diarize", {"diarize": True}, (True, False)),
    ],
)
async def test_what_was_said_comes_with_the_times_that_were_asked(
    driver: OpenAI, model: str, more: dict[str, Any], times: tuple[bool, bool]
):
    heard = await driver.transcribe(model, replace(SOUND, **more), Exchange())
    assert heard.text.startswith("This is a sentence")
    assert (bool(heard.segments), bool(heard.words)) == times
    assert all(segment.speaker == "A" for segment in heard.segments) is ("diarize" in more or not heard.segments)
    assert heard.cost_usd is None
    assert "cost" in heard.warnings[-1]


async def test_a_model_without_times_refuses_and_the_hint_names_one_with_them(driver: OpenAI):
    with pytest.raises(InvalidArgument) as caught:
        await driver.transcribe(HEARS, replace(SOUND, timestamps="word"), Exchange())
    assert "whisper-1" in (caught.value.hint or "")


# Conversations


async def answered(driver: OpenAI, *parts: Text | Media, **more: Any) -> tuple[Reply, str]:
    """One reply, and what was said while it came."""
    heard: list[str] = []

    async def said(piece: str) -> None:
        heard.append(piece)

    reply = await driver.answer(TALKS, ChatRequest((Turn("user", parts),), **more), Exchange(), said)
    return reply, "".join(heard)


async def test_a_conversation_streams_and_counts_its_tokens(openai: OpenAIEmulator, driver: OpenAI):
    openai.say("Gdansk, Riga, Tallinn.")
    reply, heard = await answered(driver, Text("Three ports?"), PNG, effort="low", max_output_tokens=50)
    assert reply.text.strip() == heard.strip() == "Gdansk, Riga, Tallinn."
    assert (reply.finish_reason, reply.usage["total_tokens"], reply.cost_usd) == ("stop", 12, None)
    assert "cost" in reply.warnings[-1]
    body = openai.requests[0].body
    assert (body["reasoning_effort"], body["stream_options"]) == ("low", {"include_usage": True})
    assert [part["type"] for part in body["messages"][0]["content"]] == ["text", "image_url"]


async def test_tools_are_called_and_what_only_openrouter_keeps_is_not_sent_back(openai: OpenAIEmulator, driver: OpenAI):
    openai.say(chat.Turn(calls=(chat.Call("look", {"at": "sea"}),)))
    spec = ToolSpec("look", "Looks.", {"type": "object", "properties": {"at": {"type": "string"}}})
    reply, _ = await answered(driver, Text("Look."), tools=(spec,))
    [asked] = reply.tool_calls
    assert (asked.name, json.loads(asked.arguments), reply.finish_reason) == ("look", {"at": "sea"}, "tool_calls")
    before = Turn("assistant", (PNG,), reply.tool_calls, reasoning=({"type": "reasoning.text", "text": "Hm."},))
    turns = (Turn("user", (Text("Look."),)), before, Turn("tool", (Text("Grey."),), answers=asked.call_id))

    async def said(_piece: str) -> None:
        """Nobody listens."""

    assert (await driver.answer(TALKS, ChatRequest(turns, fallbacks=("gpt-5",)), Exchange(), said)).text
    assert openai.requests[1].body.keys() == {"model", "messages", "stream", "stream_options"}


async def test_preferences_have_no_word_there_and_that_is_said(openai: OpenAIEmulator):
    async with opened(openai, zdr=True) as driver:
        reply, _ = await answered(driver, Text("Hello?"))
    assert "preferences" in reply.warnings[0]


# Failures


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "It cannot be", "type": "x", "param": None, "code": None}}, {"error": "It cannot be"},
        {"detail": "It cannot be"}, {"detail": [{"loc": ["body", "n"], "msg": "It cannot be"}]},
        {"detail": {"error": "x", "message": "It cannot be"}}, None,
    ],
    ids=["openai", "sd-server", "fastapi", "fastapi list", "kokoro", "text"],
)  # fmt: skip
async def test_every_server_s_way_to_say_no_is_understood(openai: OpenAIEmulator, driver: OpenAI, body: Any):
    answer = Answer(422, payload=body) if body else Answer(422, body=b"It cannot be", media_type="text/plain")
    openai.always(faults.Fault("no", instead=lambda _asked, _origins: answer))
    for ask in (
        draw(driver),
        driver.generate_audio(SPEAKS, HELLO, Exchange()),
        driver.transcribe(HEARS, SOUND, Exchange()),
    ):
        with pytest.raises(InvalidArgument, match="It cannot be"):
            await ask


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (faults.status(401, "Incorrect API key"), Unauthenticated), (faults.status(404, "no such model"), NotFound),
        (faults.status(429, "Rate limit"), ResourceExhausted), (faults.malformed_json(), Unavailable),
        (faults.cut_body(), Unavailable), (faults.status(200, shape="html"), Unavailable),
    ],
    ids=lambda value: getattr(value, "name", getattr(value, "__name__", "")),
)  # fmt: skip
async def test_a_form_that_fails_is_a_refusal_like_any_other(
    openai: OpenAIEmulator, driver: OpenAI, fault: faults.Fault, kind: type[KheishError]
):
    openai.always(fault)
    with pytest.raises(kind) as caught:
        await driver.edit_image(DRAWS, EditRequest("bluer", images=(PNG,)), Exchange())
    assert CANARY not in json.dumps(caught.value.as_json())


async def test_a_key_is_asked_for_without_cost(openai: OpenAIEmulator, driver: OpenAI):
    assert await driver.check_key() == KeyStanding()
    assert openai.ledger == []
    other = OpenAI(Endpoint("studio", openai.base_url, Secret("sk-another-key-that-nobody-takes")), Workers())
    with pytest.raises(Unauthenticated):
        await other.check_key()
    await other.close()


# Routes


def test_only_of_openai_itself_models_are_known():
    def models(base_url: str) -> object:
        return OpenAI(Endpoint("studio", base_url), Workers()).models()

    assert models("https://api.openai.com/v1") == CARDS
    assert models("http://127.0.0.1:8080/v1") == ()
    assert {flag for card in CARDS for flag in card.capabilities} == set(OpenAI.preferred)
    flags = {kind.flag for kind in CAPABILITIES if issubclass(OpenAI, kind)}
    assert flags == {"multimodal_input", *OpenAI.preferred}


def routes_of(tmp_path: Path, text: str) -> str:
    """A routes file with one route."""
    path = tmp_path / "routes.toml"
    path.write_text(f'version = 1\n[routes.studio]\ndriver = "openai"\ndefault_model = "{TALKS}"\n{text}')
    return str(path)


async def test_a_server_of_one_s_own_offers_what_its_route_declares(state_root: Path, tmp_path: Path):
    with OpenAIEmulator(CANARY, open_to_all=True) as server:
        text = (
            f'base_url = "{server.base_url}"\ntranscription = true\n'
            '[routes.studio.models]\nimage_generation = "sd-cpp-local"\n'
        )
        env = environment(state_root, KHEISH_ROUTES_FILE=routes_of(tmp_path, text))
        async with daemon_of(env) as daemon, client_of(daemon) as client:
            made = await call(client, "generate_image", prompt="a pier", size="1K", aspect_ratio="1:1")
            assert (made["provider"], made["model"], made["cost_usd"]) == ("openai", "sd-cpp-local", None)
            assert (made["assets"][0]["width"], made["assets"][0]["height"]) == (1024, 1024)
            assert any("cost" in warning for warning in made["warnings"])
            view: Any = await daemon.runtime()
            [route] = view["routes"]
            assert route["capabilities"] == {
                "matrix_version": 2, "multimodal_input": False, "native_web_search": False, "image_generation": True,
                "image_edit": False, "audio_generation": False, "transcription": True,
            }  # fmt: skip
            refusal = await refused(
                client, "edit_image", prompt="bluer", image_asset_ids=[made["assets"][0]["asset_id"]]
            )
            assert "image_edit = true" in refusal["message"]
            assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "it has no key"), ('base_url = "http://127.0.0.1:9"\napi_key_env = "STUDIO_KEY"\n', "it has no key")],
)
async def test_openai_and_whoever_names_a_key_need_one(state_root: Path, tmp_path: Path, text: str, reason: str):
    async with daemon_of(environment(state_root, KHEISH_ROUTES_FILE=routes_of(tmp_path, text))) as daemon:
        view: Any = await daemon.runtime()
    assert view["routes"][0]["reasons"] == [reason]


async def test_openai_itself_offers_all_that_its_driver_can(state_root: Path, tmp_path: Path):
    routes = routes_of(tmp_path, 'api_key_env = "STUDIO_KEY"\n')
    async with daemon_of(environment(state_root, KHEISH_ROUTES_FILE=routes, STUDIO_KEY=CANARY)) as daemon:
        view: Any = await daemon.runtime()
    assert view["routes"][0]["base_url"] == "https://api.openai.com/v1"
    live = {flag for flag, there in view["routes"][0]["capabilities"].items() if there is True}
    assert live == {"multimodal_input", "image_generation", "image_edit", "audio_generation", "transcription"}
