"""Which of the processes that share a state root are alive."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

from .disk import make_folder, refusing


class Processes:
    """A folder with one locked file per process; the system lets go of a lock however its process ends.

    A name holds random bits beside the process id, so a number that the system gives out again deceives nobody.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: int | None = None
        self.own = f"{os.getpid()}-{secrets.token_hex(8)}"

    def enter(self) -> None:
        """Takes this process's lock, if it has not yet, before the file has the name by which others look for it."""
        if self._held is not None:
            return
        with refusing():
            make_folder(self._folder)
            fresh = self._folder / f".{self.own}"
            held = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fresh.rename(self._folder / self.own)
        self._held = held

    def leave(self) -> None:
        """Lets go of this process's lock."""
        if self._held is not None:
            self.forget(self.own)
            os.close(self._held)
            self._held = None

    def names(self) -> frozenset[str]:
        """The processes that have left a file, dead or alive."""
        found = self._folder.iterdir() if self._folder.is_dir() else ()
        return frozenset(path.name for path in found if not path.name.startswith("."))

    def is_alive(self, name: str) -> bool:
        """Whether a process still holds its lock."""
        if name == self.own:
            return True
        try:
            descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            # Shared, so that two who look at the same time do not take each other for the owner.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(descriptor)

    def forget(self, name: str) -> None:
        """Removes a process's file."""
        (self._folder / name).unlink(missing_ok=True)
