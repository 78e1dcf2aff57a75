"""One small whole file of every media type that is taken; pictures by Pillow, WAV by wave, the other sounds by encoders.

The sounds under vectors/sounds were made of a 440 Hz tone by libmp3lame, libopus and FFmpeg's aac (PyAV 18.1), and by
libFLAC and libvorbis (soundfile 0.14); live.webm was written without seeking back, as a browser's recorder does.
"""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any

from PIL import Image

from kheish_mcp.media import Media, Pcm

SOUNDS = Path(__file__).parent / "vectors" / "sounds"
PDF = b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\nxref\n0 1\n0000000000 65535 f \ntrailer\n<< >>\nstartxref\n47\n%%EOF\n"
DXF = b"  0\r\nSECTION\r\n  2\r\nENTITIES\r\n  0\r\nLINE\r\n 10\r\n0.0\r\n  0\r\nENDSEC\r\n  0\r\nEOF\r\n"


def picture(form: str, size: tuple[int, int] = (20, 10), mode: str = "RGB", **options: Any) -> bytes:
    """A picture with something in it."""
    out = io.BytesIO()
    image = Image.linear_gradient("L").resize(size).convert(mode)
    image.save(out, form, **options)
    return out.getvalue()


def wav(samples: bytes = bytes(range(200)), rate: int = 8000, channels: int = 1, width: int = 2) -> bytes:
    """The samples as the standard library writes them."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(samples)
    return out.getvalue()


def sound(name: str) -> bytes:
    """A file that an encoder made."""
    return (SOUNDS / name).read_bytes()


def bare(media_type: str, pcm: Pcm) -> Media:
    """Samples without a header."""
    return Media(bytes(range(120)), media_type, "", pcm)


WHOLE = {
    "image/png": Media(picture("PNG"), "image/png"),
    "image/jpeg": Media(picture("JPEG"), "image/jpeg"),
    "image/webp": Media(picture("WEBP"), "image/webp"),
    "image/gif": Media(picture("GIF"), "image/gif"),
    "image/svg+xml": Media(b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "image/svg+xml"),
    "audio/wav": Media(wav(), "audio/wav"),
    "audio/webm": Media(sound("opus.webm"), "audio/webm"),
    "audio/mpeg": Media(sound("lame.mp3"), "audio/mpeg"),
    "audio/mpga": Media(sound("lame_stereo.mp3"), "audio/mpga"),
    "audio/opus": Media(sound("opus.opus"), "audio/opus"),
    "audio/ogg": Media(sound("vorbis.ogg"), "audio/ogg"),
    "audio/aac": Media(sound("adts.aac"), "audio/aac"),
    "audio/flac": Media(sound("flac.flac"), "audio/flac"),
    "audio/mp4": Media(sound("fragmented.mp4"), "audio/mp4"),
    "audio/m4a": Media(sound("aac.m4a"), "audio/m4a"),
    "audio/pcm": bare("audio/pcm", Pcm(24_000)),
    "audio/l16": bare("audio/l16", Pcm(8_000, 2)),
    "audio/l24": bare("audio/l24", Pcm(48_000, 1, 24)),
    "application/pdf": Media(PDF, "application/pdf"),
    "application/dxf": Media(DXF, "application/dxf"),
    "text/plain": Media("Grüße.\n".encode(), "text/plain"),
    "text/markdown": Media(b"# A title\n\nWords.\n", "text/markdown"),
    "text/csv": Media(b'a,b\r\n1,"two, and"\r\n', "text/csv"),
    "application/json": Media(b'{"a": [1, 2.5, null]}\n', "application/json"),
}
