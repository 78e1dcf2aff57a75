"""Names and labels that hide nothing and fit everywhere."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kheish_mcp.names import HIDDEN, file_name, plain


@pytest.mark.parametrize(
    ("given_name", "made"),
    [
        ("cat.png", "cat.png"),
        ("cat.jpg", "cat.png"),
        ("cat", "cat.png"),
        ("v1.2", "v1.2.png"),
        ("my.holiday.jpeg", "my.holiday.png"),
        ("../../etc/passwd", "passwd.png"),
        ("C:\\Users\\me\\cat.png", "cat.png"),
        ("a/b\\c.png", "c.png"),
        ("..", "image-abc.png"),
        (".png", "png.png"),
        ("", "image-abc.png"),
        ("/", "image-abc.png"),
        ("  .  ", "image-abc.png"),
        ('a<b>c:"d|e?f*.png', "a_b_c__d_e_f_.png"),
        ("invoice\u202egnp.exe", "invoicegnp.png"),
        ("ze\u200bro\u2060width\ufeff.png", "zerowidth.png"),
        ("line\nbreak\x00\x1b[31m.png", "linebreak[31m.png"),
        ("e\u0301te\u0301.png", "\u00e9t\u00e9.png"),
        ("\ud800lone.png", "lone.png"),
    ],
)
def test_a_stranger_s_name_becomes_a_safe_one(given_name: str, made: str):
    assert file_name(given_name, "image-abc", "png") == made


@given(st.text(max_size=400), st.sampled_from(["png", "webm", "l16"]))
def test_every_name_fits_every_system(name: str, extension: str):
    made = file_name(name, "image-abc", extension)
    assert made.endswith(f".{extension}")
    assert len(made) <= 120
    assert len(made.encode()) <= 240
    assert not set(made) & set('/\\<>:"|?*')
    assert not made.startswith((".", " "))
    assert not {unicodedata.category(character) for character in made} & HIDDEN
    assert file_name(made, "image-abc", extension) == made


@example("e\u200b\u0301")
@given(st.text())
def test_a_plain_text_stays_as_it_is(text: str):
    assert plain(plain(text)) == plain(text)
    assert unicodedata.is_normalized("NFC", plain(text))
