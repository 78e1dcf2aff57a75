"""What was spent, and what may be: one row per exchange with a provider, written before its bytes leave.

The crash story: what a row says last is the least that has happened. A row that was planned and no more cost nothing;
one that was sent is unknown until somebody can tell; neither is ever sent again unasked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from ..errors import Aborted, Json, JsonObject
from .database import Database

if TYPE_CHECKING:
    from apsw import Connection

By = Literal["route", "model", "tool", "day"]

UNDER_WAY: Final = ("planned", "sent", "responded")
# Each state with those that it may follow. A retry is sent again; what was unknown may turn out either way.
STEPS: Final[dict[str, tuple[str, ...]]] = {
    "sent": UNDER_WAY,
    "responded": ("sent", "responded"),
    "stored": (*UNDER_WAY, "unknown"),
    "failed": (*UNDER_WAY, "unknown"),
    "unknown": UNDER_WAY,
}
KEYS: Final[dict[str, str]] = {
    "route": "route_id",
    "model": "model",
    "tool": "tool",
    "day": "strftime('%Y-%m-%d', created_at, 'unixepoch')",
}
ORDERS: Final[dict[str, str]] = {"day": "1 DESC"} | dict.fromkeys(("route", "model", "tool"), "3 DESC, 1")
BILLED: Final = "(state IN ('sent', 'responded', 'stored', 'unknown') OR cost_usd IS NOT NULL)"
SUM: Final = "SELECT ifnull(sum(ifnull(cost_usd, ifnull(estimate_usd, 0.0))), 0.0) FROM exchange"
# An exchange changes while it is young: while it is under way, and until its price is known.
LATEST: Final = "(SELECT owner, updated_at FROM exchange ORDER BY number DESC LIMIT 1000)"
RESERVED: Final = f"({BILLED} OR state = 'planned')"


@dataclass(frozen=True, slots=True)
class Unsettled:
    """An exchange that may have been billed, of unknown price, with the provider's id for it; epoch seconds."""

    number: int
    route_id: str
    generation_id: str
    created_at: float


