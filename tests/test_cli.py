"""The command line's frame: global options, exit codes, what is said where, and what is never said."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from kheish_mcp import __version__
from kheish_mcp.cli import COMMANDS, run
from kheish_mcp.cli.frame import EXIT_CODES, Frame, hoisted, table
from kheish_mcp.errors import Code, UsageError
from kheish_mcp.stores.auth import AuthStore
from tests.conftest import CANARY, environment

HEAVY = {"mcp", "mcp_types", "httpx2", "PIL", "apsw", "pydantic", "rich"}


def test_every_code_has_the_exit_code_of_the_contract():
    assert {code.value: exit_code for code, exit_code in EXIT_CODES.items()} == {
        "invalid_argument": 2,
        "failed_precondition": 2,
        "unavailable": 3,
        "permission_denied": 4,
        "unauthenticated": 4,
        "not_found": 5,
        "aborted": 6,
        "resource_exhausted": 7,
        "deadline_exceeded": 7,
        "cancelled": 7,
        "data_loss": 70,
        "internal": 70,
    }
    assert set(EXIT_CODES) == set(Code)


def test_every_file_of_commands_is_listed_and_every_listed_command_has_its_file():
    folder = Path(__file__).parent.parent / "kheish_mcp" / "cli"
    beside = {
        "__init__",
        "frame",
        "moments",
        "callback",
        "keys",
        "checks",
        "canary",
        "conversing",
        "drawing",
        "placing",
        "seclusion",
    }
    assert set(COMMANDS) == {path.stem for path in folder.glob("*.py")} - beside


@pytest.mark.parametrize("name", COMMANDS)
def test_no_traceback_of_typer_s_and_no_variable_in_one_ever_shows(name: str):
    app = import_module(f"kheish_mcp.cli.{name}").app
    assert app.pretty_exceptions_enable is False
    assert app.pretty_exceptions_show_locals is False
    assert app.rich_markup_mode is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["--output", "json", "--state-root=/x", "--offline", "secrets", "list"],
        ["secrets", "--output=json", "list", "--offline", "--state-root", "/x"],
        ["secrets", "list", "--state-root", "/x", "--output", "json", "--offline"],
    ],
)
def test_global_options_stand_before_or_after_the_command(arguments: list[str]):
    assert hoisted(arguments) == (Frame(output="json", state_root="/x", offline=True), ["secrets", "list"])


def test_what_follows_two_dashes_is_left_alone():
    words = ["sessions", "input", "demo", "--", "--output", "is an option"]
    assert hoisted(words) == (Frame(), words)


def test_a_global_option_without_its_value_is_a_usage_error():
    with pytest.raises(UsageError, match="--state-root needs a value"):
        hoisted(["secrets", "list", "--state-root"])


def test_a_table_has_straight_columns_and_no_blanks_at_its_right():
    assert table([("A", "B"), ("longer", 1)]) == "A       B\nlonger  1"


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs command lines on a state root, and reads what they print."""

    state_root: Path
    capfd: pytest.CaptureFixture[str]

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """The exit code, what went out as data, and what was said."""
        return run(["--state-root", str(self.state_root), *arguments]), *self.capfd.readouterr()


@pytest.fixture
def shell(state_root: Path, capfd: pytest.CaptureFixture[str]) -> Shell:
    """A shell on a fresh state root."""
    return Shell(state_root, capfd)


