"""Bearer tokens: kept as digests, seen by every process at once, over when they expire or are revoked."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import apsw
import pytest

from kheish_mcp.errors import Aborted, InvalidArgument, NotFound, ResourceExhausted
from kheish_mcp.principals import LOCAL, SCOPES, Principal, Scope
from kheish_mcp.stores.database import Database
from kheish_mcp.stores.migrations import MIGRATIONS
from kheish_mcp.stores.tokens import TokenStore
from tests.children import exit_code_of, meet, together
from tests.memory_disk import MemoryDisk

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(root: Path) -> AsyncGenerator[TokenStore]:
    """The tokens of a state root."""
    async with Database.open(root) as database:
        yield TokenStore(database)


def everything_in(root: Path) -> bytes:
    """The bytes of every file of a state root."""
    return b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_token_is_who_it_was_made_for(state_root: Path, scope: Scope):
    async with opened(state_root) as tokens:
        assert not await tokens.any()
        made, secret = await tokens.create("laptop", scope)
        assert await tokens.verify(secret.reveal()) == made
        assert await tokens.list() == (made,)
        assert await tokens.any()
        assert (made.name, made.scope, made.expires_at, made.is_over) == ("laptop", scope, None, False)


async def test_nothing_on_disk_gives_a_token_away(state_root: Path):
    async with opened(state_root) as tokens:
        made, secret = await tokens.create("laptop", "read")
    last = secret.reveal().rpartition("_")[2]
    kept = everything_in(state_root)
    assert hashlib.sha256(secret.reveal().encode()).digest() in kept
    assert last.encode() not in kept
    assert last not in repr(made) + repr(secret)


@pytest.mark.parametrize("change", [
    lambda token: token[:-1] + ("a" if token[-1] != "a" else "b"),
    lambda token: token.replace("kheish_", "kheish_x"),
    lambda token: token[:-1],
    lambda token: token + "a",
    lambda token: token.upper(),
    lambda token: token.rpartition("_")[0] + "_" + "a" * 52,
    lambda token: "kheish_" + "a" * 26 + "_" + token.rpartition("_")[2],
    lambda token: token + "\n",
    lambda token: "",
    lambda token: "\ud800",
])  # fmt: skip
async def test_a_token_that_is_nearly_one_is_none(state_root: Path, change):
    async with opened(state_root) as tokens:
        _, secret = await tokens.create("laptop", "admin")
        assert await tokens.verify(change(secret.reveal())) is None


async def test_the_digest_of_one_token_does_not_open_another(state_root: Path):
    async with opened(state_root) as tokens:
        first, secret = await tokens.create("one", "read")
        second, _ = await tokens.create("two", "admin")
        swapped = secret.reveal().replace(first.token_id[6:], second.token_id[6:])
        assert await tokens.verify(swapped) is None


async def test_another_process_sees_a_new_token_and_its_end_at_the_next_question(state_root: Path):
    async with opened(state_root) as daemon, opened(state_root) as command:
        made, secret = await command.create("laptop", "generate")
        assert await daemon.verify(secret.reveal()) == made
        await command.revoke("laptop")
        assert await daemon.verify(secret.reveal()) is None
        assert not await daemon.any()


async def test_an_expired_token_is_over_and_still_on_record(state_root: Path):
    async with opened(state_root) as tokens:
        _, old = await tokens.create("old", "admin", time.time())
        new, secret = await tokens.create("new", "admin", time.time() + 60)
        assert await tokens.verify(old.reveal()) is None
        assert await tokens.verify(secret.reveal()) == new
        assert [(token.name, token.is_over) for token in await tokens.list()] == [("new", False), ("old", True)]


async def test_a_name_is_taken_until_it_is_revoked_and_then_means_somebody_else(state_root: Path):
    async with opened(state_root) as tokens:
        first, secret = await tokens.create("laptop", "read")
        with pytest.raises(Aborted):
            await tokens.create("laptop", "admin")
        assert await tokens.verify(secret.reveal()) == first
        await tokens.revoke("laptop")
        again, _ = await tokens.create("laptop", "read")
        assert again.token_id != first.token_id
        assert await tokens.verify(secret.reveal()) is None


async def test_only_a_token_that_is_there_can_be_revoked(state_root: Path):
    async with opened(state_root) as tokens:
        with pytest.raises(NotFound):
            await tokens.revoke("laptop")


@pytest.mark.parametrize("name", ["", "a b", "-x", "a/b", "x" * 65, "kheish_abc", "sk-or-v1-abc", "naïve", "a\n"])
async def test_a_name_that_could_be_a_token_or_break_a_line_is_refused_unquoted(state_root: Path, name: str):
    async with opened(state_root) as tokens:
        with pytest.raises(InvalidArgument) as refused:
            await tokens.create(name, "read")
        assert not name or name not in refused.value.message + str(refused.value.hint)


def make_one(root: Path, name: str) -> str | None:
    """A process that makes a token at the same time as another; the token, or None where the name was taken."""

    async def main() -> str | None:
        async with opened(root) as tokens:
            meet()
            try:
                return (await tokens.create(name, "read"))[1].reveal()
            except Aborted:
                return None

    return anyio.run(main)


def test_of_two_processes_that_want_a_name_one_gets_it(state_root: Path):
    given = together(make_one, (state_root, "laptop"), (state_root, "laptop"))
    [token] = [each for each in given if each]

    async def owner() -> str | None:
        async with opened(state_root) as tokens:
            found = await tokens.verify(token)
            return found.name if found else None

    assert anyio.run(owner) == "laptop"


def die_after_a_revocation(root: Path) -> None:
    """A process that is killed as soon as its revocation is confirmed."""

    async def main() -> None:
        async with opened(root) as tokens:
            await tokens.create("kept", "read")
            await tokens.create("gone", "read")
            await tokens.revoke("gone")
            os.kill(os.getpid(), signal.SIGKILL)

    anyio.run(main)


def test_what_was_confirmed_before_a_kill_is_so_after_it(state_root: Path):
    assert exit_code_of(die_after_a_revocation, state_root) == -signal.SIGKILL

    async def names() -> list[str]:
        async with opened(state_root) as tokens:
            return [token.name for token in await tokens.list()]

    assert anyio.run(names) == ["kept"]


async def test_on_a_full_disk_no_token_is_shown_and_a_power_cut_takes_none(state_root: Path):
    disk = MemoryDisk("tokens-disk")
    async with Database.open(state_root, vfs="tokens-disk") as database:
        tokens = TokenStore(database)
        _, secret = await tokens.create("kept", "read")

        def full(step: int) -> None:
            raise apsw.FullError

        disk.fault = full
        with pytest.raises(ResourceExhausted):
            await tokens.create("lost", "read")
    after = disk.after_power_cut("tokens-disk-after")
    async with Database.open(state_root, vfs=after.name) as database:
        assert [token.name for token in await TokenStore(database).list()] == ["kept"]
        assert await TokenStore(database).verify(secret.reveal())


async def test_a_state_root_of_the_first_version_gets_its_tokens(state_root: Path):
    async with Database.open(state_root, migrations=MIGRATIONS[:1]):
        pass
    async with opened(state_root) as tokens:
        assert await tokens.list() == ()


async def test_a_key_of_the_state_root_is_made_once_and_each_name_has_its_own(state_root: Path):
    async with Database.open(state_root) as one, Database.open(state_root) as two:
        assert len(await one.key("a")) == 32
        assert await one.key("a") == await two.key("a") != await one.key("b")


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("needed", SCOPES)
def test_a_scope_holds_the_ones_before_it(scope: Scope, needed: Scope):
    principal = Principal("somebody", at_hand=False, scope=scope)
    assert principal.may(needed) is (needed in SCOPES[: SCOPES.index(scope) + 1])
    assert LOCAL.may(needed)
