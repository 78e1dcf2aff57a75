"""Who may: bearer tokens, signed-in principals, signed URLs, and the addresses that need any of them."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol
from urllib.parse import urlencode

from ..errors import FailedPrecondition, JsonObject, KheishError, PermissionDenied, Unauthenticated
from ..principals import LOCAL, Principal
from ..stores.database import Database
from ..stores.tokens import TokenStore

LIFETIME_S: Final = 3600
SIGN_KEY: Final = "access.sign"
OAUTH: Final = "oauth-"
FIRST: Final = "read generate"  # what a client asks its issuer for to begin with: no more than most will need
MAKE_ONE: Final = "`kheish-daemon tokens create NAME` makes one; send it as `Authorization: Bearer TOKEN`."


class Issuer(Protocol):
    """Who else may say who a caller is: an OAuth authorization server, by its tokens."""

    async def judge(self, token: str) -> Principal:
        """The token's principal; Unauthenticated for one that is not good, PermissionDenied without a scope."""

    def metadata_url(self, base_url: str) -> str:
        """Where a client reads how to get a token, for a server that is reached at `base_url`."""

    def metadata(self, base_url: str) -> JsonObject:
        """What it reads there."""


class Access:
    """Judges each request by its Authorization header alone; nobody gets in without one until `check_bind` says so."""

    def __init__(self, tokens: TokenStore, issuer: Issuer | None = None) -> None:
        self._tokens = tokens
        self.issuer = issuer
        self._is_open = False

    async def check_bind(self, host: str) -> None:
        """FailedPrecondition where this address would let strangers in; a loopback address is open to this machine.

        An open address closes by itself as soon as there is a token, and opens again with the last one.
        """
        self._is_open = is_loopback(host) and self.issuer is None
        if is_loopback(host) or self.issuer is not None:
            return
        if all(token.is_over for token in await self._tokens.list()):
            raise FailedPrecondition(
                f"Without a token, {host} would be open to everybody who can reach it.",
                hint="`kheish-daemon tokens create NAME` makes one; or bind 127.0.0.1, or name --oauth-issuer.",
            )

    async def judge(self, authorization: str | None) -> Principal:
        """Who this is; Unauthenticated without a good token where one is needed, PermissionDenied without a scope.

        A token that is not good is refused also where none would be needed.
        """
        if authorization is None:
            if self._is_open and not await self._tokens.any():
                return LOCAL
            raise Unauthenticated("A token is needed.", hint=MAKE_ONE)
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("Only bearer tokens are taken.", hint=MAKE_ONE)
        token = await self._tokens.verify(given.strip())
        if token is not None:
            return Principal(token.token_id, at_hand=False, scope=token.scope)
        if self.issuer is not None:
            return await self.issuer.judge(given.strip())
        raise invalid_token("The token is unknown, revoked or expired.")

    async def admits(self, owner: str) -> bool:
        """Whether that owner could still get in: what was signed for a token ends with the token."""
        if owner == LOCAL.owner:
            return self._is_open and not await self._tokens.any()
        return await self._tokens.lasts(owner) or (owner.startswith(OAUTH) and self.issuer is not None)

    def challenge(self, refusal: KheishError, base_url: str) -> str:
        """The WWW-Authenticate value for a refusal of `judge` or of `Principal.check` (RFC 6750, RFC 9728).

        `base_url` is where this server is reached, without a path of its own.
        """
        shown = {"realm": "kheish"}
        if refusal.details.get("oauth_error"):
            shown["error"] = str(refusal.details["oauth_error"])
        if isinstance(refusal, PermissionDenied):
            shown |= {"error": "insufficient_scope", "scope": str(refusal.details.get("needed_scope", "read"))}
        if "error" in shown:
            shown["error_description"] = refusal.message
        if self.issuer is not None:
            shown["resource_metadata"] = self.issuer.metadata_url(base_url)
            shown.setdefault("scope", FIRST)
        return "Bearer " + ", ".join(f'{name}="{_quotable(value)}"' for name, value in shown.items())


class Signer:
    """URLs that open one asset of one owner for an hour, whoever holds them; every process of a state root knows them."""

    def __init__(self, key: bytes, *, lifetime_s: int = LIFETIME_S, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._lifetime_s = lifetime_s
        self._now = now

    @classmethod
    async def of(cls, database: Database) -> Signer:
        """A signer with the key of the state root."""
        return cls(await database.key(SIGN_KEY))

    def url_of(self, asset_id: str, owner: str, base_url: str) -> str:
        """Where the owner's asset can be fetched until the URL expires."""
        expires = str(int(self._now()) + self._lifetime_s)
        query = {"owner": owner, "expires": expires, "signature": self._mac(asset_id, owner, expires)}
        return f"{base_url.rstrip('/')}/assets/{asset_id}?{urlencode(query)}"

    def owner_of(self, asset_id: str, query: Mapping[str, str]) -> str | None:
        """Whose asset the URL's query opens; None where it was not signed for this asset, or has expired."""
        owner, expires = query.get("owner", ""), query.get("expires", "")
        signature = query.get("signature", "").encode("utf-8", "surrogatepass")
        genuine = hmac.compare_digest(self._mac(asset_id, owner, expires).encode(), signature)
        return owner if genuine and self._now() < int(expires) else None

    def _mac(self, *parts: str) -> str:
        return hmac.new(self._key, json.dumps(parts).encode(), hashlib.sha256).hexdigest()


def invalid_token(message: str) -> Unauthenticated:
    """The refusal of a token that was given and is not good."""
    return Unauthenticated(message, hint=MAKE_ONE, details={"oauth_error": "invalid_token"})


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address; a name counts only if it is localhost."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


def _quotable(value: str) -> str:
    """What may stand in a quoted string of a header: printable ASCII without quotes and backslashes."""
    return "".join(char if " " <= char <= "~" and char not in '"\\' else "'" for char in value)
