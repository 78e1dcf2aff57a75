"""Text spoken by espeak-ng."""

from __future__ import annotations

import ctypes
from typing import Any, Final

from ..errors import InvalidArgument, JsonObject, Unavailable
from ..formats.wav import wrap
from ..media import Pcm

RETRIEVAL, NO_EXIT = 1, 0x8000
UTF8, ENDPAUSE = 1, 0x1000
RATE = 1
WORDS_PER_MINUTE: Final = 175
SLOWEST, FASTEST = 80, 450
CALLBACK: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def speak(parameters: JsonObject, blobs: tuple[bytes, ...]) -> tuple[JsonObject, tuple[bytes, ...]]:
    """A WAV of the text in the one blob; `voice` as espeak-ng names it (`en-us`, `de`, `en-us+f2`), `speed` 1.0 is its own."""
    library, rate = _library()
    voice = str(parameters.get("voice") or "en-us")
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise InvalidArgument("espeak-ng has no such voice.", hint="Such as en-us, en-gb, de, fr, es, or en-us+f2.")
    speed = parameters.get("speed")
    pace = WORDS_PER_MINUTE * (speed if isinstance(speed, int | float) else 1.0)
    library.espeak_SetParameter(RATE, round(min(FASTEST, max(SLOWEST, pace))), 0)
    samples = _samples(library, blobs[0])
    if not samples:
        raise InvalidArgument("There is nothing in the text that can be spoken.", hint="Use words.")
    return {"voice": voice}, (wrap(samples, Pcm(rate)),)


def _library() -> tuple[Any, int]:
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(RETRIEVAL, 0, str(espeakng_loader.get_data_path()).encode(), NO_EXIT)
    if rate <= 0:
        raise Unavailable("espeak-ng could not be started.", hint="pip install --force-reinstall 'kheish-mcp[local]'")
    return library, int(rate)


def _samples(library: Any, text: bytes) -> bytes:
    """16-bit samples, as the library hands them over while it speaks."""
    parts: list[bytes] = []

    def hear(wave: Any, count: int, _: Any) -> int:
        if wave and count > 0:
            parts.append(ctypes.string_at(wave, count * 2))
        return 0

    callback = CALLBACK(hear)
    library.espeak_SetSynthCallback(callback)
    text += b"\0"
    library.espeak_Synth(text, len(text), 0, 0, 0, UTF8 | ENDPAUSE, None, None)
    library.espeak_Synchronize()
    return b"".join(parts)
