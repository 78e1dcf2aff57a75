"""OpenRouter's wire without a network: what we send is what its own SDK would take, what comes back is what it means."""

from __future__ import annotations

import base64
import io
import json
import wave
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openrouter import components
from PIL import Image
from pydantic import BaseModel

from kheish_mcp.capabilities import EditRequest, ImageRequest, Segment, SpeechRequest, Transcript, TranscriptionRequest
from kheish_mcp.drivers.openrouter.codec import (
    AUDIO_PREFERENCES,
    IMAGE_PREFERENCES,
    LARGEST_MEDIA,
    PROMPTED,
    cost_of,
    decode_pictures,
    decode_speech,
    decode_transcription,
    encode_image,
    encode_speech,
    encode_transcription,
    preferred,
    speech_wire,
)
from kheish_mcp.errors import InvalidArgument, KheishError, Unavailable
from kheish_mcp.formats import recognise
from kheish_mcp.formats.wav import unwrap, wrap
from kheish_mcp.media import Media, Pcm

IMAGES, SPEECH, HEARING = "openai/gpt-image-2", "openai/gpt-4o-mini-tts-2025-12-15", "openai/whisper-1"
SAMPLES = b"\x01\x00\xff\x7f" * 40
MP3 = (b"\xff\xfb\x90\x00" + bytes(413)) * 3
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def picture(form: str = "PNG") -> bytes:
    """A real picture of 3 x 2 pixels."""
    held = io.BytesIO()
    Image.new("RGB", (3, 2), "teal").save(held, form)
    return held.getvalue()


def wav(rate: int = 8000) -> bytes:
    """A real WAV file, written by the standard library."""
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(SAMPLES)
    return held.getvalue()


def is_taken_by_the_sdk(form: type[BaseModel], body: dict[str, Any]) -> bool:
    """Whether the provider's own SDK reads the body and would send the very same; an unknown value is a warning."""
    return form.model_validate(body).model_dump(mode="json", by_alias=True, exclude_unset=True) == body


PNG, WAV = picture(), wav()


# Pictures, out


def test_a_bare_request_leaves_every_choice_to_the_model():
    assert encode_image(IMAGES, ImageRequest("a pier"), {}) == {"model": IMAGES, "prompt": "a pier"}


def test_a_full_request_says_everything_in_the_provider_s_words():
    request = ImageRequest("a pier", "2k", "16:9", 3, "high", "transparent", "webp", 7)
    body = encode_image(IMAGES, request, {"only": ["openai"], "allow_fallbacks": False})
    assert body == {
        "model": IMAGES,
        "prompt": "a pier",
        "resolution": "2K",
        "aspect_ratio": "16:9",
        "n": 3,
        "quality": "high",
        "background": "transparent",
        "output_format": "webp",
        "seed": 7,
        "provider": {"only": ["openai"], "allow_fallbacks": False},
    }
    assert is_taken_by_the_sdk(components.ImageGenerationRequest, body)


def test_seed_zero_is_a_seed():
    assert encode_image(IMAGES, ImageRequest("a pier", seed=0), {})["seed"] == 0


@pytest.mark.parametrize(
    ("size", "ratio", "shape"),
    [
        ("", "", {}),
        ("", "9:16", {"aspect_ratio": "9:16"}),
        ("1536x1024", "", {"size": "1536x1024"}),
        ("512", "", {"resolution": "512"}),
        ("1.5k", "4:5", {"resolution": "1.5K", "aspect_ratio": "4:5"}),
    ],
)
def test_a_size_is_pixels_or_a_tier_that_goes_with_a_ratio(size: str, ratio: str, shape: dict[str, str]):
    body = encode_image(IMAGES, ImageRequest("a pier", size, ratio), {})
    assert body == {"model": IMAGES, "prompt": "a pier", **shape}
    assert is_taken_by_the_sdk(components.ImageGenerationRequest, body)


