"""The provider's stand-in speaks as the official SDK reads, refuses what the facts refuse, and fails as it is told."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from openrouter import OpenRouter, errors
from openrouter.utils import BackoffStrategy, RetryConfig
from PIL import Image

from kheish_mcp.trust import trust_of
from tests.conftest import CANARY
from tests.emulators.provider import faults, synthetic
from tests.emulators.provider.catalogue import MODELS
from tests.emulators.provider.emulator import OpenRouterEmulator

NANO = "google/gemini-2.5-flash-image"
SEEDREAM = "bytedance-seed/seedream-4.5"
TTS = "openai/gpt-4o-mini-tts-2025-12-15"
WHISPER = "openai/whisper-1"
ONCE = RetryConfig("none", BackoffStrategy(1, 1, 1.0, 1), False)
SOUND = synthetic.wav(synthetic.tone(30))


@pytest.fixture
def sdk(emulator: OpenRouterEmulator) -> Iterator[OpenRouter]:
    """The official SDK, with its hour of retries turned off."""
    with OpenRouter(api_key=CANARY, server_url=emulator.base_url, retry_config=ONCE, timeout_ms=10_000) as client:
        yield client


@pytest.fixture
def http(emulator: OpenRouterEmulator) -> Iterator[httpx2.Client]:
    """A plain client with the key."""
    headers = {"Authorization": f"Bearer {CANARY}"}
    with httpx2.Client(
        base_url=emulator.base_url, headers=headers, timeout=10, verify=trust_of(emulator.base_url)
    ) as client:
        yield client


def drawn(model: str = NANO, **more: Any) -> dict[str, Any]:
    """A body for POST /images."""
    return {"model": model, "prompt": "a red fox", **more}


def said(text: str = "Hello there.", **more: Any) -> dict[str, Any]:
    """A body for POST /audio/speech."""
    return {"model": TTS, "input": text, "voice": "alloy", **more}


def heard(data: bytes = SOUND, form: str = "wav", **more: Any) -> dict[str, Any]:
    """A body for POST /audio/transcriptions."""
    return {"model": WHISPER, "input_audio": {"data": base64.b64encode(data).decode(), "format": form}, **more}


def opened(data: bytes) -> Image.Image:
    """The picture, wholly decoded."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def test_the_sdk_reads_pictures_and_their_price(sdk: OpenRouter, emulator: OpenRouterEmulator) -> None:
    answer = sdk.images.generate(model=SEEDREAM, prompt="three foxes", n=3, aspect_ratio="16:9", output_format="webp")
    pictures = [base64.b64decode(item.b64_json) for item in answer.data]
    assert len(set(pictures)) == 3
    assert {opened(picture).format for picture in pictures} == {"WEBP"}
    width, height = opened(pictures[0]).size
    assert width / height == pytest.approx(16 / 9, rel=0.01)
    assert [item.media_type for item in answer.data] == ["image/webp"] * 3
    assert answer.usage.cost == pytest.approx(0.12) == emulator.ledger[0].cost


def test_the_sdk_edits_a_picture(sdk: OpenRouter, emulator: OpenRouterEmulator) -> None:
    source = synthetic.picture(1, (32, 32), "png")
    part = {"type": "image_url", "image_url": {"url": data_url(source)}}
    answer = sdk.images.generate(model=NANO, prompt="make it blue", input_references=[part])
    assert opened(base64.b64decode(answer.data[0].b64_json)).size == (1024, 1024)
    assert emulator.requests[-1].body["input_references"] == [part]


@pytest.mark.parametrize("form", ["pcm", "mp3"])
def test_the_sdk_reads_speech_and_its_late_price(sdk: OpenRouter, emulator: OpenRouterEmulator, form: Any) -> None:
    answer = sdk.tts.create_speech(model=TTS, input="Hello, this is a test.", voice="alloy", response_format=form)
    sound, headers = answer.read(), answer.headers
    assert headers["content-type"] == {"pcm": "audio/pcm;rate=24000;channels=1", "mp3": "audio/mpeg"}[form]
    assert len(sound) % {"pcm": 2, "mp3": len(synthetic.MP3_FRAME)}[form] == 0
    generation = sdk.generations.get_generation(id=headers["x-generation-id"]).data
    assert generation.total_cost == pytest.approx(22 * 0.000015)
    assert (generation.id, generation.model) == (emulator.ledger[0].generation_id, TTS)


