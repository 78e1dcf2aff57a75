"""The ledger: written before money leaves, each step in its order, and sums that never take unknown for zero."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from kheish_mcp.errors import Aborted
from kheish_mcp.stores.database import Database
from kheish_mcp.stores.ledger import Ledger
from tests.children import exit_code_of, meet, together

pytestmark = pytest.mark.anyio

ROW: dict[str, Any] = {
    "job_id": "job-1", "owner": "local", "tool": "generate_image", "route_id": "openrouter", "provider": "openrouter",
    "model": "vendor/painter",
}  # fmt: skip
DAY_S = 86_400.0
STATES = ("planned", "sent", "responded", "stored", "failed", "unknown")
FORBIDDEN = [
    ("planned", "responded"),
    ("stored", "sent"), ("stored", "responded"), ("stored", "stored"), ("stored", "failed"), ("stored", "unknown"),
    ("failed", "sent"), ("failed", "responded"), ("failed", "stored"), ("failed", "failed"), ("failed", "unknown"),
    ("unknown", "sent"), ("unknown", "responded"), ("unknown", "unknown"),
]  # fmt: skip


@asynccontextmanager
async def opened(root: Path) -> AsyncGenerator[tuple[Ledger, Database]]:
    """The ledger of a state root, and its database."""
    async with Database.open(root) as database:
        yield Ledger(database), database


async def step(ledger: Ledger, row: int, state: str) -> None:
    """One step of a row."""
    steps = {
        "sent": lambda: ledger.sent(row),
        "responded": lambda: ledger.responded(row, "gen-1"),
        "stored": lambda: ledger.stored(row, 0.25, ("asset-a",)),
        "failed": lambda: ledger.failed(row, "unavailable"),
        "unknown": lambda: ledger.unknown(row, "deadline_exceeded"),
    }
    await steps[state]()


async def row_in(ledger: Ledger, state: str, **more: Any) -> int:
    """A row that has come to a state in the ordinary way."""
    row = await ledger.plan(**{**ROW, **more})
    before = {"planned": (), "sent": ("sent",)}.get(state, ("sent", "responded", state))
    for each in dict.fromkeys(before):
        await step(ledger, row, each)
    return row


async def shown(database: Database, row: int) -> dict[str, Any]:
    """A row as it stands on disk."""
    names = ("state", "generation_id", "estimate_usd", "cost_usd", "error_code", "asset_ids")
    [values] = await database.rows(f"SELECT {', '.join(names)} FROM exchange WHERE number = ?", row)
    return dict(zip(names, values, strict=True))


async def test_an_exchange_is_on_record_at_every_step(state_root: Path):
    async with opened(state_root) as (ledger, _), Database.open(state_root) as elsewhere:
        row = await ledger.plan(**ROW, estimate_usd=0.5)
        seen = [await shown(elsewhere, row)]
        for state in ("sent", "responded", "stored"):
            await step(ledger, row, state)
            seen.append(await shown(elsewhere, row))
    assert [each["state"] for each in seen] == ["planned", "sent", "responded", "stored"]
    assert seen[-1] == {
        "state": "stored", "generation_id": "gen-1", "estimate_usd": 0.5, "cost_usd": 0.25, "error_code": None,
        "asset_ids": '["asset-a"]',
    }  # fmt: skip


@pytest.mark.parametrize(("before", "after"), FORBIDDEN)
async def test_a_step_that_cannot_follow_is_refused_and_changes_nothing(state_root: Path, before: str, after: str):
    async with opened(state_root) as (ledger, database):
        row = await row_in(ledger, before)
        as_it_was = await shown(database, row)
        with pytest.raises(Aborted):
            await step(ledger, row, after)
        assert await shown(database, row) == as_it_was


@pytest.mark.parametrize(
    ("before", "after"),
    [(a, b) for a in STATES for b in STATES[1:] if (a, b) not in FORBIDDEN],
)
async def test_every_other_step_is_taken(state_root: Path, before: str, after: str):
    async with opened(state_root) as (ledger, database):
        row = await row_in(ledger, before)
        await step(ledger, row, after)
        assert (await shown(database, row))["state"] == after


async def test_a_row_that_is_not_there_takes_no_step(state_root: Path):
    async with opened(state_root) as (ledger, _):
        with pytest.raises(Aborted):
            await ledger.sent(7)


@pytest.mark.parametrize(
    ("state", "left"),
    [("planned", "failed"), ("sent", "unknown"), ("responded", "unknown"), ("stored", "stored"), ("failed", "failed")],
)
async def test_who_leaves_leaves_no_doubt_about_what_was_sent(state_root: Path, state: str, left: str):
    async with opened(state_root) as (ledger, database):
        row = await row_in(ledger, state)
        await ledger.abandon(row)
        assert (await shown(database, row))["state"] == left


@pytest.mark.parametrize("before", ["planned", "sent", "responded"])
async def test_what_will_be_sent_once_more_is_planned_again_and_forgets_the_refused_answer(
    state_root: Path, before: str
):
    async with opened(state_root) as (ledger, database):
        row = await row_in(ledger, before)
        await ledger.again(row)
        again = await shown(database, row)
        assert (again["state"], again["generation_id"]) == ("planned", None)
        assert (await ledger.totals())["calls"] == 0  # who dies while it waits has been billed nothing
        await ledger.sent(row)
        assert (await shown(database, row))["state"] == "sent"


@pytest.mark.parametrize("ended", ["stored", "failed", "unknown"])
async def test_what_has_ended_is_not_sent_again(state_root: Path, ended: str):
    async with opened(state_root) as (ledger, database):
        row = await row_in(ledger, ended)
        with pytest.raises(Aborted):
            await ledger.again(row)
        assert (await shown(database, row))["state"] == ended


async def test_a_cost_that_comes_later_settles_the_row_once(state_root: Path):
    async with opened(state_root) as (ledger, database):
        row = await ledger.plan(**ROW)
        await ledger.stored(row, None, ())
        assert (await ledger.totals())["unknown_cost_calls"] == 1
        await ledger.settle(row, 0.125)
        await ledger.settle(row, 99.0)
        assert (await shown(database, row))["cost_usd"] == 0.125
        assert await ledger.totals() == {
            "total_usd": 0.125,
            "calls": 1,
            "unknown_cost_calls": 0,
            "rows": [{"key": "openrouter", "calls": 1, "cost_usd": 0.125, "unknown_cost_calls": 0}],
        }


async def test_an_empty_ledger_has_sums_too(state_root: Path):
    async with opened(state_root) as (ledger, _):
        assert await ledger.totals() == {"total_usd": 0, "calls": 0, "unknown_cost_calls": 0, "rows": []}
        assert await ledger.spent("openrouter", 0.0) == 0.0


async def spend(ledger: Ledger) -> None:
    """Four calls that count and two that do not, of two routes, models, tools and owners."""
    await ledger.stored(await ledger.plan(**ROW), 0.1, ("asset-a",))
    await ledger.stored(await ledger.plan(**ROW), 0.2, ("asset-b",))
    speech = {"tool": "generate_audio", "model": "vendor/speaker", "route_id": "spare", "owner": "token-b"}
    await ledger.stored(await ledger.plan(**{**ROW, **speech}), None, ())
    await row_in(ledger, "unknown")
    await row_in(ledger, "failed")
    await row_in(ledger, "planned")


async def test_sums_are_of_what_may_have_been_billed(state_root: Path):
    async with opened(state_root) as (ledger, _):
        await spend(ledger)
        by_route = await ledger.totals()
        assert by_route == {
            "total_usd": 0.3,
            "calls": 4,
            "unknown_cost_calls": 2,
            "rows": [
                {"key": "openrouter", "calls": 3, "cost_usd": 0.3, "unknown_cost_calls": 1},
                {"key": "spare", "calls": 1, "cost_usd": 0.0, "unknown_cost_calls": 1},
            ],
        }
        keys = {by: [row["key"] for row in (await ledger.totals(by=by))["rows"]] for by in ("model", "tool")}
        assert keys == {"model": ["vendor/painter", "vendor/speaker"], "tool": ["generate_image", "generate_audio"]}
        assert (await ledger.totals(owner="token-b"))["calls"] == 1
        assert (await ledger.totals(since=time.time() + 1))["calls"] == 0


async def test_a_refusal_that_cost_something_counts(state_root: Path):
    async with opened(state_root) as (ledger, _):
        row = await row_in(ledger, "responded")
        await ledger.failed(row, "data_loss", 0.05)
        assert (await ledger.totals())["total_usd"] == 0.05
        assert await ledger.spent("openrouter", 0.0) == 0.05


async def test_days_are_of_utc_and_the_last_one_comes_first(state_root: Path):
    async with opened(state_root) as (ledger, database):
        for ago in (0, 1, 1):
            row = await ledger.plan(**ROW)
            await ledger.stored(row, 1.0 + ago, ())
            await database.change("UPDATE exchange SET created_at = ? WHERE number = ?", (20_000 - ago) * DAY_S, row)
        rows = (await ledger.totals(by="day"))["rows"]
        assert [(row["key"], row["cost_usd"]) for row in rows] == [("2024-10-04", 1.0), ("2024-10-03", 4.0)]
        assert (await ledger.totals(since=20_000 * DAY_S))["total_usd"] == 1.0


async def test_the_overview_is_the_same_money_in_three_orders(state_root: Path):
    async with opened(state_root) as (ledger, _):
        await spend(ledger)
        overview = await ledger.overview()
        assert (overview["total_usd"], overview["calls"], overview["unknown_cost_calls"]) == (0.3, 4, 2)
        for by in ("day", "route", "model"):
            assert sum(row["calls"] for row in overview[f"by_{by}"]) == 4
        assert (await ledger.overview("token-b"))["calls"] == 1


async def test_what_is_spent_holds_estimates_until_costs_are_known(state_root: Path):
    async with opened(state_root) as (ledger, _):
        row = await ledger.plan(**ROW, estimate_usd=0.5)
        assert await ledger.spent("openrouter", 0.0) == 0.5
        await ledger.sent(row)
        assert await ledger.spent("openrouter", 0.0) == 0.5
        await ledger.stored(row, 0.1, ())
        assert await ledger.spent("openrouter", 0.0) == 0.1
        assert await ledger.spent("spare", 0.0) == await ledger.spent("openrouter", time.time() + 1) == 0.0
        await ledger.failed(await ledger.plan(**ROW, estimate_usd=9.0), "unavailable")
        assert await ledger.spent("openrouter", 0.0) == 0.1


def spend_under_a_cap(root: Path, cap: float) -> int:
    """A process that plans, then compares, then sends: how many of its calls were allowed."""

    async def main() -> int:
        allowed = 0
        async with opened(root) as (ledger, _):
            for _ in range(10):
                meet()
                row = await ledger.plan(**ROW, estimate_usd=0.25)
                if await ledger.spent("openrouter", 0.0) > cap:
                    await ledger.failed(row, "resource_exhausted")
                    continue
                await ledger.stored(row, 0.25, ())
                allowed += 1
        return allowed

    return anyio.run(main)


def test_processes_together_never_pass_a_cap(state_root: Path):
    allowed = together(spend_under_a_cap, *[(state_root, 2.0)] * 3)
    assert 0 < sum(allowed) <= 8


def die_with_an_exchange_under_way(root: Path) -> None:
    """A process that is killed right after it has written down that bytes are leaving."""

    async def main() -> None:
        async with opened(root) as (ledger, _):
            await row_in(ledger, "sent")
            os.kill(os.getpid(), signal.SIGKILL)

    anyio.run(main)


def test_what_was_sent_is_still_on_record_after_a_kill(state_root: Path):
    assert exit_code_of(die_with_an_exchange_under_way, state_root) == -signal.SIGKILL

    async def calls() -> Any:
        async with opened(state_root) as (ledger, _):
            return (await ledger.totals())["calls"]

    assert anyio.run(calls) == 1


async def test_a_job_s_spending_and_what_it_kept_are_its_own(state_root: Path):
    async with opened(state_root) as (ledger, _):
        stored = await row_in(ledger, "stored")
        planned = await ledger.plan(**ROW, estimate_usd=0.5)
        await ledger.plan(**{**ROW, "route_id": "other"}, estimate_usd=8.0)
        await ledger.plan(**{**ROW, "job_id": "job-2"}, estimate_usd=8.0)
        assert await ledger.spent_by_job("job-1", "openrouter") == pytest.approx(0.75)
        await ledger.failed(planned, "unavailable")
        assert await ledger.spent_by_job("job-1", "openrouter") == pytest.approx(0.25)
        assert await ledger.spent_by_jobs({"job-1", "job-2"}, 0.0) == pytest.approx(16.25)
        assert await ledger.spent_by_jobs({"job-2"}, 0.0) == pytest.approx(8.0)
        assert await ledger.spent_by_jobs({"job-1", "job-2"}, time.time() + 60) == 0
        assert await ledger.was_billed("job-1")
        assert not await ledger.was_billed("job-2")
        assert await ledger.kept("job-1") == ("asset-a",)
        assert await ledger.kept("job-2") == ()
        assert stored


@pytest.mark.parametrize(
    ("state", "billed"), [("planned", False), ("failed", False), ("stored", True), ("unknown", True)]
)
async def test_only_what_may_have_been_billed_counts_as_billed(state: str, billed: bool, state_root: Path):
    async with opened(state_root) as (ledger, _):
        await row_in(ledger, state)
        assert await ledger.was_billed("job-1") is billed


async def test_a_refusal_at_a_price_counts_as_billed(state_root: Path):
    async with opened(state_root) as (ledger, _):
        await ledger.failed(await row_in(ledger, "responded"), "data_loss", 0.05)
        assert await ledger.was_billed("job-1")


@pytest.mark.parametrize("state", STATES)
async def test_only_what_is_over_without_a_price_is_unsettled(state: str, state_root: Path):
    async with opened(state_root) as (ledger, database):
        row = await row_in(ledger, state)
        await database.change("UPDATE exchange SET cost_usd = NULL")
        found = await ledger.unsettled(0.0)
        assert [(each.number, each.generation_id) for each in found] == (
            [(row, "gen-1")] if state in ("stored", "unknown") else []
        )
        assert await ledger.unsettled(time.time() + 60) == ()
        await ledger.settle(row, 0.125)
        assert await ledger.unsettled(0.0) == ()


async def test_a_job_s_cost_is_known_once_all_of_it_is(state_root: Path):
    async with opened(state_root) as (ledger, _):
        assert await ledger.cost_of_job("job-1") is None
        await row_in(ledger, "stored")
        await row_in(ledger, "failed")
        assert await ledger.cost_of_job("job-1") == pytest.approx(0.25)
        row = await row_in(ledger, "unknown")
        assert await ledger.cost_of_job("job-1") is None
        await ledger.settle(row, 0.5)
        assert await ledger.cost_of_job("job-1") == pytest.approx(0.75)


async def test_a_generation_s_cost_is_found_by_its_id(state_root: Path):
    async with opened(state_root) as (ledger, _):
        assert await ledger.cost_of_generation("gen-1") is None
        row = await row_in(ledger, "unknown")
        assert await ledger.cost_of_generation("gen-1") is None
        await ledger.settle(row, 0.5)
        assert await ledger.cost_of_generation("gen-1") == pytest.approx(0.5)
