"""routes.toml: what a good file means, and where and how every bad one is refused without a word of its values."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kheish_mcp.drivers import DRIVERS, flags_by_driver
from kheish_mcp.errors import ConfigError
from kheish_mcp.route_keys import FLAGS, LIMITS, MODEL_KEYS, MODELS, ROUTE, SLOT, TOP
from kheish_mcp.routes import (
    LARGEST,
    PATHS,
    Limits,
    Route,
    Routes,
    builtin_routes,
    parse_routes,
    read_routes,
    with_address,
)
from kheish_mcp.secret import Secret
from kheish_mcp.stores.envelope import NAME

EXAMPLE = Path(__file__).resolve().parent.parent / "routes.example.toml"
SOURCE = Path("/etc/kheish/routes.toml")
BACKENDS: Mapping[str, frozenset[str]] = {
    "openrouter": frozenset(FLAGS) - {"native_web_search"},
    "openai": frozenset(FLAGS),
    "local": frozenset(MODEL_KEYS),
}
SPY = "sk-or-v1-SPY0123456789"
HEAD = '[routes.openrouter]\ndriver = "openrouter"\ndefault_model = "openai/gpt-5.4-mini"\n'
LOCAL = '[routes.local]\ndriver = "local"\n'
TABLE = "routes.openrouter"
PAGE_FILE = """version = 1
default_route = "openrouter"

