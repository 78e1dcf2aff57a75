"""What was spent, by route, model, tool or day."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import anyio
import typer

from ..errors import UsageError
from ..stores.database import Database
from ..stores.ledger import By, Ledger
from .frame import Frame, command_group, table

app = command_group(__doc__)

AGO: Final = re.compile(r"(\d{1,5})([hdw])")
SECONDS: Final = {"h": 3600.0, "d": 86_400.0, "w": 604_800.0}


@app.command()
def costs(
    ctx: typer.Context,
    since: Annotated[str, typer.Option(help="A date (2026-11-01, UTC) or a stretch of time (24h, 7d, 4w).")] = "",
    by: Annotated[By, typer.Option(help="What to add up.")] = "route",
) -> None:
    """Add up the ledger: what calls cost, and how many of them have a cost that nobody has said."""
    frame: Frame = ctx.obj
    start, root = _moment(since), frame.settings().state_root

    async def main() -> dict[str, Any]:
        async with Database.open(root) as database:
            return await Ledger(database).totals(by=by, since=start)

    found = anyio.run(main)
    rows = [(row["key"], row["calls"], f"{row['cost_usd']:.6f}", row["unknown_cost_calls"]) for row in found["rows"]]
    total = ("total", found["calls"], f"{found['total_usd']:.6f}", found["unknown_cost_calls"])
    frame.give(found, table([(by.upper(), "CALLS", "USD", "COST UNKNOWN"), *rows, total]))


def _moment(since: str) -> float:
    """The epoch time that is meant; UsageError for anything but a date, a time or a stretch of time."""
    ago = AGO.fullmatch(since)
    if ago:
        return time.time() - int(ago[1]) * SECONDS[ago[2]]
    try:
        moment = datetime.fromisoformat(since) if since else datetime.fromtimestamp(0, UTC)
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(f"--since cannot be {since[:32]!r}", hint="Such as 2026-11-01, 24h, 7d or 4w.") from None
