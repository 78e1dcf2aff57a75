"""Which route and model answer in text where a call names none: one choice for all sessions, and one for each.

The crash story: a choice is one row, so it is made whole or not at all, and who reads next, in whatever process, has it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..errors import Aborted
from ..selectors import OPEN, Selector, settle
from .database import Database

if TYPE_CHECKING:
    from apsw import Connection

LATEST: Final = "SELECT revision, route_id, model FROM text_choice ORDER BY revision DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class Choice:
    """The choice for all sessions and how often one was made; revision 0 is routes.toml's own, an open selector."""

    revision: int = 0
    selector: Selector = OPEN


class Policy:
    """The choices of one state root; every choice for all sessions stays on record under its revision."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def choice(self) -> Choice:
        """The choice that holds for all sessions now."""
        return await self._database.read(_latest)

    async def choose(self, route_id: str, model: str, *, expected_revision: int | None = None) -> Choice:
        """Makes a new choice; Aborted, naming both numbers, where somebody has chosen since `expected_revision`."""

        def work(connection: Connection) -> Choice:
            now = _latest(connection).revision
            if expected_revision not in (None, now):
                raise Aborted(
                    f"The runtime is at revision {now}, not at {expected_revision}.",
                    hint="Look at `kheish-daemon runtime get`, then choose again.",
                    details={"revision": now},
                )
            query = "INSERT INTO text_choice (route_id, model, created_at) VALUES (?, ?, ?)"
            connection.execute(query, (route_id, model, time.time()))
            return _latest(connection)

        return await self._database.write(work)

    async def of_session(self, session: str | None, owner: str) -> Selector:
        """The choice for one session; an open selector where none was made."""
        query = "SELECT route_id, model FROM session_route WHERE owner = ? AND session = ?"
        found = await self._database.rows(query, owner, session)
        return Selector(*found[0]) if found else OPEN

    async def settle(self, own: Selector, session: str | None, owner: str) -> Selector:
        """What stands for a call: its own choice, before that of its session, before that for all sessions."""
        return settle(own, await self.of_session(session, owner), (await self.choice()).selector)

    async def choose_for_session(self, session: str, owner: str, chosen: Selector) -> None:
        """Makes the choice for one session; an open selector takes it back."""
        values = (owner, session, chosen.route_id, chosen.model, time.time())

        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM session_route WHERE owner = ? AND session = ?", (owner, session))
            if chosen != OPEN:
                connection.execute("INSERT INTO session_route VALUES (?, ?, ?, ?, ?)", values)

        await self._database.write(work)


def _latest(connection: Connection) -> Choice:
    found = list(connection.execute(LATEST))
    return Choice(found[0][0], Selector(*found[0][1:])) if found else Choice()
