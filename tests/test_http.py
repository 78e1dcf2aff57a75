"""One provider over HTTP, against a server that keeps to a script byte by byte: what leaves, what comes, what it cost."""

from __future__ import annotations

import gzip
import json
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream, TaskGroup
from anyio.streams.buffered import BufferedByteReceiveStream

from kheish_mcp.capabilities import Exchange
from kheish_mcp.drivers.answers import LARGEST_REFUSAL, PARSE_IN_THREAD, Answer
from kheish_mcp.drivers.http import Endpoint, Line
from kheish_mcp.errors import (
    Aborted,
    DataLoss,
    DeadlineExceeded,
    InvalidArgument,
    KheishError,
    NotFound,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from kheish_mcp.secret import MASK, Secret
from tests.clocks import Clockwork

pytestmark = pytest.mark.anyio
KEY = "sk-or-v1-line0123456789abcdef0123456789abcdef"
PROMPT = "a very private prompt"
SOON = 30.0


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    line: str
    headers: dict[str, str]
    head: bytes
    body: bytes


Act = Callable[[SocketStream, Asked], Awaitable[None]]


@dataclass
class Provider:
    """A server on 127.0.0.1 that answers each request by the next act of its script, and the last one for ever."""

    script: list[Act]
    asked: list[Asked] = field(default_factory=list)
    heads: int = 0
    left: anyio.Event = field(default_factory=anyio.Event)
    reads_bodies: bool = True
    port: int = 0

    @property
    def base_url(self) -> str:
        """Where it is, with a path as OpenRouter has one."""
        return f"http://127.0.0.1:{self.port}/api/v1"

    async def serve(self, stream: SocketStream) -> None:
        """One connection, until the client leaves; `left` then says so."""
        buffered = BufferedByteReceiveStream(stream)
        try:
            async with stream:
                while True:
                    await self._answer(stream, buffered)
        except (anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
            self.left.set()

    async def _answer(self, stream: SocketStream, buffered: BufferedByteReceiveStream) -> None:
        head = await buffered.receive_until(b"\r\n\r\n", 1 << 16)
        self.heads += 1
        line, *rest = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in rest)}
        length = int(headers.get("content-length", "0")) if self.reads_bodies else 0
        body = await buffered.receive_exactly(length)
        asked = Asked(line, headers, head, body)
        self.asked.append(asked)
        await (self.script.pop(0) if len(self.script) > 1 else self.script[0])(stream, asked)


