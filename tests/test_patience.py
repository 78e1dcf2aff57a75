"""Which failures are tried again and after how long, decided by a clock that waits for nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kheish_mcp.capabilities import Exchange
from kheish_mcp.drivers.course import Course
from kheish_mcp.drivers.patience import (
    CALLS_PER_RETRY,
    CEILINGS_S,
    JITTER_S,
    LONGEST_S,
    RESERVE,
    SHORTEST_S,
    WINDOW_S,
    Budget,
    Patience,
    further_tries,
)
from kheish_mcp.drivers.refusals import failure_of, malformed, refusal_of
from kheish_mcp.errors import Aborted, DataLoss, KheishError, ResourceExhausted, Unauthenticated, Unavailable
from tests.clocks import Clockwork

pytestmark = pytest.mark.anyio
DEADLINE_S = 300.0
JSON = {"error": {"message": "No."}}
UNREACHED = Unavailable("It cannot be reached.", retryable=True, details={"possibly_billed": False})


def answered(status: int, *, body: Any = None, **headers: str) -> KheishError:
    """The refusal for a status, its headers with `_` for `-`."""
    return refusal_of(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def tries(refusal: KheishError, **marks: bool) -> int:
    """What a failure allows after a request that had left."""
    return further_tries(refusal, Course("home", **{"begun": True, "left": True, **marks}))


def script(course: Course, *ends: KheishError | str, works: Clockwork, takes_s: float = 0.0) -> Callable[[], Any]:
    """An attempt that ends as the script says, in its order, each after so many seconds and with its body sent."""
    left = list(ends)

    async def attempt() -> str:
        works.time += takes_s
        end = left.pop(0)
        course.start()
        if end is not UNREACHED:
            await course.leaves()
            course.in_json = True
        if isinstance(end, KheishError):
            raise end
        return end

    return attempt


# What is tried again


@pytest.mark.parametrize(
    ("refusal", "marks", "allowed"),
    [
        (UNREACHED, {"begun": False, "left": False}, 2),
        (answered(429, retry_after="7"), {}, 2),
        (answered(503, retry_after="0"), {}, 2),
        (answered(429, body={"error": {"availability": {"retry_after": 40}}}), {"in_json": True}, 2),
        (answered(502), {"in_json": True}, 1),
        (answered(503), {"in_json": True}, 1),
        (answered(502, retry_after="7"), {"in_json": True}, 1),
        (answered(429), {"in_json": True}, 0),
        (answered(502), {}, 0),
        (answered(503), {}, 0),
        (answered(429, retry_after="7", body={"error": {"availability": {"retryable": False}}}), {}, 0),
    ],
)
def test_only_what_cannot_have_been_billed_is_tried_again(refusal: KheishError, marks: dict[str, bool], allowed: int):
    assert tries(refusal, **marks) == allowed


@pytest.mark.parametrize("status", [307, 400, 401, 402, 403, 404, 405, 408, 413, 422, 500, 501, 504, 520, 524, 529])
def test_no_other_status_is(status: int):
    assert tries(answered(status, retry_after="1"), in_json=True) == 0


@pytest.mark.parametrize("status", [402, 429, 502, 503])
def test_no_error_within_a_200_is(status: int):
    body = {"error": {"code": status, "message": "No.", "availability": {"retryable": True, "retry_after": 1}}}
    assert tries(refusal_of(200, {"retry-after": "1"}, body), in_json=True) == 0


@pytest.mark.parametrize(
    ("kind", "begun", "allowed"),
    [
        ("ConnectError", False, 2), ("ConnectTimeout", False, 2), ("PoolTimeout", False, 2), ("WriteError", False, 2),
        ("UnsupportedProtocol", False, 0), ("LocalProtocolError", False, 0),
        ("WriteError", True, 0), ("WriteTimeout", True, 0), ("ReadError", True, 0), ("ReadTimeout", True, 0),
        ("RemoteProtocolError", True, 0),
    ],
)  # fmt: skip
def test_a_line_that_breaks_is_dialled_anew_only_before_the_body_began_to_leave(kind: str, begun: bool, allowed: int):
    import httpx2

    for left in {False, begun}:
        refusal = failure_of(getattr(httpx2, kind)("x"), "home", left=left)
        assert tries(refusal, begun=begun, left=left) == allowed


@pytest.mark.parametrize(
    "refusal",
    [malformed("Not JSON."), DataLoss("Half a picture."), Unauthenticated("No."), Aborted("The row is gone.")],
    ids=repr,
)
def test_what_is_no_word_of_the_provider_s_is_not(refusal: KheishError):
    assert tries(refusal, begun=False, left=False) == 0


# How it is tried again


async def test_an_answer_comes_after_the_waits_that_were_asked_for_and_each_is_told_and_written_down():
    works, story = Clockwork(), list[str]()

    async def again() -> None:
        story.append("again")

    async def progress(sentence: str) -> None:
        story.append(sentence)

    course = Course("home", Exchange(progress=progress, again=again))
    attempt = script(course, answered(429, retry_after="7"), answered(503, retry_after="9"), "whole", works=works)
    assert await Patience(works.clock).repeat(attempt, course, DEADLINE_S) == "whole"
    assert works.waits == [7.0, 9.0]
    assert story == [
        "home: waiting for the answer", "again", "home: too many requests; asking again in 7 s",
        "home: waiting for the answer", "again", "home: it is overloaded; asking again in 9 s",
        "home: waiting for the answer",
    ]  # fmt: skip


async def test_what_had_not_left_is_not_written_down_again():
    works, story = Clockwork(), list[str]()

    async def again() -> None:
        story.append("again")

    course = Course("home", Exchange(again=again))
    attempt = script(course, UNREACHED, UNREACHED, "whole", works=works)
    assert await Patience(works.clock).repeat(attempt, course, DEADLINE_S) == "whole"
    assert story == []


@pytest.mark.parametrize(
    ("refusals", "attempts"),
    [
        ([UNREACHED] * 9, 3),
        ([answered(429, retry_after="1")] * 9, 3),
        ([answered(502)] * 9, 2),
        ([UNREACHED, answered(502), answered(502)], 2),
        ([UNREACHED, answered(429, retry_after="1"), answered(429, retry_after="1")], 3),
        ([answered(502), answered(429, retry_after="1"), answered(502)], 3),
        ([answered(400)] * 9, 1),
    ],
)
async def test_there_are_never_more_than_two_retries_and_the_last_refusal_is_given_back(
    refusals: list[KheishError], attempts: int
):
    works, course = Clockwork(), Course("home")
    with pytest.raises(KheishError) as caught:
        await Patience(works.clock).repeat(script(course, *refusals, works=works), course, DEADLINE_S)
    assert caught.value is refusals[attempts - 1]
    assert len(works.waits) == attempts - 1


@given(st.floats(0, 1, exclude_max=True))
async def test_a_wait_that_nobody_stated_is_drawn_from_half_a_second_to_a_ceiling_that_grows(chance: float):
    works, course = Clockwork(chance), Course("home")
    with pytest.raises(Unavailable):
        await Patience(works.clock).repeat(script(course, *[UNREACHED] * 3, works=works), course, DEADLINE_S)
    for wait, ceiling in zip(works.waits, CEILINGS_S, strict=True):
        assert wait == pytest.approx(SHORTEST_S + chance * (ceiling - SHORTEST_S))
        assert SHORTEST_S <= wait <= ceiling


async def test_a_stated_wait_is_kept_and_stretched_a_little_so_that_not_all_come_back_at_once():
    works, course = Clockwork(0.5), Course("home")
    attempt = script(course, answered(429, retry_after="7"), "whole", works=works)
    await Patience(works.clock).repeat(attempt, course, DEADLINE_S)
    assert works.waits == [7 + JITTER_S / 2]


@pytest.mark.parametrize(("stated", "deadline_s", "takes_s"), [(LONGEST_S, DEADLINE_S, 0.0), (40.0, 90.0, 5.0)])
async def test_a_wait_that_leaves_half_of_the_time_is_kept(stated: float, deadline_s: float, takes_s: float):
    works, course = Clockwork(), Course("home")
    attempt = script(course, answered(429, retry_after=f"{stated:g}"), "whole", works=works, takes_s=takes_s)
    assert await Patience(works.clock).repeat(attempt, course, deadline_s) == "whole"
    assert works.waits == [stated]


@pytest.mark.parametrize(
    ("stated", "deadline_s", "takes_s"),
    [
        (LONGEST_S + 1, DEADLINE_S, 0.0),
        (3600.0, DEADLINE_S, 0.0),
        (40.0, 90.0, 6.0),
        (46.0, 90.0, 0.0),
    ],
)
async def test_a_longer_one_is_given_back(stated: float, deadline_s: float, takes_s: float):
    works, course = Clockwork(), Course("home")
    attempt = script(course, answered(429, retry_after=f"{stated:g}"), "whole", works=works, takes_s=takes_s)
    with pytest.raises(ResourceExhausted) as caught:
        await Patience(works.clock).repeat(attempt, course, deadline_s)
    assert caught.value.retry_after_s == stated
    assert works.waits == []


async def test_a_ledger_that_says_no_ends_it():
    async def again() -> None:
        raise Aborted("The row has ended.")

    works, course = Clockwork(), Course("home", Exchange(again=again))
    with pytest.raises(Aborted):
        await Patience(works.clock).repeat(script(course, answered(502), "whole", works=works), course, DEADLINE_S)
    assert works.waits == []


# How many


def test_ten_retries_a_minute_are_always_allowed_and_beyond_them_one_for_ten_calls():
    works = Clockwork()
    budget = Budget(works.clock.now)
    assert [budget.take() for _ in range(RESERVE + 1)] == [True] * RESERVE + [False]
    for _ in range((RESERVE + 1) * CALLS_PER_RETRY):
        budget.count_call()
    assert [budget.take(), budget.take()] == [True, False]


def test_a_minute_later_there_are_ten_again():
    works = Clockwork()
    budget = Budget(works.clock.now)
    for _ in range(1000):
        budget.count_call()
    while budget.take():
        works.time += 0.001
    works.time += WINDOW_S + 1
    assert [budget.take() for _ in range(RESERVE + 1)] == [True] * RESERVE + [False]


async def test_all_calls_of_a_route_share_the_budget():
    works, waited = Clockwork(), 0
    patience = Patience(works.clock)
    for _ in range(RESERVE):
        course = Course("home")
        with pytest.raises(Unavailable):
            await patience.repeat(script(course, *[UNREACHED] * 3, works=works), course, DEADLINE_S)
        works.time = 1000.0
        waited = len(works.waits)
    assert waited == RESERVE
