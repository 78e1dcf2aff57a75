"""The auth store: the format by vectors, then wrong keys, other hands, open files, races, kills, full disks."""

from __future__ import annotations

import base64
import errno
import json
import os
import resource
import shutil
import signal
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from hypothesis import given
from hypothesis import strategies as st

from kheish_mcp.errors import (
    Code,
    ConfigError,
    FailedPrecondition,
    InvalidArgument,
    KheishError,
    MasterKeyMissing,
    MasterKeyWrong,
    NotFound,
    ResourceExhausted,
    StoreInsecure,
    StoreTampered,
)
from kheish_mcp.secret import Secret
from kheish_mcp.settings import Settings
from kheish_mcp.stores.auth import LARGEST, LONGEST, AuthStore
from kheish_mcp.stores.envelope import NAME, MasterKey
from tests import secret_vectors
from tests.children import DEADLINE_S, SERVED, started, together
from tests.conftest import CANARY

REF = "openrouter.primary"
KEY, OTHER = (MasterKey(Secret(secret_vectors.text(raw))) for raw in (secret_vectors.MASTER, secret_vectors.OTHER))
AN_HOUR_AND_MORE = 3700


def opened(root: Path, key: MasterKey = KEY) -> AuthStore:
    """The store with a master key, as a process that starts now has it."""
    return AuthStore(root, key.secret)


def keyless(root: Path) -> AuthStore:
    """The store with no master key but the one in the key file, if it is there."""
    return AuthStore(root)


def put(root: Path, ref: str = REF, value: str = CANARY) -> None:
    """A value in a slot."""
    opened(root).set(ref, "openrouter", Secret(value))


def file_of(root: Path) -> Path:
    return root / "secrets" / "store.json"


def lay(root: Path, content: str) -> None:
    """A store's file, written by somebody else."""
    file_of(root).parent.mkdir(mode=0o700, parents=True)
    file_of(root).touch(0o600)
    file_of(root).write_text(content, encoding="utf-8")


def values(store: AuthStore) -> dict[str, str]:
    """Every value by slot."""
    return {slot.slot_id: store.open(slot.slot_id).reveal() for slot in store.list()}


# What it keeps


def test_a_value_that_is_set_is_the_value_that_is_opened(state_root: Path):
    put(state_root)
    assert opened(state_root).open(REF) == Secret(CANARY)


def test_what_is_public_of_a_slot_needs_no_key(state_root: Path):
    put(state_root)
    put(state_root, "a.second")
    second, first = keyless(state_root).list()
    assert (first.slot_id, first.provider, first.kind, first.version) == (REF, "openrouter", "api_key", 1)
    assert second.slot_id == "a.second"
    assert keyless(state_root).get(REF) == first
    with pytest.raises(MasterKeyMissing) as refusal:
        keyless(state_root).open(REF)
    assert "secrets init" in str(refusal.value.hint)
    assert "KHEISH_AUTH_STORE_MASTER_KEY" in str(refusal.value.hint)


def test_a_slot_that_is_set_again_is_its_next_version(state_root: Path):
    store = opened(state_root)
    first = store.set(REF, "openrouter", Secret("one"))
    second = store.set(REF, "generic", Secret("two"))
    assert (first.version, second.version) == (1, 2)
    assert second.created_at == first.created_at
    assert second.provider == "generic"
    assert store.open(REF) == Secret("two")
    assert store.get(REF) == second


def test_a_deleted_slot_is_gone_and_the_others_stay(state_root: Path):
    put(state_root)
    put(state_root, "other", "o")
    store = opened(state_root)
    assert store.delete(REF)
    assert not store.delete(REF)
    assert values(store) == {"other": "o"}
    with pytest.raises(NotFound):
        store.open(REF)


def test_a_state_root_without_a_store_has_no_slots_and_is_left_alone(state_root: Path):
    store = opened(state_root)
    assert store.list() == ()
    assert not store.delete(REF)
    for ask in (store.get, store.open):
        with pytest.raises(NotFound):
            ask(REF)
    assert not state_root.exists()


