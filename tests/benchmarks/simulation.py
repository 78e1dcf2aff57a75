"""Paid calls under faults, departures, stops and restarts: `python -m tests.benchmarks.simulation [CALLS [SEED]]`.

A plan is drawn from the seed: what each call asks, how the provider fails it and how its caller behaves. Eight callers
work it off against the stand-in; now and then the daemon stops in the middle of it all and another one takes over the
state root. At the end every bill of the stand-in is held against the ledger. The plan depends on the seed alone; who
meets whom depends on the machine.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.lowlevel
import anyio.to_thread

from kheish_mcp.daemon import Daemon
from kheish_mcp.drivers.openrouter.driver import OpenRouter
from kheish_mcp.drivers.patience import Clock
from kheish_mcp.drivers.receipts import Deadlines
from kheish_mcp.media import Media
from kheish_mcp.stores.assets import AssetStore
from kheish_mcp.stores.database import Database
from tests.audit import TAG, Audit, audited, tag_of
from tests.conftest import CANARY
from tests.daemons import Wire, daemon_on, wire_to
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import faults
from tests.emulators.provider.answers import Asked
from tests.samples import wav

CALLERS: Final = 8
RESTART_EVERY: Final = 75
SECONDS_A_CALL: Final = 0.2  # so much the clock of retries and breakers moves
FAULTY: Final = 0.4
PATIENCE_S: Final = 60.0  # far more than anything takes, on a busy machine too
LIMITS: Final = Deadlines(image=20, speech=20, transcription=0.5, talk=20, silence=0.5)
MODELS: Final = """
[routes.openrouter]
driver = "openrouter"
default_model = "openai/gpt-5.4-mini"
api_key_env = "OPENROUTER_API_KEY"
base_url = "URL"
[routes.openrouter.models]
image_generation = ["openai/gpt-image-2", "bytedance-seed/seedream-4.5"]
"""
TOOLS: Final = {"generate_image": 12, "generate_audio": 4, "transcribe_audio": 3, "ask_model": 1}
MANNERS: Final = {"stays": 10, "leaves": 4, "asks later": 3, "stops": 2, "asks twice": 1}
Maker = Callable[[], faults.Fault]
REFUSED: Final[tuple[Maker, ...]] = (
    lambda: faults.status(400),
    lambda: faults.status(402),
    lambda: faults.status(403),
    lambda: faults.status(404),
    lambda: faults.status(429),
    lambda: faults.status(429, retry_after=1),
    lambda: faults.status(500),
    lambda: faults.status(502),
    lambda: faults.status(503, retry_after=1),
    lambda: faults.status(504),
    lambda: faults.status(524, shape="html"),
    lambda: faults.status(529),
    lambda: faults.error_in_200(502),
)
BROKEN: Final[tuple[Maker, ...]] = (
    faults.cut_body,
    faults.reset_before_headers,
    lambda: faults.reset_before_headers(paid=True),
    faults.reset_after_headers,
    faults.odd_splits,
    lambda: faults.delay(0.05),
)
OWN: Final[dict[str, tuple[Maker, ...]]] = {
    "generate_image": (
        faults.malformed_json, faults.bad_base64, faults.not_an_image, faults.truncated_media, faults.no_images,
        faults.no_usage, faults.wrong_media_type, faults.svg_script, lambda: faults.extra_images(1),
        lambda: faults.url_answer("own"), lambda: faults.url_answer("other"),
    ),
    "generate_audio": (faults.truncated_media, faults.empty_speech, faults.wav_labelled_mp3),
    "transcribe_audio": (faults.hang, faults.stall, faults.malformed_json, faults.no_usage),
    "ask_model": (faults.stream_error, faults.no_done, faults.no_usage),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """One call: what it asks, what meets its first requests, and how its caller behaves."""

    tag: int
    tool: str
    manner: str
    strikes: tuple[faults.Fault, ...]

    @property
    def words(self) -> str:
        """What nobody else asks for."""
        return f"call-{self.tag:06d}"


def plans(calls: int, seed: int) -> list[Plan]:
    """The same calls for the same seed."""
    chance = random.Random(seed)
    drawn = []
    for tag in range(calls):
        [tool] = chance.choices(list(TOOLS), list(TOOLS.values()))
        [manner] = chance.choices(list(MANNERS), list(MANNERS.values()))
        makers = (*REFUSED, *BROKEN, *OWN[tool], *OWN[tool])
        struck = chance.random() < FAULTY
        strikes = tuple(chance.choice(makers)() for _ in range(chance.choice((1, 1, 2, 3)))) if struck else ()
        drawn.append(Plan(tag, tool, manner, strikes))
    return drawn


@dataclass
class World:
    """The daemon that runs just now, its callers' wires, and what the callers were told."""

    root: Path
    emulator: OpenRouterEmulator
    plans: list[Plan]
    told: Counter[str] = field(default_factory=Counter)
    stops: Counter[int] = field(default_factory=Counter)
    restarts: int = 0
    sounds: dict[int, str] = field(default_factory=dict)
    _now: float = 0.0
    _daemon: Daemon | None = None
    _up: anyio.Event = field(default_factory=anyio.Event)
    _stop: anyio.Event = field(default_factory=anyio.Event)
    _over: bool = False
    _users: set[anyio.CancelScope] = field(default_factory=set)
    _struck: dict[int, Iterator[faults.Fault]] = field(default_factory=dict)

    def strike(self, asked: Asked) -> faults.Fault | None:
        """What meets a request: each strike of its call's plan once, where it can."""
        if TAG.search(asked.body) is None:  # a look-up, or a caller that has gone before it had asked
            return None
        fault = next(self._struck[tag_of(asked.body)], None)
        return fault if fault is None or not fault.paths or asked.path in fault.paths else None

    async def live(self, seed: int) -> None:
        """Works the plan off."""
        self._struck = {plan.tag: iter(plan.strikes) for plan in self.plans}
        self.emulator.by(self.strike)
        await self._record()
        left = iter(self.plans)
        async with anyio.create_task_group() as group:
            group.start_soon(self._daemons)
            async with anyio.create_task_group() as callers:
                for number in range(CALLERS):
                    callers.start_soon(self._caller, left, random.Random(f"{seed} {number}"))
            self._over = True
            self._stop.set()

    async def _record(self) -> None:
        """A sound for every call that has one written down, each another one."""
        async with Database.open(self.root) as database:
            store = AssetStore(self.root, database)
            for plan in self.plans:
                if plan.tool == "transcribe_audio":
                    sound = Media(wav(plan.tag.to_bytes(4, "big") * 400), "audio/wav")
                    self.sounds[plan.tag] = (await store.keep(sound, owner="local")).asset_id

    async def _daemons(self) -> None:
        """One daemon after the other; the last one finishes what is under way."""
        while not self._over:
            self._stop = anyio.Event()
            async with daemon_on(self.root, self.emulator, MODELS) as daemon:
                await self._begin(daemon)
                await self._stop.wait()
                self._daemon, self._up = None, anyio.Event()
                for scope in self._users:
                    scope.cancel()
                if self._over:
                    await daemon.parts.jobs.idle()

    async def _begin(self, daemon: Daemon) -> None:
        """Gives the daemon a driver with short waits, and lets the callers in."""
        drivers = daemon.inventories._drivers
        [(name, endpoint)] = drivers
        await drivers[name, endpoint].close()
        clock = Clock(lambda: self._now, lambda seconds: anyio.lowlevel.checkpoint(), lambda: 0.0)
        drivers[name, endpoint] = OpenRouter(endpoint, deadlines=LIMITS, clock=clock)
        await daemon.reload()
        self._daemon = daemon
        self._up.set()

    async def _caller(self, left: Iterator[Plan], chance: random.Random) -> None:
        for plan in left:
            self._now += SECONDS_A_CALL
            if plan.tag and plan.tag % RESTART_EVERY == 0:
                self.restarts += 1
                self._stop.set()
            with anyio.fail_after(PATIENCE_S):
                await BEHAVIOURS[plan.manner](self, plan, chance)

    async def _running(self) -> Daemon:
        """The daemon, once one runs."""
        while self._daemon is None:
            await self._up.wait()
        return self._daemon

    @asynccontextmanager
    async def wire(self) -> AsyncGenerator[Wire]:
        """A wire to the daemon that runs. Its user is sent away when that stops; what was on its way still comes."""
        async with wire_to(await self._running()) as wire:
            with anyio.CancelScope() as scope:
                self._users.add(scope)
                try:
                    yield wire
                finally:
                    self._users.discard(scope)

    def asked(self, plan: Plan) -> dict[str, Any]:
        """What the plan's tool is asked."""
        made: dict[str, Callable[[], dict[str, Any]]] = {
            "generate_image": lambda: {"prompt": plan.words, "size": "64x64", "preview": "none"},
            "generate_audio": lambda: {"input": plan.words},
            "transcribe_audio": lambda: {"audio": self.sounds[plan.tag], "prompt": plan.words},
            "ask_model": lambda: {"input": plan.words},
        }
        return made[plan.tool]()

    def resolved(self, plan: Plan) -> dict[str, Any]:
        """What the arguments stand for, as jobs know them."""
        chosen = {"attachments": [], "provider": "openrouter", "model": "openai/gpt-5.4-mini"}
        return chosen if plan.tool == "ask_model" else {}

    async def answered(self, plan: Plan, **more: Any) -> dict[str, Any]:
        """The plan's call, asked until it is answered."""
        return self._note(await self.asked_until(plan.tool, {**self.asked(plan), **more}))

    async def asked_until(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The answer to a call, made again where the daemon went before there was one."""
        while True:
            request = 0
            async with self.wire() as wire:
                request = await wire.call(tool, arguments)
                await wire.answer(request, PATIENCE_S)
            if "result" in wire.answers.get(
                request, {}
            ):  # a wire that closes answers what it leaves open with an error
                return wire.answers[request]

    def _note(self, answer: dict[str, Any]) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(answer["result"]["content"][0]["text"])
        self.told[told["error"]["code"] if "error" in told else "came"] += 1
        self.told["replayed"] += bool(told.get("replayed") or told.get("error", {}).get("details", {}).get("replayed"))
        return told

    async def in_flight(self, plan: Plan, wire: Wire, chance: random.Random) -> int:
        """The plan's call on its way, a little further or less far."""
        request = await wire.call(plan.tool, self.asked(plan))
        await anyio.sleep(chance.random() * 0.06)
        return request


async def stays(world: World, plan: Plan, chance: random.Random) -> None:
    """Asks and waits."""
    await world.answered(plan)


async def leaves(world: World, plan: Plan, chance: random.Random) -> None:
    """Is gone without a word while its call is under way, and asks the same anew."""
    async with world.wire() as wire:
        await world.in_flight(plan, wire, chance)
    if not any("result" in answer for answer in wire.answers.values()):
        await world.answered(plan)


async def asks_later(world: World, plan: Plan, chance: random.Random) -> None:
    """Takes the job and asks for it, of whichever daemon runs then."""
    told = await world.answered(plan, wait_seconds=0)
    while told.get("status") == "working":
        job = await world.asked_until("get_job", {"job_id": told["job_id"], "wait_seconds": 10})
        told = json.loads(job["result"]["content"][0]["text"])


async def stops(world: World, plan: Plan, chance: random.Random) -> None:
    """Says stop; every other time it wants the same after all."""
    async with world.wire() as wire:
        request = await world.in_flight(plan, wire, chance)
        world.stops[plan.tag] += 1
        await wire.tell("notifications/cancelled", requestId=request, reason="The user pressed stop")
        await wire.ask("tools/list")
    if chance.random() < 0.5:
        await world.answered(plan)


async def asks_twice(world: World, plan: Plan, chance: random.Random) -> None:
    """Two that want the same at the same time."""
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(world.answered, plan)


BEHAVIOURS: Final = {
    "stays": stays, "leaves": leaves, "asks later": asks_later, "stops": stops, "asks twice": asks_twice,
}  # fmt: skip


async def simulate(root: Path, calls: int, seed: int) -> tuple[World, Audit]:
    """The calls of a seed on a fresh state root, and what the books say afterwards."""
    with OpenRouterEmulator(key=CANARY) as emulator:
        world = World(root / "state", emulator, plans(calls, seed))
        await world.live(seed)
        asked = {plan.tag: (plan.tool, world.asked(plan), world.resolved(plan)) for plan in world.plans}
        return world, await audited(root / "state", emulator.ledger, asked, world.stops)


def needless(world: World, audit: Audit) -> list[str]:
    """The calls in doubt that nothing and nobody had disturbed: whoever only leaves disturbs nothing."""
    quiet = (plan for plan in world.plans if not plan.strikes and not world.stops[plan.tag])
    return [f"call {plan.tag}, whose caller {plan.manner}" for plan in quiet if plan.tag in audit.in_doubt]


def main(calls: int = 2000, seed: int = 2026) -> None:
    """Prints the figures."""
    started = time.monotonic()
    # In memory where that can be: this is about who pays for what, and not about the disk.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        world, audit = anyio.run(simulate, Path(folder), calls, seed)
    print(f"seed {seed}: {calls} calls in {time.monotonic() - started:.1f} s, {world.restarts} restarts")
    print(
        f"requests {len(world.emulator.requests)}, bills {audit.bills} ({audit.usd:.2f} USD), stops {world.stops.total()}"
    )
    print(f"told: {dict(world.told.most_common())}")
    print(f"rows: {dict(audit.states.most_common())}, assets {audit.assets}, kept aside {audit.quarantined}")
    print(f"billed and never heard of, in doubt: {audit.unheard}")
    shown = {
        "double bills": audit.doubled,
        "lost paid results": audit.lost,
        "left open": audit.open,
        "in doubt without a reason": needless(world, audit),
    }
    for name, found in shown.items():
        print(f"{name}: {len(found)}", *found[:20], sep="\n  ")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