[routes.openrouter]
driver = "openrouter"
default_model = "openai/gpt-5.4-mini"
model_support = "any"
auth_ref = "openrouter.primary"
"""


def parsed(text: str, **options: Any) -> Routes:
    return parse_routes(text, source=SOURCE, drivers=BACKENDS, **options)


def only(text: str) -> Route:
    """The one route of a text."""
    (route,) = parsed(text).routes
    return route


def refusal(text: str, **options: Any) -> ConfigError:
    """How a text is refused; no refusal repeats the spy, or has a hint or a position less than it should."""
    with pytest.raises(ConfigError) as refused:
        parsed(text, **options)
    shown = json.dumps(refused.value.as_json(), ensure_ascii=False)
    assert SPY not in shown
    assert "\x1b" not in refused.value.message + str(refused.value.hint)
    assert refused.value.hint
    return refused.value


def test_the_page_s_own_file_is_read():
    routes = parsed(PAGE_FILE)
    expected = Route("openrouter", "openrouter", "openai/gpt-5.4-mini", "any", auth_ref="openrouter.primary")
    assert routes == Routes((expected,), "openrouter", SOURCE)
    assert expected.limits == Limits(8, None, None)


def test_every_key_has_its_place_in_a_route():
    text = """
    [routes.r]
    driver = "openai"
    default_model = "gpt-5.4-mini"
    api_key_env = "MY_KEY_2"
    base_url = "https://gateway.example:8443/v2/"
    native_web_search = true
    image_edit = false
    models = { image_generation = ["a/b", "c"], transcription = "d" }
    limits = { max_concurrency = 64, max_cost_usd_per_call = 0, max_cost_usd_per_day = 1.5 }
    preferences = { zdr = true, order = ["x", "y"], max_price = { image = "0.1", n = 2, f = 0.5 } }
    """
    assert only(text) == Route(
        "r",
        "openai",
        "gpt-5.4-mini",
        "family",
        api_key_env="MY_KEY_2",
        base_url="https://gateway.example:8443/v2",
        flags={"native_web_search": True, "image_edit": False},
        models={"image_generation": ("a/b", "c"), "transcription": ("d",)},
        limits=Limits(64, 0, 1.5),
        preferences={"zdr": True, "order": ["x", "y"], "max_price": {"image": "0.1", "n": 2, "f": 0.5}},
    )


def test_the_default_comes_first_and_the_others_by_id():
    text = "".join(f'[routes.{name}]\ndriver = "local"\n' for name in ("c", "a", "d", "b"))
    routes = parsed(f'default_route = "c"\n{text}')
    assert [route.route_id for route in routes.routes] == ["c", "a", "b", "d"]
    assert routes.default_route == "c"
    assert parsed(f'default_route = "c"\n{text}', default_route="d").default_route == "d"
    assert parsed(text, default_route="b").routes[0].route_id == "b"


def test_one_route_is_the_default_by_itself():
    assert parsed(LOCAL).default_route == "local"


@pytest.mark.parametrize("route_id", ["a.b", "OpenRouter", "\u00e9t\u00e9", "1", "a-b_c", "default_route", "{x}"])
def test_a_route_id_may_be_almost_anything(route_id: str):
    assert parsed(f'[routes.{json.dumps(route_id)}]\ndriver = "local"').default_route == route_id


@pytest.mark.parametrize(
    ("driver", "written", "meant"),
    [
        ("openrouter", "https://host", "https://host/api/v1"),
        ("openrouter", "https://host/", "https://host/api/v1"),
        ("openrouter", "https://host:8443", "https://host:8443/api/v1"),
        ("openrouter", "https://host/api/v1", "https://host/api/v1"),
        ("openrouter", "https://host/api/v1/", "https://host/api/v1"),
        ("openrouter", "https://host/x", "https://host/x"),
        ("openrouter", "http://127.0.0.1:8080", "http://127.0.0.1:8080/api/v1"),
        ("openrouter", "https://[::1]:8443", "https://[::1]:8443/api/v1"),
        ("openai", "https://host", "https://host/v1"),
        ("openai", "https://host/api/v1", "https://host/api/v1"),
    ],
)
def test_a_base_url_without_a_path_gets_the_driver_s_own(driver: str, written: str, meant: str):
    assert only(f'[routes.r]\ndriver = "{driver}"\ndefault_model = "m"\nbase_url = "{written}"').base_url == meant


def test_the_driver_s_own_path_is_the_one_of_its_own_address():
    for name, driver in DRIVERS.items():
        if driver.default_base_url is not None:
            assert driver.default_base_url.endswith(PATHS[name])


def test_a_key_in_the_file_works_and_is_warned_of():
    routes = parsed(f'{HEAD}  api_key = "{SPY}"\n')
    assert routes.routes[0].api_key == Secret(SPY)
    (warning,) = routes.warnings
    assert warning.startswith(f"{SOURCE}:4:3: the key stands in the file")
    assert SPY not in f"{warning} {routes!r}"


def test_a_slot_s_name_is_what_the_auth_store_says():
    assert SLOT.pattern == NAME.pattern


def test_everything_may_be_switched_off():
    text = '[routes.r]\ndriver = "local"\n' + "".join(f"{flag} = false\n" for flag in FLAGS)
    assert only(text).flags == dict.fromkeys(FLAGS, False)


@dataclass(frozen=True)
class Bad:
    """A text that has to be refused at the place of the mark; what the message says, and the nearest known key."""

    text: str
    key: str
    says: str
    table: str = ""
    nearest: str | None = None


MARK = "\u2038"
NO_KEY = "there is no such key"


def in_route(line: str, key: str, says: str, nearest: str | None = None) -> Bad:
    return Bad(f"{HEAD}{line}\n", key, says, TABLE, nearest)


def in_table(name: str, line: str, key: str, says: str, nearest: str | None = None) -> Bad:
    return Bad(f"{HEAD}[routes.openrouter.{name}]\n{line}\n", key, says, f"{TABLE}.{name}", nearest)


URLS = [
    "openrouter.ai", "/api/v1", "//host/v1", "ftp://host", "https://", "https:///v1", "https://:443", "https://host:0",
    "https://host:65536", "https://host:x", "https://[::1", "https://host\\\\@x", f"https://u:{SPY}@host", "https://@host",
    f"https://host?key={SPY}", "https://host?", f"https://host/#{SPY}", "https://host#", "https://ho st", " https://host",
    "https://ho\\u0000st", "https://ho\\u2100st", "",
]  # fmt: skip

BAD = [
    # the top
    Bad(f"{MARK}version = 2\n{HEAD}", "version", "it must be 1"),
    Bad(f'{MARK}version = "{SPY}"\n{HEAD}', "version", "it must be 1"),
    Bad(f"{MARK}version = true\n{HEAD}", "version", "it must be 1"),
    Bad(f"{MARK}version = 1.0\n{HEAD}", "version", "it must be 1"),
    Bad(f"# {SPY}\n\n  {MARK}verison = 1\n{HEAD}", "verison", NO_KEY, nearest="version"),
    Bad(f'{MARK}default_rout = "{SPY}"\n{HEAD}', "default_rout", NO_KEY, nearest="default_route"),
    Bad(f'{MARK}default_route = ["{SPY}"]\n{HEAD}', "default_route", "it must be a text"),
    Bad(f'{MARK}default_route = ""\n{HEAD}', "default_route", "it must be a text"),
    Bad(f'{MARK}default_route = "{SPY}"\n{HEAD}', "default_route", "names no route"),
    Bad(f'{MARK}default_route = "openruoter"\n{HEAD}', "default_route", "names no route", nearest="openrouter"),
    Bad(f"{MARK}{HEAD}{LOCAL}", "default_route", "it is missing, and there are several routes"),
    Bad(f'[{MARK}route.openrouter]\ndriver = "{SPY}"', "route", NO_KEY, nearest="routes"),
    Bad(f'{MARK}"a b" = "{SPY}"\n{HEAD}', '"a b"', NO_KEY),
    Bad(MARK, "routes", "it holds no route"),
    Bad(f"{MARK}# {SPY}\n", "routes", "it holds no route"),
    Bad(f"version = 1\n[{MARK}routes]\n", "routes", "it holds no route"),
    Bad(f'{MARK}routes = "{SPY}"', "routes", "it must be a table"),
    Bad(f'[[{MARK}routes]]\ndriver = "{SPY}"', "routes", "it must be a table"),
    # a route
    Bad(f'routes.{MARK}openrouter = "{SPY}"', "openrouter", "it must be a table", "routes"),
    Bad(f'[[routes.{MARK}openrouter]]\ndriver = "{SPY}"', "openrouter", "it must be a table", "routes"),
    Bad(f'[routes.{MARK}""]\ndriver = "{SPY}"', '""', "a route id is not empty", "routes"),
    Bad(f'[routes.{MARK}"a/b"]\ndriver = "{SPY}"', '"a/b"', "a route id is not empty", "routes"),
    Bad(f'[routes.{MARK}"a b"]\ndriver = "{SPY}"', '"a b"', "a route id is not empty", "routes"),
    Bad(f'[routes.{MARK}" a"]\ndriver = "{SPY}"', '" a"', "a route id is not empty", "routes"),
    Bad(f'[routes.{MARK}"a\\u00a0b"]\ndriver = "{SPY}"', '"a\\u00a0b"', "a route id is not empty", "routes"),
    Bad(f'[routes.{MARK}"\\u001b[31m"]\ndriver = "{SPY}"', '"\\u001b[31m"', "a route id is not empty", "routes"),
    Bad(f'[routes.{MARK}openrouter]\ndefault_model = "{SPY}"', "driver", "it is missing", TABLE),
    Bad(f"[routes.openrouter.limits]\n[routes.{MARK}openrouter]\n", "driver", "it is missing", TABLE),
    Bad(f"[routes.{MARK}openrouter.limits]\n", "driver", "it is missing", TABLE),
    Bad(f'[routes.{MARK}openrouter]\ndriver = "openrouter"', "default_model", "it is missing", TABLE),
    Bad(f'[routes.r]\n{MARK}driver = "{SPY}"\ndefault_model = "m"', "driver", "no such driver", "routes.r"),
    Bad(f'[routes.r]\n{MARK}driver = "anthropic"', "driver", "no such driver among local, openai,", "routes.r"),
    Bad(f'[routes.r]\n{MARK}driver = "OpenRouter"', "driver", "no such driver", "routes.r", "openrouter"),
    Bad(f'[routes.r]\n{MARK}driver = ["{SPY}"]', "driver", "it must be a text", "routes.r"),
    Bad(f'[routes.r]\n{MARK}drvier = "{SPY}"', "drvier", NO_KEY, "routes.r", "driver"),
    Bad(f'[routes."a.b"]\n{MARK}drvier = "{SPY}"', "drvier", NO_KEY, 'routes."a.b"', "driver"),
    Bad(f'[routes.r]\ndriver = "local"\n{MARK}multimodal_input = true', "multimodal_input", "no backend", "routes.r"),
    Bad(f'[routes.r]\ndriver = "local"\n{MARK}openai_auth_source = "{SPY}"', "openai_auth_source", NO_KEY, "routes.r"),
    Bad(
        f'routes = {{ r = {{ driver = "local", {MARK}auth_rf = "{SPY}" }} }}', "auth_rf", NO_KEY, "routes.r", "auth_ref"
    ),
    Bad(f'routes.r.driver = "local"\nroutes.r. {MARK}base_ur = "{SPY}"', "base_ur", NO_KEY, "routes.r", "base_url"),
    # a route's keys
    in_route(f'{MARK}default_modl = "{SPY}"', "default_modl", NO_KEY, "default_model"),
    in_route(f'\t{MARK}"base url" = "{SPY}"', '"base url"', NO_KEY, "base_url"),
    in_route(f'{MARK}"base_url\\n" = "{SPY}"', '"base_url\\n"', NO_KEY, "base_url"),
    in_route(f"api_key = '''{SPY}'''\n{MARK}Auth_ref = 1", "Auth_ref", NO_KEY, "auth_ref"),
    in_route(f'api_key = """\\\n  {SPY}"""\n{MARK}zdr = true', "zdr", NO_KEY),
    in_route(f'{MARK}headers = {{ Authorization = "{SPY}" }}', "headers", NO_KEY),
    in_route(f'{MARK}model_support = "{SPY}"', "model_support", 'it must be "family" or "any"'),
    in_route(f'{MARK}model_support = ["{SPY}"]', "model_support", 'it must be "family" or "any"'),
    in_route(f'{MARK}auth_ref = " {SPY}"', "auth_ref", "it must be the name of a slot"),
    in_route(f'{MARK}auth_ref = "{SPY}"', "auth_ref", "it must be the name of a slot"),
    in_route(f"{MARK}auth_ref = 5", "auth_ref", "it must be the name of a slot"),
    in_route(f'{MARK}api_key_env = "{SPY}"', "api_key_env", "it must be the name of a variable"),
    in_route(f'{MARK}api_key_env = ""', "api_key_env", "it must be the name of a variable"),
    in_route(f'{MARK}api_key_env = "\u00c4"', "api_key_env", "it must be the name of a variable"),
    in_route(f'{MARK}api_key = " {SPY}"', "api_key", "it must be a text"),
    in_route(f'{MARK}api_key = "{SPY}\\n"', "api_key", "it must be a text"),
    in_route(f'{MARK}api_key = ["{SPY}"]', "api_key", "it must be a text"),
    in_route(f'api_key = "{SPY}"\n{MARK}auth_ref = "r"', "auth_ref", "api_key is there already"),
    in_route(f'auth_ref = "r"\n{MARK}api_key = "{SPY}"', "api_key", "auth_ref is there already"),
    in_route(f'api_key_env = "KEY"\n{MARK}api_key = "{SPY}"', "api_key", "api_key_env is there already"),
    *(in_route(f'{MARK}base_url = "{url}"', "base_url", "it must be an absolute http(s) URL") for url in URLS),
    in_route(f'{MARK}image_generation = "{SPY}"', "image_generation", "it must be true or false"),
    in_route(f"{MARK}transcription = 1", "transcription", "it must be true or false"),
    in_route(f"{MARK}native_web_search = true", "native_web_search", "has no backend for it"),
    in_route(f"{MARK}imagegeneration = true", "imagegeneration", NO_KEY, "image_generation"),
    in_route(f'{MARK}models = "{SPY}"', "models", "it must be a table"),
    in_route(f'{MARK}limits = ["{SPY}"]', "limits", "it must be a table"),
    in_route(f'{MARK}preferences = "{SPY}"', "preferences", "it must be a table"),
    Bad(f'{HEAD}[routes.openrouter.{MARK}model]\ntext = "{SPY}"', "model", NO_KEY, TABLE, "models"),
    # the tables of a route
    in_table("models", f'{MARK}image_generaton = "{SPY}"', "image_generaton", NO_KEY, "image_generation"),
    in_table("models", f'{MARK}text = "{SPY}"', "text", NO_KEY),
    in_table("models", f"{MARK}image_edit = []", "image_edit", "it must be a model id"),
    in_table("models", f'{MARK}image_edit = ["{SPY}", 1]', "image_edit", "it must be a model id"),
    in_table("models", f'{MARK}image_edit = ["{SPY}", ""]', "image_edit", "it must be a model id"),
    in_table("models", f'{MARK}image_edit = {{ x = "{SPY}" }}', "image_edit", "it must be a model id"),
    in_table("models", f'{MARK}transcription = ""', "transcription", "it must be a model id"),
    in_table("limits", f'{MARK}max_cost_usd = "{SPY}"', "max_cost_usd", NO_KEY, "max_cost_usd_per_day"),
    *(
        in_table("limits", f"{MARK}max_concurrency = {value}", "max_concurrency", "it must be a whole number")
        for value in ("0", "65", "-1", "true", "1.5", f'"{SPY}"')
    ),
    *(
        in_table("limits", f"{MARK}max_cost_usd_per_call = {value}", "max_cost_usd_per_call", "an amount in USD")
        for value in ("-0.01", "nan", "inf", "true", "1e9", f'"{SPY}"')
    ),
    *(
        Bad(f"{HEAD}[routes.openrouter.{MARK}preferences]\nx = {value}", "preferences", "what JSON can say", TABLE)
        for value in ("1979-05-27", "07:32:00", "nan", "[1, inf]", "{ y = -inf }", str(1 << 60), f'["{SPY}", 07:32:00]')
    ),
    # no TOML at all
    Bad(f"api_key = {MARK}{SPY}", "", "this is not valid TOML"),
    Bad(f"{HEAD}api_key {MARK}{SPY}", "", "this is not valid TOML"),
    Bad(f'{HEAD}api_key = "{SPY}{MARK}\n', "", "this is not valid TOML"),
    Bad(f'{HEAD}api_key = """{SPY}\n\n"{MARK}', "", "this is not valid TOML"),
    Bad(f'{HEAD}api_key = ["{SPY}"\n{MARK}', "", "this is not valid TOML"),
    Bad(f'{HEAD}api_key = "{SPY}\\q{MARK}"', "", "this is not valid TOML"),
    Bad(f'{HEAD}{MARK}= "{SPY}"', "", "this is not valid TOML"),
    Bad(f'{HEAD}# (at line 9, column 9)\n"{SPY} (at line 7, column 7)" {MARK}', "", "this is not valid TOML"),
    Bad(f"{MARK}\ufeff{HEAD}", "", "this is not valid TOML"),
    Bad(f'{HEAD}api_key = "{SPY}" {MARK}auth_ref = "r"', "", "this is not valid TOML"),
    Bad(f"{MARK}x = {'9' * 5000}", "", "a number is too long"),
    Bad(f"{MARK}x = {'[' * 5000}{']' * 5000}", "", "nested too deeply"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: re.sub(r"[^\w=.-]+", " ", bad.text.replace(HEAD, ""))[:60])
