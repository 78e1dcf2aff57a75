"""`assets` and `costs` as a person or a script runs them, beside whatever else has the state root open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

from kheish_mcp.cli import run
from kheish_mcp.media import Media
from kheish_mcp.stores.assets import AssetStore
from kheish_mcp.stores.database import Database
from kheish_mcp.stores.ledger import Ledger
from tests.conftest import environment, kheish

T = TypeVar("T")
HELLO = b"Hello."
ASSET_KEYS = [
    "asset_id", "uri", "media_type", "file_name", "byte_length", "sha256", "width", "height", "duration_s", "path",
]  # fmt: skip
UNKNOWN = "asset-" + "a" * 26


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """A text file."""
    path = tmp_path / "hello.txt"
    path.write_bytes(HELLO)
    return path


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs command lines on one state root, and reads what they print."""

    state_root: Path
    capfd: pytest.CaptureFixture[str]

    def run(self, *arguments: str, output: str = "json") -> tuple[int, str, str]:
        """The exit code, what went out as data, and what was said."""
        code = run([*arguments, "--state-root", str(self.state_root), "--output", output])
        return code, *self.capfd.readouterr()

    def data(self, *arguments: str, code: int = 0) -> Any:
        """The JSON that a command prints."""
        found, out, err = self.run(*arguments)
        assert (found, err) == (code, "")
        return json.loads(out)

    def refusal(self, *arguments: str) -> tuple[int, Any]:
        """The exit code of a command that has to fail, and the error that it prints."""
        code, out, err = self.run(*arguments)
        assert out == ""
        return code, json.loads(err)["error"]

    def pretty(self, *arguments: str) -> list[str]:
        """The lines for people."""
        code, out, err = self.run(*arguments, output="pretty")
        assert (code, err) == (0, "")
        return out.splitlines()


@pytest.fixture
def sh(state_root: Path, capfd: pytest.CaptureFixture[str]) -> Shell:
    """Commands on a fresh state root."""
    return Shell(state_root, capfd)


def inside(root: Path, work: Callable[[Database, AssetStore], Awaitable[T]]) -> T:
    """What `work` gives in this process, on the same state root."""

    async def main() -> T:
        async with Database.open(root) as database:
            return await work(database, AssetStore(root, database))

    return anyio.run(main)


def test_an_import_is_the_asset_of_the_contract_and_a_file(sh: Shell, hello: Path):
    made = sh.data("assets", "import", str(hello), "--label", "greeting")
    assert list(made) == ASSET_KEYS
    assert (made["media_type"], made["file_name"], made["byte_length"]) == ("text/plain", "hello.txt", 6)
    assert Path(made["path"]).read_bytes() == HELLO
    assert sh.data("assets", "import", str(hello)) == made
    assert sh.data("assets", "get", made["asset_id"]) == sh.data("assets", "get", made["uri"]) == made
    assert "greeting" in "\n".join(sh.pretty("assets", "list"))


def test_an_import_says_what_it_is_and_the_bytes_have_to_agree(sh: Shell, hello: Path):
    assert sh.data("assets", "import", str(hello), "--media-type", "text/markdown")["media_type"] == "text/markdown"
    for options in (["--media-type", "image/png"], ["--kind", "microphone_segment"]):
        code, error = sh.refusal("assets", "import", str(hello), *options)
        assert (code, error["code"]) == (2, "invalid_argument")
    pcm = hello.with_name("sound.pcm")
    pcm.write_bytes(bytes(960))
    sound = sh.data("assets", "import", str(pcm), "--media-type", "audio/pcm;rate=24000")
    assert sound["duration_s"] == pytest.approx(0.02)


