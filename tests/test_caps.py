"""Caps are held before anything is sent, with the numbers; a price that nobody knows is never taken for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from kheish_mcp.daemon import Daemon
from tests.daemons import SOON, client_of, daemon_on, seen, states
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import chat, faults
from tests.hosts import call, refused

pytestmark = pytest.mark.anyio

DRAWS, SPEAKS = "google/gemini-3.1-flash-image-preview", "openai/gpt-4o-mini-tts-2025-12-15"
PIER: dict[str, Any] = {"prompt": "a pier at dusk"}
PRICE = 0.04


def routes(**limits: float) -> str:
    """A routes.toml whose one route has limits, and a local one beside it that has the same."""
    caps = "\n".join(f"{name} = {value}" for name, value in limits.items())
    return f"""
default_route = "main"
[routes.main]
driver = "openrouter"
base_url = "URL"
default_model = "openai/gpt-5.4-mini"
api_key_env = "OPENROUTER_API_KEY"
[routes.main.models]
image_generation = "{DRAWS}"
[routes.main.limits]
{caps}
[routes.home]
driver = "local"
[routes.home.limits]
{caps}
"""


async def spent_before(daemon: Daemon, *costs: float | None, tool: str = "generate_image", model: str = DRAWS) -> None:
    """Exchanges of the route that are over, at these prices."""
    ledger = daemon.parts.ledger
    for cost in costs:
        row = await ledger.plan(
            job_id="job-before", owner="local", tool=tool, route_id="main", provider="openrouter", model=model
        )
        await ledger.stored(row, cost, ())


@pytest.mark.parametrize(
    ("count", "cap", "passes"), [(1, 0.04, True), (1, 0.039, False), (2, 0.08, True), (3, 0.1, False)]
)
async def test_a_call_is_estimated_by_what_its_model_has_cost(
    count: int, cap: float, passes: bool, state_root: Path, emulator: OpenRouterEmulator
):
    async with (
        daemon_on(state_root, emulator, routes(max_cost_usd_per_call=cap)) as daemon,
        client_of(daemon) as client,
    ):
        await spent_before(daemon, 0.01, PRICE, 0.02)
        if passes:
            await call(client, "generate_image", **PIER, count=count)
        else:
            told = await refused(client, "generate_image", **PIER, count=count)
            assert told["code"] == "resource_exhausted"
            assert told["details"] == {
                "cap": "max_cost_usd_per_call", "cap_usd": cap, "estimate_usd": pytest.approx(count * PRICE),
                "route_id": "main", "model": DRAWS, "possibly_billed": False,
            }  # fmt: skip
            assert f"${cap:g}" in told["message"]
            ends = await daemon.database.rows("SELECT state, error_code FROM exchange ORDER BY number")
            assert ends[3:] == [("failed", "resource_exhausted")] * count
    assert len(emulator.requests) == (count if passes else 0)


@pytest.mark.parametrize(
    ("tool", "arguments", "cap", "passes"),
    [
        ("generate_image", PIER, 0.5, True),
        ("generate_image", PIER, 0.001, False),
        ("generate_image", {**PIER, "count": 4}, 0.05, False),
        ("generate_audio", {"input": "Hello there."}, 0.01, True),
        ("generate_audio", {"input": "Hello there. " * 400}, 0.001, False),
    ],
)
async def test_a_call_is_estimated_by_the_prices_of_the_provider_s_list(
    tool: str, arguments: dict[str, Any], cap: float, passes: bool, state_root: Path, emulator: OpenRouterEmulator
):
    limits = routes(max_cost_usd_per_call=cap)
    async with daemon_on(state_root, emulator, limits, discovers=True) as daemon, client_of(daemon) as client:
        if passes:
            made = await call(client, tool, **arguments)
            estimates = await daemon.database.rows("SELECT estimate_usd FROM exchange")
            assert all(0 < estimate <= cap for (estimate,) in estimates)
            assert made["cost_usd"] is None or made["cost_usd"] <= sum(estimate for (estimate,) in estimates)
        else:
            told = await refused(client, tool, **arguments)
            assert told["code"] == "resource_exhausted"
            assert told["details"]["estimate_usd"] > cap
            assert not any(request.method == "POST" for request in emulator.requests)


async def test_only_the_last_twenty_prices_of_the_same_kind_count(state_root: Path, emulator: OpenRouterEmulator):
    async with (
        daemon_on(state_root, emulator, routes(max_cost_usd_per_call=0.05)) as daemon,
        client_of(daemon) as client,
    ):
        await spent_before(daemon, 9.0, *[PRICE] * 20)
        await spent_before(daemon, 9.0, tool="edit_image")
        await spent_before(daemon, 9.0, model="openai/gpt-image-2")
        await spent_before(daemon, None)
        await call(client, "generate_image", **PIER)


@pytest.mark.parametrize("before", [(), (None, None)], ids=["never", "never said"])
async def test_a_price_that_nobody_knows_is_refused_where_a_call_has_a_cap(
    before: tuple[None, ...], state_root: Path, emulator: OpenRouterEmulator
):
    async with (
        daemon_on(state_root, emulator, routes(max_cost_usd_per_call=5.0)) as daemon,
        client_of(daemon) as client,
    ):
        await spent_before(daemon, *before)
        told = await refused(client, "generate_image", **PIER)
    assert told["code"] == "resource_exhausted"
    assert told["details"]["estimate_usd"] is None
    assert "nobody knows" in told["message"]
    assert "max_cost_usd_per_call" in told["hint"]
    assert emulator.requests == []


async def test_what_costs_nothing_is_below_every_cap(state_root: Path, emulator: OpenRouterEmulator):
    limits = routes(max_cost_usd_per_call=0.0, max_cost_usd_per_day=0.0)
    circle = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><circle r="3"/></svg>'
    async with daemon_on(state_root, emulator, limits) as daemon, client_of(daemon) as client:
        drawn = await call(client, "generate_image", prompt=circle, provider="home")
    assert drawn["cost_usd"] == 0.0


@pytest.mark.parametrize(("spent", "passes"), [(0.06, True), (0.07, False)])
async def test_a_day_has_a_cap(spent: float, passes: bool, state_root: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator, routes(max_cost_usd_per_day=0.1)) as daemon, client_of(daemon) as client:
        await spent_before(daemon, spent - PRICE, PRICE)
        if passes:
            await call(client, "generate_image", **PIER)
            return
        told = await refused(client, "generate_image", **PIER)
    assert (told["code"], told["retryable"]) == ("resource_exhausted", True)
    assert 0 < told["retry_after_s"] <= 86_400
    numbers = told["details"]
    assert (numbers["cap"], numbers["cap_usd"]) == ("max_cost_usd_per_day", 0.1)
    assert numbers["spent_usd"] == pytest.approx(spent)
    assert numbers["estimate_usd"] == pytest.approx(PRICE)
    assert emulator.requests == []


async def test_yesterday_and_other_routes_do_not_count(state_root: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator, routes(max_cost_usd_per_day=0.1)) as daemon, client_of(daemon) as client:
        await spent_before(daemon, 5.0)
        jobs: Any = daemon.parts.jobs
        await jobs._database.change("UPDATE exchange SET created_at = created_at - 86400, cost_usd = 0.04")
        await call(client, "generate_image", **PIER)


async def test_a_call_of_unknown_price_passes_while_something_is_left_of_the_day(
    state_root: Path, emulator: OpenRouterEmulator
):
    async with daemon_on(state_root, emulator, routes(max_cost_usd_per_day=0.1)) as daemon, client_of(daemon) as client:
        await call(client, "generate_audio", input="Hello there.")
        await spent_before(daemon, 0.1)
        told = await refused(client, "generate_audio", input="Hello again.")
    assert told["details"]["estimate_usd"] is None
    assert len(emulator.requests) == 1


async def test_two_that_would_both_fit_alone_do_not_both_go_out(state_root: Path, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.hang())
    async with daemon_on(state_root, emulator, routes(max_cost_usd_per_day=0.1)) as daemon, client_of(daemon) as client:
        await spent_before(daemon, PRICE)
        await call(client, "generate_image", **PIER, wait_seconds=0)
        await seen(emulator, lambda: len(emulator.requests) == 1)
        told = await refused(client, "generate_image", prompt="another pier")
        assert told["details"]["spent_usd"] == pytest.approx(2 * PRICE)
        emulator.release()


async def test_a_cap_is_not_gone_around_by_another_model_or_route(state_root: Path, emulator: OpenRouterEmulator):
    other = """
