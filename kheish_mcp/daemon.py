"""The one place where everything is put together, and taken apart again."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import anyio

from .capabilities import Driver
from .catalog import Absence, Catalog, Offer
from .conversation import TextGeneration
from .drivers import DRIVERS, flags_by_driver, open_driver
from .drivers.http import Endpoint
from .errors import ConfigError, JsonObject, KheishError, NotFound
from .listeners import Listeners
from .routes import Route, Routes, builtin_routes, read_routes
from .runtime import runtime_view
from .secret import Secret
from .settings import Settings
from .sources.references import References
from .sources.web import Web
from .sources.workspace import Workspace
from .stores.assets import AssetStore
from .stores.auth import AuthStore
from .stores.database import Database
from .stores.jobs import Jobs
from .stores.ledger import Ledger
from .stores.sessions import SessionStore
from .tools import TOOLS
from .tools.base import Parts
from .workers import Workers

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
DRAIN_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Inventory:
    """The routes as last read, the catalog made of them, and what is wrong with routes.toml if anything is."""

    routes: Routes | None
    catalog: Catalog
    trouble: str | None = None

    @property
    def listed(self) -> tuple[str, ...]:
        """The names in tools/list."""
        return tuple(tool.name for tool in TOOLS if tool.listed_by(self.catalog))


class Inventories:
    """Reads routes and slots into an inventory, and keeps one driver per endpoint for as long as it is in use."""

    def __init__(self, settings: Settings, auth: AuthStore, workers: Workers) -> None:
        self.settings = settings
        self.auth = auth
        self.workers = workers
        self._drivers: dict[tuple[str, Endpoint], Driver] = {}

    def signature(self) -> tuple[object, ...]:
        """Changes whenever a new look could find something else."""
        path = self.settings.routes_file
        try:
            stat = path.stat() if path is not None else None
        except OSError:
            stat = None
        return self.auth.signature(), stat and (stat.st_ino, stat.st_mtime_ns, stat.st_size)

    def read(self, earlier: Inventory | None = None) -> Inventory:
        """The inventory now; a routes file that cannot be used leaves the earlier routes standing, with the error."""
        trouble: str | None = None
        routes: Routes | None = earlier.routes if earlier is not None else None
        try:
            routes = self._routes()
        except ConfigError as error:
            trouble = error.message
        offers = [self._offer(route) for route in routes.routes] if routes is not None else []
        reason = trouble if routes is None else None
        return Inventory(routes, Catalog(offers, trouble=reason), trouble)

    def _routes(self) -> Routes:
        settings = self.settings
        if settings.routes_file is not None:
            return read_routes(settings.routes_file, drivers=flags_by_driver(), default_route=settings.default_route)
        has_key, has_slot = settings.openrouter_api_key is not None, self._has_slot("openrouter.primary")
        return builtin_routes(
            openrouter=has_key or has_slot,
            base_url=settings.openrouter_base_url,
            by_slot=not has_key,
            default_route=settings.default_route,
        )

    def _has_slot(self, ref: str) -> bool:
        try:
            return any(slot.slot_id == ref for slot in self.auth.list())
        except KheishError:
            return False

    def _offer(self, route: Route) -> Offer:
        kind = DRIVERS[route.driver]
        offer = Offer(
            route.route_id,
            route.driver,
            None,
            provider=kind.provider,
            base_url=route.base_url or kind.default_base_url,
            flags=route.flags,
            models=_models(route),
        )
        try:
            key = self._key(route)
        except KheishError as error:
            return replace(offer, absence=Absence(route.route_id, error.message.rstrip("."), error.hint))
        if key is None and kind.needs_key:
            name = route.auth_ref or f"{route.driver}.primary"
            fix = f"kheish-daemon secrets set {name} --provider {route.driver}"
            return replace(offer, absence=Absence(route.route_id, "it has no key", fix))
        endpoint = Endpoint(route.route_id, offer.base_url or "", key, route.preferences)
        return replace(offer, driver=self._driver(route.driver, endpoint))

    def _key(self, route: Route) -> Secret | None:
        """The route's key; refuses with a reason where a slot is missing, of another provider, or cannot be opened."""
        if route.api_key is not None:
            return route.api_key
        if route.api_key_env is not None:
            return self.settings.variable(route.api_key_env)
        if route.auth_ref is None:
            return None
        slot = self.auth.get(route.auth_ref)
        if slot.provider != route.driver:
            raise NotFound(
                f"slot {slot.slot_id} holds a key for {slot.provider}, and the route needs one for {route.driver}",
                hint=f"kheish-daemon secrets set {slot.slot_id} --provider {route.driver}",
            )
        return self.auth.open(route.auth_ref)

    def _driver(self, name: str, endpoint: Endpoint) -> Driver:
        known = self._drivers.get((name, endpoint))
        if known is None:
            known = self._drivers[name, endpoint] = open_driver(name, endpoint, self.workers)
        return known

    async def close(self) -> None:
        """Closes every driver that was opened."""
        for driver in self._drivers.values():
            await driver.close()


