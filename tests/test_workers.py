"""Worker processes: what they may and may not do, how they die, and that whoever dies takes one job with it and no more."""

from __future__ import annotations

import io
import os
import resource
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from PIL import Image

from kheish_mcp.errors import (
    Code,
    DeadlineExceeded,
    InvalidArgument,
    Json,
    KheishError,
    MediaRejected,
    ResourceExhausted,
    Unavailable,
)
from kheish_mcp.workers import JOBS_EACH, MOST_KEPT, Workers
from tests.samples import picture

pytestmark = pytest.mark.anyio

# The real child with its real limits, and crafts that make trouble in place of ours.
TROUBLE = """
import ctypes, os, resource, socket, sys
import kheish_mcp.crafts.__main__ as served
from kheish_mcp.errors import MediaRejected, ResourceExhausted

def see(given, blobs):
    limits = {name: resource.getrlimit(getattr(resource, name))[0] for name in given.get("limits", [])}
    return {"pid": os.getpid(), "session": os.getsid(0), "environment": dict(os.environ), "files": os.listdir(),
            "folder": os.getcwd(), "limits": limits, "network": os.readlink("/proc/self/ns/net")}, ()

def echo(given, blobs):
    return given, blobs

def eat(given, blobs):
    return {"eaten": len(bytearray(2 << 30))}, ()

def spin(given, blobs):
    open("spinning", "w").close()
    while True:
        pass

def crash(given, blobs):
    ctypes.string_at(0)

def fail(given, blobs):
    raise RuntimeError("a fault of ours")

def write(given, blobs):
    with open("large", "wb") as file:
        file.write(bytes(80 << 20))
    return {}, ()

def call(given, blobs):
    try:
        socket.create_connection(("127.0.0.1", given["port"]), 2).close()
    except OSError as error:
        return {"refused": error.strerror}, ()
    return {"connected": True}, ()

def talk(given, blobs):
    print("a library that prints", flush=True)
    os.write(1, b"and one in C")
    return {"said": True}, ()

def reject(given, blobs):
    raise MediaRejected("It is no cat.", hint="Send a cat.")

def refuse(given, blobs):
    raise ResourceExhausted("Too much.", hint="Less.", retryable=True, retry_after_s=1.5, details={"most": 3})

served.craft = globals().__getitem__
served.main(sys.argv[1])
"""


@asynccontextmanager
async def workers(size: int = 1, program: str = TROUBLE) -> AsyncGenerator[Workers]:
    """Workers whose children run a program; none of them is left behind."""
    running = Workers(size, (sys.executable, "-I", "-c", program))
    yield running
    await running.close()
    assert not running._idle


async def pid_of(running: Workers) -> int:
    """The one child."""
    return int(str((await running.run("see", {})).facts["pid"]))


