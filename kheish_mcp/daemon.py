"""The one place where everything is put together, and taken apart again."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import anyio
from anyio.abc import TaskStatus

from .agent.run import converse
from .errors import JsonObject, KheishError
from .inventory import Inventories, Inventory
from .mcp_server.listeners import Listeners
from .runtime import runtime_view
from .settings import Settings
from .settler import Settler
from .sources.references import References
from .sources.web import Web
from .sources.workspace import Workspace
from .stores.assets import AssetStore
from .stores.auth import AuthStore
from .stores.database import Database
from .stores.jobs import Jobs
from .stores.ledger import Ledger
from .stores.policy import Choice, Policy
from .stores.sessions import SessionStore
from .tools import TOOLS
from .tools.base import Lanes, Parts
from .workers import Workers

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
DRAIN_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look of the watch finds: values that differ from the last look's where something has changed.

    `lists` are the assets by owner, `written` is the newest line of a journal, and `spent` the time of the ledger's last
    change.
    """

    choice: Choice
    newest: int
    lists: Mapping[str, tuple[int, int]]
    written: int
    spent: float


class Daemon:
    """A running daemon: its parts, its inventory as it is now, and the look it takes every second for changes."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        parts: Parts,
        inventories: Inventories,
        inventory: Inventory,
    ) -> None:
        self.settings = settings
        self.database = database
        self.parts = parts
        self.inventories = inventories
        self.inventory = inventory
        self.listeners = Listeners()

    async def runtime(self) -> JsonObject:
        """The runtime view as it is now."""
        now, choice = self.inventory, await self.parts.policy.choice()
        return runtime_view(now.routes, now.catalog, TOOLS, choice=choice, trouble=now.trouble)

    @property
    def has_usable_route(self) -> bool:
        """Whether the routes could be read and one of them has all that it needs."""
        now = self.inventory
        return now.trouble is None and any(offer.driver is not None for offer in now.catalog.offers)

    async def watch(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Looks for what has changed, whichever process did it, and tells the listeners of what really has.

        It has started once the first look is over. A later one that fails is no reason to stop looking: what it would
        have seen, the next one sees.
        """
        seen = await self._look(None)
        task_status.started()
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            try:
                now = await self._look(seen)
                await self._tell(seen, now)
            except KheishError as error:
                log.warning("changes cannot be looked for: %s", error.message)
            else:
                seen = now

    async def discover(self) -> None:
        """Asks providers for their models whenever that is due, beside everything else."""
        while True:
            if await self.inventories.discover():
                await self.reload()
            await anyio.sleep(LOOK_EVERY_S)

    async def learn(self) -> None:
        """Asks the providers whose models nobody knows yet, for a call that depends on them."""
        self.inventories.discoveries.hurry()
        if await self.inventories.discover():
            await self.reload()

    async def _look(self, before: Sight | None) -> Sight:
        parts = self.parts
        newest = await parts.assets.newest()
        return Sight(
            await parts.policy.choice(),
            newest,
            before.lists if before is not None and before.newest == newest else await parts.assets.lists(),
            await parts.sessions.newest(),
            await parts.ledger.newest(),
        )

    async def _tell(self, before: Sight, now: Sight) -> None:
        parts, listeners = self.parts, self.listeners
        if self.inventories.signature() != self.inventory.signature:
            await self.reload()
        if now.lists != before.lists:
            await listeners.resources_changed({owner for owner, _ in now.lists.items() ^ before.lists.items()})
        if now.choice != before.choice:
            await listeners.resource_updated("kheish://runtime")
        if now.written != before.written:
            for owner, session in await parts.sessions.written_since(before.written):
                await listeners.resource_updated(f"kheish://sessions/{session}", owner)
        if now.spent != before.spent:
            for owner in await parts.ledger.changed_since(before.spent):
                await listeners.resource_updated("kheish://costs", owner)

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
        workers = Workers()
        stack.push_async_callback(workers.close)
        largest = settings.max_asset_bytes
        assets = AssetStore(settings.state_root, database, max_bytes=largest, max_pixels=settings.max_pixels)
        inventories = Inventories(settings, AuthStore.of(settings), workers)
        stack.push_async_callback(inventories.close)
        inventory = inventories.read()
        # What jobs hold and use is let go of once the last of them is over: one keeps at the end what it has paid for.
        locks = stack.enter_context(ExitStack())
        group = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(group.cancel_scope.cancel)
        workspace = Workspace(settings.workspace_root, max_bytes=largest) if settings.workspace_root else None
        parts = Parts(
            catalog=inventory.catalog,
            assets=assets,
            references=References(assets, workspace, Web(), max_bytes=largest),
            workspace=workspace,
            workers=workers,
            jobs=Jobs(database, group),
            ledger=Ledger(database),
            sessions=SessionStore(database),
            policy=Policy(database),
            latest={},
            converse=converse,
            lanes=Lanes(),
            learn=lambda: daemon.learn(),
        )
        locks.callback(parts.jobs.close)
        locks.callback(parts.sessions.close)
        await parts.jobs.open()
        daemon = Daemon(settings, database, parts, inventories, inventory)
        # A group of its own, which ends before the lines and the stores that it asks are closed.
        background = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(background.cancel_scope.cancel)
        await background.start(daemon.watch)
        background.start_soon(Settler(parts.ledger, lambda: daemon.parts.catalog).run)
        background.start_soon(daemon.discover)
        yield daemon
