"""The vectors of kheish-secrets/2: files with at most one thing wrong, made by a second reading of the format.

`python -m tests.secret_vectors` writes them anew, always the same bytes. A vector is JSON: `about`, `master_key` (a test
key), `file` (what store.json holds) and `expect`: the values by slot, or the name of the refusal.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FOLDER = Path(__file__).parent / "vectors" / "secrets"
FORMAT = "kheish-secrets/2"
WHEN = "2026-11-24T09:30:00+00:00"

Store = dict[str, Any]
Values = dict[str, str]


def number(label: str, size: int) -> bytes:
    """Bytes that look random and are the same every time."""
    return hashlib.shake_256(label.encode()).digest(size)


MASTER, OTHER = number("master", 32), number("other master", 32)
DEK = number("data key", 32)
STORE_ID = number("store id", 16).hex()
VALUES = {"openrouter.primary": "sk-or-v1-" + "0" * 55, "openai.prod": "sk-test", "generic.one": "x"}


def text(data: bytes) -> str:
    """Standard base64."""
    return base64.b64encode(data).decode()


def canonical(value: object) -> bytes:
    """Sorted keys, no blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def derived(key: bytes, purpose: str, store_id: str = STORE_ID) -> bytes:
    """32 bytes for a purpose."""
    return HKDF(SHA256(), 32, bytes.fromhex(store_id), f"{FORMAT}|{purpose}".encode()).derive(key)


def sealed(key: bytes, plain: bytes, aad: list[object]) -> str:
    """Nonce, ciphertext and tag; the nonce follows from all of them, so that equal vectors are equal files."""
    nonce = number(repr((key, plain, aad)), 12)
    return text(nonce + AESGCMSIV(key).encrypt(nonce, plain, canonical(aad)))


def padded(value: bytes) -> bytes:
    """Length, value, zeros."""
    framed = len(value).to_bytes(2, "big") + value
    return framed + bytes(-len(framed) % 64)


def recipient(master: bytes = MASTER, dek: bytes = DEK, kind: str = "raw256") -> Store:
    """The data key, wrapped for a master key."""
    key_id = f"mk_{derived(master, 'key-id')[:8].hex()}"
    wrapped = sealed(derived(master, "kek"), dek, [FORMAT, STORE_ID, "dek", key_id])
    return {"kind": kind, "key_id": key_id, "wrapped": wrapped}


def slot(name: str, plain: bytes, provider: str = "generic", version: int = 1) -> Store:
    """A slot with padded bytes sealed in it."""
    aad = [FORMAT, STORE_ID, "slot", name, provider, "api_key", version]
    public = {"provider": provider, "kind": "api_key", "version": version, "created_at": WHEN, "updated_at": WHEN}
    return {**public, "sealed": sealed(DEK, plain, aad)}


def whole() -> Store:
    """A store with nothing wrong, but not yet its MAC."""
    slots = {name: slot(name, padded(value.encode())) for name, value in VALUES.items()}
    return {
        "format": FORMAT,
        "store_id": STORE_ID,
        "generation": 7,
        "recipients": [recipient()],
        "slots": slots,
    }


def with_mac(store: Store, dek: bytes = DEK) -> Store:
    """The store with a MAC that is right for what it now holds."""
    bare = {key: value for key, value in store.items() if key != "mac"}
    return {**bare, "mac": text(hmac.digest(derived(dek, "mac"), canonical(bare), "sha256"))}


def changed(change: Callable[[Store], object]) -> str:
    """A whole store, changed by somebody who has no key."""
    store = with_mac(whole())
    change(store)
    return json.dumps(store, indent=1)


def resealed(change: Callable[[Store], object], dek: bytes = DEK) -> str:
    """A whole store, changed by somebody who has the key and makes the MAC right."""
    store = whole()
    change(store)
    return json.dumps(with_mac(store, dek), indent=1)


def put(*path: str, to: object) -> Callable[[Store], None]:
    """Sets what lies at a path."""

    def change(store: Store) -> None:
        for key in path[:-1]:
            store = store[key]
        store[path[-1]] = to

    return change


def swap(store: Store) -> None:
    """Two slots with each other's sealed values, otherwise as they were."""
    one, two = store["slots"]["generic.one"], store["slots"]["openai.prod"]
    one["sealed"], two["sealed"] = two["sealed"], one["sealed"]


def rename(store: Store) -> None:
    """A slot under another name."""
    store["slots"]["generic.two"] = store["slots"].pop("generic.one")


def flipped(value: str) -> str:
    """Base64 with its last bit of data the other way round."""
    data = bytearray(base64.b64decode(value))
    data[-1] ^= 1
    return text(bytes(data))


