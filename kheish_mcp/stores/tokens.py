"""Bearer tokens, kept as digests.

The crash story: a token is one row, on disk before the token is shown and gone before its revocation is confirmed. A
crash in between leaves a token that nobody knows, which `tokens list` names and `tokens revoke` removes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..errors import Aborted, InvalidArgument, NotFound
from ..principals import Scope
from ..secret import Secret
from .database import Database, new_id

if TYPE_CHECKING:
    from apsw import Connection

NAME: Final = re.compile(r"(?!kheish_|sk-)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
FORM: Final = re.compile(r"kheish_([a-z2-7]{26})_[a-z2-7]{52}")
COLUMNS: Final = "token_id, name, scope, created_at, expires_at"
NOBODY: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Token:
    """What is public of a token; times in epoch seconds. `token_id` is what the token makes belongs to."""

    token_id: str
    name: str
    scope: Scope
    created_at: float
    expires_at: float | None

    @property
    def is_over(self) -> bool:
        """Whether it has expired."""
        return self.expires_at is not None and self.expires_at <= time.time()


class TokenStore:
    """The tokens of a state root: every process sees another's change at its next question.

    A token is `kheish_`, its id and 32 random bytes in base32. So many random bits need no slow hash, and SHA-256 is
    all that is kept of them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, name: str, scope: Scope, expires_at: float | None = None) -> tuple[Token, Secret]:
        """A new token, on record before it is given; Aborted where the name is taken, InvalidArgument for a bad one."""
        if not NAME.fullmatch(name):
            raise InvalidArgument(
                "A token's name has letters, digits, dots, dashes and underscores, at most 64.", hint="Such as laptop."
            )
        token = Token(new_id("token"), name, scope, time.time(), expires_at)
        secret = Secret(f"kheish_{token.token_id.removeprefix('token-')}_{_random()}")
        values = (token.token_id, name, scope, token.created_at, expires_at, _digest(secret.reveal()))

        def insert(connection: Connection) -> None:
            if list(connection.execute("SELECT 1 FROM token WHERE name = ?", (name,))):
                raise Aborted(
                    f"There is a token {name} already.", hint="Revoke it first, or give the new one another name."
                )
            connection.execute(f"INSERT INTO token ({COLUMNS}, digest) VALUES (?, ?, ?, ?, ?, ?)", values)  # noqa: S608

        await self._database.write(insert)
        return token, secret

    async def list(self) -> tuple[Token, ...]:
        """Every token by name, the expired ones too."""
        rows = await self._database.rows(f"SELECT {COLUMNS} FROM token ORDER BY name")  # noqa: S608 - our own columns
        return tuple(Token(*row) for row in rows)

    async def revoke(self, name: str) -> None:
        """Ends a token at once, for running daemons too; NotFound where there is none of that name."""
        if not await self._database.change("DELETE FROM token WHERE name = ?", name):
            raise NotFound("There is no such token.", hint="`kheish-daemon tokens list` shows what there is.")

    async def verify(self, given: str) -> Token | None:
        """The token that this is, while it lasts; how long the answer takes says nothing about what is on record."""
        form = FORM.fullmatch(given)
        token_id = f"token-{form[1]}" if form else ""
        query = f"SELECT {COLUMNS}, digest FROM token WHERE token_id = ?"  # noqa: S608 - our own columns
        rows = await self._database.rows(query, token_id)
        *values, digest = rows[0] if rows else ("", "", "read", 0.0, 0.0, NOBODY)
        token = Token(*values)
        return token if hmac.compare_digest(_digest(given), digest) and not token.is_over else None

    async def lasts(self, token_id: str) -> bool:
        """Whether the token of that id is on record and has not expired."""
        query = "SELECT 1 FROM token WHERE token_id = ? AND (expires_at IS NULL OR expires_at > ?)"
        return bool(await self._database.rows(query, token_id, time.time()))

    async def any(self) -> bool:
        """Whether there is a token at all: an expired one still says that tokens are wanted here."""
        return bool(await self._database.rows("SELECT 1 FROM token LIMIT 1"))


def _random() -> str:
    return base64.b32encode(secrets.token_bytes(32)).decode("ascii").rstrip("=").lower()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
