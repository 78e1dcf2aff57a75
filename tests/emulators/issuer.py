"""An OAuth authorization server on 127.0.0.1, as far as a resource server sees it: its metadata, its keys, its tokens."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from tests.emulators.provider.origins import Serving, listen

MAKERS: dict[str, Any] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


@dataclass(frozen=True)
class SigningKey:
    """A private key, the algorithm that it signs by, and the id that it is published under."""

    key_id: str | None
    algorithm: str
    private: PrivateKeyTypes

    @classmethod
    def make(cls, key_id: str | None, algorithm: str = "ES256") -> SigningKey:
        """A new key."""
        return cls(key_id, algorithm, MAKERS[algorithm]())

    @cached_property
    def published(self) -> dict[str, Any]:
        """Its public half as a JWK."""
        public: Any = self.private.public_key()  # type: ignore[union-attr] # every kind made here has one
        made: dict[str, Any] = json.loads(jwt.get_algorithm_by_name(self.algorithm).to_jwk(public))
        named = {} if self.key_id is None else {"kid": self.key_id}
        return {**made, **named, "use": "sig", "alg": self.algorithm}


class IssuerEmulator:
    """Serves its documents for the length of a `with` block; `asked` is every path that was asked for, in order.

    A document is JSON, bytes as they are, or a text: where a redirect goes.
    """

    def __init__(self, *keys: SigningKey, path: str = "") -> None:
        self._given = keys
        self._path = path
        self._socket = listen()
        self.origin = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.issuer = self.origin + path
        self.reset()
        self._serving = Serving((self._answer, self._socket))

    def reset(self) -> None:
        """As it was to begin with."""
        self.keys = list(self._given)
        self.asked: list[str] = []
        self.is_down = False
        metadata = {"issuer": self.issuer, "jwks_uri": f"{self.origin}/keys"}
        self.documents: dict[str, Any] = {f"/.well-known/oauth-authorization-server{self._path}": metadata}

    def __enter__(self) -> IssuerEmulator:
        self._serving.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._serving.stop()
        self._socket.close()

    def claims(self, audience: str, **more: Any) -> dict[str, Any]:
        """What a good access token says for an hour; None takes a claim out."""
        now = int(time.time())
        said = {
            "iss": self.issuer, "aud": audience, "sub": "user-1", "client_id": "client-1", "scope": "generate",
            "iat": now, "exp": now + 3600, **more,
        }  # fmt: skip
        return {name: value for name, value in said.items() if value is not None}

    def sign(self, claims: dict[str, Any], key: SigningKey | None = None, **headers: Any) -> str:
        """A token signed with a key, by default the first one."""
        key = key or self.keys[0]
        named = {} if key.key_id is None else {"kid": key.key_id}
        return jwt.encode(claims, key.private, algorithm=key.algorithm, headers={"typ": "at+jwt", **named, **headers})

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        keys = {"keys": [key.published for key in self.keys]}
        found = {"/keys": keys, **self.documents}.get(scope["path"])
        status = 503 if self.is_down else 404 if found is None else 302 if isinstance(found, str) else 200
        headers = [(b"location", found.encode())] if isinstance(found, str) else []
        body = found if isinstance(found, bytes) else json.dumps(found).encode()
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def unsigned(claims: dict[str, Any], algorithm: str = "none") -> str:
    """A token that nobody has signed."""
    parts = ({"alg": algorithm, "typ": "at+jwt", "kid": "a"}, claims)
    return ".".join([*(_encoded(json.dumps(part).encode()) for part in parts), ""])


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
