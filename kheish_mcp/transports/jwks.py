"""The public keys of an OAuth authorization server: found, fetched, and asked for again no more than is good for it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio

from ..errors import Unavailable
from ..trust import trust_of_the_system
from .access import is_loopback

if TYPE_CHECKING:
    from httpx2 import AsyncClient
    from jwt import PyJWK

log = logging.getLogger(__name__)

MAX_AGE_S: Final = 3600.0
COOLDOWN_S: Final = 10.0
FETCH_S: Final = 10.0
LARGEST: Final = 1 << 20
SHORTEST_RSA: Final = 2048
# What a key is decides what it may sign, and never the token; HMAC and `none` stand in no row.
ALGORITHMS: Final[Mapping[tuple[Any, Any], str]] = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}


class Jwks:
    """The issuer's keys by id. They are fetched when first needed, after an hour, and for a key id that is not known.

    However many unknown ids come: not more than once in ten seconds, and by one request at a time. While the issuer
    cannot be reached, the keys that were read last go on serving.
    """

    def __init__(self, issuer: str, now: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._now = now
        self._turn = anyio.Lock()
        self._keys: dict[str | None, PyJWK] = {}
        self._asked_at = self._read_at = -MAX_AGE_S

    async def find(self, key_id: str | None) -> PyJWK | None:
        """The key of that id, or the only key where the token names none; Unavailable where there are no keys at all."""
        if self._wants(key_id):
            async with self._turn:
                if self._wants(key_id) and self._now() - self._asked_at >= COOLDOWN_S:
                    await self._refresh()
        if not self._keys:
            raise _unreachable()
        only = len(self._keys) == 1 and key_id is None
        return next(iter(self._keys.values())) if only else self._keys.get(key_id)

    def _wants(self, key_id: str | None) -> bool:
        is_known = key_id in self._keys or (key_id is None and len(self._keys) == 1)
        return not is_known or self._now() - self._read_at >= MAX_AGE_S

    async def _refresh(self) -> None:
        self._asked_at = self._now()
        # Shielded: the caller who happens to fetch for all may leave.
        with anyio.CancelScope(shield=True):
            try:
                with anyio.fail_after(FETCH_S):
                    self._keys = dict(_usable(await self._fetched()))
                self._read_at = self._now()
            except (Unavailable, TimeoutError) as error:
                log.warning("the keys of the OAuth issuer could not be read: %s", str(error) or "it took too long")

    async def _fetched(self) -> Any:
        import httpx2

        limits, trust = httpx2.Timeout(FETCH_S), trust_of_the_system()
        async with httpx2.AsyncClient(timeout=limits, follow_redirects=False, trust_env=False, verify=trust) as client:
            found = await self._metadata(client)
            return await _json_at(client, self._checked(found.get("jwks_uri")))

    async def _metadata(self, client: AsyncClient) -> Mapping[str, Any]:
        """The issuer's own description: the first of its three places that has one (RFC 8414, OpenID Connect)."""
        for url in places_of(self._issuer):
            found = await _json_at(client, url)
            if isinstance(found, dict):
                if found.get("issuer") != self._issuer:
                    raise Unavailable("its metadata is of another issuer than the one named")
                return found
        raise Unavailable("it has no metadata at any of the well-known places")

    def _checked(self, url: Any) -> str:
        """The place of the keys; over plain http only where the issuer too is on this machine."""
        if not isinstance(url, str) or not (is_safe(url) and (url.startswith("https:") or not _is_https(self._issuer))):
            raise Unavailable("its metadata names no safe place for its keys")
        return url


def places_of(issuer: str) -> tuple[str, str, str]:
    """Where an issuer's metadata may be, in the order in which MCP clients look."""
    parts = urlsplit(issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    return (
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}/.well-known/openid-configuration{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    )


def is_safe(url: str) -> bool:
    """Whether a URL may be asked for keys: https, or http on this machine; no login, query or fragment."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = parts.scheme == "http" and is_loopback(parts.hostname or "")
    bare = "@" not in parts.netloc and not parts.query and not parts.fragment and port != 0
    written = url.isascii() and url.isprintable() and " " not in url and bool(parts.hostname)
    return written and bare and (plain or parts.scheme == "https")


def _is_https(url: str) -> bool:
    return urlsplit(url).scheme == "https"


async def _json_at(client: AsyncClient, url: str) -> Any:
    """The JSON at a URL; None for any answer but a 200, Unavailable for no answer and for what is no JSON."""
    import httpx2

    held = bytearray()
    try:
        async with client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response:
            if response.status_code != 200:
                return None
            async for part in response.aiter_bytes():
                held += part
                if len(held) > LARGEST:
                    raise Unavailable("its answer is far too large")
        return json.loads(held)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, RecursionError):
        raise Unavailable("it gave no usable answer") from None


def _usable(answer: Any) -> Iterator[tuple[str | None, PyJWK]]:
    """The keys that can check signatures; the others are of no concern here. Unavailable where there are none."""
    named = answer.get("keys") if isinstance(answer, dict) else None
    entries = [entry for entry in named if isinstance(entry, dict)] if isinstance(named, list) else []
    keys = [key for key in map(_key_of, entries) if key is not None]
    if not keys:
        raise Unavailable("it has no key of a kind that is taken (RS256, ES256, EdDSA)")
    yield from ((key.key_id, key) for key in keys)


def _key_of(entry: Mapping[str, Any]) -> PyJWK | None:
    """A public key for signatures of a kind that is taken; None for anything else, however odd."""
    import jwt

    try:
        algorithm = ALGORITHMS.get((entry.get("kty"), entry.get("crv")))
        is_for_signatures = entry.get("use", "sig") == "sig" and "verify" in entry.get("key_ops", ("verify",))
        if algorithm is None or entry.get("alg", algorithm) != algorithm or "d" in entry or not is_for_signatures:
            return None
        key = jwt.PyJWK(dict(entry), algorithm)
    except (jwt.PyJWTError, TypeError, ValueError):
        return None
    is_short = algorithm == "RS256" and key.key.key_size < SHORTEST_RSA
    return None if is_short or not isinstance(key.key_id, str | None) else key


def _unreachable() -> Unavailable:
    return Unavailable(
        "The OAuth issuer's keys cannot be read.",
        hint="The daemon's log says why; a bearer token of `kheish-daemon tokens create` works without the issuer.",
        retryable=True,
        retry_after_s=COOLDOWN_S,
    )