def test_everything_is_this_user_s_alone_whatever_the_umask(state_root: Path):
    before = os.umask(0)
    try:
        keyless(state_root).init()
        put(state_root)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file_of(state_root).parent.iterdir()}
    assert modes == dict.fromkeys(("store.json", "store.json.lock", "high-water", "master.key"), 0o600)
    assert stat.S_IMODE(file_of(state_root).parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(state_root.stat().st_mode) == 0o700


def test_how_long_a_value_is_does_not_show(state_root: Path):
    put(state_root, "a", "x")
    put(state_root, "b", "x" * 60)
    slots = json.loads(file_of(state_root).read_text())["slots"]
    assert len(slots["a"]["sealed"]) == len(slots["b"]["sealed"])


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_one_newline_at_the_end_is_dropped(state_root: Path, ending: str):
    put(state_root, value=f"abc{ending}")
    assert opened(state_root).open(REF) == Secret("abc")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "\n",
        "canary\n\n",
        "can ary",
        " canary",
        "can\tary",
        "can\nary",
        "canary\x00",
        "canary\x7f",
        "canäry",
        "can\udcffary",
    ],
)
def test_a_value_that_no_header_takes_is_refused_and_not_quoted(state_root: Path, value: str):
    with pytest.raises(InvalidArgument) as refusal:
        put(state_root, value=value)
    assert "canary" not in f"{refusal.value} {refusal.value.hint}"
    assert not file_of(state_root).exists()


def test_the_longest_value_is_kept_and_a_longer_one_refused(state_root: Path):
    put(state_root, value="x" * LONGEST)
    assert len(opened(state_root).open(REF).reveal()) == LONGEST
    with pytest.raises(InvalidArgument):
        put(state_root, value="x" * (LONGEST + 1))


@pytest.mark.parametrize("ref", ["", ".hidden", "-x", "a/b", "../x", "a b", "ä", "a\n", "\x1b[2J", "x" * 129, CANARY])
def test_a_slot_s_name_is_letters_digits_dots_dashes_and_underscores(state_root: Path, ref: str):
    store = opened(state_root)
    for ask in (store.get, store.open, store.delete, lambda ref: store.set(ref, "generic", Secret("x"))):
        with pytest.raises(InvalidArgument) as refusal:
            ask(ref)
        assert CANARY not in str(refusal.value)


def test_a_provider_that_is_not_known_is_refused_with_the_ones_that_are(state_root: Path):
    with pytest.raises(InvalidArgument, match="no such provider") as refusal:
        opened(state_root).set(REF, "openruter", Secret("x"))
    assert "openrouter, openai, generic" in str(refusal.value.hint)


def fill(store: AuthStore) -> None:
    """Nine slots more."""
    for n in range(9):
        store.set(f"more-{n}", "generic", Secret("x" * LONGEST))


def test_a_store_that_would_be_too_large_to_read_again_is_not_written(state_root: Path):
    entry = secret_vectors.slot("slot-000", secret_vectors.padded(b"x" * LONGEST))
    most = LARGEST // len(json.dumps({"slot-000": entry}, indent=3))
    names = [f"slot-{n:03}" for n in range(most)]
    slots = {name: secret_vectors.slot(name, secret_vectors.padded(b"x" * LONGEST)) for name in names}
    lay(state_root, json.dumps(secret_vectors.with_mac({**secret_vectors.whole(), "slots": slots})))
    store = opened(state_root)
    with pytest.raises(ResourceExhausted, match="full"):
        fill(store)
    assert opened(state_root).open(names[-1]) == Secret("x" * LONGEST)
    assert store.delete(names[0])


# The format


@pytest.mark.parametrize("name", secret_vectors.VECTORS)
def test_a_vector_opens_or_is_refused_as_it_says(state_root: Path, name: str):
    vector = json.loads((secret_vectors.FOLDER / f"{name}.json").read_text(encoding="ascii"))
    lay(state_root, vector["file"])
    store = AuthStore(state_root, Secret(vector["master_key"]))
    if isinstance(vector["expect"], dict):
        assert values(store) == vector["expect"]
        return
    with pytest.raises(KheishError) as refusal:
        values(store)
    assert type(refusal.value).__name__ == vector["expect"]
    assert refusal.value.hint


@pytest.mark.parametrize("name", secret_vectors.VECTORS)
def test_a_vector_s_file_is_what_its_description_makes(name: str):
    assert (secret_vectors.FOLDER / f"{name}.json").read_text(encoding="ascii") == secret_vectors.vector(name)


