"""What a call may cost and how much of a route may be in use, held against its limits before anything is sent."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, Final

import anyio
import anyio.to_thread

from ..catalog import Backend
from ..errors import KheishError, ResourceExhausted
from ..prices import Amount, Request, amount_of, estimate_usd
from ..stores.jobs import Job
from .base import Call, total
from .paid import reluctantly

DAY_S: Final = 86_400
LEARNING_S: Final = 10.0
CENT_FRACTION: Final = 1e-9  # what adding floats up may be off by


async def plan(
    call: Call, job: Job, backend: Backend[Any], flag: str, requests: Sequence[Request | Amount]
) -> tuple[int, ...]:
    """A ledger row for each of the requests that one call is about to send.

    All are planned before any is sent, and only then compared with the caps: so nobody overtakes anybody. Over a cap it
    is ResourceExhausted with the numbers, and so is a price that nobody knows where a call has a cap.
    """
    estimates = await _estimates(call, job.tool, backend, flag, requests)
    rows = [
        await call.ledger.plan(
            job_id=job.job_id,
            owner=call.owner,
            tool=job.tool,
            route_id=backend.route_id,
            provider=backend.provider,
            model=backend.model,
            estimate_usd=estimate,
        )
        for estimate in estimates
    ]
    refusal = await _over_a_call(call, job, backend, estimates) or await _over_a_day(call, backend, estimates)
    if refusal is None:
        return tuple(rows)
    await give_back(call, rows, refusal)
    raise refusal


async def give_back(call: Call, rows: Sequence[int], refusal: KheishError) -> None:
    """What was planned and is not sent after all: caps no longer count it."""
    for row in rows:
        with reluctantly():
            await call.ledger.failed(row, refusal.code.value)


async def _estimates(
    call: Call, tool: str, backend: Backend[Any], flag: str, requests: Sequence[Request | Amount]
) -> list[float | None]:
    """USD of each request at most: by the model's prices, else by what it has cost lately; None where nobody knows."""
    amounts = await anyio.to_thread.run_sync(lambda: [_amount(request) for request in requests])
    known = _priced(backend, flag, amounts)
    if None not in known:
        return known
    lately = await call.ledger.highest(backend.route_id, backend.model, tool)
    if lately is None and backend.limits.max_cost_usd_per_call is not None:
        with anyio.move_on_after(LEARNING_S):
            await call.learn()
        known = _priced(backend, flag, amounts)
    return [lately if estimate is None else estimate for estimate in known]


def _priced(backend: Backend[Any], flag: str, amounts: Sequence[Amount]) -> list[float | None]:
    card = backend.driver.card(backend.model)
    return [estimate_usd(card, flag, amount) for amount in amounts]


def _amount(request: Request | Amount) -> Amount:
    return request if isinstance(request, Amount) else amount_of(request)


async def _over_a_call(
    call: Call, job: Job, backend: Backend[Any], estimates: Sequence[float | None]
) -> ResourceExhausted | None:
    """The refusal for a call that is dearer than its route allows one to be, or whose price nobody knows.

    What the same call has spent before counts with it.
    """
    cap = backend.limits.max_cost_usd_per_call
    if cap is None:
        return None
    asked = None if total(estimates) is None else await call.ledger.spent_by_job(job.job_id, backend.route_id)
    if asked is not None and asked <= cap + CENT_FRACTION:
        return None
    where = f"[routes.{backend.route_id}.limits]"
    said = "a price that nobody knows" if asked is None else f"an estimated ${asked:.6g}"
    return ResourceExhausted(
        f"This call costs {said}, and route {backend.route_id} allows ${cap:.6g} a call.",
        hint=f"Ask for less, name a model with a known price (list_models), or change max_cost_usd_per_call in {where}.",
        details={
            "cap": "max_cost_usd_per_call", "cap_usd": cap, "estimate_usd": asked, "route_id": backend.route_id,
            "model": backend.model, "possibly_billed": False,
        },
    )  # fmt: skip


async def _over_a_day(call: Call, backend: Backend[Any], estimates: Sequence[float | None]) -> ResourceExhausted | None:
    """The refusal for a call that would take its route over what it may spend a day (UTC).

    A call of unknown price passes as long as something is left of the day.
    """
    cap, asked, now = backend.limits.max_cost_usd_per_day, total(estimates), time.time()
    if cap is None:
        return None
    with_it = await call.ledger.spent(backend.route_id, now - now % DAY_S)
    if with_it <= cap + CENT_FRACTION if asked is not None else with_it < cap:
        return None
    before = round(with_it - sum(estimate or 0.0 for estimate in estimates), 9)
    said = "a price that nobody knows" if asked is None else f"an estimated ${asked:.6g}"
    return ResourceExhausted(
        f"Route {backend.route_id} has spent ${before:.6g} of the ${cap:.6g} that it may spend a day, "
        f"and this call costs {said}.",
        hint=f"Wait until midnight UTC, or change max_cost_usd_per_day in [routes.{backend.route_id}.limits].",
        retryable=True,
        retry_after_s=float(math.ceil(DAY_S - now % DAY_S)),
        details={
            "cap": "max_cost_usd_per_day", "cap_usd": cap, "spent_usd": before, "estimate_usd": asked,
            "route_id": backend.route_id, "model": backend.model, "possibly_billed": False,
        },
    )  # fmt: skip
