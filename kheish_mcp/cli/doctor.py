"""What works, what does not, why, and the command that fixes it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Annotated, Final, Literal

import typer

from ..errors import Json, KheishError
from ..inventory import Inventories, Inventory
from ..settings import Settings
from ..stores.auth import AuthStore
from ..workers import Workers
from . import checks
from .checks import Check, refused
from .frame import Frame, awaited, command_group

app = command_group(__doc__)

PAID: Final = "The canary makes real calls, which cost a little; see `kheish-daemon costs`."


@app.command()
def doctor(
    ctx: typer.Context,
    only: Annotated[Literal["routes"] | None, typer.Argument(help="Look at nothing but the routes.")] = None,
    check_auth: Annotated[
        bool, typer.Option("--check-auth", help="Ask the providers about the keys, for free.")
    ] = False,
    canary: Annotated[bool, typer.Option("--canary", help="Make a tiny real call of each kind, which costs.")] = False,
) -> int:
    """Look at everything, and exit with 1 where something is wrong."""
    frame: Frame = ctx.obj
    if check_auth or canary:
        frame.check_online("doctor --canary" if canary else "doctor --check-auth")
    if canary:
        print(PAID, file=sys.stderr)
    found = awaited(_looked, frame.settings(), only is not None, check_auth, canary)
    is_ok = all(check.state != "error" for check in found)
    shown: list[Json] = [check.as_json() for check in found]
    frame.give({"ok": is_ok, "checks": shown}, _pretty(found))
    return 0 if is_ok else 1


async def _looked(settings: Settings, routes_only: bool, check_auth: bool, canary: bool) -> list[Check]:
    found: list[Check] = []
    if not routes_only:
        found += checks.folders(settings)
        found += [check async for check in checks.stores(settings)]
        found += checks.secrets(settings)
    inventories = Inventories(settings, AuthStore.of(settings), Workers())
    try:
        inventory = inventories.read()
        found += checks.routes(settings, inventory)
        found += [check async for check in _keys(inventory)] if check_auth else []
    finally:
        await inventories.close()
    if canary:
        from .canary import canaries

        found += await canaries(settings)
    return found


async def _keys(inventory: Inventory) -> AsyncIterator[Check]:
    """Each usable route's key, as its provider sees it."""
    for offer in inventory.catalog.offers:
        name = f"auth.{offer.route_id}"
        try:
            standing = await offer.driver.check_key() if offer.driver is not None else None
        except KheishError as error:
            yield refused(name, error)
            continue
        if standing is None:
            continue
        if standing.left_usd is not None and standing.left_usd <= 0:
            yield Check(
                name, "warning", "The key is taken, and has used up its limit.", "Raise its limit at the provider."
            )
        else:
            left = "" if standing.left_usd is None else f" ${standing.left_usd:,.2f} of its limit are left."
            yield Check(name, "ok", f"The key is taken.{left}")


def _pretty(found: list[Check]) -> str:
    """One line a check, and its fix under it."""
    width = max(len(check.name) for check in found)
    lines: list[str] = []
    for check in found:
        lines.append(f"{check.state:<8}{check.name:<{width}}  {check.message}")
        lines += [f"{'':8}{'':{width}}  fix: {check.fix}"] if check.fix and check.state != "ok" else []
    return "\n".join(lines)
