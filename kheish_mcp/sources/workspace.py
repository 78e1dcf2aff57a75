"""Paths under the workspace root, and none outside."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Final

import anyio

from ..errors import (
    FailedPrecondition,
    InvalidArgument,
    KheishError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from ..formats import FORMATS
from ..media import Kind, Media
from .beneath import Opener, best_opener, enter, held

LONGEST_PATH: Final = 1024
LONGEST_NAME: Final = 200
DEEPEST: Final = 32
MOST_NAMESAKES: Final = 1000
INSIDE: Final = "Name a path under the workspace root, such as pictures/cat.png."
# Bidi controls, zero widths (but the two joiners that languages need), the tag block.
HIDING: Final = r"[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
LINKED: Final = "The path goes through a link, or out of the workspace."

# In this order: C strings end at NUL, so nothing else may be asked of a path before that.
SPELLINGS: Final = tuple(
    (re.compile(pattern), sentence)
    for pattern, sentence in (
        (r"\x00", "A path holds no NUL."),
        (r"\A\s*\Z", "The path is empty."),
        (rf"\A.{{{LONGEST_PATH + 1}}}", f"A path has at most {LONGEST_PATH} characters."),
        (r"[\x01-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", "The path holds control characters."),
        (HIDING, "The path holds characters that hide or turn text."),
        (r"\\", "Folders are divided by / and not by a backslash."),
        (r"\A[A-Za-z]:", "A path has no drive letter."),
        (r"\A~", "A path does not start at a home folder."),
    )
)

REFUSALS: Final[dict[int, tuple[type[KheishError], str]]] = {
    errno.ENOENT: (NotFound, "The workspace has no such file."),
    errno.ENOTDIR: (NotFound, "The workspace has no such file."),
    errno.ELOOP: (PermissionDenied, LINKED),
    errno.EXDEV: (PermissionDenied, LINKED),
    errno.EACCES: (PermissionDenied, "The system does not allow this here."),
    errno.EPERM: (PermissionDenied, "The system does not allow this here."),
    errno.EROFS: (PermissionDenied, "The workspace cannot be written to."),
    errno.ENXIO: (PermissionDenied, "Only plain files are read."),
    errno.ENAMETOOLONG: (InvalidArgument, "A name in the path is too long."),
    errno.ENOSPC: (ResourceExhausted, "The disk is full."),
    errno.EDQUOT: (ResourceExhausted, "The disk quota is used up."),
}


def _families() -> dict[str, frozenset[str]]:
    """Per extension the endings that are as true; texts may pass for each other, but never for a script or a page."""
    unsigned = [form for form in FORMATS if form.kind is Kind.TEXT and form.sniff is None]
    texts = {ending for form in unsigned for ending in (form.extension, *form.endings)}
    return {
        form.extension: frozenset(texts if form.extension in texts else {form.extension, *form.endings})
        for form in FORMATS
    }


FAMILIES: Final = _families()
MEDIA_ENDINGS: Final = frozenset(chain.from_iterable(FAMILIES.values()))


class Workspace:
    """A folder that callers may name files in, and nothing beside it.

    A path is relative to `root`, or absolute and under it. Refused: a way up, a link anywhere in it, names that start
    with a dot, and whatever is no plain file of its own (a second hard link may be a file from elsewhere). What is
    outside is refused alike, whether it exists or not. `opener` is how files are opened; by default the best there is.
    """

    def __init__(self, root: Path, *, max_bytes: int = 64 * 1024 * 1024, opener: Opener | None = None) -> None:
        self.root = root.absolute()
        self._roots = (_names(str(self.root)), _names(os.path.realpath(root)))
        self.max_bytes = max_bytes
        self._open = opener or best_opener()

    async def read(self, path: str) -> Media:
        """The file's bytes and its name; the media type is '' because only the bytes can tell.

        InvalidArgument, PermissionDenied, NotFound, ResourceExhausted over `max_bytes`.
        """
        parts = self._parts(path)
        return Media(await anyio.to_thread.run_sync(self._read, parts), "", parts[-1])

    async def check_save(self, path: str) -> None:
        """Refuses a path that `save` could not write to; changes nothing."""
        await anyio.to_thread.run_sync(self._check, self._target(path))

    async def save(self, path: str, data: bytes, extension: str) -> str:
        """Writes `data` durably to a new file and gives its absolute path; missing folders are made.

        The file says what it is: `extension` is added to a name without one and takes the place of another media
        extension (`cat`, `cat.jpg` with PNG bytes: `cat.png`; `v1.2`: `v1.2.png`). Nothing is ever overwritten: where
        the name is taken it becomes `cat-2.png`, and so on.
        """
        parts = self._target(path)
        name = with_extension(parts[-1], extension)
        written = await anyio.to_thread.run_sync(self._save, (*parts[:-1], name), data)
        return str(self.root.joinpath(*parts[:-1], written))

    def _parts(self, path: str) -> tuple[str, ...]:
        """The path's names from the root down, judged by their spelling alone."""
        for refused, sentence in SPELLINGS:
            if refused.search(path):
                raise InvalidArgument(sentence, hint=INSIDE)
        parts = _names(path)
        if ".." in parts:
            raise PermissionDenied("A path does not go up.", hint=INSIDE)
        if path.startswith("/"):
            parts = self._relative(parts)
        if not parts:
            raise InvalidArgument("The path names the workspace itself.", hint=INSIDE)
        if len(parts) > DEEPEST:
            raise InvalidArgument(f"The path is more than {DEEPEST} names deep.", hint=INSIDE)
        if any(part.startswith(".") for part in parts):
            raise PermissionDenied("Names that start with a dot are left alone.", hint=INSIDE)
        return parts

    def _relative(self, parts: tuple[str, ...]) -> tuple[str, ...]:
        """An absolute path's names below the root, compared name by name and never by prefix of the text."""
        for root in self._roots:
            if parts[: len(root)] == root:
                return parts[len(root) :]
        raise PermissionDenied("The path is not under the workspace root.", hint=INSIDE)

    def _target(self, path: str) -> tuple[str, ...]:
        """The names of a file to be written; InvalidArgument for a folder, and for names no file could have."""
        parts = self._parts(path)
        if path.endswith(("/", "/.")):
            raise InvalidArgument("The path ends in a folder, and a file is to be written.", hint=INSIDE)
        if any(len(os.fsencode(part)) > LONGEST_NAME for part in parts):
            raise InvalidArgument(f"A name in the path has more than {LONGEST_NAME} bytes.", hint=INSIDE)
        return parts

    @contextmanager
    def _opened(self) -> Generator[int]:
        """The root's descriptor; what the system refuses meanwhile becomes a refusal of ours, without a path."""
        try:
            root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            raise FailedPrecondition(
                "The workspace root cannot be opened.", hint="Create the folder that --workspace-root names."
            ) from None
        with held(root):
            try:
                yield root
            except OSError as error:
                kind, sentence = REFUSALS.get(error.errno or 0, (Unavailable, "The workspace cannot be used just now."))
                raise kind(sentence, hint=INSIDE) from None

    def _read(self, parts: Sequence[str]) -> bytes:
        # Without O_NONBLOCK a fifo would hold the thread until somebody writes to it.
        with self._opened() as root, held(self._open(root, parts, os.O_RDONLY | os.O_NONBLOCK)) as fd:
            self._judge(os.fstat(fd))
            with open(fd, "rb", closefd=False) as file:
                data = file.read(self.max_bytes + 1)
        if len(data) > self.max_bytes:
            raise self._too_large()
        return data

    def _judge(self, found: os.stat_result) -> None:
        """Refuses, by the open descriptor, what is no plain file of its own or is too large."""
        if not stat.S_ISREG(found.st_mode):
            raise PermissionDenied("Only plain files are read.", hint=INSIDE)
        if found.st_nlink > 1:
            raise PermissionDenied(
                "The file has a second name, which may be outside.", hint="Copy it, and name the copy."
            )
        if found.st_size > self.max_bytes:
            raise self._too_large()

    def _too_large(self) -> ResourceExhausted:
        return ResourceExhausted(f"The file has more than {self.max_bytes} bytes.", hint="Use a smaller one.")

    def _check(self, parts: Sequence[str]) -> None:
        """Walks what exists of the way to a target; what does not exist yet can be made in a writable folder."""
        with self._opened() as root, _deepest(root, parts[:-1]) as folder:
            if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder):
                raise PermissionDenied("The folder cannot be written to.", hint=INSIDE)

    def _save(self, parts: Sequence[str], data: bytes) -> str:
        """Writes and syncs file and folder; gives the name it got. A write that fails leaves nothing behind."""
        with self._opened() as root, _deepest(root, parts[:-1], create=True) as folder:
            name, fd = _create(folder, parts[-1])
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                os.unlink(name, dir_fd=folder)
                raise
            os.fsync(folder)
        return name


