"""One paid exchange: its row at every step of every attempt, and what came and is no medium is kept aside."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import fields
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from kheish_mcp.capabilities import Exchange, Generation, ImageGeneration
from kheish_mcp.catalog import Backend
from kheish_mcp.daemon import open_daemon
from kheish_mcp.drivers.http import Endpoint
from kheish_mcp.drivers.openrouter.driver import OpenRouter
from kheish_mcp.errors import DataLoss, JsonObject, KheishError, ResourceExhausted, Unavailable
from kheish_mcp.settings import Settings
from kheish_mcp.stores.database import Database
from kheish_mcp.stores.jobs import Job
from kheish_mcp.tools.base import Call, Parts
from kheish_mcp.tools.paid import keep_paid, spend
from tests.samples import WHOLE

pytestmark = pytest.mark.anyio
SOON = 30.0
Ask = Callable[[str, Exchange], Awaitable[Generation]]


async def nobody(sentence: str) -> None:
    """The report to a caller who gave no progress token."""


@pytest.fixture
async def call(state_root: Path) -> AsyncGenerator[Call]:
    """A call of a daemon with the real stores."""
    async with open_daemon(Settings(state_root)) as daemon:
        shared = {field.name: getattr(daemon.parts, field.name) for field in fields(Parts)}
        yield Call(**shared, owner="local", at_hand=True, report=nobody, wait_seconds=SOON)


async def row(state_root: Path) -> tuple[str, str | None]:
    """The only row of the ledger on disk: its state and its generation id."""
    async with Database.open(state_root) as database:
        [(state, generation_id)] = await database.rows("SELECT state, generation_id FROM exchange")
    return state, generation_id


async def spent(call: Call, ask: Ask) -> Generation:
    """One exchange, spent by a job."""
    driver: ImageGeneration = OpenRouter(Endpoint("home", "http://127.0.0.1:9"))
    backend = Backend("home", "openrouter", driver, ("vendor/painter",))
    ended: list[Generation | KheishError] = []

    async def work(job: Job) -> JsonObject:
        try:
            row = await call.ledger.plan(
                job_id=job.job_id,
                owner=job.owner,
                tool=job.tool,
                route_id="home",
                provider="openrouter",
                model=backend.model,
            )
            ended.append(await spend(call, job, backend, row, ask))
        except KheishError as refusal:
            ended.append(refusal)
        return {}

    job = await call.jobs.start(call.owner, "generate_image", {}, work)
    with anyio.fail_after(SOON):
        await job.finished.wait()
    [end] = ended
    if isinstance(end, KheishError):
        raise end
    return end


def kept_aside(state_root: Path) -> dict[str, bytes]:
    """The quarantine's files by name."""
    return {path.name: path.read_bytes() for path in (state_root / "quarantine").glob("*.bin")}


async def test_a_second_attempt_is_on_record_as_the_first_was(call: Call, state_root: Path):
    seen: list[tuple[str, str | None]] = []

    async def ask(model: str, exchange: Exchange) -> Generation:
        for answered in ("gen-refused", "gen-2"):
            seen.append(await row(state_root))
            await exchange.sent()
            seen.append(await row(state_root))
            await exchange.responded(answered)
            seen.append(await row(state_root))
            if answered == "gen-refused":
                await exchange.again()
        return Generation((), model)

    await spent(call, ask)
    assert seen == [
        ("planned", None), ("sent", None), ("responded", "gen-refused"),
        ("planned", None), ("sent", None), ("responded", "gen-2"),
    ]  # fmt: skip


async def test_who_dies_while_waiting_for_another_attempt_has_been_billed_nothing(call: Call, state_root: Path):
    async def ask(model: str, exchange: Exchange) -> Generation:
        await exchange.sent()
        await exchange.responded(None)
        await exchange.again()
        raise ResourceExhausted("Busy.")

    with pytest.raises(ResourceExhausted):
        await spent(call, ask)
    assert await row(state_root) == ("failed", None)


