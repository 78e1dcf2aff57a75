"""Real processes for tests, started from functions and waited for under a deadline."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from multiprocessing.synchronize import Barrier
from typing import Any, TypeVar

T = TypeVar("T")

# Children are forked by a server that has imported what they need, which a new interpreter takes half a second for.
SERVED = multiprocessing.get_context("forkserver")
SERVED.set_forkserver_preload(
    ["pytest", "hypothesis", "tests.conftest", "kheish_mcp.stores.auth", "kheish_mcp.stores.jobs"]
)
DEADLINE_S = 60
LINE: list[Barrier] = []


def together(function: Callable[..., T], *arguments: tuple[Any, ...]) -> list[T]:
    """What `function` gives for each tuple of arguments, in a process each, all of them let go at the same moment."""
    line = SERVED.Barrier(len(arguments))
    with ProcessPoolExecutor(len(arguments), SERVED, initializer=_line_up, initargs=(Outputs(), line)) as pool:
        return [given.result(DEADLINE_S) for given in [pool.submit(function, *each) for each in arguments]]


def meet() -> None:
    """Waits, in a process of `together`, until all the others have come here as well."""
    LINE[0].wait(DEADLINE_S)


def started(function: Callable[..., object], *arguments: Any) -> BaseProcess:
    """A process that runs `function`."""
    process = SERVED.Process(target=_run, args=(Outputs(), function, arguments))
    process.start()
    return process


def exit_code_of(function: Callable[..., object], *arguments: Any) -> int | None:
    """How a process ends that runs `function`: 0, or minus the signal that it died of."""
    process = started(function, *arguments)
    process.join(DEADLINE_S)
    code = process.exitcode
    process.kill()
    process.join()
    process.close()
    return code


class Outputs:
    """Where the output of this test goes: on its way into a child it becomes the child's, whose server has an older test's."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _take_over, (DupFd(1), DupFd(2))


def _take_over(*outputs: Any) -> Outputs:
    for number, output in enumerate(outputs, 1):
        given = output.detach()
        os.dup2(given, number)
        os.close(given)
    return Outputs()


def _run(_outputs: Outputs, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    function(*arguments)


def _line_up(_outputs: Outputs, line: Barrier) -> None:
    LINE.append(line)
    meet()