def answer(body: bytes | str = b'{"ok": true}', status: int = 200, /, **headers: str) -> Act:
    """An act: one whole answer."""
    raw = body.encode() if isinstance(body, str) else body
    named = {"content_type": "application/json", "content_length": str(len(raw)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items())

    async def act(stream: SocketStream, asked: Asked) -> None:
        await stream.send(f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode() + raw)

    return act


def broken_off(head: str, body: bytes = b"", *, reset: bool = False) -> Act:
    """An act: a beginning, and then nothing more; with a reset where that is asked."""

    async def act(stream: SocketStream, asked: Asked) -> None:
        if head:
            await stream.send(head.encode() + body)
        if reset:
            stream.extra(SocketAttribute.raw_socket).setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")  # SO_LINGER 0: a RST
        raise anyio.EndOfStream

    return act


async def silence(stream: SocketStream, asked: Asked) -> None:
    """An act: nothing, until the client leaves."""
    await stream.receive()


@asynccontextmanager
async def provider(*script: Act, **more: Any) -> AsyncGenerator[Provider]:
    """A running server."""
    served = Provider(list(script) or [answer()], **more)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        served.port = listener.extra(SocketAttribute.local_port)
        group.start_soon(listener.serve, served.serve)
        with anyio.fail_after(SOON * 4):
            yield served
        group.cancel_scope.cancel()


@asynccontextmanager
async def line_to(served: Provider, *, key: str | None = KEY, **more: Any) -> AsyncGenerator[Line]:
    """A line to it that waits for nothing between attempts, closed at the end."""
    clock = {"clock": Clockwork().clock}
    line = Line(Endpoint("home", served.base_url, None if key is None else Secret(key)), **{**clock, **more})
    try:
        yield line
    finally:
        await line.close()


async def ask(line: Line, exchange: Exchange | None = None, **more: Any) -> Answer:
    """One POST of a prompt."""
    return await line.post_json("/images", {"prompt": PROMPT}, exchange or Exchange(), **{"deadline_s": SOON, **more})


async def refused(line: Line, kind: type[KheishError], billed: bool, **more: Any) -> KheishError:
    """One POST that has to be refused, with what is known of the money."""
    with pytest.raises(kind) as caught:
        await ask(line, **more)
    assert caught.value.details["possibly_billed"] is billed
    assert KEY not in json.dumps(caught.value.as_json())
    assert PROMPT not in json.dumps(caught.value.as_json())
    return caught.value


# What leaves


async def test_a_request_is_json_with_the_key_in_one_header_and_nowhere_else():
    async with provider() as served, line_to(served, headers={"X-Title": "kheish-mcp"}) as line:
        got = await ask(line)
    [asked] = served.asked
    assert await got.json() == {"ok": True}
    assert asked.line == "POST /api/v1/images HTTP/1.1"
    assert json.loads(asked.body) == {"prompt": PROMPT}
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert (asked.head + asked.body).count(KEY.encode()) == 1
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["user-agent"].startswith("kheish-mcp/")
    assert asked.headers["x-title"] == "kheish-mcp"
    assert "transfer-encoding" not in asked.headers


async def test_a_line_without_a_key_says_nothing_of_one():
    async with provider() as served, line_to(served, key=None) as line:
        await ask(line)
    assert "authorization" not in served.asked[0].headers


@pytest.mark.parametrize(
    "key", ["sk-or-v1-two\nlines0123", " sk-or-v1-space0123", "sk-or-v1-ключ01234", "sk-or-v1-\x00null0123"]
)
async def test_a_key_that_no_header_takes_is_refused_before_anything_is_dialled_and_is_not_told(key: str):
    async with provider() as served, line_to(served, key=key) as line:
        with pytest.raises(Unauthenticated) as caught:
            await ask(line)
    assert served.heads == 0
    assert key not in json.dumps(caught.value.as_json(), ensure_ascii=False)
    assert caught.value.hint


async def test_a_key_stands_in_no_repr():
    async with provider() as served, line_to(served) as line:
        assert KEY not in repr(line.endpoint)
        assert KEY not in repr(line)
        assert len({line.endpoint, Endpoint("home", served.base_url, Secret(KEY))}) == 1


async def test_a_large_body_arrives_whole_and_half_a_surrogate_pair_leaves_too():
    body = {"prompt": "caf\u00e9 \ud83d", "data": "x" * 3_000_001}
    async with provider() as served, line_to(served) as line:
        await line.post_json("/images", body, Exchange(), deadline_s=SOON)
    assert json.loads(served.asked[0].body) == body


async def test_nothing_is_learnt_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with provider() as served, line_to(served) as line:
        await ask(line)
    assert len(served.asked) == 1
    assert os.environ["HTTP_PROXY"]


async def test_nothing_of_a_request_is_logged(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    async with provider(answer("{}", 400)) as served, line_to(served) as line:
        with pytest.raises(InvalidArgument):
            await line.get_json("/key?token=hidden-in-the-query", deadline_s=SOON)
        await refused(line, InvalidArgument, billed=False)
    logged = "\n".join(record.getMessage() for record in caplog.records)
    assert not [word for word in (KEY, PROMPT, "hidden-in-the-query", "/api/v1") if word in logged]


async def test_a_get_has_the_key_and_no_body():
    async with provider(answer('{"data": 1}')) as served, line_to(served) as line:
        got = await line.get_json("/key", deadline_s=SOON)
    assert await got.json() == {"data": 1}
    assert served.asked[0].line == "GET /api/v1/key HTTP/1.1"
    assert served.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert not {"content-length", "content-type"} & set(served.asked[0].headers)


async def test_one_connection_serves_one_call_after_the_other_and_a_closed_line_opens_again():
    async with provider() as served, line_to(served) as line:
        await ask(line)
        await ask(line)
        assert not served.left.is_set()
        await line.close()
        await served.left.wait()
        await ask(line)
    assert len(served.asked) == 3


# What is told meanwhile


async def test_sent_comes_before_the_body_leaves_and_responded_before_the_answer_s_body():
    story: list[Any] = []
    answered = anyio.Event()

    async def slowly(stream: SocketStream, asked: Asked) -> None:
        story.append("asked")
        await stream.send(b"HTTP/1.1 200 OK\r\nX-Generation-Id: gen-1\r\nContent-Length: 2\r\n\r\n")
        await answered.wait()
        await stream.send(b"{}")

    async def sent() -> None:
        story.append(("sent", len(served.asked)))

    async def responded(generation_id: str | None) -> None:
        story.append(("responded", generation_id))
        answered.set()

    async with provider(slowly) as served, line_to(served) as line:
        got = await ask(line, Exchange(sent, responded))
    assert story == [("sent", 0), "asked", ("responded", "gen-1")]
    assert got.generation_id == "gen-1"


async def test_a_ledger_that_cannot_be_written_keeps_the_request_here():
    async def sent() -> None:
        raise Aborted("The row is gone.")

    async with provider() as served, line_to(served) as line:
        with pytest.raises(Aborted):
            await ask(line, Exchange(sent))
        await served.left.wait()
    assert served.asked == []


async def test_a_hook_s_own_timeout_is_not_taken_for_the_provider_s():
    async def sent() -> None:
        raise TimeoutError

    async with provider() as served, line_to(served) as line:
        with pytest.raises(TimeoutError):
            await ask(line, Exchange(sent))


@pytest.mark.parametrize("stated", ["", "x" * 201, "caf\u00e9"])
async def test_an_id_that_cannot_be_kept_is_none(stated: str):
    async def act(stream: SocketStream, asked: Asked) -> None:
        head = f"HTTP/1.1 200 OK\r\nX-Generation-Id: {stated}\r\nContent-Length: 2\r\n\r\n{{}}"
        await stream.send(head.encode("latin-1"))

    async with provider(act) as served, line_to(served) as line:
        assert (await ask(line)).generation_id is None


# What comes


@pytest.mark.parametrize(
    ("act", "word"),
    [
        (answer(""), "empty"),
        (answer(" \n\t"), "empty"),
        (answer("<p>Hello</p>", content_type="Text/HTML; charset=utf-8"), "web page"),
        (answer("\n<!DOCTYPE html><html></html>"), "web page"),
        (answer("<HTML><body>", content_type="text/plain"), "web page"),
    ],
)
async def test_a_200_without_a_result_is_a_failure_that_may_have_been_billed(act: Act, word: str):
    async with provider(act) as served, line_to(served) as line:
        refusal = await refused(line, Unavailable, billed=True)
    assert word in refusal.message
    assert "html" not in refusal.message.lower()


@pytest.mark.parametrize(
    "body", [b"{", b"nothing", b"\xff\xfe\xfa{}", b"[" * 100_000, b"[" + b"1," * PARSE_IN_THREAD, b"9" * 5000],
    ids=["half", "words", "bytes", "deep", "large", "digits"],
)  # fmt: skip
async def test_a_body_that_is_not_json_is_a_failure(body: bytes):
    async with provider(answer(body)) as served, line_to(served) as line:
        got = await ask(line)
        with pytest.raises(Unavailable, match="not JSON") as caught:
            await got.json()
    assert caught.value.details["possibly_billed"] is True
    assert caught.value.remains == (body,)


async def test_countless_values_are_not_even_parsed():
    body = b"[" + b"[]," * 1_000_001 + b"1]"
    async with provider(answer(body)) as served, line_to(served) as line:
        got = await ask(line)
        with pytest.raises(Unavailable, match="far too many values") as caught:
            await got.json()
    assert caught.value.remains == (body,)


async def test_json_may_be_large_and_begin_with_white_space_and_repeat_itself():
    body = b" \n  " + b'{"a": 1, "a": "' + b"x" * PARSE_IN_THREAD + b'"}'
    async with provider(answer(body)) as served, line_to(served) as line:
        assert await (await ask(line)).json() == {"a": "x" * PARSE_IN_THREAD}


async def test_an_answer_is_taken_up_to_the_limit_and_not_a_byte_further():
    async with provider(answer(b"x" * 1000)) as served, line_to(served) as line:
        assert len((await ask(line, largest=1000)).body) == 1000
        refusal = await refused(line, Unavailable, billed=True, largest=999)
        assert "larger" in refusal.message
        await served.left.wait()


async def test_a_compressed_answer_is_unpacked_and_a_bomb_is_not():
    bomb = gzip.compress(bytes(40 << 20))
    assert len(bomb) < 64 << 10
    async with provider(
        answer(gzip.compress(b'{"packed": true}'), content_encoding="gzip"),
        answer(bomb, content_encoding="gzip"),
        answer(b"not gzip", content_encoding="gzip"),
    ) as served, line_to(served) as line:  # fmt: skip
        assert await (await ask(line)).json() == {"packed": True}
        assert "larger" in (await refused(line, Unavailable, billed=True, largest=1 << 20)).message
        assert "unpack" in (await refused(line, Unavailable, billed=True)).message


# What is refused


async def test_a_refusal_has_the_provider_s_sentence_without_the_key():
    body = json.dumps(
        {"error": {"code": 400, "message": f"Bad header: Authorization: Bearer {KEY}", "metadata": {"raw": KEY}}}
    )
    async with provider(answer(body, 400)) as served, line_to(served) as line:
        refusal = await refused(line, InvalidArgument, billed=False)
    assert "Bad header" in refusal.message


@pytest.mark.parametrize(
    ("act", "kind", "billed"),
    [
        (answer("slow down", 429, retry_after="7", content_type="text/plain"), ResourceExhausted, False),
        (answer("<html>cloudflare</html>", 524, content_type="text/html"), DeadlineExceeded, True),
        (answer("", 502), Unavailable, False),
        (answer("[" * 100_000, 404), NotFound, False),
        (answer(b"\xff\xfe\x00binary", 503), Unavailable, False),
        (answer("no", 204, content_length="0"), Unavailable, False),
    ],
)
async def test_the_status_decides_whatever_the_body_is(act: Act, kind: type[KheishError], billed: bool):
    async with provider(act) as served, line_to(served) as line:
        refusal = await refused(line, kind, billed=billed)
    assert "<" not in refusal.message


async def test_a_refusal_s_wait_is_read_from_its_headers():
    async with provider(answer("slow down", 429, retry_after="7")) as served, line_to(served) as line:
        refusal = await refused(line, ResourceExhausted, billed=False)
    assert refusal.retry_after_s == 7
    assert refusal.message == "The provider refused: slow down."


async def test_a_refusal_that_is_cut_short_is_still_that_refusal():
    cut = broken_off("HTTP/1.1 401 No\r\nContent-Length: 1000\r\n\r\n", b'{"error":')
    async with provider(cut) as served, line_to(served) as line:
        await refused(line, Unauthenticated, billed=False)


async def test_a_refusal_that_never_ends_is_left_after_its_beginning():
    async def endless(stream: SocketStream, asked: Asked) -> None:
        await stream.send(b"HTTP/1.1 402 No\r\nContent-Length: 99999999999\r\n\r\n")
        while True:
            await stream.send(b"x" * LARGEST_REFUSAL)

    async with provider(endless) as served, line_to(served) as line:
        with anyio.fail_after(SOON):
            assert len((await refused(line, ResourceExhausted, billed=False, deadline_s=60)).message) < 600
            await served.left.wait()


async def test_a_redirect_is_not_followed():
    async with provider() as other:
        elsewhere = f"{other.base_url}/images"
        async with provider(answer("", 307, location=elsewhere)) as served, line_to(served) as line:
            refusal = await refused(line, Unavailable, billed=False)
    assert other.heads == 0
    assert str(other.port) not in refusal.message
    assert refusal.hint is not None
    assert "base_url" in refusal.hint


async def test_the_driver_s_own_hints_are_used():
    async with provider(answer("{}", 402)) as served, line_to(served, hints={402: "Top up there."}) as line:
        assert (await refused(line, ResourceExhausted, billed=False)).hint == "Top up there."


async def test_a_200_that_holds_an_error_is_known():
    async with provider() as served, line_to(served) as line:
        refusal = line.refusal_in({"error": {"code": 402, "message": f"No credit for {KEY}"}})
        assert isinstance(refusal, ResourceExhausted)
        assert KEY not in refusal.message
        assert line.refusal_in({"data": [], "error": None}) is None


# What is tried again


async def test_a_429_that_says_when_to_come_back_is_asked_again_then_and_each_attempt_is_told():
    story: list[Any] = []

    async def sent() -> None:
        story.append(("sent", len(served.asked)))

    async def responded(generation_id: str | None) -> None:
        story.append("responded")

    async def again() -> None:
        story.append("again")

    busy = answer('{"error": {"message": "slow down"}}', 429, retry_after="7")
    works = Clockwork()
    async with provider(busy, answer()) as served, line_to(served, clock=works.clock) as line:
        assert await (await ask(line, Exchange(sent, responded, again=again), deadline_s=4 * SOON)).json() == {
            "ok": True
        }
    assert works.waits == [7.0]
    assert story == [("sent", 0), "responded", "again", ("sent", 1), "responded"]
    assert served.asked[0].body == served.asked[1].body
    assert served.asked[0].headers == served.asked[1].headers


async def test_a_502_in_json_is_asked_again_once_and_one_in_html_is_not():
    for act, requests in ((answer('{"error": {}}', 502), 2), (answer("<html>", 502, content_type="text/html"), 1)):
        async with provider(act) as served, line_to(served) as line:
            await refused(line, Unavailable, billed=False)
        assert len(served.asked) == requests


async def test_a_provider_that_comes_back_is_dialled_again():
    told: list[str] = []

    async def progress(sentence: str) -> None:
        told.append(sentence)

    async with provider() as served:
        pass
    works = Clockwork()
    async with line_to(served, clock=works.clock) as line:
        refusal = await refused(line, Unavailable, billed=False, exchange=Exchange(progress=progress))
    assert len(works.waits) == 2
    assert told == ["home: it cannot be reached; asking again in 0 s"] * 2
    assert "cannot be reached" in refusal.message


async def test_a_handshake_that_fails_is_dialled_again_and_has_told_the_provider_nothing():
    hellos: list[bytes] = []

    async def hang_up(stream: SocketStream) -> None:
        async with stream:
            hellos.append(await stream.receive())

    works = Clockwork()
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, hang_up)
        place = f"https://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/api/v1"
        line = Line(Endpoint("home", place, Secret(KEY)), clock=works.clock)
        refusal = await refused(line, Unavailable, billed=False)
        await line.close()
        group.cancel_scope.cancel()
    assert "cannot be reached" in refusal.message
    assert len(hellos) == 3
    assert len(works.waits) == 2


async def test_all_attempts_share_one_deadline():
    async def waits_for_ever(seconds: float) -> None:
        await anyio.sleep_forever()

    clock = replace(Clockwork().clock, sleep=waits_for_ever)
    async with provider(answer("{}", 429, retry_after="0.1")) as served, line_to(served, clock=clock) as line:
        refusal = await refused(line, DeadlineExceeded, billed=False, deadline_s=1.5)
    assert "1.5 s" in refusal.message
    assert len(served.asked) == 1


async def test_a_get_with_the_key_is_asked_once_and_a_paid_picture_s_link_again():
    async with provider(answer("{}", 429, retry_after="1")) as served, line_to(served) as line:
        with pytest.raises(ResourceExhausted):
            await line.get_json("/key", deadline_s=SOON)
        assert len(served.asked) == 1
        with pytest.raises(ResourceExhausted):
            await line.fetch(f"http://127.0.0.1:{served.port}/1.png", deadline_s=SOON)
        assert len(served.asked) == 1 + 3


# What was paid for and makes no sense


@pytest.mark.parametrize(
    ("act", "remains"),
    [
        (broken_off("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b'{"data":'), (b'{"data":',)),
        (broken_off("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"), ()),
        (answer("\n<!DOCTYPE html><p>"), (b"\n<!DOCTYPE html><p>",)),
        (answer(""), ()),
        (
            answer(f'<html>{{"authorization": "Bearer {KEY}"}}'),
            (f'<html>{{"authorization": "Bearer {MASK}"}}'.encode(),),
        ),
        (answer('{"error": "half a refusal', 400), ()),
    ],
)
async def test_what_came_of_a_200_goes_with_its_refusal_and_the_key_does_not(act: Act, remains: tuple[bytes, ...]):
    async with provider(act) as served, line_to(served) as line:
        with pytest.raises(KheishError) as caught:
            await ask(line)
    assert caught.value.remains == remains


async def test_what_trickled_in_until_the_deadline_goes_with_the_refusal():
    async def half(stream: SocketStream, asked: Asked) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
        await stream.receive()

    async with provider(half) as served, line_to(served) as line:
        assert (await refused(line, DeadlineExceeded, billed=True, deadline_s=1.5)).remains == (b"half",)


async def test_more_than_the_limit_is_not_kept():
    async with provider(answer(b"x" * 1000)) as served, line_to(served) as line:
        assert (await refused(line, Unavailable, billed=True, largest=999)).remains == ()


async def test_an_answer_that_has_come_is_read_also_for_who_has_left():
    with anyio.CancelScope() as scope:
        scope.cancel()
        read = await Answer(b'"' + b"x" * PARSE_IN_THREAD + b'"', "application/json", None).json()
    assert read == "x" * PARSE_IN_THREAD


async def test_whatever_refuses_an_answer_from_here_on_carries_it():
    got = Answer(b"a body", "application/json", None)
    for raised, remains in ((InvalidArgument("No."), (b"a body",)), (DataLoss("No.", remains=(b"x",)), (b"x",))):
        with pytest.raises(KheishError) as caught, got.kept():
            raise raised
        assert caught.value.remains == remains


# What breaks


async def test_a_provider_that_is_not_there_was_told_nothing():
    story: list[str] = []

    async def sent() -> None:
        story.append("sent")

    async with provider() as served:
        pass
    async with line_to(served) as line:
        refusal = await refused(line, Unavailable, billed=False, exchange=Exchange(sent))
    assert refusal.retryable
    assert story == []


@pytest.mark.parametrize(
    "act",
    [
        broken_off(""),
        broken_off("", reset=True),
        broken_off("HTTP/1.1 200 OK\r\nContent-Le"),
        broken_off("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b'{"data":'),
        broken_off("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b'8\r\n{"data":\r\n'),
        broken_off("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b'{"data":', reset=True),
        broken_off("SSH-2.0-OpenSSH_9.6\r\n"),
    ],
    ids=["closed", "reset", "half a head", "half a body", "half the chunks", "reset body", "not http"],
)
async def test_a_line_that_breaks_after_the_request_had_left_may_have_been_billed(act: Act):
    async with provider(act) as served, line_to(served) as line:
        refusal = await refused(line, Unavailable, billed=True)
    assert not refusal.retryable
    assert len(served.asked) == 1


async def test_a_line_that_breaks_before_the_request_had_left_was_not_billed():
    async with provider(broken_off("", reset=True), reads_bodies=False) as served, line_to(served) as line:
        with pytest.raises(Unavailable) as caught:
            await line.post_json("/images", {"data": "x" * (32 << 20)}, Exchange(), deadline_s=SOON)
    assert caught.value.details == {"possibly_billed": False}
    assert caught.value.retryable


async def test_an_answer_that_trickles_for_ever_ends_at_the_deadline_and_the_socket_is_closed():
    async def drip(stream: SocketStream, asked: Asked) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            await stream.send(b" ")
            await anyio.lowlevel.checkpoint()

    async with provider(drip) as served, line_to(served) as line:
        refusal = await refused(line, DeadlineExceeded, billed=True, deadline_s=1.5)
        with anyio.fail_after(SOON):
            await served.left.wait()
    assert "1.5 s" in refusal.message


async def test_a_request_that_nobody_reads_ends_at_the_deadline_and_was_not_billed():
    async def deaf(stream: SocketStream, asked: Asked) -> None:
        await anyio.sleep_forever()

    larger_than_every_buffer = {"data": "x" * (32 << 20)}
    async with provider(deaf, reads_bodies=False) as served, line_to(served) as line:
        with pytest.raises(DeadlineExceeded) as caught:
            await line.post_json("/images", larger_than_every_buffer, Exchange(), deadline_s=0.5)
    assert caught.value.details == {"possibly_billed": False}
    assert caught.value.retryable


async def test_a_cancelled_call_closes_its_socket_and_leaves_the_line_usable():
    async with provider(silence, answer()) as served, line_to(served) as line:

        async def first(group: TaskGroup) -> None:
            async def asked() -> None:
                while not served.asked:
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()

            group.start_soon(asked)
            await ask(line)

        async with anyio.create_task_group() as group:
            group.start_soon(first, group)
        with anyio.fail_after(SOON):
            await served.left.wait()
        assert await (await ask(line)).json() == {"ok": True}


# URLs that an answer names


async def test_a_url_of_the_provider_s_own_is_fetched_without_the_key():
    async with provider(answer(b"\x89PNG", content_type="image/png")) as served, line_to(served) as line:
        got = await line.fetch(f"http://127.0.0.1:{served.port}/files/1.png?sig=x#here", deadline_s=SOON)
    assert got.body == b"\x89PNG"
    assert served.asked[0].line == "GET /files/1.png?sig=x HTTP/1.1"
    assert KEY.encode() not in served.asked[0].head


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:{port}/1.png",
        "http://127.0.0.1:{other}/1.png",
        "http://localhost:{port}/1.png",
        "http://127.1:{port}/1.png",
        "http://2130706433:{port}/1.png",
        "http://[::ffff:127.0.0.1]:{port}/1.png",
        "http://user@127.0.0.1:{port}/1.png",
        "http://127.0.0.1:{port}@127.0.0.1:{other}/1.png",
        "http://127.0.0.1:{port}\\@127.0.0.1:{other}/1.png",
        "http://127.0.0.1/1.png",
        "http://169.254.169.254/latest/meta-data/",
        "//127.0.0.1:{port}/1.png",
        "/1.png",
        "file:///etc/hostname",
        "data:image/png;base64,aGk=",
        "javascript:alert(1)",
        "http://127.0.0.1:99999/",
        "http://[::1",
        "http://127.0.0.1:{port}/\r\nX: y",
        "",
        "x" * 70_000,
    ],
)
async def test_a_url_of_anybody_else_is_not_dialled(url: str):
    async with provider() as served, provider() as other, line_to(served) as line:
        with pytest.raises(Unavailable) as caught:
            await line.fetch(url.format(port=served.port, other=other.port), deadline_s=SOON)
        assert (served.heads, other.heads) == (0, 0)
    assert caught.value.details == {"possibly_billed": True}


async def test_a_default_port_that_is_written_out_is_the_same_place():
    line = Line(Endpoint("home", "http://127.0.0.1:80/api/v1", None))
    with pytest.raises(KheishError) as caught:
        await line.fetch("http://127.0.0.1/1.png", deadline_s=0.0)
    assert isinstance(caught.value, DeadlineExceeded)  # it was taken as its own; there was only no time


async def test_a_redirect_of_the_provider_s_own_url_is_not_followed():
    async with provider() as other:
        moved = answer("", 302, location=f"http://127.0.0.1:{other.port}/1.png")
        async with provider(moved) as served, line_to(served) as line:
            with pytest.raises(Unavailable):
                await line.fetch(f"http://127.0.0.1:{served.port}/1.png", deadline_s=SOON)
    assert other.heads == 0
