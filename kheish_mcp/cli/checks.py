"""What can be looked at without anybody being asked: folders, stores, keys, routes."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from ..capabilities import CAPABILITIES
from ..catalog import Absence, Catalog, Offer
from ..drivers.local import INSTALL, NEEDS
from ..errors import JsonObject, KheishError, MasterKeyMissing
from ..inventory import Inventory
from ..routes import Route
from ..settings import Settings
from ..stores.auth import AuthStore
from ..stores.database import FILE, Database
from ..stores.tokens import TokenStore

State = Literal["ok", "warning", "error"]

LEAST, LITTLE = 64 << 20, 1 << 30  # bytes free: below the first nothing can be kept
RESTORE: Final = "Restore kheish.db from a backup, or move it away: assets, jobs and the ledger then begin anew."
GET_KEY: Final = "kheish-daemon secrets set openrouter.primary --provider openrouter"


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it stands, and the command or the step that mends it."""

    name: str
    state: State
    message: str
    fix: str | None = None

    def as_json(self) -> JsonObject:
        """The check's object, without a fix where nothing is to be mended."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def refused(name: str, error: KheishError, state: State = "error") -> Check:
    """A check that ended in a refusal."""
    return Check(name, state, error.message, error.hint)


def folders(settings: Settings) -> Iterator[Check]:
    """The state root, the disk under it, and the workspace."""
    root = settings.state_root
    yield _state_root(root)
    yield disk(shutil.disk_usage(_nearest(root)).free)
    yield _workspace(settings.workspace_root)
    aside = sum(1 for path in (root / "quarantine").glob("*.bin"))
    told = f"{aside} piece(s) of media that could not be used are set aside in {root / 'quarantine'}."
    look = "Look at the .json beside each, then delete both."
    yield Check("quarantine", "warning", told, look) if aside else Check("quarantine", "ok", "Nothing is set aside.")


def disk(free: int) -> Check:
    """So many bytes are free."""
    state: State = "error" if free < LEAST else "warning" if free < LITTLE else "ok"
    return Check("disk", state, f"{free >> 20:,} MiB are free.", "Free some space." if state != "ok" else None)


def _state_root(root: Path) -> Check:
    if not root.exists():
        makes = os.access(_nearest(root), os.W_OK)
        told = f"{root} is made at the first start." if makes else f"{root} cannot be made."
        return Check("state_root", "ok" if makes else "error", told, None if makes else "Name another --state-root.")
    found = root.stat()
    if not stat.S_ISDIR(found.st_mode) or not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        return Check("state_root", "error", f"{root} is no folder that can be written.", "Name another --state-root.")
    if found.st_mode & 0o077:
        return Check("state_root", "warning", f"{root} is open to others.", f"chmod go-rwx {root}")
    return Check("state_root", "ok", str(root))


def _nearest(path: Path) -> Path:
    """The path itself, or the folder above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _workspace(root: Path | None) -> Check:
    if root is None:
        return Check("workspace", "ok", "There is none: tools take no paths. --workspace-root names one.")
    if not root.is_dir():
        return Check("workspace", "error", f"{root} is no folder.", f"mkdir -p {root}")
    if not os.access(root, os.W_OK):
        return Check("workspace", "warning", f"{root} cannot be written: save_as will fail.", f"chmod u+w {root}")
    return Check("workspace", "ok", str(root))


async def stores(settings: Settings) -> AsyncIterator[Check]:
    """The database, whole or damaged, and the tokens in it."""
    if not (settings.state_root / FILE).exists():
        yield Check("database", "ok", "There is none yet.")
        return
    try:
        async with Database.open(settings.state_root) as database:
            found = [str(line) for (line,) in await database.rows("PRAGMA integrity_check(5)")]
            whole = found == ["ok"]
            yield Check("database", "ok", "It is whole.") if whole else Check("database", "error", found[0], RESTORE)
            tokens = await TokenStore(database).list()
    except KheishError as error:
        yield refused("database", error)
        return
    over = [token.name for token in tokens if token.is_over]
    fix = f"kheish-daemon tokens revoke {over[0]}" if over else None
    yield Check("tokens", "warning" if over else "ok", f"{len(tokens)} token(s), {len(over)} of them expired.", fix)