def test_the_sdk_reads_a_transcript_with_times(sdk: OpenRouter, emulator: OpenRouterEmulator) -> None:
    emulator.transcripts[hashlib.sha256(SOUND).hexdigest()] = "One two. Three four!"
    answer = sdk.stt.create_transcription(
        model=WHISPER,
        input_audio=heard()["input_audio"],
        response_format="verbose_json",
        timestamp_granularities=["segment", "word"],
    )
    seconds = 30 * synthetic.SECONDS_PER_CHARACTER
    assert answer.text == "One two. Three four!"
    assert [segment.text for segment in answer.segments] == ["One two.", "Three four!"]
    assert answer.words[-1].end == pytest.approx(seconds) == pytest.approx(answer.duration)
    assert answer.usage.cost == pytest.approx(emulator.ledger[0].cost)


def test_the_sdk_uploads_a_file_for_a_transcript(sdk: OpenRouter) -> None:
    file = {"file_name": "talk.wav", "content": SOUND, "content_type": "audio/wav"}
    answer = sdk.stt.create_transcription_multipart(model=WHISPER, file=file, language="en", temperature=0)
    assert answer.text.startswith("This is a sentence")


def test_the_sdk_lists_models_by_what_they_give(sdk: OpenRouter) -> None:
    def listed(outputs: str | None) -> set[str]:
        return {row.id for row in sdk.models.list(output_modalities=outputs).result.data}

    assert TTS in listed("speech")
    assert NANO not in listed("speech")
    assert listed(None).isdisjoint({TTS, WHISPER})
    assert {TTS, NANO, WHISPER} <= listed("all")


@pytest.mark.filterwarnings(
    r"ignore:warning. \*\* DEPRECATED:DeprecationWarning"
)  # the key's answer carries `rate_limit`
def test_the_sdk_reads_image_models_and_the_key(sdk: OpenRouter, http: httpx2.Client) -> None:
    rows = {row.id: row for row in sdk.images.list_models().data}
    assert TTS not in rows
    assert rows[NANO].supported_parameters["input_references"].max == 14
    before = sdk.api_keys.get_current_key_metadata().data.usage
    http.post("/images", json=drawn())
    assert sdk.api_keys.get_current_key_metadata().data.usage == pytest.approx(before + 0.04)


def test_the_sdk_reads_refusals(sdk: OpenRouter, emulator: OpenRouterEmulator) -> None:
    with pytest.raises(errors.BadRequestResponseError, match="not a valid model ID"):
        sdk.images.generate(model="acme/none", prompt="x")
    with pytest.raises(errors.NotFoundResponseError):
        sdk.generations.get_generation(id="gen-unknown")
    with (
        OpenRouter(api_key="sk-wrong", server_url=emulator.base_url, retry_config=ONCE) as stranger,
        pytest.raises(errors.UnauthorizedResponseError, match="User not found"),
    ):
        stranger.api_keys.get_current_key_metadata()
    assert emulator.ledger == []


STATUSES = {
    402: errors.PaymentRequiredResponseError,
    403: errors.ForbiddenResponseError,
    404: errors.NotFoundResponseError,
    413: errors.PayloadTooLargeResponseError,
    429: errors.TooManyRequestsResponseError,
    500: errors.InternalServerResponseError,
    502: errors.BadGatewayResponseError,
    503: errors.ServiceUnavailableResponseError,
    524: errors.EdgeNetworkTimeoutResponseError,
    529: errors.ProviderOverloadedResponseError,
}


@pytest.mark.parametrize("code", STATUSES)
def test_the_sdk_knows_every_status_that_is_sent(sdk: OpenRouter, emulator: OpenRouterEmulator, code: int) -> None:
    emulator.fail_next(faults.status(code, "the provider says no", retry_after=3))
    with pytest.raises(STATUSES[code], match="the provider says no") as refused:
        sdk.tts.create_speech(model=TTS, input="Hello.", voice="alloy")
    assert refused.value.headers["retry-after"] == "3"
    assert len(emulator.requests) == 1