def test_no_vector_is_without_a_description():
    assert {path.stem for path in secret_vectors.FOLDER.iterdir()} == set(secret_vectors.VECTORS)


def test_a_second_reading_of_the_format_opens_what_the_store_writes(state_root: Path):
    put(state_root)
    store = json.loads(file_of(state_root).read_text(encoding="ascii"))
    name, only = store["store_id"], store["recipients"][0]
    assert only["key_id"] == f"mk_{secret_vectors.derived(secret_vectors.MASTER, 'key-id', name)[:8].hex()}"
    kek = secret_vectors.derived(secret_vectors.MASTER, "kek", name)
    dek = unsealed(kek, only["wrapped"], [secret_vectors.FORMAT, name, "dek", only["key_id"]])
    slot = store["slots"][REF]
    aad = [secret_vectors.FORMAT, name, "slot", REF, "openrouter", "api_key", 1]
    assert unsealed(dek, slot["sealed"], aad) == secret_vectors.padded(CANARY.encode())


def unsealed(key: bytes, sealed: str, aad: list[object]) -> bytes:
    """What lies under a seal, without any code of the store."""
    raw = base64.b64decode(sealed)
    return AESGCMSIV(key).decrypt(raw[:12], raw[12:], secret_vectors.canonical(aad))


@pytest.mark.parametrize("text", [KEY.secret.reveal(), f"  {KEY.secret.reveal()}\n"])
def test_a_master_key_is_32_bytes_in_base64(text: str):
    assert MasterKey.parse(text) == KEY


def test_a_master_key_may_be_32_bytes_of_text():
    raw = "0123456789abcdef-0123456789äbcde"[:31]
    assert len(raw.encode()) == 32
    assert base64.b64decode(MasterKey.parse(raw).secret.reveal()) == raw.encode()


def test_base64_comes_before_text():
    text = base64.b64encode(b"\xff" * 24).decode()
    assert len(text) == 32
    assert base64.b64decode(MasterKey.parse(text).secret.reveal()) == text.encode()


@pytest.mark.parametrize("text", ["", "canary", "canary" * 20, "Y2FuYXJ5", KEY.secret.reveal()[:-1], "\udcffcanary"])
def test_anything_else_is_no_master_key_and_not_quoted(text: str):
    with pytest.raises(ConfigError) as refusal:
        MasterKey.parse(text)
    assert text == "" or text not in f"{refusal.value} {refusal.value.hint}"


def test_a_generated_master_key_is_another_one_each_time_and_never_prints():
    keys = {MasterKey.generate() for _ in range(50)}
    assert len(keys) == 50
    assert all(MasterKey.parse(key.secret.reveal()) == key and key.secret.reveal() not in repr(key) for key in keys)


@given(st.dictionaries(st.from_regex(NAME, fullmatch=True), st.binary(min_size=1, max_size=99)))
def test_whatever_is_sealed_opens_under_its_name_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, raw: dict[str, bytes]
):
    kept = {name: value.hex() for name, value in raw.items()}
    root = tmp_path_factory.mktemp("state")
    for name, value in kept.items():
        put(root, name, value)
    assert values(opened(root)) == kept
    shutil.rmtree(root)


# Whose it is


def test_another_master_key_is_named_beside_the_one_that_is_needed(state_root: Path):
    put(state_root)
    store_id = json.loads(file_of(state_root).read_text())["store_id"]
    for ask in (lambda store: store.open(REF), lambda store: store.list(), lambda store: store.delete(REF)):
        with pytest.raises(MasterKeyWrong) as refusal:
            ask(opened(state_root, OTHER))
        assert KEY.key_id(store_id) in str(refusal.value)
        assert OTHER.key_id(store_id) in str(refusal.value)
        assert refusal.value.code is Code.UNAUTHENTICATED


def test_nothing_is_written_over_with_another_key_or_with_none(state_root: Path):
    put(state_root)
    before = file_of(state_root).read_bytes()
    for store, kind in ((opened(state_root, OTHER), MasterKeyWrong), (keyless(state_root), MasterKeyMissing)):
        asks = (
            partial(store.set, REF, "generic", Secret("x")),
            partial(store.rekey, OTHER),
            partial(store.delete, REF),
        )
        for ask in asks:
            with pytest.raises(kind):
                ask()
    assert file_of(state_root).read_bytes() == before


