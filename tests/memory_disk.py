"""A disk in memory for SQLite that forgets what was not synced, and that can be full or broken at any step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import apsw


@dataclass(slots=True)
class Content:
    """One file: what a reader sees now, and what a power cut would leave of it."""

    now: bytearray = field(default_factory=bytearray)
    durable: bytes = b""


class MemoryDisk(apsw.VFS):
    """Registered as `name`. Every step that changes something is counted in `steps`.

    `fault` is asked before each one, with its number, and may raise what the step is to fail with. `after_power_cut`
    gives a disk with only what was synced; names of files last at once.
    """

    def __init__(self, name: str, files: dict[str, Content] | None = None) -> None:
        super().__init__(name, "")
        self.name = name
        self.files = files or {}
        self.steps = 0
        self.fault: Callable[[int], None] = lambda step: None

    def after_power_cut(self, name: str) -> MemoryDisk:
        """What the machine finds when it starts again."""
        left = {path: Content(bytearray(file.durable), file.durable) for path, file in self.files.items()}
        return MemoryDisk(name, left)

    def step(self) -> None:
        """One change; raises what `fault` raises for it."""
        self.steps += 1
        self.fault(self.steps)

    def xFullPathname(self, name: str) -> str:  # noqa: N802 - SQLite's names
        return name

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> MemoryFile:  # noqa: N802
        path = name if isinstance(name, str) else name.filename() if name is not None else f"temporary-{id(flags)}"
        return MemoryFile(self, self.files.setdefault(path, Content()))

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        return pathname in self.files

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self.step()
        self.files.pop(filename, None)


class MemoryFile:
    """An open file; locks are of no use on a disk that one connection has to itself."""

    def __init__(self, disk: MemoryDisk, content: Content) -> None:
        self.disk = disk
        self.content = content

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        return bytes(self.content.now[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self.disk.step()
        now = self.content.now
        now.extend(bytes(max(0, offset - len(now))))
        now[offset : offset + len(data)] = data

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self.disk.step()
        del self.content.now[newsize:]

    def xSync(self, flags: int) -> None:  # noqa: N802
        self.disk.step()
        self.content.durable = bytes(self.content.now)

    def xFileSize(self) -> int:  # noqa: N802
        return len(self.content.now)

    def xLock(self, level: int) -> None:  # noqa: N802
        return None

    def xUnlock(self, level: int) -> None:  # noqa: N802
        return None

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:  # noqa: N802
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        return 4096

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return 0

    def xClose(self) -> None:  # noqa: N802
        return None
