"""A call that may cost: a ledger line per exchange, written first, and the bytes kept before anything else."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import anyio

from ..capabilities import Exchange, Generation, Transcript, nobody_listens
from ..catalog import Backend
from ..conversation import Reply
from ..errors import DataLoss, DeadlineExceeded, JsonObject, KheishError, MediaRejected
from ..formats import kind_of, recognise
from ..media import Kind, Media
from ..profiles import UNKNOWN
from ..stores.assets import Asset
from ..stores.jobs import Job
from ..stores.ledger import Ledger
from .base import Call

log = logging.getLogger(__name__)

G = TypeVar("G", Generation, Transcript, Reply)
R = TypeVar("R", Generation, Reply)
KEEPING_S, READING_S = 120, 90


async def spend(
    call: Call,
    job: Job,
    backend: Backend[Any],
    row: int,
    ask: Callable[[str, Exchange], Awaitable[G]],
    *,
    alone: bool = True,
) -> G:
    """One planned exchange with a provider, written down before it is sent and after each step: its answer.

    It waits its turn where the route has as many under way as it may. `alone` says that the job is this exchange, so
    that how the exchange goes is how the job goes.
    """
    steps = _Steps(call.ledger, row)
    try:
        with anyio.CancelScope() as scope:

            def arrived() -> None:
                # It is paid for: whoever leaves now, it is read to its end and kept.
                scope.shield, scope.deadline = True, anyio.current_time() + READING_S

            tell = job.report if alone else nobody_listens
            async with _turn(call, job, backend):
                answer = await ask(backend.model, Exchange(steps.sent, steps.responded, tell, steps.again, arrived))
            return answer if isinstance(answer, Transcript) else await _kept_aside(call, answer)
        raise DeadlineExceeded(
            f"The answer of route {backend.route_id} came and could not be read within {READING_S} s.",
            details={"possibly_billed": True},
        )
    except KheishError as error:
        await _name_remains(call, error)
        # Where it is not said, a store of ours has failed between two steps, and the provider goes on.
        with reluctantly():
            if error.details.get("possibly_billed", steps.left):
                error.details["possibly_billed"] = True
                await call.ledger.unknown(row, error.code.value)
            else:
                await call.ledger.failed(row, error.code.value)
        raise
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True), reluctantly():
            await call.ledger.abandon(row)
        raise


@dataclass(slots=True)
class _Steps:
    """An exchange's row, written a step ahead of whatever happens; `left` says that its request is on its way."""

    ledger: Ledger
    row: int
    left: bool = False

    async def sent(self) -> None:
        await self.ledger.sent(self.row)
        self.left = True

    async def responded(self, generation_id: str | None) -> None:
        with reluctantly():
            await self.ledger.responded(self.row, generation_id)

    async def again(self) -> None:
        await self.ledger.again(self.row)
        self.left = False


@asynccontextmanager
async def _turn(call: Call, job: Job, backend: Backend[Any]) -> AsyncGenerator[None]:
    lane = call.lanes.lane(backend)
    if lane.available_tokens <= 0:
        await job.report(f"{backend.route_id}: waiting its turn behind {lane.borrowed_tokens:g} others")
    async with lane:
        yield


async def _kept_aside(call: Call, answer: R) -> R:
    """The answer, with a warning that names the files where what came with it and is no medium is kept."""
    names = await _aside(call, answer.remains, " ".join(answer.warnings))
    told: tuple[str, ...] = (_where(names),) if names else ()
    return replace(answer, remains=(), warnings=(*answer.warnings, *told))


async def _name_remains(call: Call, error: KheishError) -> None:
    """Keeps aside what a refusal holds of bytes that were paid for, and has the refusal say where."""
    names = await _aside(call, error.remains, error.message)
    if names:
        error.details["quarantine"] = ", ".join(names)
        error.hint = " ".join(filter(None, (_where(names), error.hint)))


async def _aside(call: Call, remains: Sequence[bytes], reason: str) -> list[str]:
    """Keeps bytes that are no medium in the quarantine, whoever has left meanwhile; gives the names of their files."""
    names: list[str] = []
    with anyio.CancelScope(shield=True):
        for data in remains:
            try:
                names.append(await call.assets.set_aside(data, reason))
            except KheishError as error:  # a full disk is no reason to forget what the provider said
                log.error("bytes that were paid for could not be kept aside: %s", error.message)
    return names


async def in_vain(call: Call, trouble: KheishError, *remains: bytes) -> KheishError:
    """A refusal that comes after an answer was paid for: it says so, and where what came of it is kept aside.

    Nobody else is asked after it.
    """
    trouble.details["possibly_billed"] = True
    trouble.remains = remains
    await _name_remains(call, trouble)
    return trouble


def _where(names: Sequence[str]) -> str:
    """Where quarantined bytes are, as a sentence."""
    return f"What came is kept aside in the state root as {', '.join(f'quarantine/{name}' for name in names)}."


