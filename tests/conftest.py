"""What tests share: a state root, a provider with a canary key, a daemon with the real stores, and the leak guard."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import settings

from tests.emulators.openrouter import OpenRouterEmulator

CANARY = "sk-or-v1-CANARY0123456789abcdef0123456789abcdef"

# No test fails by the clock; and what is green here is green again.
settings.register_profile("house", deadline=None, derandomize="CI" in os.environ, max_examples=60)
settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test is called the same in every process, or the workers of one run could not agree on what there is to do."""
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"An address is no name; give the parameters of {item.nodeid} ids of their own.")


def pytest_collection_finish() -> None:
    """What was imported stays: the collector of garbage need not look through it for every test."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    """The loop that the daemon runs on."""
    return "asyncio"


@pytest.fixture
def state_root(tmp_path: Path) -> Path:
    """A fresh state root."""
    return tmp_path / "state"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A fresh workspace root."""
    root = tmp_path / "workspace"
    root.mkdir()
    return root


@pytest.fixture
def emulator() -> Iterator[OpenRouterEmulator]:
    """The provider, which takes the canary key and no other."""
    with OpenRouterEmulator(key=CANARY) as running:
        yield running


@pytest.fixture(autouse=True)
def leak_guard(
    request: pytest.FixtureRequest, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """After every test: the canary key is in no output, no log record, and no file under the test's folder."""
    caplog.set_level(logging.DEBUG, logger="kheish_mcp")
    yield
    out, err = capfd.readouterr()
    told = out + err + "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("kheish"))
    assert CANARY not in told
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 64 << 20:
            assert CANARY.encode() not in path.read_bytes(), path


def environment(state_root: Path, **more: str) -> dict[str, str]:
    """A bare environment for a child: nothing of the developer's own configuration, and no question to OpenRouter."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    given = {"KHEISH_STATE_ROOT": str(state_root), "KHEISH_OPENROUTER_MODEL_DISCOVERY": "disabled"}
    return {**kept, **given, **more}


def kheish(
    *arguments: str, env: Mapping[str, str], cwd: Path | None = None, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the real program and gives what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "kheish_mcp", *arguments],
        env=dict(env),
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
