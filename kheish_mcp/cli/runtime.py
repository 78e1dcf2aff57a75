"""The routes and what they offer, and the text model that answers where none is named."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

import anyio
import typer

from ..inventory import Inventories, Inventory
from ..runtime import chosen_text, runtime_view
from ..settings import Settings
from ..stores.auth import AuthStore
from ..stores.database import Database
from ..stores.policy import Policy
from ..tools import TOOLS
from ..workers import Workers
from .frame import Frame, command_group, table

app = command_group(__doc__)

SIGNS: Final = {True: "yes", False: "no"}


@app.command()
def get(ctx: typer.Context) -> None:
    """Show every route with its model, its capabilities and what it lacks, and every tool."""
    frame: Frame = ctx.obj

    async def main() -> dict[str, Any]:
        async with opened(frame.settings()) as (inventory, database):
            choice = await Policy(database).choice()
            return runtime_view(inventory.routes, inventory.catalog, TOOLS, choice=choice, trouble=inventory.trouble)

    view = anyio.run(main)
    frame.give(view, _pretty(view))


@app.command("set-model")
def set_model(
    ctx: typer.Context,
    selector: Annotated[str, typer.Argument(help="ROUTE/MODEL, or a model for the route that answers now.")],
    expected_revision: Annotated[int | None, typer.Option(min=0, help="Refuse if the revision is another one.")] = None,
) -> None:
    """Choose the text model that answers where neither a call nor its session names one; running daemons see it."""
    frame: Frame = ctx.obj

    async def main() -> dict[str, Any]:
        async with opened(frame.settings()) as (inventory, database):
            policy = Policy(database)
            route_id, model = chosen_text(inventory.routes, selector, (await policy.choice()).selector)
            choice = await policy.choose(route_id, model, expected_revision=expected_revision)
            return {"revision": choice.revision, "default_route": route_id, "route_id": route_id, "model": model}

    chosen = anyio.run(main)
    frame.give(chosen, f"{chosen['model']} on route {chosen['route_id']} answers now (revision {chosen['revision']}).")


@asynccontextmanager
async def opened(settings: Settings) -> AsyncGenerator[tuple[Inventory, Database]]:
    """The inventory of a state root and its database, beside whatever daemons run on it."""
    inventories = Inventories(settings, AuthStore.of(settings), Workers())
    try:
        async with Database.open(settings.state_root) as database:
            yield inventories.read(), database
    finally:
        await inventories.close()


def _pretty(view: dict[str, Any]) -> str:
    default = view["default_route"] or "none"
    lines = [f"revision {view['revision']}, default route {default}"]
    lines += [f"error: {view['error']}"] if "error" in view else []
    routes = [(route["route_id"], route["driver"], route["model"] or "", route["state"]) for route in view["routes"]]
    lines += ["", table([("ROUTE", "DRIVER", "TEXT MODEL", "STATE"), *routes])]
    lines += [f"  {route['route_id']}: {reason}" for route in view["routes"] for reason in route["reasons"]]
    flags = [flag for flag in (view["routes"][0]["capabilities"] if view["routes"] else ()) if flag != "matrix_version"]
    cells = [(flag, *(SIGNS[route["capabilities"][flag]] for route in view["routes"])) for flag in flags]
    lines += ["", table([("CAPABILITY", *(route["route_id"] for route in view["routes"])), *cells])]
    tools = [(tool["name"], "listed" if tool["listed"] else tool["reason"]) for tool in view["tools"]]
    return "\n".join([*lines, "", table([("TOOL", ""), *tools])])
