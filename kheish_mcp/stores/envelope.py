"""The format kheish-secrets/2: slots sealed under a data key that is wrapped for each master key, and a MAC over all.

    KEK  = HKDF-SHA256(master, salt = store_id, info = "kheish-secrets/2|kek")     key_id = mk_ + first 8 bytes of
    HKDF-SHA256(master, salt = store_id, info = "kheish-secrets/2|key-id"), public
    DEK  = 32 random bytes, wrapped with AES-256-GCM-SIV, AAD = [format, store_id, "dek", key_id]
    slot = AES-256-GCM-SIV(DEK, padded value, AAD = [format, store_id, "slot", name, provider, kind, version])
    mac  = HMAC-SHA256(HKDF-SHA256(DEK, salt = store_id, info = "kheish-secrets/2|mac"), everything but mac)

The salt is the 16 bytes that store_id spells. What is sealed lies in the file as base64 of nonce (12 bytes), ciphertext
and tag. A padded value is its length (2 bytes, big-endian), the value, and zeros up to a multiple of 64. AAD and the
text under the MAC are canonical JSON: sorted keys, no blanks. The file is ASCII.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ..errors import ConfigError, MasterKeyWrong, StoreTampered
from ..secret import Secret

FORMAT: Final = "kheish-secrets/2"
KEY: Final = 32
NONCE: Final = 12
PADDING: Final = 64
LENGTH: Final = 2
MOST_RECIPIENTS: Final = 16
# A name is shown wherever the slot is; a key that was put in its place must not be.
NAME: Final = re.compile(r"(?!sk-)[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
STORE_ID: Final = re.compile(r"[0-9a-f]{32}")
WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\+00:00")
BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}")

# What every field is. Names and times are shown before the MAC can be checked, so nothing that moves a cursor fits.
Shape = Mapping[str, re.Pattern[str] | type]
STORE: Final[Shape] = {
    "format": re.compile(FORMAT), "store_id": STORE_ID, "generation": int, "recipients": list, "slots": dict, "mac": BASE64,
}  # fmt: skip
RECIPIENT: Final[Shape] = {"kind": WORD, "key_id": re.compile("mk_[0-9a-f]{16}"), "wrapped": BASE64}
SLOT: Final[Shape] = {
    "provider": WORD, "kind": WORD, "version": int, "created_at": TIME, "updated_at": TIME, "sealed": BASE64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MasterKey:
    """32 bytes that open a store; they never print."""

    secret: Secret

    @classmethod
    def generate(cls) -> MasterKey:
        """A new key."""
        return cls(Secret(base64.b64encode(secrets.token_bytes(KEY)).decode()))

    @classmethod
    def parse(cls, text: str) -> MasterKey:
        """From 32 bytes in standard base64, or from 32 bytes of text; ConfigError for anything else, unquoted."""
        raw = _key_of(text.strip())
        if raw is None:
            raise ConfigError(
                "The master key is not 32 bytes in base64.", hint="`kheish-daemon secrets generate` makes one."
            )
        return cls(Secret(base64.b64encode(raw).decode()))

    def derive(self, store_id: str, purpose: str) -> bytes:
        """32 bytes for one purpose in one store."""
        return _hkdf(base64.b64decode(self.secret.reveal()), store_id, purpose)

    def key_id(self, store_id: str) -> str:
        """The key's public name in one store."""
        return f"mk_{self.derive(store_id, 'key-id')[:8].hex()}"


@dataclass(frozen=True, slots=True)
class Sealed:
    """One slot as it lies in the file."""

    provider: str
    kind: str
    version: int
    created_at: str
    updated_at: str
    sealed: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """A whole store: its public part, and sealed values; `recipients` has the wrapped data key by key id."""

    store_id: str
    generation: int
    recipients: Mapping[str, str]
    slots: Mapping[str, Sealed]


def new_envelope(master: MasterKey) -> tuple[Envelope, bytes]:
    """An empty store for one master key, and its data key."""
    store_id, dek = secrets.token_hex(16), secrets.token_bytes(KEY)
    return Envelope(store_id, 0, _wrapped((master,), store_id, dek), {}), dek


