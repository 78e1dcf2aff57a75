"""A resource server's half of OAuth 2.1: whose token this is, and where a client gets one."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigError, JsonObject, PermissionDenied, Unauthenticated
from ..principals import SCOPES, Principal, Scope
from .access import OAUTH, invalid_token
from .jwks import ALGORITHMS, Jwks, is_safe

if TYPE_CHECKING:
    from jwt import PyJWK

log = logging.getLogger(__name__)

LEEWAY_S: Final = 30
LONGEST: Final = 16 << 10
WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
PLACES: Final = (WELL_KNOWN, WELL_KNOWN + "/mcp")
# An ID token or a logout token of the same issuer is no access token (RFC 8725, 3.11).
TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
REQUIRED: Final = ("iss", "aud", "exp", "sub")


class ResourceServer:
    """Takes the JWT access tokens (RFC 9068) of one issuer for one audience; it never gives any."""

    def __init__(self, issuer: str, audience: str, keys: Jwks | None = None) -> None:
        """ConfigError for an issuer that is no https URL (http on this machine), and for no audience."""
        if not is_safe(issuer):
            raise ConfigError(
                "--oauth-issuer is not an https URL without a query.", hint="Copy `issuer` from the issuer's metadata."
            )
        if not audience.strip():
            raise ConfigError(
                "--oauth-issuer needs --oauth-audience.",
                hint="Without it a token for any other service would open this one.",
            )
        self.issuer = issuer
        self.audience = audience
        self._keys = keys or Jwks(issuer)

    async def judge(self, token: str) -> Principal:
        """Whose token this is: an owner for each (issuer, client, subject), and the widest scope that it names.

        Unauthenticated for a token that is not good here; PermissionDenied where it names none of the scopes;
        Unavailable where the issuer's keys cannot be read.
        """
        key_id = _key_id_of(token)
        key = await self._keys.find(key_id)
        if key is None:
            raise invalid_token("The token is signed by a key that the issuer does not have.")
        claims = self._claims(token, key)
        return Principal(owner_of(self.issuer, claims), at_hand=False, scope=scope_of(claims))

    def _claims(self, token: str, key: PyJWK) -> Mapping[str, Any]:
        """What a token says, its signature, times, issuer and audience checked in that order."""
        import jwt

        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=self.issuer,
                audience=self.audience,
                leeway=LEEWAY_S,
                options={"require": list(REQUIRED)},
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            log.debug("a token was refused: %s", type(error).__name__)
            raise _refusal_of(error) from None
        if "cnf" in claims:
            # Bound to a key of its holder (DPoP, mutual TLS), which a bearer does not prove to have.
            raise invalid_token("The token is bound to a key, and only bearer tokens are taken.")
        return claims

    def resource(self, base_url: str) -> str:
        """This server's name as a protected resource, where it is reached at `base_url`: the audience if that is it."""
        base = base_url.rstrip("/")
        own = (base, f"{base}/", f"{base}/mcp", f"{base}/mcp/")
        return self.audience if self.audience in own else f"{base}/mcp"

    def metadata_url(self, base_url: str) -> str:
        """Where `metadata` is served: below `base_url`, so that a proxy that knows only our path finds it too.

        Without a path in `base_url` this is the place of RFC 9728, 3.1; a client takes any from WWW-Authenticate.
        """
        base = base_url.rstrip("/")
        return base + WELL_KNOWN + self.resource(base).removeprefix(base).rstrip("/")

    def metadata(self, base_url: str) -> JsonObject:
        """The protected-resource metadata (RFC 9728): what this is, who gives tokens for it, and which scopes they have."""
        return {
            "resource": self.resource(base_url),
            "resource_name": "Kheish",
            "authorization_servers": [self.issuer],
            "scopes_supported": list(SCOPES),
            "bearer_methods_supported": ["header"],
        }


def owner_of(issuer: str, claims: Mapping[str, Any]) -> str:
    """The name under which a token's assets are kept: a digest, so that no user's name stands in URLs and files.

    The three parts are joined as a JSON list: no two triples give the same text.
    """
    client = claims.get("client_id", claims.get("azp", ""))
    if not isinstance(client, str):
        raise invalid_token("The token's client is no text.")
    triple = json.dumps([issuer, client, claims["sub"]]).encode()
    return f"{OAUTH}{base64.b32encode(hashlib.sha256(triple).digest()).decode('ascii').rstrip('=').lower()}"


def scope_of(claims: Mapping[str, Any]) -> Scope:
    """The widest of our scopes in `scope` (RFC 9068) or `scp`; PermissionDenied where there is none."""
    named: set[str] = set()
    for claim in (claims.get("scope"), claims.get("scp")):
        words = claim.split(" ") if isinstance(claim, str) else claim if isinstance(claim, list) else ()
        named |= {word for word in words if isinstance(word, str)}
    held = [scope for scope in SCOPES if scope in named]
    if not held:
        raise PermissionDenied(
            "The token has none of the scopes that are known here.",
            hint=f"Ask the issuer for one of: {', '.join(SCOPES)}.",
            details={"needed_scope": "read"},
        )
    return held[-1]


def _key_id_of(token: str) -> str | None:
    """The key id in a token's header, before anything of it is believed; what is no access token is refused here."""
    import jwt

    try:
        header = jwt.get_unverified_header(token) if len(token) <= LONGEST else {}
    except (jwt.PyJWTError, ValueError, RecursionError):
        header = {}
    key_id = header.get("kid")
    if header.get("alg") not in ALGORITHMS.values() or str(header.get("typ", "jwt")).lower() not in TYPES:
        raise invalid_token("The token is unknown, revoked or expired.")
    return key_id if isinstance(key_id, str) else None


def _refusal_of(error: Exception) -> Unauthenticated:
    """What the holder of a token is told; the signature was checked before any claim."""
    import jwt

    told: dict[type[Exception], str] = {
        jwt.ExpiredSignatureError: "The token has expired.",
        jwt.ImmatureSignatureError: "The token is not valid yet.",
        jwt.InvalidAudienceError: "The token is for another audience.",
        jwt.InvalidIssuerError: "The token is of another issuer.",
    }
    return invalid_token(told.get(type(error), "The token is not good here."))
