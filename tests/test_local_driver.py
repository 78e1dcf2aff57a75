"""The route that needs nothing set up, against the real libraries: it draws, edits, speaks, and hears what it spoke."""

from __future__ import annotations

import io
import struct
import sys
import wave
from collections.abc import AsyncIterator
from typing import Any

import pytest
from PIL import Image

from kheish_mcp.capabilities import (
    AudioFormat,
    AudioGeneration,
    EditRequest,
    Exchange,
    ImageEdit,
    ImageGeneration,
    ImageRequest,
    SpeechRequest,
    Transcription,
    TranscriptionRequest,
)
from kheish_mcp.cli.demo import SENTENCE, SPEED, VOICE
from kheish_mcp.crafts.operations import GRAMMAR
from kheish_mcp.drivers.local import VOICES, Local
from kheish_mcp.errors import InvalidArgument
from kheish_mcp.formats import recognise
from kheish_mcp.formats.wav import unwrap, wrap
from kheish_mcp.media import Media, Pcm
from kheish_mcp.workers import Workers
from tests.samples import WHOLE

pytestmark = pytest.mark.anyio


@pytest.fixture
async def local() -> AsyncIterator[Local]:
    """The driver with one worker."""
    workers = Workers(1)
    yield Local(workers)
    await workers.close()


async def spoken(local: Local, text: str = SENTENCE, voice: str = VOICE, speed: float | None = SPEED, **more) -> bytes:
    """The bytes of a text."""
    made = await local.generate_audio("espeak-ng", SpeechRequest(text, voice, speed=speed, **more), Exchange())
    return made.media[0].data


def seconds(data: bytes) -> float:
    """The length of a WAV, by another reader than ours."""
    with wave.open(io.BytesIO(data)) as file:
        return file.getnframes() / file.getframerate()


async def test_the_sentence_of_the_demo_is_heard_word_for_word(local: Local):
    made = await local.generate_audio("espeak-ng", SpeechRequest(SENTENCE, VOICE, speed=SPEED), Exchange())
    heard = await local.transcribe("pocketsphinx", TranscriptionRequest(made.media[0]), Exchange())
    assert heard.text == SENTENCE.lower().rstrip(".")
    assert (heard.language, heard.cost_usd, heard.model) == ("en", 0.0, "pocketsphinx")
    assert heard.duration_s == pytest.approx(seconds(made.media[0].data), abs=0.001)
    assert [word.text for word in heard.words] == heard.text.split()
    assert [segment.text for segment in heard.segments] == [heard.text]


async def test_the_same_words_are_the_same_bytes_whatever_was_spoken_before(local: Local):
    first = await spoken(local)
    await spoken(local, "Etwas ganz anderes.", "de")
    assert await spoken(local) == first


async def test_a_voice_and_a_speed_change_the_sound(local: Local):
    usual = await spoken(local, speed=1.0)
    assert await spoken(local, voice="en-us", speed=1.0) != usual
    assert seconds(await spoken(local, speed=0.5)) > 1.5 * seconds(usual)
    assert seconds(await spoken(local, speed=2.0)) < 0.65 * seconds(usual)


@pytest.mark.parametrize("voice", ["martian", "en-us+nobody", "en-us+../../f2", "../lang/gmw/en-US", "en-us+"])
async def test_an_unknown_voice_is_refused_with_some_that_are_known(local: Local, voice: str):
    with pytest.raises(InvalidArgument, match="no such voice") as refusal:
        await spoken(local, voice=voice)
    assert "en-gb" in str(refusal.value.hint)


async def test_every_voice_that_is_listed_speaks(local: Local):
    said = {voice: await spoken(local, "One two three.", voice) for voice in VOICES}
    assert len(set(said.values())) == len(VOICES)


async def test_a_speed_beyond_the_voice_is_told(local: Local):
    made = await local.generate_audio("espeak-ng", SpeechRequest("Hello.", speed=4.0), Exchange())
    assert made.warnings == ("espeak-ng speaks at 2.57 times its own speed, which is as near as it gets.",)
    assert (await local.generate_audio("espeak-ng", SpeechRequest("Hello.", speed=0.9), Exchange())).warnings == ()


@pytest.mark.parametrize(
    ("form", "media_type", "warned"),
    [(None, "audio/wav", False), ("wav", "audio/wav", False), ("mp3", "audio/wav", True), ("pcm", "audio/pcm", False)],
)
async def test_speech_comes_as_wav_or_as_samples(local: Local, form: AudioFormat | None, media_type: str, warned: bool):
    made = await local.generate_audio("espeak-ng", SpeechRequest("Hello.", VOICE, form), Exchange())
    [media] = made.media
    facts = recognise(media)
    assert (facts.media_type, made.cost_usd) == (media_type, 0.0)
    assert facts.duration_s == pytest.approx(seconds(await spoken(local, "Hello.", speed=None)), abs=0.001)
    assert media.pcm == (Pcm(22_050) if form == "pcm" else None)
    assert bool(made.warnings) == warned


