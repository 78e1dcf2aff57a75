"""One entry put into a host's text: everything else stays, or the text is left alone."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kheish_mcp.hosts.insertion import Unclear, edit_for, loaded

PATH = ("mcpServers", "kheish")
TABLE = ("mcp_servers", "kheish")
ENTRY: dict[str, Any] = {"command": "/bin/kheish-daemon", "args": ["serve"]}
OTHER: dict[str, Any] = {"command": "/bin/kheish-daemon", "args": ["serve", "--transport", "stdio"]}


def edited(text: str, form: str = "jsonc", entry: dict[str, Any] = ENTRY) -> str:
    """The text with the entry in it."""
    edit = edit_for(text, form, TABLE if form == "toml" else PATH, entry)
    assert edit is not None
    return edit.applied(text)


def is_insertion(old: str, new: str) -> bool:
    """Whether the new text is the old one with something put in at one place."""
    same = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(old))
    return new.endswith(old[same:]) and len(new) > len(old)


TEXTS = {
    "no servers": '{\n  "theme": "dark"\n}\n',
    "an empty object": "{}",
    "an empty object on lines": "{\n}\n",
    "empty servers": '{"mcpServers": {}}',
    "empty servers on lines": '{\n  "mcpServers": {\n  }\n}',
    "one line": '{"mcpServers":{"a":{"command":"x"}},"z":1}',
    "others": '{\n  "mcpServers": {\n    "a": {"command": "x", "env": {"K": "v"}},\n    "b": {}\n  },\n  "z": [1]\n}\n',
    "tabs": '{\n\t"mcpServers": {\n\t\t"a": {}\n\t}\n}\n',
    "four blanks": '{\n    "mcpServers": {\n        "a": {}\n    }\n}',
    "carriage returns": '{\r\n  "mcpServers": {\r\n    "a": {}\r\n  }\r\n}\r\n',
    "odd spacing": ' \n{ "mcpServers"  :\n\n{ "a" : { }\n } }  \n\n',
    "braces and quotes in strings": '{"a}{": "\\"mcpServers\\": {", "mcpServers": {"x": "// no comment /* none */,}"}}',
    "an escaped key": '{"\\u006dcpServers": {"a": {}}}',
    "other letters": '{"né": "日本", "mcpServers": {"ü": {}}}',
}
COMMENTED = {
    "behind the brace": '{ // all\n  "mcpServers": { // mine\n    // the first\n    "a": {} // one\n  }\n}\n',
    "across lines": '{ /* a\n b */ "mcpServers": { /* c\n */ "a": {} /* d */ } }',
    "before and after": '// top { "mcpServers": {}\n{"mcpServers": {"a": 1}}\n// end }\n',
    "trailing commas": '{\n  "mcpServers": {\n    "a": {"x": [1, 2,],},\n  },\n}\n',
    "a comma and a comment": '{"mcpServers": {"a": 1, // last\n }, /* more */ }',
    "servers that are a comment": '{\n  // "mcpServers": {}\n}\n',
    "an address": '{"u": "http://x//y", /* " */ "mcpServers": {"a": "/*"}}',
}


@pytest.mark.parametrize("name", [*TEXTS, *COMMENTED])
def test_everything_else_stays_to_the_byte(name: str):
    text = (TEXTS | COMMENTED)[name]
    new = edited(text)
    before, after = loaded(text, "jsonc"), loaded(new, "jsonc")
    assert is_insertion(text, new)
    assert after["mcpServers"].pop("kheish") == ENTRY
    assert after == before | {"mcpServers": before.get("mcpServers", {})}
    assert ("\r\n" in text) == ("\r\n" in new)
    assert new.count("\n") == new.count("\r\n") or "\r\n" not in text


@pytest.mark.parametrize("name", [*TEXTS, *COMMENTED])
def test_a_second_time_changes_nothing_and_another_entry_replaces_only_ours(name: str):
    text = (TEXTS | COMMENTED)[name]
    once = edited(text)
    assert edit_for(once, "jsonc", PATH, ENTRY) is None
    twice = edited(once, entry=OTHER)
    assert edited(twice) == once


@pytest.mark.parametrize("name", COMMENTED)
def test_strict_json_with_comments_is_left_alone(name: str):
    with pytest.raises(Unclear, match="cannot be parsed"):
        edit_for(COMMENTED[name], "json", PATH, ENTRY)


def test_the_layout_is_the_file_s_own():
    assert edited('{\n\t"mcpServers": {\n\t\t"a": {}\n\t}\n}\n') == (
        '{\n\t"mcpServers": {\n\t\t"kheish": {\n\t\t\t"command": "/bin/kheish-daemon",\n\t\t\t"args": ["serve"]\n\t\t},'
        '\n\t\t"a": {}\n\t}\n}\n'
    )
    assert edited("{}", entry={"a": {}}) == '{\n  "mcpServers": {\n    "kheish": {\n      "a": {}\n    }\n  }\n}'
    assert edited(" \n", "json", {"a": 1}) == '{\n  "mcpServers": {\n    "kheish": {\n      "a": 1\n    }\n  }\n}\n'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "cannot be parsed"),
        ('{"mcpServers": {"a": }}', "cannot be parsed"),
        ('{"mcpServers": {}} x', "cannot be parsed"),
        ('{"a": "unclosed}', "cannot be parsed"),
        ("{'mcpServers': {}}", "cannot be parsed"),
        ("[" * 100_000, "cannot be parsed"),
        ("// nothing but a comment", "cannot be parsed"),
        ("[]", "holds no object"),
        ('"text"', "holds no object"),
        ('{"mcpServers": []}', "holds no object where mcpServers is"),
        ('{"mcpServers": null}', "holds no object where mcpServers is"),
        ('{"mcpServers": {}, "mcpServers": {"a": {}}}', "names mcpServers twice"),
        ('{"mcpServers": {"kheish": {}, "kheish": {"command": "x"}}}', "names kheish twice"),
        ('{"mcpServers": {"kheish": {"command": "x" /* why */}}}', "has an entry with comments in it"),
    ],
)
def test_a_text_that_is_not_understood_is_left_alone(text: str, why: str):
    with pytest.raises(Unclear, match=why):
        edit_for(text, "jsonc", PATH, ENTRY)


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@given(
    st.dictionaries(st.text(max_size=5) | st.just("mcpServers"), values, max_size=4),
    st.none() | st.dictionaries(st.text(max_size=5), values, max_size=3),
    st.sampled_from([None, 1, 4, "\t"]),
    st.booleans(),
)
def test_any_document_keeps_what_it_had(
    document: dict[str, Any], servers: dict[str, Any] | None, indent: int | str | None, plain: bool
):
    document = {key: value for key, value in document.items() if key != "mcpServers"}
    if servers is not None:
        document["mcpServers"] = {key: value for key, value in servers.items() if key != "kheish"}
    text = json.dumps(document, indent=indent, ensure_ascii=plain)
    new = edited(text, "json")
    assert is_insertion(text, new)
    after = json.loads(new)
    assert after["mcpServers"].pop("kheish") == ENTRY
    assert after == document | {"mcpServers": document.get("mcpServers", {})}
    assert edit_for(new, "json", PATH, ENTRY) is None


TOML = {
    "empty": "",
    "others": 'model = "x" # mine\n\n[mcp_servers.a]\ncommand = "y"\n',
    "no line at the end": "[tui]\nx = 1",
    "carriage returns": "# top\r\n[tui]\r\nx = 1\r\n",
    "a header in a string": 'x = """\n[mcp_servers.kheish]\ncommand = 1\n"""\n',
}


@pytest.mark.parametrize("name", TOML)
def test_toml_is_added_to_at_its_end(name: str):
    text = TOML[name]
    new = edited(text, "toml")
    assert new.startswith(text)
    after = tomllib.loads(new)
    assert after["mcp_servers"].pop("kheish") == ENTRY
    assert after == {"mcp_servers": {}} | tomllib.loads(text)
    assert new.count("\n") == new.count("\r\n") or "\r\n" not in text
    assert edit_for(new, "toml", TABLE, ENTRY) is None


def test_a_toml_table_is_replaced_between_its_neighbours():
    head, tail = "# top\n[a]\nx = 1 # one\n\n[ mcp_servers . kheish ]\n", "\n# of b\n[b]\ny = [\n  2,\n]\n"
    new = edited(head + 'command = "old"\nargs = [\n  "x",\n]\n' + tail, "toml")
    assert (
        new
        == '# top\n[a]\nx = 1 # one\n\n[mcp_servers.kheish]\ncommand = "/bin/kheish-daemon"\nargs = ["serve"]\n' + tail
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = ", "cannot be parsed"),
        ("[mcp_servers]\n[mcp_servers]\n", "cannot be parsed"),
        ("mcp_servers = { a = { command = 'x' } }\n", "cannot be parsed"),
        ("mcp_servers = 5\n", "cannot be parsed"),
        ("[mcp_servers]\nkheish = { command = 'x' }\n", "in a form that is not understood"),
        ("[mcp_servers.kheish]\ncommand = 'x' # why\n", "has an entry with comments in it"),
        ("[mcp_servers.kheish]\ncommand = 'x'\n[mcp_servers.kheish.env]\nA = 'b'\n", "is laid out in a way"),
        ('x = """\n[mcp_servers.kheish]\n"""\n[mcp_servers."kheish"]\ncommand = 1\n', "cannot be parsed"),
    ],
)
def test_toml_that_is_not_understood_is_left_alone(text: str, why: str):
    with pytest.raises(Unclear, match=why):
        edit_for(text, "toml", TABLE, ENTRY)
