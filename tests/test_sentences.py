"""Splitting speech: nothing lost, nothing too long, no letter torn, and cut where a speaker breathes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kheish_mcp.sentences import split_speech

# Characters that people see as one.
LETTERS = [
    "a", "b", ".", ",", " ", "\n", "\r\n", "é", "e\u0301", "n\u0303\u0323", "ก็", "한", "\u1112\u1161\u11ab", "क्षि", "நி",
    "🇩🇪", "🇫🇷", "👍🏽", "👩\u200d👩\u200d👧", "❤\ufe0f", "1\ufe0f\u20e3", "。", "！",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
]  # fmt: skip


@given(st.text(st.sampled_from("ab.,!? \n\t\u3000。") | st.characters(), max_size=200), st.integers(4, 60))
@example("a" * 10 + " " * 20 + "b", 10)
@example(" " * 50, 10)
@example("Hello. " * 9, 63)
@example("   " + "b" * 20, 10)
def test_no_word_is_lost_and_no_piece_is_too_long_or_empty(text: str, longest: int):
    pieces = split_speech(text, longest)
    assert pieces
    assert all(len(piece) <= longest for piece in pieces)
    assert all(piece.strip() for piece in pieces) or not text.strip()
    assert "".join(pieces).split() == text.split() or not text.strip()


@given(
    st.lists(st.text("abc.,!?é。", min_size=1, max_size=30), min_size=1, max_size=30),
    st.sampled_from([" ", "\n\n", "  "]),
    st.integers(8, 60),
)
def test_together_the_pieces_are_the_text(words: list[str], between: str, longest: int):
    text = between.join(words)
    assert "".join(split_speech(text, longest)) == text


TIGHT = [letter for letter in LETTERS if letter.strip() and len(letter) > 1]


@given(
    st.lists(st.sampled_from(LETTERS), min_size=1, max_size=60)
    | st.lists(st.sampled_from(TIGHT), min_size=20, max_size=40),
    st.integers(16, 40),
)
def test_no_letter_is_torn(letters: list[str], longest: int):
    text = "".join(letters)
    whole = set(itertools.accumulate(map(len, letters)))
    pieces = split_speech(text, longest)
    if "".join(pieces) == text:
        assert set(itertools.accumulate(map(len, pieces))) <= whole


@pytest.mark.parametrize(
    ("text", "longest", "pieces"),
    [
        ("Short.", 100, ["Short."]),
        ("", 100, [""]),
        ("One. Two. Three.", 10, ["One. Two. ", "Three."]),
        ("One two. Three.\n\nFour five. Six.", 26, ["One two. Three.\n\n", "Four five. Six."]),
        ("He said “Go.” Then he went.", 20, ["He said “Go.” ", "Then he went."]),
        ("One, two, three four five", 20, ["One, two, ", "three four five"]),
        ("one two three four", 10, ["one two ", "three four"]),
        ("今日は。明日は！昨日", 6, ["今日は。", "明日は！昨日"]),
        ("「行け。」彼は言った", 6, ["「行け。」", "彼は言った"]),
        ("abcdefghijkl", 5, ["abcde", "fghij", "kl"]),
        ("Hi. " + "b" * 30, 32, ["Hi. " + "b" * 28, "bb"]),
        ("Trailing.   ", 9, ["Trailing."]),
        ("Wait.  Now.   ", 8, ["Wait.  ", "Now.   "]),
    ],
)
def test_cuts_lie_where_a_speaker_breathes(text: str, longest: int, pieces: list[str]):
    assert list(split_speech(text, longest)) == pieces


@pytest.mark.parametrize(
    "text",
    [
        "We met Dr. Smith there", "It is Mr. Jones of", "Apples, e.g. red ones", "At 9 a.m. we leave", "By J. R. Tolkien it is",
        "Das ist z.B. gut so", "Im Haus Nr. 12 dort", "It costs approx. nine",
    ],
)  # fmt: skip
def test_an_abbreviation_ends_no_sentence(text: str):
    pieces = split_speech(text + ", and then it goes on", len(text) + 2)
    assert pieces[0].startswith(text)


def test_a_word_that_ends_like_an_abbreviation_ends_its_sentence():
    assert split_speech("They waltz etcetera Diskco. And then more", 30)[0] == "They waltz etcetera Diskco. "
    assert split_speech("What a lovely number: ten. And then", 30)[0] == "What a lovely number: ten. "


def test_a_letter_longer_than_a_piece_is_torn_at_last():
    pieces = split_speech("a" + "\u0301" * 30, 10)
    assert "".join(pieces) == "a" + "\u0301" * 30
    assert max(map(len, pieces)) <= 10


def test_a_long_text_is_split_at_once():
    text = ("Mr. Smith said: 'Go on, please!' " * 7000)[:200_000]
    pieces = split_speech(text, 4096)
    assert "".join(pieces) == text
    assert len(pieces) <= 52
    assert all(piece.endswith("' ") for piece in pieces[:-1])
    flags = "🇩🇪" * 50_000
    assert "".join(split_speech(flags, 4095)) == flags
