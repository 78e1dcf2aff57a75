"""OpenAI's stand-in speaks as the official SDK reads, and refuses what OpenAI refuses."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from openai import AuthenticationError, BadRequestError, NotFoundError, OpenAI
from PIL import Image

from tests.conftest import CANARY
from tests.emulators.openai import OpenAIEmulator
from tests.emulators.provider import chat, synthetic

SOUND = synthetic.wav(synthetic.tone(30))


@pytest.fixture
def openai() -> Iterator[OpenAIEmulator]:
    """The stand-in."""
    with OpenAIEmulator(CANARY) as running:
        yield running
        assert running.violations == []


@pytest.fixture
def sdk(openai: OpenAIEmulator) -> Iterator[OpenAI]:
    """The official SDK, without its retries."""
    with OpenAI(api_key=CANARY, base_url=openai.base_url, max_retries=0, timeout=10) as client:
        yield client


def picture(mode: str = "RGB", size: tuple[int, int] = (32, 32)) -> tuple[str, bytes, str]:
    """A file as the SDK takes it."""
    out = io.BytesIO()
    Image.new(mode, size).save(out, "PNG")
    return "picture.png", out.getvalue(), "image/png"


def test_pictures_are_drawn_in_the_size_that_was_asked(sdk: OpenAI):
    made = sdk.images.generate(model="gpt-image-2", prompt="a red fox", n=2, size="64x32", output_format="jpeg")
    assert made.data is not None
    for one in made.data:
        with Image.open(io.BytesIO(base64.b64decode(one.b64_json or ""))) as drawn:
            assert (drawn.size, drawn.format) == ((64, 32), "JPEG")
    assert made.usage is not None
    assert made.usage.total_tokens == 281


def test_pictures_are_edited_within_a_mask(sdk: OpenAI):
    made = sdk.images.edit(model="gpt-image-2", prompt="bluer", image=[picture(), picture()], mask=picture("RGBA"))
    assert made.data
    sdk.images.edit(model="gpt-image-2", prompt="bluer", image=picture())


@pytest.mark.parametrize("mask", [picture("RGB"), picture("RGBA", (16, 16))], ids=["not clear", "another size"])
def test_a_mask_that_openai_does_not_take_is_refused(sdk: OpenAI, mask: Any):
    with pytest.raises(BadRequestError, match="mask"):
        sdk.images.edit(model="gpt-image-2", prompt="bluer", image=picture(), mask=mask)


def test_what_the_model_does_not_take_is_refused_by_name(sdk: OpenAI):
    with pytest.raises(BadRequestError) as caught:
        sdk.images.generate(model="gpt-image-2", prompt="a red fox", response_format="b64_json")
    assert (caught.value.param, caught.value.code) == ("response_format", "unknown_parameter")
    with pytest.raises(BadRequestError, match="style"):
        sdk.images.generate(model="gpt-image-2", prompt="a red fox", style="vivid")
    with pytest.raises(NotFoundError, match="does not exist"):
        sdk.images.generate(model="gpt-9", prompt="a red fox")


@pytest.mark.parametrize(
    ("form", "head"), [("mp3", b"\xff\xf3"), ("wav", b"RIFF\xff\xff\xff\xff"), ("pcm", b"\x00\x00")]
)
def test_speech_comes_in_the_format_that_was_asked(sdk: OpenAI, form: Any, head: bytes):
    spoken = sdk.audio.speech.create(
        model="gpt-4o-mini-tts", voice="alloy", input="Hello.", response_format=form, speed=1.5
    )
    assert spoken.read().startswith(head)


def test_a_voice_that_is_not_known_is_refused(sdk: OpenAI):
    with pytest.raises(BadRequestError, match="alloy"):
        sdk.audio.speech.create(model="gpt-4o-mini-tts", voice="nobody", input="Hello.")


def test_a_sound_is_heard_in_every_form(sdk: OpenAI):
    file = ("sound.wav", SOUND, "audio/wav")
    plain = sdk.audio.transcriptions.create(model="gpt-4o-mini-transcribe", file=file, language="en", prompt="Kheish")
    fine = sdk.audio.transcriptions.create(
        model="whisper-1", file=file, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    told = sdk.audio.transcriptions.create(
        model="gpt-4o-transcribe-diarize", file=file, response_format="diarized_json", chunking_strategy="auto"
    )
    assert plain.text == fine.text == told.text
    assert fine.words
    assert fine.segments
    assert {segment.speaker for segment in told.segments} == {"A"}


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("gpt-4o-mini-transcribe", {"response_format": "verbose_json"}),
        ("whisper-1", {"response_format": "diarized_json"}),
        ("whisper-1", {"timestamp_granularities": ["word"]}),
        ("gpt-4o-transcribe-diarize", {"response_format": "diarized_json"}),
    ],
)
def test_a_form_that_the_model_has_not_is_refused(sdk: OpenAI, model: str, more: dict[str, Any]):
    with pytest.raises(BadRequestError):
        sdk.audio.transcriptions.create(model=model, file=("sound.wav", SOUND, "audio/wav"), **more)


def test_a_file_that_is_not_what_its_name_says_is_refused(sdk: OpenAI):
    with pytest.raises(BadRequestError, match="file"):
        sdk.audio.transcriptions.create(model="whisper-1", file=("sound.mp3", SOUND, "audio/mpeg"))


def test_a_conversation_streams_with_tools_and_counts_only_for_who_asks(openai: OpenAIEmulator, sdk: OpenAI):
    openai.say("It is so.", chat.Turn(calls=(chat.Call("look", {"at": "sea"}),)))
    messages: Any = [{"role": "user", "content": "Is it so?"}]
    words = list(sdk.chat.completions.create(model="gpt-5.4-mini", messages=messages, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in words).strip() == "It is so."
    assert all(chunk.usage is None for chunk in words)
    usage: Any = {"include_usage": True}
    calls = list(
        sdk.chat.completions.create(model="gpt-5.4-mini", messages=messages, stream=True, stream_options=usage)
    )
    assert calls[-1].usage is not None
    [asked] = [call for chunk in calls for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    assert asked.function is not None
    assert (asked.function.name, asked.function.arguments) == ("look", '{"at": "sea"}')


def test_only_its_key_is_taken_and_models_are_ids(openai: OpenAIEmulator, sdk: OpenAI):
    assert "gpt-image-2" in [model.id for model in sdk.models.list()]
    with pytest.raises(AuthenticationError):
        sdk.with_options(api_key="sk-another").models.list()
    assert httpx2.get(f"{openai.base_url}/images/generations").status_code == 404
    with OpenAIEmulator(CANARY, open_to_all=True) as server:
        assert httpx2.get(f"{server.base_url}/models").status_code == 200
