"""What making and changing pictures share: their arguments, and the requests that together bring the asked count."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import anyio
from pydantic import Field

from ..capabilities import Background, Exchange, Generation, ImageFormat, ImageRequest, Quality
from ..catalog import Backend
from ..errors import JsonObject, KheishError
from ..stores.assets import Asset
from ..stores.jobs import Job
from .base import Call, MediaInput
from .paid import keep_paid, origin, save_copies, shown, spend, total

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
    seed: int | None = Field(None, ge=0, le=2**31 - 1, description="For repeatable results.")


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
    """What one request of several came to: its generation and assets, or its refusal."""

    generation: Generation | None = None
    assets: tuple[Asset, ...] = ()
    refusal: KheishError | None = None


async def collect(
    call: Call,
    job: Job,
    backend: Backend[Any],
    requests: Sequence[R],
    ask: Callable[[str, R, Exchange], Awaitable[Generation]],
    sources: Sequence[str] = (),
) -> tuple[Batch, ...]:
    """Sends the requests side by side and keeps what each brings; one that fails does not take the others along."""
    batches: list[Batch] = [Batch()] * len(requests)
    finished = 0

    async def one(index: int, request: R) -> None:
        nonlocal finished
        try:
            generation, row = await spend(call, job, backend, lambda model, exchange: ask(model, request, exchange))
            provenance = origin(call, job, backend, request.prompt, generation, sources)
            kept = await keep_paid(call, row, generation, label=job.tool, provenance=provenance)
            batches[index] = Batch(generation, kept)
        except KheishError as refusal:
            batches[index] = Batch(refusal=refusal)
        finished += 1
        await job.report(f"{backend.route_id}: {finished} of {len(requests)} requests done")

    async with anyio.create_task_group() as group:
        for index, request in enumerate(requests):
            group.start_soon(one, index, request)
    return tuple(batches)


async def finish(
    call: Call, job: Job, backend: Backend[Any], batches: Sequence[Batch], given: PictureInput
) -> JsonObject:
    """The result object of the batches: every picture in order, warnings for what is missing; refuses if all failed."""
    good = [batch for batch in batches if batch.generation is not None]
    refusals = [batch.refusal for batch in batches if batch.refusal is not None]
    if not good:
        raise refusals[0]
    assets = tuple(asset for batch in good for asset in batch.assets)
    generations = [batch.generation for batch in good if batch.generation is not None]
    unique = tuple(dict.fromkeys(assets))
    call.latest[call.owner] = tuple(asset.asset_id for asset in unique)
    paths, warnings = await save_copies(call, unique, given.save_as)
    result: JsonObject = {
        "route_id": backend.route_id,
        "provider": backend.provider,
        "model": generations[0].model,
        "assets": [shown(asset, paths) for asset in assets],
        "cost_usd": total([generation.cost_usd for generation in generations]),
        "job_id": job.job_id,
        "warnings": [*_warnings(generations, refusals, len(assets), given.count), *warnings],
    }
    _add_first(result, "revised_prompt", [generation.revised_prompt for generation in generations])
    _add_first(result, "generation_id", [generation.generation_id for generation in generations])
    return result


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
