"""Sounds: WAV against the standard library, the coded ones against their encoders' own counts, and walkers of our own."""

from __future__ import annotations

import io
import struct
import wave
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kheish_mcp.errors import MediaRejected
from kheish_mcp.formats import recognise
from kheish_mcp.formats.flac import _crc
from kheish_mcp.formats.mp3 import KBITS_1, KBITS_2, RATES, frames
from kheish_mcp.formats.ogg import _checksum
from kheish_mcp.formats.pcm import in_our_order, with_header
from kheish_mcp.formats.wav import layout_of, unwrap, wrap
from kheish_mcp.media import Facts, Media, Pcm
from tests.samples import sound, wav

RATE_OF_WAV = st.sampled_from([8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000])


def facts_of(data: bytes, declared: str = "") -> Facts:
    """What is said of a sound."""
    return recognise(Media(data, declared))


def refused(data: bytes, problem: str) -> None:
    """Recognition refuses, for this reason."""
    with pytest.raises(MediaRejected, match=problem):
        recognise(Media(data, ""))


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a RIFF file."""
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) & 1)


def riff(*chunks: bytes) -> bytes:
    """A WAV of chunks."""
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def fmt(
    code: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16, block: int | None = None, more: bytes = b""
) -> bytes:
    """A format chunk."""
    block = channels * bits // 8 if block is None else block
    return chunk(b"fmt ", struct.pack("<HHIIHH", code, channels, rate, rate * block, block, bits) + more)


# --- WAV and headerless samples -------------------------------------------------------------------------------------


@given(st.binary(min_size=24, max_size=400), RATE_OF_WAV, st.integers(1, 6), st.sampled_from([1, 2, 3, 4]))
def test_a_wav_says_what_the_standard_library_says(samples: bytes, rate: int, channels: int, width: int):
    samples = samples[: len(samples) // (channels * width) * channels * width]
    data = wav(samples, rate, channels, width)
    with wave.open(io.BytesIO(data)) as file:
        seen, seconds = file.readframes(file.getnframes()), file.getnframes() / file.getframerate()
    assert facts_of(data).duration_s == pytest.approx(seconds, abs=1e-6)
    assert unwrap(data) == (seen, Pcm(rate, channels, width * 8))


@given(st.binary(min_size=24, max_size=400), RATE_OF_WAV, st.integers(1, 6), st.sampled_from([8, 16, 24, 32]))
def test_what_is_wrapped_is_a_wav_to_the_standard_library_and_comes_out_again(
    samples: bytes, rate: int, channels: int, bits: int
):
    pcm = Pcm(rate, channels, bits)
    samples = samples[: len(samples) // pcm.frame_bytes * pcm.frame_bytes]
    data = wrap(samples, pcm)
    assert len(data) == 8 + struct.unpack_from("<I", data, 4)[0]
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth() * 8) == (rate, channels, bits)
        assert file.readframes(file.getnframes()) == samples
    assert unwrap(data) == (samples, pcm)


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF])
def test_a_wav_that_was_streamed_goes_to_its_end(length: int):
    data = bytearray(wav(bytes(range(40))))
    data[40:44] = struct.pack("<I", length)
    assert unwrap(bytes(data))[0] == bytes(range(40))
    assert unwrap(bytes(data) + b"\1")[0] == bytes(range(40)), "half a sample is none"


def test_a_wav_may_hold_more_than_its_sound():
    odd = chunk(b"LIST", b"odd")
    data = riff(odd, fmt(channels=2), odd, chunk(b"data", bytes(8)), odd)
    assert facts_of(data).duration_s == pytest.approx(2 / 8000, abs=1e-6)
    assert unwrap(data) == (bytes(8), Pcm(8000, 2))


GUID = b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"


def extensible(code: int) -> bytes:
    """A WAV whose format stands in its extension."""
    more = struct.pack("<HHIH", 22, 16, 4, code) + GUID
    return riff(fmt(0xFFFE, more=more), chunk(b"data", bytes(16)))


def test_an_extensible_wav_is_what_its_extension_says():
    assert unwrap(extensible(1)) == (bytes(16), Pcm(8000))
    with pytest.raises(MediaRejected, match="plain samples"):
        unwrap(extensible(3))
    assert facts_of(extensible(3)).duration_s == 0.001


def test_a_coded_wav_is_kept_and_not_taken_for_samples():
    adpcm = riff(fmt(2, bits=4, block=256), chunk(b"data", bytes(1024)))
    assert facts_of(adpcm).duration_s == pytest.approx(1024 / (8000 * 256), abs=1e-6)
    with pytest.raises(MediaRejected, match="plain samples"):
        unwrap(adpcm)


def test_twelve_bits_lie_in_two_bytes():
    data = riff(fmt(bits=12, block=2), chunk(b"data", bytes(16)))
    assert layout_of(data).pcm == Pcm(8000, 1, 16)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (riff(fmt(), chunk(b"data", b"")), "no samples"),
        (riff(fmt()), "no samples"),
        (riff(chunk(b"data", bytes(8))), "format is missing"),
        (riff(fmt(channels=0), chunk(b"data", bytes(8))), "contradicts itself"),
        (riff(fmt(rate=0), chunk(b"data", bytes(8))), "contradicts itself"),
        (riff(fmt(bits=24, block=2), chunk(b"data", bytes(8))), "contradicts itself"),
        (riff(fmt(channels=2, block=3), chunk(b"data", bytes(8))), "contradicts itself"),
        (riff(fmt(), chunk(b"data", bytes(8)))[:-1], "samples are missing"),
        (riff(b"LIST\xff\xff\xff\x7f" + bytes(8)), "chunk is cut short"),
        (riff(*[chunk(b"junk", b"")] * 200_001), "more parts"),
        (b"RIFX" + wav()[4:], "no known media type|UTF-8|control"),
    ],
)
def test_a_wav_that_does_not_add_up_is_refused(data: bytes, problem: str):
    refused(data, problem)


@given(st.integers(8000, 48_000), st.integers(1, 4), st.integers(1, 50))
def test_headerless_samples_keep_their_layout(rate: int, channels: int, count: int):
    for media_type, bits in (("audio/pcm", 16), ("audio/l16", 16), ("audio/l24", 24)):
        data = bytes(count * channels * bits // 8)
        facts = facts_of(data, f"{media_type};rate={rate};channels={channels}")
        assert facts.pcm == Pcm(rate, channels, bits)
        assert facts.duration_s == pytest.approx(count / rate, abs=1e-6)


@pytest.mark.parametrize(
    "declared", ["audio/pcm;rate=8000;channels=2", "audio/l16;rate=8000;channels=2", "audio/l24;rate=8000"]
)
def test_half_a_sample_is_refused(declared: str):
    with pytest.raises(MediaRejected, match="whole sample"):
        facts_of(bytes(13), declared)


@given(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1))
def test_samples_in_network_order_are_turned_and_others_left(values: list[int]):
    big, little = struct.pack(f">{len(values)}h", *values), struct.pack(f"<{len(values)}h", *values)
    assert in_our_order(Media(big, "audio/l16", "", Pcm(8000))) == little
    assert in_our_order(Media(little, "audio/pcm", "", Pcm(8000))) == little
    wide = b"".join(value.to_bytes(3, "big", signed=True) for value in values)
    turned = in_our_order(Media(wide, "audio/l24", "", Pcm(8000, 1, 24)))
    assert [int.from_bytes(turned[n : n + 3], "little", signed=True) for n in range(0, len(turned), 3)] == values


def test_samples_get_a_header_that_says_their_layout_and_files_keep_theirs():
    turned = with_header(Media(b"\1\2\3\4\5\6", "audio/l24", "", Pcm(48_000, 1, 24)))
    assert unwrap(turned) == (b"\3\2\1\6\5\4", Pcm(48_000, 1, 24))
    assert with_header(Media(sound("lame.mp3"), "audio/mpeg")) == sound("lame.mp3")
    with pytest.raises(MediaRejected, match="need their rate"):
        with_header(Media(bytes(4), "audio/pcm"))


# --- MP3 and AAC ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "packets", "samples", "rate"), [("lame.mp3", 15, 576, 24_000), ("lame_stereo.mp3", 9, 1152, 44_100)]
)
def test_real_frames_are_those_that_libavformat_counts(name: str, packets: int, samples: int, rate: int):
    data = sound(name)
    heard = [frame for frame in frames(data) if not frame.information]
    assert len(heard) == packets
    assert {(frame.samples, frame.rate) for frame in heard} == {(samples, rate)}
    assert facts_of(data).duration_s == pytest.approx(packets * samples / rate, abs=1e-6)
    chain = [frame.start for frame in frames(data)]
    assert all(data[place] == 0xFF and data[place + 1] & 0xE0 == 0xE0 for place in chain)
    assert sum(frame.length for frame in frames(data)) == len(data) - chain[0]


def mp3_frame(version: int, rate: int, kbits: int, padding: int, mode: int) -> tuple[bytes, float]:
    """A frame of ISO 11172-3 or 13818-3 with its seconds, its length by the standard's own formula."""
    hertz = RATES[version][rate]
    bitrate = (KBITS_1 if version == 3 else KBITS_2)[kbits] * 1000
    length = (144 if version == 3 else 72) * bitrate // hertz + padding
    head = 0xFFE00000 | version << 19 | 1 << 17 | 1 << 16 | kbits << 12 | rate << 10 | padding << 9 | mode << 6
    return head.to_bytes(4, "big").ljust(length, b"\0"), (1152 if version == 3 else 576) / hertz


