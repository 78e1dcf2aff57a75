"""Timed words as subtitles: SubRip and WebVTT."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from .capabilities import Segment


def srt(segments: Sequence[Segment]) -> str:
    """SubRip text: numbered cues, times as `00:00:01,250`."""
    cues = (f"{n}\n{times}\n{words}\n" for n, (times, words) in enumerate(_cues(segments, ","), 1))
    return "\n".join(cues)


def vtt(segments: Sequence[Segment]) -> str:
    """WebVTT text: a header, then cues with times as `00:00:01.250`; `&` and `<` in words are escaped."""
    cues = (f"{times}\n{_escaped(words)}\n" for times, words in _cues(segments, "."))
    return "\n".join(("WEBVTT\n", *cues))


def _cues(segments: Sequence[Segment], point: str) -> Iterator[tuple[str, str]]:
    """Times and words of each segment in which something is said; no cue ends before it starts."""
    for segment in segments:
        words = _line(segment)
        if words:
            start = _thousandths(segment.start)
            end = max(start, _thousandths(segment.end))
            yield f"{_time(start, point)} --> {_time(end, point)}", words


def _line(segment: Segment) -> str:
    """One cue's words; a line break or an arrow inside could end the cue, so neither stays."""
    words = " ".join(segment.text.split())
    speaker = " ".join((segment.speaker or "").split())
    line = f"{speaker}: {words}" if speaker and words else words
    return line.replace("-->", "→")


def _escaped(words: str) -> str:
    return words.replace("&", "&amp;").replace("<", "&lt;")


def _thousandths(seconds: float) -> int:
    return max(0, round(seconds * 1000)) if math.isfinite(seconds) else 0


def _time(thousandths: int, point: str) -> str:
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
