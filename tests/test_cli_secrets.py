"""The secrets commands: sources, shapes, exit codes, and that no secret is ever printed."""

from __future__ import annotations

import base64
import io
import json
import os
import pty
import select
import signal
import stat
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from kheish_mcp.cli import run
from kheish_mcp.secret import Secret
from kheish_mcp.stores.auth import AuthStore
from kheish_mcp.stores.envelope import MasterKey
from tests.conftest import CANARY, environment

REF = "openrouter.primary"
KEY, OTHER = MasterKey.generate(), MasterKey.generate()
SLOT = {"slot_id", "provider", "kind", "version", "created_at", "updated_at"}
DEADLINE_S = 60


@pytest.fixture
def env(state_root: Path) -> dict[str, str]:
    """An environment with a master key and a key to keep."""
    return environment(state_root, KHEISH_AUTH_STORE_MASTER_KEY=KEY.secret.reveal(), OPENROUTER_API_KEY=CANARY)


def program(*arguments: str, env: dict[str, str], stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `secrets ...` with this environment and no other; nothing that was to be kept comes out again."""
    command = ["secrets", *arguments]
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name in set(os.environ) - set(env):
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((stdin or "").encode()), encoding="utf-8"))
        code = run(command)
    assert CANARY not in out.getvalue() + err.getvalue()
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


def given(*arguments: str, env: dict[str, str], stdin: str | None = None) -> Any:
    """The JSON that a command gives."""
    done = program(*arguments, env=env, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def kept(state_root: Path, ref: str = REF, key: MasterKey = KEY) -> str:
    """What a slot holds."""
    return AuthStore(state_root, key.secret).open(ref).reveal()


BOOTSTRAP = """
export KHEISH_AUTH_STORE_MASTER_KEY="$(./target/debug/kheish-daemon secrets generate)"

./target/debug/kheish-daemon secrets set openrouter.primary \\
  --offline \\
  --state-root .kheish-daemon-data \\
  --provider openrouter \\
  --from-env OPENROUTER_API_KEY
"""


def test_the_page_s_bootstrap_works_as_printed(tmp_path: Path):
    daemon = tmp_path / "target" / "debug" / "kheish-daemon"
    daemon.parent.mkdir(parents=True)
    daemon.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kheish_mcp "$@"\n')
    daemon.chmod(0o755)
    env = {name: value for name, value in environment(tmp_path).items() if name != "KHEISH_STATE_ROOT"}
    script = f'set -eu\n{BOOTSTRAP}\necho "$KHEISH_AUTH_STORE_MASTER_KEY"'
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=env | {"OPENROUTER_API_KEY": CANARY},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    slot, key = done.stdout.splitlines()
    assert json.loads(slot)["slot_id"] == REF
    assert CANARY not in done.stdout + done.stderr
    assert AuthStore(tmp_path / ".kheish-daemon-data", Secret(key)).open(REF) == Secret(CANARY)


def test_generate_prints_a_new_key_and_keeps_nothing(state_root: Path):
    keys = [program("generate", env=environment(state_root)).stdout for _ in range(2)]
    assert keys[0] != keys[1]
    for key in keys:
        assert len(key) == 45
        assert len(base64.b64decode(key.strip(), validate=True)) == 32
    assert not state_root.exists()


def test_init_makes_a_key_file_that_every_command_finds(state_root: Path):
    bare = environment(state_root, OPENROUTER_API_KEY=CANARY)
    path = Path(given("init", env=bare)["key_file"])
    assert path == state_root / "secrets" / "master.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    given("set", REF, "--provider", "openrouter", "--from-env", "OPENROUTER_API_KEY", env=bare)
    assert kept(state_root, key=MasterKey.parse(path.read_text())) == CANARY


def test_init_never_writes_over_a_key_file(state_root: Path):
    bare = environment(state_root)
    path = Path(given("init", env=bare)["key_file"])
    before = path.read_text()
    done = program("init", env=bare)
    assert done.returncode == 2
    assert str(path) in done.stderr
    assert path.read_text() == before


@pytest.mark.parametrize(
    "source",
    [["--from-env", "OPENROUTER_API_KEY"], ["--from-file", "FILE"], ["--stdin"]],
    ids=["environment", "file", "stdin"],
)
def test_set_takes_a_value_from_a_source_and_shows_what_is_public(
    env: dict[str, str], state_root: Path, tmp_path_factory: pytest.TempPathFactory, source: list[str]
):
    file = tmp_path_factory.mktemp("elsewhere") / "key.txt"
    file.write_text(CANARY + "\n")
    source = [str(file) if word == "FILE" else word for word in source]
    slot = given("set", REF, "--provider", "openrouter", *source, env=env, stdin=CANARY + "\n")
    assert set(slot) == SLOT
    assert (slot["slot_id"], slot["provider"], slot["kind"], slot["version"]) == (REF, "openrouter", "api_key", 1)
    assert kept(state_root) == CANARY


def test_a_value_on_the_command_line_is_kept_and_warned_of(env: dict[str, str], state_root: Path):
    done = program("set", REF, "--provider", "generic", "--value", "abc", env=env)
    assert done.returncode == 0
    assert "process list" in done.stderr
    assert "abc" not in done.stdout + done.stderr
    assert kept(state_root) == "abc"


@pytest.mark.parametrize("source", [["--stdin"], ["--from-env", "BROKEN"], [f"--value={CANARY}\n{CANARY}"]])
def test_a_value_with_a_line_break_inside_is_exit_2(env: dict[str, str], state_root: Path, source: list[str]):
    broken = f"{CANARY}\n{CANARY}\n"
    done = program("set", REF, "--provider", "openrouter", *source, env=env | {"BROKEN": broken}, stdin=broken)
    assert done.returncode == 2
    assert "blanks, line breaks" in done.stderr
    assert not (state_root / "secrets" / "store.json").exists()


@pytest.mark.parametrize("value", ["", "\n", f"{CANARY}\n\n", f"{CANARY} x", f"{CANARY}é", CANARY * 400])
def test_a_value_that_no_header_takes_is_exit_2(env: dict[str, str], value: str):
    assert program("set", REF, "--provider", "openrouter", "--stdin", env=env, stdin=value).returncode == 2


def test_bytes_that_are_no_text_are_exit_2(env: dict[str, str], tmp_path: Path):
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\x00" * 100)
    done = program("set", REF, "--provider", "openrouter", "--from-file", str(binary), env=env)
    assert done.returncode == 2
    assert "beyond ASCII" in done.stderr


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (["--from-env", "NOT_SET"], "the variable NOT_SET is not set or empty"),
        (["--from-file", "/nowhere/at/all"], "the file /nowhere/at/all cannot be read"),
        (["--from-file", "/"], "the file / cannot be read"),
        (["--from-env", "OPENROUTER_API_KEY", "--stdin"], "more than one source is named"),
        (["--from-file", "x", "--value", ""], "more than one source is named"),
        ([], "no source is named, and nobody can be asked"),
    ],
)
def test_a_source_that_gives_nothing_is_exit_2(env: dict[str, str], source: list[str], error: str):
    done = program("set", REF, "--provider", "openrouter", *source, env=env, stdin="")
    assert done.returncode == 2
    assert f"error: {error}\nhint: " in done.stderr


def test_a_provider_that_is_not_known_is_exit_2_and_the_known_ones_are_named(env: dict[str, str]):
    done = program("set", REF, "--provider", "anthropic", "--stdin", env=env, stdin="x")
    assert done.returncode == 2
    assert "openrouter, openai, generic" in done.stderr


def test_set_without_any_master_key_is_exit_4_and_names_both_ways(state_root: Path):
    done = program("set", REF, "--provider", "openrouter", "--stdin", env=environment(state_root), stdin=CANARY)
    assert done.returncode == 4
    assert "secrets init" in done.stderr
    assert "KHEISH_AUTH_STORE_MASTER_KEY" in done.stderr
    assert not state_root.exists()


def test_list_and_get_need_no_key_and_delete_does(env: dict[str, str], state_root: Path):
    for ref in (REF, "b.second"):
        given("set", ref, "--provider", "openrouter", "--from-env", "OPENROUTER_API_KEY", env=env)
    bare = environment(state_root)
    slots = given("list", env=bare)
    assert [slot["slot_id"] for slot in slots] == ["b.second", REF]
    assert all(set(slot) == SLOT for slot in slots)
    assert given("get", REF, env=bare) == slots[1]
    assert program("delete", REF, env=bare).returncode == 4
    assert given("delete", REF, "--offline", env=env) == {"deleted": True}
    assert given("list", env=env) == slots[:1]


def test_an_empty_store_is_an_empty_list(state_root: Path):
    assert given("list", env=environment(state_root)) == []
    assert "no slots" in program("list", "--output", "pretty", env=environment(state_root)).stdout


@pytest.mark.parametrize("command", ["get", "delete"])
def test_a_slot_that_is_not_there_is_exit_5(env: dict[str, str], command: str):
    done = program(command, REF, env=env)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith(f"error: slot {REF} is not set\nhint: ")
    done = program(command, REF, "--output", "json", env=env)
    assert (done.returncode, done.stdout) == (5, "")
    error = json.loads(done.stderr)["error"]
    assert (error["code"], error["message"]) == ("not_found", f"slot {REF} is not set")
    assert "kheish-daemon secrets" in error["hint"]


def test_a_terminal_s_reader_gets_columns(env: dict[str, str]):
    given("set", REF, "--provider", "openrouter", "--from-env", "OPENROUTER_API_KEY", env=env)
    header, row = program("list", "--output", "pretty", env=env).stdout.splitlines()
    assert header.split() == ["SLOT", "PROVIDER", "VERSION", "UPDATED"]
    assert row.split()[:3] == [REF, "openrouter", "1"]
    assert f"slot_id     {REF}" in program("get", REF, "--output", "pretty", env=env).stdout


def test_a_wrong_key_and_a_changed_store_are_exit_4_in_different_words(env: dict[str, str], state_root: Path):
    given("set", REF, "--provider", "openrouter", "--from-env", "OPENROUTER_API_KEY", env=env)
    wrong = program("list", env=env | {"KHEISH_AUTH_STORE_MASTER_KEY": OTHER.secret.reveal()})
    file = state_root / "secrets" / "store.json"
    file.write_text(file.read_text().replace('"provider": "openrouter"', '"provider": "generic"'))
    changed = program("list", env=env)
    assert (wrong.returncode, changed.returncode) == (4, 4)
    assert "mk_" in wrong.stderr
    assert "changed by other hands" in changed.stderr


@pytest.mark.parametrize("command", [["list"], ["get", REF], ["delete", REF]])
def test_a_store_that_is_open_to_others_or_a_link_is_refused(env: dict[str, str], state_root: Path, command: list[str]):
    given("set", REF, "--provider", "openrouter", "--from-env", "OPENROUTER_API_KEY", env=env)
    file = state_root / "secrets" / "store.json"
    file.chmod(0o644)
    done = program(*command, env=env)
    assert done.returncode == 4
    assert f"chmod go-rwx {file}" in done.stderr
    file.chmod(0o600)
    file.symlink_to(file.rename(state_root / "elsewhere"))
    done = program(*command, env=env)
    assert done.returncode == 4
    assert "is a link" in done.stderr


def test_both_key_variables_are_one_too_many(env: dict[str, str], tmp_path: Path):
    done = program("list", env=env | {"KHEISH_AUTH_STORE_MASTER_KEY_FILE": str(tmp_path / "key")})
    assert done.returncode == 2
    assert "both set" in done.stderr


def test_the_key_may_come_from_a_file_that_is_one_s_own_alone(env: dict[str, str], state_root: Path, tmp_path: Path):
    given("set", REF, "--provider", "openrouter", "--from-env", "OPENROUTER_API_KEY", env=env)
    file = tmp_path / "master.key"
    file.write_text(KEY.secret.reveal() + "\n")
    named = environment(state_root, KHEISH_AUTH_STORE_MASTER_KEY_FILE=str(file), OTHER_API_KEY="two")
    file.chmod(0o600)
    assert given("set", REF, "--provider", "openrouter", "--from-env", "OTHER_API_KEY", env=named)["version"] == 2
    file.chmod(0o640)
    done = program("list", env=named)
    assert done.returncode == 4
    assert "open to others" in done.stderr


@pytest.mark.parametrize("key", ["short", "é" * 17, CANARY])
def test_a_master_key_that_is_none_is_exit_2_and_not_quoted(state_root: Path, key: str):
    env = environment(state_root, KHEISH_AUTH_STORE_MASTER_KEY=key)
    done = program("set", REF, "--provider", "generic", "--stdin", env=env, stdin="x")
    assert done.returncode == 2
    assert "32 bytes" in done.stderr
    assert key not in done.stderr


def test_rekey_moves_everything_to_the_new_key(env: dict[str, str], state_root: Path):
    for ref in (REF, "b.second"):
        given("set", ref, "--provider", "openrouter", "--from-env", "OPENROUTER_API_KEY", env=env)
    done = program("rekey", "--new-key-from-env", "NEW", env=env | {"NEW": OTHER.secret.reveal()})
    assert (done.returncode, json.loads(done.stdout)) == (0, {"rekeyed": 2})
    assert OTHER.secret.reveal() not in done.stdout + done.stderr
    assert kept(state_root, key=OTHER) == CANARY
    assert program("list", env=env).returncode == 4


@pytest.mark.parametrize(("new", "error"), [("", "the variable NEW is not set"), ("short", "32 bytes")])
def test_rekey_refuses_a_key_that_is_none(env: dict[str, str], state_root: Path, new: str, error: str):
    given("set", REF, "--provider", "openrouter", "--from-env", "OPENROUTER_API_KEY", env=env)
    done = program("rekey", "--new-key-from-env", "NEW", env=env | {"NEW": new})
    assert done.returncode == 2
    assert error in done.stderr
    assert kept(state_root) == CANARY


def at_a_terminal(*arguments: str, env: dict[str, str], answer: bytes) -> tuple[str, int]:
    """What a terminal shows of a command that asks, and its exit code."""
    command = [sys.executable, "-m", "kheish_mcp", "secrets", *arguments]
    pid, terminal = pty.fork()
    if pid == 0:
        # What a script starts with `&` ignores it, and so would this child; at a terminal nobody does.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execve(command[0], command, env)
    shown, asked = b"", False
    while select.select([terminal], [], [], DEADLINE_S)[0]:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # this is how a terminal says that nobody is there any more
            break
        if not asked and b"Key (not shown): " in shown:
            asked = os.write(terminal, answer) > 0
    os.close(terminal)
    return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_with_no_source_named_a_key_is_asked_for_and_not_shown(env: dict[str, str], state_root: Path):
    shown, code = at_a_terminal("set", REF, "--provider", "openrouter", env=env, answer=CANARY.encode() + b"\n")
    assert code == 0
    assert f"{REF} is set (version 1)" in shown
    assert CANARY not in shown
    assert kept(state_root) == CANARY


@pytest.mark.parametrize(("answer", "code"), [(b"\x03", 130), (b"\x04", 2)], ids=["ctrl-c", "ctrl-d"])
def test_who_gives_no_answer_keeps_nothing(env: dict[str, str], state_root: Path, answer: bytes, code: int):
    shown, found = at_a_terminal("set", REF, "--provider", "openrouter", env=env, answer=answer)
    assert found == code
    assert "Traceback" not in shown
    assert not (state_root / "secrets" / "store.json").exists()


def test_nobody_is_asked_for_a_key_that_could_not_be_kept(state_root: Path):
    shown, code = at_a_terminal("set", REF, "--provider", "openrouter", env=environment(state_root), answer=b"")
    assert code == 4
    assert "Key (not shown)" not in shown