def test_the_key_file_opens_the_store_where_no_other_key_is_named(state_root: Path):
    path = keyless(state_root).init()
    keyless(state_root).set(REF, "openrouter", Secret(CANARY))
    assert keyless(state_root).open(REF) == Secret(CANARY)
    with pytest.raises(MasterKeyWrong):
        opened(state_root).open(REF)
    elsewhere = path.rename(state_root / "elsewhere")
    assert AuthStore(state_root, None, elsewhere).open(REF) == Secret(CANARY)
    assert AuthStore.of(Settings(state_root, master_key_file=elsewhere)).open(REF) == Secret(CANARY)


def test_a_key_file_is_never_written_over(state_root: Path):
    path = keyless(state_root).init()
    before = path.read_bytes()
    with pytest.raises(FailedPrecondition, match="already"):
        keyless(state_root).init()
    assert path.read_bytes() == before


def test_no_key_file_is_made_for_a_store_that_it_would_not_open(state_root: Path):
    put(state_root)
    with pytest.raises(FailedPrecondition, match="would not open it"):
        keyless(state_root).init()
    assert not keyless(state_root).key_file.exists()


def test_a_named_key_file_that_is_not_there_is_not_replaced_by_another(state_root: Path, tmp_path: Path):
    keyless(state_root).init()
    keyless(state_root).set(REF, "openrouter", Secret(CANARY))
    with pytest.raises(MasterKeyMissing, match="is not there"):
        AuthStore(state_root, None, tmp_path / "nowhere").open(REF)


@pytest.mark.parametrize("content", [b"", b"\xff" * 32, b"too short\n"])
def test_a_key_file_that_holds_no_key_is_told_apart(state_root: Path, content: bytes):
    keyless(state_root).init().write_bytes(content)
    with pytest.raises(ConfigError, match="32 bytes"):
        keyless(state_root).set(REF, "openrouter", Secret(CANARY))


def test_rekey_leaves_every_value_and_only_the_new_key_opens_them(state_root: Path):
    put(state_root)
    put(state_root, "other", "o")
    before = json.loads(file_of(state_root).read_text())
    store = opened(state_root)
    store.rekey(OTHER)
    with pytest.raises(MasterKeyWrong):
        store.open(REF)
    assert values(opened(state_root, OTHER)) == {REF: CANARY, "other": "o"}
    after = json.loads(file_of(state_root).read_text())
    assert len(after["recipients"]) == 1
    for name, slot in before["slots"].items():
        assert after["slots"][name] != slot
        assert {**after["slots"][name], "sealed": slot["sealed"]} == slot
    assert not store.key_file.exists()


def test_the_key_file_follows_a_rekey_of_the_key_in_it(state_root: Path):
    keyless(state_root).init()
    keyless(state_root).set(REF, "openrouter", Secret(CANARY))
    keyless(state_root).rekey(OTHER)
    assert keyless(state_root).open(REF) == Secret(CANARY)
    assert opened(state_root, OTHER).open(REF) == Secret(CANARY)
    assert len(json.loads(file_of(state_root).read_text())["recipients"]) == 1


def test_there_is_nothing_to_rekey_without_a_store(state_root: Path):
    with pytest.raises(FailedPrecondition, match="no auth store"):
        opened(state_root).rekey(OTHER)


# Other hands


def test_no_flipped_bit_and_no_cut_ever_opens_as_another_value(state_root: Path):
    kept = {"a.slot": "the-one-value", "another": "and-the-other"}
    for ref, value in kept.items():
        put(state_root, ref, value)
    whole = file_of(state_root).read_bytes()
    mutations = [whole[:length] for length in range(len(whole))]
    mutations += [whole[:n] + bytes([whole[n] ^ 1 << n % 8]) + whole[n + 1 :] for n in range(len(whole))]
    refusals = set()
    for mutation in mutations:
        file_of(state_root).write_bytes(mutation)
        try:
            assert values(opened(state_root)) == kept
        except (ConfigError, MasterKeyWrong, StoreTampered) as refusal:
            refusals.add(type(refusal))
    assert refusals == {ConfigError, MasterKeyWrong, StoreTampered}
    assert len(mutations) > 1500


