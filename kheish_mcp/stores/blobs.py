"""Immutable bytes on disk, named by their digest: written once, never overwritten, checked on every read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..errors import DataLoss, KheishError, ResourceExhausted, Unavailable

STALE_S: Final = 3600.0


class Blobs:
    """A folder of blobs, `ab/<sha256>`.

    The crash story: the bytes go to a temporary file of a random name, are synced, and only then linked to their
    name; the first writer of equal bytes wins, the others find them there. What a crash leaves behind is a temporary
    file, or a blob that no record names; both are swept by `stale` once they are an hour old.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, sha256: str) -> Path:
        """Where a blob lies."""
        return self.root / sha256[:2] / sha256

    def keep(self, data: bytes) -> str:
        """The digest of `data`, which is on disk when this returns."""
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.path(sha256)
        if path.exists() and self._matches(path, sha256, len(data)):
            return sha256
        try:
            self._write(path, data)
        except OSError as error:
            raise _refusal(error) from None
        return sha256

    def read(self, sha256: str, length: int) -> bytes:
        """The blob's bytes; DataLoss where they are gone or not what they were."""
        try:
            data = self.path(sha256).read_bytes()
        except OSError:
            raise DataLoss("The bytes are gone from the disk.") from None
        if len(data) != length or hashlib.sha256(data).hexdigest() != sha256:
            raise DataLoss("The bytes on disk are not what was stored.")
        return data

    def remove(self, sha256: str) -> None:
        """Forgets a blob, whose record has to be gone already."""
        self.path(sha256).unlink(missing_ok=True)

    def stale(self, named: frozenset[str]) -> Iterator[Path]:
        """Temporary files, and blobs that no record names, older than an hour."""
        for path in self.root.glob("??/*"):
            with contextlib.suppress(OSError):
                if path.name not in named and time.time() - path.stat().st_mtime > STALE_S:
                    yield path

    def _matches(self, path: Path, sha256: str, length: int) -> bool:
        """Whether the blob that is there is whole; a damaged one gives way to the good bytes at hand."""
        with contextlib.suppress(KheishError):
            self.read(sha256, length)
            return True
        path.unlink(missing_ok=True)
        return False

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
        try:
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
        sync_folder(self.root)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refusal(error: OSError) -> KheishError:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ResourceExhausted("The disk of the state root is full.", hint="Free some space, then try again.")
    return Unavailable(f"The state root cannot be written ({error.strerror}).", hint="Look at its permissions.")
