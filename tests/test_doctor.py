"""`doctor`: every thing that can be wrong is named with what mends it, and looking changes and costs nothing."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from kheish_mcp.cli import checks, run
from kheish_mcp.secret import Secret
from kheish_mcp.stores.assets import AssetStore
from kheish_mcp.stores.auth import AuthStore
from kheish_mcp.stores.database import Database
from kheish_mcp.stores.envelope import MasterKey
from kheish_mcp.stores.ledger import Ledger
from kheish_mcp.stores.tokens import TokenStore
from tests.conftest import CANARY, environment
from tests.emulators.openrouter import OpenRouterEmulator

REF = "openrouter.primary"
ROUTE = '[routes.main]\ndriver = "openrouter"\ndefault_model = "openai/gpt-5.4-mini"\n'
Doctor = Callable[..., tuple[int, dict[str, dict[str, Any]]]]


@pytest.fixture
def doctor(state_root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Doctor:
    """Runs `doctor ...`: the exit code, and the checks by name."""
    for name in list(os.environ):
        if name.startswith(("KHEISH", "OPENROUTER")):
            monkeypatch.delenv(name)
    for name, value in environment(state_root).items():
        monkeypatch.setenv(name, value)

    def look(*arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
        code = run(["doctor", *arguments, "--output", "json"])
        shown = json.loads(capfd.readouterr().out)
        assert shown.keys() == {"ok", "checks"}
        assert shown["ok"] is (code == 0)
        assert all(check["state"] != "error" for check in shown["checks"]) is shown["ok"]
        return code, {check["name"]: check for check in shown["checks"]}

    return look


@pytest.fixture
def routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a routes.toml in use."""

    def use(text: str) -> None:
        (tmp_path / "routes.toml").write_text(f"version = 1\n{text}")
        monkeypatch.setenv("KHEISH_ROUTES_FILE", str(tmp_path / "routes.toml"))

    return use


def with_database(state_root: Path, work: Callable[[Database], Any]) -> None:
    """Makes the state root's database, and does something to it."""

    async def main() -> None:
        async with Database.open(state_root) as database:
            await work(database)

    anyio.run(main)


def test_a_fresh_machine_is_well_and_nothing_is_made_by_looking(doctor: Doctor, state_root: Path):
    code, found = doctor()
    assert code == 0
    assert not state_root.exists()
    assert [name for name, check in found.items() if check["state"] != "ok"] == ["providers"]
    assert found["providers"]["fix"] == checks.GET_KEY
    assert set(found) == {
        "state_root", "disk", "workspace", "quarantine", "database", "master_key", "routes_file", "route.local",
        "providers", "local_extra",
    }  # fmt: skip
    assert all(set(check) <= {"name", "state", "message", "fix"} for check in found.values())


def test_a_machine_in_use_is_well(doctor: Doctor, state_root: Path, emulator: OpenRouterEmulator, monkeypatch):
    monkeypatch.setenv("OPENROUTER_BASE_URL", emulator.base_url)
    AuthStore(state_root).init()
    AuthStore(state_root).set(REF, "openrouter", Secret(CANARY))
    with_database(state_root, lambda database: TokenStore(database).create("laptop", "read"))
    code, found = doctor()
    assert code == 0
    assert {check["state"] for check in found.values()} == {"ok"}
    assert found["auth_store"]["message"] == "It opens: 1 slot(s)."
    assert found["tokens"]["message"] == "1 token(s), 0 of them expired."
    assert "image_generation" in found["route.openrouter"]["message"]
    assert not emulator.requests


def test_only_the_routes_are_looked_at_when_asked(doctor: Doctor):
    assert set(doctor("routes")[1]) == {"routes_file", "route.local", "providers", "local_extra"}


def test_a_state_root_that_others_can_enter_is_a_warning(doctor: Doctor, state_root: Path):
    state_root.mkdir(mode=0o755)
    code, found = doctor()
    assert (code, found["state_root"]["state"]) == (0, "warning")
    assert found["state_root"]["fix"] == f"chmod go-rwx {state_root}"


def test_a_state_root_that_is_a_file_is_an_error(doctor: Doctor, state_root: Path):
    state_root.write_text("")
    code, found = doctor()
    assert (code, found["state_root"]["state"]) == (1, "error")


@pytest.mark.parametrize(("free", "state"), [
    (0, "error"), (checks.LEAST - 1, "error"), (checks.LEAST, "warning"), (checks.LITTLE - 1, "warning"),
    (checks.LITTLE, "ok"),
])  # fmt: skip
def test_a_full_disk_is_seen_before_it_hurts(free: int, state: str):
    found = checks.disk(free)
    assert (found.state, found.fix is None) == (state, state == "ok")


