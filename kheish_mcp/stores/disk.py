"""Files that are this user's alone and outlast a power cut: the few calls with which stores put bytes down.

A file outlasts a power cut once its bytes are synced and, after that, the folder that holds its name.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ..errors import ConfigError, KheishError, ResourceExhausted, StoreInsecure, Unavailable

# EFBIG: a limit on the size of files, which a full quota looks like in a child with rlimits.
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def make_folder(folder: Path) -> None:
    """A folder of mode 0700 whose name lasts; the ones above it are made too."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_new(path: Path, data: bytes, mode: int = 0o600) -> None:
    """A new file with `data`, on disk when this returns; FileExistsError where the name is taken, nothing on failure."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(descriptor)


def write_over(path: Path, data: bytes) -> None:
    """The file of that name with `data` and mode 0600, whole or as it was; a crash may leave a `.*.tmp` beside it."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    write_new(temporary, data)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink()
        raise
    sync_folder(path.parent)


def read_private(path: Path, most: int) -> bytes | None:
    """The bytes, at most `most`, of a file that is this user's alone; None where there is none, else StoreInsecure."""
    try:
        # Without O_NONBLOCK, a pipe of that name would hold the daemon for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _link(path) if error.errno == errno.ELOOP else refusal_of(error) from None
    with refusing(), os.fdopen(descriptor, "rb") as file:
        check_private(path, os.fstat(descriptor), stat.S_ISREG)
        data = file.read(most + 1)
    if len(data) > most:
        raise ConfigError(f"{path} is far too large.", hint="Restore it from a backup.")
    return data


def check_private(path: Path, found: os.stat_result, is_kind: Callable[[int], bool]) -> None:
    """StoreInsecure where what was found is a link, not of its kind, another user's, or open to others."""
    if stat.S_ISLNK(found.st_mode):
        raise _link(path)
    if not is_kind(found.st_mode):
        raise StoreInsecure(f"{path} is not what it should be.", hint="Move it away.")
    if found.st_uid != os.geteuid():
        raise StoreInsecure(f"{path} belongs to another user.", hint="Run as the user that owns it.")
    if found.st_mode & 0o077:
        raise StoreInsecure(f"{path} is open to others.", hint=f"Make it yours alone: chmod go-rwx {path}")


def signature_of(path: Path) -> tuple[int, ...] | None:
    """Changes whenever a file is written, replaced or opened to others; None where there is none."""
    try:
        found = os.lstat(path)
    except OSError as error:
        return None if error.errno in (errno.ENOENT, errno.ENOTDIR) else (-(error.errno or 0),)
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode, found.st_uid


def _link(path: Path) -> StoreInsecure:
    return StoreInsecure(f"{path} is a link.", hint="Put the real thing in its place.")


@contextmanager
def locked(path: Path, *, wait: bool) -> Generator[None]:
    """Holds the lock of a file that is made for it; without `wait`, Unavailable while another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(
                "Another process is at work on the state root.", hint="Try again when it is done.", retryable=True
            ) from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def refusing() -> Generator[None]:
    """What the system refuses inside becomes a refusal of ours, which names no path; see `refusal_of`."""
    try:
        yield
    except OSError as error:
        raise refusal_of(error) from None


def refusal_of(error: OSError) -> KheishError:
    """ResourceExhausted for a full disk, Unavailable for a failing one, ConfigError for what permissions mend."""
    if error.errno in FULL:
        return ResourceExhausted("The disk of the state root is full.", hint="Free some space, then try again.")
    if error.errno == errno.EIO:
        return Unavailable(
            "The disk of the state root fails.", hint="Look at the system's log; then `kheish-daemon doctor`."
        )
    return ConfigError(
        f"The state root cannot be used ({os.strerror(error.errno or 0)}).",
        hint="Mend its permissions, or name another folder with --state-root.",
    )