@given(
    st.sampled_from([0, 2, 3]), st.integers(0, 2), st.integers(0, 3),
    st.lists(st.tuples(st.integers(1, 14), st.integers(0, 1)), min_size=2, max_size=8),
)  # fmt: skip
def test_every_layer_three_frame_is_walked(version: int, rate: int, mode: int, shapes: list[tuple[int, int]]):
    made = [mp3_frame(version, rate, kbits, padding, mode) for kbits, padding in shapes]
    data = b"".join(frame for frame, _ in made)
    walked = list(frames(data))
    assert [frame.length for frame in walked] == [len(frame) for frame, _ in made]
    assert {frame.channels for frame in walked} == {1 if mode == 3 else 2}
    assert facts_of(data).duration_s == pytest.approx(sum(seconds for _, seconds in made), abs=1e-6)


ID3 = b"ID3\4\0\0\0\0\1\0" + bytes(128)


@pytest.mark.parametrize("name", ["lame.mp3", "adts.aac", "flac.flac"])
@pytest.mark.parametrize("tagged", [
    lambda data: ID3 + data, lambda data: ID3 * 2 + bytes(77) + data, lambda data: data + b"TAG" + bytes(125),
], ids=["before", "twice and padded", "behind"])  # fmt: skip
def test_tags_around_a_sound_are_passed_over(name: str, tagged: Callable[[bytes], bytes]):
    assert facts_of(tagged(sound(name))) == facts_of(sound(name))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (sound("lame.mp3")[:-1], "last frame is cut short"),
        (sound("lame.mp3")[:700] + b"\1\2\3" + sound("lame.mp3")[700:], "not where it should be"),
        (mp3_frame(3, 0, 9, 0, 0)[0][:36] + b"Info" + mp3_frame(3, 0, 9, 0, 0)[0][40:], "no sound"),
        (sound("adts.aac")[:-1], "last frame is cut short"),
        (sound("adts.aac")[:-300] + b"x" + sound("adts.aac")[-300:], "not where it should be"),
    ],
)
def test_a_broken_chain_of_frames_is_refused(data: bytes, problem: str):
    refused(data, problem)