def secrets(settings: Settings) -> Iterator[Check]:
    """The master key, and whether it opens every slot."""
    auth = AuthStore.of(settings)
    try:
        auth.master()
        yield Check("master_key", "ok", f"It is in {_place(settings, auth)}.")
    except MasterKeyMissing as missing:
        is_needed = (settings.state_root / "secrets" / "store.json").exists() or settings.master_key_file is not None
        none_yet = Check("master_key", "ok", "There is none, and nothing that needs one. `secrets init` makes one.")
        yield refused("master_key", missing) if is_needed else none_yet
        return
    except KheishError as error:
        yield refused("master_key", error)
        return
    try:
        slots = [slot.slot_id for slot in auth.list() if auth.open(slot.slot_id)]
        yield Check("auth_store", "ok", f"It opens: {len(slots)} slot(s).")
    except KheishError as error:
        yield refused("auth_store", error)


def _place(settings: Settings, auth: AuthStore) -> str:
    if settings.master_key is not None:
        return "KHEISH_AUTH_STORE_MASTER_KEY"
    return str(settings.master_key_file or auth.key_file)


def routes(settings: Settings, inventory: Inventory) -> Iterator[Check]:
    """routes.toml, each route with its reasons, and what none of them can do without."""
    place = str(settings.routes_file) if settings.routes_file else "There is none: the built-in routes are used."
    mend = f"Mend {settings.routes_file}; routes.example.toml has every key."
    yield (
        Check("routes_file", "error", inventory.trouble, mend)
        if inventory.trouble
        else Check("routes_file", "ok", place)
    )
    known = {route.route_id: route for route in (inventory.routes.routes if inventory.routes else ())}
    for offer in inventory.catalog.offers:
        yield _route(offer, known[offer.route_id], inventory.catalog)
        yield from _inline(known[offer.route_id])
    if all(offer.driver_name == "local" for offer in inventory.catalog.offers) and not inventory.trouble:
        yield Check(
            "providers", "warning", "No route leads to a provider, so nothing is generated from words.", GET_KEY
        )
    missing = sorted({name for names in NEEDS.values() for name in names if find_spec(name) is None})
    yield local_extra(missing, is_used=any(offer.driver_name == "local" for offer in inventory.catalog.offers))


def _route(offer: Offer, route: Route, catalog: Catalog) -> Check:
    name = f"route.{route.route_id}"
    if offer.absence is not None:
        return Check(name, "error", f"{offer.absence.reason}.", offer.absence.fix)
    cells = [cell for kind in CAPABILITIES for cell in catalog.row(kind) if cell.route_id == route.route_id]
    lacking = [cell for cell in cells if isinstance(cell, Absence) and cell.fix]
    live = [kind.flag for kind in CAPABILITIES for cell in catalog.backends(kind) if cell.route_id == route.route_id]
    reasons = list(dict.fromkeys([*filter(None, [offer.warning]), *(cell.reason for cell in lacking)]))
    state: State = "error" if not live else "warning" if reasons else "ok"
    told = f"It offers {', '.join(live) or 'nothing'}."
    fix = lacking[0].fix if lacking else None
    return Check(name, state, " ".join([told, *(f"{reason[:1].upper()}{reason[1:]}." for reason in reasons)]), fix)


def _inline(route: Route) -> Iterator[Check]:
    if route.api_key is not None:
        fix = f"kheish-daemon secrets set {route.driver}.primary --provider {route.driver}, and auth_ref in its place"
        yield Check(f"route.{route.route_id}.key", "warning", "Its key stands in routes.toml in plain text.", fix)


def local_extra(missing: Sequence[str], *, is_used: bool) -> Check:
    """The packages of the local route that are not installed."""
    if not missing:
        return Check("local_extra", "ok", "It is installed.")
    told = f"It is not installed ({', '.join(missing)} missing)."
    return (
        Check("local_extra", "warning", told, INSTALL)
        if is_used
        else Check("local_extra", "ok", f"{told} No route uses it.")
    )
