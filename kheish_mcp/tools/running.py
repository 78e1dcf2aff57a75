"""One call as a job: started, joined or found again; waited for; handed over."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, get_args

import anyio

from ..errors import FailedPrecondition, Json, JsonObject, KheishError, NotFound, from_json
from ..stores.assets import Asset
from ..stores.jobs import JobRecord, Work
from .base import Call, MediaInput, Outcome, Parts, Preview
from .paid import save_copies

REPORT_EVERY_S: Final = 4.5  # so that five seconds are never exceeded
# What a caller wants done with a result is no part of what is paid for.
WISHES: Final = frozenset({"wait_seconds", "preview", "save_as"})
PREVIEWS: Final[Mapping[str, Preview]] = {preview: preview for preview in get_args(Preview)}
SECONDS: Final = re.compile(r", \d+ s$")  # of one exchange; a caller waits for the whole job
ALREADY: Final = (
    "The same call was under way already, and this is its result: nothing was paid twice. "
    "For another one change the arguments."
)


async def run_as_job(
    call: Call, tool: str, given: MediaInput, work: Work, resolved: Mapping[str, Json] | None = None
) -> Outcome:
    """Runs `work` detached from the request and waits for it as long as the caller asked.

    Gives the finished result, or `{"job_id", "status": "working", "hint"}` when the wait is over first. A caller that
    leaves stops waiting, not working; one that says stop stops the job, unless others wait for it. The same call is
    not paid twice: while it is under way it is joined, and an end that nobody has had within ten minutes is given
    once, marked `replayed`. `resolved` replaces arguments by what they stand for, as far as the same call is meant.
    """
    await check_save_as(call, given.save_as)
    arguments = {**given.model_dump(mode="json", exclude_none=True, exclude=set(WISHES)), **(resolved or {})}
    wishes: JsonObject = {"preview": given.preview, "save_as": given.save_as}
    earlier = await _earlier(call, tool, arguments)
    if earlier is None:
        job_id, joined = await call.jobs.start_or_join(call.owner, tool, arguments, work, wishes)
    else:
        job_id, joined = earlier.job_id, earlier.state == "working"
    replayed = earlier is not None and not joined
    if joined and await _was_stopped(call, job_id):
        return await run_as_job(call, tool, given, work, resolved)
    record = await _attended(call, job_id, call.wait_seconds if given.wait_seconds is None else given.wait_seconds)
    if record.state == "working":
        hint = f"It goes on. Call get_job with job_id {job_id} and wait_seconds to fetch the result."
        return Outcome({"job_id": job_id, "status": "working", "hint": hint}, working=job_id)
    outcome = await _handed_over(call, record, given, replayed=replayed)
    return with_warnings(outcome, [ALREADY]) if joined else outcome


async def follow(call: Call, job_id: str, seconds: float) -> JobRecord:
    """Waits up to `seconds` for a job, telling the caller how it goes at every step and at least every five seconds."""
    end = anyio.current_time() + seconds
    with call.jobs.attend(job_id):
        while True:
            record = await call.jobs.get(job_id, call.owner)
            left = end - anyio.current_time()
            if record.state != "working" or left <= 0 or call.jobs.is_released:
                return record
            await call.jobs.news(job_id, min(REPORT_EVERY_S, left))
            await _report(call, job_id)


async def _report(call: Call, job_id: str) -> None:
    """Tells a caller how its job goes, with how long it has taken; what a model says so far is told as it is."""
    record = await call.jobs.get(job_id, call.owner)
    if record.state != "working":
        return
    told = SECONDS.sub("", record.progress)
    is_ours = not told or told.partition(": ")[0] in call.catalog.routes
    age = math.floor(time.time() - record.created_at)
    await call.report(f"{told or 'working'}, {age} s" if is_ours else record.progress)


async def shown_of(call: Call, record: JobRecord) -> tuple[Asset, ...]:
    """The assets that a finished job's result names, in order and each once; those deleted since are left out."""
    listed = (record.result or {}).get("assets")
    ids = [str(entry["asset_id"]) for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    assets: list[Asset] = []
    for asset_id in dict.fromkeys(ids):
        with suppress(NotFound):
            assets.append(await call.assets.get(asset_id, call.owner))
    return tuple(assets)


async def refusal_of(parts: Parts, record: JobRecord) -> KheishError:
    """Why a job failed, whether it may have cost something all the same, and which assets it had brought until then."""
    refusal = from_json(record.error or KheishError("Internal error.").as_json())
    if await parts.ledger.was_billed(record.job_id):
        refusal.details["possibly_billed"] = True
    kept: list[str] = []
    for asset_id in await parts.ledger.kept(record.job_id):
        with suppress(NotFound):
            kept.append((await parts.assets.get(asset_id, record.owner)).asset_id)
    if kept:
        refusal.details["asset_ids"] = [*kept]
        refusal.hint = " ".join(filter(None, (f"What had come is kept as {', '.join(kept)}.", refusal.hint)))
    return refusal


async def result_of(call: Call, record: JobRecord) -> JsonObject:
    """A finished job's result, with what it cost where that has become known since."""
    result = dict(record.result or {})
    if result.get("cost_usd", 0.0) is None:
        result["cost_usd"] = await call.ledger.cost_of_job(record.job_id)
    return result


def wished_preview(record: JobRecord) -> Preview:
    """How much of its result a job's caller wanted to see inline."""
    return PREVIEWS.get(str(record.wishes.get("preview")), "auto")


async def check_save_as(call: Call, path: str | None) -> None:
    """Refuses a path that could not be written, before anything is spent."""
    if path is None:
        return
    if call.workspace is None:
        raise FailedPrecondition(
            "There is no workspace that you may save to.",
            hint="Start the daemon with --workspace-root FOLDER (over HTTP this takes the scope admin), or leave save_as "
            "out: the asset is kept anyway.",
        )
    await call.workspace.check_save(path)


def with_warnings(outcome: Outcome, told: list[str]) -> Outcome:
    """The outcome with more warnings."""
    earlier = outcome.result.get("warnings")
    warnings: list[Json] = [*(earlier if isinstance(earlier, list) else []), *told]
    return Outcome({**outcome.result, "warnings": warnings}, outcome.assets, outcome.preview)


async def _earlier(call: Call, tool: str, arguments: Mapping[str, Json]) -> JobRecord | None:
    """The same call's job that is under way, or whose end nobody has had; a failure only where it may have cost."""
    twin = await call.jobs.twin(call.owner, tool, arguments)
    if twin is None or twin.state != "failed" or await call.ledger.was_billed(twin.job_id):
        return twin
    await call.jobs.mark_delivered(twin.job_id)
    return None


async def _was_stopped(call: Call, job_id: str) -> bool:
    """Whether another caller has stopped a job just before this one could join it."""
    record = await call.jobs.get(job_id, call.owner)
    return record.state == "cancelled" or call.jobs.is_stopping(job_id)


async def _attended(call: Call, job_id: str, seconds: float) -> JobRecord:
    try:
        return await follow(call, job_id, seconds)
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            if await call.wants_stop():
                await call.jobs.give_up(job_id, call.owner)
        raise


async def _handed_over(call: Call, record: JobRecord, given: MediaInput, *, replayed: bool) -> Outcome:
    """A finished job as this caller's outcome; raises the refusal of a failed one."""
    call.hands_over(record.job_id)
    if record.error is not None:
        refusal = await refusal_of(call, record)
        if replayed:
            refusal.details["replayed"] = True
        raise refusal
    result = await result_of(call, record)
    if replayed:
        result["replayed"] = True
    assets = await shown_of(call, record)
    if given.save_as is None or given.save_as == record.wishes.get("save_as"):
        return Outcome(result, assets, given.preview)
    paths, unsaved = await save_copies(call, assets, given.save_as)
    return with_warnings(Outcome(_placed(result, paths), assets, given.preview), unsaved)


def _placed(result: JsonObject, paths: Mapping[str, str]) -> JsonObject:
    """The result with the paths of this caller's own copies."""
    listed = result.get("assets")
    placed: list[Json] = [
        {**entry, "path": paths.get(str(entry["asset_id"]), entry.get("path"))} if isinstance(entry, dict) else entry
        for entry in (listed if isinstance(listed, list) else [])
    ]
    return {**result, "assets": placed}
