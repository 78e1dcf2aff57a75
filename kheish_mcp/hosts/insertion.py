"""One entry put into a text of JSON or TOML; every other character of it stays as it is."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ..errors import ConfigError, JsonObject
from .layouts import as_json, as_toml

STRING: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
COMMENT: Final = re.compile(STRING.pattern + r"|//[^\n]*|/\*.*?\*/", re.DOTALL)
TRAILING_COMMA: Final = re.compile(STRING.pattern + r"|,(?=\s*[}\]])", re.DOTALL)
SPACE: Final = re.compile(r"[ \t\r\n]*")
REST_OF_LINE: Final = re.compile(r"[ \t]*(?://[^\r\n]*)?(?=\r?\n)")
INDENT: Final = re.compile(r'^([ \t]+)"', re.MULTILINE)
TABLE: Final = re.compile(r"^[ \t]*\[", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Edit:
    """`text` in the place of what stands from `start` to `end`; nothing stands there where the entry is new."""

    start: int
    end: int
    text: str

    def applied(self, text: str) -> str:
        """The text after the edit."""
        return text[: self.start] + self.text + text[self.end :]


class Unclear(ConfigError):
    """A text in which the place cannot be told for certain; the message ends a sentence that names the file."""


def loaded(text: str, form: str) -> JsonObject:
    """What the text says in `form`: json, jsonc (comments, trailing commas) or toml; Unclear where it is broken."""
    try:
        read = READERS[form](text) if text.strip() else {}
    except (ValueError, RecursionError):
        raise Unclear("cannot be parsed") from None
    if not isinstance(read, dict):
        raise Unclear("holds no object")
    return read


def edit_for(text: str, form: str, path: tuple[str, ...], entry: JsonObject) -> Edit | None:
    """The edit that makes `entry` stand at `path`; None where it stands there already, Unclear where it must not be tried.

    Comments outside the entry stay; an entry with comments inside is left alone. What comes out is read again, and says
    what the old text said but for this entry, or there is no edit.
    """
    before = loaded(text, form)
    edit = EDITORS[form](text, path, entry) if text.strip() else _whole(text, form, path, entry)
    if edit is not None and loaded(edit.applied(text), form) != _with(before, path, entry):
        raise Unclear("is laid out in a way that an entry cannot be put into")
    return edit


def entry_at(value: Any, path: tuple[str, ...]) -> Any:
    """What stands at the path; None where nothing does."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _with(value: Any, path: tuple[str, ...], entry: JsonObject) -> Any:
    return {**(value or {}), path[0]: _with(value.get(path[0], {}), path[1:], entry)} if path else entry


def _whole(text: str, form: str, path: tuple[str, ...], entry: JsonObject) -> Edit:
    document = as_toml(path, entry) if form == "toml" else as_json(_with({}, path, entry))
    return Edit(0, len(text), document + "\n")


def plain(text: str) -> str:
    """JSON without comments and trailing commas, each character in its place."""
    return TRAILING_COMMA.sub(_blanked, COMMENT.sub(_blanked, text))


def _blanked(match: re.Match[str]) -> str:
    return match[0] if match[0][0] == '"' else re.sub(r"[^\r\n]", " ", match[0])


class _Member(NamedTuple):
    key: str
    start: int
    end: int


def _members(text: str, start: int) -> Iterator[_Member]:
    """The members of the object that opens at `start`, with where their values stand; `text` is plain, valid JSON."""
    read = json.JSONDecoder().raw_decode
    place = _after_space(text, start + 1)
    while text[place] != "}":
        key, place = read(text, place)
        value = _after_space(text, _after_space(text, place) + 1)
        end = read(text, value)[1]
        yield _Member(key, value, end)
        place = _after_space(text, end)
        place = _after_space(text, place + (text[place] == ","))


def _after_space(text: str, place: int) -> int:
    found = SPACE.match(text, place)
    return found.end() if found else place


def _json_edit(text: str, path: tuple[str, ...], entry: JsonObject) -> Edit | None:
    bare = plain(text)
    start, end = _after_space(bare, 0), len(bare)
    for depth, key in enumerate(path):
        if bare[start] != "{":
            raise Unclear(f"holds no object where {path[depth - 1]} is")
        members = list(_members(bare, start))
        found = [member for member in members if member.key == key]
        if not found:
            return _inserted(text, start, depth, _with({}, path[depth:], entry), alone=not members)
        if len(found) > 1:
            raise Unclear(f"names {key} twice")
        start, end = found[0].start, found[0].end
    return _replaced(text, bare, start, end, entry, len(path))


def _replaced(text: str, bare: str, start: int, end: int, entry: JsonObject, depth: int) -> Edit | None:
    if json.loads(bare[start:end]) == entry:
        return None
    if COMMENT.sub(_blanked, text[start:end]) != text[start:end]:
        raise Unclear("has an entry with comments in it")
    return Edit(start, end, _laid_out(text, entry, depth))


def _inserted(text: str, start: int, depth: int, members: JsonObject, *, alone: bool) -> Edit:
    """New members at the beginning of the object that opens at `start`, so that no line of another is touched."""
    rest = REST_OF_LINE.match(text, start + 1)
    place = rest.end() if rest else start + 1
    body = _laid_out(text, members, depth).removeprefix("{").rpartition("}")[0].rstrip()
    closing = "" if rest else _newline(text) + _unit(text) * depth
    return Edit(place, place, body + (closing if alone else ","))


def _laid_out(text: str, value: JsonObject, depth: int) -> str:
    return as_json(value, _unit(text), depth).replace("\n", _newline(text))


def _unit(text: str) -> str:
    """By how much the text indents a level, as its first indented key shows; two blanks where none does."""
    bare = plain(text)
    found = INDENT.search(bare)
    if found is None:
        return "  "
    before = STRING.sub("", bare[: found.start()])
    depth = sum(before.count(each) for each in "{[") - sum(before.count(each) for each in "}]")
    return found[1][: max(1, len(found[1]) // max(1, depth))]


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _toml_edit(text: str, path: tuple[str, ...], entry: JsonObject) -> Edit | None:
    there = entry_at(tomllib.loads(text), path)
    if there == entry:
        return None
    line = _newline(text)
    table = as_toml(path, entry).replace("\n", line) + line
    if there is None:
        return Edit(len(text), len(text), ("" if text.endswith("\n") else line) + line + table)
    start, end = _table(text, path)
    if "#" in text[start:end]:
        raise Unclear("has an entry with comments in it")
    return Edit(start, end, table)


def _table(text: str, path: tuple[str, ...]) -> tuple[int, int]:
    """Where a table stands, without what may belong to the next one."""
    name = r"[ \t]*\.[ \t]*".join(map(re.escape, path))
    header = re.search(rf"^[ \t]*\[[ \t]*{name}[ \t]*\]", text, re.MULTILINE)
    if header is None:
        raise Unclear("has the entry in a form that is not understood")
    following = TABLE.search(text, header.end())
    lines = text[header.start() : following.start() if following else len(text)].splitlines(keepends=True)
    while not lines[-1].strip() or lines[-1].lstrip().startswith("#"):
        lines.pop()
    return header.start(), header.start() + sum(map(len, lines))


def _read_jsonc(text: str) -> Any:
    return json.loads(plain(text))


READERS: Final[dict[str, Callable[[str], Any]]] = {"json": json.loads, "jsonc": _read_jsonc, "toml": tomllib.loads}
EDITORS: Final[dict[str, Callable[[str, tuple[str, ...], JsonObject], Edit | None]]] = {
    "json": _json_edit,
    "jsonc": _json_edit,
    "toml": _toml_edit,
}