def test_a_bad_file_is_refused_where_it_is_bad(bad: Bad):
    before, text = bad.text.partition(MARK)[0].split("\n"), bad.text.replace(MARK, "")
    line, column = len(before), len(before[-1]) + 1
    error = refusal(text)
    where = f"{bad.key} in [{bad.table}]: " if bad.table else f"{bad.key}: " if bad.key else ""
    assert error.message.startswith(f"{SOURCE}:{line}:{column}: {where}")
    assert bad.says in error.message
    expected: dict[str, Any] = {"file": str(SOURCE), "line": line, "column": column}
    if bad.key:
        expected |= {"table": bad.table, "key": bad.key}
    if bad.nearest is not None:
        expected["nearest"] = bad.nearest
        assert f"did you mean {bad.nearest}?" in error.message
    assert error.details == expected


@pytest.mark.parametrize(
    "line",
    [
        'openai_auth_source = "codex"',
        'openai_auth_source = "api_key"',
        f'openai_auth_file = "{SPY}"',
        'anthropic_auth_source = "claude_code"',
        f'anthropic_credentials_file = "{SPY}"',
    ],
)
def test_an_account_login_on_an_openrouter_route_is_refused(line: str):
    for text in (
        f"{HEAD}{line}\n",
        f"{HEAD}{line}\nauth_ref = 5\n",
        f'[routes.openrouter]\n{line}\ndriver = "openrouter"',
    ):
        error = refusal(text)
        assert "OpenRouter routes are API-key routes" in error.message
        assert error.details["key"] == line.partition(" ")[0]
        assert "auth_ref" in str(error.hint)


