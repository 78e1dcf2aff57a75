"""How a call goes is told to whoever waits: in time, in words, and without ever costing the call."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from kheish_mcp.capabilities import Exchange
from kheish_mcp.drivers.course import Course
from kheish_mcp.errors import Unavailable

pytestmark = pytest.mark.anyio
SOON = 30.0
BEAT = 0.005


class Waiting:
    """Somebody who waits: what was told, and an event at the first sentence that holds the word awaited."""

    def __init__(self, word: str = "") -> None:
        self.told: list[str] = []
        self.word = word
        self.heard = anyio.Event()

    async def progress(self, sentence: str) -> None:
        """Hears a sentence."""
        self.told.append(sentence)
        if self.word in sentence:
            self.heard.set()

    def course(self) -> Course:
        """A call that this one waits for."""
        return Course("home", Exchange(progress=self.progress), "the pictures")


async def test_a_call_that_takes_long_is_told_again_and_again():
    waiting = Waiting()
    course = waiting.course()

    async def work() -> str:
        await course.leaves()
        while len(waiting.told) < 3:
            await anyio.lowlevel.checkpoint()
        return "whole"

    with anyio.fail_after(SOON):
        assert await course.told(work, BEAT) == "whole"
    assert waiting.told == ["home: waiting for the pictures"] * 3


async def test_each_stage_has_its_words():
    waiting = Waiting()
    course = waiting.course()

    async def next_beat() -> None:
        waiting.told.clear()
        waiting.heard = anyio.Event()
        await waiting.heard.wait()

    async def work() -> list[str]:
        beats: list[str] = []
        for stage in (
            course.leaves,
            partial(course.is_answered, "gen-1"),
            course.lives,
            partial(course.rests, "too many requests", 12.4),
        ):
            await next_beat()
            beats += waiting.told
            await stage()
        await next_beat()
        return beats + waiting.told

    with anyio.fail_after(SOON):
        assert await course.told(work, BEAT) == [
            "home: connecting",
            "home: waiting for the pictures",
            "home: receiving the pictures",
            "home: the provider is at work on the pictures",
            "home: too many requests; asking again",
        ]


async def test_a_retry_is_told_at_once_with_its_seconds():
    waiting = Waiting()
    await waiting.course().rests("too many requests", 12.4)
    assert waiting.told == ["home: too many requests; asking again in 12 s"]


async def test_signs_of_life_are_told_once_and_then_with_the_beat():
    waiting = Waiting()
    course = waiting.course()
    for _ in range(50):
        await course.lives()
    assert waiting.told == ["home: the provider is at work on the pictures"]


async def test_nothing_is_told_any_more_once_the_call_has_ended():
    waiting = Waiting()

    async def fails() -> None:
        await waiting.heard.wait()
        raise Unavailable("It broke.")

    with pytest.raises(Unavailable, match="It broke") as caught, anyio.fail_after(SOON):
        await waiting.course().told(fails, BEAT)
    told = len(waiting.told)
    await anyio.wait_all_tasks_blocked()
    assert len(waiting.told) == told
    assert caught.value.__cause__ is None


async def test_a_cancel_reaches_the_work_and_is_no_failure():
    waiting, ended = Waiting(), anyio.Event()

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    with anyio.fail_after(SOON):
        async with anyio.create_task_group() as group:
            group.start_soon(waiting.course().told, work, BEAT)
            await waiting.heard.wait()
            group.cancel_scope.cancel()
    assert ended.is_set()


async def test_a_result_that_has_come_is_not_lost_to_a_cancel_of_that_moment():
    with anyio.CancelScope() as scope:

        async def work() -> str:
            scope.cancel()
            return "whole"

        came = await Waiting().course().told(work, BEAT)
    assert came == "whole"


async def test_who_cannot_be_told_stops_nothing():
    heard = anyio.Event()

    async def progress(sentence: str) -> None:
        heard.set()
        raise OSError("the pipe is gone")

    async def work() -> str:
        await heard.wait()
        await anyio.wait_all_tasks_blocked()
        return "whole"

    with anyio.fail_after(SOON):
        assert await Course("home", Exchange(progress=progress)).told(work, BEAT) == "whole"


async def test_a_new_attempt_begins_with_nothing():
    course = Course("home")
    await course.leaves()
    course.left = course.in_json = True
    course.held += b"half"
    course.start()
    assert (course.begun, course.left, course.in_json, bytes(course.held)) == (False, False, False, b"")


async def test_a_body_that_the_ledger_does_not_let_go_has_not_begun_to_leave():
    async def sent() -> None:
        raise Unavailable("The disk is full.")

    course = Course("home", Exchange(sent))
    with pytest.raises(Unavailable):
        await course.leaves()
    assert not course.begun