IMAGE_REFUSALS = [
    (drawn(mask="x"), "mask"),
    (drawn(response_format="b64_json"), "response_format"),
    (drawn(n="1"), "n"),
    (drawn(SEEDREAM, n=11), "n"),
    (drawn(n=2), "n"),
    (drawn(prompt=""), "prompt"),
    (drawn(aspect_ratio="17:9"), "aspect_ratio"),
    (drawn(SEEDREAM, size="1024x1024", aspect_ratio="1:1"), "size conflicts"),
    (drawn(SEEDREAM, size="1024x1024", resolution="1K"), "size conflicts"),
    (drawn(SEEDREAM, size="2K", resolution="1K"), "size conflicts"),
    (drawn("black-forest-labs/flux.2-klein", output_format="webp"), "output_format"),
    (drawn("openai/gpt-image-2", background="transparent", output_format="jpeg"), "transparent"),
    (drawn("openai/gpt-5-image", aspect_ratio="1:1"), "aspect_ratio"),
    (drawn(quality="high"), "quality"),
    (drawn(provider={"zdr": True}), "provider.zdr"),
    (drawn(TTS), "/images"),
    (drawn(input_references=[{"type": "image_url", "image_url": {"url": "data:image/png;base64,@@@@"}}]), "base64"),
    (drawn(input_references=[{"type": "image_url", "image_url": {"url": data_url(b"no picture")}}]), "media type"),
]
SPEECH_REFUSALS = [
    (said(voice="Kore"), "voice"),
    (said(voice=None), "voice"),
    (said("x" * 4097), "4096"),
    (said(""), "input"),
    (said(response_format="wav"), "response_format"),
    (said(speed=9.0), "speed"),
    (
        said(model="google/gemini-3.1-flash-tts-preview", voice="Kore", response_format="mp3"),
        "response_format mp3 is unsupported",
    ),
    (said([{"text": "a", "voice": "alloy"}]), "one string"),
    (said(model="acme/none"), "does not exist"),
    (said(stream=True), "stream"),
]
HEARING_REFUSALS = [
    (heard(form="mp3"), "does not match"),
    (heard(b"\xff\xfb\x90\0" + bytes(400), "wav"), "does not match"),
    (heard(SOUND, "pcm"), "does not match"),
    (heard(b"\x1a\x45\xdf\xa3" + bytes(60), "ogg"), "does not match"),
    (heard(b"RIFF\0\0\0\0WAVEnone"), "decoded"),
    (heard(b""), "input_audio"),
    (heard(form="aiff"), "input_audio"),
    (heard(language="english"), "language"),
    (heard(temperature=2), "temperature"),
    (heard(response_format="srt"), "response_format"),
    (heard(diarize=True), "diarize"),
    (heard(keyterms=["fox"]), "keyterms"),
    (heard(model="google/chirp-3", response_format="verbose_json"), "verbose_json"),
    ({**heard(), "input_audio": {"data": data_url(SOUND, "audio/wav"), "format": "wav"}}, "base64"),
]
REFUSALS = [
    *(("/images", *case) for case in IMAGE_REFUSALS),
    *(("/audio/speech", *case) for case in SPEECH_REFUSALS),
    *(("/audio/transcriptions", *case) for case in HEARING_REFUSALS),
]


@pytest.mark.parametrize(("path", "body", "named"), REFUSALS)
def test_a_wrong_body_is_refused_by_name(
    http: httpx2.Client, emulator: OpenRouterEmulator, path: str, body: dict[str, Any], named: str
) -> None:
    answer = http.post(path, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, 400)
    assert named in error["message"]
    assert emulator.ledger == []


def test_a_body_that_is_no_json_is_refused(http: httpx2.Client) -> None:
    assert http.post("/images", content=b"{").status_code == 400


def test_an_upload_is_as_strict_as_json(http: httpx2.Client) -> None:
    def sent(name: str = "talk.wav", **fields: Any) -> httpx2.Response:
        return http.post("/audio/transcriptions", data={"model": WHISPER, **fields}, files={"file": (name, SOUND)})

    granular = sent(**{"response_format": "verbose_json", "timestamp_granularities[]": ["word"], "prompt": "ignored"})
    assert granular.json()["words"][0]["word"] == "This"
    assert sent("talk.mp3").status_code == 400
    assert sent(response_format="text").status_code == 400
    assert sent(**{"timestamp_granularities[][]": "word"}).status_code == 400
    empty = http.post("/audio/transcriptions", files={"model": (None, WHISPER)})
    assert 'Missing required "file"' in empty.json()["error"]["message"]


