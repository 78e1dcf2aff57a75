"""Signed URLs: each opens one asset of one owner until it expires, and nothing else ever."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from kheish_mcp.stores.database import Database, new_id
from kheish_mcp.transports.access import Signer

BASE, ASSET, OWNER = "https://media.example:8443", new_id("asset"), "token-somebody"
KEY = bytes(range(32))


def signer(now: float = 1_000.0, key: bytes = KEY) -> Signer:
    """A signer at a moment, whose URLs last 60 seconds."""
    return Signer(key, lifetime_s=60, now=lambda: now)


def query_of(url: str) -> dict[str, str]:
    """The query of a URL."""
    return dict(parse_qsl(urlsplit(url).query))


def signed(owner: str = OWNER) -> dict[str, str]:
    """The query of a good URL for ASSET."""
    return query_of(signer().url_of(ASSET, owner, BASE))


@pytest.mark.parametrize("base", [BASE, BASE + "/"])
def test_a_url_says_where_what_and_until_when(base: str):
    url = signer().url_of(ASSET, OWNER, base)
    assert url.startswith(f"{BASE}/assets/{ASSET}?")
    assert query_of(url).keys() == {"owner", "expires", "signature"}
    assert query_of(url)["expires"] == "1060"


@pytest.mark.parametrize("owner", [OWNER, "local", "a&b=c", "ü/?#%", '["a", "b"]'])
def test_the_owner_comes_back(owner: str):
    assert signer().owner_of(ASSET, signed(owner)) == owner


@pytest.mark.parametrize(("moment", "lasts"), [(1_059.9, True), (1_060.0, False), (9e9, False)])
def test_it_lasts_to_the_second_it_names(moment: float, lasts: bool):
    assert signer(moment).owner_of(ASSET, signed()) == (OWNER if lasts else None)


@pytest.mark.parametrize("change", [
    {"owner": "local"},
    {"owner": ""},
    {"expires": "9999"},
    {"expires": "01060"},
    {"expires": "soon"},
    {"expires": ""},
    {"signature": ""},
    {"signature": "0" * 64},
    {"signature": "ü"},
    {"signature": "\ud800"},
])  # fmt: skip
def test_whatever_is_changed_opens_nothing(change: dict[str, str]):
    assert signer().owner_of(ASSET, signed() | change) is None


@pytest.mark.parametrize("missing", ["owner", "expires", "signature"])
def test_whatever_is_missing_opens_nothing(missing: str):
    query = signed()
    del query[missing]
    assert signer().owner_of(ASSET, query) is None


def test_it_opens_no_other_asset_and_no_other_state_root_s():
    assert signer().owner_of(new_id("asset"), signed()) is None
    assert signer(key=bytes(32)).owner_of(ASSET, signed()) is None
    assert signer().owner_of(ASSET, {}) is None


def test_parts_cannot_be_shifted_into_one_another():
    query = query_of(signer().url_of("asset-a", "b", BASE))
    assert signer().owner_of("asset-", query | {"owner": "ab"}) is None


@pytest.mark.anyio
async def test_every_process_of_a_state_root_knows_the_url(state_root: Path):
    async with Database.open(state_root) as one, Database.open(state_root) as two:
        url = (await Signer.of(one)).url_of(ASSET, OWNER, BASE)
        assert (await Signer.of(two)).owner_of(ASSET, query_of(url)) == OWNER
