"""Joining: every sample of every piece, nothing between them, nothing encoded again."""

from __future__ import annotations

import io
import itertools
import wave
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kheish_mcp.errors import MediaRejected
from kheish_mcp.formats import recognise
from kheish_mcp.formats.joining import join
from kheish_mcp.formats.mp3 import frames
from kheish_mcp.formats.wav import unwrap
from kheish_mcp.media import Media, Pcm
from tests.conftest import environment
from tests.hosts import client_of, daemon_of, refused
from tests.samples import WHOLE, sound, wav


def wavs(*pieces: bytes, rate: int = 8000, channels: int = 1) -> list[Media]:
    """Each piece as a WAV."""
    return [Media(wav(piece, rate, channels), "audio/wav", "speech.wav") for piece in pieces]


@given(
    st.lists(st.binary(min_size=4, max_size=60).map(lambda data: data[: len(data) // 4 * 4]), min_size=1, max_size=5)
)
def test_wavs_become_one_with_every_sample_in_order(pieces: list[bytes]):
    joined = join(wavs(*pieces, channels=2))
    with wave.open(io.BytesIO(joined.data)) as file:
        assert file.readframes(file.getnframes()) == b"".join(pieces)
        assert (file.getnchannels(), file.getframerate()) == (2, 8000)
    assert (joined.media_type, joined.name) == ("audio/wav", "speech.wav")


def test_half_a_sample_at_the_end_of_a_piece_shifts_no_other():
    first, second = wavs(b"\1\2\3\4", b"\5\6")
    ragged = bytearray(first.data + b"\x09")
    ragged[40:44] = b"\xff\xff\xff\xff"
    assert unwrap(join([Media(bytes(ragged), "audio/wav"), second]).data)[0] == b"\1\2\3\4\5\6"


def test_samples_become_one_run_and_keep_their_layout():
    pieces = [Media(data, "audio/pcm", "", Pcm(24_000)) for data in (b"\1\2", b"\3\4\5\6")]
    assert join(pieces) == Media(b"\1\2\3\4\5\6", "audio/pcm", "", Pcm(24_000))


@pytest.mark.parametrize("name", ["lame.mp3", "lame_stereo.mp3"])
def test_mp3s_become_one_chain_of_the_same_frames(name: str):
    piece = Media(sound(name), "audio/mpeg")
    tagged = Media(b"ID3\4\0\0\0\0\0\4abcd" + piece.data + b"TAG" + bytes(125), "audio/mpeg")
    joined = join([piece, tagged, piece])
    heard = [piece.data[f.start : f.start + f.length] for f in frames(piece.data) if not f.information]
    assert joined.data == b"".join(heard) * 3
    assert recognise(joined).duration_s == pytest.approx(3 * (recognise(piece).duration_s or 0), abs=1e-5)
    assert not any(mark in joined.data for mark in (b"ID3", b"TAG", b"Xing", b"Info"))


def test_no_frame_of_a_later_piece_looks_back_into_an_earlier_one():
    """The first frame that is heard of a real piece begins its own bits: main_data_begin, its first nine bits, is 0.

    MPEG-2 has eight bits there.
    """
    for name, bits in (("lame.mp3", 8), ("lame_stereo.mp3", 9)):
        data = sound(name)
        first = next(frame for frame in frames(data) if not frame.information)
        side = int.from_bytes(data[first.start + 4 : first.start + 6], "big")
        assert side >> 16 - bits == 0


@pytest.mark.parametrize("media_type", ["audio/opus", "audio/ogg"])
def test_ogg_files_become_links_of_a_chain_each_with_its_own_number(media_type: str):
    pieces = [Media(sound("opus.opus"), media_type), Media(sound("opus.opus"), media_type)]
    joined = join(pieces)
    assert recognise(joined).duration_s == 0.6
    assert len(joined.data) == 2 * len(pieces[0].data)
    apart, together = pages(pieces[0].data), pages(joined.data)
    assert [page for _, page in together] == 2 * [page for _, page in apart]
    assert [serial for serial, _ in together] == len(apart) * [b"\1\0\0\0"] + len(apart) * [b"\2\0\0\0"]


def pages(data: bytes) -> list[tuple[bytes, bytes]]:
    """Each page of an Ogg as its stream's number and the rest of it, without the checksum."""
    starts = [place for place in range(len(data)) if data.startswith(b"OggS\0", place)]
    whole = [data[start:stop] for start, stop in itertools.pairwise([*starts, len(data)])]
    return [(page[14:18], page[:14] + page[18:22] + page[26:]) for page in whole]


@pytest.mark.anyio
async def test_a_long_text_in_a_format_that_cannot_be_joined_is_refused_before_it_is_spoken(state_root: Path):
    async with daemon_of(environment(state_root)) as daemon, client_of(daemon) as client:
        error = await refused(client, "generate_audio", input="Wait. " * 1000, format="flac")
    assert error["message"] == "A text of 2 parts cannot be joined as flac."
    assert error["hint"] == "Ask for wav, mp3 or opus."


def test_one_piece_is_left_as_it_is():
    piece = Media(sound("opus.opus"), "audio/opus")
    assert join([piece]) is piece


@pytest.mark.parametrize(
    ("pieces", "problem"),
    [
        (wavs(b"\1\2", rate=8000) + wavs(b"\1\2", rate=16_000), "differ in rate"),
        (wavs(b"\1\2\3\4") + wavs(b"\1\2\3\4", channels=2), "differ in rate"),
        ([WHOLE["audio/mpeg"], Media(sound("lame_stereo.mp3"), "audio/mpeg")], "differ in rate"),
        ([WHOLE["audio/wav"], WHOLE["audio/mpeg"]], "cannot be joined"),
        ([WHOLE["audio/ogg"], Media(sound("vorbis.ogg")[:-5], "audio/ogg")], "cut short"),
        ([WHOLE["audio/flac"]] * 2, "audio/flac cannot be joined"),
        (
            [Media(b"\1\2", "audio/pcm", "", Pcm(8000)), Media(b"\1\2", "audio/pcm", "", Pcm(16_000))],
            "cannot be joined",
        ),
        ([WHOLE["audio/wav"], Media(WHOLE["audio/wav"].data[:60], "audio/wav")], "samples are missing"),
        ([WHOLE["audio/mpeg"], Media(sound("lame.mp3")[:-9], "audio/mpeg")], "cut short"),
    ],
)
def test_pieces_that_do_not_fit_are_refused(pieces: list[Media], problem: str):
    with pytest.raises(MediaRejected, match=problem) as refusal:
        join(pieces)
    assert refusal.value.hint