def test_a_damaged_database_is_found_with_the_way_out(doctor: Doctor, state_root: Path):
    with_database(state_root, lambda database: TokenStore(database).create("laptop", "read"))
    with sqlite3.connect(state_root / "kheish.db") as plain:
        plain.execute("PRAGMA journal_mode = delete")
        plain.execute("PRAGMA writable_schema = ON")
        plain.execute("UPDATE sqlite_schema SET rootpage = 3 WHERE name = 'asset_by_blob'")
    plain.close()
    code, found = doctor()
    assert (code, found["database"]["state"]) == (1, "error")
    assert "backup" in found["database"]["fix"]


def test_a_file_that_is_no_database_is_found(doctor: Doctor, state_root: Path):
    state_root.mkdir(mode=0o700)
    (state_root / "kheish.db").write_bytes(b"not a database, and long enough to be read as one" * 100)
    code, found = doctor()
    assert (code, found["database"]["state"]) == (1, "error")


def test_an_expired_token_is_named_and_so_is_what_was_set_aside(doctor: Doctor, state_root: Path):
    with_database(state_root, lambda database: TokenStore(database).create("old", "read", 1.0))
    with_database(state_root, lambda database: AssetStore(state_root, database).set_aside(b"?", "no picture"))
    code, found = doctor()
    assert code == 0
    assert found["tokens"] | {"message": ""} == {
        "name": "tokens", "state": "warning", "message": "", "fix": "kheish-daemon tokens revoke old",
    }  # fmt: skip
    assert found["quarantine"]["message"].startswith("1 piece(s)")


def test_a_store_without_its_key_is_an_error_and_so_is_one_of_another_key(
    doctor: Doctor, state_root: Path, monkeypatch: pytest.MonkeyPatch
):
    AuthStore(state_root).init()
    AuthStore(state_root).set(REF, "openrouter", Secret(CANARY))
    AuthStore(state_root).key_file.unlink()
    code, found = doctor()
    assert (code, found["master_key"]["state"]) == (1, "error")
    assert "auth_store" not in found
    monkeypatch.setenv("KHEISH_AUTH_STORE_MASTER_KEY", MasterKey.generate().secret.reveal())
    code, found = doctor()
    assert (code, found["master_key"]["state"], found["auth_store"]["state"]) == (1, "ok", "error")
    assert found["master_key"]["message"] == "It is in KHEISH_AUTH_STORE_MASTER_KEY."


def test_a_tampered_store_and_an_open_one_are_errors(doctor: Doctor, state_root: Path):
    AuthStore(state_root).init()
    AuthStore(state_root).set(REF, "openrouter", Secret("value"))
    store = state_root / "secrets" / "store.json"
    store.chmod(0o644)
    assert "chmod go-rwx" in doctor()[1]["auth_store"]["fix"]
    store.chmod(0o600)
    store.write_text(store.read_text().replace('"provider": "openrouter"', '"provider": "openai"'))
    store.write_text(store.read_text().replace('"provider":"openrouter"', '"provider":"openai"'))
    code, found = doctor()
    assert (code, found["auth_store"]["state"]) == (1, "error")


