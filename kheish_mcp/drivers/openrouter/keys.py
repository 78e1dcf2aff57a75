"""Keys of OpenRouter: how one stands, and how to get one by signing in with a browser (facts of 2026-11-22)."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from ...capabilities import Exchange, KeyStanding
from ...errors import Json
from ...secret import Secret
from ..http import Endpoint, Line
from ..refusals import malformed

EXCHANGE_S: Final = 30.0
AGAIN: Final = "Begin again with `kheish-daemon secrets login openrouter`: a code is good once, and for ten minutes."
HINTS: Final = {400: AGAIN, 403: AGAIN}


def decode_standing(answer: Json) -> KeyStanding:
    """The answer of GET /key; what it leaves out, or says in another form, stays unknown."""
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, dict):
        raise malformed("The provider's answer about the key is not what it should be.")
    expires = data.get("expires_at")
    return KeyStanding(
        spent_usd=_amount(data, "usage"),
        left_usd=_amount(data, "limit_remaining"),
        expires_at=expires if isinstance(expires, str) else None,
    )


class SignIn:
    """One sign-in by OAuth PKCE: the page that the browser opens, and the key for the code that it brings.

    OpenRouter has no `state` of its own and keeps the query of the callback, so ours travels there.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._verifier = secrets.token_urlsafe(32)

    def page(self, callback: str | None = None) -> str:
        """Where the user signs in; without a callback the code is shown there, to be copied by hand."""
        parts = urlsplit(self._base_url)
        digest = hashlib.sha256(self._verifier.encode()).digest()
        query = {
            **({"callback_url": callback} if callback else {}),
            "code_challenge": base64.urlsafe_b64encode(digest).decode("ascii").rstrip("="),
            "code_challenge_method": "S256",
        }
        return f"{parts.scheme}://{parts.netloc}/auth?{urlencode(query)}"

    async def key(self, code: str) -> Secret:
        """POST /auth/keys: the key for a code. Refuses as any request does; a code that is over is PermissionDenied."""
        line = Line(Endpoint("openrouter", self._base_url), hints=HINTS)
        body: dict[str, Json] = {"code": code, "code_verifier": self._verifier, "code_challenge_method": "S256"}
        try:
            answer = await line.post_json("/auth/keys", body, Exchange(), deadline_s=EXCHANGE_S)
            given = await answer.json()
        finally:
            await line.close()
        key = given.get("key") if isinstance(given, dict) else None
        if not isinstance(key, str) or not key:
            raise malformed("The provider gave no key for the code.")
        return Secret(key)


def _amount(data: Mapping[str, Any], name: str) -> float | None:
    value = data.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
