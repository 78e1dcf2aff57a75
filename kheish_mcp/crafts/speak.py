"""Text spoken by espeak-ng."""

from __future__ import annotations

import ctypes
import re
from _ctypes import dlclose
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ..errors import InvalidArgument, JsonObject, Unavailable
from ..formats.wav import wrap
from ..media import Pcm

SYNCHRONOUS, NO_EXIT = 2, 0x8000
UTF8, ENDPAUSE = 1, 0x1000
RATE = 1
WORDS_PER_MINUTE: Final = 175
SLOWEST, FASTEST = 80, 450
CALLBACK: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
VOICE: Final = re.compile(r"([A-Za-z0-9-]+)(?:\+([A-Za-z0-9-]+))?")
# 1.52.0 knows British English as `en` alone, which is what people who write en-gb mean.
FILES: Final = {"en-gb": "en"}


def speak(parameters: JsonObject, blobs: tuple[bytes, ...]) -> tuple[JsonObject, tuple[bytes, ...]]:
    """A WAV of the text in the one blob; `voice` as espeak-ng names it (`en-us`, `de`, `en-us+f2`), `speed` 1.0 is its own.

    The same text, voice and speed give the same bytes. The facts say the speed that it came to.
    """
    voice = str(parameters.get("voice") or "en-us")
    speed = parameters.get("speed")
    wanted = float(speed) if isinstance(speed, int | float) else 1.0
    given = min(FASTEST / WORDS_PER_MINUTE, max(SLOWEST / WORDS_PER_MINUTE, wanted))
    with _library() as (library, rate):
        _choose(library, voice)
        library.espeak_SetParameter(RATE, round(given * WORDS_PER_MINUTE), 0)
        samples = _samples(library, blobs[0])
    if not any(samples):
        raise InvalidArgument("There is nothing in the text that can be spoken.", hint="Use words.")
    return {"voice": voice, "speed": wanted if given == wanted else round(given, 2)}, (wrap(samples, Pcm(rate)),)


@contextmanager
def _library() -> Iterator[tuple[Any, int]]:
    """The library and its rate in Hz, loaded afresh each time (10 ms).

    It keeps the phase of its waves and its dice from one text to the next, in variables that only unloading clears.
    """
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        rate = library.espeak_Initialize(SYNCHRONOUS, 0, str(espeakng_loader.get_data_path()).encode(), NO_EXIT)
        if rate <= 0:
            raise Unavailable(
                "espeak-ng could not be started.", hint="pip install --force-reinstall 'kheish-mcp[local]'"
            )
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        yield library, int(rate)
    finally:
        library.espeak_Terminate()
        dlclose(library._handle)


def _choose(library: Any, voice: str) -> None:
    """Takes the voice; InvalidArgument where there is none, or no such variant, which the library would pass over."""
    import espeakng_loader

    match = VOICE.fullmatch(voice)
    language, variant = (FILES.get(match[1].lower(), match[1]), match[2]) if match else ("", None)
    name = f"{language}+{variant}" if variant else language
    known = variant is None or (Path(espeakng_loader.get_data_path()) / "voices" / "!v" / variant).is_file()
    if not known or not language or library.espeak_SetVoiceByName(name.encode()) != 0:
        raise InvalidArgument("espeak-ng has no such voice.", hint="Such as en-us, en-gb, de, fr, es, or en-us+f2.")


def _samples(library: Any, text: bytes) -> bytes:
    """16-bit samples, as the library hands them over while it speaks."""
    parts: list[bytes] = []

    def hear(wave: Any, count: int, _: Any) -> int:
        if wave and count > 0:
            parts.append(ctypes.string_at(wave, count * 2))
        return 0

    callback = CALLBACK(hear)
    library.espeak_SetSynthCallback(callback)
    text = text.replace(b"\0", b" ") + b"\0"
    library.espeak_Synth(text, len(text), 0, 0, 0, UTF8 | ENDPAUSE, None, None)
    library.espeak_Synchronize()
    return b"".join(parts)
