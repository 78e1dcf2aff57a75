"""The single check: format, lint, types, tests, and clients of every age. One line a step, the first red one ends it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable

STEPS: tuple[tuple[str, list[str]], ...] = (
    ("format", [PYTHON, "-m", "ruff", "format", "--check", "--quiet", "."]),
    ("lint", [PYTHON, "-m", "ruff", "check", "--quiet", "."]),
    ("types", [PYTHON, "-m", "mypy", "--no-error-summary"]),
    ("tests", [PYTHON, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal"]),
    ("clients of every age", [PYTHON, "-m", "pytest", "-q", "-o", "addopts=-ra", "tests/clients"]),
)


def main() -> int:
    """Runs every step; 0 when all are green."""
    # What a test imports is compiled once, and not once in every process that it starts.
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    for name, command in STEPS:
        started = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, env=env, check=False)
        verdict = "ok" if done.returncode == 0 else "RED"
        print(f"{verdict:>4}  {name} ({time.monotonic() - started:.1f} s)", flush=True)
        if done.returncode != 0:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
