"""The worker process: it takes its limits first, then job after job from its pipe."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import struct
import sys
from contextlib import suppress
from typing import BinaryIO

from ..errors import JsonObject, KheishError, MediaRejected
from . import craft

HEAD = struct.Struct(">II")
LENGTH = struct.Struct(">Q")
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
# A picture of 100 megapixels takes 400 MB once decoded, and an edit holds two.
MEMORY = 1536 << 20
JOB_CPU_S = 400
LIMITS = (
    (resource.RLIMIT_AS, MEMORY),
    (resource.RLIMIT_FSIZE, 64 << 20),
    (resource.RLIMIT_NOFILE, 64),
    (resource.RLIMIT_CORE, 0),
)


def main(folder: str) -> None:
    """Serves until the pipe closes; then the folder that this worker was given goes, since its daemon may be dead."""
    for limit, value in LIMITS:
        hard = resource.getrlimit(limit)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (bound, bound))
    _leave_the_network()
    wire = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not print into the answer
    while head := sys.stdin.buffer.read(HEAD.size):
        _serve(head, sys.stdin.buffer, wire)
    shutil.rmtree(folder, ignore_errors=True)


def _leave_the_network() -> None:
    """Moves to a network of its own with nothing in it, where the system lets a process do so (Linux).

    Root may, and would lose its right to other users' files in a user namespace; anybody else needs one for it.
    """
    with suppress(AttributeError):
        unshare = ctypes.CDLL(None).unshare
        if unshare(CLONE_NEWNET) and os.geteuid():
            unshare(CLONE_NEWUSER | CLONE_NEWNET)


def _bound_this_job() -> None:
    """Processor time counts from the process's start, and each job has its own share."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    wanted = round(used.ru_utime + used.ru_stime) + JOB_CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _serve(head: bytes, source: BinaryIO, wire: BinaryIO) -> None:
    _bound_this_job()
    length, count = HEAD.unpack(head)
    job = json.loads(source.read(length))
    sizes = [LENGTH.unpack(source.read(LENGTH.size))[0] for _ in range(count)]
    blobs = tuple(source.read(size) for size in sizes)
    made: tuple[JsonObject, tuple[bytes, ...]]
    try:
        facts, made_blobs = craft(job["craft"])(job["parameters"], blobs)
        made = {"facts": facts}, made_blobs
    except KheishError as refusal:
        made = {"error": refusal.as_json(), "rejected": isinstance(refusal, MediaRejected)}, ()
    except MemoryError:
        large = MediaRejected("It needs more memory than it may have.", hint="Send less.")
        made = {"error": large.as_json(), "rejected": True}, ()
    _answer(wire, *made)


def _answer(wire: BinaryIO, head: JsonObject, blobs: tuple[bytes, ...]) -> None:
    encoded = json.dumps(head).encode()
    wire.write(HEAD.pack(len(encoded), len(blobs)) + encoded)
    wire.writelines(LENGTH.pack(len(blob)) for blob in blobs)
    wire.writelines(blobs)
    wire.flush()


if __name__ == "__main__":
    main(sys.argv[1])