def with_extension(name: str, extension: str) -> str:
    """The name with an extension that is true: its own if it will do, in place of another medium's, else added."""
    name = name.rstrip(". ")
    stem, _, ending = name.rpartition(".")
    if stem and ending.lower() in FAMILIES.get(extension, {extension}):
        return name
    return f"{stem if stem and ending.lower() in MEDIA_ENDINGS else name}.{extension}"


@contextmanager
def _deepest(root: int, parts: Sequence[str], *, create: bool = False) -> Generator[int]:
    """A descriptor of the deepest folder of `parts` that exists, of the last one with `create`."""
    with ExitStack() as opened:
        here = root
        for part in parts:
            try:
                if create:
                    _make(here, part)
                here = enter(here, part)
            except FileNotFoundError:
                if create:
                    raise
                break
            except NotADirectoryError:
                raise InvalidArgument("A file is in the way where a folder should be.", hint=INSIDE) from None
            opened.callback(os.close, here)
        yield here


def _make(folder: int, name: str) -> None:
    """Makes a folder that lasts, unless the name is taken, whatever by: entering it will tell."""
    try:
        os.mkdir(name, dir_fd=folder)
    except FileExistsError:
        return
    os.fsync(folder)


def _create(folder: int, name: str) -> tuple[str, int]:
    """A new file under the first free of `cat.png`, `cat-2.png` and so on: its name and descriptor."""
    stem, dot, extension = name.rpartition(".")
    for number in range(1, MOST_NAMESAKES + 1):
        tried = name if number == 1 else f"{stem}-{number}{dot}{extension}"
        try:
            return tried, os.open(
                tried, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder
            )
        except FileExistsError:
            continue
    raise ResourceExhausted(f"There are {MOST_NAMESAKES} files of that name already.", hint="Choose another name.")


def _names(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part not in ("", "."))