@pytest.mark.parametrize(
    ("size", "ratio"), [("1024x1024", "1:1"), ("wide", ""), ("0x9", ""), ("8K", ""), ("10x10x10", "")]
)
def test_a_size_that_nobody_has_or_that_contradicts_the_ratio_is_never_sent(size: str, ratio: str):
    with pytest.raises(InvalidArgument) as refused:
        encode_image(IMAGES, ImageRequest("a pier", size, ratio), {})
    assert refused.value.hint


def test_an_edit_carries_its_pictures_in_order_as_data_urls():
    media = (Media(PNG, "image/png"), Media(picture("JPEG"), "image/jpeg"), Media(picture("GIF"), "image/gif"))
    body = encode_image(IMAGES, EditRequest("in watercolour", images=media), {})
    urls = [part["image_url"]["url"] for part in body["input_references"]]
    assert [url.partition(",")[0] for url in urls] == [f"data:{one.media_type};base64" for one in media]
    assert [base64.b64decode(url.partition(",")[2]) for url in urls] == [one.data for one in media]
    assert is_taken_by_the_sdk(components.ImageGenerationRequest, body)


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (EditRequest("x", images=(Media(PNG, "image/png"),), mask=Media(PNG, "image/png")), "mask"),
        (EditRequest("x"), "pictures"),
        (EditRequest("x", images=(Media(PNG, "image/png"),) * 17), "pictures"),
        (EditRequest("x", images=(Media(b"<svg/>", "image/svg+xml"),)), "svg"),
        (EditRequest("x", images=(Media(bytes(LARGEST_MEDIA + 1), "image/png"),)), "MiB"),
    ],
    ids=["mask", "none", "seventeen", "svg", "large"],
)
def test_an_edit_that_cannot_be_is_never_sent(request_: EditRequest, word: str):
    with pytest.raises(InvalidArgument, match=word) as refused:
        encode_image(IMAGES, request_, {})
    assert refused.value.hint


# Pictures, in


def test_every_picture_of_an_answer_is_kept_in_order():
    forms = ["PNG", "JPEG", "WEBP"]
    data = [{"b64_json": base64.b64encode(picture(form)).decode(), "media_type": "image/png"} for form in forms]
    found = decode_pictures({"created": 0, "data": data})
    assert [one.media.data for one in found if one.media] == [picture(form) for form in forms]
    # The type that the provider claims is wrong for two of them; the bytes count.
    assert [recognise(one.media).media_type for one in found if one.media] == ["image/png", "image/jpeg", "image/webp"]


def test_a_data_url_is_a_picture_too():
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    first, second = decode_pictures({"data": [{"b64_json": url}, {"url": url}]})
    assert first.media == second.media == Media(PNG, "")


def test_a_url_is_given_on_and_not_read():
    [found] = decode_pictures({"data": [{"b64_json": None, "url": "https://example.com/a.png"}]})
    assert (found.media, found.url) == (None, "https://example.com/a.png")


def test_bytes_without_a_signature_keep_their_claim_so_that_an_error_page_is_no_text():
    encoded = base64.b64encode(b"upstream said no").decode()
    [claimed, silent] = decode_pictures(
        {"data": [{"b64_json": encoded, "media_type": "image/avif"}, {"b64_json": encoded}]}
    )
    assert [one.media.media_type for one in (claimed, silent) if one.media] == ["image/avif", "image/png"]
    with pytest.raises(KheishError):
        recognise(silent.media or Media(b"", ""))


@pytest.mark.parametrize(
    "entry",
    [{}, None, "iVBOR", {"b64_json": ""}, {"b64_json": 7}, {"b64_json": "not base64!"}, {"b64_json": "aGk"},
     {"b64_json": "aG\nk="}, {"b64_json": "aGk\u00e9"}, {"url": "data:image/png;base64,"}, {"url": ["x"]}],
)  # fmt: skip
def test_a_picture_that_is_none_is_said_and_takes_no_other_along(entry: Any):
    good = {"b64_json": base64.b64encode(PNG).decode()}
    bad, kept = decode_pictures({"data": [entry, good]})
    assert bad.trouble
    assert bad.media is None
    assert kept.media == Media(PNG, "")