def test_quiet_samples_are_not_taken_for_frames():
    """-5 in network order looks like a frame's first two bytes."""
    quiet = struct.pack(">100H", *[0xFFFB, 0x9064] * 50)
    assert facts_of(quiet, "audio/l16;rate=8000").media_type == "audio/l16"


def test_an_adts_chain_gives_its_seconds():
    assert facts_of(sound("adts.aac")).duration_s == pytest.approx(9 * 1024 / 24_000, abs=1e-6)


# --- FLAC -----------------------------------------------------------------------------------------------------------


def flac(blocks: int = 3, size: int = 256, rate: int = 8000, total: int | None = None, variable: bool = False) -> bytes:
    """A mono stream of frames that hold their samples as they are (RFC 9639, 9.2.3)."""
    fields = rate << 44 | 0 << 41 | 15 << 36 | (blocks * size if total is None else total)
    info = struct.pack(">HH", size, size) + bytes(6) + fields.to_bytes(8, "big") + bytes(16)
    data = b"fLaC\0" + len(info).to_bytes(3, "big") + info + b"\x81\0\0\4" + bytes(4)
    for number in range(blocks):
        coded = chr(number * size if variable else number).encode()
        head = bytes((0xFF, 0xF8 | variable, 0x70, 0x08)) + coded + struct.pack(">H", size - 1)
        frame = head + bytes((_crc(head, 0x07, 8), 0x02)) + struct.pack(f">{size}h", *range(size))
        data += frame + _crc(frame, 0x8005, 16).to_bytes(2, "big")
    return data


