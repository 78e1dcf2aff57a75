"""Event streams: however the bytes are cut, the events are the same; what is no event is not given, nor what is too large."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kheish_mcp.drivers.sse import Comment, Event, Reader
from kheish_mcp.errors import Unavailable

ENDS = (b"\n", b"\r", b"\r\n")
# Whatever a line may hold, with the characters that the format gives a meaning to as likely as all others.
LINES = st.one_of(
    st.text(alphabet=st.sampled_from("\x00\ufeffaé \u2028:")).map(lambda text: text.encode()),
    st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b"")),
    st.builds(lambda name, value: name + value, st.sampled_from((b"data:", b"data: ", b"data", b"event: ", b": ")),
              st.binary(max_size=9).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b""))),
    st.just(b""),
)  # fmt: skip
STREAMS = st.lists(st.tuples(LINES, st.sampled_from(ENDS)), max_size=30).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


def read(*parts: bytes) -> list[Event | Comment]:
    """What comes out of these parts."""
    reader = Reader()
    return [told for part in parts for told in reader.feed(part)]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """The stream in parts that end at these places."""
    bounds = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[start:end] for start, end in pairwise(bounds)]


@given(STREAMS, st.lists(st.integers(0, 1 << 16), max_size=40))
@example(b"data: a\r\n\r\n", [8])  # between CR and LF, where a reader may see two ends
@example("\ufeffdata: é\n\n".encode(), [1, 2, 10])  # within the mark, and within a character
def test_any_chunking_gives_the_same_events(stream: bytes, places: list[int]):
    assert read(*cut(stream, places)) == read(stream)


@given(STREAMS)
def test_bytes_one_by_one_give_the_same_events(stream: bytes):
    assert read(*(stream[at : at + 1] for at in range(len(stream)))) == read(stream)


@given(st.lists(st.dictionaries(st.text(), st.text(), max_size=3), max_size=6), st.sampled_from(ENDS))
def test_what_a_provider_writes_is_read_back(objects: list[dict[str, str]], end: bytes):
    stream = b"".join(b"data: " + json.dumps(one).encode() + end * 2 for one in objects)
    assert [json.loads(event.data) for event in read(stream) if isinstance(event, Event)] == objects


@pytest.mark.parametrize("end", ENDS)
def test_lines_end_in_all_three_ways(end: bytes):
    assert read(end.join([b"data: a", b"", b"data: b", b"", b""])) == [Event(b"a"), Event(b"b")]


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        (b": OPENROUTER PROCESSING\n\n", [Comment("OPENROUTER PROCESSING")]),
        (b":\n", [Comment("")]),
        (b"data: one\ndata: two\n\n", [Event(b"one\ntwo")]),
        (b"data:none\ndata:  two\ndata\n\n", [Event(b"none\n two\n")]),
        (b"data\n\n", [Event(b"")]),
        (b"event: error\ndata: x\n\ndata: y\n\n", [Event(b"x", "error"), Event(b"y")]),
        (b"event: alone\n\ndata: y\n\n", [Event(b"y")]),
        (b"id: 7\nretry: 10\nnonsense\nDATA: no\ndata: y\n\n", [Event(b"y")]),
        (b"\xef\xbb\xbfdata: x\n\n", [Event(b"x")]),
        (b"\n\xef\xbb\xbfdata: x\n\n", []),
        (b"data: \xff\n\n", [Event(b"\xff")]),
        (b"data: x\n: alive\ndata: y\n\n", [Comment("alive"), Event(b"x\ny")]),
        (b"\n\n\n", []),
    ],
)
def test_what_the_format_says_of_a_line(stream: bytes, told: list[Event | Comment]):
    assert read(stream) == told


@pytest.mark.parametrize("stream", [b"data: whole\n\ndata: half", b"data: whole\n\ndata: half\n"])
def test_an_event_that_was_cut_off_is_none(stream: bytes):
    assert read(stream) == [Event(b"whole")]


def test_a_line_of_many_megabytes_is_read_and_not_copied_for_every_part():
    song = b"x" * (8 << 20)
    parts = [song[at : at + 65536] for at in range(0, len(song), 65536)]
    assert read(b"data: ", *parts, b"\n\n") == [Event(song)]


def test_a_line_that_never_ends_is_refused_before_it_is_held():
    reader = Reader(longest=100)
    assert list(reader.feed(b"data: " + b"x" * 94)) == []
    with pytest.raises(Unavailable, match="larger than") as caught:
        list(reader.feed(b"x"))
    assert caught.value.details["possibly_billed"] is True


def test_a_stream_that_never_ends_is_refused():
    reader = Reader(largest=90)
    assert len([told for _ in range(10) for told in reader.feed(b"data: 1\n\n")]) == 10
    with pytest.raises(Unavailable, match="larger than"):
        list(reader.feed(b":"))


def test_lines_within_one_part_are_measured_each():
    reader = Reader(longest=20)
    assert len(list(reader.feed(b"data: 1\n\n" * 40))) == 40
