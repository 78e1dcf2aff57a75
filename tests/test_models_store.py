"""The remembered lists of models: kept whole, read leniently, replaced at once, and never worth a refusal to read."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from kheish_mcp.capabilities import ModelCard
from kheish_mcp.errors import ResourceExhausted
from kheish_mcp.stores import disk
from kheish_mcp.stores.models import FIELDS, ModelStore, Remembered
from tests.children import exit_code_of, meet, together

HERE, THERE = "https://openrouter.ai/api/v1", "https://other.example/api/v1"
FULL = ModelCard(
    "vendor/model", ("image_generation", "text"), ("Kore",), ("1K", "WxH"), ("png",), "$1.00 a picture", "A note.", "Nämé",
    ("text",), ("image",), {"image_out": 1.0, "token_in": 0.0}, 4096, 0, {"seed": (), "size": ("1K",)}, ("tools",),
    ("vendor/model-1",),
)  # fmt: skip
CARDS = (FULL, ModelCard("vendor/bare", ()))


def file(state_root: Path) -> Path:
    """The one file of a state root."""
    [path] = (state_root / "models").glob("*.json")
    return path


def test_a_card_comes_back_as_it_was_and_no_field_is_forgotten(state_root: Path):
    assert set(FIELDS) == {field.name for field in fields(ModelCard)}
    assert all(getattr(FULL, field.name) != field.default for field in fields(ModelCard))
    ModelStore(state_root).remember(HERE, CARDS, 1_790_000_000.5)
    assert ModelStore(state_root).recall(HERE) == Remembered(CARDS, 1_790_000_000.5)


def test_each_address_has_its_own_list(state_root: Path):
    store = ModelStore(state_root)
    assert store.recall(HERE) is None
    assert not state_root.exists()
    store.remember(HERE, CARDS, 1.0)
    store.remember(THERE, CARDS[1:], 2.0)
    store.remember(HERE, CARDS[:1], 3.0)
    assert store.recall(HERE) == Remembered(CARDS[:1], 3.0)
    assert store.recall(THERE) == Remembered(CARDS[1:], 2.0)


def test_files_are_this_user_s_alone_and_their_names_show_no_address(state_root: Path):
    ModelStore(state_root).remember(HERE, CARDS, 1.0)
    assert stat.S_IMODE(file(state_root).stat().st_mode) == 0o600
    assert stat.S_IMODE(file(state_root).parent.stat().st_mode) == 0o700
    assert "openrouter" not in file(state_root).name


def spoiled(**more: Any) -> Callable[[dict[str, Any]], Any]:
    """A file with other fields."""
    return lambda held: {**held, **more}


def with_card(**more: Any) -> Callable[[dict[str, Any]], Any]:
    """A file whose first card has other fields."""
    return lambda held: {**held, "cards": [{**held["cards"][0], **more}, *held["cards"][1:]]}


@pytest.mark.parametrize(
    "spoil",
    [
        spoiled(format=2), spoiled(base_url=THERE), spoiled(seen_at="now"), spoiled(seen_at=-1), spoiled(seen_at=True),
        spoiled(seen_at=None), spoiled(cards=[]), spoiled(cards={}), spoiled(cards=[7]), spoiled(cards=[{}]),
        with_card(id=None), with_card(voices="Kore"), with_card(voices=[7]), with_card(prices=[]),
        with_card(prices={"image_out": "1"}), with_card(prices={"image_out": -1}), with_card(knobs={"size": "1K"}),
        with_card(context_tokens="4096"), lambda held: [held], lambda held: None,
    ],
)  # fmt: skip
def test_what_is_not_as_it_was_written_is_as_good_as_nothing(state_root: Path, spoil: Callable[[dict[str, Any]], Any]):
    store = ModelStore(state_root)
    store.remember(HERE, CARDS, 1.0)
    held = json.loads(file(state_root).read_bytes())
    file(state_root).write_text(json.dumps(spoil(held)))
    assert store.recall(HERE) is None
    store.remember(HERE, CARDS, 2.0)
    assert store.recall(HERE) == Remembered(CARDS, 2.0)


def test_a_field_of_a_later_version_is_left_out(state_root: Path):
    ModelStore(state_root).remember(HERE, CARDS, 1.0)
    held = json.loads(file(state_root).read_bytes())
    file(state_root).write_text(json.dumps(with_card(smell="of roses")(held)))
    assert ModelStore(state_root).recall(HERE) == Remembered(CARDS, 1.0)


@pytest.mark.parametrize("cut", [0, 1, 40, -1])
def test_a_file_that_was_cut_or_is_no_json_is_as_good_as_nothing(state_root: Path, cut: int):
    ModelStore(state_root).remember(HERE, CARDS, 1.0)
    data = file(state_root).read_bytes()
    for spoiled_data in (data[:cut], b"\xff" + data, b"[" * 100_000):
        file(state_root).write_bytes(spoiled_data)
        assert ModelStore(state_root).recall(HERE) is None


@pytest.mark.parametrize("spoil", ["link", "folder", "open", "pipe"])
def test_what_others_could_have_put_there_is_not_read(state_root: Path, tmp_path: Path, spoil: str):
    store = ModelStore(state_root)
    store.remember(HERE, CARDS, 1.0)
    path, elsewhere = file(state_root), tmp_path / "elsewhere.json"
    put: dict[str, Callable[[], object]] = {
        "link": lambda: (path.rename(elsewhere), path.symlink_to(elsewhere)),
        "folder": lambda: (path.unlink(), path.mkdir()),
        "open": lambda: path.chmod(0o644),
        "pipe": lambda: (path.unlink(), os.mkfifo(path)),
    }
    put[spoil]()
    assert store.recall(HERE) is None


def test_a_full_disk_refuses_and_leaves_the_list_before(state_root: Path, monkeypatch: pytest.MonkeyPatch):
    store = ModelStore(state_root)
    store.remember(HERE, CARDS, 1.0)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk.os, "fsync", full)
    with pytest.raises(ResourceExhausted):
        store.remember(HERE, CARDS[:1], 2.0)
    assert store.recall(HERE) == Remembered(CARDS, 1.0)
    assert [path.name for path in (state_root / "models").iterdir()] == [file(state_root).name]


def killed_before(state_root: Path, step: int) -> None:
    """Remembers a new list, and dies before the step of that number."""
    for name in ("open", "write", "fsync", "rename", "replace"):
        real = getattr(os, name)

        def counted(*arguments: Any, real: Callable[..., Any] = real, **more: Any) -> Any:
            nonlocal step
            step -= 1
            if step < 0:
                os._exit(9)
            return real(*arguments, **more)

        setattr(os, name, counted)
    ModelStore(state_root).remember(HERE, CARDS[:1], 2.0)


def test_a_kill_before_any_step_leaves_the_old_list_or_the_new_one(state_root: Path):
    ends: list[tuple[int, Remembered | None]] = []
    for step in range(12):
        ModelStore(state_root).remember(HERE, CARDS, 1.0)
        child = os.fork()
        if child == 0:
            killed_before(state_root, step)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        ends.append((os.waitstatus_to_exitcode(status), ModelStore(state_root).recall(HERE)))
    old, new = Remembered(CARDS, 1.0), Remembered(CARDS[:1], 2.0)
    killed = [left for code, left in ends if code == 9]
    assert killed == [old] * killed.count(old) + [new] * killed.count(new)
    assert len(killed) > 3
    assert old in killed
    assert {left for code, left in ends if code == 0} == {new}


def write_and_read(state_root: Path, number: int) -> int:
    """Writes a list of its own again and again; how often a read found none, or one that nobody wrote."""
    store, own = ModelStore(state_root), tuple(replace(FULL, id=f"vendor/{number}") for _ in range(40))
    meet()
    torn = 0
    for turn in range(20):
        store.remember(HERE, own, float(turn))
        found = store.recall(HERE)
        torn += found is None or len({card.id for card in found.cards}) != 1 or len(found.cards) != 40
    return torn


def test_processes_that_write_at_once_tear_nothing(state_root: Path):
    assert together(write_and_read, (state_root, 1), (state_root, 2)) == [0, 0]
    assert exit_code_of(ModelStore(state_root).recall, HERE) == 0
