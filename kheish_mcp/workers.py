"""Untrusted bytes are decoded and drawn in a process that may die."""

from __future__ import annotations

import json
import struct
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.abc import Process

from .errors import DeadlineExceeded, Json, JsonObject, KheishError, MediaRejected, Unavailable, from_json

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

JOBS_EACH: Final = 50
LARGEST: Final = 512 << 20
HEAD: Final = struct.Struct(">II")
LENGTH: Final = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Made:
    """What a craft made: facts, and bytes."""

    facts: JsonObject
    blobs: tuple[bytes, ...]


@dataclass(slots=True)
class Worker:
    """One child with an empty folder of its own; it takes one job at a time."""

    process: Process
    folder: TemporaryDirectory[str]
    done: int = 0

    async def end(self) -> None:
        """Kills the child and takes its folder away."""
        with anyio.CancelScope(shield=True):
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.aclose()
            self.folder.cleanup()


@dataclass(slots=True)
class Workers:
    """At most `size` children, started when they are first needed and kept warm.

    A child gets no environment but a few harmless variables, limits on memory, time, files and descriptors, and its
    own folder; it is replaced after fifty jobs, and killed when a job takes too long or its caller is cancelled.
    """

    size: int = 2
    _idle: list[Worker] = field(default_factory=list)
    _turns: anyio.CapacityLimiter | None = None

    async def run(self, craft: str, parameters: Mapping[str, Json], *blobs: bytes, timeout: float = 30.0) -> Made:  # noqa: ASYNC109 - the child is killed by it, not only left
        """What `craft` makes of the blobs.

        Its own refusals are raised here; MediaRejected where the child died of them, DeadlineExceeded after `timeout`
        seconds.
        """
        if self._turns is None:
            self._turns = anyio.CapacityLimiter(self.size)
        async with self._turns:
            worker = self._idle.pop() if self._idle else await _start()
            try:
                with anyio.fail_after(timeout):
                    made = await _ask(worker.process, craft, parameters, blobs)
            except TimeoutError:
                await worker.end()
                raise DeadlineExceeded(
                    f"{craft} took longer than {timeout:.0f} s and was stopped.", hint="Send something simpler."
                ) from None
            except (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.IncompleteRead):
                await worker.end()
                raise MediaRejected(
                    f"{craft} could not be done within the limits of memory and time.", hint="Send something smaller."
                ) from None
            except BaseException:
                await worker.end()
                raise
            await self._put_back(worker)
        if isinstance(made, KheishError):
            raise made
        return made

    async def close(self) -> None:
        """Ends every child."""
        while self._idle:
            await self._idle.pop().end()

    async def _put_back(self, worker: Worker) -> None:
        worker.done += 1
        if worker.done >= JOBS_EACH:
            await worker.end()
        else:
            self._idle.append(worker)


async def _start() -> Worker:
    folder = tempfile.TemporaryDirectory(prefix="kheish-worker-")
    try:
        process = await anyio.open_process(
            [sys.executable, "-I", "-m", "kheish_mcp.crafts"],
            cwd=folder.name,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TMPDIR": folder.name},
            stderr=-3,  # subprocess.DEVNULL
        )
    except OSError:
        folder.cleanup()
        raise Unavailable("No worker process could be started.", hint="The machine may be out of memory.") from None
    return Worker(process, folder)


async def _ask(
    process: Process, craft: str, parameters: Mapping[str, Json], blobs: tuple[bytes, ...]
) -> Made | KheishError:
    """One job over the child's pipes; reading and writing go side by side, so that neither pipe can fill up."""
    assert process.stdin is not None
    assert process.stdout is not None
    async with anyio.create_task_group() as group:
        group.start_soon(_send, process, framed({"craft": craft, "parameters": dict(parameters)}, blobs))
        try:
            head, made = await _receive(process)
        except BaseException:
            group.cancel_scope.cancel()
            raise
    if "error" in head:
        error = head["error"]
        return from_json(error) if isinstance(error, dict) else Unavailable("A worker failed.")
    facts = head.get("facts")
    return Made(facts if isinstance(facts, dict) else {}, made)


async def _send(process: Process, parts: list[bytes]) -> None:
    assert process.stdin is not None
    for part in parts:
        await process.stdin.send(part)


async def _receive(process: Process) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    from anyio.streams.buffered import BufferedByteReceiveStream

    assert process.stdout is not None
    stream = BufferedByteReceiveStream(process.stdout)
    length, count = HEAD.unpack(await stream.receive_exactly(HEAD.size))
    head = json.loads(await stream.receive_exactly(length))
    sizes = [LENGTH.unpack(await stream.receive_exactly(LENGTH.size))[0] for _ in range(count)]
    if sum(sizes) > LARGEST:
        raise anyio.BrokenResourceError
    return head, tuple([await stream.receive_exactly(size) for size in sizes])


def framed(head: Mapping[str, Json], blobs: tuple[bytes, ...]) -> list[bytes]:
    """A message for a pipe: lengths, a JSON head, and the blobs as they are."""
    encoded = json.dumps(head).encode()
    sizes = b"".join(LENGTH.pack(len(blob)) for blob in blobs)
    return [HEAD.pack(len(encoded), len(blobs)) + encoded + sizes, *blobs]
