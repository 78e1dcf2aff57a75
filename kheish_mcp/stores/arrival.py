"""Bytes that arrive piece by piece on their way to become a blob, and never stand in memory as a whole."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from ..errors import ResourceExhausted
from .disk import refusing

# Nobody writes to a blob again, and its file is lent out under other names.
READ_ONLY: Final = 0o400


class Arrival:
    """A new file that takes pieces up to `most` bytes, with the digest of what it has taken.

    The crash story: its name is a temporary one, so what a kill leaves behind is stale within the hour.
    """

    def __init__(self, path: Path, most: int) -> None:
        self.path = path
        self.most = most
        self.byte_length = 0
        self._digest = hashlib.sha256()
        with refusing():
            self._descriptor = os.open(
                path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, READ_ONLY
            )

    @property
    def sha256(self) -> str:
        """The digest of what has come so far."""
        return self._digest.hexdigest()

    def write(self, piece: bytes) -> None:
        """Takes one more piece; ResourceExhausted once there are more bytes than there may be."""
        self.byte_length += len(piece)
        if self.byte_length > self.most:
            raise ResourceExhausted("This is more than an asset may have.", hint=f"At most {self.most:,} bytes.")
        self._digest.update(piece)
        rest = memoryview(piece)
        with refusing():
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def sync(self) -> None:
        """Everything that has come is on disk when this returns."""
        with refusing():
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Takes the temporary name away; a blob that was made of it has its own."""
        os.close(self._descriptor)
        self.path.unlink(missing_ok=True)
