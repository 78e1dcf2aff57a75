"""Sealed slots, one secret each."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ..errors import FailedPrecondition, InvalidArgument, MasterKeyMissing, NotFound, StoreInsecure, StoreTampered
from ..secret import Secret
from .envelope import (
    NAME,
    Envelope,
    MasterKey,
    Sealed,
    check_mac,
    decode,
    encode,
    new_envelope,
    open_dek,
    opened_slot,
    rewrapped,
    sealed_slot,
)

LARGEST: Final = 4 << 20
LONGEST: Final = 8192
STALE_S: Final = 3600.0
PROVIDERS: Final = ("openrouter", "openai", "generic")


@dataclass(frozen=True, slots=True)
class Slot:
    """What is public of a slot."""

    slot_id: str
    provider: str
    kind: str
    version: int
    created_at: str
    updated_at: str


class AuthStore:
    """The auth store of a state root; safe for several processes, and a change by one is seen by all.

    `<state_root>/secrets/store.json` is written whole: to a temporary file of a random name, synced, renamed. Writers
    take turns by a lock on a file beside it. An older store put in the place of a newer one is noticed by the
    highest generation seen, in this process and in `high-water`; both put back together are not.
    """

    def __init__(self, state_root: Path, master: Callable[[], MasterKey | None]) -> None:
        self._folder = state_root / "secrets"
        self._file = self._folder / "store.json"
        self._master = master
        self._seen: tuple[object, Envelope, bytes | None] | None = None
        self._highest = 0

    @property
    def key_file(self) -> Path:
        """Where `secrets init` puts the master key."""
        return self._folder / "master.key"

    def signature(self) -> object:
        """Changes whenever the store, or the key file, changes."""
        return tuple(_signature(path) for path in (self._file, self.key_file))

    def list(self) -> tuple[Slot, ...]:
        """Every slot by name; needs no key, since names are public."""
        envelope = self._read()
        return tuple(_slot(name, envelope.slots[name]) for name in sorted(envelope.slots)) if envelope else ()

    def get(self, ref: str) -> Slot:
        """One slot; NotFound where it is not there."""
        envelope = self._read()
        if envelope is None or ref not in envelope.slots:
            raise _no_slot(ref)
        return _slot(ref, envelope.slots[ref])

    def open(self, ref: str) -> Secret:
        """A slot's value; refuses with MasterKeyMissing, MasterKeyWrong, StoreTampered or NotFound."""
        envelope = self._read()
        if envelope is None or ref not in envelope.slots:
            raise _no_slot(ref)
        return opened_slot(envelope, self._dek(envelope), ref)

    def set(self, ref: str, provider: str, value: Secret) -> Slot:
        """Puts a value into a slot, new or not."""
        _check(ref, provider, value)
        with self._writing() as (envelope, dek):
            now = datetime.now(UTC).isoformat(timespec="seconds")
            old = envelope.slots.get(ref)
            version = old.version + 1 if old else 1
            fresh = Sealed(provider, "api_key", version, old.created_at if old else now, now, "")
            slots = {**envelope.slots, ref: sealed_slot(envelope, dek, ref, fresh, value)}
            self._write(replace(envelope, slots=slots), dek)
        return self.get(ref)

    def delete(self, ref: str) -> bool:
        """Takes a slot away; NotFound where it is not there."""
        self.get(ref)
        with self._writing() as (envelope, dek):
            slots = {name: slot for name, slot in envelope.slots.items() if name != ref}
            self._write(replace(envelope, slots=slots), dek)
        return True

    def rekey(self, new: MasterKey) -> None:
        """Seals everything anew: a fresh data key, for the new master key alone."""
        if not self._file.exists():
            raise FailedPrecondition("There is no auth store to rekey.", hint="`secrets set` makes one.")
        with self._writing() as (envelope, dek):
            self._write(*rewrapped(envelope, dek, new))

    def write_key_file(self, master: MasterKey) -> None:
        """Leaves a master key in the key file, 0600; never overwrites one."""
        self._make_folder()
        try:
            descriptor = os.open(self.key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            raise FailedPrecondition(
                f"There is a key file already: {self.key_file}", hint="It is used as it is; nothing was changed."
            ) from None
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(master.secret.reveal() + "\n")
            file.flush()
            os.fsync(file.fileno())
        _sync(self._folder)

    def _read(self) -> Envelope | None:
        """The store as it is on disk, checked as far as the key at hand allows; None where there is none."""
        found = _signature(self._file)
        if found is None:
            return None
        if self._seen is not None and self._seen[0] == found:
            return self._seen[1]
        envelope, mac = decode(read_private(self._file))
        dek = None
        master = self._master()
        if master is not None:
            dek = open_dek(envelope, master)
            check_mac(envelope, dek, mac)
            self._check_generation(envelope)
        self._seen = (found, envelope, dek)
        return envelope

    def _check_generation(self, envelope: Envelope) -> None:
        """A store older than one that was seen is refused, in other words than a changed one."""
        water = self._folder / "high-water"
        with contextlib.suppress(OSError, ValueError):
            store_id, _, generation = water.read_text(encoding="ascii").partition(" ")
            if store_id == envelope.store_id:
                self._highest = max(self._highest, int(generation))
        if envelope.generation < self._highest:
            raise StoreTampered(
                f"The auth store was rolled back: generation {self._highest} was seen, this is {envelope.generation}.",
                hint="Put the newer store back; or delete secrets/high-water if you restored a backup yourself.",
            )

    def _dek(self, envelope: Envelope) -> bytes:
        if self._seen is not None and self._seen[2] is not None:
            return self._seen[2]
        master = self._master()
        if master is None:
            raise MasterKeyMissing(
                "The auth store is sealed, and there is no master key.",
                hint="Set KHEISH_AUTH_STORE_MASTER_KEY_FILE (or KHEISH_AUTH_STORE_MASTER_KEY), or run `secrets init`.",
            )
        return open_dek(envelope, master)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[Envelope, bytes]]:
        """The store as it is now, with its data key, while no other process writes."""
        self._make_folder()
        descriptor = os.open(
            self._folder / "store.json.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._sweep()
            self._seen = None
            envelope = self._read()
            if envelope is not None:
                yield envelope, self._dek(envelope)
            else:
                yield self._begin()
        finally:
            os.close(descriptor)

    def _begin(self) -> tuple[Envelope, bytes]:
        master = self._master()
        if master is None:
            raise MasterKeyMissing(
                "There is no master key to seal the auth store with.",
                hint="Run `kheish-daemon secrets init`, or set KHEISH_AUTH_STORE_MASTER_KEY (`secrets generate` prints one).",
            )
        return new_envelope(master)

    def _write(self, envelope: Envelope, dek: bytes) -> None:
        envelope = replace(envelope, generation=envelope.generation + 1)
        _replace(self._file, encode(envelope, dek))
        _replace(self._folder / "high-water", f"{envelope.store_id} {envelope.generation}\n".encode())
        self._highest = envelope.generation
        self._seen = None

    def _make_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._folder.is_symlink():
            raise _insecure(self._folder, "is a link")
        if self._folder.stat().st_mode & 0o077:
            raise _insecure(self._folder, "is open to others")

    def _sweep(self) -> None:
        for path in self._folder.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE_S:
                    path.unlink()


def read_private(path: Path) -> bytes:
    """The bytes of a file that nobody else can read and that is no link; StoreInsecure otherwise."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"There is no file {path}.", hint="Check the path.") from None
    except OSError:
        raise _insecure(path, "is a link or cannot be opened") from None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise _insecure(path, "is not a file")
        if found.st_mode & 0o077 or found.st_uid not in (os.geteuid(), 0):
            raise _insecure(path, "is open to others")
        if found.st_size > LARGEST:
            raise _insecure(path, "is far too large")
        return file.read()


def _insecure(path: Path, what: str) -> StoreInsecure:
    return StoreInsecure(f"{path} {what}.", hint=f"Make it yours alone: chmod go-rwx {path}")


def _check(ref: str, provider: str, value: Secret) -> None:
    text = value.reveal()
    if not NAME.fullmatch(ref):
        raise InvalidArgument(
            "A slot's name has letters, digits, dots, dashes and underscores, at most 128.",
            hint="Such as openrouter.primary.",
        )
    if provider not in PROVIDERS:
        raise InvalidArgument("There is no such provider.", hint=f"One of: {', '.join(PROVIDERS)}.")
    if not text or len(text) > LONGEST or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidArgument(
            "The secret is empty, too long, or holds blanks, line breaks or characters beyond ASCII.",
            hint="Copy the key alone; one newline at its end is dropped by itself.",
        )


def _slot(name: str, slot: Sealed) -> Slot:
    return Slot(name, slot.provider, slot.kind, slot.version, slot.created_at, slot.updated_at)


def _no_slot(ref: str) -> NotFound:
    return NotFound(f"slot {ref[:128]} is not set", hint=f"kheish-daemon secrets set {ref[:128]} --provider openrouter")


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode


def _replace(path: Path, data: bytes) -> None:
    """The file with new bytes, whole or not at all."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
