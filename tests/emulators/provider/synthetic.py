"""Real pictures and sounds: every one valid, and no two pictures alike unless asked."""

from __future__ import annotations

import io
import math
import random
import struct
import wave
import zlib
from functools import cache, lru_cache

from PIL import Image

RATE = 24000
SECONDS_PER_CHARACTER = 0.06
MP3_FRAME_SECONDS = 576 / RATE
# MPEG-2 layer III, 64 kbit/s, 24 kHz, no padding, mono; the frame is 72 * bitrate / rate = 192 bytes long.
MP3_FRAME = bytes((0xFF, 0xF3, 0x84, 0xC4)).ljust(192, b"\0")
TIERS = {"512": 512, "768": 768, "1K": 1024, "1.5K": 1536, "2K": 2048, "4K": 4096}
SCRIPT_SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><script>alert(1)</script></svg>'


def measure(size: str | None, resolution: str | None, aspect: str | None) -> tuple[int, int]:
    """Width and height in pixels for what was asked; 1024 by 1024 when nothing was."""
    if size and "x" in size:
        width, _, height = size.partition("x")
        return int(width), int(height)
    base = TIERS[size or resolution or "1K"]
    across, _, down = (aspect if aspect and aspect != "auto" else "1:1").partition(":")
    ratio = float(across) / float(down)
    return max(1, round(base * math.sqrt(ratio))), max(1, round(base / math.sqrt(ratio)))


@lru_cache(maxsize=16)
def picture(seed: int, size: tuple[int, int], form: str, least: int = 0, clear: bool = False) -> bytes:
    """A picture of seeded blocks; noise rows are added until it weighs about `least` bytes."""
    if form == "svg":
        return drawing(seed, size)
    mode = "RGBA" if clear and form != "jpeg" else "RGB"
    noise = random.Random(seed)
    blocks = Image.frombytes(mode, (16, 16), noise.randbytes(256 * len(mode)))
    image = blocks.resize(size, Image.Resampling.NEAREST)
    width, height = size
    rows = min(height, math.ceil(least / (width * len(mode)))) if least else 0
    if rows:
        image.paste(Image.frombytes(mode, (width, rows), noise.randbytes(width * rows * len(mode))), (0, 0))
    return encode(image, form, heavy=bool(rows), least=least)


def encode(image: Image.Image, form: str, heavy: bool, least: int) -> bytes:
    """The file's bytes; a PNG that is still too light gets a private chunk of noise."""
    out = io.BytesIO()
    options = {"png": {"compress_level": 1}, "jpeg": {"quality": 100 if heavy else 85}, "webp": {"lossless": heavy}}
    image.save(out, form.upper(), **options[form])
    made = out.getvalue()
    if form == "png" and len(made) < least:
        return made[:33] + chunk(b"noIs", random.Random(least).randbytes(least - len(made))) + made[33:]
    return made


def drawing(seed: int, size: tuple[int, int]) -> bytes:
    """An SVG with one seeded shape."""
    width, height = size
    fill = f"#{random.Random(seed).getrandbits(24):06x}"
    shape = f'<circle id="c{seed}" cx="{width / 2}" cy="{height / 2}" r="{width / 4}" fill="{fill}"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">{shape}</svg>'.encode()


def chunk(name: bytes, data: bytes) -> bytes:
    """One PNG chunk."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@cache
def bomb(side: int = 30000) -> bytes:
    """A valid one-bit PNG that unpacks to `side` squared pixels."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@cache
def gzip_spaces(megabytes: int = 256) -> bytes:
    """A small gzip stream that unpacks to so many megabytes of spaces."""
    block, packer, checksum = b" " * (1 << 20), zlib.compressobj(9, zlib.DEFLATED, -15), 0
    # After a full flush nothing refers back, so that one packed megabyte may be repeated.
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(megabytes):
        checksum = zlib.crc32(block, checksum)
    tail = packer.flush() + struct.pack("<II", checksum, megabytes << 20)
    return b"\x1f\x8b\x08" + bytes(7) + packed * megabytes + tail


@cache
def tone(characters: int, pitch: int = 440) -> bytes:
    """A sine as s16le mono at 24 kHz, 60 ms a character."""
    period = [round(9000 * math.sin(math.tau * pitch * step / RATE)) for step in range(RATE // 10)]
    samples = max(1, round(characters * SECONDS_PER_CHARACTER * RATE))
    loop = struct.pack(f"<{len(period)}h", *period)
    return (loop * (samples // len(period) + 1))[: samples * 2]


def mp3(characters: int) -> bytes:
    """Silent MPEG-2 layer III frames, 60 ms a character."""
    return MP3_FRAME * max(2, math.ceil(characters * SECONDS_PER_CHARACTER / MP3_FRAME_SECONDS))


def wav(pcm: bytes, rate: int = RATE) -> bytes:
    """The samples in a RIFF file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm)
    return out.getvalue()


def duration(data: bytes) -> float:
    """The seconds of a WAV; for any other sound a guess at 64 kbit/s."""
    if not data.startswith(b"RIFF"):
        return max(0.1, len(data) / 8000)
    with wave.open(io.BytesIO(data)) as file:
        width = file.getnchannels() * file.getsampwidth()
        return len(file.readframes(file.getnframes())) / width / file.getframerate()


def sniff_audio(data: bytes) -> str | None:
    """The format that the bytes say they are: wav, mp3, flac, m4a, ogg, webm or aac."""
    if data[4:8] == b"ftyp":
        return "m4a"
    for magic, form in ((b"ID3", "mp3"), (b"fLaC", "flac"), (b"OggS", "ogg"), (b"\x1a\x45\xdf\xa3", "webm")):
        if data.startswith(magic):
            return form
    if data.startswith(b"RIFF") and data[8:12] == b"WAVE":
        return "wav"
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0:
        return "aac" if data[1] & 0x06 == 0 else "mp3"
    return None


def sniff_picture(data: bytes) -> str | None:
    """The media type of a picture that decodes; None for anything else."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return Image.MIME.get(image.format or "")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