@pytest.mark.parametrize("form", ["flac", "opus"])
async def test_what_it_cannot_encode_is_refused(local: Local, form: AudioFormat):
    with pytest.raises(InvalidArgument, match=f"gives no {form}"):
        await spoken(local, format=form)


@pytest.mark.parametrize("text", ["   ", "\n", "\u200b"])
async def test_what_cannot_be_spoken_is_refused(local: Local, text: str):
    with pytest.raises(InvalidArgument, match="nothing in the text"):
        await spoken(local, text)


async def test_odd_texts_are_spoken_and_nothing_in_them_is_an_instruction(local: Local):
    word = seconds(await spoken(local, "a"))
    for text in ("\ud800 lone", "a\0b", "<speak>Hello</speak>", "[[h@l'oU]]", '<audio src="/etc/passwd"/>', "e" * 5000):
        assert seconds(await spoken(local, text)) > word, text
    told = await local.generate_audio("espeak-ng", SpeechRequest("Hello.", instructions="Whisper."), Exchange())
    assert told.warnings == ("espeak-ng takes no instructions.",)


async def test_samples_in_network_order_are_heard_as_the_wav_they_were(local: Local):
    speech = await spoken(local, "Everything is ready.")
    samples, pcm = unwrap(speech)
    values = struct.unpack(f"<{len(samples) // 2}h", samples)
    turned = Media(struct.pack(f">{len(values)}h", *values), "audio/l16", pcm=pcm)
    heard = await local.transcribe("pocketsphinx", TranscriptionRequest(turned), Exchange())
    assert heard.text == "everything is ready"


async def test_silence_says_nothing(local: Local):
    silence = Media(wrap(bytes(32_000), Pcm(16_000)), "audio/wav")
    heard = await local.transcribe("pocketsphinx", TranscriptionRequest(silence), Exchange())
    assert (heard.text, heard.words, heard.segments, heard.duration_s) == ("", (), (), 1.0)


async def test_a_pause_begins_a_new_segment_and_times_never_run_backwards(local: Local):
    samples, pcm = unwrap(await spoken(local, "Everything is ready."))
    twice = Media(wrap(samples + bytes(2 * 22_050) + samples, pcm), "audio/wav")
    heard = await local.transcribe("pocketsphinx", TranscriptionRequest(twice), Exchange())
    assert len(heard.segments) >= 2
    times = [time for word in heard.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert times[-1] <= (heard.duration_s or 0) + 0.5


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (TranscriptionRequest(WHOLE["audio/mpeg"]), "hears WAV and PCM"),
        (TranscriptionRequest(WHOLE["audio/wav"], "de"), "English alone"),
        (TranscriptionRequest(Media(wrap(bytes(100), Pcm(8000, 1, 8)), "audio/wav")), "8-bit samples"),
        (TranscriptionRequest(Media(wrap(bytes(2 * 601), Pcm(1)), "audio/wav")), "601 s are too long"),
    ],
)
async def test_what_it_cannot_hear_is_refused(local: Local, request_: TranscriptionRequest, problem: str):
    with pytest.raises(InvalidArgument, match=problem) as refusal:
        await local.transcribe("pocketsphinx", request_, Exchange())
    assert refusal.value.hint


async def test_what_it_ignores_is_told(local: Local):
    silence = Media(wrap(bytes(3200), Pcm(16_000)), "audio/wav")
    request = TranscriptionRequest(silence, "en", "Names", diarize=True)
    heard = await local.transcribe("pocketsphinx", request, Exchange())
    assert heard.warnings == ("pocketsphinx takes no prompt.", "pocketsphinx takes no diarize.")


SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="32"><rect width="32" height="32" fill="red"/></svg>'


async def picture_of(local: Local, prompt: str, **more: Any) -> tuple[Image.Image, tuple[str, ...]]:
    """The drawn picture and the warnings."""
    made = await local.generate_image("svg", ImageRequest(prompt, **more), Exchange())
    assert (made.cost_usd, made.model, len(made.media)) == (0.0, "svg", 1)
    return Image.open(io.BytesIO(made.media[0].data)), made.warnings


@pytest.mark.parametrize("prompt", [
    SVG, f"```svg\n{SVG}\n```", f"Here is the picture:\n\n```xml\n{SVG}\n```\nDo you like it?",
    f'<?xml version="1.0" encoding="ISO-8859-1"?><!-- ü --><!DOCTYPE svg PUBLIC "x" "y">{SVG}',
], ids=["bare", "fenced", "in a letter", "with a prolog"])  # fmt: skip
async def test_an_svg_is_drawn_wherever_it_stands_in_the_prompt(local: Local, prompt: str):
    image, warnings = await picture_of(local, prompt)
    assert (image.format, image.size, warnings) == ("PNG", (64, 32), ())
    assert [image.getpixel(place) for place in ((5, 5), (40, 5))] == [(255, 0, 0, 255), (0, 0, 0, 0)]