async def keep_paid(
    call: Call,
    row: int,
    generation: Generation,
    *,
    label: str,
    provenance: JsonObject,
    words: Callable[[tuple[Asset, ...]], Awaitable[None]] = nobody_listens,
    alone: bool = True,
) -> tuple[tuple[Asset, ...], tuple[str, ...]]:
    """Keeps every medium of a generation before anything else can go wrong, whoever has left meanwhile.

    `words` keeps what came with them, before the row says that all is kept. Gives the assets, and a warning for each
    medium that could not be kept. What does not decode (data_loss), or is more than may be kept, is set aside, named,
    and never served; where nothing is left, and the media came `alone`, that is the refusal.
    """
    with anyio.move_on_after(KEEPING_S, shield=True):
        assets: list[Asset] = []
        troubles: list[KheishError] = []
        for media in generation.media:
            try:
                assets.append(await _keep(call, media, label, provenance))
            except KheishError as trouble:
                troubles.append(await in_vain(call, trouble, media.data))
        if troubles and not assets and alone:
            await _write_off(call, row, generation, troubles[0])
            raise troubles[0]
        await words(tuple(assets))
        await note_kept(call, row, generation.cost_usd, assets)
        return tuple(assets), tuple(f"{trouble.message} {trouble.hint or ''}".strip() for trouble in troubles)
    late = DataLoss("The result could not be looked at and stored in time.", hint="Look at the disk with doctor.")
    raise await in_vain(call, late, *(media.data for media in generation.media))


async def note_kept(call: Call, row: int, cost_usd: float | None, assets: Sequence[Asset]) -> None:
    """An exchange whose result is kept, which is so whether or not it can be written down."""
    with reluctantly():
        await call.ledger.stored(row, cost_usd, tuple(asset.asset_id for asset in assets))


@contextmanager
def reluctantly() -> Generator[None]:
    """A full disk under the ledger must not take what is paid for, nor the word that it is: the row ends with its job."""
    try:
        yield
    except KheishError as error:
        log.error("what became of an exchange could not be written down: %s", error.message)


async def _write_off(call: Call, row: int, generation: Generation, trouble: KheishError) -> None:
    """An answer that was paid for in vain: at its price where that was said, else for an unknown one."""
    with reluctantly():
        if generation.cost_usd is None:
            await call.ledger.unknown(row, trouble.code.value)
        else:
            await call.ledger.failed(row, trouble.code.value, generation.cost_usd)


async def _keep(call: Call, media: Media, label: str, provenance: JsonObject) -> Asset:
    try:
        facts, checked = recognise(media), None
        if facts.kind is Kind.IMAGE and kind_of(facts.media_type) is Kind.IMAGE:
            checked = await call.workers.run("check_image", UNKNOWN.preview, media.data)
        asset = await call.assets.keep(media, owner=call.owner, label=label, kind="file", provenance=provenance)
    except MediaRejected as error:
        raise DataLoss(
            f"The provider's answer is not usable media: {error.message}", hint="The call may have been billed."
        ) from None
    if checked is not None:
        call.workers.remember(asset.sha256, "preview_image", UNKNOWN.preview, checked)  # it is of the same decoding
    return asset


def origin(
    call: Call,
    job: Job,
    backend: Backend[Any],
    prompt: str,
    generation: Generation,
    sources: Sequence[str] = (),
) -> JsonObject:
    """Where an asset comes from: tool, route, model, a keyed hash of the prompt, sources, cost, generation."""
    return {
        "tool": job.tool,
        "route_id": backend.route_id,
        "provider": backend.provider,
        "model": generation.model,
        "prompt_mac": call.jobs.mac(prompt),
        "sources": list(sources),
        "cost_usd": generation.cost_usd,
        "generation_id": generation.generation_id,
        "job_id": job.job_id,
    }


async def save_copies(call: Call, assets: tuple[Asset, ...], save_as: str | None) -> tuple[dict[str, str], list[str]]:
    """Writes the asked copies; gives each asset id's path, and warnings where a copy failed (the asset is safe)."""
    paths: dict[str, str] = {}
    warnings: list[str] = []
    if call.at_hand:
        paths = {asset.asset_id: str(await call.assets.path_of(asset)) for asset in assets}
    if save_as is None or call.workspace is None:
        return paths, warnings
    for asset in assets:
        try:
            media = await call.assets.read(asset)
            paths[asset.asset_id] = await call.workspace.save(save_as, media.data, asset.extension)
        except KheishError as error:
            warnings.append(f"{asset.asset_id} was kept but not saved to the workspace: {error.message}")
    return paths, warnings


def shown(asset: Asset, paths: Mapping[str, str]) -> JsonObject:
    """The asset object of a result, with the file's path where the caller can use one."""
    path = paths.get(asset.asset_id)
    return {**asset.as_json(), "path": path} if path else asset.as_json()