@pytest.mark.parametrize("variable", [False, True])
@pytest.mark.parametrize(("blocks", "size"), [(1, 16), (2, 4096), (40, 192)])
def test_a_flac_is_as_long_as_its_last_frame_says(blocks: int, size: int, variable: bool):
    for total in (None, 0):
        data = flac(blocks, size, total=total, variable=variable)
        assert facts_of(data).duration_s == pytest.approx(blocks * size / 8000, abs=1e-6)


def test_a_flac_of_libflac_is_read():
    assert facts_of(sound("flac.flac")).duration_s == 0.2


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (flac()[:-1], "last frame is cut short"),
        (flac()[: -(256 * 2 + 11)], "frames are missing"),
        (flac()[:-9] + b"\1" + flac()[-8:], "last frame is cut short"),
        (flac(rate=0), "frames are missing"),
        (flac()[:50], "no frame|block is missing"),
        (b"fLaC" + b"\1\0\0\0" * 20, "description"),
        (b"fLaC" + bytes(4), "description"),
        (flac()[:50] + b"\xff\xf8" * 3_000_000, "last frame is cut short"),
    ],
)
def test_a_flac_that_is_not_whole_is_refused(data: bytes, problem: str):
    refused(data, problem)


# --- Ogg ------------------------------------------------------------------------------------------------------------


def page(body: bytes, *, flags: int = 0, granule: int = 0, serial: int = 7) -> bytes:
    """A page with a right checksum."""
    head = b"OggS\0" + bytes([flags]) + struct.pack("<qII", granule, serial, 0)
    segments = bytes([1, len(body)])
    crc = _checksum(head + bytes(4) + segments + body)
    return head + struct.pack("<I", crc) + segments + body


OPUS = b"OpusHead\1\1" + struct.pack("<HIhB", 312, 16_000, 0, 0)


def test_ogg_streams_of_real_encoders_are_as_long_as_what_they_decode_to():
    assert facts_of(sound("opus.opus")).duration_s == 0.3
    assert facts_of(sound("vorbis.ogg")).duration_s == 0.2
    assert facts_of(sound("opus.opus") + sound("vorbis.ogg")).duration_s == 0.5, "chained"


@pytest.mark.parametrize(
    ("head", "granule", "seconds"),
    [
        (OPUS, 48_312, 1.0),
        (b"\x01vorbis" + bytes(5) + struct.pack("<I", 8000) + bytes(14), 4000, 0.5),
        (b"\x7fFLAC\1\0\0\1fLaC\0\0\0\x22" + bytes(10) + (8000 << 4).to_bytes(3, "big") + bytes(21), 4000, 0.5),
        (b"Speex   " + bytes(28) + struct.pack("<I", 8000) + bytes(40), 4000, 0.5),
    ],
)
def test_every_kind_of_sound_in_an_ogg_is_measured_in_its_own_clock(head: bytes, granule: int, seconds: float):
    data = page(head, flags=2) + page(b"x", granule=-1) + page(b"y", flags=4, granule=granule)
    assert facts_of(data, "audio/ogg").duration_s == seconds


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (page(b"\x80theora" + bytes(40), flags=2), "something else than sound"),
        (page(OPUS, flags=2) + page(b"x", granule=9999), "no end"),
        (page(OPUS, flags=2) + page(b"x", flags=4, granule=300), "no sound"),
        (page(OPUS[:9], flags=2) + page(b"x", flags=4, granule=9999), "description is cut short"),
        (page(b"x", granule=1), "no beginning"),
        (sound("vorbis.ogg")[:-1], "page is cut short"),
        (sound("vorbis.ogg") + b"OggS", "page is cut short"),
    ],
)
def test_an_ogg_that_is_no_whole_sound_is_refused(data: bytes, problem: str):
    refused(data, problem)