def flip(*path: str) -> Callable[[Store], None]:
    """Flips a bit of the base64 at a path."""

    def change(store: Store) -> None:
        for key in path[:-1]:
            store = store[key]
        store[path[-1]] = flipped(store[path[-1]])

    return change


Vector = tuple[str, str, Values | str]
ONE = ("slots", "generic.one")
MANY = [number(f"master {n}", 32) for n in range(16)]
VECTORS: dict[str, Vector] = {
    "whole": ("Nothing is wrong.", resealed(lambda s: None), VALUES),
    "no_slots": ("A store may be empty.", resealed(put("slots", to={})), {}),
    "compact": ("Blanks between the tokens mean nothing.", json.dumps(with_mac(whole()), separators=(",", ":")), VALUES),
    "two_recipients": (
        "Either of two master keys opens it.",
        resealed(put("recipients", to=[recipient(OTHER), recipient()])),
        VALUES,
    ),
    "sixteen_recipients": (
        "Sixteen master keys are the most.",
        resealed(put("recipients", to=[*map(recipient, MANY[:15]), recipient()])),
        VALUES,
    ),
    "longest_value": (
        "A value of 8192 characters.",
        resealed(put("slots", "generic.one", to=slot("generic.one", padded(b"k" * 8192)))),
        VALUES | {"generic.one": "k" * 8192},
    ),
    "other_key": ("Sealed for another master key.", resealed(put("recipients", to=[recipient(OTHER)])), "MasterKeyWrong"),
    "store_id_changed": ("Another store id: no key is this store's.", changed(put("store_id", to="0" * 32)), "MasterKeyWrong"),
    "slot_deleted": ("A slot was taken out.", changed(lambda s: s["slots"].pop("generic.one")), "StoreTampered"),
    "slot_renamed": ("A slot was given another name.", changed(rename), "StoreTampered"),
    "slot_copied": (
        "A slot stands there twice, under two names.",
        changed(lambda s: s["slots"].update({"generic.two": s["slots"]["generic.one"]})),
        "StoreTampered",
    ),
    "slots_swapped": ("Two slots have each other's values.", changed(swap), "StoreTampered"),
    "provider_changed": ("A slot is another provider's.", changed(put(*ONE, "provider", to="openai")), "StoreTampered"),
    "kind_changed": ("A slot is of another kind.", changed(put(*ONE, "kind", to="opaque")), "StoreTampered"),
    "version_changed": ("A slot has another version.", changed(put(*ONE, "version", to=2)), "StoreTampered"),
    "time_changed": (
        "A slot has another time.",
        changed(put(*ONE, "updated_at", to="2026-11-25T09:30:00+00:00")),
        "StoreTampered",
    ),
    "generation_changed": ("The generation was raised.", changed(put("generation", to=8)), "StoreTampered"),
    "recipient_added": (
        "A recipient was added.",
        changed(lambda s: s["recipients"].append(recipient(OTHER))),
        "StoreTampered",
    ),
    "mac_flipped": ("A bit of the MAC is flipped.", changed(flip("mac")), "StoreTampered"),
    "mac_of_another_key": ("The MAC is another data key's.", resealed(lambda s: None, OTHER), "StoreTampered"),
    "sealed_flipped": ("A bit of a tag is flipped.", changed(flip(*ONE, "sealed")), "StoreTampered"),
    "wrapped_flipped": (
        "A bit of the wrapped data key is flipped.",
        changed(lambda s: s["recipients"][0].update(wrapped=flipped(s["recipients"][0]["wrapped"]))),
        "StoreTampered",
    ),
    "wrapped_short": (
        "The wrapped data key has 16 bytes.",
        resealed(lambda s: s.update(recipients=[recipient(dek=DEK[:16])], slots={}), DEK[:16]),
        "StoreTampered",
    ),
    "wrapped_empty": (
        "The wrapped data key is shorter than a nonce and a tag.",
        resealed(lambda s: s["recipients"][0].update(wrapped="AAAA")),
        "StoreTampered",
    ),
    "swapped_under_a_right_mac": (
        "Two slots have each other's values, and the MAC is right: the AAD alone notices.",
        resealed(swap),
        "StoreTampered",
    ),
    "renamed_under_a_right_mac": ("A slot has another name, and the MAC is right.", resealed(rename), "StoreTampered"),
    "padding_missing": (
        "A value is not padded.",
        resealed(put(*ONE, to=slot("generic.one", b"\0\1x"))),
        "StoreTampered",
    ),
    "padding_not_zero": (
        "A value is padded with something.",
        resealed(put(*ONE, to=slot("generic.one", padded(b"x")[:-1] + b"\1"))),
        "StoreTampered",
    ),
    "length_too_large": (
        "A value says that it is longer than its padding.",
        resealed(put(*ONE, to=slot("generic.one", b"\xff\xff" + bytes(62)))),
        "StoreTampered",
    ),
    "plain_empty": ("There is nothing under the seal.", resealed(put(*ONE, to=slot("generic.one", b""))), "StoreTampered"),
    "value_not_ascii": (
        "A value is no ASCII.",
        resealed(put(*ONE, to=slot("generic.one", padded(b"\xff\xfe")))),
        "StoreTampered",
    ),
    "empty": ("An empty file.", "", "ConfigError"),
    "null": ("JSON, but no object.", "null", "ConfigError"),
    "list": ("A list of stores.", f"[{resealed(lambda s: None)}]", "ConfigError"),
    "truncated": ("The last character is missing.", resealed(lambda s: None)[:-1], "ConfigError"),
    "trailing": ("Something follows the object.", resealed(lambda s: None) + "{}", "ConfigError"),
    "deep": ("Ten thousand brackets.", "[" * 10_000, "ConfigError"),
    "duplicate_key": (
        "A slot's name stands there twice.",
        resealed(lambda s: None).replace('"slots": {', '"slots": {"openai.prod": {},', 1),
        "ConfigError",
    ),
    "unknown_field": ("A field too many.", resealed(put("comment", to="hello")), "ConfigError"),
    "unknown_slot_field": ("A slot has a field too many.", resealed(put(*ONE, "note", to="hello")), "ConfigError"),
    "mac_missing": ("There is no MAC.", changed(lambda s: s.pop("mac")), "ConfigError"),
    "format_1": ("The version before.", resealed(put("format", to="kheish-secrets/1")), "ConfigError"),
    "format_3": ("The version after.", resealed(put("format", to="kheish-secrets/3")), "ConfigError"),
    "format_changed": ("The format's name was changed, and nothing else.", changed(put("format", to="other")), "ConfigError"),
    "format_other": ("Another program's file.", resealed(put("format", to="age-encryption.org/v1")), "ConfigError"),
    "recipient_of_unknown_kind": (
        "A recipient is of a kind that is not known.",
        resealed(put("recipients", to=[recipient(), recipient(OTHER, kind="argon2id")])),
        "ConfigError",
    ),
    "no_recipients": ("Nobody can open it.", resealed(put("recipients", to=[])), "ConfigError"),
    "seventeen_recipients": (
        "One master key too many.",
        resealed(put("recipients", to=[*map(recipient, MANY), recipient()])),
        "ConfigError",
    ),
    "recipient_twice": ("One recipient twice.", resealed(put("recipients", to=[recipient()] * 2)), "ConfigError"),
    "store_id_upper_case": ("The store id is not lower case.", changed(put("store_id", to="AB" * 16)), "ConfigError"),
    "generation_text": ("The generation is a text.", changed(put("generation", to="7")), "ConfigError"),
    "generation_true": ("True, which Python takes for 1.", changed(put("generation", to=True)), "ConfigError"),
    "generation_negative": ("The generation is below zero.", changed(put("generation", to=-1)), "ConfigError"),
    "generation_huge": ("The generation is beyond 2^53.", changed(put("generation", to=1 << 53)), "ConfigError"),
    "generation_float": ("The generation is no whole number.", changed(put("generation", to=7.0)), "ConfigError"),
    "slot_name_path": (
        "A slot's name climbs out of a folder.",
        resealed(put("slots", to={"../x": slot("../x", padded(b"x"))})),
        "ConfigError",
    ),
    "provider_escape": (
        "A provider moves the cursor of who lists it.",
        changed(put(*ONE, "provider", to="\x1b[2J")),
        "ConfigError",
    ),
    "time_surrogate": ("A time holds half a character.", changed(put(*ONE, "updated_at", to="\ud800")), "ConfigError"),
    "sealed_not_base64": ("A value is no base64.", changed(put(*ONE, "sealed", to="?")), "ConfigError"),
}  # fmt: skip


def vector(name: str) -> str:
    """The text of a vector's file."""
    about, file, expect = VECTORS[name]
    shown = {"about": about, "expect": expect, "master_key": text(MASTER), "file": file}
    return json.dumps(shown, indent=1) + "\n"


def main() -> None:
    """Writes every vector."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in VECTORS:
        (FOLDER / f"{name}.json").write_text(vector(name), encoding="ascii")


if __name__ == "__main__":
    main()
