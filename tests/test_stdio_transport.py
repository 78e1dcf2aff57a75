"""The pipe itself: what goes over it, what never does, and how it ends."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import environment

PATIENCE_S = 60
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}},
}


class Raw:
    """The server as a child, spoken to in bytes."""

    def __init__(self, state_root: Path, *options: str, prelude: str = "pass") -> None:
        run = f"import sys; {prelude}; from kheish_mcp.__main__ import main; sys.exit(main())"
        self.child = subprocess.Popen(
            [sys.executable, "-c", run, "serve", "--transport", "stdio", *options],
            env=environment(state_root),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.rest = b""

    def send(self, *messages: Any) -> None:
        """Messages, or bytes as they are."""
        assert self.child.stdin is not None
        for message in messages:
            self.child.stdin.write(message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n")
        self.child.stdin.flush()

    def next(self) -> dict[str, Any]:
        """The next line on stdout, which has to be a JSON-RPC message."""
        assert self.child.stdout is not None
        until = time.monotonic() + PATIENCE_S
        while b"\n" not in self.rest:
            ready, _, _ = select.select([self.child.stdout], [], [], max(0.0, until - time.monotonic()))
            assert ready, "no answer in time"
            chunk = os.read(self.child.stdout.fileno(), 1 << 20)
            assert chunk, "the server has closed its end"
            self.rest += chunk
        line, _, self.rest = self.rest.partition(b"\n")
        message = json.loads(line)
        assert isinstance(message, dict)
        assert message["jsonrpc"] == "2.0"
        return message

    def greet(self) -> dict[str, Any]:
        """The handshake; gives the answer's result."""
        self.send(HELLO, {"jsonrpc": "2.0", "method": "notifications/initialized"})
        answer = self.next()
        assert answer["id"] == 1
        result = answer["result"]
        assert isinstance(result, dict)
        return result

    def end(self) -> tuple[int, float, bytes, str]:
        """Exit code, seconds until it was there, what was left on stdout, and stderr."""
        started = time.monotonic()
        code = self.child.wait(PATIENCE_S)
        seconds = time.monotonic() - started
        assert self.child.stdout is not None
        assert self.child.stderr is not None
        return code, seconds, self.rest + self.child.stdout.read(), self.child.stderr.read().decode()


@pytest.fixture
def raw(state_root: Path) -> Iterator[Raw]:
    """A server that has said hello."""
    with running(state_root) as server:
        yield server


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Raw]:
    """A server that has said hello, for tests that leave it as they found it."""
    with running(tmp_path_factory.mktemp("talking") / "state") as server:
        yield server


@contextmanager
def running(state_root: Path) -> Iterator[Raw]:
    """A server that has said hello; on the way out it is gone."""
    server = Raw(state_root)
    try:
        server.greet()
        yield server
    finally:
        if server.child.poll() is None:
            server.child.kill()
        server.child.wait()
        for stream in (server.child.stdin, server.child.stdout, server.child.stderr):
            if stream is not None:
                stream.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, "eof"])
def test_it_ends_cleanly_however_it_is_asked_to(raw: Raw, how: Any):
    assert raw.child.stdin is not None
    if how == "eof":
        raw.child.stdin.close()
    else:
        raw.child.send_signal(how)
    code, seconds, left, err = raw.end()
    print(f"{how}: gone after {seconds:.3f} s")  # noqa: T201 # shown by -s, judged by nobody
    assert code == 0
    assert left == b""
    assert "Traceback" not in err


def test_what_is_no_message_is_answered_and_the_conversation_goes_on(talking: Raw):
    secret = b"hunter2-not-json"
    talking.send(b"{" + secret + b"\n", b"\n", b"[]\n", b'{"jsonrpc":"1.0"}\n', b"\xff\xfe\n")
    talking.send({"jsonrpc": "2.0", "id": 7, "method": "ping"})
    answers = []
    while not answers or answers[-1].get("id") != 7:
        answers.append(talking.next())
    assert answers[-1]["result"] == {}
    assert secret.decode() not in json.dumps(answers)
    assert all("error" in answer or answer.get("method", "").startswith("notifications/") for answer in answers[:-1])


def test_a_message_of_a_megabyte_is_refused_with_a_code_and_the_next_is_served(talking: Raw):
    arguments = {"prompt": "x" * 1_000_000}
    talking.send(
        {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": "generate_image", "arguments": arguments},
        }
    )
    answer = talking.next()
    assert answer["id"] == 2
    [block] = answer["result"]["content"]
    assert answer["result"]["isError"] is True
    assert json.loads(block["text"])["error"]["code"] == "invalid_argument"
    assert len(block["text"]) < 2000
    talking.send({"jsonrpc": "2.0", "id": 3, "method": "tools/list"})
    assert talking.next()["id"] == 3


def test_not_even_a_native_print_reaches_the_wire(state_root: Path):
    # What a C library does on its own: bytes on descriptor 1, as soon as it is another than at the start.
    noise = (
        "import os, threading, time; first = os.fstat(1).st_ino;"
        "wait = lambda: any(time.sleep(0.01) or os.fstat(1).st_ino != first for _ in range(2000));"
        "threading.Thread(target=lambda: wait() and os.write(1, b'native noise'), daemon=True).start()"
    )
    server = Raw(state_root, prelude=noise)
    try:
        server.greet()
        print_it = {"name": "generate_audio", "arguments": {"input": "Hello.", "format": "wav"}}
        server.send({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": print_it})
        assert server.next()["id"] == 2
        until = time.monotonic() + PATIENCE_S
        assert server.child.stderr is not None
        while not select.select([server.child.stderr], [], [], max(0, until - time.monotonic()))[0]:
            pass
        assert server.child.stdin is not None
        server.child.stdin.close()
        code, _, left, err = server.end()
        assert code == 0
        assert left == b""
        assert "native noise" in err
    finally:
        server.child.kill()
        server.child.wait()
        for stream in (server.child.stdout, server.child.stderr):
            assert stream is not None
            stream.close()


def test_a_client_that_leaves_in_the_middle_of_a_large_answer_corrupts_nothing(raw: Raw, state_root: Path):
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="2000" height="2000"><circle r="900" cx="999" cy="999"/></svg>'
    call = {"name": "generate_image", "arguments": {"prompt": svg, "preview": "full"}}
    raw.send({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call})
    assert raw.child.stdin is not None
    assert raw.child.stdout is not None
    raw.child.stdin.close()
    raw.child.stdout.close()
    assert raw.child.wait(PATIENCE_S) == 0
    again = Raw(state_root)
    try:
        again.greet()
        again.send({"jsonrpc": "2.0", "id": 2, "method": "resources/list"})
        for resource in again.next()["result"]["resources"]:
            again.send({"jsonrpc": "2.0", "id": 3, "method": "resources/read", "params": {"uri": resource["uri"]}})
            assert "result" in again.next()
    finally:
        again.child.kill()
        again.child.communicate()
