"""Clear English speech written down by pocketsphinx."""

from __future__ import annotations

from array import array
from typing import Any, Final

from ..errors import InvalidArgument, JsonObject, MediaRejected
from ..formats.wav import unwrap

RATE: Final = 16_000
LONGEST_S: Final = 600
FRAMES_A_SECOND: Final = 100
# Between the highest and the lowest sample, of 65,535: in less the model hears words that nobody said.
QUIETEST: Final = 200
# Silence and noises have names as <sil> and [NOISE].
NO_WORDS: Final = ("<", "[")


def hear(parameters: JsonObject, blobs: tuple[bytes, ...]) -> tuple[JsonObject, tuple[bytes, ...]]:
    """text, duration_s, and words with start and end in seconds, of a WAV."""
    samples, pcm = unwrap(blobs[0])
    if pcm.bits < 16:
        raise MediaRejected(f"{pcm.bits}-bit samples are not heard here.", hint="Send 16-bit PCM.")
    seconds = len(samples) / (pcm.rate * pcm.frame_bytes)
    if seconds > LONGEST_S:
        raise InvalidArgument(f"{seconds:.0f} s are too long.", hint=f"At most {LONGEST_S} s on this route.")
    samples = narrowed(samples, pcm.bits // 8)
    mono = at_rate(mixed(samples, pcm.channels), pcm.rate, RATE)
    words = _decoded(mono) if max(mono, default=0) - min(mono, default=0) > QUIETEST else []
    return {
        "text": " ".join(str(word["text"]) for word in words),
        "duration_s": round(seconds, 3),
        "words": [*words],
    }, ()


def narrowed(samples: bytes, width: int) -> bytes:
    """Samples of `width` bytes as 16-bit ones: their two upper bytes."""
    if width == 2:
        return samples
    narrow = bytearray(len(samples) // width * 2)
    narrow[0::2], narrow[1::2] = samples[width - 2 :: width], samples[width - 1 :: width]
    return bytes(narrow)


def mixed(samples: bytes, channels: int) -> array[int]:
    """16-bit samples as one channel, the mean of all."""
    values = array("h", samples[: len(samples) - len(samples) % (2 * channels)])
    if channels == 1:
        return values
    return array("h", (sum(values[n : n + channels]) // channels for n in range(0, len(values), channels)))


def at_rate(values: array[int], rate: int, wanted: int) -> array[int]:
    """The samples at another rate: averaged over each new step when there are fewer, interpolated between them."""
    if rate == wanted or not values:
        return values
    step, last = rate / wanted, len(values) - 1
    if step > 2:  # a plain mean before thinning out keeps what lies above the new band from folding back
        width = int(step)
        values = array("h", (sum(values[n : n + width]) // width for n in range(0, len(values) - width + 1, width)))
        return at_rate(values, rate // width, wanted)
    out = array("h")
    for n in range(int(len(values) / step)):
        place = n * step
        left = int(place)
        right = min(left + 1, last)
        out.append(round(values[left] + (values[right] - values[left]) * (place - left)))
    return out


def _decoded(mono: array[int]) -> list[JsonObject]:
    import pocketsphinx

    decoder: Any = pocketsphinx.Decoder(samprate=RATE, loglevel="FATAL", remove_noise=True)
    silence = array("h", bytes(RATE))
    decoder.start_utt()
    decoder.process_raw((silence + mono + silence).tobytes(), no_search=False, full_utt=True)
    decoder.end_utt()
    offset = len(silence) / RATE
    return [_word(segment, offset) for segment in decoder.seg() if not str(segment.word).startswith(NO_WORDS)]


def _word(segment: Any, offset: float) -> JsonObject:
    start, end = segment.start_frame / FRAMES_A_SECOND - offset, (segment.end_frame + 1) / FRAMES_A_SECOND - offset
    return {"text": str(segment.word).split("(")[0], "start": round(max(0.0, start), 2), "end": round(max(0.0, end), 2)}
