"""Named, durable conversations and what they published.

The crash story: an output is one row, so it is published whole or not at all; assets that it names are kept before it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from typing import Final

from ..errors import InvalidArgument, Json, JsonObject, NotFound
from .database import Database, new_id

TABLES: Final = """
    CREATE TABLE output (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        output_id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        session TEXT,
        content TEXT NOT NULL,
        parts TEXT NOT NULL,
        artifacts TEXT NOT NULL,
        created_at REAL NOT NULL
    ) STRICT;
    CREATE INDEX output_by_session ON output (owner, session, number);
"""

NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"


def session_name(text: str) -> str:
    """The text, which has to be a session's name: it stands in URIs."""
    if not re.fullmatch(NAME, text):
        hint = "1 to 128 letters, digits, dots, dashes and underscores, the first one a letter or a digit."
        raise InvalidArgument("This is no name for a session.", hint=hint)
    return text


class SessionStore:
    """Outputs in the order in which they were published, by owner and session."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def publish(
        self,
        session: str | None,
        owner: str,
        content: str,
        parts: Sequence[JsonObject],
        artifacts: Sequence[JsonObject],
    ) -> str:
        """Records an output for good; gives its id. `content` is its text, `parts` and `artifacts` JSON objects in order.

        An output without a session stays on record and belongs to none.
        """
        output_id = new_id("output")
        values = (output_id, owner, session, content, json.dumps(parts), json.dumps(artifacts), time.time())
        query = (
            "INSERT INTO output (output_id, owner, session, content, parts, artifacts, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
        )
        await self._database.change(query, *values)
        return output_id

    async def read(self, session: str, owner: str) -> JsonObject:
        """The session's outputs in order; NotFound for a session that this owner never used."""
        query = "SELECT output_id, content, parts, artifacts, created_at FROM output WHERE owner = ? AND session = ?"
        found = await self._database.rows(f"{query} ORDER BY number", owner, session)
        if not found:
            raise NotFound("There is no such session.", hint="emit_output with a session name begins one.")
        outputs: list[Json] = [
            {
                "output_id": output_id,
                "content": content,
                "parts": json.loads(parts),
                "artifacts": json.loads(artifacts),
                "created_at": created_at,
            }
            for output_id, content, parts, artifacts, created_at in found
        ]
        return {"session": session, "outputs": outputs}

    async def names(self, owner: str) -> tuple[str, ...]:
        """The owner's sessions, the one last used first."""
        query = (
            "SELECT session FROM output WHERE owner = ? AND session IS NOT NULL GROUP BY 1 ORDER BY max(number) DESC"
        )
        return tuple(str(name) for (name,) in await self._database.rows(query, owner))
