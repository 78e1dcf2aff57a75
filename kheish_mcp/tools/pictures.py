"""What making and changing pictures share: their arguments, and the requests that together bring the asked count."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import anyio
from pydantic import Field

from ..capabilities import Background, Exchange, Generation, ImageFormat, ImageRequest, Quality
from ..catalog import Backend
from ..errors import JsonObject, KheishError
from ..stores.assets import Asset
from ..stores.jobs import Job
from .base import Call, MediaInput, Outcome, total
from .caps import plan
from .fallback import Made, passes_on
from .paid import keep_paid, origin, save_copies, shown, spend

R = TypeVar("R", bound=ImageRequest)


class PictureInput(MediaInput):
    """The arguments of generate_image and edit_image alike."""

    prompt: str = Field(min_length=1, max_length=200_000, description="What to draw or change.")
    size: str | None = Field(
        None,
        max_length=32,
        pattern="^[A-Za-z0-9.]+$",
        description="WxH pixels, or 1K, 2K, 4K.",
    )
    aspect_ratio: str | None = Field(
        None, max_length=16, pattern=r"^(auto|[0-9.]+:[0-9.]+)$", description="Such as 1:1, 16:9, 9:16."
    )
    count: int = Field(1, ge=1, le=4, description="Each is paid.")
    quality: Quality | None = Field(None, description="Higher costs more.")
    background: Background | None = Field(None, description="transparent needs png or webp.")
    output_format: ImageFormat | None = Field(None, description="The model's own if left out.")
    seed: int | None = Field(None, ge=0, le=2**31 - 1, description="Repeats a result.")


def request_of(given: PictureInput, form: type[R], **more: object) -> R:
    """The driver's request for all the pictures asked."""
    return form(
        prompt=given.prompt, size=given.size or "", aspect_ratio=given.aspect_ratio or "", count=given.count,
        quality=given.quality, background=given.background, output_format=given.output_format, seed=given.seed, **more,
    )  # fmt: skip


def divide(request: R, at_once: int) -> tuple[R, ...]:
    """One request per `at_once` pictures; a seed is stepped, since equal requests would bring equal pictures."""
    starts = range(0, request.count, max(1, at_once))
    return tuple(
        replace(
            request,
            count=min(max(1, at_once), request.count - start),
            seed=None if request.seed is None else request.seed + start,
        )
        for start in starts
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """What one request of several came to: its generation, without the bytes, and assets; or its refusal."""

    generation: Generation | None = None
    assets: tuple[Asset, ...] = ()
    refusal: KheishError | None = None


@dataclass(frozen=True, slots=True)
class Order(Generic[R]):
    """The requests that together bring the asked pictures from one backend, and how one of them is asked."""

    backend: Backend[Any]
    flag: str
    requests: tuple[R, ...]
    ask: Callable[[str, R, Exchange], Awaitable[Generation]]
    sources: tuple[str, ...] = ()


async def collect(call: Call, job: Job, order: Order[R]) -> tuple[Batch, ...]:
    """Sends the requests side by side and keeps what each brings; one that fails does not take the others along.

    Refuses if all failed, and then with what may have cost rather than with what did not.
    """
    asked, come = sum(request.count for request in order.requests), 0
    rows = await plan(call, job, order.backend, order.flag, order.requests)
    batches: list[Batch] = [Batch()] * len(rows)

    async def report() -> None:
        await job.report(f"{order.backend.route_id}: {come} of {asked} {'image' if asked == 1 else 'images'}")

    async def one(index: int) -> None:
        nonlocal come
        batches[index] = await _batch(call, job, order, rows[index], order.requests[index])
        come += len(batches[index].assets)
        await report()

    await report()
    async with anyio.create_task_group() as group:
        for index in range(len(rows)):
            group.start_soon(one, index)
    refusals = [batch.refusal for batch in batches if batch.refusal is not None]
    if len(refusals) == len(batches):
        raise next((each for each in refusals if not passes_on(each)), refusals[0])
    return tuple(batches)


async def _batch(call: Call, job: Job, order: Order[R], row: int, request: R) -> Batch:
    try:
        generation = await spend(
            call,
            job,
            order.backend,
            row,
            lambda model, exchange: order.ask(model, request, exchange),
            alone=len(order.requests) == 1,
        )
        provenance = origin(call, job, order.backend, request.prompt, generation, order.sources)
        kept, troubles = await keep_paid(call, row, generation, label=job.tool, provenance=provenance)
    except KheishError as refusal:
        return Batch(refusal=refusal)
    return Batch(replace(generation, media=(), warnings=(*generation.warnings, *troubles)), kept)


async def finish(call: Call, job: Job, made: Made[Any, tuple[Batch, ...]], given: PictureInput) -> JsonObject:
    """The result object of the batches: every picture in order, and warnings for what is missing."""
    refusals = [batch.refusal for batch in made.what if batch.refusal is not None]
    generations = [batch.generation for batch in made.what if batch.generation is not None]
    assets = tuple(asset for batch in made.what for asset in batch.assets)
    unique = tuple(dict.fromkeys(assets))
    call.latest[call.owner] = tuple(asset.asset_id for asset in unique)
    paths, unsaved = await save_copies(call, unique, given.save_as)
    warnings = _warnings(generations, refusals, len(assets), given.count)
    result: JsonObject = {
        "route_id": made.backend.route_id,
        "provider": made.backend.provider,
        "model": generations[0].model,
        "assets": [shown(asset, paths) for asset in assets],
        "cost_usd": total([generation.cost_usd for generation in generations]),
        "job_id": job.job_id,
        "warnings": [*made.warnings, *warnings, *unsaved],
        **made.attempts_json,
    }
    _add_first(result, "revised_prompt", [generation.revised_prompt for generation in generations])
    _add_first(result, "generation_id", [generation.generation_id for generation in generations])
    return result


def remembered(call: Call, outcome: Outcome) -> Outcome:
    """The outcome of a picture call, which is now the caller's last one; one that was replayed is it again."""
    if outcome.assets:
        call.latest[call.owner] = tuple(asset.asset_id for asset in outcome.assets)
    return outcome


def _warnings(generations: Sequence[Generation], refusals: Sequence[KheishError], got: int, asked: int) -> list[str]:
    told = list(dict.fromkeys(warning for generation in generations for warning in generation.warnings))
    told += [f"A request failed: {refusal.message}" for refusal in refusals]
    if got != asked:
        told.append(f"{asked} asked, {got} came; all that came are kept.")
    if any(generation.cost_usd is None for generation in generations):
        told.append("The provider did not say what this cost.")
    return told


def _add_first(result: JsonObject, key: str, values: Sequence[str | None]) -> None:
    known = [value for value in values if value]
    if known:
        result[key] = known[0]
