"""Stop means stop: the provider's line is closed at once; whoever only leaves, or loses patience, loses nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from kheish_mcp.daemon import Daemon
from tests.daemons import SOON, Wire, client_of, daemon_on, seen, states, wire_to
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import faults
from tests.hosts import ERAS, call

pytestmark = pytest.mark.anyio
PIER: dict[str, Any] = {"prompt": "a pier at dusk"}


async def asked(wire: Wire, emulator: OpenRouterEmulator, **arguments: Any) -> int:
    """A call whose request the provider has; gives the call's id."""
    before = len(emulator.requests)
    request = await wire.call("generate_image", {**PIER, **arguments})
    await seen(emulator, lambda: len(emulator.requests) > before)
    return request


async def attended(daemon: Daemon, callers: int) -> None:
    """Returns once so many callers wait for the one job under way."""
    [job] = daemon.parts.jobs._running.values()
    with anyio.fail_after(SOON):
        while job.attended != callers:
            await anyio.lowlevel.checkpoint()


async def settled(daemon: Daemon) -> None:
    """Returns once no job runs any more."""
    with anyio.fail_after(SOON):
        await daemon.parts.jobs.idle()


@pytest.mark.parametrize("fault", [faults.hang, faults.keep_alives, faults.stall], ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("reason", [{"reason": "The user pressed stop"}, {}], ids=["a reason", "no reason"])
async def test_a_client_that_says_stop_stops_the_provider_within_a_second(
    reason: dict[str, str], mode: str, fault: Any, state_root: Path, emulator: OpenRouterEmulator
):
    emulator.always(fault(), path="/images")
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon, mode) as wire:
        request = await asked(wire, emulator)
        await wire.tell("notifications/cancelled", requestId=request, **reason)
        await seen(emulator, lambda: emulator.requests[0].disconnected, seconds=1)
        await settled(daemon)
        assert await states(daemon) == ["unknown"]
        assert request not in wire.answers
        emulator.heal()
        again = await wire.answer(await wire.call("generate_image", PIER))
        assert not again["result"].get("isError")
        assert "replayed" not in str(again)


@pytest.mark.parametrize("mode", ERAS)
async def test_the_official_client_that_drops_a_call_stops_it(
    mode: str, state_root: Path, emulator: OpenRouterEmulator
):
    emulator.fail_next(faults.hang())
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon, mode) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "generate_image", PIER)
            await seen(emulator, lambda: len(emulator.requests) == 1)
            group.cancel_scope.cancel()
        await seen(emulator, lambda: emulator.requests[0].disconnected, seconds=1)


@pytest.mark.parametrize(
    "reason", ["timed out after 60s", "McpError: MCP error -32001: Request timed out", "Maximum total timeout exceeded"]
)
@pytest.mark.parametrize("mode", ERAS)
async def test_a_client_that_loses_patience_is_given_the_result_when_it_asks_again(
    mode: str, reason: str, state_root: Path, emulator: OpenRouterEmulator
):
    emulator.fail_next(faults.hang())
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon, mode) as wire:
        request = await asked(wire, emulator)
        await wire.tell("notifications/cancelled", requestId=request, reason=reason)
        await wire.ask("tools/list")
        emulator.release()
        await settled(daemon)
        assert await states(daemon) == ["stored"]
        again = await wire.answer(await wire.call("generate_image", PIER))
        assert '"replayed": true' in again["result"]["content"][0]["text"]
    assert len(emulator.ledger) == 1


@pytest.mark.parametrize("mode", ERAS)
async def test_a_client_that_only_disconnects_stops_nothing(mode: str, state_root: Path, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.hang())
    async with daemon_on(state_root, emulator) as daemon:
        async with wire_to(daemon, mode) as wire:
            await asked(wire, emulator)
        assert daemon.parts.jobs.in_flight == 1
        assert not emulator.requests[0].disconnected
        emulator.release()
        await settled(daemon)
        assert await states(daemon) == ["stored"]


async def test_one_of_two_that_wait_for_the_same_call_stops_only_its_own_waiting(
    state_root: Path, emulator: OpenRouterEmulator
):
    emulator.fail_next(faults.hang())
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon) as wire, wire_to(daemon) as other:
        first = await asked(wire, emulator)
        second = await other.call("generate_image", PIER)
        await attended(daemon, 2)
        await wire.tell("notifications/cancelled", requestId=first)
        await attended(daemon, 1)
        emulator.release()
        answer = await other.answer(second)
    assert not answer["result"].get("isError")
    assert len(emulator.ledger) == 1


async def test_an_answer_that_has_come_whole_is_kept_in_spite_of_a_stop(state_root: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        keep = daemon.parts.assets.keep

        async def stop_while_keeping(*arguments: Any, **more: Any) -> Any:
            [job] = daemon.parts.jobs._running.values()
            job.scope.cancel()
            return await keep(*arguments, **more)

        daemon.parts.assets.keep = stop_while_keeping  # type: ignore[method-assign]
        result = await client.call_tool("generate_image", PIER)
        assert result.is_error
        assert await states(daemon) == ["stored"]
        assets, _ = await daemon.parts.assets.page("local", None)
        assert len(assets) == 1


async def test_a_cancellation_of_what_has_ended_or_never_was_changes_nothing(
    state_root: Path, emulator: OpenRouterEmulator
):
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon) as wire:
        request = await wire.call("generate_image", PIER)
        await wire.answer(request)
        for each in (request, 4711, "no id of ours"):
            await wire.tell("notifications/cancelled", requestId=each)
        await wire.tell("notifications/cancelled")
        assert "tools" in (await wire.ask("tools/list"))["result"]
        assert await states(daemon) == ["stored"]


async def test_a_stop_reaches_only_the_client_s_own_call(state_root: Path, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.hang(), times=2)
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon) as mine, wire_to(daemon) as theirs:
        own = await asked(mine, emulator)
        other = await asked(theirs, emulator, prompt="another pier")
        assert own == other
        await theirs.tell("notifications/cancelled", requestId=other)
        await seen(emulator, lambda: emulator.requests[1].disconnected, seconds=1)
        assert not emulator.requests[0].disconnected
        emulator.release()
        assert not (await mine.answer(own))["result"].get("isError")


async def test_a_stop_of_get_job_ends_the_waiting_alone(state_root: Path, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.hang())
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon) as wire, client_of(daemon) as client:
        working = await call(client, "generate_image", **PIER, wait_seconds=0)
        await seen(emulator, lambda: len(emulator.requests) == 1)
        request = await wire.call("get_job", {"job_id": working["job_id"]})
        await attended(daemon, 1)
        await wire.tell("notifications/cancelled", requestId=request)
        await attended(daemon, 0)
        emulator.release()
        await settled(daemon)
        assert await states(daemon) == ["stored"]
