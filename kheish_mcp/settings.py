"""Where things are and how much is allowed; the only reader of the environment."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from .errors import ConfigError
from .secret import Secret

Discovery = Literal["auto", "best_effort", "required", "disabled"]

RECORD: Final = "serve.json"
HERE: Final = ".kheish-daemon-data"
DEFAULT_BIND: Final = "127.0.0.1:4000"
DISCOVERY: Final[dict[str, Discovery]] = {
    "": "auto", "best_effort": "best_effort", "best-effort": "best_effort", "on": "best_effort", "1": "best_effort",
    "true": "best_effort", "required": "required", "require": "required", "strict": "required",
    "disabled": "disabled", "off": "disabled", "0": "disabled", "false": "disabled",
}  # fmt: skip


def environment() -> Mapping[str, str]:
    """The process's environment, read here and nowhere else."""
    return dict(os.environ)


@dataclass(frozen=True, slots=True)
class Settings:
    """Folders, files and keys as options, environment, the last `serve` and defaults give them, in that order."""

    state_root: Path
    workspace_root: Path | None = None
    routes_file: Path | None = None
    default_route: str | None = None
    bind: str = DEFAULT_BIND
    log_level: str = "warning"
    master_key: Secret | None = None
    master_key_file: Path | None = None
    discovery: Discovery = "auto"
    openrouter_base_url: str | None = None
    openrouter_api_key: Secret | None = None
    _variables: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(
        cls,
        environ: Mapping[str, str],
        *,
        cwd: Path,
        state_root: str | None = None,
        workspace_root: str | None = None,
        routes_file: str | None = None,
        default_route: str | None = None,
        bind: str | None = None,
        log_level: str | None = None,
        stdio: bool = False,
    ) -> Settings:
        """Option beats environment beats what the last `serve` recorded beats default; ConfigError names the variable."""
        given = {name: value for name, value in environ.items() if value.strip()}
        root = _state_root(state_root or given.get("KHEISH_STATE_ROOT"), cwd, stdio=stdio)
        recorded = _recorded(root)
        if "KHEISH_AUTH_STORE_MASTER_KEY" in given and "KHEISH_AUTH_STORE_MASTER_KEY_FILE" in given:
            raise ConfigError(
                "KHEISH_AUTH_STORE_MASTER_KEY and KHEISH_AUTH_STORE_MASTER_KEY_FILE are both set.",
                hint="Keep one of them.",
            )

        def path(option: str | None, variable: str, record: str) -> Path | None:
            chosen = option or given.get(variable) or recorded.get(record)
            return _absolute(chosen, cwd) if chosen else None

        return cls(
            state_root=root,
            workspace_root=path(workspace_root, "KHEISH_WORKSPACE_ROOT", "workspace_root"),
            routes_file=path(routes_file, "KHEISH_ROUTES_FILE", "routes_file"),
            default_route=default_route or given.get("KHEISH_DEFAULT_ROUTE"),
            bind=bind or given.get("KHEISH_BIND") or DEFAULT_BIND,
            log_level=log_level or "warning",
            master_key=_secret(given, "KHEISH_AUTH_STORE_MASTER_KEY"),
            master_key_file=path(None, "KHEISH_AUTH_STORE_MASTER_KEY_FILE", ""),
            discovery=_discovery(given.get("KHEISH_OPENROUTER_MODEL_DISCOVERY", "")),
            openrouter_base_url=given.get("OPENROUTER_BASE_URL"),
            openrouter_api_key=_secret(given, "OPENROUTER_API_KEY"),
            _variables=given,
        )

    def variable(self, name: str) -> Secret | None:
        """The value of an environment variable that a route or a command names; None where it is unset or empty."""
        return _secret(self._variables, name)


def record_serve(settings: Settings) -> None:
    """Leaves in the state root which routes file and workspace root `serve` was started with, for other commands."""
    recorded = {
        "routes_file": str(settings.routes_file) if settings.routes_file else None,
        "workspace_root": str(settings.workspace_root) if settings.workspace_root else None,
    }
    settings.state_root.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=settings.state_root, prefix=f".{RECORD}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(recorded, file)
    Path(temporary).replace(settings.state_root / RECORD)


def _secret(given: Mapping[str, str], name: str) -> Secret | None:
    value = given.get(name, "").strip()
    return Secret(value) if value else None


def _absolute(path: str, cwd: Path) -> Path:
    return Path(os.path.normpath(cwd / Path(path).expanduser()))


def _state_root(named: str | None, cwd: Path, *, stdio: bool) -> Path:
    """The state root; the current folder counts only where `serve` has made one in it, since hosts start us in `/`."""
    if named:
        return _absolute(named, cwd)
    if not stdio and (cwd / HERE / RECORD).is_file():
        return cwd / HERE
    import platformdirs

    return platformdirs.user_data_path("kheish-mcp", appauthor=False)


def _recorded(root: Path) -> dict[str, str]:
    try:
        loaded = json.loads((root / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(loaded, dict):
        return {}
    return {key: value for key, value in loaded.items() if isinstance(value, str) and value}


def _discovery(value: str) -> Discovery:
    try:
        return DISCOVERY[value.strip().lower()]
    except KeyError:
        raise ConfigError(
            "KHEISH_OPENROUTER_MODEL_DISCOVERY has a value that is not known.",
            hint="Use best_effort, required or disabled, or leave it unset.",
        ) from None
