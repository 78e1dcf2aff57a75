"""Named, durable conversations and what they published."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import Json, JsonObject, NotFound
from .database import Database, new_id

if TYPE_CHECKING:
    from apsw import Connection


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
        """Records an output for good; gives its id."""
        output_id = new_id("output")
        values = (output_id, owner, session, content, json.dumps(parts), json.dumps(artifacts), time.time())

        def work(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO output (output_id, owner, session, content, parts, artifacts, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                values,
            )

        await self._database.write(work)
        return output_id

    async def read(self, session: str, owner: str) -> JsonObject:
        """The session's outputs in order; NotFound for a session that this owner never used."""

        def work(connection: Connection) -> list[tuple[str, str, str, str, float]]:
            query = (
                "SELECT output_id, content, parts, artifacts, created_at FROM output WHERE owner = ? AND session = ?"
            )
            return list(connection.execute(f"{query} ORDER BY number", (owner, session)))

        found = await self._database.read(work)
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

        def work(connection: Connection) -> tuple[str, ...]:
            query = "SELECT session FROM output WHERE owner = ? AND session IS NOT NULL GROUP BY 1 ORDER BY max(number) DESC"
            return tuple(name for (name,) in connection.execute(query, (owner,)))

        return await self._database.read(work)