# --- WebM and MP4 ---------------------------------------------------------------------------------------------------


def element(name: int, *content: bytes, unknown: bool = False) -> bytes:
    """An EBML element; of unknown length, as a live recorder leaves it."""
    body = b"".join(content)
    length = b"\x01" + b"\xff" * 7 if unknown else (1 << 56 | len(body)).to_bytes(8, "big")
    return name.to_bytes((name.bit_length() + 7) // 8, "big") + length + body


HEADER = b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm"


def webm(*kinds: int, duration: bytes = b"", scale: bytes = b"", clusters: int = 1, unknown: bool = False) -> bytes:
    """A segment with a track of each kind (1: pictures, 2: sound) and clusters of a block each, one second apart."""
    tracks = element(0x1654AE6B, *[element(0xAE, element(0x83, bytes([kind]))) for kind in kinds])
    fields = (element(0x2AD7B1, scale) if scale else b"") + (element(0x4489, duration) if duration else b"")
    spoken = [
        element(
            0x1F43B675, element(0xE7, struct.pack(">H", 1000 * n)), element(0xA3, b"\x81\0\x14\x80x"), unknown=unknown
        )
        for n in range(clusters)
    ]
    return HEADER + element(0x18538067, element(0x1549A966, fields), tracks, *spoken, unknown=unknown)


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (sound("opus.webm"), 0.308),
        (sound("live.webm"), 0.281),
        (webm(2, duration=struct.pack(">f", 1500.0)), 1.5),
        (webm(2, duration=struct.pack(">d", 15.0), scale=(10**8).to_bytes(4, "big")), 1.5),
        (webm(2, 2, clusters=3), 2.02),
        (webm(2, clusters=3, unknown=True), 2.02),
        (webm(2, duration=struct.pack(">d", float("nan"))), None),
        (webm(2, duration=struct.pack(">d", float("inf"))), None),
        (webm(2, duration=struct.pack(">d", -4.0)), None),
        (webm(2, duration=struct.pack(">d", 1e300), scale=b"\xff" * 400), None),
        (webm(2, duration=b"\1\2\3"), 0.02),
    ],
)
def test_a_webm_gives_the_seconds_of_its_header_or_of_its_last_block(data: bytes, seconds: float | None):
    facts = facts_of(data)
    assert (facts.media_type, facts.duration_s) == ("audio/webm", seconds)


def test_an_hour_of_live_clusters_is_walked_without_going_deeper_each_time():
    nested = webm(2, unknown=True) + element(0x1F43B675, element(0xE7, b"\1"), unknown=True) * 20_000
    assert facts_of(nested).duration_s == 0.02


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (webm(1, 2), "holds a video"),
        (webm(1), "no sound"),
        (webm(), "no sound"),
        (webm(2, clusters=0), "no sound"),
        (HEADER, "segment is missing"),
        (webm(2)[:-1], "cut short"),
        (HEADER + b"\x00", "malformed"),
        (HEADER + element(0x18538067, b"\xec\x80" * 200_001), "more parts"),
    ],
)
def test_a_webm_without_sound_or_with_pictures_is_refused(data: bytes, problem: str):
    refused(data, problem)


def box(name: bytes, *content: bytes) -> bytes:
    """A box."""
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + name + body


FTYP = box(b"ftyp", b"isom\0\0\2\0isommp41")


def movie(*kinds: bytes, header: bytes = b"\0" * 12 + struct.pack(">II", 1000, 2500)) -> bytes:
    """A movie with a track of each kind."""
    tracks = [box(b"trak", box(b"mdia", box(b"hdlr", bytes(8) + kind + bytes(12)))) for kind in kinds]
    return box(b"moov", box(b"mvhd", header), *tracks)


