"""The tokens commands as a person or a script runs them, beside a daemon that has the state root open."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

from kheish_mcp.cli import run
from kheish_mcp.cli.moments import before_now, from_now, told
from kheish_mcp.errors import UsageError
from kheish_mcp.principals import SCOPES
from kheish_mcp.stores.database import Database
from kheish_mcp.stores.tokens import Token, TokenStore
from tests.conftest import environment, kheish

T = TypeVar("T")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tokens(state_root: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs `tokens ...`: the exit code, what went out as data, and what was said."""

    def command(*arguments: str, output: str = "json") -> tuple[int, str, str]:
        code = run(["tokens", *arguments, "--state-root", str(state_root), "--output", output])
        return code, *capfd.readouterr()

    return command


def data(told: tuple[int, str, str]) -> Any:
    """The JSON of a command that worked."""
    assert told[0] == 0, told
    return json.loads(told[1])


def refusal(told: tuple[int, str, str]) -> tuple[int, str]:
    """The exit code and the error's code of a command that did not, and printed no data."""
    assert told[1] == ""
    return told[0], json.loads(told[2])["error"]["code"]


def asked(root: Path, ask: Callable[[TokenStore], Awaitable[T]]) -> T:
    """What a daemon's own token store answers."""

    async def main() -> T:
        async with Database.open(root) as database:
            return await ask(TokenStore(database))

    return anyio.run(main)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_is_shown_once_and_works(tokens: Run, state_root: Path, scope: str):
    made = data(tokens("create", "laptop", "--scope", scope))
    assert made.keys() == {"name", "token", "scope", "expires_at"}
    assert (made["name"], made["scope"], made["expires_at"]) == ("laptop", scope, None)
    found = asked(state_root, lambda store: store.verify(made["token"]))
    assert isinstance(found, Token)
    assert found.scope == scope
    for shown in (tokens("list"), tokens("list", output="pretty")):
        assert shown[0] == 0
        assert made["token"].rpartition("_")[2] not in shown[1] + shown[2]


def test_without_a_scope_a_token_may_call_tools_and_no_more(tokens: Run):
    assert data(tokens("create", "laptop"))["scope"] == "generate"


def test_people_get_the_token_alone_and_are_told_to_keep_it(tokens: Run, state_root: Path):
    code, out, err = tokens("create", "laptop", output="pretty")
    assert (code, out.count("\n")) == (0, 1)
    assert asked(state_root, lambda store: store.verify(out.strip()))
    assert "only its digest is stored" in err


def test_the_list_has_every_token_by_name_and_says_which_are_over(tokens: Run, state_root: Path):
    assert data(tokens("list")) == []
    data(tokens("create", "new", "--expires", "30d"))
    asked(state_root, lambda store: store.create("aged", "read", 1_000_000.0))
    aged, new = data(tokens("list"))
    assert aged.keys() == {"name", "scope", "created_at", "expires_at", "expired"}
    assert (aged["name"], aged["expires_at"], aged["expired"]) == ("aged", "1970-01-12T13:46:40+00:00", True)
    assert (new["name"], new["expired"]) == ("new", False)
    assert datetime.fromisoformat(new["expires_at"]).timestamp() == pytest.approx(time.time() + 30 * 86_400, abs=60)
    pretty = tokens("list", output="pretty")[1].splitlines()
    assert [line.split()[0] for line in pretty] == ["NAME", "aged", "new"]
    assert pretty[1].endswith("(over)")


def test_a_revoked_token_is_gone_for_running_daemons_too(tokens: Run, state_root: Path):
    token = data(tokens("create", "laptop"))["token"]
    assert data(tokens("revoke", "laptop")) == {"revoked": True}
    assert asked(state_root, lambda store: store.verify(token)) is None
    assert refusal(tokens("revoke", "laptop")) == (5, "not_found")


def test_a_taken_name_is_a_conflict(tokens: Run):
    tokens("create", "laptop")
    assert refusal(tokens("create", "laptop")) == (6, "aborted")


@pytest.mark.parametrize("arguments", [
    ["create"],
    ["create", "a b"],
    ["create", "laptop", "--scope", "root"],
    ["create", "laptop", "--expires", "soon"],
    ["create", "laptop", "--expires", "2020-01-01"],
    ["create", "laptop", "--expires", "0d"],
    ["create", "laptop", "--expires", ""],
    ["revoke"],
    ["list", "laptop"],
])  # fmt: skip
def test_what_cannot_be_meant_makes_no_token(tokens: Run, state_root: Path, arguments: list[str]):
    assert refusal(tokens(*arguments)) == (2, "invalid_argument")
    assert asked(state_root, lambda store: store.list()) == ()


def test_a_token_put_in_a_name_s_place_is_not_repeated(tokens: Run):
    token = data(tokens("create", "laptop"))["token"]
    for command in ("create", "revoke"):
        code, out, err = tokens(command, token)
        assert code in (2, 5)
        assert token not in out + err


def test_the_real_program_makes_a_token(state_root: Path):
    done = kheish("tokens", "create", "laptop", "--expires", "2100-01-01", env=environment(state_root))
    assert json.loads(done.stdout)["expires_at"] == "2100-01-01T00:00:00+00:00"


def test_a_moment_is_a_date_in_utc_or_a_stretch_of_time():
    assert told(before_now("2026-11-01", "--since")) == "2026-11-01T00:00:00+00:00"
    assert told(before_now("2026-11-01T02:00+02:00", "--since")) == "2026-11-01T00:00:00+00:00"
    assert before_now("2d", "--since") == pytest.approx(time.time() - 2 * 86_400, abs=5)
    assert from_now("2w", "--expires") == pytest.approx(time.time() + 14 * 86_400, abs=5)
    assert told(None) is None
    assert told(datetime(2026, 1, 2, 3, 4, 5, 600_000, UTC).timestamp()) == "2026-01-02T03:04:05+00:00"


@pytest.mark.parametrize("text", ["", "7y", "-1d", "2026-13-01", "9999999d", "now", "1d "])
def test_other_texts_are_no_moments(text: str):
    with pytest.raises(UsageError, match="--since"):
        before_now(text, "--since")