def test_a_missing_master_key_file_is_an_error(doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KHEISH_AUTH_STORE_MASTER_KEY_FILE", str(tmp_path / "gone"))
    assert doctor()[1]["master_key"]["state"] == "error"


def test_a_route_without_its_slot_says_which_command_sets_it(doctor: Doctor, routes: Callable[[str], None]):
    routes(f'{ROUTE}auth_ref = "{REF}"\n')
    code, found = doctor()
    assert (code, found["route.main"]["state"]) == (1, "error")
    assert found["route.main"]["fix"] == f"kheish-daemon secrets set {REF} --provider openrouter"
    assert found["local_extra"]["state"] == "ok"
    assert "route.local" not in found


def test_a_routes_file_that_does_not_parse_is_an_error(doctor: Doctor, routes: Callable[[str], None]):
    routes('[routes.main]\ndriver = "none"\n')
    code, found = doctor()
    assert (code, found["routes_file"]["state"]) == (1, "error")
    assert "routes.toml:3:1: driver in [routes.main]" in found["routes_file"]["message"]
    assert "routes.example.toml" in found["routes_file"]["fix"]


def test_a_key_in_routes_toml_works_and_is_warned_of(doctor: Doctor, routes: Callable[[str], None]):
    routes(f'{ROUTE}api_key = "sk-or-v1-inline"\n')
    code, found = doctor()
    assert code == 0
    assert found["route.main"]["state"] == "ok"
    assert found["route.main.key"]["state"] == "warning"
    assert "secrets set" in found["route.main.key"]["fix"]
    assert "sk-or-v1-inline" not in json.dumps(found)


def test_what_is_not_installed_is_named_with_how_to_install_it():
    found = checks.local_extra(["pocketsphinx"], is_used=True)
    assert (found.state, found.fix) == ("warning", "pip install 'kheish-mcp[local]'")
    assert "pocketsphinx" in found.message
    assert checks.local_extra(["pocketsphinx"], is_used=False).state == "ok"
    assert checks.local_extra([], is_used=True).state == "ok"


@pytest.mark.parametrize(("make", "state"), [(False, "error"), (True, "ok")])
def test_the_workspace_has_to_be_there(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: bool, state: str
):
    root = tmp_path / "work"
    monkeypatch.setenv("KHEISH_WORKSPACE_ROOT", str(root))
    if make:
        root.mkdir()
    found = doctor()[1]["workspace"]
    assert found["state"] == state
    assert make or found["fix"] == f"mkdir -p {root}"


@pytest.fixture
def keyed(doctor: Doctor, monkeypatch: pytest.MonkeyPatch, emulator: OpenRouterEmulator) -> None:
    """An environment with the stand-in and its key, put in place after the one of `doctor`."""
    monkeypatch.setenv("OPENROUTER_BASE_URL", emulator.base_url)
    monkeypatch.setenv("OPENROUTER_API_KEY", CANARY)


@pytest.mark.usefixtures("keyed")
def test_providers_are_asked_about_keys_only_when_told_to(
    doctor: Doctor, emulator: OpenRouterEmulator, monkeypatch: pytest.MonkeyPatch
):
    found = doctor("--check-auth")[1]
    assert found["auth.openrouter"]["message"] == "The key is taken. $100.00 of its limit are left."
    assert "auth.local" not in found
    assert [(seen.method, seen.path) for seen in emulator.requests] == [("GET", "/key")]
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-v1-another")
    code, found = doctor("routes", "--check-auth")
    assert (code, found["auth.openrouter"]["state"]) == (1, "error")
    monkeypatch.setenv("OPENROUTER_BASE_URL", "http://127.0.0.1:9/api/v1")
    code, found = doctor("routes", "--check-auth")
    assert (code, found["auth.openrouter"]["state"]) == (1, "error")


@pytest.mark.usefixtures("keyed")
def test_a_canary_calls_each_tool_on_each_route_and_leaves_only_its_costs(
    doctor: Doctor, state_root: Path, emulator: OpenRouterEmulator, routes: Callable[[str], None]
):
    own = f'default_route = "main"\n{ROUTE}api_key_env = "OPENROUTER_API_KEY"\nbase_url = "{emulator.base_url}"\n'
    routes(own + '[routes.local]\ndriver = "local"\naudio_generation = false\ntranscription = false\n')
    code, found = doctor("routes", "--canary")
    flown = {name: check["state"] for name, check in found.items() if name.startswith("canary.")}
    paid = {f"canary.main.{tool}" for tool in ("generate_image", "edit_image", "generate_audio", "transcribe_audio")}
    assert paid | {"canary.local.generate_image", "canary.local.edit_image"} <= set(flown)
    assert set(flown.values()) == {"ok"}, found
    assert code == 0
    assert {"/images", "/audio/speech", "/audio/transcriptions"} <= {seen.path for seen in emulator.requests}

    async def left(database: Database) -> None:
        assert (await AssetStore(state_root, database).page("doctor", None))[0] == ()
        assert (await Ledger(database).totals(owner="doctor"))["calls"] >= 4

    with_database(state_root, left)


@pytest.mark.parametrize("arguments", [["--check-auth", "--offline"], ["--canary", "--offline"], ["everything"]])
def test_what_cannot_be_meant_is_a_usage_error(doctor: Doctor, capfd: pytest.CaptureFixture[str], arguments: list[str]):
    assert run(["doctor", *arguments, "--output", "json"]) == 2
    assert capfd.readouterr().out == ""


def test_people_see_a_line_a_check_and_the_fix_under_it(doctor: Doctor, capfd: pytest.CaptureFixture[str]):
    assert run(["doctor", "--output", "pretty"]) == 0
    lines = capfd.readouterr().out.splitlines()
    place = next(index for index, line in enumerate(lines) if line.startswith("warning providers"))
    assert lines[place + 1].strip() == f"fix: {checks.GET_KEY}"
    assert sum(" fix: " in line for line in lines) == 1
