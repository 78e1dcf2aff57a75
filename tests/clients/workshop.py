"""Node and what runs on it for these tests: installed once, into the user's cache, by npm's own lock."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import platformdirs
import pytest

MANIFEST = Path(__file__).with_name("node")
NODE_VERSION = "24.11.1"
OLDEST_NODE = 22  # what the conformance suite needs
DEADLINE_S = 240
ARCHITECTURES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class Workshop:
    """A Node that is new enough, and the folder of modules that it finds."""

    node: Path
    modules: Path

    async def run(self, script: Path, *arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Runs a script to its end; its exit code, what it printed, and what it said on stderr."""
        with anyio.fail_after(DEADLINE_S):
            done = await anyio.run_process([str(self.node), str(script), *arguments], check=False, env=env)
        return done.returncode, done.stdout.decode(), done.stderr.decode()


def opened() -> Workshop:
    """The workshop, made where there is none yet; without Node or npm the tests that need it are skipped."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("Node and npm are missing: no TypeScript client and no conformance suite can run.")
    modules = installed(npm, "clients", ["ci"], (MANIFEST / "package.json", MANIFEST / "package-lock.json"))
    if version_of(node) < OLDEST_NODE:
        package = node_package()
        binary = installed(npm, f"{package}-{NODE_VERSION}", ["install", "--no-save", f"{package}@{NODE_VERSION}"])
        node = str(binary / package / "bin" / "node")
    return Workshop(Path(node), modules)


def installed(npm: str, name: str, command: Sequence[str], manifest: Sequence[Path] = ()) -> Path:
    """The modules that an npm command installs, kept by what the command and the manifest say."""
    said = "\0".join([*command, *(path.read_text() for path in manifest)])
    kept = platformdirs.user_cache_path("kheish-mcp-tests") / f"{name}-{hashlib.sha256(said.encode()).hexdigest()[:12]}"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent, ignore_cleanup_errors=True) as made:
            for path in manifest:
                shutil.copy(path, made)
            quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
            done = subprocess.run([npm, *command, *quiet], cwd=made, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"npm could not install {name}: {done.stderr.strip().splitlines()[:1]}")
            moved(Path(made), kept)
    return kept / "node_modules"


def moved(made: Path, kept: Path) -> None:
    """What was made has its name; another process may have been faster, which is as well."""
    try:
        made.rename(kept)
    except OSError:
        assert kept.exists()


def version_of(node: str) -> int:
    """Its major version."""
    told = subprocess.run([node, "-p", "process.versions.node"], capture_output=True, text=True, check=True)
    return int(told.stdout.split(".")[0])


def node_package() -> str:
    """The npm package that holds Node itself for this machine."""
    system, machine = os.uname().sysname.lower(), ARCHITECTURES.get(platform.machine().lower(), platform.machine())
    prefix = "node-bin" if (system, machine) == ("darwin", "arm64") else "node"
    return f"{prefix}-{system}-{machine}"