def test_a_default_route_from_outside_is_blamed_on_where_it_came_from():
    error = refusal(HEAD, default_route=SPY)
    assert "--default-route or KHEISH_DEFAULT_ROUTE names no route of this file" in error.message
    assert error.hint == "Known: openrouter."
    assert refusal(HEAD, default_route="openruoter").details["nearest"] == "openrouter"
    assert (
        "default_route: it names no route"
        in refusal(f'default_route = "x"\n{HEAD}', default_route="openrouter").message
    )


def test_hints_list_what_is_known():
    assert refusal(f"{HEAD}zzz = 1").hint == f"Known: {', '.join(ROUTE)}."
    assert refusal('[routes.r]\ndriver = "x"').hint == "Known: local, openai, openrouter."
    assert refusal('[routes."a.b"]\ndriver = "local"\n[routes.c]\ndriver = "local"').hint == 'One of: "a.b", c.'


def test_a_very_long_key_is_cut():
    assert len(refusal(f"{HEAD}{'k' * 100_000} = 1").message) < 200


def test_the_example_file_is_read_by_the_drivers_that_exist():
    routes = read_routes(EXAMPLE, drivers=flags_by_driver())
    assert [route.route_id for route in routes.routes] == ["openrouter", "local"]
    assert (routes.default_route, routes.source, routes.warnings) == ("openrouter", EXAMPLE, ())
    assert routes.routes[0].limits == Limits()


