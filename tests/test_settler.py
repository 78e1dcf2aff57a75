"""Prices that come later: speech, and what was interrupted, settled by the provider's own books."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from kheish_mcp.daemon import Daemon
from kheish_mcp.drivers.http import Endpoint
from kheish_mcp.drivers.openrouter.driver import OpenRouter
from kheish_mcp.errors import NotFound, Unavailable
from kheish_mcp.secret import Secret
from kheish_mcp.settler import AGAIN_S, LOOK_EVERY_S, Settler
from tests.conftest import CANARY
from tests.daemons import SOON, client_of, daemon_on, seen
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import faults
from tests.hosts import call, refused

pytestmark = pytest.mark.anyio
HELLO: dict[str, Any] = {"input": "Hello there."}


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        """Seconds."""
        return self.at


@pytest.fixture
async def daemon(state_root: Path, emulator: OpenRouterEmulator) -> AsyncGenerator[Daemon]:
    """A daemon whose own look into the books finds nothing for as long as the test wants it so."""
    emulator.generation_misses = 10**6
    async with daemon_on(state_root, emulator) as running:
        yield running


def lookups(emulator: OpenRouterEmulator) -> int:
    """How often the books were asked."""
    return sum(request.path == "/generation" for request in emulator.requests)


async def rows(daemon: Daemon) -> list[tuple[str, float | None]]:
    """State and cost of each row of the ledger."""
    jobs: Any = daemon.parts.jobs
    return [tuple(row) for row in await jobs._database.rows("SELECT state, cost_usd FROM exchange ORDER BY number")]


async def test_speech_is_settled_by_the_daemon_itself(state_root: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        spoken = await call(client, "generate_audio", **HELLO)
        assert spoken["cost_usd"] is None
        assert any("later" in warning for warning in spoken["warnings"])
        before = await daemon.parts.ledger.totals()
        await seen(emulator, lambda: lookups(emulator) > 0)
        with anyio.fail_after(SOON):
            while await daemon.parts.ledger.unsettled(0.0):
                await anyio.lowlevel.checkpoint()
        totals = await daemon.parts.ledger.totals()
        job = await call(client, "get_job", job_id=spoken["job_id"])
        origin = await client.read_resource(f"{spoken['assets'][0]['uri']}/provenance")
    assert job["result"]["cost_usd"] == pytest.approx(emulator.ledger[0].cost)
    assert json.loads(origin.contents[0].text)["cost_usd"] == pytest.approx(emulator.ledger[0].cost)  # type: ignore[union-attr]
    assert (before["unknown_cost_calls"], before["total_usd"]) == (1, 0.0)
    assert totals["total_usd"] == pytest.approx(emulator.ledger[0].cost)


async def test_what_is_not_recorded_yet_is_asked_again_ever_more_seldom_and_not_for_ever(
    daemon: Daemon, emulator: OpenRouterEmulator
):
    hands = Hands()
    settler = Settler(daemon.parts.ledger, lambda: daemon.parts.catalog, hands.now)
    async with client_of(daemon) as client:
        await call(client, "generate_audio", **HELLO)
    own = lookups(emulator)
    asked_at = []
    for second in range(120):
        hands.at = float(second)
        before = await asked(settler, emulator)
        if before:
            asked_at.append(second)
    assert asked_at == [0, 1, 3, 7, 15, 30, 60]
    assert sum(AGAIN_S) + LOOK_EVERY_S <= 62
    assert lookups(emulator) >= own + len(asked_at)
    assert await rows(daemon) == [("stored", None)]


async def test_what_is_old_is_asked_once_by_each_daemon_and_what_is_older_by_none(
    daemon: Daemon, emulator: OpenRouterEmulator
):
    hands = Hands()
    settler = Settler(daemon.parts.ledger, lambda: daemon.parts.catalog, hands.now)
    async with client_of(daemon) as client:
        await call(client, "generate_audio", **HELLO)
    jobs: Any = daemon.parts.jobs
    await jobs._database.change("UPDATE exchange SET created_at = created_at - 7200")
    assert await asked(settler, emulator)
    hands.at = 3600.0
    assert not await asked(settler, emulator)
    await jobs._database.change("UPDATE exchange SET created_at = created_at - 7 * 86400")
    assert not await asked(Settler(daemon.parts.ledger, lambda: daemon.parts.catalog, hands.now), emulator)


async def asked(settler: Settler, emulator: OpenRouterEmulator) -> bool:
    """Whether a look of this settler asked the books."""
    made = dict(settler._asked)
    await settler.look()
    return made != settler._asked


async def test_a_generation_that_is_found_late_is_settled(daemon: Daemon, emulator: OpenRouterEmulator):
    hands = Hands()
    settler = Settler(daemon.parts.ledger, lambda: daemon.parts.catalog, hands.now)
    async with client_of(daemon) as client:
        await call(client, "generate_audio", **HELLO)
    await settler.look()
    emulator.generation_misses = 0
    await settler.look()
    assert await rows(daemon) == [("stored", None)]
    hands.at = 1.0
    await settler.look()
    assert await rows(daemon) == [("stored", pytest.approx(emulator.ledger[0].cost))]


async def test_what_broke_off_after_it_was_billed_has_its_price_and_stays_in_doubt(
    daemon: Daemon, emulator: OpenRouterEmulator
):
    emulator.fail_next(faults.cut_body())
    async with client_of(daemon) as client:
        await refused(client, "generate_image", prompt="a pier")
    emulator.generation_misses = 0
    await Settler(daemon.parts.ledger, lambda: daemon.parts.catalog).look()
    assert await rows(daemon) == [("unknown", pytest.approx(emulator.ledger[0].cost))]
    totals = await daemon.parts.ledger.totals()
    assert (totals["calls"], totals["unknown_cost_calls"]) == (1, 0)


async def test_what_was_under_way_when_the_daemon_stopped_is_settled_by_the_next_one(
    state_root: Path, emulator: OpenRouterEmulator
):
    emulator.fail_next(faults.stall(), path="/images")
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        await call(client, "generate_image", prompt="a pier", wait_seconds=0)
        await seen(emulator, lambda: len(emulator.ledger) == 1)
        jobs: Any = daemon.parts.jobs
        with anyio.fail_after(SOON):
            while not await jobs._database.rows("SELECT 1 FROM exchange WHERE state = 'responded'"):
                await anyio.lowlevel.checkpoint()
    async with daemon_on(state_root, emulator) as daemon:
        await Settler(daemon.parts.ledger, lambda: daemon.parts.catalog).look()
        assert await rows(daemon) == [("unknown", pytest.approx(emulator.ledger[0].cost))]


async def test_a_refused_call_a_known_price_and_a_route_that_has_gone_are_not_asked_about(
    daemon: Daemon, emulator: OpenRouterEmulator
):
    emulator.fail_next(faults.status(404), path="/images")
    async with client_of(daemon) as client:
        await refused(client, "generate_image", prompt="a pier")
        await call(client, "generate_image", prompt="a pier")
    ledger = daemon.parts.ledger
    row = await ledger.plan(job_id="j", owner="local", tool="t", route_id="gone", provider="p", model="m")
    await ledger.sent(row)
    await ledger.responded(row, "gen-1")
    await ledger.unknown(row)
    before = lookups(emulator)
    await Settler(ledger, lambda: daemon.parts.catalog).look()
    assert lookups(emulator) == before
    assert (await rows(daemon))[-1] == ("unknown", None)


async def test_the_driver_asks_the_books_with_the_id_as_it_is(emulator: OpenRouterEmulator):
    driver = OpenRouter(Endpoint("home", emulator.base_url, Secret(CANARY)))
    with pytest.raises(NotFound):
        await driver.cost_of("gen-unknown&id=x y")
    assert emulator.requests[-1].query == {"id": "gen-unknown&id=x y"}
    emulator.always(faults.malformed_json(), path="/generation")
    with pytest.raises((Unavailable, NotFound)):
        await driver.cost_of("gen-unknown")
    await driver.close()