def test_a_store_that_was_listed_without_a_key_is_checked_once_the_key_comes(state_root: Path):
    tampered = json.loads(secret_vectors.vector("provider_changed"))
    lay(state_root, tampered["file"])
    store = keyless(state_root)
    assert len(store.list()) == 3
    store.key_file.touch(0o600)
    store.key_file.write_text(tampered["master_key"])
    with pytest.raises(StoreTampered):
        store.open("generic.one")


def nobody(root: Path) -> AuthStore:
    put(root, value="new")
    return opened(root)


def a_reader(root: Path) -> AuthStore:
    put(root, value="new")
    reader = opened(root)
    assert reader.open(REF) == Secret("new")
    (root / "secrets" / "high-water").unlink()
    return reader


def a_writer(root: Path) -> AuthStore:
    writer = opened(root)
    writer.set(REF, "openrouter", Secret("new"))
    (root / "secrets" / "high-water").unlink()
    return writer


@pytest.mark.parametrize("remembers", [nobody, a_reader, a_writer])
def test_an_older_store_in_the_place_of_the_newer_one_is_refused(
    state_root: Path, remembers: Callable[[Path], AuthStore]
):
    put(state_root, value="old")
    older = file_of(state_root).read_bytes()
    store = remembers(state_root)
    file_of(state_root).write_bytes(older)
    for ask in (partial(store.open, REF), partial(store.set, REF, "generic", Secret("x"))):
        with pytest.raises(StoreTampered, match="rolled back: generation 2 was seen, this is 1") as refusal:
            ask()
        assert "changed by other hands" not in str(refusal.value)


def test_an_older_store_with_nobody_who_remembers_is_not_noticed(state_root: Path):
    put(state_root, value="old")
    older = file_of(state_root).read_bytes()
    put(state_root, value="new")
    file_of(state_root).write_bytes(older)
    (state_root / "secrets" / "high-water").unlink()
    assert opened(state_root).open(REF) == Secret("old")


@pytest.mark.parametrize("content", ["", "rubbish", "0123 x", "x" * 99, "\x00\xff"])
def test_a_high_water_that_says_nothing_is_no_floor(state_root: Path, content: str):
    put(state_root)
    (state_root / "secrets" / "high-water").write_text(content)
    assert opened(state_root).open(REF) == Secret(CANARY)


def test_a_store_that_was_moved_away_and_begun_anew_is_not_rolled_back(state_root: Path):
    running = opened(state_root)
    for n in range(3):
        put(state_root, value=f"v{n}")
    assert running.open(REF) == Secret("v2")
    file_of(state_root).unlink()
    assert running.list() == ()
    put(state_root, value="fresh")
    assert running.open(REF) == Secret("fresh")


def other_people_s_mode(path: Path) -> None:
    path.chmod(0o640)


def link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def other_owner(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(path, 12345, -1)


@pytest.mark.parametrize("spoil", [other_people_s_mode, link, pipe, other_owner])
@pytest.mark.parametrize("name", ["secrets/store.json", "secrets/master.key", "secrets/high-water", "secrets"])
def test_what_others_can_read_or_put_elsewhere_is_refused(state_root: Path, name: str, spoil: Callable[[Path], None]):
    keyless(state_root).init()
    store = keyless(state_root)
    store.set(REF, "openrouter", Secret(CANARY))
    if name == "secrets" and spoil is pipe:
        shutil.rmtree(state_root / name)
        (state_root / name).touch(0o600)
    spoil(state_root / name)
    for ask in (lambda: keyless(state_root).open(REF), lambda: keyless(state_root).set(REF, "generic", Secret("x"))):
        with pytest.raises(StoreInsecure) as refusal:
            ask()
        assert refusal.value.code is Code.PERMISSION_DENIED
        assert str(state_root / name) in str(refusal.value)


def test_a_running_daemon_refuses_as_well_once_the_folder_is_opened_to_others(state_root: Path):
    put(state_root)
    running = opened(state_root)
    assert running.open(REF) == Secret(CANARY)
    (state_root / "secrets").chmod(0o755)
    with pytest.raises(StoreInsecure):
        running.open(REF)


def test_a_lock_that_is_a_link_is_not_followed(state_root: Path, tmp_path: Path):
    put(state_root)
    lock = state_root / "secrets" / "store.json.lock"
    lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError):
        put(state_root)
    assert not (tmp_path / "elsewhere").exists()


