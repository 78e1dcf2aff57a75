"""What was spent, by route, model, tool or day."""

from __future__ import annotations

from typing import Annotated, Any

import anyio
import typer

from ..stores.database import Database
from ..stores.ledger import By, Ledger
from .frame import Frame, command_group, table
from .moments import before_now

app = command_group(__doc__)


@app.command()
def costs(
    ctx: typer.Context,
    since: Annotated[str, typer.Option(help="A date (2026-11-01, UTC) or a stretch of time (24h, 7d, 4w).")] = "",
    by: Annotated[By, typer.Option(help="What to add up.")] = "route",
) -> None:
    """Add up the ledger: what calls cost, and how many of them have a cost that nobody has said."""
    frame: Frame = ctx.obj
    start, root = before_now(since, "--since") if since else 0.0, frame.settings().state_root

    async def main() -> dict[str, Any]:
        async with Database.open(root) as database:
            return await Ledger(database).totals(by=by, since=start)

    found = anyio.run(main)
    rows = [(row["key"], row["calls"], f"{row['cost_usd']:.6f}", row["unknown_cost_calls"]) for row in found["rows"]]
    total = ("total", found["calls"], f"{found['total_usd']:.6f}", found["unknown_cost_calls"])
    frame.give(found, table([(by.upper(), "CALLS", "USD", "COST UNKNOWN"), *rows, total]))
