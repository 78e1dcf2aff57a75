"""What was spent, and what may be: one row per exchange with a provider, written before its bytes leave."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

from ..errors import Aborted, Json, JsonObject
from .database import Database

if TYPE_CHECKING:
    from apsw import Connection

# planned: about to be sent; sent: bytes are leaving; responded: headers are there; stored: everything is kept;
# failed: an answer said no; unknown: perhaps billed, nobody can tell yet.
STEPS: Final[dict[str, frozenset[str]]] = {
    "sent": frozenset({"planned", "sent", "responded"}),
    "responded": frozenset({"sent", "responded"}),
    "stored": frozenset({"planned", "sent", "responded"}),
    "failed": frozenset({"planned", "sent", "responded"}),
    "unknown": frozenset({"planned", "sent", "responded"}),
}
KEYS: Final[dict[str, str]] = {
    "route": "route_id",
    "model": "model",
    "tool": "tool",
    "day": "strftime('%Y-%m-%d', created_at, 'unixepoch')",
}
BILLED: Final = "state IN ('sent', 'responded', 'stored', 'unknown')"


class Ledger:
    """The rows of all routes; each step is on disk when its method returns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def plan(self, *, job_id: str, owner: str, tool: str, route_id: str, provider: str, model: str) -> int:
        """A new row, before anything is sent; gives its number."""
        now = time.time()
        values = (job_id, owner, tool, route_id, provider, model, now, now)

        def work(connection: Connection) -> int:
            connection.execute(
                "INSERT INTO exchange (job_id, owner, tool, route_id, provider, model, state, created_at, updated_at)"
                " VALUES (?, ?, ?, ?, ?, ?, 'planned', ?, ?)",
                values,
            )
            return connection.last_insert_rowid()

        return await self._database.write(work)

    async def sent(self, row: int) -> None:
        """The request's bytes are about to leave."""
        await self._step(row, "sent")

    async def responded(self, row: int, generation_id: str | None) -> None:
        """The answer's headers are there, with the provider's id for it if it gave one."""
        await self._step(row, "responded", generation_id=generation_id)

    async def stored(self, row: int, cost_usd: float | None, asset_ids: tuple[str, ...]) -> None:
        """All that came is kept; `cost_usd` is None where the provider has not said."""
        await self._step(row, "stored", cost_usd=cost_usd, asset_ids=json.dumps(asset_ids))

    async def failed(self, row: int, error_code: str) -> None:
        """An answer said no, or nothing was sent: it costs nothing."""
        await self._step(row, "failed", error_code=error_code)

    async def unknown(self, row: int, error_code: str) -> None:
        """It ended after the request had left, without an answer: possibly billed, never sent again unasked."""
        await self._step(row, "unknown", error_code=error_code)

    async def abandon(self, row: int) -> None:
        """It was cancelled: unknown if its bytes had left, failed if not."""

        def work(connection: Connection) -> None:
            connection.execute(
                "UPDATE exchange SET state = CASE state WHEN 'planned' THEN 'failed' ELSE 'unknown' END,"
                " error_code = 'cancelled', updated_at = ? WHERE number = ? AND state IN ('planned', 'sent', 'responded')",
                (time.time(), row),
            )

        await self._database.write(work)

    async def _step(self, row: int, state: str, **values: str | float | None) -> None:
        known = {name: value for name, value in values.items() if value is not None}
        assignments = "".join(f", {name} = ?" for name in known)

        def work(connection: Connection) -> None:
            marks = ", ".join("?" for _ in STEPS[state])
            connection.execute(
                f"UPDATE exchange SET state = ?, updated_at = ?{assignments} WHERE number = ? AND state IN ({marks})",  # noqa: S608 - column names are ours
                (state, time.time(), *known.values(), row, *STEPS[state]),
            )
            if connection.changes() == 0:
                raise Aborted(f"Ledger row {row} cannot become {state} any more.")

        await self._database.write(work)

    async def totals(self, *, by: str = "route", since: float = 0.0, owner: str | None = None) -> JsonObject:
        """Sums since an epoch time: total_usd, calls, unknown_cost_calls, and rows by route, model, tool or day."""

        def work(connection: Connection) -> list[tuple[str, int, float, int]]:
            query = (
                f"SELECT {KEYS[by]}, count(*), coalesce(sum(cost_usd), 0.0), sum(cost_usd IS NULL)"  # noqa: S608 - columns are ours
                f" FROM exchange WHERE {BILLED} AND created_at >= ? AND (? IS NULL OR owner = ?) GROUP BY 1 ORDER BY 3 DESC, 1"
            )
            return list(connection.execute(query, (since, owner, owner)))

        found = await self._database.read(work)
        rows: list[Json] = [
            {"key": key, "calls": calls, "cost_usd": round(cost, 9), "unknown_cost_calls": unknown}
            for key, calls, cost, unknown in found
        ]
        return {
            "total_usd": round(sum(row[2] for row in found), 9),
            "calls": sum(row[1] for row in found),
            "unknown_cost_calls": sum(row[3] for row in found),
            "rows": rows,
        }

    async def overview(self, owner: str) -> JsonObject:
        """One owner's totals by day, route and model."""
        tables = {by: await self.totals(by=by, owner=owner) for by in ("day", "route", "model")}
        return {
            **{key: value for key, value in tables["day"].items() if key != "rows"},
            **{f"by_{by}": table["rows"] for by, table in tables.items()},
        }
