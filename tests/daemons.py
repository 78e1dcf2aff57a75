"""A daemon in this process, with the real stores, the provider's stand-in, and real clients over streams in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import mcp_types as t
from mcp.client import Client
from mcp.client._memory import InMemoryTransport
from mcp.shared.memory import create_client_server_memory_streams
from mcp.shared.message import SessionMessage

from kheish_mcp.daemon import Daemon, open_daemon
from kheish_mcp.mcp_server.server import Face, KheishServer
from kheish_mcp.secret import Secret
from kheish_mcp.settings import Settings
from tests.conftest import CANARY
from tests.emulators.openrouter import OpenRouterEmulator

SOON = 30.0


@asynccontextmanager
async def daemon_on(
    state_root: Path,
    emulator: OpenRouterEmulator,
    routes: str = "",
    workspace: Path | None = None,
    *,
    discovers: bool = False,
) -> AsyncGenerator[Daemon]:
    """A daemon whose route openrouter is the stand-in; `routes` is a routes.toml in which URL stands for its address.

    One that `discovers` asks the stand-in for its list of models, with their prices.
    """
    routes_file = None
    if routes:
        routes_file = state_root.parent / "routes.toml"
        await anyio.Path(routes_file).write_text("version = 1\n" + routes.replace("URL", emulator.base_url))
    settings = Settings(
        state_root,
        workspace_root=workspace,
        routes_file=routes_file,
        default_route=None if routes else "openrouter",
        discovery="required" if discovers else "disabled",
        openrouter_base_url=emulator.base_url,
        openrouter_api_key=Secret(CANARY),
        _variables={"OPENROUTER_API_KEY": CANARY, "WRONG_KEY": "sk-or-v1-wrong"},
    )
    with anyio.fail_after(60):
        async with open_daemon(settings) as daemon:
            yield daemon


@asynccontextmanager
async def client_of(daemon: Daemon, mode: str = "2026-07-28", **more: Any) -> AsyncGenerator[Client]:
    """A client of a daemon, whose messages travel as JSON-RPC."""
    server = KheishServer(Face(lambda: daemon.parts, daemon.runtime, daemon.listeners))
    async with Client(InMemoryTransport(server), mode=mode, cache=None, **more) as client:  # type: ignore[arg-type]
        yield client


class Wire:
    """A client of the bare protocol: it sends frames, keeps what comes, and may leave without a word."""

    def __init__(self, outgoing: Any, era: str, extensions: tuple[str, ...] = ()) -> None:
        self._outgoing = outgoing
        self._modern = era != "legacy"
        self._capabilities = {"extensions": {name: {} for name in extensions}} if extensions else {}
        self._last = 0
        self._came = anyio.Condition()
        self.answers: dict[int, dict[str, Any]] = {}
        self.notifications: list[dict[str, Any]] = []

    async def send(self, method: str, **params: Any) -> int:
        """A request on its way; gives its id."""
        self._last += 1
        await self._frame({"id": self._last, "method": method, "params": self._enveloped(params)})
        return self._last

    async def tell(self, method: str, **params: Any) -> None:
        """A notification."""
        await self._frame({"method": method, "params": params})

    async def call(self, name: str, arguments: dict[str, Any], **meta: Any) -> int:
        """A tool's call on its way; gives its id."""
        return await self.send("tools/call", name=name, arguments=arguments, _meta=meta)

    async def answer(self, request_id: int, seconds: float = SOON) -> dict[str, Any]:
        """The answer to a request: `result` or `error`."""
        with anyio.fail_after(seconds):
            async with self._came:
                while request_id not in self.answers:
                    await self._came.wait()
        return self.answers[request_id]

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """A request and its answer."""
        return await self.answer(await self.send(method, **params))

    async def told(self, predicate: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Returns once the notifications that came are as waited for."""
        with anyio.fail_after(SOON):
            async with self._came:
                while not predicate(self.notifications):
                    await self._came.wait()

    async def shake_hands(self) -> None:
        """The handshake of the eras that had one."""
        if not self._modern:
            who = {"name": "wire", "version": "1"}
            await self.ask("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=who)
            await self.tell("notifications/initialized")

    async def listen(self, incoming: Any) -> None:
        """Keeps whatever comes."""
        async for item in incoming:
            frame = item.message.model_dump(by_alias=True, exclude_unset=True, mode="json")
            async with self._came:
                if "id" in frame:
                    self.answers[frame["id"]] = frame
                else:
                    self.notifications.append(frame)
                self._came.notify_all()

    def _enveloped(self, params: dict[str, Any]) -> dict[str, Any]:
        meta = dict(params.pop("_meta", {}))
        if self._modern:
            meta |= {
                t.PROTOCOL_VERSION_META_KEY: "2026-07-28",
                t.CLIENT_CAPABILITIES_META_KEY: self._capabilities,
                t.CLIENT_INFO_META_KEY: {"name": "wire", "version": "1"},
            }
        return {**params, "_meta": meta} if meta else params

    async def _frame(self, frame: dict[str, Any]) -> None:
        message = t.jsonrpc_message_adapter.validate_python({"jsonrpc": "2.0", **frame}, by_name=False)
        await self._outgoing.send(SessionMessage(message))


@asynccontextmanager
async def wire_to(daemon: Daemon, era: str = "2026-07-28", *extensions: str) -> AsyncGenerator[Wire]:
    """A bare client of a daemon; on the way out it is gone without a word."""
    server = KheishServer(Face(lambda: daemon.parts, daemon.runtime, daemon.listeners))
    async with (
        create_client_server_memory_streams() as ((incoming, outgoing), there),
        anyio.create_task_group() as group,
    ):
        group.start_soon(server.run, *there, server.create_initialization_options())
        wire = Wire(outgoing, era, extensions)
        group.start_soon(wire.listen, incoming)
        await wire.shake_hands()
        yield wire
        await outgoing.aclose()


async def seen(emulator: OpenRouterEmulator, predicate: Callable[[], bool], seconds: float = SOON) -> None:
    """Returns once the stand-in has seen what is waited for."""
    await anyio.to_thread.run_sync(emulator.wait_for, predicate, seconds)


async def states(daemon: Daemon) -> list[str]:
    """The states of the ledger's rows, the oldest first."""
    jobs: Any = daemon.parts.jobs
    return [state for (state,) in await jobs._database.rows("SELECT state FROM exchange ORDER BY number")]