[routes.other]
driver = "openrouter"
base_url = "URL"
default_model = "openai/gpt-5.4-mini"
api_key_env = "OPENROUTER_API_KEY"
"""
    limits = routes(max_cost_usd_per_call=0.01) + other
    async with daemon_on(state_root, emulator, limits) as daemon, client_of(daemon) as client:
        await spent_before(daemon, PRICE)
        told = await refused(client, "generate_image", **PIER)
    assert told["details"]["cap"] == "max_cost_usd_per_call"
    assert emulator.requests == []


async def test_no_more_are_under_way_than_the_route_allows_and_the_others_wait_their_turn(
    state_root: Path, emulator: OpenRouterEmulator
):
    emulator.always(faults.hang(), path="/images")
    made: list[dict[str, Any]] = []
    async with daemon_on(state_root, emulator, routes(max_concurrency=2)) as daemon, client_of(daemon) as client:

        async def draw(number: int) -> None:
            made.append(await call(client, "generate_image", prompt=f"pier {number}"))

        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(draw, number)
            with anyio.fail_after(SOON):
                while not any("waiting its turn" in job.progress for job in daemon.parts.jobs._running.values()):
                    await anyio.lowlevel.checkpoint()
            await seen(emulator, lambda: len(emulator.requests) == 2)
            assert sorted(await states(daemon)) == ["planned", "sent", "sent"]
            emulator.heal()
            emulator.release()
    assert len(made) == 3
    assert len(emulator.ledger) == 3


async def test_the_steps_of_one_run_count_together(state_root: Path, emulator: OpenRouterEmulator):
    """A step that alone is below the cap is not asked once what the run has spent before takes it over."""
    emulator.say(chat.Turn(calls=(chat.Call("list_models", {"limit": 1}),)), "Not asked for.")
    limits = routes(max_cost_usd_per_call=0.03)
    async with daemon_on(state_root, emulator, limits) as daemon, client_of(daemon) as client:
        await spent_before(daemon, 0.03, tool="ask_model", model="openai/gpt-5.4-mini")
        told = await refused(client, "ask_model", input="Which models are there?")
    assert told["details"]["cap"] == "max_cost_usd_per_call"
    assert told["details"]["estimate_usd"] == pytest.approx(0.03 + emulator.ledger[0].cost)
    assert len(emulator.ledger) == 1