def test_the_version_is_told(shell: Shell):
    assert shell.run("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["secrets", "--help"], ["--help", "secrets", "set"]])
def test_help_is_data_and_no_failure(shell: Shell, arguments: list[str]):
    code, out, err = shell.run(*arguments)
    assert (code, err) == (0, "")
    first = out.splitlines()[0]
    assert first.startswith("Usage: kheish-daemon ")
    assert all(word.startswith("-") or word in first for word in arguments)


def test_the_overview_names_every_command(shell: Shell):
    assert all(f"\n  {name}" in shell.run("--help")[1] for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        ([], "no command is named", "kheish-daemon has: "),
        (["secrets"], "no command is named", "generate, init, set"),
        (["secert", "list"], "there is no such command", "Did you mean secrets? "),
        (["secrets", "lst"], "there is no such command", "Did you mean list? "),
        (["secrets", "xyz"], "there is no such command", "kheish-daemon secrets has: generate"),
        (["secrets", "list", "--outptu", "json"], "there is no such option", "Did you mean --output? "),
        (["secrets", "set", "a", "--provder=x"], "there is no such option", "Did you mean --provider? "),
        (["secrets", "set", "a"], "--provider is missing", "kheish-daemon secrets set --help"),
        (["secrets", "get"], "ref is missing", "kheish-daemon secrets get --help"),
        (["secrets", "get", "a", "b"], "there are more arguments than the command takes", "secrets get --help"),
        (["secrets", "set", "a", "--stdin=x"], "--stdin lacks a value, or has one that it does not take", "--help"),
        (["secrets", "list", "--output", "yaml"], "--output does not take this value", "One of: pretty, json."),
        (["secrets", "list", "--log-level", "loud"], "--log-level does not take this value", "debug, info"),
        (["secrets", "list", "--output"], "--output needs a value", "--help"),
        (["costs", "--by", "moon"], "--by does not take this value", "One of: route, model, tool, day."),
        (["serve", "--transport", "pigeon"], "--transport does not take this value", "One of: http, stdio."),
    ],
)
def test_a_command_line_that_cannot_be_meant_is_exit_2_with_a_way_out(
    shell: Shell, arguments: list[str], error: str, hint: str
):
    code, out, err = shell.run(*arguments)
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first == f"error: {error}"
    assert second.startswith("hint: ")
    assert hint in second


@pytest.mark.parametrize(
    "arguments",
    [
        [CANARY],
        ["secrets", CANARY],
        ["secrets", "list", CANARY],
        ["secrets", "get", CANARY],
        ["secrets", "set", "a", CANARY, "--provider", "generic"],
        ["secrets", "set", "a", "--provider", CANARY, "--value", "x"],
        ["secrets", "set", "a", f"--{CANARY}"],
        ["secrets", "set", "a", f"-{CANARY}"],
        ["secrets", "list", "--output", CANARY],
        ["secrets", "list", "--log-level", CANARY, "--output", "json"],
    ],
)
def test_a_key_that_was_typed_in_the_wrong_place_is_not_quoted(shell: Shell, arguments: list[str]):
    AuthStore(shell.state_root).init()
    code, out, err = shell.run(*arguments)
    assert (code, out) == (2, "")
    assert err
    assert CANARY not in err


def unwritable(*arguments: str, state_root: Path) -> subprocess.CompletedProcess[bytes]:
    """The program with a stdout on a disk that is full."""
    with Path("/dev/full").open("wb") as full:
        return subprocess.run(
            [sys.executable, "-m", "kheish_mcp", *arguments],
            env=environment(state_root),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )


def test_what_nobody_thought_of_is_told_without_a_traceback(state_root: Path):
    done = unwritable("secrets", "list", state_root=state_root)
    assert done.returncode == 70
    assert done.stderr.decode().splitlines()[0] == "error: internal error"
    assert b"Traceback" not in done.stderr


def test_the_traceback_is_there_for_who_asks(state_root: Path):
    done = unwritable("secrets", "list", "--log-level", "debug", state_root=state_root)
    assert done.returncode == 70
    assert b"Traceback" in done.stderr
    assert b"error: internal error" in done.stderr


def test_a_reader_that_has_gone_is_no_complaint(state_root: Path):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        command = [sys.executable, "-m", "kheish_mcp", "secrets", "list"]
        done = subprocess.run(
            command, env=environment(state_root), stdout=closed, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_command_that_does_not_serve_imports_nothing_heavy(state_root: Path):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "kheish_mcp", "secrets", "list"],
        env=environment(state_root),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in loaded
    assert not loaded & (HEAVY | {"cryptography"})
