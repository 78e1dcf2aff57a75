"""What these tests install, once, into the user's cache: Node and what runs on it, Pythons with other packages than ours."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import platformdirs
import pytest

MANIFEST = Path(__file__).with_name("node")
LOCKED = (MANIFEST / "package.json", MANIFEST / "package-lock.json")
QUIET = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
NODE_VERSION = "24.11.1"
OLDEST_NODE = 22  # what the conformance suite needs
DEADLINE_S = 240
ARCHITECTURES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Workshop:
    """A Node that is new enough, and the folder of modules that its scripts find."""

    node: Path
    modules: Path


async def run(*command: str | Path, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Runs a command to its end; its exit code, what it printed, and what it said on stderr."""
    with anyio.fail_after(DEADLINE_S):
        done = await anyio.run_process([str(word) for word in command], check=False, env=env)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def node_workshop() -> Workshop:
    """The workshop, made where there is none yet; without Node or npm the tests that need it are skipped."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("Node and npm are missing: no TypeScript client and no conformance suite can run.")
    modules = kept("clients", npm_of(npm, "ci"), *(path.read_text() for path in LOCKED)) / "node_modules"
    if version_of(node) < OLDEST_NODE:
        package = node_package()
        held = kept(package, npm_of(npm, "install", "--no-save", f"{package}@{NODE_VERSION}"), NODE_VERSION)
        node = str(held / "node_modules" / package / "bin" / "node")
    return Workshop(Path(node), modules)


def python_with(*requirements: str) -> Path:
    """The Python of a virtual environment that holds these requirements."""
    name = requirements[0].replace("==", "-")
    return kept(name, lambda place: made_python(place, requirements), sys.version, *requirements) / "bin" / "python"


def kept(name: str, make: Callable[[Path], object], *said: str) -> Path:
    """A folder of the user's cache that `make` fills where it is not there yet, for exactly what is said."""
    digest = hashlib.sha256("\0".join(said).encode()).hexdigest()[:12]
    place = cache() / f"{name}-{digest}"
    if not place.exists():
        with tempfile.TemporaryDirectory(dir=place.parent, ignore_cleanup_errors=True) as made:
            make(Path(made))
            moved(Path(made), place)
    return place


def cache() -> Path:
    """The user's cache folder for these tests, or one that may be written to where that may not."""
    place = platformdirs.user_cache_path("kheish-mcp-tests")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        place = Path(tempfile.gettempdir()) / f"kheish-mcp-tests-{os.getuid()}"
        place.mkdir(mode=0o700, exist_ok=True)
    return place


def moved(made: Path, place: Path) -> None:
    """What was made gets its name; another process may have been faster, which is as well."""
    try:
        made.rename(place)
    except OSError:
        assert place.exists()


def npm_of(npm: str, *arguments: str) -> Callable[[Path], None]:
    """An npm command in a project of its own, which is the locked manifest for `ci`; npm checks the lock's hashes."""

    def make(place: Path) -> None:
        (place / "package.json").write_text('{"private": true}')  # else npm looks for a project further up
        for path in LOCKED if arguments[0] == "ci" else ():
            shutil.copy(path, place)
        installed([npm, *arguments, *QUIET], place)

    return make


def made_python(place: Path, requirements: Sequence[str]) -> None:
    """A virtual environment; it works in another place too, but for the scripts in its `bin`."""
    python, ours = str(place / "bin" / "python"), importlib.util.find_spec("pip") is not None
    venv.create(place, with_pip=not ours)
    pip = [sys.executable, "-m", "pip", "--python", python] if ours else [python, "-m", "pip"]
    installed([*pip, "install", "--quiet", "--no-compile", *requirements], place)


def installed(command: Sequence[str], place: Path) -> None:
    """Runs an installer; where it fails, the tests that need it are skipped and its word is shown."""
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1:]}")


def version_of(node: str) -> int:
    """Its major version."""
    told = subprocess.run([node, "-p", "process.versions.node"], capture_output=True, text=True, check=True)
    return int(told.stdout.split(".")[0])


def node_package() -> str:
    """The npm package that holds Node itself for this machine."""
    system, machine = os.uname().sysname.lower(), platform.machine().lower()
    prefix = "node-bin" if (system, machine) == ("darwin", "arm64") else "node"
    return f"{prefix}-{system}-{ARCHITECTURES.get(machine, machine)}"
