"""The format kheish-secrets/2: slots sealed under a data key that is wrapped for each master key, and a MAC over all.

    KEK  = HKDF-SHA256(master, salt = store_id, info = "kheish-secrets/2|kek")     key_id = mk_ + first 8 bytes of
    HKDF-SHA256(master, salt = store_id, info = "kheish-secrets/2|key-id"), public
    DEK  = 32 random bytes, wrapped with AES-256-GCM-SIV, AAD = [format, store_id, "dek", key_id]
    slot = AES-256-GCM-SIV(DEK, value padded to 64, AAD = [format, store_id, "slot", name, provider, kind, version])
    mac  = HMAC-SHA256(HKDF-SHA256(DEK, salt = store_id, info = "kheish-secrets/2|mac"), everything but mac)

AAD and the text under the MAC are canonical JSON: sorted keys, no blanks, UTF-8.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ..errors import ConfigError, MasterKeyWrong, StoreTampered
from ..secret import Secret

FORMAT: Final = "kheish-secrets/2"
NONCE: Final = 12
PADDING: Final = 64
MOST_RECIPIENTS: Final = 16
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
SLOT_FIELDS: Final = {"provider": str, "kind": str, "version": int, "created_at": str, "updated_at": str, "sealed": str}
FIELDS: Final = {"format": str, "store_id": str, "generation": int, "recipients": list, "slots": dict, "mac": str}


@dataclass(frozen=True, slots=True)
class MasterKey:
    """32 bytes that open a store; they never print."""

    secret: Secret

    @classmethod
    def parse(cls, text: str) -> MasterKey:
        """From 32 bytes in standard base64, or from 32 bytes of text; ConfigError for anything else, unquoted."""
        text = text.strip()
        try:
            raw = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != 32:
            raw = text.encode()
        if len(raw) != 32:
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
    """A whole store: its public part, and sealed values."""

    store_id: str
    generation: int
    recipients: tuple[tuple[str, str], ...]
    slots: Mapping[str, Sealed]


def new_envelope(master: MasterKey) -> tuple[Envelope, bytes]:
    """An empty store for one master key, and its data key."""
    store_id, dek = secrets.token_hex(16), secrets.token_bytes(32)
    return Envelope(store_id, 0, (_wrapped(master, store_id, dek),), {}), dek


def open_dek(envelope: Envelope, master: MasterKey) -> bytes:
    """The data key; MasterKeyWrong names the key that is needed and the one that was given."""
    mine = master.key_id(envelope.store_id)
    wrapped = dict(envelope.recipients).get(mine)
    if wrapped is None:
        needed = ", ".join(key_id for key_id, _ in envelope.recipients)
        raise MasterKeyWrong(
            f"This master key ({mine}) does not open the auth store; it is sealed for {needed}.",
            hint="Give the key that the store was made with, in KHEISH_AUTH_STORE_MASTER_KEY or its file.",
        )
    return _open(master.derive(envelope.store_id, "kek"), wrapped, [FORMAT, envelope.store_id, "dek", mine])


def rewrapped(envelope: Envelope, old: bytes, master: MasterKey) -> tuple[Envelope, bytes]:
    """The same slots under a fresh data key, for one new master key."""
    dek = secrets.token_bytes(32)
    bare = replace(envelope, recipients=(_wrapped(master, envelope.store_id, dek),), slots={})
    slots = {
        name: sealed_slot(bare, dek, name, replace(slot, sealed=""), opened_slot(envelope, old, name))
        for name, slot in envelope.slots.items()
    }
    return replace(bare, slots=slots), dek


def sealed_slot(envelope: Envelope, dek: bytes, name: str, slot: Sealed, value: Secret) -> Sealed:
    """The slot with `value` sealed in it, bound to its name, provider, kind and version."""
    return replace(slot, sealed=_seal(dek, _padded(value.reveal().encode()), _slot_aad(envelope, name, slot)))


def opened_slot(envelope: Envelope, dek: bytes, name: str) -> Secret:
    """A slot's value; StoreTampered where it is not the one that was sealed under this name."""
    slot = envelope.slots[name]
    padded = _open(dek, slot.sealed, _slot_aad(envelope, name, slot))
    length = int.from_bytes(padded[:2], "big")
    return Secret(padded[2 : 2 + length].decode())


