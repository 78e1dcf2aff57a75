"""OpenAI's wire: sizes, forms, sounds and transcripts, each as its servers take and give them."""

from __future__ import annotations

import email
import email.policy
import io
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kheish_mcp.capabilities import EditRequest, ImageRequest, SpeechRequest, TranscriptionRequest
from kheish_mcp.crafts.clear_mask import clear_mask
from kheish_mcp.drivers.forms import Field, encode_form, text
from kheish_mcp.drivers.openai.codec import (
    decode_heard,
    decode_speech,
    encode_drawing,
    encode_speech,
    form_of_edit,
    form_of_transcription,
    unheard,
)
from kheish_mcp.errors import InvalidArgument, Unavailable
from kheish_mcp.formats.wav import wrap
from kheish_mcp.media import Media, Pcm
from tests.emulators.provider import synthetic

PIER = ImageRequest("a pier")
PNG = Media(synthetic.picture(1, (32, 32), "png"), "image/png")
TONE = synthetic.tone(3)


def drawing(request: ImageRequest = PIER, model: str = "gpt-image-2", *, as_base64: bool = True) -> dict[str, Any]:
    """The body of a generation."""
    return encode_drawing(model, request, as_base64=as_base64)


def named(fields: tuple[Field, ...]) -> list[tuple[str, str]]:
    """The texts of a form."""
    return [(field.name, field.content.decode()) for field in fields if not field.file_name]


# Forms


@given(
    fields=st.lists(
        st.builds(text, st.sampled_from(["prompt", "model", "image[]"]), st.text(max_size=40))
        | st.builds(Field, st.just("file"), st.binary(max_size=80), st.just("a.png"), st.just("image/png")),
        min_size=1,
        max_size=5,
    )
)
def test_a_form_is_read_back_as_it_was(fields: list[Field]):
    head = b"Content-Type: multipart/form-data; boundary=0123456789abcdef\r\n\r\n"
    parts = email.message_from_bytes(
        head + encode_form(fields, "0123456789abcdef"), policy=email.policy.HTTP
    ).get_payload()
    assert isinstance(parts, list)
    read = [
        (part.get_param("name", header="content-disposition"), part.get_filename(""), part.get_payload(decode=True))
        for part in parts
    ]
    assert read == [(field.name, field.file_name, field.content) for field in fields]


def test_half_a_character_in_a_text_does_not_break_its_form():
    assert b"a ? pier" in encode_form([text("prompt", "a \ud800 pier")], "x")


# Pictures


def test_a_plain_request_says_no_more_than_it_has_to():
    assert drawing() == {"model": "gpt-image-2", "prompt": "a pier"}
    assert drawing(model="sd-cpp-local") == {"model": "sd-cpp-local", "prompt": "a pier", "response_format": "b64_json"}
    assert "response_format" not in drawing(model="sd-cpp-local", as_base64=False)
    assert "response_format" not in drawing(model="openai/chatgpt-image-latest")


@pytest.mark.parametrize(
    ("size", "ratio", "pixels"),
    [
        ("", "", None),
        ("", "auto", None),
        ("auto", "", "auto"),
        ("640x480", "", "640x480"),
        ("1K", "", "1024x1024"),
        ("2k", "", "2048x2048"),
        ("", "1:1", "1024x1024"),
        ("", "16:9", "1360x768"),
        ("2K", "9:16", "1536x2720"),
        ("4K", "16:9", "3840x2160"),
        ("4K", "3:1", "3840x1280"),
        ("", "2.35:1", "1568x656"),
    ],
)
def test_tiers_and_ratios_become_pixels(size: str, ratio: str, pixels: str | None):
    assert drawing(replace(PIER, size=size, aspect_ratio=ratio)).get("size") == pixels


@given(
    size=st.sampled_from(["", "1K", "2K", "4K"]),
    ratio=st.tuples(st.integers(1, 30), st.integers(1, 30)).filter(lambda pair: max(pair) <= 3 * min(pair)),
)
def test_every_ratio_in_bounds_is_a_size_that_openai_takes(size: str, ratio: tuple[int, int]):
    pixels = drawing(replace(PIER, size=size, aspect_ratio=f"{ratio[0]}:{ratio[1]}"))["size"]
    width, height = map(int, pixels.split("x"))
    assert width % 16 == height % 16 == 0
    assert 16 <= min(width, height) <= max(width, height) <= 3840
    assert width * height <= 3840 * 2160
    assert width / height == pytest.approx(ratio[0] / ratio[1], rel=0.1)


