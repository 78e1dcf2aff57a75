"""`serve` over HTTP as a process: what it says, whom it refuses, and how it stops."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from kheish_mcp.cli import run
from tests.conftest import CANARY, environment, kheish
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import wire_faults
from tests.hosts import ERAS, call
from tests.sites import TRANSPORTS, connected

pytestmark = pytest.mark.anyio

DEADLINE_S = 60


@contextmanager
def serving(
    env: dict[str, str], *options: str, bind: str = "127.0.0.1:0", prefix: Sequence[str] = ()
) -> Generator[tuple[str, subprocess.Popen[str]]]:
    """A running daemon: the base of its URLs, as it announced them, and its process; `prefix` starts the program."""
    command = [*prefix, sys.executable, "-m", "kheish_mcp", "serve", "--bind", bind, *options]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            announced = process.stderr.readline()
            match = re.search(r"(https?://\S+)/mcp ", announced)
            assert match, announced + process.stderr.read()
            yield match[1], process
        finally:
            process.kill()


async def test_it_serves_both_eras_and_stops_at_once_on_a_signal(state_root: Path, workspace: Path, tmp_path: Path):
    (workspace / "note.txt").write_text("hello")
    routes = tmp_path / "routes.toml"
    routes.write_text('version = 1\n[routes.here]\ndriver = "local"\n')
    env = environment(tmp_path / "another")
    options = ("--state-root", str(state_root), "--workspace-root", str(workspace), "--routes-file", str(routes))
    with serving(env, *options) as (base, process):
        for mode in ERAS:
            async with connected(base, "streamable", mode) as client:
                assert (await client.list_tools()).tools
        async with connected(base, "sse", "legacy") as client:
            made = await call(client, "store_asset", source="note.txt")
        os.kill(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, out, err) == (0, "", "")
    listed = kheish("assets", "list", "--state-root", str(state_root), env=env)
    assert made["asset_id"] in listed.stdout


async def test_a_second_signal_does_not_wait_for_paid_calls(state_root: Path, emulator: OpenRouterEmulator):
    emulator.always(wire_faults.hang(), path="/images")
    env = environment(state_root, OPENROUTER_API_KEY=CANARY, OPENROUTER_BASE_URL=emulator.base_url)
    with serving(env) as (base, process):
        async with connected(base, "streamable", "2026-07-28") as client:
            started = await call(client, "generate_image", prompt="a lighthouse", wait_seconds=0)
            assert started["status"] == "working"
        assert process.stderr is not None
        os.kill(process.pid, signal.SIGINT)
        assert "finishing 1 paid call" in process.stderr.readline()
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0


def test_a_storm_of_connections_neither_takes_all_files_nor_floods_the_log(state_root: Path):
    few = ("sh", "-c", 'ulimit -n 300 && exec "$0" "$@"')
    with serving(environment(state_root), prefix=few) as (base, process), ExitStack() as storm:
        port = httpx2.URL(base).port or 0
        for _ in range(400):
            opened = storm.enter_context(socket.socket())
            opened.setblocking(False)
            opened.connect_ex(("127.0.0.1", port))
        assert httpx2.get(f"{base}/healthz", trust_env=False).status_code == 503
        storm.close()
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(b"\x16\x03\x01 is no HTTP\r\n\r\n")
            assert stranger.recv(100).startswith((b"HTTP/1.1 400", b"HTTP/1.1 503"))
        with httpx2.Client(trust_env=False) as http:
            tries = (http.get(f"{base}/healthz").status_code for _ in range(1000))
            assert 200 in tries
        os.kill(process.pid, signal.SIGTERM)
        assert process.communicate(timeout=DEADLINE_S) == ("", "")


async def test_what_a_debugging_daemon_shows_of_itself(state_root: Path, emulator: OpenRouterEmulator):
    env = environment(state_root, OPENROUTER_API_KEY=CANARY, OPENROUTER_BASE_URL=emulator.base_url, MY_TOKEN=CANARY)
    with serving(env, "--log-level", "debug") as (base, process):
        for transport in TRANSPORTS:
            async with connected(base, transport, "legacy") as client:
                made = await call(client, "generate_image", prompt="a lighthouse nobody may hear of")
                assert "signature=" in json.dumps(made)
        if sys.platform == "linux":
            shown = Path(f"/proc/{process.pid}")
            assert CANARY.encode() not in (shown / "environ").read_bytes()
            assert re.search(r"core file size +0 +0", (shown / "limits").read_text())
        os.kill(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, out) == (0, "")
        assert not [told for told in ("lighthouse", "signature=", CANARY) if told in err]


@pytest.fixture
def command(state_root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The program in this process, for what it refuses before it serves."""
    for name in [name for name in os.environ if name.startswith(("KHEISH_", "OPENROUTER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KHEISH_STATE_ROOT", str(state_root))
    return lambda *arguments: run(arguments)


def test_a_taken_port_is_told_and_not_a_traceback(command: Callable[..., int], capfd: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        assert command("serve", "--bind", place) == 2
    assert re.fullmatch(rf"error: {place} cannot be listened on .*\nhint: .*--bind.*\n", capfd.readouterr().err)


@pytest.mark.parametrize("options", ["--bind 0.0.0.0:0", "--bind 127.0.0.1:0 --allowed-host kheish.example"])
def test_a_way_in_for_strangers_needs_a_token(
    command: Callable[..., int], capfd: pytest.CaptureFixture[str], options: str
):
    assert command("serve", *options.split()) == 2
    assert "tokens create" in capfd.readouterr().err


@pytest.mark.parametrize("names", ["--tls-cert no.pem", "--tls-cert no.pem --tls-key no.key", "--tls-key no.key"])
def test_a_certificate_that_is_not_there_is_told(
    command: Callable[..., int], capfd: pytest.CaptureFixture[str], names: str
):
    assert command("serve", "--bind", "127.0.0.1:0", *names.split()) == 2
    assert "--tls-cert" in capfd.readouterr().err


def test_behind_a_proxy_it_knows_its_path(state_root: Path):
    with serving(environment(state_root), "--root-path", "/kheish") as (base, _):
        assert base.endswith("/kheish")
        with httpx2.Client(trust_env=False) as http, http.stream("GET", base.replace("/kheish", "/sse")) as stream:
            lines = stream.iter_lines()
            assert next(line for line in lines if line.startswith("data:")).startswith("data: /kheish/messages/")
