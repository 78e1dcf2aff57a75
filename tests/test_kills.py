"""Fourteen daemons killed in the middle of paid calls: every bill is an asset, or openly in doubt."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.kills import AT_ONCE, kill_on

pytestmark = pytest.mark.anyio
KILLS, SEED = 14, 5


async def test_what_was_billed_when_the_daemon_was_killed_is_an_asset_or_in_doubt(tmp_path: Path):
    killing, audit = await kill_on(tmp_path, KILLS * AT_ONCE, SEED)
    assert killing.kills == KILLS
    assert audit.bills > KILLS
    assert killing.left["before the headers"] > 0
    assert (audit.doubled, audit.lost, audit.open) == ([], [], [])
    # Only what was billed before its headers were on record has no id to ask the provider by.
    assert audit.unheard <= killing.left["before the headers"]
