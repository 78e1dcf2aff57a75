"""Sealed slots, one secret each."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ..errors import (
    FailedPrecondition,
    InvalidArgument,
    MasterKeyMissing,
    NotFound,
    ResourceExhausted,
    StoreTampered,
)
from ..secret import Secret
from ..settings import Settings
from .disk import check_private, locked, make_folder, read_private, refusing, signature_of, write_over
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
    resealed,
    sealed_slot,
)

LARGEST: Final = 4 << 20
LONGEST: Final = 8192
STALE_S: Final = 3600.0
PROVIDERS: Final = ("openrouter", "openai", "generic")


@dataclass(frozen=True, slots=True)
class Slot:
    """What is public of a slot; times are UTC, as 2026-11-24T09:30:00+00:00."""

    slot_id: str
    provider: str
    kind: str
    version: int
    created_at: str
    updated_at: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """The store as it was read under a signature; without `dek` nothing but its shape is checked."""

    signature: object
    envelope: Envelope
    dek: bytes | None


class AuthStore:
    """The auth store of a state root; safe for several processes, and a change by one is seen by all.

    `<state_root>/secrets` holds `store.json`, the master key of `secrets init` in `master.key`, and in `high-water` the
    newest generation that was written. The store is written whole: to a temporary file of a random name, synced,
    renamed; writers take turns by a lock on `store.json.lock`. Who reads finds the old store or the new one. An older
    store in the place of a newer one is noticed by the highest generation that this process or `high-water` knows;
    an older store and an older `high-water` put back together are not, and neither is a store of another store id
    that the same key opens. The master key is `master_key`, else in `master_key_file`, else in the key file.
    """

    def __init__(self, state_root: Path, master_key: Secret | None = None, master_key_file: Path | None = None) -> None:
        self._folder = state_root / "secrets"
        self._file = self._folder / "store.json"
        self._high_water = self._folder / "high-water"
        self.key_file = self._folder / "master.key"
        self._master_key = master_key
        self._master_key_file = master_key_file
        self._seen: _Seen | None = None
        self._newest: dict[str, int] = {}

    @classmethod
    def of(cls, settings: Settings) -> AuthStore:
        """The store of the settings' state root, for their master key."""
        return cls(settings.state_root, settings.master_key, settings.master_key_file)

    def signature(self) -> object:
        """Changes whenever the store or a file with its master key does; never refuses."""
        return tuple(signature_of(path) for path in (self._file, self._master_key_file or self.key_file))

    def list(self) -> tuple[Slot, ...]:
        """Every slot by name; needs no key, since names are public, but checks the store where a key is there."""
        return tuple(_slot(name, slot) for name, slot in sorted(self._slots().items()))

    def get(self, ref: str) -> Slot:
        """One slot; NotFound where it is not there. Needs no key, but checks the store where a key is there."""
        return _slot(ref, self._found(ref).envelope.slots[ref])

    def open(self, ref: str) -> Secret:
        """A slot's value; refuses with NotFound, MasterKeyMissing, MasterKeyWrong, StoreTampered or StoreInsecure."""
        seen = self._found(ref)
        if seen.dek is None:
            raise _no_master()
        return opened_slot(seen.envelope, seen.dek, ref)

    def set(self, ref: str, provider: str, value: Secret) -> Slot:
        """Puts a value, without one newline at its end, into a slot, new or not."""
        check_name(ref)
        _check_provider(provider)
        value = _checked(value)
        with self._writing() as (envelope, dek):
            now = datetime.now(UTC).isoformat(timespec="seconds")
            old = envelope.slots.get(ref)
            version, created_at = (old.version + 1, old.created_at) if old is not None else (1, now)
            fresh = Sealed(provider, "api_key", version, created_at, now, sealed="")
            slots = {**envelope.slots, ref: sealed_slot(envelope, dek, ref, fresh, value)}
            self._write(replace(envelope, slots=slots), dek)
        return _slot(ref, fresh)

    def delete(self, ref: str) -> bool:
        """Takes a slot away; False where it is not there."""
        check_name(ref)
        if ref not in self._slots():
            return False
        with self._writing() as (envelope, dek):
            slots = {name: slot for name, slot in envelope.slots.items() if name != ref}
            if len(slots) < len(envelope.slots):
                self._write(replace(envelope, slots=slots), dek)
        return len(slots) < len(envelope.slots)

    def rekey(self, new: MasterKey) -> int:
        """Seals every slot anew, for `new` alone, and gives their number; the key file follows if it held the old key."""
        if self._read() is None:
            raise FailedPrecondition("There is no auth store to rekey.", hint="`secrets set` makes one.")
        with self._writing() as (envelope, dek):
            if self._master_key is None and self._master_key_file is None:
                # Both keys open the store until the key file has changed: a crash in between locks nobody out.
                both = (self.master(), new)
                envelope, dek = self._write(*resealed(envelope, dek, both))
                write_over(self.key_file, _line(new))
            self._write(*resealed(envelope, dek, (new,)))
        return len(envelope.slots)

    def init(self) -> Path:
        """Makes the key file and gives its path; FailedPrecondition where there is one, or a store of another key."""
        with refusing():
            self._make_folder()
            with locked(self._folder / "store.json.lock", wait=True):
                if signature_of(self.key_file) is not None:
                    raise FailedPrecondition(
                        f"There is a key file already: {self.key_file}",
                        hint="It is used as it is; nothing was changed.",
                    )
                if signature_of(self._file) is not None:
                    raise FailedPrecondition(
                        "There is an auth store already, and a new master key would not open it.",
                        hint="Go on with the key that it was made with; `secrets rekey` moves it to another one.",
                    )
                write_over(self.key_file, _line(MasterKey.generate()))
        return self.key_file

    def master(self) -> MasterKey:
        """The master key at hand; MasterKeyMissing where there is none, StoreInsecure where others can read it."""
        found = self._master()
        if found is None:
            raise _no_master()
        return found

    def _master(self) -> MasterKey | None:
        if self._master_key is not None:
            return MasterKey.parse(self._master_key.reveal())
        self._check_folder()
        data = read_private(self._master_key_file or self.key_file, LARGEST)
        if data is None and self._master_key_file is not None:
            raise MasterKeyMissing(
                f"The master key's file is not there: {self._master_key_file}",
                hint="Mend the path in KHEISH_AUTH_STORE_MASTER_KEY_FILE.",
            )
        # What is no UTF-8 becomes lone surrogates, which no key has.
        return MasterKey.parse(data.decode("utf-8", "surrogateescape")) if data is not None else None

    def _found(self, ref: str) -> _Seen:
        check_name(ref)
        seen = self._read()
        if seen is None or ref not in seen.envelope.slots:
            known = f"{', '.join(PROVIDERS[:-1])} or {PROVIDERS[-1]}"
            hint = f"kheish-daemon secrets set {ref} --provider PROVIDER, which is {known}."
            raise NotFound(f"slot {ref} is not set", hint=hint)
        return seen

    def _slots(self) -> dict[str, Sealed]:
        seen = self._read()
        return dict(seen.envelope.slots) if seen is not None else {}

    def _read(self) -> _Seen | None:
        """The store as it is on disk, checked as far as the key at hand allows; None where there is none."""
        self._check_folder()
        signature = self.signature()
        if self._seen is not None and self._seen.signature == signature:
            return self._seen
        # Before the store: a writer who comes in between must not make the store that we read look rolled back.
        newest = self._newest_known()
        data = read_private(self._file, LARGEST)
        if data is None:
            return None
        envelope, mac = decode(data)
        master = self._master()
        dek = open_dek(envelope, master) if master is not None else None
        if dek is not None:
            check_mac(envelope, dek, mac)
            self._check_generation(envelope, newest)
        self._seen = _Seen(signature, envelope, dek)
        return self._seen

    def _newest_known(self) -> dict[str, int]:
        """The newest generation by store id, from memory and from `high-water`."""
        line = (read_private(self._high_water, LARGEST) or b"").decode("ascii", "replace")
        store_id, _, written = line.strip().partition(" ")
        with suppress(ValueError):
            return {**self._newest, store_id: max(int(written), self._newest.get(store_id, 0))}
        return self._newest

    def _check_generation(self, envelope: Envelope, newest: dict[str, int]) -> None:
        """A store that is older than one that was seen is refused, in other words than a changed one."""
        floor = newest.get(envelope.store_id, 0)
        if envelope.generation < floor:
            raise StoreTampered(
                f"The auth store was rolled back: generation {floor} was seen, this is {envelope.generation}.",
                hint=f"Put the newer store back; if you restored a backup yourself, delete {self._high_water}"
                " and restart what is running.",
            )
        self._newest = {envelope.store_id: envelope.generation}

    @contextmanager
    def _writing(self) -> Iterator[tuple[Envelope, bytes]]:
        """The store as it is now, with its data key, while no other process writes."""
        master = self.master()
        with refusing():
            self._make_folder()
            with locked(self._folder / "store.json.lock", wait=True):
                self._sweep()
                self._seen = None  # the file itself counts here, not what its signature says of it
                seen = self._read()
                yield (seen.envelope, open_dek(seen.envelope, master)) if seen is not None else new_envelope(master)

    def _write(self, envelope: Envelope, dek: bytes) -> tuple[Envelope, bytes]:
        """The next generation on disk; gives what it was made of."""
        envelope = replace(envelope, generation=envelope.generation + 1)
        data = encode(envelope, dek)
        if len(data) > LARGEST:
            raise ResourceExhausted("The auth store is full.", hint="`secrets delete` slots that are not in use.")
        write_over(self._file, data)
        self._seen = None
        self._newest = {envelope.store_id: envelope.generation}
        # The new store is in place. A high-water that is behind is a lower floor and never a false alarm.
        with suppress(OSError):
            write_over(self._high_water, f"{envelope.store_id} {envelope.generation}\n".encode())
        return envelope, dek

    def _make_folder(self) -> None:
        make_folder(self._folder)
        self._check_folder()

    def _check_folder(self) -> None:
        with refusing(), suppress(FileNotFoundError, NotADirectoryError):
            check_private(self._folder, os.lstat(self._folder), stat.S_ISDIR)

    def _sweep(self) -> None:
        """Takes away what crashed writers left."""
        for path in self._folder.glob(".*.tmp"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE_S:
                    path.unlink()


def _no_master() -> MasterKeyMissing:
    return MasterKeyMissing(
        "There is no master key for the auth store.",
        hint="Run `kheish-daemon secrets init` to make a key file, or set KHEISH_AUTH_STORE_MASTER_KEY_FILE or"
        " KHEISH_AUTH_STORE_MASTER_KEY (`kheish-daemon secrets generate` prints a key).",
    )


def check_name(ref: str) -> None:
    """InvalidArgument for what cannot be a slot's name, which is not quoted: it may be a key."""
    if not NAME.fullmatch(ref):
        raise InvalidArgument(
            "A slot's name has letters, digits, dots, dashes and underscores, at most 128, and begins unlike a key.",
            hint="Such as openrouter.primary.",
        )


def _check_provider(provider: str) -> None:
    if provider not in PROVIDERS:
        raise InvalidArgument("There is no such provider.", hint=f"One of: {', '.join(PROVIDERS)}.")


def _checked(value: Secret) -> Secret:
    """The value without one newline at its end; what HTTP would refuse in a header, and quote, is refused here."""
    text = value.reveal().removesuffix("\n").removesuffix("\r")
    if not 0 < len(text) <= LONGEST or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidArgument(
            "The secret is empty, too long, or holds blanks, line breaks or characters beyond ASCII.",
            hint="Copy the key alone; one newline at its end is dropped by itself.",
        )
    return Secret(text)


def _slot(name: str, slot: Sealed) -> Slot:
    return Slot(name, slot.provider, slot.kind, slot.version, slot.created_at, slot.updated_at)


def _line(master: MasterKey) -> bytes:
    return f"{master.secret.reveal()}\n".encode()
