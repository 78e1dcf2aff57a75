"""A hundred and sixty paid calls under faults, departures, stops and restarts: nothing is billed twice, and nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.audit import audited
from tests.benchmarks.simulation import needless, plans, simulate

pytestmark = pytest.mark.anyio
CALLS, SEED = 160, 7


def drawn(calls: int, seed: int) -> list[tuple[str, str, list[str]]]:
    """A plan in words."""
    return [(plan.tool, plan.manner, [fault.name for fault in plan.strikes]) for plan in plans(calls, seed)]


def test_a_plan_is_its_seed_s():
    assert drawn(50, 1)[:20] == drawn(20, 1)
    assert drawn(50, 2) != drawn(50, 1)


async def test_nothing_that_was_paid_for_is_doubled_lost_or_left_open(tmp_path: Path):
    world, audit = await simulate(tmp_path, CALLS, SEED)
    assert audit.bills > CALLS / 2
    assert world.restarts > 1
    assert world.stops.total() > 5
    assert world.told["replayed"] > 0
    assert audit.quarantined > 0
    assert (audit.doubled, audit.lost, audit.open, needless(world, audit)) == ([], [], [], [])
    assert world.emulator.violations == []


async def test_books_that_are_wrong_are_found_out(tmp_path: Path):
    """An audit that finds nothing has to be one that could."""
    world, _ = await simulate(tmp_path, 4, SEED)
    asked = {plan.tag: (plan.tool, world.asked(plan), world.resolved(plan)) for plan in world.plans}
    [paid, *_] = world.emulator.ledger
    stranger = replace(paid, generation_id="gen-of-nobody")
    audit = await audited(world.root, [*world.emulator.ledger, paid, stranger], asked, {})
    assert any("was billed 2 times" in each for each in audit.doubled)
    assert any("gen-of-nobody stands in no row" in each for each in audit.lost)
    for path in (world.root / "assets" / "blobs").glob("??/*"):
        path.unlink()
    assert (await audited(world.root, world.emulator.ledger, asked, {})).lost