@pytest.mark.parametrize(
    "body", [{}, {"data": []}, {"data": {}}, [], None, "data", {"data": None, "usage": {"cost": 1}}]
)
def test_an_answer_without_pictures_is_a_failure_that_may_have_been_billed(body: Any):
    with pytest.raises(Unavailable, match="no picture") as refused:
        decode_pictures(body)
    assert refused.value.details["possibly_billed"] is True


@pytest.mark.parametrize(
    ("usage", "cost"),
    [({"cost": 0.06}, 0.06), ({"cost": 0}, 0.0), ({}, None), (None, None), ([], None), ({"cost": "0.06"}, None),
     ({"cost": True}, None), ({"cost": -1}, None), ({"cost": float("nan")}, None), ({"cost": float("inf")}, None),
     ({"cost": 10**400}, None)],
)  # fmt: skip
def test_a_cost_is_a_number_or_not_known(usage: Any, cost: float | None):
    assert cost_of({"usage": usage}) == cost
    assert cost_of({"data": []}) is None


# Preferences


def test_each_endpoint_gets_the_preferences_it_takes_and_the_others_are_told_once():
    preferences = {"zdr": True, "data_collection": "deny", "only": ["openai"], "options": {"openai": {}}}
    images, told = preferred(preferences, IMAGE_PREFERENCES)
    assert images == {"only": ["openai"], "options": {"openai": {}}}
    assert len(told) == 1
    assert "data_collection, zdr" in told[0]
    audio, told = preferred(preferences, AUDIO_PREFERENCES)
    assert audio == {"zdr": True, "data_collection": "deny", "options": {"openai": {}}}
    assert "only" in told[0]
    assert preferred({}, AUDIO_PREFERENCES) == ({}, ())


# Speech


@pytest.mark.parametrize(
    ("model", "wanted", "wire"),
    [
        (SPEECH, None, "mp3"),
        (SPEECH, "mp3", "mp3"),
        (SPEECH, "wav", "pcm"),
        (SPEECH, "pcm", "pcm"),
        ("google/gemini-3.1-flash-tts-preview", "mp3", "pcm"),
        ("google/gemini-3.1-flash-tts-preview", None, "pcm"),
    ],
)
def test_the_wire_knows_two_formats_and_google_s_voices_one(model: str, wanted: str | None, wire: str):
    assert speech_wire(model, wanted) == wire


@pytest.mark.parametrize("wanted", ["flac", "opus"])
def test_a_format_that_is_not_there_is_refused_with_those_that_are(wanted: str):
    with pytest.raises(InvalidArgument, match=wanted) as refused:
        speech_wire(SPEECH, wanted)
    assert refused.value.hint is not None
    assert "mp3, wav or pcm" in refused.value.hint


def test_speech_says_everything_in_the_provider_s_words():
    request = SpeechRequest("Hello.", "nova", "mp3", 1.5, "Warm.")
    body = encode_speech(SPEECH, request, "mp3", {"zdr": True, "data_collection": "deny"})
    assert body == {
        "model": SPEECH,
        "input": "Hello.",
        "response_format": "mp3",
        "voice": "nova",
        "speed": 1.5,
        "instructions": "Warm.",
        "provider": {"zdr": True, "data_collection": "deny"},
    }
    assert is_taken_by_the_sdk(components.SpeechRequest, body)


def test_only_openai_s_models_have_a_voice_of_their_own():
    assert encode_speech(SPEECH, SpeechRequest("Hi."), "mp3", {})["voice"] == "alloy"
    assert "voice" not in encode_speech("hexgrad/kokoro-82m", SpeechRequest("Hi."), "mp3", {})


@pytest.mark.parametrize("speed", [0.2, 4.01, -1, float("nan"), float("inf")])
def test_a_speed_that_nobody_speaks_at_is_never_sent(speed: float):
    with pytest.raises(InvalidArgument, match="speed"):
        encode_speech(SPEECH, SpeechRequest("Hi.", speed=speed), "mp3", {})


