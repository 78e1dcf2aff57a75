"""Subtitles: what players read, whatever was said."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kheish_mcp.capabilities import Segment
from kheish_mcp.subtitles import srt, vtt

SAID = (
    Segment(0.0, 1.25, "Hello & <b>welcome</b>."),
    Segment(1.25, 61.0, "A\n\nB --> C", "Ann"),
    Segment(3599.9996, 3600.5, "  Late.  "),
)


def test_subrip_is_numbered_with_commas():
    assert srt(SAID) == (
        "1\n00:00:00,000 --> 00:00:01,250\nHello & <b>welcome</b>.\n\n"
        "2\n00:00:01,250 --> 00:01:01,000\nAnn: A B → C\n\n"
        "3\n01:00:00,000 --> 01:00:00,500\nLate.\n"
    )


def test_webvtt_has_a_header_points_and_escapes():
    assert vtt(SAID) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.250\nHello &amp; &lt;b>welcome&lt;/b>.\n\n"
        "00:00:01.250 --> 00:01:01.000\nAnn: A B → C\n\n"
        "01:00:00.000 --> 01:00:00.500\nLate.\n"
    )


def test_nothing_said_is_no_cue():
    silent = [Segment(0, 1, " \n "), Segment(1, 2, "", "Ann"), Segment(2, 3, "Now.")]
    assert srt(silent) == "1\n00:00:02,000 --> 00:00:03,000\nNow.\n"
    assert srt([]) == ""
    assert vtt([]) == "WEBVTT\n"


@pytest.mark.parametrize(
    ("start", "end", "times"),
    [
        (-1.0, 2.0, "00:00:00.000 --> 00:00:02.000"),
        (5.0, 4.0, "00:00:05.000 --> 00:00:05.000"),
        (float("nan"), float("inf"), "00:00:00.000 --> 00:00:00.000"),
        (360_000.0, 360_001.0, "100:00:00.000 --> 100:00:01.000"),
        (0.9996, 1.9994, "00:00:01.000 --> 00:00:01.999"),
    ],
)
def test_times_never_run_backwards(start: float, end: float, times: str):
    assert vtt([Segment(start, end, "x")]).splitlines()[2] == times


CUE = re.compile(r"\d{2,}:\d\d:\d\d[.,]\d{3} --> \d{2,}:\d\d:\d\d[.,]\d{3}")


@given(st.lists(st.tuples(st.floats(0, 1e6), st.text(), st.none() | st.text()), max_size=6))
def test_a_reader_finds_as_many_cues_as_were_said(said: list[tuple[float, str, str | None]]):
    segments = [Segment(start, start + 1, text, speaker) for start, text, speaker in said]
    spoken = [segment for segment in segments if segment.text.split()]
    for written in (srt(segments), vtt(segments).removeprefix("WEBVTT\n\n").removeprefix("WEBVTT\n")):
        cues = [cue for cue in written.split("\n\n") if cue]
        assert len(cues) == len(spoken)
        for cue in cues:
            *number, times, words = cue.strip("\n").split("\n")
            assert CUE.fullmatch(times)
            assert "-->" not in words
            assert len(number) <= 1