def resealed(envelope: Envelope, dek: bytes, masters: Iterable[MasterKey]) -> tuple[Envelope, bytes]:
    """The same slots under a fresh data key, for these master keys alone, and that data key."""
    fresh = secrets.token_bytes(KEY)
    bare = replace(envelope, recipients=_wrapped(masters, envelope.store_id, fresh))
    slots = {
        name: sealed_slot(bare, fresh, name, slot, opened_slot(envelope, dek, name))
        for name, slot in envelope.slots.items()
    }
    return replace(bare, slots=slots), fresh


def open_dek(envelope: Envelope, master: MasterKey) -> bytes:
    """The data key; MasterKeyWrong names the key that is needed and the one that was given."""
    mine = master.key_id(envelope.store_id)
    if mine not in envelope.recipients:
        needed = ", ".join(envelope.recipients)
        raise MasterKeyWrong(
            f"This master key ({mine}) does not open the auth store; it is sealed for {needed}.",
            hint="Give the key that the store was made with, in KHEISH_AUTH_STORE_MASTER_KEY or its file.",
        )
    aad = [FORMAT, envelope.store_id, "dek", mine]
    dek = _open(master.derive(envelope.store_id, "kek"), envelope.recipients[mine], aad)
    if len(dek) != KEY:
        raise tampered()
    return dek


def sealed_slot(envelope: Envelope, dek: bytes, name: str, slot: Sealed, value: Secret) -> Sealed:
    """The slot with `value` sealed in it, bound to its name, provider, kind and version."""
    return replace(slot, sealed=_seal(dek, _padded(value.reveal().encode()), _slot_aad(envelope, name, slot)))


def opened_slot(envelope: Envelope, dek: bytes, name: str) -> Secret:
    """A slot's value; StoreTampered where it is not the one that was sealed under this name."""
    slot = envelope.slots[name]
    return Secret(_unpadded(_open(dek, slot.sealed, _slot_aad(envelope, name, slot))))


def encode(envelope: Envelope, dek: bytes) -> bytes:
    """The file's bytes."""
    body = _body(envelope)
    return json.dumps(body | {"mac": _mac(envelope.store_id, dek, body)}, indent=1, sort_keys=True).encode() + b"\n"


def decode(data: bytes) -> tuple[Envelope, str]:
    """The envelope of a file and its MAC, still unchecked; ConfigError where it is no store that we can read."""
    try:
        loaded = json.loads(data.decode("ascii"), object_pairs_hook=_no_doubles)
        _check_version(loaded)
        _check(loaded, STORE)
        recipients = dict(_recipient(entry) for entry in loaded["recipients"])
        if not 1 <= len(recipients) == len(loaded["recipients"]) <= MOST_RECIPIENTS:
            raise ValueError
        slots = {name: _slot(name, entry) for name, entry in loaded["slots"].items()}
    except (ValueError, RecursionError):
        raise ConfigError(
            "The auth store's file is not of the format kheish-secrets/2.",
            hint="Restore secrets/store.json from a backup, or move it away and set the secrets again.",
        ) from None
    return Envelope(loaded["store_id"], loaded["generation"], recipients, slots), loaded["mac"]


def check_mac(envelope: Envelope, dek: bytes, mac: str) -> None:
    """StoreTampered where anything in the file was changed by other hands."""
    if not hmac.compare_digest(mac, _mac(envelope.store_id, dek, _body(envelope))):
        raise tampered()


def tampered() -> StoreTampered:
    """The refusal for a store whose seal is broken."""
    return StoreTampered(
        "The auth store was changed by other hands: its seal is broken.",
        hint="Restore secrets/store.json from a backup, or move it away and set the secrets again.",
    )


def _key_of(text: str) -> bytes | None:
    """The 32 bytes that a text gives; base64 first."""
    for read in (_from_base64, str.encode):
        try:
            raw = read(text)
        except ValueError:
            continue
        if len(raw) == KEY:
            return raw
    return None


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _wrapped(masters: Iterable[MasterKey], store_id: str, dek: bytes) -> dict[str, str]:
    def wrapped(master: MasterKey, key_id: str) -> str:
        return _seal(master.derive(store_id, "kek"), dek, [FORMAT, store_id, "dek", key_id])

    named = {master.key_id(store_id): master for master in masters}
    return {key_id: wrapped(master, key_id) for key_id, master in named.items()}


