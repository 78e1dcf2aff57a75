"""A breaker: what opens it, what does not, how long it rests, and which call closes it again."""

from __future__ import annotations

from contextlib import suppress

import pytest

from kheish_mcp.drivers.breaker import IN_A_ROW, LAST, MOST_MODELS, REST_S, WITHIN_S, Breakers
from kheish_mcp.drivers.refusals import malformed, refusal_of
from kheish_mcp.errors import (
    DataLoss,
    DeadlineExceeded,
    InvalidArgument,
    KheishError,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from tests.clocks import Clockwork

MODEL = "vendor/painter"
DOWN = refusal_of(500, {}, None)


class Route:
    """The breakers of one route, and calls that end as they are told."""

    def __init__(self) -> None:
        self.works = Clockwork()
        self.breakers = Breakers("home", self.works.clock.now)

    def call(self, end: BaseException | None = None, model: str = MODEL) -> None:
        """One call that is let through; it ends well without `end`."""
        try:
            with self.breakers.watching(model):
                if end is not None:
                    raise end
        except BaseException as error:
            if error is not end:
                raise

    def is_open(self, model: str = MODEL) -> bool:
        """Whether a call would be refused; if not, it says nothing of the model's health."""
        try:
            self.call(InvalidArgument("No."), model)
        except Unavailable:
            return True
        return False

    def broken(self) -> Route:
        """The same, open."""
        for _ in range(IN_A_ROW):
            self.call(DOWN)
        return self


@pytest.fixture
def route() -> Route:
    """A route that nobody has called."""
    return Route()


def test_five_failures_in_a_row_open_it_for_half_a_minute(route: Route):
    for _ in range(IN_A_ROW - 1):
        route.call(DOWN)
    assert not route.is_open()
    route.call(DOWN)
    assert route.is_open()
    route.works.time += REST_S - 0.01
    assert route.is_open()
    route.works.time += 0.01
    assert not route.is_open()


def test_the_refusal_costs_nothing_says_when_to_come_back_and_names_model_and_route(route: Route):
    route.broken()
    route.works.time += 3.5
    with pytest.raises(Unavailable) as caught, route.breakers.watching(MODEL):
        raise AssertionError("nothing is let through")
    refusal = caught.value
    assert (refusal.retryable, refusal.retry_after_s, refusal.details) == (True, 27.0, {"possibly_billed": False})
    assert MODEL in refusal.message
    assert "home" in refusal.message
    assert refusal.hint


def test_a_success_between_failures_begins_the_count_anew(route: Route):
    for _ in range(3):
        for _ in range(IN_A_ROW - 1):
            route.call(DOWN)
        route.call()
    assert not route.is_open()


@pytest.mark.parametrize(
    "refusal",
    [
        *(refusal_of(status, {}, {"error": {"message": "No."}}) for status in (307, 400, 401, 402, 403, 404, 408, 413, 429)),
        refusal_of(200, {}, {"error": {"code": 429, "message": "No."}}),
        InvalidArgument("Wrong size."), Unauthenticated("The key holds a line break."), DataLoss("Half a picture."),
        ResourceExhausted("Over the cap."), KeyboardInterrupt(),
    ],
    ids=repr,
)  # fmt: skip
def test_what_the_provider_says_no_to_never_counts_and_does_not_begin_the_count_anew(
    route: Route, refusal: BaseException
):
    for _ in range(LAST):
        route.call(refusal)
    assert not route.is_open()
    for _ in range(IN_A_ROW - 1):
        route.call(DOWN)
    route.call(refusal)
    route.call(DOWN)
    assert route.is_open()


@pytest.mark.parametrize(
    "refusal",
    [
        *(refusal_of(status, {}, None) for status in (500, 502, 503, 504, 524, 529)),
        refusal_of(200, {}, {"error": {"code": 502, "message": "It broke."}}),
        malformed("Not JSON."),
        Unavailable("It cannot be reached.", details={"possibly_billed": False}),
        DeadlineExceeded("It fell silent.", details={"possibly_billed": True}),
    ],
    ids=repr,
)
def test_what_speaks_against_the_provider_counts(route: Route, refusal: KheishError):
    for _ in range(IN_A_ROW):
        route.call(refusal)
    assert route.is_open()


def test_more_than_half_of_twenty_calls_in_a_minute_open_it(route: Route):
    for failed in [True, False] * 9 + [True]:
        route.call(DOWN if failed else None)
    assert not route.is_open()  # ten of nineteen: too few to judge by
    route.call(DOWN)
    assert route.is_open()


def test_exactly_half_of_them_do_not(route: Route):
    for failed in [True, False] * LAST:
        route.call(DOWN if failed else None)
    assert not route.is_open()


def test_what_is_longer_ago_than_a_minute_is_forgotten(route: Route):
    for failed in [True, True, False] * 6:
        route.call(DOWN if failed else None)
        route.works.time += WITHIN_S / 10
    for _ in range(2):
        route.call(DOWN)
    assert not route.is_open()


def test_after_the_rest_one_call_goes_and_others_wait_for_how_it_ends(route: Route):
    route.broken().works.time += REST_S
    with route.breakers.watching(MODEL):
        assert route.is_open()
    assert not route.is_open()
    route.call(DOWN)
    assert not route.is_open()  # the count began anew


def test_a_probe_that_fails_opens_it_for_another_rest(route: Route):
    route.broken().works.time += REST_S
    route.call(DOWN)
    assert route.is_open()
    route.works.time += REST_S - 0.01
    assert route.is_open()
    route.works.time += 0.01
    route.call()
    assert not route.is_open()


@pytest.mark.parametrize("end", [InvalidArgument("No."), KeyboardInterrupt()], ids=repr)
def test_a_probe_that_says_nothing_leaves_the_next_call_to_be_one(route: Route, end: BaseException):
    route.broken().works.time += REST_S
    route.call(end)
    with route.breakers.watching(MODEL):
        assert route.is_open()
    assert not route.is_open()


def test_a_call_from_before_that_works_closes_it_and_one_that_fails_does_not_prolong_it(route: Route):
    with suppress(Unavailable), route.breakers.watching(MODEL):
        route.broken().works.time += 10
        raise DOWN
    route.works.time += REST_S - 10
    with route.breakers.watching(MODEL):
        route.works.time += 1
    with route.breakers.watching(MODEL):
        route.broken()
    assert not route.is_open()


def test_each_model_has_its_own(route: Route):
    route.broken()
    assert not route.is_open("vendor/speaker")


def test_only_so_many_models_are_remembered(route: Route):
    route.broken()
    for number in range(MOST_MODELS):
        route.call(model=f"vendor/{number}")
    assert not route.is_open()
