"""Immutable bytes on disk, named by their digest: written once, never overwritten, checked on every read."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..errors import DataLoss
from .disk import make_folder, refusing, sync_folder, write_new

STALE_S: Final = 3600.0
# Nobody writes to a blob again, and its file is lent out under other names.
READ_ONLY: Final = 0o400


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
                self._write(path, data, sha256)
            # Also for a blob of another writer, who may not have come to this yet: our record follows.
            sync_folder(path.parent)
            sync_folder(self._root)
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
        with suppress(DataLoss):
            self.read(sha256, length)
            return True
        return False

    def _write(self, path: Path, data: bytes, sha256: str) -> None:
        make_folder(path.parent)
        temporary = _beside(path)
        write_new(temporary, data, READ_ONLY)
        try:
            os.link(temporary, path)
        except FileExistsError:
            if not self._is_whole(sha256, len(data)):
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{secrets.token_hex(8)}.tmp")