def _models(route: Route) -> dict[str, tuple[str, ...]]:
    """The models that a route names by capability flag; its default model is the one for text."""
    return {**route.models, **({TextGeneration.flag: (route.default_model,)} if route.default_model else {})}


class Daemon:
    """A running daemon: its parts, its inventory as it is now, and the look it takes every second for changes."""

    def __init__(self, settings: Settings, parts: Parts, inventories: Inventories, inventory: Inventory) -> None:
        self.settings = settings
        self.parts = parts
        self.inventories = inventories
        self.inventory = inventory
        self.listeners = Listeners()

    def runtime(self) -> JsonObject:
        """The runtime view as it is now."""
        now = self.inventory
        return runtime_view(now.routes, now.catalog, TOOLS, revision=0, trouble=now.trouble)

    async def watch(self) -> None:
        """Looks for changed slots, routes and assets, and tells the listeners of what really changed."""
        seen, newest = self.inventories.signature(), await self.parts.assets.newest()
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            now, latest = self.inventories.signature(), await self.parts.assets.newest()
            if now != seen:
                seen = now
                await self.reload()
            if latest != newest:
                newest = latest
                await self.listeners.resources_changed()

    async def reload(self) -> None:
        """Reads routes and slots anew; tools/list_changed goes out only if the list is another one."""
        before = self.inventory
        self.inventory = self.inventories.read(before)
        self.parts = replace(self.parts, catalog=self.inventory.catalog)
        await self.listeners.resource_updated("kheish://runtime")
        if self.inventory.listed != before.listed:
            await self.listeners.tools_changed()

    async def drain(self) -> None:
        """Waits for the paid calls in flight, so that a client that has gone loses nothing."""
        if self.parts.jobs.in_flight:
            log.warning("finishing %d paid call(s); a signal ends this at once", self.parts.jobs.in_flight)
            with anyio.move_on_after(DRAIN_S):
                await self.parts.jobs.idle()


@asynccontextmanager
async def open_daemon(settings: Settings) -> AsyncGenerator[Daemon]:
    """Opens every store and starts the watch; on the way out everything is closed, in the opposite order."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.open(settings.state_root))
        group = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(group.cancel_scope.cancel)
        workers = Workers()
        stack.push_async_callback(workers.close)
        assets = AssetStore(settings.state_root, database)
        inventories = Inventories(settings, AuthStore.of(settings), workers)
        stack.push_async_callback(inventories.close)
        inventory = inventories.read()
        workspace = Workspace(settings.workspace_root) if settings.workspace_root else None
        parts = Parts(
            catalog=inventory.catalog,
            assets=assets,
            references=References(assets, workspace, Web()),
            workspace=workspace,
            workers=workers,
            jobs=Jobs(database, group),
            ledger=Ledger(database),
            sessions=SessionStore(database),
            latest={},
        )
        stack.callback(parts.jobs.close)
        await parts.jobs.open()
        daemon = Daemon(settings, parts, inventories, inventory)
        group.start_soon(daemon.watch)
        yield daemon