def test_methods_paths_and_keys_are_checked(emulator: OpenRouterEmulator, http: httpx2.Client) -> None:
    assert http.get("/images").status_code == 405
    assert http.post("/models").status_code == 405
    assert http.get("/nothing").status_code == 404
    with httpx2.Client(base_url=emulator.base_url) as stranger:
        assert stranger.get("/key").status_code == 401
        assert stranger.get("/models").status_code == 200
    assert emulator.violations == []


@pytest.mark.parametrize("place", ["query", "header", "body", "other origin"])
def test_a_key_in_the_wrong_place_is_told(emulator: OpenRouterEmulator, http: httpx2.Client, place: str) -> None:
    calls = {
        "query": lambda: http.get("/key", params={"key": CANARY}),
        "header": lambda: http.get("/key", headers={"X-Api-Key": CANARY}),
        "body": lambda: http.post("/images", json=drawn(prompt=CANARY)),
        "other origin": lambda: http.get(f"{emulator.other_origin}/files/1.png"),
    }
    calls[place]()
    assert len(emulator.violations) == 1
    assert CANARY not in emulator.violations[0]


def test_a_generation_is_found_late_when_told(emulator: OpenRouterEmulator, http: httpx2.Client) -> None:
    emulator.generation_misses = 2
    name = http.post("/audio/speech", json=said()).headers["x-generation-id"]
    assert [http.get("/generation", params={"id": name}).status_code for _ in range(3)] == [404, 404, 200]


def test_equal_and_heavy_pictures_on_demand(emulator: OpenRouterEmulator, http: httpx2.Client) -> None:
    emulator.same_picture = True
    twins = http.post("/images", json=drawn(SEEDREAM, n=2, size="320x200")).json()["data"]
    assert twins[0] == twins[1]
    assert opened(base64.b64decode(twins[0]["b64_json"])).size == (320, 200)
    emulator.picture_bytes = 2_000_000
    for form in ("png", "jpeg", "webp"):
        heavy = http.post("/images", json=drawn(output_format=form)).json()["data"][0]
        data = base64.b64decode(heavy["b64_json"])
        assert len(data) > 900_000
        assert opened(data).format == form.upper()


def test_a_vector_model_draws_svg_and_a_clear_ground_is_clear(http: httpx2.Client) -> None:
    vector = http.post("/images", json=drawn("recraft/recraft-v4-vector")).json()["data"][0]
    assert vector["media_type"] == "image/svg+xml"
    assert base64.b64decode(vector["b64_json"]).startswith(b"<svg")
    clear = http.post("/images", json=drawn("openai/gpt-image-2", background="transparent")).json()["data"][0]
    assert opened(base64.b64decode(clear["b64_json"])).mode == "RGBA"


@pytest.mark.parametrize("model", [row.id for row in MODELS.values() if row.makes_pictures])
def test_every_image_model_draws_from_a_prompt_alone(http: httpx2.Client, model: str) -> None:
    assert http.post("/images", json=drawn(model)).json()["data"][0]["b64_json"]


def test_speech_grows_with_its_text(http: httpx2.Client) -> None:
    for form in ("mp3", "pcm"):
        short, long = (http.post("/audio/speech", json=said("x" * n, response_format=form)).content for n in (50, 100))
        assert len(long) == pytest.approx(2 * len(short), rel=0.02)
        assert synthetic.sniff_audio(short) == {"mp3": "mp3", "pcm": None}[form]


def test_a_request_is_seen_while_it_is_answered(emulator: OpenRouterEmulator, http: httpx2.Client) -> None:
    http.post("/images", json=drawn())
    emulator.wait_for(lambda: emulator.requests[0].ended is not None)
    seen = emulator.requests[0]
    assert (seen.method, seen.path, seen.body["prompt"], seen.disconnected) == ("POST", "/images", "a red fox", False)
    assert seen.headers["authorization"] == f"Bearer {CANARY}"
    with pytest.raises(TimeoutError):
        emulator.wait_for(lambda: False, seconds=0.01)
