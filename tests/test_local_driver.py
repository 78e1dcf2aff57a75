"""The route that needs nothing set up, against the real libraries: it speaks, and it hears what it spoke."""

from __future__ import annotations

import io
import wave
from collections.abc import AsyncIterator

import pytest

from kheish_mcp.capabilities import Exchange, SpeechRequest, TranscriptionRequest
from kheish_mcp.cli.demo import SENTENCE, SPEED, VOICE
from kheish_mcp.drivers.local import VOICES, Local
from kheish_mcp.errors import InvalidArgument
from kheish_mcp.workers import Workers

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
