"""kill -9 of the daemon at random moments of paid calls: `python -m tests.benchmarks.kills [CALLS [SEED]]`.

Each round starts a daemon over stdio on the same state root, asks a few things of it at once, and kills it after some
requests or some bills and a moment more. The stand-in is the witness: at the end, every bill of it is held against the
ledger. The choice of moments depends on the seed; what is hit depends on the machine.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import mcp_types as t

from kheish_mcp.stores.database import Database
from tests.audit import Audit, audited
from tests.benchmarks.doomed import Nursery, nursery
from tests.conftest import CANARY, environment
from tests.daemons import daemon_on
from tests.emulators.openrouter import OpenRouterEmulator

AT_ONCE: Final = 5
MOMENTS: Final = """
    SELECT CASE exchange.state WHEN 'failed' THEN 'before it was sent' WHEN 'stored' THEN
        CASE job.state WHEN 'completed' THEN 'after its end' ELSE 'between stored and the end' END
        ELSE iif(generation_id IS NULL, 'before the headers', 'after the headers') END
    FROM exchange JOIN job ON job.job_id = exchange.job_id
"""
LONGEST_S: Final = 0.2
PATIENCE_S: Final = 20.0
META: Final = {
    t.PROTOCOL_VERSION_META_KEY: "2026-07-28",
    t.CLIENT_CAPABILITIES_META_KEY: {},
    t.CLIENT_INFO_META_KEY: {"name": "doomed", "version": "1"},
}


@dataclass
class Killing:
    """What was asked, by tag, and how many rows each moment of a death has left."""

    calls: dict[int, tuple[str, dict[str, Any], dict[str, Any]]] = field(default_factory=dict)
    kills: int = 0
    left: Counter[str] = field(default_factory=Counter)


def frames(calls: dict[int, tuple[str, dict[str, Any], dict[str, Any]]]) -> bytes:
    """The calls as a client writes them."""
    return b"".join(
        json.dumps(
            {
                "jsonrpc": "2.0",
                "id": tag,
                "method": "tools/call",
                "params": {"name": tool, "arguments": arguments, "_meta": META},
            }
        ).encode()
        + b"\n"
        for tag, (tool, arguments, _) in calls.items()
    )


def asked(tag: int, chance: random.Random) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """A picture, or half as often a sentence."""
    words = f"call-{tag:06d}"
    picture = {"prompt": words, "size": "64x64", "preview": "none", "model": "openai/gpt-image-2"}
    return ("generate_image", picture, {}) if chance.random() < 0.66 else ("generate_audio", {"input": words}, {})


def kill_one(
    killing: Killing, born: Nursery, env: dict[str, str], emulator: OpenRouterEmulator, chance: random.Random
) -> None:
    """One daemon's life."""
    first = len(killing.calls)
    calls = {tag: asked(tag, chance) for tag in range(first, first + AT_ONCE)}
    killing.calls |= calls
    witnessed = chance.choice([emulator.requests, emulator.ledger, emulator.ledger])
    enough = len(witnessed) + chance.randint(0, AT_ONCE)
    with born.daemon(env) as wire:
        wire.sendall(frames(calls))
        emulator.wait_for(lambda: len(witnessed) >= enough, PATIENCE_S)
        threading.Event().wait(chance.random() * LONGEST_S)
    killing.kills += 1


async def kill_on(root: Path, calls: int, seed: int) -> tuple[Killing, Audit]:
    """So many calls on a fresh state root, and what the books say once a daemon has looked after the dead."""
    killing, chance = Killing(), random.Random(seed)
    with OpenRouterEmulator(key=CANARY) as emulator, nursery() as born:
        env = environment(root / "state", OPENROUTER_API_KEY=CANARY, OPENROUTER_BASE_URL=emulator.base_url)
        while len(killing.calls) < calls:
            await anyio.to_thread.run_sync(kill_one, killing, born, env, emulator, chance)
        emulator.wait_for(lambda: all(seen.ended or seen.disconnected for seen in emulator.requests), PATIENCE_S)
        async with daemon_on(root / "state", emulator):
            pass
        async with Database.open(root / "state") as database:
            killing.left.update(str(moment) for (moment,) in await database.rows(MOMENTS))
        return killing, await audited(root / "state", emulator.ledger, killing.calls, {})


def main(calls: int = 200, seed: int = 2026) -> None:
    """Prints the figures."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        killing, audit = anyio.run(kill_on, Path(folder), calls, seed)
    print(f"seed {seed}: {len(killing.calls)} calls, {killing.kills} kills in {time.monotonic() - started:.1f} s")
    print(f"bills {audit.bills} ({audit.usd:.2f} USD), assets {audit.assets}, kept aside {audit.quarantined}")
    print(f"killed: {dict(killing.left.most_common())}; billed before the headers were on record: {audit.unheard}")
    for name, found in (("double bills", audit.doubled), ("lost paid results", audit.lost), ("left open", audit.open)):
        print(f"{name}: {len(found)}", *found[:20], sep="\n  ")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