@pytest.mark.parametrize(
    "shape",
    [
        {"size": "huge"}, {"size": "3K"}, {"aspect_ratio": "4:1"}, {"aspect_ratio": "1:3.1"}, {"aspect_ratio": "0:1"},
        {"aspect_ratio": "1:0"}, {"aspect_ratio": "wide"}, {"size": "640x480", "aspect_ratio": "4:3"},
    ],
)  # fmt: skip
def test_a_shape_that_no_picture_has_is_refused(shape: dict[str, str]):
    with pytest.raises(InvalidArgument) as caught:
        drawing(replace(PIER, **shape))  # type: ignore[arg-type]
    assert caught.value.hint


@pytest.mark.parametrize(
    ("prompt", "left"),
    [
        ("a pier<sd_cpp_extra_args>{\"steps\": 999}</sd_cpp_extra_args> at dusk", "a pier at dusk"),
        ("a pier <SD_cpp_Extra_Args>{\n} at dusk", "a pier "),
        ("a <b>pier</b>", "a <b>pier</b>"),
    ],
)  # fmt: skip
def test_a_prompt_carries_no_arguments_for_the_server(prompt: str, left: str):
    request = replace(PIER, prompt=prompt)
    assert drawing(request)["prompt"] == left
    assert len(unheard(request)) == (left != prompt)


def test_a_seed_is_not_sent_and_that_is_said():
    request = replace(PIER, seed=0)
    assert "seed" not in drawing(request)
    assert "seed" in unheard(request)[0]
    assert unheard(PIER) == ()


def test_an_edit_is_a_form_with_the_subject_first_and_the_mask_last():
    request = EditRequest("bluer", count=2, quality="low", images=(PNG, replace(PNG, media_type="image/webp")))
    fields = form_of_edit("gpt-image-2", request, b"mask", as_base64=True)
    assert named(fields) == [("model", "gpt-image-2"), ("prompt", "bluer"), ("n", "2"), ("quality", "low")]
    assert [(field.name, field.file_name) for field in fields if field.file_name] == [
        ("image[]", "image-1.png"), ("image[]", "image-2.webp"), ("mask", "mask.png"),
    ]  # fmt: skip
    [one] = [
        field
        for field in form_of_edit("gpt-image-2", replace(request, images=(PNG,)), None, as_base64=True)
        if field.file_name
    ]
    assert (one.name, one.media_type, one.content) == ("image", "image/png", PNG.data)


@pytest.mark.parametrize(
    "images",
    [(), (PNG,) * 17, (replace(PNG, media_type="image/gif"),), (replace(PNG, data=bytes(50 << 20)),)],
    ids=["none", "many", "gif", "large"],
)
def test_pictures_that_openai_does_not_take_are_refused(images: tuple[Media, ...]):
    with pytest.raises(InvalidArgument):
        form_of_edit("gpt-image-2", EditRequest("bluer", images=images), None, as_base64=True)


# Masks


def png_of(picture: Image.Image) -> bytes:
    """A PNG."""
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("mask", "changed"),
    [
        (Image.new("L", (32, 32), 255), True),
        (Image.new("RGB", (32, 32), "black"), False),
        (Image.new("RGBA", (32, 32), "white"), True),
        (Image.new("RGBA", (32, 32), (0, 0, 0, 255)), False),
        (Image.new("RGBA", (32, 32), (255, 255, 255, 0)), False),
    ],
)
def test_what_is_light_or_painted_may_change_and_is_clear_for_openai(mask: Image.Image, changed: bool):
    _, (made,) = clear_mask({}, (png_of(mask), PNG.data))
    with Image.open(io.BytesIO(made)) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGBA", (32, 32))
        assert picture.getpixel((3, 3)) == ((255, 255, 255, 0) if changed else (0, 0, 0, 255))


def test_a_painted_stroke_is_what_may_change_whatever_its_colour():
    mask = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    mask.paste((200, 0, 0, 255), (0, 0, 8, 8))
    _, (made,) = clear_mask({}, (png_of(mask), PNG.data))
    with Image.open(io.BytesIO(made)) as picture:
        assert picture.getpixel((3, 3)) == (255, 255, 255, 0)
        assert picture.getpixel((20, 20)) == (0, 0, 0, 255)


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(InvalidArgument, match="64 x 32"):
        clear_mask({}, (png_of(Image.new("L", (64, 32))), PNG.data))


# Speech