def test_every_known_key_stands_once_in_the_example_file_with_a_word_of_why():
    text = EXAMPLE.read_text(encoding="utf-8")
    body = text[text.index("version = 1") :]
    bare = {line for line in body.splitlines() if re.match(r"# \w+ = ", line)}
    full = tomllib.loads("\n".join(line.removeprefix("# ") if line in bare else line for line in body.splitlines()))
    route = full["routes"]["openrouter"]
    for rules, table in ((TOP, full), (ROUTE, route), (MODELS, route["models"]), (LIMITS, route["limits"])):
        assert list(rules) == list(table)
        assert all(rule.allows(table[key]) for key, rule in rules.items())
    keys = [*TOP, *ROUTE, *LIMITS]
    written = re.findall(r"^(?:# )?(\w+) = .*?(#.*)?$", body[: body.index("[routes.local]")], re.MULTILINE)
    assert {key for key, _ in written} >= set(keys) - {"routes", "models", "limits", "preferences"}
    explained = {key for key, why in written if why} | {"base_url", *MODEL_KEYS}
    assert explained == {key for key, _ in written}


def test_a_file_is_read(tmp_path: Path):
    (tmp_path / "real.toml").write_bytes(b"\xef\xbb\xbf" + PAGE_FILE.replace("\n", "\r\n").encode())
    link = tmp_path / "routes.toml"
    link.symlink_to("real.toml")
    routes = read_routes(link, drivers=BACKENDS)
    assert routes == Routes(parsed(PAGE_FILE).routes, "openrouter", link)
    assert read_routes(link, drivers=BACKENDS, default_route="openrouter") == routes


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read (No such file or directory)"),
        (PAGE_FILE.encode("utf-16"), "is not UTF-8"),
        (f'{HEAD}api_key = "{SPY}\u00e9"'.encode("latin-1"), "is not UTF-8"),
        (b"#" * (LARGEST + 1), "is larger than 1,048,576 bytes"),
        (b"#" * (LARGEST - 1) + "\u00e9".encode(), "is larger than 1,048,576 bytes"),
        (b"\x00" * 10, "1:1: this is not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, says: str, tmp_path: Path):
    path = tmp_path / "routes.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        read_routes(path, drivers=BACKENDS)
    assert refused.value.message.startswith(f"{path}:")
    assert says in refused.value.message
    assert refused.value.hint
    assert SPY not in str(refused.value.as_json())


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(ConfigError, match="is not a file"):
            read_routes(path, drivers=BACKENDS)
    (tmp_path / "around").symlink_to("around")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_routes(tmp_path / "around", drivers=BACKENDS)


def test_the_largest_file_is_read(tmp_path: Path):
    path = tmp_path / "routes.toml"
    path.write_bytes(LOCAL.encode() + b"#" * (LARGEST - len(LOCAL)))
    assert read_routes(path, drivers=BACKENDS).default_route == "local"


def test_without_a_file_local_is_always_there():
    assert builtin_routes(openrouter=False) == Routes((Route("local", "local"),), "local")
    assert builtin_routes(openrouter=False, base_url="nonsense").default_route == "local"


@pytest.mark.parametrize(
    ("by_slot", "auth_ref", "api_key_env"), [(True, "openrouter.primary", None), (False, None, "OPENROUTER_API_KEY")]
)
def test_without_a_file_a_key_brings_the_route_openrouter(by_slot: bool, auth_ref: str | None, api_key_env: str | None):
    routes = builtin_routes(openrouter=True, by_slot=by_slot)
    first = Route("openrouter", "openrouter", "openai/gpt-5.4-mini", "any", auth_ref=auth_ref, api_key_env=api_key_env)
    assert routes == Routes((first, Route("local", "local")), "openrouter")


def test_the_built_in_address_may_be_replaced():
    first = builtin_routes(openrouter=True, base_url="http://127.0.0.1:9").routes[0]
    assert first.base_url == "http://127.0.0.1:9/api/v1"
    with pytest.raises(ConfigError, match="OPENROUTER_BASE_URL is not an absolute") as refused:
        builtin_routes(openrouter=True, base_url=f"https://u:{SPY}@host")
    assert SPY not in str(refused.value.as_json())


def test_the_built_in_default_may_be_chosen():
    routes = builtin_routes(openrouter=True, default_route="local")
    assert [route.route_id for route in routes.routes] == ["local", "openrouter"]
    assert routes.default_route == "local"
    with pytest.raises(ConfigError, match="none of the built-in routes") as refused:
        builtin_routes(openrouter=False, default_route="openrouter")
    assert "OPENROUTER_API_KEY" in str(refused.value.hint)


NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x2FF, categories=("L", "N", "P", "S")), min_size=1)
SECRETS = st.sampled_from([{"auth_ref": "a.b"}, {"api_key_env": "KEY"}, {"api_key": SPY}, {}])
ROUTES = st.fixed_dictionaries(
    {"driver": st.just("openrouter"), "default_model": NAMES},
    optional={
        "model_support": st.sampled_from(["family", "any"]),
        "image_generation": st.booleans(),
        "native_web_search": st.just(False),
        "models": st.dictionaries(st.sampled_from(MODEL_KEYS), NAMES | st.lists(NAMES, min_size=1), max_size=3),
        "limits": st.fixed_dictionaries({}, optional={"max_concurrency": st.integers(1, 64)}),
    },
)