def _check_version(loaded: object) -> None:
    found = loaded.get("format") if isinstance(loaded, dict) else None
    if isinstance(found, str) and found != FORMAT and found.startswith("kheish-secrets/"):
        raise _too_new("The auth store is of a version of its format that is not known here.")


def _recipient(entry: object) -> tuple[str, str]:
    recipient = _check(entry, RECIPIENT)
    if recipient["kind"] != "raw256":
        raise _too_new("The auth store is sealed for a kind of key that is not known here; only raw256 is.")
    return recipient["key_id"], recipient["wrapped"]


def _too_new(message: str) -> ConfigError:
    return ConfigError(message, hint="Use the version of kheish-mcp that wrote it, or a newer one.")


def _slot(name: str, entry: object) -> Sealed:
    fields = _check(entry, SLOT)
    if not NAME.fullmatch(name):
        raise ValueError
    return Sealed(**fields)


def _check(value: object, shape: Shape) -> dict[str, Any]:
    """A table with exactly these fields, each of its shape; ValueError otherwise."""
    if not isinstance(value, dict) or value.keys() != shape.keys():
        raise ValueError
    if not all(_fits(value[name], kind) for name, kind in shape.items()):
        raise ValueError
    return value


def _fits(value: object, kind: re.Pattern[str] | type) -> bool:
    if isinstance(kind, re.Pattern):
        return isinstance(value, str) and kind.fullmatch(value) is not None
    return type(value) is kind and (not isinstance(value, int) or 0 <= value < 1 << 53)


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; two values under one key would let two readers see two stores."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError
    return dict(pairs)


def _body(envelope: Envelope) -> dict[str, Any]:
    wrapped = envelope.recipients.items()
    return {
        "format": FORMAT,
        "store_id": envelope.store_id,
        "generation": envelope.generation,
        "recipients": [{"kind": "raw256", "key_id": key_id, "wrapped": sealed} for key_id, sealed in wrapped],
        "slots": {name: {field: getattr(slot, field) for field in SLOT} for name, slot in envelope.slots.items()},
    }


def _slot_aad(envelope: Envelope, name: str, slot: Sealed) -> list[Any]:
    return [FORMAT, envelope.store_id, "slot", name, slot.provider, slot.kind, slot.version]


def _mac(store_id: str, dek: bytes, body: Mapping[str, Any]) -> str:
    digest = hmac.new(_hkdf(dek, store_id, "mac"), _canonical(body), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def _hkdf(key: bytes, store_id: str, purpose: str) -> bytes:
    """HKDF-SHA256 (RFC 5869) to 32 bytes: one extract, one block of expand."""
    extracted = hmac.new(bytes.fromhex(store_id), key, hashlib.sha256).digest()
    return hmac.new(extracted, f"{FORMAT}|{purpose}".encode() + b"\x01", hashlib.sha256).digest()


def _padded(value: bytes) -> bytes:
    """The value with its length before it, up to a multiple of 64, so that its length tells nothing."""
    framed = len(value).to_bytes(LENGTH, "big") + value
    return framed + bytes(-len(framed) % PADDING)


def _unpadded(padded: bytes) -> str:
    value = padded[LENGTH : LENGTH + int.from_bytes(padded[:LENGTH], "big")]
    if _padded(value) != padded or not value.isascii():
        raise tampered()
    return value.decode("ascii")


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _seal(key: bytes, plain: bytes, aad: list[Any]) -> str:
    nonce = secrets.token_bytes(NONCE)
    return base64.b64encode(nonce + _cipher(key).encrypt(nonce, plain, _canonical(aad))).decode()


def _open(key: bytes, sealed: str, aad: list[Any]) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        raw = _from_base64(sealed)
        plain: bytes = _cipher(key).decrypt(raw[:NONCE], raw[NONCE:], _canonical(aad))
    except (InvalidTag, ValueError):
        raise tampered() from None
    return plain


def _cipher(key: bytes) -> Any:
    """AES-256-GCM-SIV (RFC 8452): a nonce used twice tells only that two values are equal."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

    try:
        return AESGCMSIV(key)
    except UnsupportedAlgorithm:
        raise ConfigError(
            "This Python's OpenSSL has no AES-GCM-SIV.", hint="Install the cryptography wheel from PyPI."
        ) from None
