"""`secrets check` and `secrets login`: the provider is asked, the browser comes back, and no key is ever shown."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import anyio
import httpx2
import pytest

from kheish_mcp.cli import run
from kheish_mcp.cli.callback import Callback
from kheish_mcp.drivers.openrouter.keys import SignIn, decode_standing
from kheish_mcp.errors import PermissionDenied, Unavailable
from kheish_mcp.secret import Secret
from kheish_mcp.stores.auth import AuthStore
from tests.conftest import CANARY, environment
from tests.emulators.openrouter import OpenRouterEmulator

REF = "openrouter.primary"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def env(state_root: Path, emulator: OpenRouterEmulator) -> dict[str, str]:
    """An initialised state root whose OpenRouter is the stand-in."""
    AuthStore(state_root).init()
    return environment(state_root, OPENROUTER_BASE_URL=emulator.base_url, BROWSER="true")


@pytest.fixture
def secrets(env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs `secrets ...`: the exit code, what went out as data, and what was said."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    def command(*arguments: str, output: str = "json") -> tuple[int, str, str]:
        return run(["secrets", *arguments, "--output", output]), *capfd.readouterr()

    return command


def keep(state_root: Path, key: str = CANARY, provider: str = "openrouter", ref: str = REF) -> None:
    """Puts a key into a slot."""
    AuthStore(state_root).set(ref, provider, Secret(key))


def test_a_key_that_is_taken_is_told_with_its_money(secrets: Run, state_root: Path, emulator: OpenRouterEmulator):
    keep(state_root)
    code, out, _ = secrets("check", REF)
    assert code == 0
    assert json.loads(out) == {
        "slot_id": REF, "provider": "openrouter", "ok": True, "spent_usd": 0.0, "left_usd": 100.0,
        "expires_at": "2027-12-31T23:59:59Z",
    }  # fmt: skip
    assert [(seen.method, seen.path) for seen in emulator.requests] == [("GET", "/key")]
    assert "$100.00 left" in secrets("check", REF, output="pretty")[1]


def test_a_key_that_is_not_taken_is_an_authentication_failure(secrets: Run, state_root: Path):
    keep(state_root, "sk-or-v1-another")
    code, out, err = secrets("check", REF)
    assert (code, out) == (4, "")
    assert json.loads(err)["error"]["code"] == "unauthenticated"


def test_the_key_goes_where_its_routes_send_it(
    secrets: Run, state_root: Path, tmp_path: Path, emulator: OpenRouterEmulator, monkeypatch: pytest.MonkeyPatch
):
    routes = f'version = 1\n[routes.own]\ndriver = "openrouter"\nauth_ref = "{REF}"\nbase_url = "{emulator.base_url}"\n'
    (tmp_path / "routes.toml").write_text(routes + 'default_model = "openai/gpt-5.4-mini"\n')
    monkeypatch.setenv("KHEISH_ROUTES_FILE", str(tmp_path / "routes.toml"))
    monkeypatch.setenv("OPENROUTER_BASE_URL", "http://127.0.0.1:9/api/v1")
    keep(state_root)
    assert secrets("check", REF)[0] == 0
    keep(state_root, ref="spare")
    assert secrets("check", "spare")[0] == 3  # the built-in address, where nobody is


@pytest.mark.parametrize(("arguments", "code"), [
    (["check", "missing"], 5),
    (["check"], 2),
    (["check", REF, "--offline"], 2),
    (["check", "other"], 2),
    (["login", "openrouter", "--offline"], 2),
    (["login", "openai"], 2),
    (["login"], 2),
    (["login", "openrouter", "sk-or-v1-a-key"], 2),
])  # fmt: skip
def test_what_cannot_be_asked_asks_nobody(
    secrets: Run, state_root: Path, emulator: OpenRouterEmulator, arguments: list[str], code: int
):
    keep(state_root)
    keep(state_root, "value", "generic", "other")
    found, out, err = secrets(*arguments)
    assert (found, out) == (code, "")
    assert "sk-or-v1-a-key" not in err
    assert not emulator.requests


def test_nobody_signs_in_for_a_key_that_could_not_be_kept(secrets: Run, state_root: Path, emulator: OpenRouterEmulator):
    AuthStore(state_root).key_file.unlink()
    assert secrets("login", "openrouter")[0] == 4
    assert not emulator.requests


@contextmanager
def login(env: dict[str, str], *options: str) -> Generator[tuple[subprocess.Popen[str], str]]:
    """The program in the middle of a sign-in, and the page that it names."""
    command = [sys.executable, "-m", "kheish_mcp", "secrets", "login", "openrouter", *options]
    pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, env=env, text=True, **pipes) as program:
        try:
            assert program.stderr is not None
            yield program, next(line.strip() for line in program.stderr if line.startswith("http"))
        finally:
            program.kill()


def query_of(page: str) -> dict[str, str]:
    """The query of a page."""
    return dict(parse_qsl(urlsplit(page).query))


def ended(program: subprocess.Popen[str], stdin: str = "") -> tuple[int, str, str]:
    """How the program ends, once it is given its last words."""
    out, err = program.communicate(stdin, timeout=30)
    return program.returncode, out, err


def test_a_browser_s_visit_brings_a_key(env: dict[str, str], state_root: Path, emulator: OpenRouterEmulator):
    with login(env) as (program, page):
        asked = query_of(page)
        assert page.startswith(f"{emulator.origin}/auth?")
        assert asked["code_challenge_method"] == "S256"
        code = emulator.authorise(asked["code_challenge"])
        visited = httpx2.get(f"{asked['callback_url']}&code={code}", trust_env=False)
        assert (visited.status_code, "signed in" in visited.text) == (200, True)
        exit_code, out, err = ended(program)
    assert exit_code == 0, err
    slot = json.loads(out)
    assert (slot["slot_id"], slot["provider"], slot["left_usd"]) == (REF, "openrouter", 100.0)
    assert AuthStore(state_root).open(REF) == Secret(CANARY)
    assert CANARY not in out + err
    assert [(seen.method, seen.path) for seen in emulator.requests] == [("POST", "/auth/keys"), ("GET", "/key")]
    assert "authorization" not in emulator.requests[0].headers


def test_a_browser_inherits_no_key(env: dict[str, str], tmp_path: Path):
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(f"#!/bin/sh\nenv > {seen}\n")
    browser.chmod(0o700)
    secret = {"OPENROUTER_API_KEY": CANARY, "MY_TOKEN": CANARY, "KEYRING_PLACE": "kept"}
    with login({**env, **secret, "BROWSER": str(browser)}) as (program, page):
        httpx2.get(f"{query_of(page)['callback_url']}&error=denied", trust_env=False)
        assert ended(program)[0] == 4
    inherited = seen.read_text()
    assert "KEYRING_PLACE=kept" in inherited
    assert CANARY not in inherited


def test_without_a_browser_the_code_is_pasted(env: dict[str, str], state_root: Path, emulator: OpenRouterEmulator):
    with login(env, "spare", "--no-browser") as (program, page):
        asked = query_of(page)
        assert "callback_url" not in asked
        exit_code, out, _ = ended(program, f"{emulator.authorise(asked['code_challenge'])}\n")
    assert exit_code == 0
    assert json.loads(out)["slot_id"] == "spare"
    assert AuthStore(state_root).open("spare") == Secret(CANARY)


def test_a_wrong_code_brings_nothing(env: dict[str, str], state_root: Path):
    with login(env, "--no-browser") as (program, _):
        exit_code, out, err = ended(program, "auth_code_of_somebody_else\n")
    assert (exit_code, out) == (4, "")
    assert "a code is good once" in err
    assert AuthStore(state_root).list() == ()


@pytest.mark.anyio
async def test_a_code_is_worth_nothing_without_its_verifier(emulator: OpenRouterEmulator):
    mine, theirs = SignIn(emulator.base_url), SignIn(emulator.base_url)
    code = emulator.authorise(query_of(mine.page())["code_challenge"])
    with pytest.raises(PermissionDenied):
        await theirs.key(code)
    assert await mine.key(code) == Secret(CANARY)
    with pytest.raises(PermissionDenied):
        await mine.key(code)


@asynccontextmanager
async def visited() -> AsyncGenerator[tuple[Callback, httpx2.AsyncClient]]:
    """A callback that waits, and a browser."""
    async with Callback.opened() as callback, httpx2.AsyncClient(trust_env=False) as browser:
        yield callback, browser


@pytest.mark.anyio
async def test_only_the_visit_with_our_state_counts_and_only_the_first(emulator: OpenRouterEmulator):
    async with visited() as (callback, browser):
        base = callback.url.partition("?")[0]
        state = parse_qs(urlsplit(callback.url).query)["state"][0]
        strangers = ("", "?code=evil", "?code=evil&state=", f"?code=evil&state={state}x", "/../x?code=evil")
        for stranger in strangers:
            assert (await browser.get(base + stranger)).status_code == 404
        assert (await browser.post(f"{callback.url}&code=evil")).status_code == 404
        assert (await browser.get(f"{callback.url}&code=good")).status_code == 200
        assert (await browser.get(f"{callback.url}&code=late")).status_code == 404
        assert await callback.code() == "good"


@pytest.mark.anyio
@pytest.mark.parametrize("query", ["&error=access_denied", "&code=", "&code=%00", f"&code={'x' * 513}"])
async def test_a_visit_without_a_usable_code_ends_the_sign_in(query: str):
    async with visited() as (callback, browser):
        assert (await browser.get(callback.url + query)).status_code == 400
        with pytest.raises(PermissionDenied):
            await callback.code()


@pytest.mark.anyio
async def test_what_speaks_no_http_keeps_nobody_waiting():
    async with visited() as (callback, browser):
        port = urlsplit(callback.url).port or 0
        half = await anyio.connect_tcp("localhost", port)
        await half.send(b"GET /callback")
        for noise in (b"\xff" * 20_000, b"\r\n\r\n", b"GET\r\n\r\n", b"GET //[ HTTP/1.1\r\n\r\n"):
            async with await anyio.connect_tcp("localhost", port) as stream:
                await stream.send(noise)
        assert (await browser.get(f"{callback.url}&code=good")).status_code == 200
        assert await callback.code() == "good"
        await half.aclose()


def test_what_a_provider_leaves_out_stays_unknown():
    standing = decode_standing({"data": {"usage": 1, "limit_remaining": None, "expires_at": 7}})
    assert (standing.spent_usd, standing.left_usd, standing.expires_at) == (1.0, None, None)
    for odd in (None, [], {}, {"data": "x"}):
        with pytest.raises(Unavailable):
            decode_standing(odd)