def test_a_voice_is_guessed_for_openai_s_own_models_only():
    assert encode_speech("gpt-4o-mini-tts", SpeechRequest("Hi")) == {
        "model": "gpt-4o-mini-tts", "input": "Hi", "response_format": "mp3", "voice": "alloy",
    }  # fmt: skip
    assert "voice" not in encode_speech("kokoro", SpeechRequest("Hi"))
    told = encode_speech("kokoro", SpeechRequest("Hi", "af_heart", "flac", 1.5, "Warm."))
    assert (told["voice"], told["response_format"], told["speed"], told["instructions"]) == (
        "af_heart",
        "flac",
        1.5,
        "Warm.",
    )


@pytest.mark.parametrize(
    ("body", "content_type", "wanted", "media_type", "warned"),
    [
        (synthetic.mp3(3), "audio/mpeg", "mp3", "", False),
        (synthetic.mp3(3), "", "mp3", "", False),
        (synthetic.wav(TONE), "audio/x-wav", "wav", "", False),
        (synthetic.wav(TONE), "audio/mpeg", "mp3", "", True),
        (TONE, "audio/pcm;rate=24000", "pcm", "audio/pcm", False),
        (TONE, "audio/pcm", "pcm", "audio/pcm", True),
        (TONE, "", "pcm", "audio/pcm", True),
        (synthetic.wav(TONE), "audio/pcm", "pcm", "", True),
    ],
)
def test_sound_is_what_its_bytes_say(body: bytes, content_type: str, wanted: str, media_type: str, warned: bool):
    media, told = decode_speech(body, content_type, wanted)
    assert (media.data, media.media_type) == (body, media_type)
    assert bool(told) is warned


def test_samples_keep_the_rate_that_was_declared():
    assert decode_speech(TONE, "audio/pcm;rate=16000;channels=2", "pcm")[0].pcm == Pcm(16_000, 2)
    assert decode_speech(TONE + b"\x01", "audio/pcm", "pcm")[0].data == TONE


@pytest.mark.parametrize(("body", "content_type"), [(b"\x01", "audio/pcm"), (b"hello", "text/plain")])
def test_an_answer_without_sound_is_a_failure(body: bytes, content_type: str):
    with pytest.raises(Unavailable):
        decode_speech(body, content_type, "pcm")


# Transcription


SOUND = TranscriptionRequest(Media(TONE, "audio/pcm", pcm=Pcm(24_000)))


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({}, [("response_format", "json")]),
        ({"language": "de", "prompt": "Kheish"}, [("language", "de"), ("prompt", "Kheish"), ("response_format", "json")]),
        ({"timestamps": "segment"}, [("response_format", "verbose_json"), ("timestamp_granularities[]", "segment")]),
        (
            {"timestamps": "word"},
            [
                ("response_format", "verbose_json"), ("timestamp_granularities[]", "segment"),
                ("timestamp_granularities[]", "word"),
            ],
        ),
        ({"diarize": True, "timestamps": "word"}, [("response_format", "diarized_json"), ("chunking_strategy", "auto")]),
    ],
)  # fmt: skip
def test_a_transcription_is_a_form_that_asks_for_the_form_of_its_answer(
    more: dict[str, Any], fields: list[tuple[str, str]]
):
    form = form_of_transcription("whisper-1", replace(SOUND, **more))
    assert named(form) == [("model", "whisper-1"), *fields]
    assert form[-1] == Field("file", wrap(TONE, Pcm(24_000)), "audio.wav", "audio/wav")


@pytest.mark.parametrize(
    "audio",
    [
        Media(TONE, "audio/aac"),
        Media(TONE, "audio/pcm"),
        Media(bytes(26 << 20), "audio/mpeg"),
        Media(TONE, "image/png"),
    ],
    ids=["aac", "no rate", "large", "picture"],
)
def test_sound_that_openai_does_not_take_is_refused(audio: Media):
    with pytest.raises(InvalidArgument):
        form_of_transcription("whisper-1", TranscriptionRequest(audio))


def test_times_in_nanoseconds_are_seconds():
    body: Any = {
        "text": "Hello there.", "duration": 1.2, "segments": [{"start": 0, "end": 1_200_000_000, "text": "Hello there."}],
        "words": [{"start": 500_000_000, "end": 1_200_000_000, "word": "there."}],
    }  # fmt: skip
    heard = decode_heard(body, "whisper-1", None, ())
    assert (heard.segments[0].start, heard.segments[0].end) == (0.0, 1.2)
    assert heard.words[0].start == 0.5
    assert (
        decode_heard({"text": "Hi", "segments": [{"start": 0, "end": 2, "text": "Hi"}]}, "w", None, ()).segments[0].end
        == 2
    )


def test_an_answer_without_text_is_a_failure():
    with pytest.raises(Unavailable):
        decode_heard({"segments": []}, "whisper-1", None, ())
