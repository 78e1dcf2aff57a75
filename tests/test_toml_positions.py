"""Positions in TOML: against texts that note, while they are written, where each key stands."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kheish_mcp.toml_positions import DEEPEST, KeyPath, positions

PLAIN = st.characters(min_codepoint=0x20, max_codepoint=0x2FFF, exclude_characters="\x7f", exclude_categories=("C",))
TEXTS = st.text(PLAIN | st.sampled_from("\"'#=[]{},.\\"), max_size=12)
BLANKS = st.sampled_from(["", " ", "\t", "  "])
BREAKS = st.sampled_from(["", "\n", ' # ] } = "\n', "\r\n\t"])
SCALARS = st.sampled_from(
    ["1", "0xf_f", "1.5e3", "inf", "true", "1979-05-27 07:32:00", "07:32:00", "2026-11-24T00:00:00Z"]
)


class Page:
    """A TOML text that grows, and where its keys were written."""

    def __init__(self) -> None:
        self.text = ""
        self.expected: dict[KeyPath, tuple[int, int]] = {}
        self.named: set[KeyPath] = set()
        self.names = 0

    def new_name(self, text: str) -> str:
        """A key that this page does not have yet."""
        self.names += 1
        return f"{text}{self.names}"

    def key(self, path: KeyPath, written: str, *, named: bool) -> None:
        """Writes one part of a key and notes its place by counting what stands before it."""
        lines = self.text.split("\n")
        spot = (len(lines), len(lines[-1]) + 1)
        self.text += written
        if named and path not in self.named:
            self.named.add(path)
            self.expected[path] = spot
        self.expected.setdefault(path, spot)


def basic(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@st.composite
def keys(draw: st.DrawFn, page: Page, table: KeyPath, most: int = 3) -> KeyPath:
    """Writes a key of one to three parts, bare or quoted, with blanks around the dots."""
    path, count = table, draw(st.integers(1, most))
    for index in range(count):
        style = draw(st.sampled_from(["bare", "basic", "literal"]))
        text = draw(st.sampled_from(["a", "b-c", "1_0"]) if style == "bare" else TEXTS)
        name = page.new_name(text.replace("'", "") if style == "literal" else text)
        path = (*path, name)
        written = {"bare": name, "basic": basic(name), "literal": f"'{name}'"}[style]
        page.key(path, written, named=index == count - 1)
        if index < count - 1:
            page.text += draw(BLANKS) + "." + draw(BLANKS)
    return path


def strings(draw: st.DrawFn) -> str:
    text = draw(TEXTS)
    return {
        "basic": basic(text),
        "literal": f"'{text.replace(chr(39), '')}'",
        "long": f'"""{draw(BREAKS)}{basic(text)[1:-1]}\n[x]\ny = 1 {draw(st.sampled_from(["", chr(34), chr(34) * 2]))}"""',
        "long literal": f"'''{text.replace(chr(39), '')}\n[x]\n# y = '1'{draw(st.sampled_from(['', chr(39)]))}'''",
    }[draw(st.sampled_from(["basic", "literal", "long", "long literal"]))]


def write_value(draw: st.DrawFn, page: Page, path: KeyPath, depth: int) -> None:
    kind = draw(st.sampled_from(["scalar", "string", "array", "table"] if depth else ["scalar", "string"]))
    if kind == "array":
        page.text += "["
        for _ in range(draw(st.integers(0, 3))):
            page.text += draw(BREAKS)
            write_value(draw, page, path, depth - 1)
            page.text += draw(BREAKS) + ","
        page.text += draw(BREAKS) + "]"
    elif kind == "table":
        page.text += "{" + draw(BLANKS)
        for index in range(draw(st.integers(0, 3))):
            page.text += (", " if index else "") + draw(BLANKS)
            write_pair(draw, page, path, depth - 1)
        page.text += draw(BLANKS) + "}"
    else:
        page.text += draw(SCALARS) if kind == "scalar" else strings(draw)


def write_pair(draw: st.DrawFn, page: Page, table: KeyPath, depth: int) -> None:
    path = draw(keys(page, table, most=2))
    page.text += draw(BLANKS) + "=" + draw(BLANKS)
    write_value(draw, page, path, depth)


@st.composite
def pages(draw: st.DrawFn) -> Page:
    """A page of headers, pairs, comments and blanks."""
    page = Page()
    tables: list[KeyPath] = [()]
    for _ in range(draw(st.integers(1, 6))):
        page.text += draw(BREAKS) + draw(BLANKS)
        page.text = page.text if page.text.endswith(("\n", "\n\t")) or not page.text.strip() else page.text + "\n"
        if draw(st.booleans()):
            double = draw(st.booleans())
            page.text += ("[[" if double else "[") + draw(BLANKS)
            tables.append(draw(keys(page, ())))
            page.text += draw(BLANKS) + ("]]" if double else "]")
        else:
            write_pair(draw, page, tables[-1], 2)
        page.text += draw(BLANKS) + draw(st.sampled_from(["\n", "\r\n", " # x = [\n"]))
    return page


@given(pages())
def test_every_key_is_found_where_it_was_written(page: Page):
    tomllib.loads(page.text)
    expected = {path: spot for path, spot in page.expected.items() if len(path) <= DEEPEST}
    assert positions(page.text) == expected


def paths_of(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield (*path, key)
        yield from paths_of(inner, (*path, key))
    for item in value if isinstance(value, list) else ():
        yield from paths_of(item, path)


@given(pages())
def test_every_path_that_the_parser_knows_is_found_and_no_other(page: Page):
    known = {path[:DEEPEST] for path in paths_of(tomllib.loads(page.text))}
    assert set(positions(page.text)) == known


@pytest.mark.parametrize(
    ("text", "path", "spot"),
    [
        ("a = 1", ("a",), (1, 1)),
        ("\n  a = 1", ("a",), (2, 3)),
        ("[a.b]\nc = 1\n[a]\nd = 1", ("a",), (3, 2)),
        ("[a.b]\nc = 1\n[a]\nd = 1", ("a", "b"), (1, 4)),
        ("[a.b]\n[a.c]", ("a",), (1, 2)),
        ("[[a]]\nb = 1\n[[a]]\nb = 2", ("a",), (1, 3)),
        ("[[a]]\nb = 1\n[[a]]\nb = 2", ("a", "b"), (2, 1)),
        ("a = { b = 1, c.d = 2 }", ("a", "c", "d"), (1, 16)),
        ("a = [\n  { b = 1 },\n]\nc = 2", ("c",), (4, 1)),
        ('a = """\nc = 1\n"""\nc = 2', ("c",), (4, 1)),
        ("a = '''c = ''\n'''''\nc = 2", ("c",), (3, 1)),
        ('a = """"""\nc = 2', ("c",), (2, 1)),
        ('a = """x"""""\nc = 2', ("c",), (2, 1)),
        ('a = "\\"]"\nc = 2', ("c",), (2, 1)),
        ("a = [\"]\", '}', \"\"\"\n]\"\"\"] # b\nc = 2", ("c",), (3, 1)),
        ('"a.b" . \'c\' = 1', ("a.b", "c"), (1, 9)),
        ('"\\u00e9" = 1', ("\u00e9",), (1, 1)),
        ('"" = 1', ("",), (1, 1)),
        ("\u00e9 = 1".replace("\u00e9", "'\u00e9\u4e2d'") + "\nb = {'\U0001f600' = 1, c = 2}", ("b", "c"), (2, 15)),
        ("a = 1\r\nb = 2\r\n", ("b",), (2, 1)),
        ("a = 1979-05-27 07:32:00 # c = 1\nc = 1", ("c",), (2, 1)),
    ],
)  # fmt: skip
def test_known_texts(text: str, path: KeyPath, spot: tuple[int, int]):
    tomllib.loads(text)
    assert positions(text)[path] == spot


@given(st.text(PLAIN | st.sampled_from("\n\"'#=[]{},.\\"), max_size=60))
@example("[")
@example("= 1")
@example("a = [")
@example("a = {b")
def test_a_text_that_is_no_toml_ends_too(text: str):
    assert isinstance(positions(text), dict)


def test_deep_and_long_texts_take_no_time_and_no_depth():
    deep = f"a = {'[' * 5000}{']' * 5000}\nb = 1"
    assert positions(deep)[("b",)] == (2, 1)
    dotted = ".".join(["a"] * 100_000) + " = 1\nb = 1"
    assert set(positions(dotted)) == {("a",) * length for length in range(1, DEEPEST + 1)} | {("b",)}
    many = "\n".join(f"k{number} = 1" for number in range(20_000))
    assert positions(many)[("k19999",)] == (20_000, 1)


def test_the_example_file_is_read_as_the_parser_reads_it():
    text = (Path(__file__).resolve().parent.parent / "routes.example.toml").read_text(encoding="utf-8")
    found = positions(text)
    assert set(found) == set(paths_of(tomllib.loads(text)))
    lines = text.splitlines()
    assert all(lines[line - 1][column - 1 :].startswith(path[-1]) for path, (line, column) in found.items())
