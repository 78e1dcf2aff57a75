"""What logs and other processes see of a process that serves."""

from __future__ import annotations

import ctypes
import gc
import logging
import subprocess
import sys

import pytest

from kheish_mcp.cli import run
from kheish_mcp.cli.seclusion import Discreet, keep_to_itself
from kheish_mcp.secret import Secret, scrub_all
from tests.children import exit_code_of

GET_DUMPABLE = 3


def formatted(message: str, error: BaseException | None = None) -> str:
    """A log line, with a traceback where there is an error."""
    info = (type(error), error, error.__traceback__) if error is not None else None
    return Discreet("%(message)s").format(logging.LogRecord("x", logging.ERROR, "x", 1, message, None, info))


def test_a_log_line_holds_no_secret_that_is_alive_whoever_wrote_it():
    held = [Secret("correct-horse-battery"), Secret("correct-horse"), Secret("correct-horse-battery")]
    assert formatted("h11 says: Illegal header value b'correct-horse-battery'") == (
        "h11 says: Illegal header value b'[secret]'"
    )
    held.pop()
    gc.collect()
    assert formatted("correct-horse-battery, correct-horse") == "[secret], [secret]"
    held.clear()
    gc.collect()
    assert scrub_all("correct-horse-battery") == "correct-horse-battery"


def test_a_traceback_holds_none_either_nor_what_steers_a_terminal():
    secret = Secret("correct-horse-battery")
    try:
        raise ValueError(f"{secret.reveal()} \x1b]0;owned\x07")
    except ValueError as error:
        shown = formatted("failed", error)
    assert "ValueError: [secret] ]0;owned" in shown
    assert "\n" in shown


@pytest.mark.parametrize(
    "told",
    [f"kheish_{'a' * 26}_{'b' * 52}", "sk-or-v1-0123456789abcdef", "Authorization: bearer abcdefghijklmnop"],
)
def test_what_looks_like_a_key_is_none_of_a_log_s_business(told: str):
    assert formatted(told).endswith("[secret]")


def test_a_bug_s_traceback_is_shown_without_secrets(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    secret = Secret("correct-horse-battery")
    monkeypatch.setattr("kheish_mcp.cli._dispatch", lambda *_: {}[secret.reveal()])
    assert run(["secrets", "list", "--log-level", "debug"]) == 70
    err = capfd.readouterr().err
    assert "KeyError: '[secret]'" in err
    assert secret.reveal() not in err


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_no_other_process_reads_its_memory():
    assert exit_code_of(_secluded) == 0


def _secluded() -> None:
    keep_to_itself()
    assert ctypes.CDLL(None).prctl(GET_DUMPABLE, 0, 0, 0, 0) == 0
    # It still starts children, as a daemon does, and sees its own files.
    assert subprocess.run([sys.executable, "-c", "open('/proc/self/environ').read()"], check=False).returncode == 0