def test_an_mp3_is_given_as_it_came():
    for content_type in ("audio/mpeg", "audio/mp3", "", "application/octet-stream"):
        assert decode_speech(MP3, content_type, "mp3", "mp3") == (Media(MP3, ""), ())


def test_samples_become_a_wav_with_the_rate_that_was_declared():
    media, warnings = decode_speech(SAMPLES, "audio/pcm;rate=16000;channels=2", "pcm", "wav")
    assert media.media_type == "audio/wav"
    assert unwrap(media.data) == (SAMPLES, Pcm(16_000, 2))
    assert warnings == ()


def test_samples_that_were_asked_for_stay_bare_and_keep_their_layout():
    media, warnings = decode_speech(SAMPLES, "audio/pcm; rate=22050", "pcm", "pcm")
    assert media == Media(SAMPLES, "audio/pcm", pcm=Pcm(22_050))
    assert warnings == ()


@pytest.mark.parametrize("content_type", ["audio/pcm", "", "application/octet-stream", "audio/pcm;rate=none"])
def test_a_missing_rate_is_assumed_and_said(content_type: str):
    media, warnings = decode_speech(SAMPLES, content_type, "pcm", "wav")
    assert unwrap(media.data) == (SAMPLES, Pcm(24_000))
    assert len(warnings) == 1
    assert "24 kHz" in warnings[0]


def test_a_model_of_samples_gives_wav_and_says_so_to_who_asked_for_mp3():
    media, warnings = decode_speech(SAMPLES, "audio/pcm;rate=24000;channels=1", "pcm", "mp3")
    assert media.media_type == "audio/wav"
    assert "WAV" in warnings[0]
    assert decode_speech(SAMPLES, "audio/pcm;rate=24000;channels=1", "pcm", None)[1] == ()


@pytest.mark.parametrize("wanted", ["wav", "pcm"])
def test_half_a_sample_is_left_out_and_said(wanted: str):
    media, warnings = decode_speech(SAMPLES + b"\x01", "audio/pcm;rate=24000", "pcm", wanted)
    assert (unwrap(media.data)[0] if wanted == "wav" else media.data) == SAMPLES
    assert "missing" in warnings[0]
    with pytest.raises(Unavailable, match="no sound"):
        decode_speech(b"\x01", "audio/pcm;rate=24000", "pcm", wanted)


def test_a_file_where_samples_were_asked_is_kept_and_said():
    assert decode_speech(WAV, "audio/pcm", "pcm", "wav") == (Media(WAV, ""), ())
    assert decode_speech(MP3, "audio/pcm;rate=24000;channels=1", "mp3", "mp3") == (Media(MP3, ""), ())
    assert decode_speech(SAMPLES, "audio/pcm;rate=24000;channels=1", "mp3", "pcm")[0].media_type == "audio/pcm"
    assert decode_speech(WAV, "audio/wav", "pcm", "pcm")[1]
    media, warnings = decode_speech(MP3, "audio/mpeg", "pcm", "wav")
    assert media == Media(MP3, "")
    assert "wav" in warnings[0]


def test_words_under_a_sound_s_name_keep_the_name_so_that_they_are_no_text():
    media, _ = decode_speech(b"upstream said no", "audio/mpeg", "mp3", "mp3")
    with pytest.raises(KheishError):
        recognise(media)


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "image/png", "video/mp4"])
def test_what_is_no_sound_is_a_failure(content_type: str):
    for wire in ("mp3", "pcm"):
        with pytest.raises(Unavailable, match="no sound"):
            decode_speech(b"words", content_type, wire, "mp3")


# Transcription


