"""Untrusted bytes are decoded and drawn in a process that may die."""

from __future__ import annotations

import json
import struct
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from subprocess import DEVNULL
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.abc import Process

from .errors import DeadlineExceeded, Json, JsonObject, KheishError, MediaRejected, Unavailable, from_json

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

JOBS_EACH: Final = 50
MOST_KEPT: Final = 32
LARGEST_KEPT: Final = 256 << 10
LARGEST, LARGEST_HEAD, MOST_BLOBS = 512 << 20, 16 << 20, 16
HEAD: Final = struct.Struct(">II")
LENGTH: Final = struct.Struct(">Q")
# How a child's death and a child's nonsense show.
BROKEN: Final = (
    OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.IncompleteRead, anyio.ClosedResourceError,
    ValueError, KeyError, TypeError, struct.error,
)  # fmt: skip


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
    command: Sequence[str] = (sys.executable, "-I", "-m", "kheish_mcp.crafts")
    _made: OrderedDict[tuple[str, str, str], Made] = field(default_factory=OrderedDict, init=False)
    _idle: list[Worker] = field(default_factory=list, init=False)
    _turns: anyio.CapacityLimiter | None = field(default=None, init=False)

    async def run(self, craft: str, parameters: Mapping[str, Json], *blobs: bytes, timeout: float = 30.0) -> Made:  # noqa: ASYNC109 - the child is killed by it, not only left
        """What `craft` makes of the blobs.

        Its own refusals are raised here; MediaRejected where the child died of them, DeadlineExceeded after `timeout`
        seconds.
        """
        if self._turns is None:
            self._turns = anyio.CapacityLimiter(self.size)
        async with self._turns:
            worker = await self._next()
            try:
                with anyio.fail_after(timeout):
                    made = await _ask(worker.process, craft, parameters, blobs)
            except TimeoutError:
                await worker.end()
                raise DeadlineExceeded(
                    f"{craft} took longer than {timeout:.0f} s and was stopped.", hint="Send something simpler."
                ) from None
            except BROKEN:
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

    async def run_once(self, digest: str, craft: str, parameters: Mapping[str, Json], blob: bytes) -> Made:
        """What `run` gives; of the last few small results the same is given again for the same `digest` of the blob."""
        made = self._made.get(_key(digest, craft, parameters)) or await self.run(craft, parameters, blob)
        self.remember(digest, craft, parameters, made)
        return made

    def remember(self, digest: str, craft: str, parameters: Mapping[str, Json], made: Made) -> None:
        """Has `run_once` know what another craft has made in passing; only what is small is kept, and not for long."""
        if sum(map(len, made.blobs)) <= LARGEST_KEPT:
            self._made[_key(digest, craft, parameters)] = made
            self._made.move_to_end(_key(digest, craft, parameters))
            while len(self._made) > MOST_KEPT:
                self._made.popitem(last=False)

    async def close(self) -> None:
        """Ends every child."""
        while self._idle:
            await self._idle.pop().end()

    async def _next(self) -> Worker:
        """A child that is alive: one may have died since its last job, which the next one must not pay for."""
        while self._idle:
            worker = self._idle.pop()
            if worker.process.returncode is None:
                return worker
            await worker.end()
        return await _start(self.command)

    async def _put_back(self, worker: Worker) -> None:
        worker.done += 1
        if worker.done >= JOBS_EACH:
            await worker.end()
        else:
            self._idle.append(worker)


def _key(digest: str, craft: str, parameters: Mapping[str, Json]) -> tuple[str, str, str]:
    return digest, craft, json.dumps(parameters, sort_keys=True)


async def _start(command: Sequence[str]) -> Worker:
    folder = tempfile.TemporaryDirectory(prefix="kheish-worker-")
    try:
        process = await anyio.open_process(
            [*command, folder.name],
            cwd=folder.name,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TMPDIR": folder.name},
            stderr=DEVNULL,
            start_new_session=True,  # Ctrl-C is for the daemon, which ends its children itself
        )
    except OSError:
        folder.cleanup()
        raise Unavailable("No worker process could be started.", hint="The machine may be out of memory.") from None
    except anyio.get_cancelled_exc_class():
        folder.cleanup()
        raise
    return Worker(process, folder)


async def _ask(
    process: Process, craft: str, parameters: Mapping[str, Json], blobs: tuple[bytes, ...]
) -> Made | KheishError:
    """One job over the child's pipes; raises one of `BROKEN` where the child dies or answers nonsense.

    Reading and writing go side by side, so that neither pipe can fill up. A failure is carried out of the task group by
    hand: the group would wrap it.
    """
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(_send, process, framed({"craft": craft, "parameters": dict(parameters)}, blobs))
        try:
            return _answer(*await _receive(process))
        except BROKEN as error:
            failure = error
        finally:
            group.cancel_scope.cancel()
    raise failure or anyio.EndOfStream


def _answer(head: Any, made: tuple[bytes, ...]) -> Made | KheishError:
    if "error" not in head:
        return Made(dict(head["facts"]), made)
    refusal = from_json(head["error"])
    return MediaRejected(refusal.message, hint=refusal.hint) if head["rejected"] else refusal


async def _send(process: Process, parts: list[bytes]) -> None:
    """Writes the parts; a child that no longer reads says why, or dies, on its other pipe."""
    assert process.stdin is not None
    with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        for part in parts:
            await process.stdin.send(part)


async def _receive(process: Process) -> tuple[Any, tuple[bytes, ...]]:
    """The JSON head and the blobs of one answer, within bounds: the child has had a stranger's bytes in its hands."""
    from anyio.streams.buffered import BufferedByteReceiveStream

    assert process.stdout is not None
    stream = BufferedByteReceiveStream(process.stdout)
    length, count = HEAD.unpack(await stream.receive_exactly(HEAD.size))
    if length > LARGEST_HEAD or count > MOST_BLOBS:
        raise anyio.BrokenResourceError
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