@pytest.mark.parametrize(
    ("more", "form", "size"),
    [
        ({"size": "640x640"}, "PNG", (640, 320)),
        ({"output_format": "jpeg"}, "JPEG", (64, 32)),
        ({"output_format": "webp"}, "WEBP", (64, 32)),
    ],
)
async def test_a_drawing_comes_in_the_asked_size_and_format(
    local: Local, more: dict[str, Any], form: str, size: tuple[int, int]
):
    image, _ = await picture_of(local, SVG, **more)
    assert (image.format, image.size) == (form, size)
    ground = image.convert("RGBA").getpixel((size[0] - 5, 5))
    assert ground == ((255, 255, 255, 255) if form == "JPEG" else (0, 0, 0, 0))


async def test_an_opaque_ground_is_white_and_what_changes_nothing_is_told(local: Local):
    image, warnings = await picture_of(local, SVG, background="opaque", seed=7, quality="high", aspect_ratio="1:1")
    assert image.convert("RGBA").getpixel((60, 5)) == (255, 255, 255, 255)
    assert warnings == tuple(f"{name} changes nothing on this route." for name in ("seed", "quality", "aspect_ratio"))


@pytest.mark.parametrize("prompt", [
    "A red fox in the snow", "", "draw <svg> something", "</svg><svg", "<!---->" * 9000, "<?xml" * 40_000, "<svg " * 40_000,
], ids=range(7))  # fmt: skip
async def test_prose_is_refused_with_a_sentence_that_teaches(local: Local, prompt: str):
    with pytest.raises(InvalidArgument, match="draws SVG exactly and cannot imagine a scene") as refusal:
        await picture_of(local, prompt)
    assert "<svg xmlns=...>" in str(refusal.value.hint)
    assert "fox" not in refusal.value.message


@pytest.mark.parametrize("size", ["1K", "0x5", "auto", "64×64", "99999x1"])
async def test_a_size_is_pixels(local: Local, size: str):
    with pytest.raises(InvalidArgument, match="WxH in pixels"):
        await picture_of(local, SVG, size=size)


async def edited(local: Local, prompt: str, *images: str, **more: Any) -> Image.Image:
    """The first picture after the operations; pictures are named by a colour."""
    given = tuple(Media(picture_file(Image.new("RGB", (20, 20), color)), "image/png") for color in images)
    made = await local.edit_image("operations", EditRequest(prompt, images=given, **more), Exchange())
    return Image.open(io.BytesIO(made.media[0].data))


def picture_file(image: Image.Image) -> bytes:
    """The picture as a PNG."""
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


async def test_operations_are_done_in_order_on_several_pictures_through_a_mask(local: Local):
    mask = Image.new("L", (20, 20))
    mask.paste(255, (0, 0, 10, 20))
    shown = Media(picture_file(mask), "image/png")
    image = await edited(local, "overlay 2 at 0,0; brightness 1", "red", "blue", mask=shown, output_format="webp")
    assert image.format == "WEBP"
    left, right = (image.convert("RGB").getpixel((x, 10)) for x in (3, 16))
    assert left[2] > 200 > left[0]
    assert right[0] > 200 > right[2]


async def test_a_description_of_an_edit_is_refused_with_a_sentence_that_teaches(local: Local):
    with pytest.raises(InvalidArgument, match="edits by exact operations and cannot follow a description") as refusal:
        await edited(local, "Make the sky warmer", "red")
    assert "crop 10,10,400,300" in refusal.value.message
    assert "overlay 2 at 10,10 64x64" in str(refusal.value.hint)


def test_a_missing_extra_is_said_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    local = Local(Workers())
    offered = (ImageGeneration, ImageEdit, AudioGeneration, Transcription)
    assert [local.missing(capability) for capability in offered] == [None] * 4
    for package in ("resvg_py", "espeakng_loader", "pocketsphinx"):
        monkeypatch.setitem(sys.modules, package, None)
    command = "pip install 'kheish-mcp[local]'"
    assert [local.missing(capability) for capability in offered] == [
        ("the extra 'local' is not installed (resvg_py is missing)", command),
        None,
        ("the extra 'local' is not installed (espeakng_loader is missing)", command),
        ("the extra 'local' is not installed (pocketsphinx is missing)", command),
    ]


def test_every_model_says_how_to_prompt_it():
    cards = {card.id: card for card in Local(Workers()).models()}
    assert {flag: cards[first].capabilities for flag, (first, *_) in Local.preferred.items()} == {
        flag: (flag,) for flag in Local.preferred
    }
    assert "whole SVG document" in str(cards["svg"].note)
    assert all(name in str(cards["operations"].note) for name in GRAMMAR)
    assert cards["espeak-ng"].voices == VOICES