def encode(envelope: Envelope, dek: bytes) -> bytes:
    """The file's bytes."""
    body = _body(envelope)
    return json.dumps(body | {"mac": _mac(envelope.store_id, dek, body)}, indent=1, sort_keys=True).encode() + b"\n"


def decode(data: bytes) -> tuple[Envelope, str]:
    """The envelope of a file and its MAC, still unchecked; ConfigError where it is no store of this format."""
    try:
        loaded = json.loads(data, object_pairs_hook=_no_doubles)
        _check(loaded, FIELDS)
        if loaded["format"] != FORMAT or not re.fullmatch("[0-9a-f]{32}", loaded["store_id"]):
            raise ValueError
        recipients = tuple(_recipient(entry) for entry in loaded["recipients"])
        slots = {name: _slot(name, entry) for name, entry in loaded["slots"].items()}
        if not 1 <= len(recipients) <= MOST_RECIPIENTS or len(dict(recipients)) != len(recipients):
            raise ValueError
    except (ValueError, RecursionError):
        raise ConfigError(
            "The auth store's file is not of the format kheish-secrets/2.",
            hint="Restore secrets/store.json from a backup, or move it away and set the secrets again.",
        ) from None
    return Envelope(loaded["store_id"], loaded["generation"], recipients, slots), loaded["mac"]


def check_mac(envelope: Envelope, dek: bytes, mac: str) -> None:
    """StoreTampered where anything in the file was changed by other hands."""
    if not hmac.compare_digest(mac.encode(), _mac(envelope.store_id, dek, _body(envelope)).encode()):
        raise tampered()


def tampered() -> StoreTampered:
    """The refusal for a store whose seal is broken."""
    return StoreTampered(
        "The auth store was changed by other hands: its seal is broken.",
        hint="Restore secrets/store.json from a backup, or move it away and set the secrets again.",
    )


def _wrapped(master: MasterKey, store_id: str, dek: bytes) -> tuple[str, str]:
    key_id = master.key_id(store_id)
    return key_id, _seal(master.derive(store_id, "kek"), dek, [FORMAT, store_id, "dek", key_id])


def _recipient(entry: object) -> tuple[str, str]:
    recipient = _check(entry, {"kind": str, "key_id": str, "wrapped": str})
    if recipient["kind"] != "raw256" or not re.fullmatch("mk_[0-9a-f]{16}", recipient["key_id"]):
        raise ValueError
    return recipient["key_id"], recipient["wrapped"]


def _slot(name: str, entry: object) -> Sealed:
    fields = _check(entry, SLOT_FIELDS)
    if not NAME.fullmatch(name):
        raise ValueError
    return Sealed(**fields)


def _check(value: object, fields: Mapping[str, type]) -> dict[str, Any]:
    """A table with exactly these fields of exactly these types, and no negative number."""
    if not isinstance(value, dict) or value.keys() != fields.keys():
        raise ValueError
    if any(type(value[name]) is not kind or (kind is int and value[name] < 0) for name, kind in fields.items()):
        raise ValueError
    return value


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; two values under one key would let two readers see two stores."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError
    return dict(pairs)


def _body(envelope: Envelope) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "store_id": envelope.store_id,
        "generation": envelope.generation,
        "recipients": [
            {"kind": "raw256", "key_id": key_id, "wrapped": wrapped} for key_id, wrapped in envelope.recipients
        ],
        "slots": {
            name: {field: getattr(slot, field) for field in SLOT_FIELDS} for name, slot in envelope.slots.items()
        },
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
    framed = len(value).to_bytes(2, "big") + value
    return framed + bytes(-len(framed) % PADDING)


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _seal(key: bytes, plain: bytes, aad: list[Any]) -> str:
    nonce = secrets.token_bytes(NONCE)
    return base64.b64encode(nonce + _cipher(key).encrypt(nonce, plain, _canonical(aad))).decode()


def _open(key: bytes, sealed: str, aad: list[Any]) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        raw = base64.b64decode(sealed, validate=True)
        return _cipher(key).decrypt(raw[:NONCE], raw[NONCE:], _canonical(aad))
    except (InvalidTag, ValueError):
        raise tampered() from None


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