def test_sound_is_sent_as_bare_base64_with_its_own_format():
    body, warnings = encode_transcription(HEARING, TranscriptionRequest(Media(WAV, "audio/wav"), "en"), {"zdr": True})
    sent = base64.b64encode(WAV).decode()
    assert body == {
        "model": HEARING,
        "input_audio": {"data": sent, "format": "wav"},
        "language": "en",
        "provider": {"zdr": True},
    }
    assert warnings == ()
    assert is_taken_by_the_sdk(components.STTRequest, body)


@pytest.mark.parametrize(
    ("media_type", "name"),
    [
        ("audio/mpeg", "mp3"),
        ("audio/mpga", "mp3"),
        ("audio/webm", "webm"),
        ("audio/flac", "flac"),
        ("audio/m4a", "m4a"),
        ("audio/ogg", "ogg"),
    ],
)
def test_each_format_has_the_provider_s_name(media_type: str, name: str):
    body, _ = encode_transcription(HEARING, TranscriptionRequest(Media(b"x", media_type)), {})
    assert body["input_audio"] == {"data": "eA==", "format": name}


@pytest.mark.parametrize(
    ("pcm", "name"),
    [(Pcm(16_000), "pcm"), (Pcm(24_000), "wav"), (Pcm(16_000, channels=2), "wav"), (Pcm(16_000, bits=24), "wav")],
)
def test_bare_samples_go_as_they_are_only_in_the_one_layout_that_the_endpoint_knows(pcm: Pcm, name: str):
    body, _ = encode_transcription(HEARING, TranscriptionRequest(Media(SAMPLES, "audio/pcm", pcm=pcm)), {})
    sent = base64.b64decode(body["input_audio"]["data"])
    assert body["input_audio"]["format"] == name
    assert sent == (SAMPLES if name == "pcm" else wrap(SAMPLES, pcm))


def test_samples_in_network_order_are_turned_before_they_go():
    audio = Media(b"\1\2\3\4\5\6", "audio/l24", pcm=Pcm(48_000, bits=24))
    body, _ = encode_transcription(HEARING, TranscriptionRequest(audio), {})
    assert base64.b64decode(body["input_audio"]["data"]) == wrap(b"\3\2\1\6\5\4", Pcm(48_000, bits=24))


@pytest.mark.parametrize(
    "audio",
    [
        Media(SAMPLES, "audio/pcm"),
        Media(SAMPLES, "audio/l16"),
        Media(PNG, "image/png"),
        Media(bytes(LARGEST_MEDIA + 1), "audio/wav"),
    ],
    ids=["no rate", "big-endian", "picture", "large"],
)
def test_sound_that_the_endpoint_does_not_take_is_never_sent(audio: Media):
    with pytest.raises(InvalidArgument) as refused:
        encode_transcription(HEARING, TranscriptionRequest(audio), {})
    assert refused.value.hint


@pytest.mark.parametrize(
    ("timestamps", "diarize", "fields"),
    [
        ("none", False, {}),
        ("segment", False, {"response_format": "verbose_json", "timestamp_granularities": ["segment"]}),
        ("word", False, {"response_format": "verbose_json", "timestamp_granularities": ["segment", "word"]}),
        ("none", True, {"response_format": "verbose_json", "diarize": True}),
    ],
)
def test_times_and_speakers_need_the_long_answer(timestamps: Any, diarize: bool, fields: dict[str, Any]):
    request = TranscriptionRequest(Media(WAV, "audio/wav"), timestamps=timestamps, diarize=diarize)
    body, _ = encode_transcription(HEARING, request, {})
    assert {key: value for key, value in body.items() if key not in ("model", "input_audio")} == fields
    assert is_taken_by_the_sdk(components.STTRequest, body)


def test_a_prompt_goes_to_every_provider_that_has_one_beside_the_route_s_own_options():
    request = TranscriptionRequest(Media(WAV, "audio/wav"), prompt="Kheish, Gdańsk")
    route = {"options": {"groq": {"temperature": 0, "prompt": "old"}, "deepgram": {"smart_format": True}}}
    body, warnings = encode_transcription(HEARING, request, route)
    options = body["provider"]["options"]
    assert {slug for slug in options if options[slug].get("prompt") == "Kheish, Gdańsk"} == set(PROMPTED)
    assert options["groq"] == {"temperature": 0, "prompt": "Kheish, Gdańsk"}
    assert options["deepgram"] == {"smart_format": True}
    assert route["options"]["groq"]["prompt"] == "old"
    assert warnings == ()
    assert is_taken_by_the_sdk(components.STTRequest, body)


