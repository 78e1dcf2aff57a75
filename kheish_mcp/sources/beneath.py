"""Opening what is beneath a folder, and never what is beside it, whoever renames or relinks things meanwhile."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Final, TypeAlias

Opener: TypeAlias = Callable[[int, Sequence[str], int], int]

# The number of openat2 on every architecture but alpha; resolve flags from <linux/openat2.h>.
OPENAT2: Final = 437
NO_MAGICLINKS, NO_SYMLINKS, BENEATH = 0x02, 0x04, 0x08
PASSING: Final = frozenset({errno.EINTR, errno.EAGAIN})
ATTEMPTS: Final = 16


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def open_in_kernel(root: int, parts: Sequence[str], flags: int) -> int:
    """A descriptor of `parts` beneath the folder `root`, by one openat2 that takes no link of any sort.

    OSError: ELOOP for a link, EXDEV for a way out, ENOSYS or EPERM where the call itself is not to be had.
    """
    how = _How(flags | os.O_CLOEXEC, 0, BENEATH | NO_MAGICLINKS | NO_SYMLINKS)
    path = os.fsencode("/".join(parts))
    for _ in range(ATTEMPTS):
        fd: int = _libc().syscall(
            ctypes.c_long(OPENAT2), ctypes.c_int(root), path, ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how))
        )
        if fd >= 0:
            return fd
        failed = ctypes.get_errno()
        if failed not in PASSING:
            break
    raise OSError(failed, os.strerror(failed))


def open_by_walk(root: int, parts: Sequence[str], flags: int) -> int:
    """The same for systems without openat2: one component at a time, each relative to the folder already open."""
    if len(parts) == 1:
        return os.open(parts[0], flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    with held(enter(root, parts[0])) as below:
        return open_by_walk(below, parts[1:], flags)


def enter(folder: int, name: str) -> int:
    """A descriptor of the folder `name` in `folder`; OSError ELOOP for a link, ENOTDIR for anything else."""
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except NotADirectoryError:
        # Linux says ENOTDIR of a link too; what is a folder by now was a link a moment ago.
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode) or stat.S_ISDIR(mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
        raise


@contextmanager
def held(fd: int) -> Generator[int]:
    """The descriptor, closed at the end."""
    try:
        yield fd
    finally:
        os.close(fd)


@cache
def best_opener() -> Opener:
    """openat2 where the kernel and its sandbox give it, tried once; else the walk."""
    if sys.platform != "linux":
        return open_by_walk
    with held(os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as root:
        try:
            os.close(open_in_kernel(root, (".",), os.O_RDONLY | os.O_DIRECTORY))
        except OSError:
            return open_by_walk
    return open_in_kernel
