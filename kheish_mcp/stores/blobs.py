"""Immutable bytes on disk, named by their digest: written once, never overwritten, checked on every read."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from ..errors import DataLoss
from .arrival import READ_ONLY, Arrival
from .disk import make_folder, refusing, sync_folder, write_new

STALE_S: Final = 3600.0
ARRIVING: Final = "in"  # two letters, so that `stale` finds what lies there, and no digest begins with them


class Blobs:
    """A folder of blobs, `ab/<sha256>`.

    The crash story: the bytes go to a temporary file of a random name, are synced, and only then linked to their
    name; the first writer of equal bytes wins, the others find them there. What a crash leaves behind is a temporary
    file, or a blob that no record names; `stale` finds both once they are an hour old.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, sha256: str) -> Path:
        """Where a blob lies, or would."""
        return self._root / sha256[:2] / sha256

    def keep(self, data: bytes) -> str:
        """The digest of `data`, which is on disk when this returns; a damaged blob of that name is mended."""
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.path(sha256)
        with refusing():
            if not self._is_whole(sha256, len(data)):
                self._write(path, data)
            self._settle(path)
        return sha256

    def arrival(self, most: int) -> Arrival:
        """A place for a blob of at most so many bytes that comes piece by piece."""
        with refusing():
            make_folder(self._root / ARRIVING)
        return Arrival(_beside(self._root / ARRIVING / "blob"), most)

    def adopt(self, arrival: Arrival) -> str:
        """As `keep`, for bytes that have arrived."""
        arrival.sync()
        path = self.path(arrival.sha256)
        with refusing():
            if not self._is_whole(arrival.sha256, arrival.byte_length):
                make_folder(path.parent)
                self._link(arrival.path, path, arrival.byte_length)
            self._settle(path)
        return arrival.sha256

    def read(self, sha256: str, length: int) -> bytes:
        """The blob's bytes; DataLoss where they are gone or not what they were."""
        try:
            data = self.path(sha256).read_bytes()
        except OSError:
            raise _gone() from None
        if len(data) != length or hashlib.sha256(data).hexdigest() != sha256:
            raise _damaged()
        return data

    def open(self, sha256: str, length: int) -> BinaryIO:
        """The blob as a file, once it was read through to its end and found whole; the refusals of `read`."""
        try:
            blob = self.path(sha256).open("rb", buffering=0)
        except OSError:
            raise _gone() from None
        with suppress(OSError):
            if os.fstat(blob.fileno()).st_size == length and hashlib.file_digest(blob, "sha256").hexdigest() == sha256:
                blob.seek(0)
                return blob
        blob.close()
        raise _damaged()

    def lend(self, sha256: str, path: Path) -> None:
        """Gives a blob another name, in place of whatever has it."""
        blob = self.path(sha256)
        with refusing():
            if path.exists() and path.samefile(blob):
                return
            make_folder(path.parent)
            temporary = _beside(path)
            os.link(blob, temporary)
            temporary.replace(path)
            # Where another process was first, both names are one file and the replacement did nothing.
            temporary.unlink(missing_ok=True)

    def stale(self) -> Iterator[Path]:
        """Temporary files and blobs, named or not, that are older than an hour."""
        for path in self._root.glob("??/*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE_S:
                    yield path

    def _is_whole(self, sha256: str, length: int) -> bool:
        with suppress(DataLoss), self.open(sha256, length):
            return True
        return False

    def _write(self, path: Path, data: bytes) -> None:
        make_folder(path.parent)
        temporary = _beside(path)
        write_new(temporary, data, READ_ONLY)
        try:
            self._link(temporary, path, len(data))
        finally:
            temporary.unlink(missing_ok=True)

    def _link(self, temporary: Path, path: Path, length: int) -> None:
        """Gives whole bytes their name, unless whole ones have it already."""
        try:
            os.link(temporary, path)
        except FileExistsError:
            if not self._is_whole(path.name, length):
                other = _beside(path)
                os.link(temporary, other)
                other.replace(path)

    def _settle(self, path: Path) -> None:
        """Makes the blob's name last, also that of another writer, who may not have come to this yet."""
        sync_folder(path.parent)
        sync_folder(self._root)


def _gone() -> DataLoss:
    return DataLoss("The bytes are gone from the disk.")


def _damaged() -> DataLoss:
    return DataLoss("The bytes on disk are not what was stored.")


def _beside(path: Path) -> Path:
    return path.with_name(f".{secrets.token_hex(8)}.tmp")