def alive(pid: int) -> bool:
    """Whether a process is there; one that was waited for is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_real_craft_gives_facts_and_bytes_or_refuses():
    running = Workers(1)
    made = await running.run("check_image", {"max_px": 8}, picture("PNG", (20, 10)))
    with pytest.raises(InvalidArgument, match="no operation"):
        await running.run("edit_image", {"prompt": ";"}, b"x")
    await running.close()
    assert made.facts == {
        "width": 20, "height": 10, "frames": 1, "media_type": "image/jpeg", "preview_width": 8, "preview_height": 4
    }  # fmt: skip
    with Image.open(io.BytesIO(made.blobs[0])) as preview:
        assert preview.size == (8, 4)


async def test_what_was_made_of_the_same_bytes_is_not_made_again():
    limits: dict[str, Json] = {"max_px": 8}
    drawn = picture("PNG", (20, 10))
    running = Workers(1)
    first = await running.run_once("digest", "preview_image", limits, drawn)
    await running.close()
    closed = Workers(1, ("/nothing/that/runs",))
    closed._made = running._made
    assert await closed.run_once("digest", "preview_image", limits, drawn) is first
    for other in (("another", limits), ("digest", {"max_px": 9})):
        with pytest.raises(Unavailable):
            await closed.run_once(other[0], "preview_image", other[1], drawn)


async def test_only_the_last_small_results_are_kept():
    async with workers(program=TROUBLE) as running:
        for number in range(MOST_KEPT + 5):
            await running.run_once(str(number), "see", {}, b"")
        assert [key[0] for key in running._made] == [str(number) for number in range(5, MOST_KEPT + 5)]
        await running.run_once("5", "see", {}, b"")
        assert next(reversed(running._made))[0] == "5"


async def test_a_child_sees_nothing_of_ours(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENROUTER_API_KEY", "not for children")
    async with workers() as running:
        seen = (await running.run("see", {})).facts
    assert seen["environment"] == {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TMPDIR": seen["folder"]}
    assert seen["files"] == []
    assert str(Path.cwd()) not in str(seen["folder"])
    assert seen["session"] == seen["pid"], "Ctrl-C in a terminal is not for it"


async def test_every_limit_is_set():
    names = ["RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_CORE"]
    async with workers() as running:
        limits = (await running.run("see", {"limits": [*names]})).facts["limits"]
    assert limits == {
        "RLIMIT_AS": 1536 << 20, "RLIMIT_CPU": 400, "RLIMIT_FSIZE": 64 << 20, "RLIMIT_NOFILE": 64, "RLIMIT_CORE": 0
    }  # fmt: skip
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 1536 << 20, "and only there"


@pytest.mark.parametrize("craft", ["eat", "crash", "fail", "write"])
async def test_a_craft_that_dies_is_one_refusal_and_the_next_job_works(craft: str):
    async with workers() as running:
        with pytest.raises(MediaRejected) as refusal:
            await running.run(craft, {}, b"bytes")
        assert refusal.value.code is Code.INVALID_ARGUMENT
        assert refusal.value.hint
        assert (await running.run("echo", {"n": 1}, b"x")).blobs == (b"x",)


async def test_too_much_memory_costs_the_job_and_not_the_child():
    async with workers() as running:
        before = await pid_of(running)
        with pytest.raises(MediaRejected, match="more memory"):
            await running.run("eat", {})
        assert await pid_of(running) == before


async def test_a_child_whose_daemon_died_takes_its_folder_away():
    async with workers() as running:
        seen = (await running.run("see", {})).facts
        worker = running._idle.pop()
        assert worker.process.stdin is not None
        await worker.process.stdin.aclose()  # all that a killed daemon does
        await worker.process.wait()
        assert not Path(str(seen["folder"])).exists()
        await worker.end()


async def test_a_job_that_takes_too_long_is_killed_with_its_child_and_folder():
    async with workers() as running:
        seen = (await running.run("see", {})).facts
        with pytest.raises(DeadlineExceeded, match="spin took longer"):
            await running.run("spin", {}, timeout=0.2)
        assert not alive(int(str(seen["pid"])))
        assert not Path(str(seen["folder"])).exists()
        assert await pid_of(running) != seen["pid"]


async def test_a_caller_that_is_cancelled_takes_the_child_with_it():
    async with workers() as running:
        seen = (await running.run("see", {})).facts
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(running.run, "spin", {})
                while not (Path(str(seen["folder"])) / "spinning").exists():  # noqa: ASYNC110 - another process's file
                    await anyio.sleep(0.005)
                group.cancel_scope.cancel()
        assert not alive(int(str(seen["pid"])))
        assert (await running.run("echo", {}, b"x")).blobs == (b"x",)


async def test_a_child_is_replaced_after_its_jobs():
    async with workers() as running:
        pids = [await pid_of(running) for _ in range(JOBS_EACH + 1)]
    assert len(set(pids[:JOBS_EACH])) == 1
    assert pids[-1] != pids[0]
    assert not alive(pids[0])


async def test_a_child_that_died_idle_costs_nobody_a_job():
    async with workers() as running:
        pid = await pid_of(running)
        [idle] = running._idle
        idle.process.kill()
        await idle.process.wait()
        assert await pid_of(running) != pid


async def test_there_are_never_more_children_than_the_size():
    pids: set[int] = set()

    async def look(running: Workers) -> None:
        pids.add(await pid_of(running))

    async with workers(2) as running:
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(look, running)
        assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)


async def test_large_blobs_go_both_ways_at_once():
    blobs = (bytes(range(256)) * 40_000, b"", b"\0" * 5_000_000)
    async with workers() as running:
        made = await running.run("echo", {"words": "ä\n"}, *blobs)
    assert made.blobs == blobs
    assert made.facts == {"words": "ä\n"}


async def test_what_a_library_prints_stays_out_of_the_answer():
    async with workers() as running:
        assert (await running.run("talk", {})).facts == {"said": True}
        assert (await running.run("echo", {"n": 2})).facts == {"n": 2}


async def test_a_child_reaches_no_server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        async with workers() as running:
            if (await running.run("see", {})).facts["network"] == str(Path("/proc/self/ns/net").readlink()):
                pytest.skip("this system lets no process leave its network")
            told = (await running.run("call", {"port": server.getsockname()[1]})).facts
    assert "connected" not in told


async def test_a_refusal_arrives_as_it_was_made():
    async with workers() as running:
        with pytest.raises(MediaRejected) as rejected:
            await running.run("reject", {})
        with pytest.raises(ResourceExhausted) as refused:
            await running.run("refuse", {})
    assert (rejected.value.message, rejected.value.hint) == ("It is no cat.", "Send a cat.")
    assert refused.value.as_json() == {
        "code": "resource_exhausted", "message": "Too much.", "hint": "Less.", "retryable": True, "retry_after_s": 1.5,
        "details": {"most": 3},
    }  # fmt: skip


NONSENSE = {
    "silence": b"",
    "half a head": b"\0\0\0\2",
    "no JSON": b"\0\0\0\5\0\0\0\0hello",
    "JSON of another kind": b"\0\0\0\1\0\0\0\0" + b"1",
    "no facts": b"\0\0\0\2\0\0\0\0{}",
    "an unknown code": b"\0\0\0\x3a\0\0\0\0" + b'{"error": {"code": "??", "message": "x"}, "rejected": false}'[:58],
    "a large head": b"\xff\xff\xff\xff\0\0\0\0",
    "many blobs": b"\0\0\0\2\xff\xff\xff\xff{}",
    "a large blob": b"\0\0\0\x0d\0\0\0\1" + b'{"facts": {}}' + b"\0\0\1\0\0\0\0\0",
    "a short blob": b"\0\0\0\x0d\0\0\0\1" + b'{"facts": {}}' + b"\0\0\0\0\0\0\0\4abc",
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE)
async def test_a_child_that_was_taken_over_can_only_be_refused(answer: bytes):
    program = f"import sys; sys.stdout.buffer.write({answer!r})"
    async with workers(program=program) as running:
        with anyio.fail_after(20), pytest.raises(MediaRejected, match="limits of memory and time"):
            await running.run("echo", {}, b"bytes" * 100_000)


async def test_a_child_that_cannot_start_is_unavailable():
    with pytest.raises(Unavailable, match="No worker process") as refusal:
        await Workers(1, ("/nonexistent/python",)).run("echo", {})
    assert isinstance(refusal.value, KheishError)
