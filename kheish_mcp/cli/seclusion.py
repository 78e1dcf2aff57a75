"""What a serving process shows of itself: logs without secrets and others' words, and no memory to other processes."""

from __future__ import annotations

import ctypes
import logging
import resource
import sys
from contextlib import suppress
from typing import Final

from ..secret import scrub_all
from .frame import printable

SET_DUMPABLE: Final = 4  # <linux/prctl.h>
# The first two log whole URLs at INFO, and headers and bodies at DEBUG; the third has a line for every stranger's bytes
# that are no HTTP, as many as there are.
TALKATIVE: Final = {"httpx2": logging.WARNING, "httpcore2": logging.WARNING, "uvicorn.error": logging.ERROR}


class Discreet(logging.Formatter):
    """Lines, tracebacks too, without any secret, and without what a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return printable(scrub_all(super().format(record)))


def start_logging(level: str) -> None:
    """Logs to stderr from `level` on; of other libraries nothing below INFO, where they quote prompts and answers."""
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(Discreet("%(levelname)s %(name)s: %(message)s"))
    wanted = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(handlers=[shown], level=max(wanted, logging.INFO))
    logging.getLogger("kheish_mcp").setLevel(wanted)
    for name, least in TALKATIVE.items():
        logging.getLogger(name).setLevel(least)


def keep_to_itself() -> None:
    """Leaves no core file; on Linux, other processes of this user read neither this one's memory nor its environment."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(SET_DUMPABLE, 0, 0, 0, 0)
