"""What these tests share: the workshop, and the scores that are printed at the end."""

from __future__ import annotations

import pytest

from . import workshop as workshops

SCORES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SCORES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[SCORES]:
        terminalreporter.section("scores")
        for line in config.stash[SCORES]:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def workshop() -> workshops.Workshop:
    """Node, the TypeScript clients and the conformance suite."""
    return workshops.opened()


@pytest.fixture
def scores(pytestconfig: pytest.Config) -> list[str]:
    """Lines that are printed once all tests have run."""
    return pytestconfig.stash[SCORES]
