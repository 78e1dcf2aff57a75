"""A whole paid call on a disk that fails, or loses its power, at each of its steps: nothing is sent twice, and nothing lost."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.lowlevel
import apsw
import pytest

from kheish_mcp.agent.run import converse
from kheish_mcp.capabilities import (
    AudioGeneration,
    Driver,
    Exchange,
    Generation,
    ImageGeneration,
    ImageRequest,
    ModelCard,
    SpeechRequest,
    Transcript,
    Transcription,
    TranscriptionRequest,
)
from kheish_mcp.catalog import Catalog, Offer
from kheish_mcp.conversation import ChatRequest, Reply, TextGeneration
from kheish_mcp.errors import JsonObject, KheishError
from kheish_mcp.media import Media
from kheish_mcp.sources.references import References
from kheish_mcp.sources.web import Web
from kheish_mcp.stores.assets import AssetStore
from kheish_mcp.stores.database import Database
from kheish_mcp.stores.jobs import Jobs
from kheish_mcp.stores.ledger import Ledger
from kheish_mcp.stores.policy import Policy
from kheish_mcp.stores.sessions import SessionStore
from kheish_mcp.tools import ask_model, generate_audio, generate_image, transcribe_audio
from kheish_mcp.tools.base import Call, Lanes, Outcome
from kheish_mcp.workers import Workers
from tests.memory_disk import Content, MemoryDisk
from tests.samples import WHOLE, picture

pytestmark = pytest.mark.anyio
SOON: Final = 20.0
MOST_STEPS: Final = 200
PRICE: Final = 0.25
MODELS: Final = ("studio/first", "studio/second")


class Studio(Driver, ImageGeneration, AudioGeneration, Transcription, TextGeneration):
    """Takes money for whatever it is asked as soon as it is asked, and says what of it was noticed."""

    name = provider = "studio"
    needs_key = False

    def __init__(self) -> None:
        self.billed = self.heard = self.given = 0

    async def _sells(self, exchange: Exchange) -> str:
        await exchange.sent()
        self.billed += 1
        await exchange.responded(f"gen-{self.billed}")
        self.heard += 1
        exchange.arrived()
        self.given += 1
        return f"gen-{self.billed}"

    async def generate_image(self, model: str, request: ImageRequest, exchange: Exchange) -> Generation:
        return Generation((Media(picture("PNG"), "image/png"),), model, PRICE, await self._sells(exchange))

    async def generate_audio(self, model: str, request: SpeechRequest, exchange: Exchange) -> Generation:
        return Generation((WHOLE["audio/mpeg"],), model, PRICE, await self._sells(exchange))

    async def transcribe(self, model: str, request: TranscriptionRequest, exchange: Exchange) -> Transcript:
        return Transcript("Hello.", model, cost_usd=PRICE, generation_id=await self._sells(exchange))

    async def answer(
        self, model: str, request: ChatRequest, exchange: Exchange, said: Callable[[str], Awaitable[None]]
    ) -> Reply:
        return Reply("Hello.", model, "stop", {}, cost_usd=PRICE, generation_id=await self._sells(exchange))

    def models(self) -> tuple[ModelCard, ...]:
        flags = ("image_generation", "audio_generation", "transcription", "text")
        return tuple(ModelCard(model, flags, parameters=("temperature",)) for model in MODELS)  # so without tools


TOOLS: Final[dict[str, tuple[Callable[..., Awaitable[Outcome]], Callable[[str], Any]]]] = {
    "generate_image": (generate_image.run, lambda sound: generate_image.GenerateImage(prompt="a pier")),
    "generate_audio": (generate_audio.run, lambda sound: generate_audio.GenerateAudio(input="Hello.")),
    "transcribe_audio": (transcribe_audio.run, lambda sound: transcribe_audio.TranscribeAudio(audio=sound)),
    "ask_model": (ask_model.run, lambda sound: ask_model.AskModel(input="Hello?", session="demo")),
    "ask_model alone": (ask_model.run, lambda sound: ask_model.AskModel(input="Hello?")),
}


@dataclass
class Attempt:
    """One call on one disk: who was paid, and what its caller got."""

    root: Path
    disk: MemoryDisk
    tool: str = "generate_image"
    studio: Studio = field(default_factory=Studio)
    result: JsonObject | None = None
    refusal: KheishError | None = None
    own: str = ""

    async def make(self, workers: Workers, began: Callable[[], None]) -> None:
        """The call; `began` is told when all is ready for it."""
        run, form = TOOLS[self.tool]
        async with opened(self.root, self.disk, workers, self.studio) as (call, _):
            self.own = (await call.assets.keep(WHOLE["audio/wav"], owner="local")).asset_id
            began()
            try:
                with anyio.fail_after(SOON):
                    self.result = (await run(form(self.own), call)).result
            except KheishError as refusal:
                self.refusal = refusal
            self.disk.fault = lambda step: None


@pytest.fixture
async def blank(tmp_path: Path) -> dict[str, bytes]:
    """The files of a database without rows, by the ends of their names: to make one takes longer than a call."""
    disk = MemoryDisk(f"blank {tmp_path}")
    async with Database.open(tmp_path, vfs=disk.name):
        pass
    return {path.removeprefix(str(tmp_path)): bytes(file.now) for path, file in disk.files.items()}


def disk_of(name: str, root: Path, blank: dict[str, bytes]) -> MemoryDisk:
    """A disk with a blank database of that root."""
    return MemoryDisk(name, {f"{root}{end}": Content(bytearray(data), data) for end, data in blank.items()})


@pytest.fixture
async def workers() -> AsyncGenerator[Workers]:
    """One child for all attempts."""
    made = Workers(size=1)
    yield made
    await made.close()


async def heard(sentence: str) -> None:
    """The report to a caller who does not listen."""


@asynccontextmanager
async def opened(
    root: Path, disk: MemoryDisk, workers: Workers, studio: Studio
) -> AsyncGenerator[tuple[Call, Database]]:
    """A call on stores whose database is on the disk in memory, after what a daemon does when it starts."""
    async with Database.open(root, vfs=disk.name) as database, anyio.create_task_group() as group:
        jobs, assets = Jobs(database, group), AssetStore(root, database)
        await jobs.open()
        flags = ("image_generation", "audio_generation", "transcription", "text")
        offer = Offer("here", "studio", studio, provider="studio", models=dict.fromkeys(flags, MODELS))
        yield (
            Call(
                catalog=Catalog([offer]),
                assets=assets,
                references=References(assets, None, Web()),
                workspace=None,
                workers=workers,
                jobs=jobs,
                ledger=Ledger(database),
                sessions=SessionStore(database),
                policy=Policy(database),
                latest={},
                converse=converse,
                lanes=Lanes(),
                learn=anyio.lowlevel.checkpoint,
                owner="local",
                at_hand=False,
                report=heard,
                wait_seconds=SOON,
            ),
            database,
        )
        group.cancel_scope.cancel()
    jobs.close()


async def books(call: Call, database: Database) -> tuple[list[Any], list[Any], set[str]]:
    """Rows of the ledger and jobs, and the assets that can be read."""
    rows = await database.rows("SELECT state, generation_id, cost_usd, asset_ids FROM exchange ORDER BY number")
    jobs = await database.rows("SELECT state FROM job")
    page, _ = await call.assets.page("local", None)
    whole = set()
    for asset in page:
        with suppress(KheishError):
            await call.assets.read(asset)
            whole.add(asset.asset_id)
    assert whole == {asset.asset_id for asset in page}
    assert await database.rows("PRAGMA integrity_check") == [("ok",)]
    return rows, jobs, whole


def failing(failure: type[Exception], first: int, last: float) -> Callable[[MemoryDisk], None]:
    """Steps of a disk, counted from now on, that fail."""

    def arm(disk: MemoryDisk) -> None:
        before = disk.steps

        def fault(step: int) -> None:
            if first <= step - before <= last:
                raise failure("the disk says no")

        disk.fault = fault

    return arm


@pytest.mark.parametrize(
    ("tool", "failure", "lasting"),
    [
        ("generate_image", apsw.IOError, False),
        ("generate_image", apsw.FullError, True),
        ("generate_audio", apsw.FullError, False),
        ("transcribe_audio", apsw.FullError, False),
        ("ask_model", apsw.FullError, False),
    ],
)
async def test_a_disk_that_fails_at_any_step_of_a_paid_call_loses_and_doubles_nothing(
    tool: str, failure: type[Exception], lasting: bool, workers: Workers, blank: dict[str, bytes], tmp_path: Path
):
    outcomes = []
    for at in range(1, MOST_STEPS):
        root = tmp_path / str(at)
        disk = disk_of(f"{tool}-{failure.__name__}-{lasting}-{at}", root, blank)
        attempt = Attempt(root, disk, tool)
        arm = failing(failure, at, float("inf") if lasting else at)
        before = 0

        def began(arm: Any = arm, disk: MemoryDisk = disk) -> None:
            nonlocal before
            before = disk.steps
            arm(disk)

        await attempt.make(workers, began)
        await check_failed(attempt, workers, lasting=lasting)
        outcomes.append(attempt)
        if attempt.disk.steps - before < at:
            break
    assert len(outcomes) > 20
    assert outcomes[0].studio.billed == 0
    assert outcomes[-1].result is not None
    assert any(each.refusal is not None and each.studio.billed for each in outcomes) or not lasting


async def check_failed(attempt: Attempt, workers: Workers, *, lasting: bool) -> None:
    """What the next daemon finds of a call whose disk failed."""
    studio = attempt.studio
    async with opened(attempt.root, attempt.disk, workers, Studio()) as (call, database):
        rows, jobs, assets = await books(call, database)
    assets -= {attempt.own}
    aside = list((attempt.root / "quarantine").glob("*.bin"))
    assert studio.billed <= 1
    assert {state for (state,) in jobs} <= {"completed", "failed"}
    assert {row[0] for row in rows} <= {"stored", "failed", "unknown"}
    billed = [row for row in rows if row[0] in ("stored", "unknown") or row[2] is not None]
    assert len(billed) >= studio.billed
    if attempt.result is not None:
        shown = attempt.result["assets"]
        assert isinstance(shown, list)
        assert {each["asset_id"] for each in shown if isinstance(each, dict)} == assets
    else:
        assert attempt.refusal is not None
        assert not studio.billed or attempt.refusal.details["possibly_billed"] is True
    # One step that fails takes nothing of what came, whichever it is.
    assert not studio.given or assets or aside or lasting or (attempt.result and attempt.tool.startswith("ask"))


async def words(call: Call, database: Database) -> set[str]:
    """What of a model's words is on record: in the session's journal, or with its job."""
    entries = await call.sessions.entries("demo", "local")
    told = await database.rows("SELECT progress FROM job UNION SELECT result ->> 'text' FROM job")
    return {str(entry.body["text"]) for entry in entries if entry.kind == "answer"} | {str(text) for (text,) in told}


@pytest.mark.parametrize("tool", ["generate_image", "transcribe_audio", "ask_model", "ask_model alone"])
async def test_a_power_cut_at_any_step_of_a_paid_call_loses_nothing_of_what_was_paid(
    tool: str, workers: Workers, tmp_path: Path
):
    disk = MemoryDisk(f"cut {tool}")
    attempt = Attempt(tmp_path / "state", disk, tool)
    studio, cuts = attempt.studio, []

    def remember(step: int) -> None:
        blobs = {path.name for path in attempt.root.glob("assets/blobs/??/*")}
        left = disk.after_power_cut(f"cut {tool} {step}")
        cuts.append((studio.billed, studio.heard, attempt.result is not None, blobs, left))

    await attempt.make(workers, lambda: setattr(disk, "fault", remember))
    remember(0)
    assert len(cuts) > 20
    assert {billed for billed, *_ in cuts} == {0, 1}
    for billed, noticed, done, blobs, left in cuts:
        async with opened(attempt.root, left, workers, Studio()) as (call, database):
            rows, jobs, assets = await books(call, database)
            assets -= {attempt.own}
            told = await words(call, database)
            named = {str(sha256) for (sha256,) in await database.rows("SELECT sha256 FROM asset")}
        assert named <= blobs
        assert len(rows) >= billed
        for state, generation_id, cost, ids in rows[:billed]:
            assert state in ("stored", "unknown")
            assert generation_id == "gen-1" or not noticed
            kept = "Hello." in told if tool.startswith("ask") else assets and assets.pop() in ids
            assert state == "unknown" or (cost == PRICE and kept)
        assert not done or jobs == [("completed",)]
