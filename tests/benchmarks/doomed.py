"""Daemons over stdio that are going to be killed, forked from a process that has imported everything already."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

LOADED = (
    "kheish_mcp.cli.serve",
    "kheish_mcp.daemon",
    "kheish_mcp.mcp_server.server",
    "kheish_mcp.transports.stdio",
    "httpx2",
)
LONGEST = 1 << 16


@dataclass(frozen=True, slots=True)
class Nursery:
    """The process that forks."""

    line: socket.socket

    @contextmanager
    def daemon(self, env: Mapping[str, str]) -> Generator[socket.socket]:
        """A daemon with these variables, by the other end of its stdin and stdout; killed at the end of the block."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            socket.send_fds(self.line, [json.dumps(dict(env)).encode()], [theirs.fileno()])
            pid = int(self.line.recv(LONGEST))
            try:
                yield ours
            finally:
                os.kill(pid, signal.SIGKILL)
                self.line.send(str(pid).encode())
                assert int(self.line.recv(LONGEST)) == -signal.SIGKILL


@contextmanager
def nursery() -> Generator[Nursery]:
    """A nursery, gone at the end of the block."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "tests.benchmarks.doomed", str(theirs.fileno())]
    with ours, subprocess.Popen(command, pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        yield Nursery(ours)
        ours.close()
        process.wait(10)


def tend(line: socket.socket) -> None:
    """Forks a daemon for each set of variables that comes with a wire, and buries each whose number comes."""
    for name in LOADED:
        importlib.import_module(name)
    while True:
        told, wires, _, _ = socket.recv_fds(line, LONGEST, 1)
        if not told:
            return
        if not wires:
            line.send(str(os.waitstatus_to_exitcode(os.waitpid(int(told), 0)[1])).encode())
            continue
        pid = os.fork()
        if pid == 0:
            line.close()
            serve(wires[0], json.loads(told))
        os.close(wires[0])
        line.send(str(pid).encode())


def serve(wire: int, env: dict[str, str]) -> None:
    """What `kheish-daemon serve --transport stdio` does; its log goes nowhere."""
    from kheish_mcp.__main__ import main

    os.environ.clear()
    os.environ.update(env)
    for descriptor, place in ((wire, 0), (wire, 1), (os.open(os.devnull, os.O_WRONLY), 2)):
        os.dup2(descriptor, place)
    os.close(wire)
    sys.argv = ["kheish-daemon", "serve", "--transport", "stdio"]
    main()


if __name__ == "__main__":
    tend(socket.socket(fileno=int(sys.argv[1])))
