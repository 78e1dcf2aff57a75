"""Timed words as subtitles: SubRip and WebVTT."""

from __future__ import annotations

from collections.abc import Sequence

from .capabilities import Segment


def srt(segments: Sequence[Segment]) -> str:
    """SubRip text: numbered cues, times as `00:00:01,250`."""
    cues = (f"{n}\n{_time(s.start, ',')} --> {_time(s.end, ',')}\n{_line(s)}\n" for n, s in enumerate(segments, 1))
    return "\n".join(cues)


def vtt(segments: Sequence[Segment]) -> str:
    """WebVTT text: a header, then cues with times as `00:00:01.250`."""
    cues = (f"{_time(s.start, '.')} --> {_time(s.end, '.')}\n{_line(s)}\n" for s in segments)
    return "\n".join(("WEBVTT\n", *cues))


def _line(segment: Segment) -> str:
    """One cue's words; a blank line or an arrow inside would end the cue, so neither stays."""
    words = " ".join(segment.text.split()).replace("-->", "→")
    return f"{segment.speaker}: {words}" if segment.speaker else words


def _time(seconds: float, point: str) -> str:
    thousandths = max(0, round(seconds * 1000))
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