def test_a_prompt_that_may_reach_nobody_is_said():
    request = TranscriptionRequest(Media(WAV, "audio/wav"), prompt="Kheish")
    assert "prompt" in encode_transcription("google/chirp-3", request, {})[1][0]
    assert encode_transcription("~openai/whisper-latest", request, {})[1] == ()


def test_a_short_answer_is_a_transcript():
    body = {"text": " Hello, this is a test. ", "usage": {"seconds": 9.2, "cost": 0.000508}}
    assert decode_transcription(body, HEARING, "gen-1", ("told",)) == Transcript(
        "Hello, this is a test.", HEARING, None, 9.2, cost_usd=0.000508, generation_id="gen-1", warnings=("told",)
    )


def test_a_long_answer_has_segments_words_and_speakers():
    body = {
        "text": "Hello there.", "language": "english", "duration": 1.2,
        "segments": [{"start": 0, "end": 1.2, "text": " Hello there.", "speaker": 0, "speaker_label": "A"}],
        "words": [{"word": "Hello", "start": 0.0, "end": 0.5, "speaker": 0}, {"word": "(laughter)", "start": 0.5, "end": 1.2}],
        "usage": {"total_tokens": 113},
    }  # fmt: skip
    heard = decode_transcription(body, HEARING, None, ())
    assert heard.segments == (Segment(0.0, 1.2, "Hello there.", "A"),)
    assert heard.words == (Segment(0.0, 0.5, "Hello", "0"), Segment(0.5, 1.2, "(laughter)"))
    assert (heard.language, heard.duration_s, heard.cost_usd) == ("english", 1.2, None)


def test_a_segment_without_times_is_left_out():
    entries = [None, {}, {"start": 0, "end": None, "text": "x"}, {"start": True, "end": 1, "text": "x"},
               {"start": 0, "end": float("inf"), "text": "x"}, {"start": 0, "end": 1, "text": 7}]  # fmt: skip
    assert decode_transcription({"text": "x", "segments": entries, "words": "none"}, HEARING, None, ()).segments == ()


def test_silence_is_an_empty_transcript_and_no_failure():
    assert decode_transcription({"text": ""}, HEARING, None, ()).text == ""


def test_half_a_surrogate_pair_can_still_be_written():
    heard = decode_transcription(json.loads('{"text": "caf\\u00e9 \\ud83d"}'), HEARING, None, ())
    assert heard.text.encode() == "café ?".encode()


@pytest.mark.parametrize("body", [{}, {"text": None}, {"text": ["x"]}, [], None, "text"])
def test_an_answer_without_text_is_a_failure(body: Any):
    with pytest.raises(Unavailable, match="no transcript"):
        decode_transcription(body, HEARING, None, ())


# Anything


@given(json_values)
def test_no_answer_whatever_breaks_the_reading_of_it(body: Any):
    wraps = (body, {"data": body}, {"data": [body]}, {"text": "x", "segments": body, "words": [body], "usage": body})
    for wrapped in wraps:
        for read in (decode_pictures, cost_of, lambda value: decode_transcription(value, HEARING, None, ())):
            with suppress(Unavailable):
                read(wrapped)


@given(
    st.binary(max_size=64),
    st.text(max_size=24),
    st.sampled_from(["mp3", "pcm"]),
    st.sampled_from([None, "mp3", "wav", "pcm"]),
)
def test_no_sound_whatever_breaks_the_reading_of_it(body: bytes, content_type: str, wire: str, wanted: str | None):
    with suppress(Unavailable):
        media, _ = decode_speech(body, content_type, wire, wanted)
        assert media.data or not body