def test_only_plain_files_of_a_fitting_size_are_imported(sh: Shell, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing", "pipe", "."):
        code, error = sh.refusal("assets", "import", str(tmp_path / name))
        assert (code, error["code"]) == (2, "invalid_argument")
    with (tmp_path / "large").open("wb") as file:
        file.truncate((64 << 20) + 1)
    code, error = sh.refusal("assets", "import", str(tmp_path / "large"))
    assert (code, error["code"]) == (7, "resource_exhausted")
    assert sh.data("assets", "list") == {"assets": []}


def test_lists_come_in_pages_newest_first(sh: Shell):
    async def keep(_: Database, store: AssetStore) -> list[str]:
        return [(await store.keep(Media(f"{n}".encode(), "text/plain"), owner="local")).asset_id for n in range(5)]

    made = inside(sh.state_root, keep)
    first = sh.data("assets", "list", "--limit", "3")
    assert [asset["asset_id"] for asset in first["assets"]] == made[:1:-1]
    second = sh.data("assets", "list", "--limit", "3", "--cursor", first["next_cursor"])
    assert [asset["asset_id"] for asset in second["assets"]] == made[1::-1]
    assert "next_cursor" not in second
    assert sh.refusal("assets", "list", "--cursor", "garbage")[0] == 2
    assert sh.pretty("assets", "list", "--limit", "3")[-1] == f"More: --cursor {first['next_cursor']}"


def test_the_assets_of_others_are_not_there(sh: Shell):
    async def keep(_: Database, store: AssetStore) -> str:
        return (await store.keep(Media(HELLO, "text/plain"), owner="token-b")).asset_id

    asset_id = inside(sh.state_root, keep)
    assert sh.data("assets", "list") == {"assets": []}
    for command in (["get", asset_id], ["delete", asset_id], ["get", UNKNOWN], ["export", asset_id, "x"]):
        code, error = sh.refusal("assets", *command)
        assert (code, error["code"]) == (5, "not_found")
        assert error["hint"]


def test_an_export_never_overwrites_unless_forced(sh: Shell, hello: Path, tmp_path: Path):
    asset_id = sh.data("assets", "import", str(hello))["asset_id"]
    target = tmp_path / "out.txt"
    assert sh.data("assets", "export", asset_id, str(target)) == {
        "asset_id": asset_id,
        "path": str(target),
        "byte_length": 6,
    }
    assert target.read_bytes() == HELLO
    target.write_text("mine")
    assert sh.refusal("assets", "export", asset_id, str(target))[0] == 6
    assert target.read_text() == "mine"
    sh.data("assets", "export", asset_id, str(target), "--force")
    assert target.read_bytes() == HELLO
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hello.txt", "out.txt", "state"]


def test_an_export_goes_into_a_folder_and_through_no_link(sh: Shell, hello: Path, tmp_path: Path):
    asset_id = sh.data("assets", "import", str(hello))["asset_id"]
    (tmp_path / "folder").mkdir()
    written = sh.data("assets", "export", asset_id, str(tmp_path / "folder"))
    assert written["path"] == str(tmp_path / "folder" / "hello.txt")
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("link", "dangling"):
        assert sh.refusal("assets", "export", asset_id, str(tmp_path / name))[0] == 6
    assert (tmp_path / "elsewhere").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
    assert sh.refusal("assets", "export", asset_id, str(tmp_path / "missing" / "out.txt"))[0] == 2


def test_a_deletion_can_be_tried_out_first(sh: Shell, hello: Path):
    asset_id = sh.data("assets", "import", str(hello))["asset_id"]
    assert sh.data("assets", "delete", asset_id, "--dry-run") == {"would_delete": asset_id}
    assert sh.data("assets", "get", asset_id)["asset_id"] == asset_id
    assert sh.data("assets", "delete", asset_id) == {"deleted": asset_id}
    assert sh.refusal("assets", "delete", asset_id)[0] == 5


def test_what_a_crash_left_is_listed_and_removed_only_when_told(sh: Shell, state_root: Path, hello: Path):
    sh.data("assets", "import", str(hello))
    orphan = state_root / "assets" / "blobs" / "00" / ("0" * 64)
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_bytes(b"left by a crash")
    os.utime(orphan, (time.time() - 4000,) * 2)
    assert sh.data("assets", "gc") == {"orphans": [orphan.name], "removed": False}
    assert sh.data("assets", "gc", "--execute") == {"orphans": [orphan.name], "removed": True}
    assert not orphan.exists()
    assert sh.data("assets", "gc") == {"orphans": [], "removed": False}


def test_damage_is_found_and_named(sh: Shell, state_root: Path, hello: Path, tmp_path: Path):
    made = sh.data("assets", "import", str(hello))
    assert sh.data("assets", "verify") == {"checked": 1, "damaged": []}
    blob = state_root / "assets" / "blobs" / made["sha256"][:2] / made["sha256"]
    blob.chmod(0o600)
    blob.write_bytes(b"Hallo.")
    assert sh.data("assets", "verify", code=70) == {"checked": 1, "damaged": [made["asset_id"]]}
    assert "path" not in sh.data("assets", "get", made["asset_id"])
    code, error = sh.refusal("assets", "export", made["asset_id"], str(tmp_path / "out.txt"))
    assert (code, error["code"]) == (70, "data_loss")
    assert made["uri"] in error["message"]
    assert not (tmp_path / "out.txt").exists()


def test_commands_work_beside_a_process_that_has_the_root_open(state_root: Path, hello: Path):
    def other(*arguments: str) -> Any:
        done = kheish(*arguments, "--output", "json", env=environment(state_root))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    async def work(database: Database, store: AssetStore) -> None:
        mine = await store.keep(Media(b"before", "text/plain"), owner="local")
        theirs = await anyio.to_thread.run_sync(other, "assets", "import", str(hello))
        assert (await store.read(await store.get(theirs["asset_id"], "local"))).data == HELLO
        listed = await anyio.to_thread.run_sync(other, "assets", "list")
        assert [asset["asset_id"] for asset in listed["assets"]] == [theirs["asset_id"], mine.asset_id]

    inside(state_root, work)


async def spend(database: Database, _: AssetStore) -> None:
    """Three calls of two routes, one without a known cost, and one of long ago."""
    ledger = Ledger(database)
    row = {"job_id": "job-1", "owner": "token-b", "tool": "generate_image", "provider": "openrouter", "model": "v/m"}
    for route_id, cost in (("first", 0.04), ("first", None), ("second", 0.002), ("second", 1.0)):
        number = await ledger.plan(**row, route_id=route_id)
        await ledger.stored(number, cost, ())
    await database.change("UPDATE exchange SET created_at = created_at - 864000 WHERE cost_usd = 1.0")


def test_costs_are_added_up_for_every_owner(sh: Shell):
    inside(sh.state_root, spend)
    assert sh.data("costs", "--since", "7d") == {
        "total_usd": 0.042,
        "calls": 3,
        "unknown_cost_calls": 1,
        "rows": [
            {"key": "first", "calls": 2, "cost_usd": 0.04, "unknown_cost_calls": 1},
            {"key": "second", "calls": 1, "cost_usd": 0.002, "unknown_cost_calls": 0},
        ],
    }
    assert sh.data("costs")["total_usd"] == 1.042
    assert sh.data("costs", "--since", "2000-01-01")["calls"] == 4
    assert sh.data("costs", "--since", "2100-01-01T00:00+02:00")["calls"] == 0
    assert [row["key"] for row in sh.data("costs", "--by", "tool")["rows"]] == ["generate_image"]
    assert len(sh.data("costs", "--by", "day")["rows"]) == 2
    pretty = sh.pretty("costs", "--since", "7d")
    assert pretty[0].split() == ["ROUTE", "CALLS", "USD", "COST", "UNKNOWN"]
    assert pretty[-1].split() == ["total", "3", "0.042000", "1"]


@pytest.mark.parametrize("options", [["--since", "yesterday"], ["--since", "7y"], ["--by", "colour"]])
def test_a_question_about_costs_that_cannot_be_meant_is_a_usage_error(sh: Shell, options: list[str]):
    code, error = sh.refusal("costs", *options)
    assert (code, error["code"]) == (2, "invalid_argument")


def test_a_state_root_that_cannot_be_one_is_told_without_a_traceback(hello: Path, capfd: pytest.CaptureFixture[str]):
    code, error = Shell(hello / "state", capfd).refusal("assets", "list")
    assert (code, error["code"]) == (2, "failed_precondition")
    assert "--state-root" in error["hint"]


@pytest.mark.parametrize("command", [["assets", "list"], ["costs"]])
def test_nothing_that_serves_is_loaded(state_root: Path, command: list[str]):
    code = (
        "import sys\nfrom kheish_mcp.cli import run\n"
        f"assert run({command!r}) == 0\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'mcp', 'httpx2', 'PIL', 'cryptography'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(state_root),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
