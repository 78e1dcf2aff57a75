"""Real processes for tests, started from functions and waited for under a deadline."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from typing import Any, TypeVar

T = TypeVar("T")

SPAWN = multiprocessing.get_context("spawn")
DEADLINE_S = 60
LINE: list[Barrier] = []


def together(function: Callable[..., T], *arguments: tuple[Any, ...]) -> list[T]:
    """What `function` gives for each tuple of arguments, in a process each, all of them let go at the same moment."""
    line = SPAWN.Barrier(len(arguments))
    with ProcessPoolExecutor(len(arguments), SPAWN, initializer=_line_up, initargs=(line,)) as pool:
        return [given.result(DEADLINE_S) for given in [pool.submit(function, *each) for each in arguments]]


def meet() -> None:
    """Waits, in a process of `together`, until all the others have come here as well."""
    LINE[0].wait(DEADLINE_S)


def exit_code_of(function: Callable[..., object], *arguments: Any) -> int | None:
    """How a process ends that runs `function`: 0, or minus the signal that it died of."""
    process = SPAWN.Process(target=function, args=arguments)
    process.start()
    process.join(DEADLINE_S)
    code = process.exitcode
    process.kill()
    process.join()
    process.close()
    return code


def _line_up(line: Barrier) -> None:
    LINE.append(line)
    meet()
