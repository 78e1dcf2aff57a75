"""The floors, the nevers, the sizes, and that nothing in a plural folder is forgotten."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "kheish_mcp"
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS = {
    "errors": 0, "media": 0, "secret": 0,
    "capabilities": 1, "conversation": 1, "names": 1, "formats": 1, "crafts": 1, "workers": 1, "selectors": 1, "settings": 1,
    "sentences": 1, "subtitles": 1, "toml_positions": 1, "route_keys": 1, "prices": 1, "principals": 1,
    "hosts": 1, "trust": 1, "moments": 1,
    "stores": 2, "routes": 2, "scopes": 2,
    "drivers": 3, "catalog": 3, "settler": 3, "sources": 3, "documents": 3,
    "tools": 4, "profiles": 4,
    "mcp_server": 5, "runtime": 5, "inventory": 5, "discovery": 5,
    "transports": 6, "agent": 6,
    "daemon": 7,
    "cli": 8,
    "__main__": 9,
}  # fmt: skip

SPEAKS_MCP = {"mcp_server", "transports", "agent"}
NEVER = {
    "tools": {"drivers", "mcp", "mcp_types", "httpx2"},
    "drivers": {"routes", "catalog", "stores", "sources", "mcp", "mcp_types"},
    "catalog": {"drivers"},
}
PARTS_OF_STORES = {
    "arrival",
    "asset",
    "database",
    "blobs",
    "disk",
    "envelope",
    "job",
    "migrations",
    "processes",
}  # what stores are made of
ENTRANCES = {"cli/demo.py"}  # the demo is a client, as a user's host would be


def room(path: Path) -> str:
    """The top-level name that a module belongs to."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[str, bool]]:
    """Each import as (name, ours): ours by their room, others by their top-level package."""
    depth = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").split(".")[0], False
        elif isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
            yield from ((name, True) for name in names if name != "__version__")


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function with its number of lines, its docstring left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            yield f"{path.relative_to(PACKAGE)}:{node.name}", (body[-1].end_lineno or 0) - body[0].lineno + 1


def test_every_module_has_a_floor():
    assert {room(path) for path in MODULES} - {"__init__"} <= set(FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downhill(path: Path):
    here = room(path)
    uphill = {name for name, ours in imported(path) if ours and name != here and FLOORS[name] > FLOORS.get(here, -1)}
    assert not uphill


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_must_never_be_imported_is_not(path: Path):
    names = {name for name, _ in imported(path)}
    assert not names & NEVER.get(room(path), set())
    if room(path) not in SPEAKS_MCP and str(path.relative_to(PACKAGE)) not in ENTRANCES:
        assert not names & {"mcp", "mcp_types"}


STORES = sorted((PACKAGE / "stores").glob("*.py"))


@pytest.mark.parametrize("path", STORES, ids=lambda path: path.name)
def test_a_store_knows_no_other_store(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1]
    siblings = {name for node in imports for name in ([node.module] if node.module else [a.name for a in node.names])}
    assert siblings <= PARTS_OF_STORES


def test_only_settings_reads_the_environment():
    readers = {room(path) for path in MODULES if "environ" in _names(path)}
    assert readers <= {"settings"}


def test_nothing_but_the_cli_prints():
    printers = {room(path) for path in MODULES if "print" in _names(path)}
    assert printers <= {"cli"}


def _names(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    reads = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    return calls | reads


def test_every_module_opens_with_one_sentence():
    for path in MODULES:
        caption = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert caption.splitlines()[:1], path


def test_the_sizes_that_beautiful_code_has():
    long_modules = [str(path) for path in MODULES if len(path.read_text(encoding="utf-8").splitlines()) > 350]
    sizes = dict(size for path in MODULES for size in functions(path))
    assert not long_modules
    assert not {name: size for name, size in sizes.items() if size > 40}
    assert statistics.median(sizes.values()) <= 6


def test_no_file_of_a_plural_folder_is_forgotten():
    import importlib

    lists = {
        "tools": {"base", "caps", "fallback", "paid", "pictures", "running", "attachments"},
        "formats": {"base", "joining"},
        "crafts": {"pillow", "operations"},
        "drivers": {
            "http",
            "answers",
            "breaker",
            "course",
            "forms",
            "patience",
            "receipts",
            "refusals",
            "sse",
            "streaming",
        },
    }
    for folder, beside in lists.items():
        text = (PACKAGE / folder / "__init__.py").read_text(encoding="utf-8")
        importlib.import_module(f"kheish_mcp.{folder}")
        for path in (PACKAGE / folder).glob("*.py"):
            if not path.stem.startswith("__") and path.stem not in beside:
                assert path.stem in text, f"{folder}/{path.name} is missing from the list in {folder}/__init__.py"