def toml(value: Any) -> str:
    """A value as TOML, with inline tables."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(key, ensure_ascii=False)} = {toml(inner)}" for key, inner in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


@given(st.dictionaries(NAMES.filter(lambda name: "/" not in name), st.tuples(ROUTES, SECRETS), min_size=1, max_size=3))
def test_what_was_written_is_what_is_read(written: dict[str, tuple[dict[str, Any], dict[str, str]]]):
    tables = {name: {**table, **secret} for name, (table, secret) in written.items()}
    default = sorted(tables)[-1]
    routes = parsed(f"default_route = {toml(default)}\nroutes = {toml(tables)}")
    assert [route.route_id for route in routes.routes] == [default, *sorted(tables)[:-1]]
    assert len(routes.warnings) == sum("api_key" in table for table in tables.values())
    for route in routes.routes:
        table = tables[route.route_id]
        assert route.default_model == table["default_model"]
        assert route.flags == {flag: table[flag] for flag in FLAGS if flag in table}
        models = table.get("models", {})
        assert route.models == {key: tuple(v) if isinstance(v, list) else (v,) for key, v in models.items()}
        assert route.limits.max_concurrency == table.get("limits", {}).get("max_concurrency", 8)
        assert (route.auth_ref, route.api_key_env) == (table.get("auth_ref"), table.get("api_key_env"))


def test_another_address_replaces_only_the_one_that_a_route_does_not_name():
    text = """
