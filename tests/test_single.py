"""What goes out as plain JSON and what stays a stream, in the handshake era."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.types import Message

from kheish_mcp.media import Media
from kheish_mcp.transports.single import EVENT, single
from tests.conftest import environment
from tests.sites import opened_site

pytestmark = pytest.mark.anyio

STREAM = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"connection", b"keep-alive"), (b"x", b"y")]
START: Message = {"type": "http.response.start", "status": 200, "headers": STREAM}
END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


def piece(data: bytes) -> Message:
    return {"type": "http.response.body", "body": EVENT + data + b"\r\n\r\n", "more_body": True}


async def through(*messages: Message) -> list[Message]:
    """What comes out of a filtered `send`."""
    came: list[Message] = []

    async def send(message: Message) -> None:
        came.append(message)

    filtered = single(send)
    for message in messages:
        await filtered(message)
    return came


@pytest.mark.parametrize(
    "data",
    [
        b'{"jsonrpc":"2.0","id":1,"result":{}}',
        b'{"jsonrpc":"2.0","id":"a\\"b","result":{"method":"x"}}',
        b'{"jsonrpc":"2.0","id":-3,"error":{"code":-32602,"message":"no"}}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}',
    ],
)
async def test_an_answer_alone_is_plain_json_with_the_other_headers(data: bytes):
    start, body = await through(START, piece(data), END)
    assert start["headers"] == [
        (b"x", b"y"), (b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())
    ]  # fmt: skip
    assert body["body"] == data
    assert not body.get("more_body")


@pytest.mark.parametrize(
    "data",
    [
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":{}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":"\\"result\\":"}}',
        b'{"jsonrpc":"2.0","id":1,"result":1}\r\n\r\nevent: message\r\ndata: {}',
        b"",
    ],
)
async def test_whatever_is_no_answer_alone_stays_a_stream(data: bytes):
    answer = piece(b'{"jsonrpc":"2.0","id":1,"result":{}}')
    sent = [START, piece(data), answer, END]
    assert await through(*sent) == sent


async def test_a_ping_opens_the_stream():
    ping: Message = {"type": "http.response.body", "body": b": ping - now\r\n\r\n", "more_body": True}
    assert await through(START, ping, END) == [START, ping, END]


async def test_what_is_no_stream_is_left_alone():
    plain: Message = {"type": "http.response.start", "status": 202, "headers": [(b"content-type", b"application/json")]}
    refused: Message = {**START, "status": 400}
    for start in (plain, refused):
        assert await through(start, END) == [start, END]


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_ten_megabytes_reach_a_client_that_takes_one_an_event(state_root: Path, mode: str):
    text = "kheish " * 1_500_000
    async with (
        opened_site(environment(state_root), state_root.parent) as site,
        site.client("streamable", mode) as client,
    ):
        asset = await site.daemon.parts.assets.keep(Media(text.encode(), "text/plain"), owner="local")
        [contents] = (await client.read_resource(asset.uri)).contents
        assert json.loads(contents.model_dump_json())["text"] == text
