"""Who gets in: which address is open, which token is whose, and what a refused client is told."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kheish_mcp.errors import FailedPrecondition, PermissionDenied, Unauthenticated
from kheish_mcp.principals import LOCAL, Principal
from kheish_mcp.stores.database import Database
from kheish_mcp.stores.tokens import TokenStore
from kheish_mcp.transports.access import Access, invalid_token, is_loopback

pytestmark = pytest.mark.anyio

BASE = "http://127.0.0.1:4000"


@asynccontextmanager
async def opened(root: Path) -> AsyncGenerator[tuple[Access, TokenStore]]:
    """An access without OAuth, and the tokens that it asks."""
    async with Database.open(root) as database:
        tokens = TokenStore(database)
        yield Access(tokens), tokens


async def test_before_the_address_is_known_nobody_gets_in_without_a_token(state_root: Path):
    async with opened(state_root) as (access, _):
        with pytest.raises(Unauthenticated):
            await access.judge(None)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "LOCALHOST"])
async def test_a_loopback_address_is_open_as_long_as_there_is_no_token(state_root: Path, host: str):
    async with opened(state_root) as (access, tokens):
        await access.check_bind(host)
        assert await access.judge(None) == LOCAL
        made, secret = await tokens.create("laptop", "read")
        with pytest.raises(Unauthenticated):
            await access.judge(None)
        who = await access.judge(f"Bearer {secret.reveal()}")
        assert who == Principal(made.token_id, at_hand=False, scope="read")
        await tokens.revoke("laptop")
        assert await access.judge(None) == LOCAL


async def test_an_expired_token_keeps_the_door_shut(state_root: Path):
    async with opened(state_root) as (access, tokens):
        await access.check_bind("127.0.0.1")
        await tokens.create("old", "read", time.time() - 1)
        with pytest.raises(Unauthenticated):
            await access.judge(None)


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "192.168.1.7", "10.0.0.1", "example.com", "fe80::1%eth0", "::ffff:10.0.0.1", "localhost.evil"],
)
async def test_any_other_address_refuses_to_start_without_a_token_that_lasts(state_root: Path, host: str):
    async with opened(state_root) as (access, tokens):
        await tokens.create("old", "admin", time.time() - 1)
        with pytest.raises(FailedPrecondition, match="open to everybody") as refused:
            await access.check_bind(host)
        assert "tokens create" in str(refused.value.hint)
        await tokens.create("laptop", "read")
        await access.check_bind(host)
        with pytest.raises(Unauthenticated):
            await access.judge(None)


async def test_the_last_revocation_opens_no_network_address(state_root: Path):
    async with opened(state_root) as (access, tokens):
        await tokens.create("laptop", "read")
        await access.check_bind("0.0.0.0")
        await tokens.revoke("laptop")
        with pytest.raises(Unauthenticated):
            await access.judge(None)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer nonsense", "Basic YTpi", "bearer a b", "\ud800"])
async def test_a_bad_header_is_refused_even_where_none_is_needed(state_root: Path, header: str):
    async with opened(state_root) as (access, _):
        await access.check_bind("127.0.0.1")
        with pytest.raises(Unauthenticated):
            await access.judge(header)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_is_read_in_any_case(state_root: Path, scheme: str):
    async with opened(state_root) as (access, tokens):
        made, secret = await tokens.create("laptop", "admin")
        assert (await access.judge(f"{scheme}  {secret.reveal()}")).owner == made.token_id


async def test_every_way_to_be_unknown_sounds_the_same(state_root: Path):
    async with opened(state_root) as (access, tokens):
        _, revoked = await tokens.create("revoked", "admin")
        _, expired = await tokens.create("expired", "admin", time.time() - 1)
        await tokens.revoke("revoked")
        told = set()
        for given in (revoked.reveal(), expired.reveal(), "kheish_" + "a" * 26 + "_" + "b" * 52, "nonsense"):
            with pytest.raises(Unauthenticated) as refused:
                await access.judge(f"Bearer {given}")
            told.add((refused.value.message, access.challenge(refused.value, BASE)))
            assert given not in str(refused.value.as_json())
        assert len(told) == 1


async def test_a_client_without_a_token_is_told_no_error_and_one_with_a_bad_token_is(state_root: Path):
    async with opened(state_root) as (access, _):
        with pytest.raises(Unauthenticated) as refused:
            await access.judge(None)
        assert access.challenge(refused.value, BASE) == 'Bearer realm="kheish"'
        assert 'error="invalid_token"' in access.challenge(invalid_token("It is over."), BASE)


async def test_a_client_with_too_little_is_told_what_it_needs(state_root: Path):
    async with opened(state_root) as (access, _):
        with pytest.raises(PermissionDenied) as refused:
            Principal("somebody", at_hand=False, scope="read").check("admin")
        told = access.challenge(refused.value, BASE)
        assert 'error="insufficient_scope"' in told
        assert 'scope="admin"' in told
        assert "resource_metadata" not in told  # there is nowhere to sign in


async def test_nothing_breaks_out_of_the_header(state_root: Path):
    async with opened(state_root) as (access, _):
        told = access.challenge(invalid_token('a "b\\c\r\nSet-Cookie: x'), BASE)
        assert told.isprintable()
        assert told.count('"') == 6


@pytest.mark.parametrize(
    "host", ["127.0.0.1.example.com", "0", "2130706433", "0x7f.1", "", "[::1]", "::ffff:127.0.0.1"]
)
def test_what_is_not_plainly_loopback_is_not(host: str):
    assert not is_loopback(host)


async def test_what_was_signed_for_somebody_ends_when_that_somebody_does(state_root: Path):
    async with opened(state_root) as (access, tokens):
        await access.check_bind("127.0.0.1")
        assert await access.admits("local")
        lasting, _ = await tokens.create("lasting", "read", time.time() + 60)
        over, _ = await tokens.create("over", "read", time.time() - 1)
        assert not await access.admits("local")
        assert await access.admits(lasting.token_id)
        assert not await access.admits(over.token_id)
        await tokens.revoke("lasting")
        assert not await access.admits(lasting.token_id)
        for stranger in ("", "token-" + "a" * 26, "oauth-" + "a" * 52):
            assert not await access.admits(stranger)