DATA = box(b"mdat", b"sound")


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (sound("aac.m4a"), 0.3),
        (sound("fragmented.mp4"), 0.342667),
        (FTYP + movie(b"soun") + DATA, 2.5),
        (FTYP + DATA + movie(b"soun", b"text"), 2.5),
        (FTYP + movie(b"soun", header=b"\1" + bytes(19) + struct.pack(">IQ", 1000, 2**33)) + DATA, 2**33 / 1000),
        (FTYP + movie(b"soun", header=bytes(12) + struct.pack(">I", 1000) + b"\xff" * 4) + DATA, None),
        (FTYP + movie(b"soun", header=bytes(12)) + DATA, None),
        (FTYP + movie(b"soun") + struct.pack(">I4sQ", 1, b"mdat", 21) + b"sound", 2.5),
        (FTYP + movie(b"soun") + struct.pack(">I4s", 0, b"mdat") + b"to the end", 2.5),
    ],
)
def test_an_mp4_gives_the_seconds_of_its_header(data: bytes, seconds: float | None):
    facts = facts_of(data)
    assert (facts.media_type, facts.duration_s) == ("audio/mp4", seconds)


def fragment(*runs: bytes, begin: bytes = b"", usual: bytes = bytes(8)) -> bytes:
    """A fragment of runs."""
    start = box(b"tfdt", begin) if begin else b""
    return box(b"moof", box(b"traf", box(b"tfhd", usual), start, *[box(b"trun", run) for run in runs]))


def fragmented(*fragments: bytes, default: int = 0) -> bytes:
    """A movie without a length of its own, at 1000 units a second."""
    head = box(b"mdhd", bytes(12) + struct.pack(">I", 1000) + bytes(8))
    track = box(b"trak", box(b"mdia", head, box(b"hdlr", bytes(8) + b"soun" + bytes(12))))
    extends = box(b"mvex", box(b"trex", bytes(12) + struct.pack(">I", default) + bytes(8)))
    return FTYP + box(b"moov", box(b"mvhd", bytes(20)), track, extends) + b"".join(fragments) + DATA


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (fragmented(fragment(struct.pack(">II", 0, 5)), fragment(struct.pack(">II", 0, 3)), default=20), 0.16),
        (fragmented(fragment(struct.pack(">II", 1, 5) + bytes(4), usual=struct.pack(">III", 8, 1, 30))), 0.15),
        (fragmented(fragment(struct.pack(">IIQI", 8, 1, 0, 7), usual=struct.pack(">IIQII", 0xB, 1, 0, 1, 30))), 0.03),
        (fragmented(fragment(struct.pack(">6I", 0x305, 2, 0, 0, 40, 9) + struct.pack(">2I", 50, 9))), 0.09),
        (fragmented(fragment(struct.pack(">II", 0, 5), begin=struct.pack(">II", 0, 900)), default=20), 1.0),
        (fragmented(fragment(struct.pack(">II", 0, 5), begin=struct.pack(">IQ", 1 << 24, 900)), default=20), 1.0),
        (fragmented(fragment(struct.pack(">II", 0x100, 2**32 - 1))), None),
        (fragmented(fragment(b"")), None),
        (fragmented(), None),
    ],
)
def test_fragments_are_as_long_as_their_samples_together(data: bytes, seconds: float | None):
    assert facts_of(data).duration_s == seconds


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (FTYP + movie(b"vide", b"soun") + DATA, "holds a video"),
        (FTYP + movie(b"text") + DATA, "no sound"),
        (FTYP + movie(b"soun"), "no sound"),
        (FTYP + movie(b"soun") + box(b"mdat"), "no sound"),
        (FTYP + DATA, "no sound"),
        (FTYP + movie(b"soun") + DATA[:-1], "cut short"),
        (FTYP + b"\0\0\0\4free", "cut short"),
        (FTYP + box(b"free") * 200_001, "more parts"),
    ],
)
def test_an_mp4_without_sound_or_with_pictures_is_refused(data: bytes, problem: str):
    refused(data, problem)


def test_a_sound_keeps_its_other_name_and_its_facts():
    for name, declared, extension in [
        ("aac.m4a", "audio/m4a", "m4a"),
        ("lame.mp3", "audio/mpga", "mp3"),
        ("opus.opus", "audio/ogg", "ogg"),
    ]:
        facts = facts_of(sound(name), declared)
        assert facts == replace(facts_of(sound(name)), media_type=declared, extension=extension)