async def test_an_answer_that_nobody_can_read_is_kept_aside_and_the_refusal_says_where(call: Call, state_root: Path):
    async def ask(model: str, exchange: Exchange) -> Generation:
        await exchange.sent()
        await exchange.responded("gen-1")
        raise Unavailable("Not JSON.", hint="Look.", details={"possibly_billed": True}, remains=(b'{"data": [', b"x"))

    with pytest.raises(Unavailable) as caught:
        await spent(call, ask)
    found = kept_aside(state_root)
    assert set(found.values()) == {b'{"data": [', b"x"}
    assert set(str(caught.value.details["quarantine"]).split(", ")) == set(found)
    assert caught.value.hint is not None
    assert all(f"quarantine/{name}" in caught.value.hint for name in found)
    assert caught.value.hint.endswith("Look.")
    assert (await row(state_root))[0] == "unknown"


async def test_what_came_beside_whole_pictures_is_kept_aside_and_a_warning_says_where(call: Call, state_root: Path):
    async def ask(model: str, exchange: Exchange) -> Generation:
        return Generation((), model, warnings=("One is not base64.",), remains=(b"@@",))

    generation = await spent(call, ask)
    [(name, data)] = kept_aside(state_root).items()
    assert data == b"@@"
    assert generation.warnings[0] == "One is not base64."
    assert f"quarantine/{name}" in generation.warnings[1]
    assert generation.remains == ()


async def test_a_quarantine_that_cannot_be_written_leaves_the_provider_s_own_refusal(
    call: Call, state_root: Path, caplog: pytest.LogCaptureFixture
):
    (state_root / "quarantine").write_bytes(b"a file where the folder should be")

    async def ask(model: str, exchange: Exchange) -> Generation:
        raise DataLoss("Half a file.", hint="Look.", remains=(b"x",))

    with pytest.raises(DataLoss, match="Half a file") as caught:
        await spent(call, ask)
    assert (caught.value.hint, caught.value.details) == ("Look.", {})
    assert "kept aside" in caplog.text


@pytest.mark.parametrize("whole", [True, False])
async def test_a_stop_tears_no_answer_that_is_there_whole(whole: bool, call: Call, state_root: Path):
    read: list[bool] = []

    async def ask(model: str, exchange: Exchange) -> Generation:
        await exchange.sent()
        await exchange.responded("gen-1")
        if whole:
            exchange.arrived()
        [job] = call.jobs._running.values()
        job.scope.cancel()
        await anyio.lowlevel.checkpoint()
        read.append(True)
        return Generation((), model)

    if whole:
        await spent(call, ask)
    else:
        with pytest.raises(ValueError, match="not enough values"):
            await spent(call, ask)
    assert read == [True] * whole
    assert (await row(state_root))[0] == "unknown"


async def test_a_stop_while_a_picture_is_being_kept_loses_nothing(call: Call, state_root: Path):
    png = WHOLE["image/png"]

    async def work(job: Job) -> JsonObject:
        row = await call.ledger.plan(
            job_id=job.job_id, owner=job.owner, tool=job.tool, route_id="home", provider="openrouter", model="m"
        )
        await call.ledger.sent(row)
        job.scope.cancel()
        await keep_paid(call, row, Generation((png,), "m", 0.04), label=job.tool, provenance={})
        return {}

    job = await call.jobs.start(call.owner, "generate_image", {}, work)
    with anyio.fail_after(SOON):
        await job.finished.wait()
    [asset], _ = await call.assets.page(call.owner, None)
    assert (await call.assets.read(asset)).data == png.data
    assert (await row(state_root))[0] == "stored"


async def test_a_store_that_fails_between_two_steps_leaves_the_exchange_in_doubt(call: Call, state_root: Path):
    async def ask(model: str, exchange: Exchange) -> Generation:
        await exchange.sent()
        raise ResourceExhausted("The disk of the state root is full.")

    with pytest.raises(ResourceExhausted) as caught:
        await spent(call, ask)
    assert caught.value.details["possibly_billed"] is True
    assert (await row(state_root))[0] == "unknown"
