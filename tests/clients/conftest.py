"""What these tests share: the workshop, and the scores that are printed at the end."""

from __future__ import annotations

import pytest

from .workshop import Workshop, node_workshop

SCORES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SCORES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[SCORES]:
        terminalreporter.section("scores")
        for line in config.stash[SCORES]:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def workshop() -> Workshop:
    """Node, the TypeScript clients and the conformance suite."""
    return node_workshop()


@pytest.fixture
def scores(pytestconfig: pytest.Config) -> list[str]:
    """Lines that are printed once all tests have run."""
    return pytestconfig.stash[SCORES]