default_route = "a"
[routes.a]
driver = "openrouter"
default_model = "v/m"
[routes.b]
driver = "openrouter"
default_model = "v/m"
base_url = "http://127.0.0.1:1"
[routes.c]
driver = "local"
"""
    moved = with_address(parsed(text), "http://127.0.0.1:9")
    assert [route.base_url for route in moved.routes] == [
        "http://127.0.0.1:9/api/v1", "http://127.0.0.1:1/api/v1", None,
    ]  # fmt: skip
    assert with_address(parsed(text), None) == parsed(text)
    with pytest.raises(ConfigError):
        with_address(parsed(text), f"https://u:{SPY}@host")


def told(text: str) -> str:
    """What a text comes to: its routes or its refusal, never anything else."""
    try:
        return repr(parsed(text))
    except ConfigError as error:
        return f"{error.message} {error.hint} {error.details}"


@given(st.data())
def test_a_damaged_file_is_read_or_refused_and_tells_nothing(data: st.DataObject):
    text = f'{EXAMPLE.read_text(encoding="utf-8")}api_key = "{SPY}"\n'
    start = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 3))
    inserted = data.draw(st.text(st.sampled_from("\"'=[]{}.,#\n\\ x1"), max_size=3))
    assert SPY not in told(text[:start] + inserted + text[start + length :])


@given(st.text(st.sampled_from("\"'=[]{}.,#\n\\ ab1") | st.characters(max_codepoint=0x2FF), max_size=50))
def test_any_text_is_read_or_refused(text: str):
    assert told(text).startswith((str(SOURCE), "Routes("))