# Several processes


def test_a_change_by_one_is_seen_by_all_and_shows_in_the_signature(state_root: Path):
    running, writer = opened(state_root), opened(state_root)
    seen = [running.signature()]
    for value in ("one", "two"):
        writer.set(REF, "openrouter", Secret(value))
        assert running.open(REF) == Secret(value)
        seen.append(running.signature())
    writer.delete(REF)
    assert running.list() == ()
    seen.append(running.signature())
    assert running.signature() == seen[-1]
    assert len(set(seen)) == 4


def test_a_writer_goes_by_the_file_and_not_by_what_it_remembers(state_root: Path):
    put(state_root, value="v1")
    first, when = file_of(state_root).read_bytes(), file_of(state_root).stat().st_mtime_ns
    put(state_root, value="v2")
    second = file_of(state_root).read_bytes()
    (state_root / "secrets" / "high-water").unlink()
    writer = opened(state_root)
    for content in (first, second):
        file_of(state_root).write_bytes(content)
        os.utime(file_of(state_root), ns=(when, when))
        assert writer.open(REF) == Secret("v1")
    writer.set("other", "generic", Secret("o"))
    assert values(opened(state_root)) == {REF: "v2", "other": "o"}


def test_a_key_file_that_comes_later_shows_in_the_signature_and_opens(state_root: Path):
    put(state_root)
    running = keyless(state_root)
    before = running.signature()
    assert len(running.list()) == 1
    running.key_file.touch(0o600)
    running.key_file.write_text(KEY.secret.reveal())
    assert running.signature() != before
    assert running.open(REF) == Secret(CANARY)


def set_many(root: Path, name: str) -> int:
    """A process that sets twenty slots of its own and one of everybody's, and reads them all in between."""
    store = opened(root)
    for n in range(20):
        store.set(f"{name}-{n}", "generic", Secret(f"{name}{n}"))
        store.set("shared", "generic", Secret(name))
        opened(root).open("shared")
        assert store.open(f"{name}-{n}").reveal() == f"{name}{n}"
    return 20


def test_processes_that_write_at_once_lose_nothing_and_readers_see_no_torn_store(state_root: Path):
    names = ("a", "b", "c")
    assert together(set_many, *[(state_root, name) for name in names]) == [20, 20, 20]
    kept = values(opened(state_root))
    assert kept.pop("shared") in names
    assert kept == {f"{name}-{n}": f"{name}{n}" for name in names for n in range(20)}
    assert opened(state_root).get("shared").version == 60
    assert json.loads(file_of(state_root).read_text())["generation"] == 120


def set_until_killed(root: Path, name: str, told: Connection) -> None:
    """A process that sets one slot after the other, and tells each that is kept."""
    store = opened(root)
    for n in count():
        store.set(f"{name}-{n}", "generic", Secret(f"{name}-{n}"))
        told.send(f"{name}-{n}")


def test_a_kill_at_any_moment_loses_no_value_that_was_acknowledged(state_root: Path):
    acknowledged: set[str] = set()
    for name, patience in (("a", 1), ("b", 4), ("c", 9), ("d", 2), ("e", 6)):
        receiver, sender = SERVED.Pipe(duplex=False)
        child = started(set_until_killed, state_root, name, sender)
        sender.close()
        acknowledged |= {receiver.recv() for _ in range(patience) if receiver.poll(DEADLINE_S)}
        child.kill()
        child.join(DEADLINE_S)
        with suppress(EOFError):
            while True:
                acknowledged.add(receiver.recv())
        kept = values(opened(state_root))
        assert acknowledged <= set(kept)
        assert all(slot == value for slot, value in kept.items())
    assert len(acknowledged) >= 22


# Every step of a write, by what Python tells its audit hooks: each one can be the last, or fail.

STEPS = frozenset({"open", "os.rename", "os.remove"})
MOST_STEPS = 50


def in_child(work: Callable[[], object], fault: Callable[[], None], at: int) -> int:
    """Forks; gives the exit code of `work` where `fault` comes before the step of that number; 7 is a refusal."""
    pid = os.fork()
    if pid == 0:
        steps = count(1)

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event in STEPS and next(steps) == at:
                fault()

        sys.addaudithook(hook)
        code = 70
        try:
            work()
            code = 0
        except ResourceExhausted:
            code = 7
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def no_space() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


