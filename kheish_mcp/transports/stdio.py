"""MCP over this process's stdin and stdout, with nothing else ever on stdout."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import mcp_types as t
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.lowlevel.server import Server
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

log = logging.getLogger(__name__)

Incoming = SessionMessage | Exception

READ_BYTES: Final = 1 << 18
LONGEST_LINE: Final = 128 << 20
LAST_WORDS_S: Final = 0.2


async def serve_stdio(server: Server[Any], wire_in: int, wire_out: int, drain: Callable[[], Awaitable[None]]) -> None:
    """Serves one client until it closes its end, then lets `drain` finish what is paid for; a signal ends both at once.

    The SDK's transport ignores SIGINT and skips all clean-up on SIGTERM (measured with mcp 2.3.0), hence this one: a
    daemon thread reads and the event loop writes.
    """
    async with anyio.create_task_group() as group:
        group.start_soon(_cancel_on_signal, group.cancel_scope)
        await _converse(server, wire_in, wire_out)
        await drain()
        group.cancel_scope.cancel()


async def _converse(server: Server[Any], wire_in: int, wire_out: int) -> None:
    to_server, from_client = anyio.create_memory_object_stream[Incoming](64)
    to_client, from_server = anyio.create_memory_object_stream[SessionMessage](64)
    written = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(_write, wire_out, from_server, written, group.cancel_scope)
        _start_reader(wire_in, to_server)
        await server.run(from_client, to_client, server.create_initialization_options())
        to_client.close()
        with anyio.move_on_after(LAST_WORDS_S):
            await written.wait()
        group.cancel_scope.cancel()


def claim_stdio() -> tuple[int, int]:
    """Takes stdin and stdout for the wire, and leaves nothing to read and stderr to write in their places.

    From then on not even a native library's stray print can tear a frame, and no child inherits the wire.
    """
    wire_in, wire_out = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return wire_in, wire_out


async def _cancel_on_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


def _start_reader(fd: int, messages: MemoryObjectSendStream[Incoming]) -> None:
    """Reads in a daemon thread, which holds up neither the loop nor the exit."""
    token = anyio.lowlevel.current_token()

    def read() -> None:
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError, RuntimeError, OSError):
            for line in _lines(fd):
                anyio.from_thread.run(messages.send, _parsed(line), token=token)
        with suppress(RuntimeError):
            anyio.from_thread.run_sync(messages.close, token=token)

    threading.Thread(target=read, name="stdin", daemon=True).start()


def _lines(fd: int) -> Iterator[bytes]:
    """The lines that arrive on `fd`, without their ends; one past the bound ends the conversation."""
    parts: list[bytes] = []
    held = 0
    while chunk := os.read(fd, READ_BYTES):
        *complete, rest = chunk.split(b"\n")
        for piece in complete:
            line = b"".join([*parts, piece]).strip()
            parts, held = [], 0
            if line:
                yield line
        parts.append(rest)
        held += len(rest)
        if held > LONGEST_LINE:
            log.error("a message is longer than %d bytes; the conversation ends", LONGEST_LINE)
            return


def _parsed(line: bytes) -> Incoming:
    """A message, or the error that the server answers with; the error never quotes the line."""
    try:
        return SessionMessage(t.jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValidationError:
        return ValueError("not a JSON-RPC message")


async def _write(
    fd: int, messages: MemoryObjectReceiveStream[SessionMessage], written: anyio.Event, scope: anyio.CancelScope
) -> None:
    """Writes message by message; a client that has gone ends the conversation."""
    try:
        async for message in messages:
            await _send(fd, message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
    except OSError:
        scope.cancel()
    finally:
        written.set()


async def _send(fd: int, frame: bytes) -> None:
    """A frame that fits the pipe goes directly; a longer one in a thread, so that a slow reader stalls no one."""
    if len(frame) <= select.PIPE_BUF and select.select((), (fd,), (), 0)[1]:
        os.write(fd, frame)
    else:
        await anyio.to_thread.run_sync(_write_all, fd, frame, abandon_on_cancel=True)


def _write_all(fd: int, frame: bytes) -> None:
    rest = memoryview(frame)
    while rest:
        rest = rest[os.write(fd, rest) :]
