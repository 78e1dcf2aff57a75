"""What a client hears of without asking: its own sessions and costs, from whichever process; and a watch that goes on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client

from kheish_mcp.daemon import Daemon
from kheish_mcp.stores.database import Database
from kheish_mcp.stores.policy import Policy
from tests.conftest import CANARY, environment
from tests.daemons import SOON
from tests.emulators.openrouter import OpenRouterEmulator
from tests.hosts import call, client_of, daemon_of

pytestmark = pytest.mark.anyio
SESSION, COSTS = "kheish://sessions/demo", "kheish://costs"


@pytest.fixture
async def daemon(state_root: Path, emulator: OpenRouterEmulator) -> AsyncGenerator[Daemon]:
    """A daemon whose route openrouter is the emulator."""
    env = environment(state_root, OPENROUTER_API_KEY=CANARY, OPENROUTER_BASE_URL=emulator.base_url)
    async with daemon_of(env) as running:
        yield running


class Ears:
    """The URIs that a client was told of, until the wanted ones are among them."""

    def __init__(self, *wanted: str) -> None:
        self._wanted = set(wanted)
        self.heard: list[str] = []
        self.satisfied = anyio.Event()

    def hear(self, uri: str) -> None:
        """One more."""
        self.heard.append(uri)
        if self._wanted <= set(self.heard):
            self.satisfied.set()

    async def __call__(self, message: Any) -> None:
        """A message handler of the handshake era."""
        if getattr(message, "method", "") == "notifications/resources/updated":
            self.hear(str(message.params.uri))


async def spend(client: Client) -> None:
    """Something that changes costs, and something that changes a session."""
    await call(client, "generate_image", prompt="a pier")
    await call(client, "emit_output", content="Here.", session="demo")


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
async def test_a_session_and_the_costs_are_told_of_to_both_eras_and_nothing_else_is(daemon: Daemon):
    old, new = Ears(SESSION, COSTS), Ears(SESSION, COSTS)
    async with (
        client_of(daemon, "legacy", message_handler=old) as legacy,
        client_of(daemon) as modern,
        modern.listen(resource_subscriptions=[SESSION, COSTS, "kheish://sessions/other"]) as changes,
        anyio.create_task_group() as group,
    ):

        async def listen() -> None:
            async for change in changes:
                new.hear(str(change.uri))

        group.start_soon(listen)
        for uri in (SESSION, COSTS, "kheish://sessions/other"):
            await legacy.subscribe_resource(uri)
        await spend(legacy)
        with anyio.fail_after(SOON):
            await old.satisfied.wait()
            await new.satisfied.wait()
        group.cancel_scope.cancel()
    assert set(old.heard) == set(new.heard) == {SESSION, COSTS}


def forget(connection: Any) -> None:
    """All is in the one file, and nothing of it in memory."""
    list(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)"))
    list(connection.execute("PRAGMA shrink_memory"))


async def test_a_look_that_fails_does_not_end_the_watch(
    daemon: Daemon, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    async with Database.open(tmp_path / "other") as other, client_of(daemon) as client:
        file = tmp_path / "other" / "kheish.db"
        await other.read(forget)
        whole = file.read_bytes()
        file.write_bytes(bytes(len(whole)))
        healthy, daemon.parts = daemon.parts, replace(daemon.parts, policy=Policy(other))
        with anyio.fail_after(SOON):
            while "cannot be looked for" not in caplog.text:  # noqa: ASYNC110 - the watch looks once a second
                await anyio.sleep(0.02)
        file.write_bytes(whole)
        daemon.parts = healthy
        async with client.listen(resource_subscriptions=[SESSION]) as changes:
            await call(client, "emit_output", content="Here.", session="demo")
            with anyio.fail_after(SOON):
                assert str((await anext(changes)).uri) == SESSION