WORKS: dict[str, Callable[[AuthStore], object]] = {
    "set": lambda store: store.set(REF, "openrouter", Secret("new")),
    "rekey": lambda store: store.rekey(OTHER),
}


FAULTS = {"die": die, "no_space": no_space}


def fault_everywhere(root: Path, work: str, fault: str) -> list[tuple[int, list[str]]]:
    """How `work` ends on a copy of `root` for a fault at each of its steps, what then opens, and what lies about."""
    keyless(root).init()
    keyless(root).set(REF, "openrouter", Secret("old"))
    ends: list[tuple[int, list[str]]] = []
    # A step that a store survives is one of the high-water's; the last end is that of no fault at all.
    for at in range(1, MOST_STEPS):
        copy = root.with_name(f"copy-{at}")
        shutil.copytree(root, copy)
        code = in_child(partial(WORKS[work], keyless(copy)), FAULTS[fault], at)
        left = [path.name for path in (copy / "secrets").glob(".*.tmp")]
        store = keyless(copy)
        ends.append((code, [store.open(REF).reveal(), *left]))
        store.set("after", "generic", Secret("works"))
    return ends


@pytest.mark.parametrize("work", WORKS)
def test_a_kill_before_any_step_leaves_the_old_store_or_the_new_one_and_a_key_that_opens_it(
    state_root: Path, work: str
):
    (ends,) = together(fault_everywhere, (state_root, work, "die"))
    killed = [kept[0] for code, kept in ends if code == -signal.SIGKILL]
    assert len(killed) > 8
    assert {code for code, _ in ends[len(killed) :]} == {0}
    if work == "set":
        assert killed == ["old"] * killed.count("old") + ["new"] * killed.count("new")
        assert 0 < killed.count("new") < len(killed)
    else:
        assert set(killed) == {"old"}


@pytest.mark.parametrize("work", WORKS)
def test_a_disk_that_is_full_at_any_step_keeps_the_old_value_and_leaves_no_rest(state_root: Path, work: str):
    (ends,) = together(fault_everywhere, (state_root, work, "no_space"))
    assert {code for code, _ in ends} == {7, 0}
    assert all(len(kept) == 1 for _, kept in ends)
    assert {kept[0] for code, kept in ends if code == 0} == {"new" if work == "set" else "old"}
    # Only of a new store whose name may not last yet is it told that it failed.
    assert sum(kept[0] == "new" for code, kept in ends if code == 7) == (work == "set")


def read_while_written(root: Path) -> list[int]:
    """How a reader ends in between whose steps another process puts the next value in place."""
    put(root, value="old")
    return [in_child(partial(opened(root).open, REF), partial(put, root, value=f"v{at}"), at) for at in range(1, 9)]


def test_a_writer_between_any_two_steps_of_a_reader_is_no_roll_back(state_root: Path):
    assert together(read_while_written, (state_root,)) == [[0] * 8]
    assert opened(state_root).get(REF).version > 3


def set_on_a_small_disk(root: Path) -> str:
    """A process that may write the beginning of the store's file and no more."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
    with pytest.raises(ResourceExhausted) as refusal:
        put(root, value="new")
    return refusal.value.message


def test_a_file_that_cannot_be_written_to_its_end_never_takes_the_store_s_place(state_root: Path):
    put(state_root, value="old")
    assert together(set_on_a_small_disk, (state_root,)) == ["The disk of the state root is full."]
    assert opened(state_root).open(REF) == Secret("old")
    assert not list((state_root / "secrets").glob(".*.tmp"))
    put(state_root, value="new")
    assert opened(state_root).open(REF) == Secret("new")


def test_what_crashed_writers_left_is_swept_once_it_is_old(state_root: Path):
    put(state_root)
    old, young = (state_root / "secrets" / f".{name}.tmp" for name in ("old", "young"))
    for path in (old, young):
        path.touch()
    long_ago = young.stat().st_mtime - AN_HOUR_AND_MORE
    os.utime(old, (long_ago, long_ago))
    put(state_root)
    assert not old.exists()
    assert young.exists()
