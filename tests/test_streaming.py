"""A streamed answer: each event as it comes, signs of life as progress, silence and errors as refusals, one connection."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from kheish_mcp.capabilities import Exchange
from kheish_mcp.drivers.http import Endpoint, Line
from kheish_mcp.drivers.streaming import Ending, listen
from kheish_mcp.errors import DeadlineExceeded, Json, KheishError, ResourceExhausted, Unavailable
from kheish_mcp.secret import Secret
from tests.conftest import CANARY
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import faults

pytestmark = pytest.mark.anyio
SOON = 30.0
SHORT = 0.05
ASKED = {"model": "openai/gpt-5.4-mini", "messages": [{"role": "user", "content": "Name a port."}], "stream": True}


@pytest.fixture
async def line(emulator: OpenRouterEmulator) -> AsyncGenerator[Line]:
    """A line to the stand-in."""
    opened = Line(Endpoint("home", emulator.base_url, Secret(CANARY)))
    yield opened
    await opened.close()


async def coming(*parts: bytes, then_silence: bool = False) -> AsyncIterator[bytes]:
    """Parts of a stream, and after them its end or nothing at all."""
    for part in parts:
        yield part
    if then_silence:
        await anyio.sleep_forever()


async def heard_of(parts: AsyncIterator[bytes], **limits: float) -> tuple[list[bytes], int, bool]:
    """The events of these parts, how many signs of life came, and whether the end mark did."""
    events: list[bytes] = []
    alive: list[None] = []

    async def heard(data: bytes) -> None:
        events.append(data)

    async def sign() -> None:
        alive.append(None)

    done = await listen(parts, heard, sign, **{"idle_s": SOON, **limits})
    return events, len(alive), done


async def ask(line: Line, exchange: Exchange | None = None, **more: Any) -> tuple[list[Json], Ending]:
    """One streamed question: its events and how it ended."""
    events: list[Json] = []

    async def take(event: Json) -> None:
        events.append(event)

    limits = {"deadline_s": SOON, "idle_s": SOON, **more}
    ending = await line.stream_json("/chat/completions", ASKED, exchange or Exchange(), take, **limits)
    return events, ending


async def test_events_and_signs_of_life_are_told_apart_and_the_end_mark_is_no_event():
    told = await heard_of(coming(b": a\n\nda", b"ta: 1\n\n: b\n\n", b"data:  [DONE] \n\n"))
    assert told == ([b"1"], 2, True)


async def test_a_stream_without_its_end_mark_is_not_done():
    assert await heard_of(coming(b"data: 1\n\n")) == ([b"1"], 0, False)
    assert await heard_of(coming()) == ([], 0, False)


async def test_nothing_counts_behind_the_end_mark():
    told = await heard_of(coming(b"data: [DONE]\n\ndata: 2\n\n", b"data: 3\n\n: x\n\n"))
    assert told == ([], 0, True)


async def test_silence_in_the_middle_is_a_refusal_that_may_have_been_billed():
    with pytest.raises(DeadlineExceeded, match="fell silent") as caught:
        await heard_of(coming(b"data: 1\n\n", then_silence=True), idle_s=SHORT)
    assert caught.value.details["possibly_billed"] is True


async def test_silence_behind_the_end_mark_is_an_end():
    assert await heard_of(coming(b"data: [DONE]\n\n", then_silence=True), leave_s=SHORT) == ([], 0, True)


async def test_noise_behind_the_end_mark_does_not_last_for_ever():
    async def noise() -> AsyncIterator[bytes]:
        yield b"data: [DONE]\n\n"
        while True:
            await anyio.lowlevel.checkpoint()
            yield b": x\n\n"

    assert await heard_of(noise(), leave_s=SHORT) == ([], 0, True)


async def test_an_answer_comes_event_by_event_before_it_is_whole(line: Line, emulator: OpenRouterEmulator):
    emulator.say("one two three four five six")
    emulator.fail_next(faults.stall())
    events: list[Any] = []

    async def take(event: Json) -> None:
        events.append(event)
        if len(events) == 3:
            emulator.release()

    await line.stream_json("/chat/completions", ASKED, Exchange(), take, deadline_s=SOON, idle_s=SOON)
    assert [event["choices"][0]["delta"]["content"] for event in events[1:7]][:2] == ["one", " two"]


async def test_hooks_tell_what_happens_in_its_order(line: Line, emulator: OpenRouterEmulator):
    story: list[str] = []

    async def sent() -> None:
        story.append("sent")

    async def responded(generation_id: str | None) -> None:
        story.append(f"responded {generation_id}")

    async def progress(sentence: str) -> None:
        story.append(sentence)

    _, ending = await ask(line, Exchange(sent, responded, progress))
    assert story == [
        "sent",
        "home: waiting for the answer",
        f"responded {ending.generation_id}",
        "home: the provider is at work on the answer",
    ]
    assert ending == Ending(emulator.ledger[0].generation_id, done=True)


async def test_one_connection_serves_one_stream_after_the_other(line: Line, emulator: OpenRouterEmulator):
    await ask(line)
    await ask(line)
    assert [seen.disconnected for seen in emulator.requests] == [False, False]
    assert len({seen.peer for seen in emulator.requests}) == 1


async def test_an_answer_at_once_is_one_event(line: Line):
    events: list[Any] = []

    async def take(event: Json) -> None:
        events.append(event)

    body = {**ASKED, "stream": False}
    ending = await line.stream_json("/chat/completions", body, Exchange(), take, deadline_s=SOON, idle_s=SOON)
    assert ending.done
    assert [event["choices"][0]["message"]["role"] for event in events] == ["assistant"]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (faults.stream_error(429), ResourceExhausted),
        (faults.error_in_200(502), Unavailable),
        (faults.malformed_json(), Unavailable),
        (faults.reset_after_headers(), Unavailable),
        (faults.cut_body(), Unavailable),
        (faults.reset_before_headers(), Unavailable),
    ],
    ids=lambda value: getattr(value, "name", value.__name__ if isinstance(value, type) else None),
)
async def test_what_breaks_is_a_refusal_that_may_have_been_billed(
    line: Line, emulator: OpenRouterEmulator, fault: faults.Fault, kind: type[KheishError]
):
    emulator.fail_next(fault)
    with pytest.raises(kind) as caught:
        await ask(line)
    assert caught.value.details["possibly_billed"] is True
    assert "stand-in always says" not in json.dumps(caught.value.as_json())
    assert len(emulator.requests) == 1


async def test_a_refusal_before_the_stream_is_judged_by_its_status(line: Line, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.status(429, "too fast", retry_after=3600))
    with pytest.raises(ResourceExhausted, match="too fast") as caught:
        await ask(line)
    assert (caught.value.retry_after_s, caught.value.details["possibly_billed"]) == (3600, False)


async def test_signs_of_life_alone_do_not_last_for_ever(line: Line, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.keep_alives())
    with pytest.raises(DeadlineExceeded, match="no whole answer within"):
        await ask(line, deadline_s=1.5, idle_s=1)


async def test_who_leaves_early_closes_the_connection(line: Line, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.stall())

    async def take(event: Json) -> None:
        raise Unavailable("I have heard enough.")

    with pytest.raises(Unavailable, match="heard enough"):
        await line.stream_json("/chat/completions", ASKED, Exchange(), take, deadline_s=SOON, idle_s=SOON)
    await anyio.to_thread.run_sync(emulator.wait_for, lambda: emulator.requests[0].disconnected)
    assert emulator.ledger == []