class Ledger:
    """The rows of all routes; each step is on disk when its method returns, and Aborted where it cannot follow."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def plan(
        self,
        *,
        job_id: str,
        owner: str,
        tool: str,
        route_id: str,
        provider: str,
        model: str,
        estimate_usd: float | None = None,
    ) -> int:
        """A new row, before anything is sent; gives its number. `estimate_usd` counts until the cost is known."""
        now = time.time()
        values = (job_id, owner, tool, route_id, provider, model, estimate_usd, now, now)

        def work(connection: Connection) -> int:
            connection.execute(
                "INSERT INTO exchange (job_id, owner, tool, route_id, provider, model, estimate_usd, created_at,"
                " updated_at, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'planned')",
                values,
            )
            return connection.last_insert_rowid()

        return await self._database.write(work)

    async def sent(self, row: int) -> None:
        """The request's bytes are about to leave."""
        await self._step(row, "sent")

    async def again(self, row: int) -> None:
        """It was refused without cost and will be sent once more: planned, and without the refused answer's id."""
        query = (
            "UPDATE exchange SET state = 'planned', generation_id = NULL, updated_at = ?"
            " WHERE number = ? AND state IN ('planned', 'sent', 'responded')"
        )
        if not await self._database.change(query, time.time(), row):
            raise Aborted(f"Exchange {row} of the ledger has ended and is not sent again.", hint="See the costs.")

    async def responded(self, row: int, generation_id: str | None) -> None:
        """The answer's headers are there, with the provider's id for it if it gave one."""
        await self._step(row, "responded", generation_id=generation_id)

    async def stored(self, row: int, cost_usd: float | None, asset_ids: Sequence[str]) -> None:
        """All that came is kept; `cost_usd` is None where the provider has not said."""
        await self._step(row, "stored", cost_usd=cost_usd, asset_ids=json.dumps(list(asset_ids)))

    async def failed(self, row: int, error_code: str, cost_usd: float | None = None) -> None:
        """An answer said no, or nothing was sent: it costs nothing unless `cost_usd` says otherwise."""
        await self._step(row, "failed", error_code=error_code, cost_usd=cost_usd)

    async def unknown(self, row: int, error_code: str | None = None) -> None:
        """It ended after the request had left, without an answer: possibly billed, never sent again unasked."""
        await self._step(row, "unknown", error_code=error_code)

    async def abandon(self, row: int) -> None:
        """It was cancelled: unknown if its bytes had left, failed if not; a row that has ended stays as it is."""
        query = (
            "UPDATE exchange SET state = CASE state WHEN 'planned' THEN 'failed' ELSE 'unknown' END,"
            " error_code = 'cancelled', updated_at = ? WHERE number = ? AND state IN ('planned', 'sent', 'responded')"
        )
        await self._database.change(query, time.time(), row)

    async def settle(self, row: int, cost_usd: float) -> None:
        """The provider has said what an exchange cost after it had ended; what was said before stays."""
        query = "UPDATE exchange SET cost_usd = ifnull(cost_usd, ?), updated_at = ? WHERE number = ?"
        await self._database.change(query, cost_usd, time.time(), row)

    async def unsettled(self, since: float) -> tuple[Unsettled, ...]:
        """The latest 200 exchanges since an epoch time that are over, and whose price somebody may know by now."""
        query = (
            "SELECT number, route_id, generation_id, created_at FROM exchange WHERE created_at >= ?"
            " AND generation_id IS NOT NULL AND cost_usd IS NULL AND state IN ('stored', 'unknown')"
            " ORDER BY number DESC LIMIT 200"
        )
        return tuple(Unsettled(*row) for row in await self._database.rows(query, since))

    async def _step(self, row: int, state: str, **values: str | float | None) -> None:
        known = {name: value for name, value in values.items() if value is not None}
        assignments = "".join(f", {name} = ?" for name in known)
        marks = ", ".join("?" for _ in STEPS[state])
        query = f"UPDATE exchange SET state = ?, updated_at = ?{assignments} WHERE number = ? AND state IN ({marks})"  # noqa: S608 - our own columns
        if not await self._database.change(query, state, time.time(), *known.values(), row, *STEPS[state]):
            raise Aborted(f"Exchange {row} of the ledger cannot become {state} any more.", hint="See the costs.")

    async def spent(self, route_id: str, since: float) -> float:
        """USD of a route since an epoch time, for caps: what was billed, else what was estimated.

        An exchange counts from its plan on. So who plans first and then compares the sum with the cap cannot be
        overtaken by another process.
        """
        query = f"{SUM} WHERE route_id = ? AND created_at >= ? AND {RESERVED}"
        [(usd,)] = await self._database.rows(query, route_id, since)
        return float(usd)

    async def spent_by_job(self, job_id: str, route_id: str) -> float:
        """USD of a job on a route, as `spent` counts them."""
        query = f"{SUM} WHERE job_id = ? AND route_id = ? AND {RESERVED}"
        [(usd,)] = await self._database.rows(query, job_id, route_id)
        return float(usd)

    async def spent_by_jobs(self, job_ids: Collection[str], since: float) -> float:
        """USD of several jobs since an epoch time, as `spent` counts them."""
        query = f"{SUM} WHERE created_at >= ? AND job_id IN (SELECT value FROM json_each(?)) AND {RESERVED}"  # noqa: S608 - our own columns
        [(usd,)] = await self._database.rows(query, since, json.dumps(list(job_ids)))
        return float(usd)

    async def newest(self) -> float:
        """The epoch time of the last change of one of the latest exchanges."""
        [(moment,)] = await self._database.rows(f"SELECT ifnull(max(updated_at), 0.0) FROM {LATEST}")  # noqa: S608 - our own table
        return float(moment)

    async def changed_since(self, moment: float) -> tuple[str, ...]:
        """Whose latest exchanges have changed since an epoch time."""
        query = f"SELECT DISTINCT owner FROM {LATEST} WHERE updated_at > ?"  # noqa: S608 - our own table
        return tuple(str(owner) for (owner,) in await self._database.rows(query, moment))

    async def highest(self, route_id: str, model: str, tool: str) -> float | None:
        """The highest cost in USD of the last twenty exchanges of a kind whose cost is known; None where none is."""
        query = (
            "SELECT max(cost_usd) FROM (SELECT cost_usd FROM exchange WHERE route_id = ? AND model = ? AND tool = ?"
            " AND cost_usd IS NOT NULL ORDER BY number DESC LIMIT 20)"
        )
        [(usd,)] = await self._database.rows(query, route_id, model, tool)
        return None if usd is None else float(usd)

    async def cost_of_job(self, job_id: str) -> float | None:
        """USD of a job's exchanges, as it is known by now; None as long as one of them is unknown."""
        query = f"SELECT sum(cost_usd), sum(cost_usd IS NULL) FROM exchange WHERE job_id = ? AND {BILLED}"  # noqa: S608 - our own columns
        [(usd, unknown)] = await self._database.rows(query, job_id)
        return None if usd is None or unknown else round(float(usd), 9)

    async def cost_of_generation(self, generation_id: str) -> float | None:
        """USD of the exchange that has the provider's id; None where it is not known, and for an id of none."""
        rows = await self._database.rows("SELECT cost_usd FROM exchange WHERE generation_id = ?", generation_id)
        return float(rows[0][0]) if rows and rows[0][0] is not None else None

    async def was_billed(self, job_id: str) -> bool:
        """Whether an exchange of a job was billed, or may have been."""
        query = f"SELECT 1 FROM exchange WHERE job_id = ? AND {BILLED} LIMIT 1"  # noqa: S608 - our own columns
        return bool(await self._database.rows(query, job_id))

    async def kept(self, job_id: str) -> tuple[str, ...]:
        """The ids of the assets that a job's exchanges brought, in order; some may be deleted by now."""
        query = "SELECT asset_ids FROM exchange WHERE job_id = ? ORDER BY number"
        rows = await self._database.rows(query, job_id)
        return tuple(dict.fromkeys(str(asset_id) for (ids,) in rows for asset_id in json.loads(ids)))

    async def totals(self, *, by: By = "route", since: float = 0.0, owner: str | None = None) -> JsonObject:
        """Sums since an epoch time: total_usd, calls, unknown_cost_calls, and rows by route, model, tool or day (UTC).

        Calls are those that may have been billed; a cost that is not known is counted apart and never as zero.
        """
        query = (
            f"SELECT {KEYS[by]}, count(*), ifnull(sum(cost_usd), 0.0), sum(cost_usd IS NULL) FROM exchange"  # noqa: S608 - our own columns
            f" WHERE {BILLED} AND created_at >= ? AND (? IS NULL OR owner = ?) GROUP BY 1 ORDER BY {ORDERS[by]}"
        )
        found = await self._database.rows(query, since, owner, owner)
        rows: list[Json] = [
            {"key": key, "calls": calls, "cost_usd": round(cost, 9), "unknown_cost_calls": unknown}
            for key, calls, cost, unknown in found
        ]
        return {
            "total_usd": round(sum((row[2] for row in found), 0.0), 9),
            "calls": sum(row[1] for row in found),
            "unknown_cost_calls": sum(row[3] for row in found),
            "rows": rows,
        }

    async def overview(self, owner: str | None = None) -> JsonObject:
        """Totals by day, route and model, of one owner or of all."""
        tables = {by: await self.totals(by=by, owner=owner) for by in OVERVIEW}
        return {
            **{key: value for key, value in tables["day"].items() if key != "rows"},
            **{f"by_{by}": table["rows"] for by, table in tables.items()},
        }


OVERVIEW: Final[tuple[By, ...]] = ("day", "route", "model")
