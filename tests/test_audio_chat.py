"""Sound from models that chat: samples in pieces become a WAV with its words, a song is a file, and nothing else passes."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kheish_mcp.capabilities import Exchange, Generation, ModelCard, SpeechRequest
from kheish_mcp.drivers.http import Endpoint
from kheish_mcp.drivers.openrouter.driver import OpenRouter
from kheish_mcp.drivers.openrouter.sound import MUSIC, SPEECH, Manner, decode_sound, encode_sound, manner_of
from kheish_mcp.errors import InvalidArgument, KheishError, ResourceExhausted, Unavailable
from kheish_mcp.formats import recognise
from kheish_mcp.formats.wav import unwrap
from kheish_mcp.media import Pcm
from kheish_mcp.secret import Secret
from tests.conftest import CANARY
from tests.daemons import client_of, daemon_on
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import chat, faults, synthetic
from tests.emulators.provider.answers import Answer
from tests.emulators.provider.stream_faults import CHAT, is_event
from tests.hosts import call

pytestmark = pytest.mark.anyio
SPEAKS, PLAYS = "openai/gpt-audio", "google/lyria-3-pro-preview"
HELLO = SpeechRequest("Hello there, friend.")
SONG = SpeechRequest("A slow waltz for a music box.")


@pytest.fixture
async def driver(emulator: OpenRouterEmulator) -> AsyncGenerator[OpenRouter]:
    """A driver that has discovered nothing."""
    opened = OpenRouter(Endpoint("home", emulator.base_url, Secret(CANARY), {"zdr": True, "max_price": {"audio": 2}}))
    yield opened
    await opened.close()
    assert emulator.violations == []


async def speak(driver: OpenRouter, request: SpeechRequest = HELLO, model: str = SPEAKS) -> Generation:
    """One request for sound."""
    return await driver.generate_audio(model, request, Exchange())


# Which model is asked how


@pytest.mark.parametrize(
    ("model", "outputs", "manner"),
    [
        ("openai/gpt-audio", (), SPEECH),
        ("openai/gpt-audio-mini", (), SPEECH),
        ("openai/gpt-4o-audio-preview", (), SPEECH),
        ("~openai/gpt-audio-latest", (), SPEECH),
        ("google/lyria-3-clip-preview", (), MUSIC),
        ("openai/gpt-4o-mini-tts-2025-12-15", (), None),
        ("acme/singer", (), None),
        ("acme/singer", ("text", "audio"), SPEECH),
        ("google/lyria-4", ("audio",), MUSIC),
        ("openai/gpt-audio", ("speech",), None),
        ("openai/gpt-audio", ("text",), None),
    ],
)
def test_the_provider_s_list_decides_and_without_it_the_family(
    model: str, outputs: tuple[str, ...], manner: Manner | None
):
    assert manner_of(model, outputs) is manner


async def test_what_was_learned_of_a_model_decides(driver: OpenRouter, emulator: OpenRouterEmulator):
    driver.learn((ModelCard(SPEAKS, ("audio_generation",), outputs=("speech",)),))
    with pytest.raises(InvalidArgument, match="cannot be used with /audio/speech"):
        await speak(driver)
    driver.learn((ModelCard(SPEAKS, ("audio_generation",), voices=("verse",), outputs=("text", "audio")),))
    await speak(driver)
    assert emulator.requests[-1].body["audio"] == {"voice": "verse", "format": "pcm16"}


# Speech


async def test_samples_in_pieces_become_one_wav_with_its_words(driver: OpenRouter, emulator: OpenRouterEmulator):
    emulator.say("Hello there, friend.")
    made = await speak(driver)
    [bill] = emulator.ledger
    [media] = made.media
    assert unwrap(media.data) == (synthetic.tone(len("Hello there, friend.")), Pcm(24_000))
    assert recognise(media).media_type == "audio/wav"
    assert (made.transcript, made.warnings) == ("Hello there, friend.", ())
    assert (made.cost_usd, made.generation_id) == (pytest.approx(bill.cost), bill.generation_id)


async def test_the_words_are_asked_for_exactly_and_the_wishes_reach_the_provider(
    driver: OpenRouter, emulator: OpenRouterEmulator
):
    await speak(driver, replace(HELLO, voice="coral", instructions="Whisper."))
    body = emulator.requests[0].body
    system, user = body["messages"]
    assert (user["content"], user["role"], system["role"]) == (HELLO.text, "user", "system")
    assert "word for word" in system["content"]
    assert system["content"].endswith("Whisper.")
    assert (body["modalities"], body["audio"]) == (["text", "audio"], {"voice": "coral", "format": "pcm16"})
    assert body["provider"] == {"zdr": True, "max_price": {"audio": "2"}}


@pytest.mark.parametrize(("wanted", "media_type"), [("pcm", "audio/pcm"), ("wav", "audio/wav"), ("mp3", "audio/wav")])
async def test_each_format_is_given_or_said_to_be_another(
    driver: OpenRouter, emulator: OpenRouterEmulator, wanted: Any, media_type: str
):
    emulator.say(HELLO.text)
    made = await speak(driver, replace(HELLO, format=wanted))
    assert recognise(made.media[0]).media_type == media_type
    assert [warning for warning in made.warnings if "instead" in warning] == list(made.warnings)
    assert bool(made.warnings) is (wanted == "mp3")


async def test_a_model_that_strays_from_the_text_is_found_out(driver: OpenRouter, emulator: OpenRouterEmulator):
    emulator.say("HELLO there -- friend!", "Hi! How can I help you?")
    assert (await speak(driver)).warnings == ()
    made = await speak(driver)
    assert "did not keep to the text" in made.warnings[0]
    assert made.transcript == "Hi! How can I help you?"


async def test_a_speed_is_said_to_change_nothing(driver: OpenRouter, emulator: OpenRouterEmulator):
    emulator.say(HELLO.text, HELLO.text)
    assert "no speed" in (await speak(driver, replace(HELLO, speed=1.5))).warnings[0]
    assert (await speak(driver, replace(HELLO, speed=1.0))).warnings == ()


@pytest.mark.parametrize(("model", "wanted"), [(SPEAKS, "flac"), (SPEAKS, "opus"), (PLAYS, "pcm"), (PLAYS, "flac")])
async def test_a_format_that_no_such_model_gives_is_refused_before_it_costs(
    driver: OpenRouter, emulator: OpenRouterEmulator, model: str, wanted: Any
):
    with pytest.raises(InvalidArgument, match=f"gives no {wanted}") as caught:
        await speak(driver, replace(HELLO, format=wanted), model)
    assert "Ask for one of" in str(caught.value.hint)
    assert emulator.requests == []


async def test_a_voice_that_it_has_not_is_refused_in_the_provider_s_words(driver: OpenRouter):
    with pytest.raises(InvalidArgument, match="voice"):
        await speak(driver, replace(HELLO, voice="Puck"))


# Music


@pytest.mark.parametrize(("wanted", "media_type"), [(None, "audio/mpeg"), ("mp3", "audio/mpeg"), ("wav", "audio/wav")])
async def test_a_song_is_one_large_piece_and_its_words_are_kept(
    driver: OpenRouter, emulator: OpenRouterEmulator, wanted: Any, media_type: str
):
    emulator.say("[Verse] Turn, little box, turn.")
    made = await speak(driver, replace(SONG, format=wanted, instructions="No drums."), PLAYS)
    body = emulator.requests[0].body
    assert recognise(made.media[0]).media_type == media_type
    assert len(made.media[0].data) > 1 << 20
    assert (made.transcript, made.warnings) == ("[Verse] Turn, little box, turn.", ())
    assert body["messages"] == [{"role": "user", "content": f"{SONG.text}\n\nNo drums."}]
    assert body["audio"] == {"format": "wav" if wanted == "wav" else "mp3"}


async def test_a_song_s_description_is_never_split_and_a_speaker_takes_breath(driver: OpenRouter):
    assert driver.longest_speech(PLAYS) == 200_000
    assert driver.longest_speech(SPEAKS) == 2000
    assert driver.longest_speech("openai/gpt-4o-mini-tts-2025-12-15") == 4096


@pytest.mark.parametrize(
    ("data", "media_type"),
    [(synthetic.wav(b"\1\0" * 9), "audio/wav"), (b"ID3\4\0\0\0\0\0\0" + synthetic.mp3(2), "audio/mpeg")],
)
def test_a_file_s_own_bytes_say_what_it_is(data: bytes, media_type: str):
    media, _ = decode_sound(MUSIC, data, SONG, "")
    assert recognise(media).media_type == media_type


# What fails


def sounding(change: Callable[[int, str], str]) -> faults.Fault:
    """A stream whose pieces of sound, counted from 0, are something else; an empty one is left out."""

    def spoil(answer: Answer, _origins: faults.Origins) -> Answer:
        bodies = [json.loads(piece.removeprefix(b"data: ")) if is_event(piece) else piece for piece in answer.events]
        held = [
            body["choices"][0]["delta"]["audio"]
            for body in bodies
            if isinstance(body, dict) and '"data"' in json.dumps(body)
        ]
        for at, audio in enumerate(held):
            audio["data"] = change(at, audio["data"])
        pieces = (
            body if isinstance(body, bytes) else b"data: " + json.dumps(body).encode() + b"\n\n" for body in bodies
        )
        return replace(answer, events=tuple(pieces))

    return faults.Fault("other sound", spoil=spoil, paths=CHAT)


async def test_a_piece_that_is_no_base64_is_missed_and_the_rest_is_kept(
    driver: OpenRouter, emulator: OpenRouterEmulator
):
    emulator.say(HELLO.text)
    emulator.fail_next(sounding(lambda at, data: "@@" if at == 1 else data))
    made = await speak(driver)
    samples, _ = unwrap(made.media[0].data)
    whole = synthetic.tone(len(HELLO.text))
    assert samples == whole[:4802] + whole[9604:]
    assert ["is missing" in warning for warning in made.warnings] == [True]


async def test_samples_that_end_within_one_are_cut_and_said(driver: OpenRouter, emulator: OpenRouterEmulator):
    emulator.say(HELLO.text)
    emulator.fail_next(sounding(lambda at, data: data if at else base64.b64encode(b"\1\0\2").decode()))
    made = await speak(driver)
    assert len(unwrap(made.media[0].data)[0]) % 2 == 0
    assert "within a sample" in made.warnings[0]


async def test_words_without_sound_are_no_result(driver: OpenRouter, emulator: OpenRouterEmulator):
    emulator.say("I would rather write.")
    emulator.fail_next(sounding(lambda _at, _data: ""))
    with pytest.raises(Unavailable, match="words instead of sound") as caught:
        await speak(driver)
    assert caught.value.details["possibly_billed"] is True
    assert "rather write" not in json.dumps(caught.value.as_json())


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(faults.stream_error(429), ResourceExhausted), (faults.no_done(), Unavailable), (faults.cut_body(), Unavailable)],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_half_a_sound_is_a_failure_that_may_have_been_billed(
    driver: OpenRouter, emulator: OpenRouterEmulator, fault: faults.Fault, kind: type[KheishError]
):
    emulator.say(HELLO.text)
    emulator.fail_next(fault)
    with pytest.raises(kind) as caught:
        await speak(driver)
    assert caught.value.details["possibly_billed"] is True
    [came] = caught.value.remains
    assert synthetic.tone(len(HELLO.text)).startswith(came)


def test_headerless_bytes_of_a_whole_file_are_not_wrapped_again():
    sound = synthetic.wav(b"\1\0" * 9)
    assert decode_sound(SPEECH, sound, HELLO, "")[0].data == sound


def test_bodies_of_a_speaker_and_of_a_player():
    assert "audio" in encode_sound(SPEECH, SPEAKS, HELLO, {})
    assert encode_sound(MUSIC, PLAYS, replace(SONG, voice="alto"), {})["audio"] == {"voice": "alto", "format": "mp3"}


# The whole way


async def test_the_tool_keeps_the_sound_with_what_was_said(state_root: Path, emulator: OpenRouterEmulator):
    emulator.say("Good evening.", chat.Turn("Turn, little box."))
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        spoken = await call(client, "generate_audio", input="Good morning.", model=SPEAKS)
        [asset] = spoken["assets"]
        assert (asset["media_type"], spoken["model"], spoken["transcript"]) == ("audio/wav", SPEAKS, "Good evening.")
        assert spoken["cost_usd"] == pytest.approx(emulator.ledger[0].cost)
        text = await client.read_resource(f"asset://{asset['asset_id']}/text")
        assert text.contents[0].text == "Good evening."  # type: ignore[union-attr]
        song = await call(client, "generate_audio", input="A waltz.", model=f"openrouter/{PLAYS}")
        assert (song["assets"][0]["media_type"], song["transcript"]) == ("audio/mpeg", "Turn, little box.")


async def test_a_long_text_is_spoken_in_breaths_and_joined(state_root: Path, emulator: OpenRouterEmulator):
    text = " ".join(f"This is sentence number {at} of many." for at in range(62))
    emulator.say(*[lambda request: request["messages"][-1]["content"]] * 3)
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        spoken = await call(client, "generate_audio", input=text, model=SPEAKS, preview="none")
    assert spoken["transcript"] == text
    assert len(emulator.ledger) == 2
    seconds = sum(len(synthetic.tone(len(seen.body["messages"][-1]["content"]))) for seen in emulator.requests) / 48000
    assert spoken["assets"][0]["duration_s"] == pytest.approx(seconds)
