"""The official conformance suite judges the product's own stack, guards and all, in both eras."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.server import ConformanceServer
from tests.conftest import CANARY, environment
from tests.emulators.openrouter import OpenRouterEmulator
from tests.sites import Site, opened_site

from .workshop import Workshop, run

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings(
        "ignore::mcp.shared.exceptions.MCPDeprecationWarning"
    ),  # logging, asked for by the suite
]

# How many scenarios each revision requires, and how many there are of the tasks extension, which none requires.
REQUIRED = {"2026-07-28": (37, 10), "2025-11-25": (30, 0)}
SUITE = Path("@modelcontextprotocol/conformance/dist/index.js")
VERDICT = re.compile(r"^[✓✗] (\S+): (\d+) passed, (\d+) failed", re.MULTILINE)
UNSCORED = re.compile(r"^  [✓✗] (\S+) \(\S+\)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """How many checks of each scenario were passed and failed, and which scenarios a revision does not require."""

    checks: dict[str, tuple[int, int]]
    unscored: frozenset[str]

    @property
    def passed(self) -> set[str]:
        """The scenarios with no check failed."""
        return {name for name, (_, failed) in self.checks.items() if not failed}

    @property
    def required(self) -> set[str]:
        """The scenarios that the revision requires."""
        return self.checks.keys() - self.unscored

    @property
    def tasks(self) -> set[str]:
        """The scenarios of the tasks extension."""
        return {name for name in self.checks if name.startswith("tasks-")}

    def score(self) -> str:
        """What is worth telling."""
        passed, checks = self.passed, sum(passed for passed, _ in self.checks.values())
        required = f"{len(self.required & passed)}/{len(self.required)} required scenarios"
        tasks = f", {len(self.tasks & passed)}/{len(self.tasks)} of tasks" if self.tasks else ""
        return f"{required}{tasks}, {len(passed)}/{len(self.checks)} in all; {checks} checks"


@pytest.fixture
async def site(state_root: Path, workspace: Path, emulator: OpenRouterEmulator) -> AsyncGenerator[Site]:
    env = environment(state_root, OPENROUTER_API_KEY=CANARY, OPENROUTER_BASE_URL=emulator.base_url)
    async with opened_site(env, workspace, server=ConformanceServer) as opened:
        yield opened


@pytest.mark.parametrize("revision", REQUIRED)
async def test_every_requirement_is_met(
    workshop: Workshop, site: Site, scores: list[str], tmp_path: Path, revision: str
):
    asked = ("server", "--url", f"{site.base}/mcp", "--requirements", revision, "-o", tmp_path / "results")
    code, told, _ = await run(workshop.node, workshop.modules / SUITE, *asked)
    verdicts = verdicts_of(told)
    scores.append(f"conformance {revision}: {verdicts.score()}")
    assert (len(verdicts.required), len(verdicts.tasks)) == REQUIRED[revision], told
    assert verdicts.checks.keys() - verdicts.passed == set(), told
    assert code == 0


def verdicts_of(told: str) -> Verdicts:
    """What the suite's summary says."""
    checks = {name: (int(passed), int(failed)) for name, passed, failed in VERDICT.findall(told)}
    return Verdicts(checks, frozenset(UNSCORED.findall(told)))
