"""A file of another program changed whole or not at all, and only where no other user's hand can be in it."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from ..errors import Aborted, ConfigError, PermissionDenied
from ..stores.disk import make_folder, signature_of, sync_folder, write_new

MOST: Final = 16 << 20
NEW: Final = 0o600
BACKUP: Final = "kheish-backup"
WORLD: Final = stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Target:
    """A file as it was read: where it really is, its bytes and its mode; without a mark it is not there yet."""

    path: Path
    data: bytes = b""
    mode: int = NEW
    mark: tuple[int, ...] | None = None


def target_of(path: Path, within: Path | None = None) -> Target:
    """The file to change, behind the links that lead to it; `within` is a folder that they may not lead out of.

    PermissionDenied where they do, for what belongs to another user or stands where others may write, ConfigError for
    what is no plain file of at most 16 MiB.
    """
    with _refusing(path):
        real = Path(os.path.realpath(path))
        if within is not None and not real.is_relative_to(os.path.realpath(within)):
            raise PermissionDenied(f"{path} leads out of the project.", hint="Put a file of its own in its place.")
        for folder in (Path(os.path.realpath(path.parent)), real.parent):
            _check_folder(folder)
        mark = signature_of(real)
        if mark is None and path.is_symlink():
            raise ConfigError(f"{path} is a link to nothing.", hint="Remove the link, or make the file that it names.")
        return Target(real) if mark is None else _read(real, mark)


def _read(path: Path, mark: tuple[int, ...]) -> Target:
    # Without O_NONBLOCK, a pipe of that name would hold the command for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MOST:
            raise ConfigError(f"{path} is no plain file of at most {MOST >> 20} MiB.", hint="Move it away.")
        if found.st_uid != os.geteuid():
            raise PermissionDenied(f"{path} belongs to another user.", hint="Run as the user that owns it.")
        return Target(path, file.read(), stat.S_IMODE(found.st_mode), mark)


def _check_folder(folder: Path) -> None:
    """PermissionDenied where another user could put something else in the place of what is beneath the folder."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    found = there.stat()
    if found.st_uid != os.geteuid():
        raise PermissionDenied(f"{there} belongs to another user.", hint="Run as the user that owns it.")
    open_ones = [there] if found.st_mode & WORLD else [each for each in there.parents if _is_open(each)]
    if open_ones:
        raise PermissionDenied(f"{open_ones[0]} can be written by everyone.", hint=f"chmod o-w {open_ones[0]}")


def _is_open(folder: Path) -> bool:
    """Whether everyone may rename what is in it; a sticky folder, such as /tmp, forbids that."""
    mode = folder.stat().st_mode
    return bool(mode & WORLD) and not mode & stat.S_ISVTX


def replace(target: Target, data: bytes) -> Path | None:
    """Puts `data` in the file's place, with its mode; gives the backup of what was there, which replaces no other.

    Aborted where somebody changed the file since it was read; the file is whole, old or new, whatever happens.
    """
    path = target.path
    with _refusing(path):
        make_folder(path.parent)
        temporary = path.with_name(f".{path.name[:64]}.{secrets.token_hex(8)}.tmp")
        _write(temporary, data, target.mode)
        try:
            if signature_of(path) != target.mark:
                raise Aborted(f"{path} was changed meanwhile.", hint="Try again.")
            backup = _backed_up(target) if target.mark else None
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)
    return backup


def _backed_up(target: Target) -> Path:
    for number in count(1):
        backup = target.path.with_name(f"{target.path.name}.{BACKUP}-{number}")
        with suppress(FileExistsError):
            _write(backup, target.data, target.mode)
            break
    return backup


def _write(path: Path, data: bytes, mode: int) -> None:
    """A new file that nobody else can read before it has its mode."""
    write_new(path, data)
    path.chmod(mode)


@contextmanager
def _refusing(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ConfigError(f"{path} cannot be used ({why}).", hint="Mend its permissions, or free some space.") from None
