"""Where things are and how much is allowed; the only reader of the environment."""

from __future__ import annotations

import ctypes
import json
import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from .errors import ConfigError, UsageError
from .secret import Secret

Discovery = Literal["best_effort", "required", "disabled"]

MAX_BYTES, MAX_PIXELS = 64 << 20, 100_000_000  # of an asset; a worker is given no more memory than these take
RECORD: Final = "serve.json"
MARK: Final = "serve.mark"
LONGEST_RECORD: Final = 64 << 10
HERE: Final = ".kheish-daemon-data"
BIND: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9A-Za-z._-]+)):([0-9]{1,5})")
SECRET: Final = re.compile(r"(?:^|_)(?:API)?(?:KEYS?|TOKENS?|SECRETS?|PASSWORD|CREDENTIALS?)(?:_|$)", re.IGNORECASE)
REFERENCE: Final = re.compile(r"(?=[$%{])\$?[{%]*\s*(?:env:|secrets\.)?([A-Za-z_][A-Za-z0-9_]*)(?::-)?\s*[}%]*")
DISCOVERY: Final[dict[str, Discovery]] = {
    "": "best_effort", "best_effort": "best_effort", "best-effort": "best_effort", "on": "best_effort",
    "enabled": "best_effort", "1": "best_effort", "true": "best_effort",
    "required": "required", "require": "required", "strict": "required",
    "disabled": "disabled", "off": "disabled", "0": "disabled", "false": "disabled",
}  # fmt: skip


def environment() -> Mapping[str, str]:
    """The process's environment, read here and nowhere else."""
    return dict(os.environ)


def withdraw_secrets() -> None:
    """Takes every variable whose name speaks of a secret out of this process's environment, once settings were read.

    No child inherits them. Their bytes are wiped where they lie: what is only unset stays in /proc/PID/environ.
    """
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_void_p
    for name in [name for name in os.environ if SECRET.search(name)]:
        place = libc.getenv(os.fsencode(name))
        if place is not None:
            ctypes.memset(place, 0, len(ctypes.string_at(place)))
        del os.environ[name]


@dataclass(frozen=True, slots=True)
class Address:
    """A host name or address, without brackets, and a port; port 0 lets the system choose."""

    host: str = "127.0.0.1"
    port: int = 4000

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """Folders, files and keys as options, environment, the last `serve` and defaults give them, in that order.

    Paths are absolute. Neither `repr` nor comparing shows what the environment holds beside these fields.
    """

    state_root: Path
    workspace_root: Path | None = None
    routes_file: Path | None = None
    default_route: str | None = None
    bind: Address = Address()
    log_level: str = "warning"
    master_key: Secret | None = None
    master_key_file: Path | None = None
    discovery: Discovery = "best_effort"
    max_asset_bytes: int = MAX_BYTES
    max_pixels: int = MAX_PIXELS
    openrouter_base_url: str | None = field(default=None, repr=False)
    openrouter_api_key: Secret | None = None
    _variables: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(  # noqa: PLR0913 - one parameter for each option of the command line
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
        transport: str | None = None,
    ) -> Settings:
        """Option beats environment beats what the last `serve` recorded beats default; relative paths start at `cwd`.

        `transport` is named by `serve` alone, which does not read its own record. An empty variable counts as unset,
        an empty option is a UsageError. ConfigError names the variable that cannot be meant, never its value.
        """
        given = _Given(environ, cwd)
        root = _state_root(given, state_root, transport)
        recorded = _recorded(root) if transport is None else {}
        if given.text(None, "KHEISH_AUTH_STORE_MASTER_KEY") and given.text(None, "KHEISH_AUTH_STORE_MASTER_KEY_FILE"):
            raise ConfigError(
                "KHEISH_AUTH_STORE_MASTER_KEY and KHEISH_AUTH_STORE_MASTER_KEY_FILE are both set.",
                hint="Keep one of them.",
            )
        return cls(
            state_root=root,
            workspace_root=given.path(workspace_root, "KHEISH_WORKSPACE_ROOT", recorded.get("workspace_root")),
            routes_file=given.path(routes_file, "KHEISH_ROUTES_FILE", recorded.get("routes_file")),
            default_route=given.text(default_route, "KHEISH_DEFAULT_ROUTE"),
            bind=_address(given.text(bind, "KHEISH_BIND"), _name_of(bind, "KHEISH_BIND")),
            log_level=log_level or "warning",
            master_key=given.secret("KHEISH_AUTH_STORE_MASTER_KEY"),
            master_key_file=given.path(None, "KHEISH_AUTH_STORE_MASTER_KEY_FILE"),
            discovery=_discovery(given.text(None, "KHEISH_OPENROUTER_MODEL_DISCOVERY")),
            max_asset_bytes=given.number("KHEISH_MAX_ASSET_BYTES", MAX_BYTES),
            max_pixels=given.number("KHEISH_MAX_PIXELS", MAX_PIXELS),
            openrouter_base_url=given.text(None, "OPENROUTER_BASE_URL"),
            openrouter_api_key=given.secret("OPENROUTER_API_KEY"),
            _variables=given.environ,
        )

    def variable(self, name: str) -> Secret | None:
        """The value of an environment variable that a route or a command names; None where it is unset or empty."""
        value = self._variables.get(name, "").strip()
        return Secret(value) if value else None


def record_serve(settings: Settings) -> None:
    """Leaves in the state root which routes file and workspace root `serve` was started with, for other commands.

    Whole or as it was, with mode 0600; ConfigError where the state root cannot be written.
    """
    import tempfile

    folder = settings.state_root
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(folder / MARK, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        recorded = {"mark": _mark(folder), **_texts(settings)}
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
                json.dump(recorded, file, ensure_ascii=False)
                file.flush()
                os.fsync(descriptor)
            Path(temporary).replace(folder / RECORD)
        except OSError:
            with suppress(OSError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise ConfigError(
            f"The state root cannot be written ({os.strerror(error.errno or 0)}).",
            hint="Mend its permissions, or name another folder with --state-root.",
        ) from None


def _texts(settings: Settings) -> dict[str, str]:
    named = {"routes_file": settings.routes_file, "workspace_root": settings.workspace_root}
    return {key: str(path) for key, path in named.items() if path is not None}


def _recorded(root: Path) -> dict[str, str]:
    """What `record_serve` left; nothing where it left nothing, or where this is no plain file of this user's."""
    try:
        loaded = json.loads(_plain_file_of_mine(root / RECORD).decode("utf-8", "surrogateescape"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {key: value for key, value in loaded.items() if isinstance(value, str)} if isinstance(loaded, dict) else {}


def _plain_file_of_mine(path: Path) -> bytes:
    """The file's first 64 KiB; a pipe of that name would hold every command for ever, and a link lead elsewhere."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        is_mine = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
        return os.read(descriptor, LONGEST_RECORD) if is_mine else b""
    finally:
        os.close(descriptor)


def _mark(folder: Path) -> str:
    """What tells this very folder from a copy of it, and from one that somebody made up.

    The number of a file may be guessed, in a new container above all; the moment of its last change, which no archive
    and no program can set, may not.
    """
    found = (folder / MARK).lstat()
    return f"{found.st_ino}-{found.st_ctime_ns}"


def _state_root(given: _Given, option: str | None, transport: str | None) -> Path:
    """The state root; the current folder is none by itself, since some hosts start programs in `/`."""
    named = given.path(option, "KHEISH_STATE_ROOT")
    if named is not None:
        return named
    here = given.cwd / HERE
    if transport != "stdio" and _is_made_here(here):
        return here
    import platformdirs

    with suppress(RuntimeError):  # without a home folder newer versions raise, and older ones give a relative path
        folder = platformdirs.user_data_path("kheish-mcp", appauthor=False)
        if folder.is_absolute():
            return folder
    raise ConfigError("There is no home folder for the state root.", hint="Name one with --state-root.")


def _is_made_here(folder: Path) -> bool:
    """Whether `serve` of this user made the state root in this place.

    A folder that came with an archive or a repository is not taken: its record could name routes that carry our keys
    elsewhere.
    """
    try:
        return _recorded(folder).get("mark") == _mark(folder)
    except OSError:
        return False


class _Given:
    """Options and variables, read by the same rules: an option first, empty variables as if they were unset.

    A variable that holds only its own name in a client's braces, `${X}` or `{env:X}`, counts as empty: clients pass
    that on where they found no value for it.
    """

    def __init__(self, environ: Mapping[str, str], cwd: Path) -> None:
        filled = {name: value for name, value in environ.items() if value.strip()}
        self.environ = {name: value for name, value in filled.items() if _own_name(value) != name}
        self.cwd = cwd

    def text(self, option: str | None, variable: str) -> str | None:
        """What the option says, else what the variable says, without blanks around it."""
        if option is not None and not option.strip():
            raise UsageError(f"{_name_of(option, variable)} is empty.", hint="Leave it out, or give it a value.")
        chosen = option or self.environ.get(variable)
        return chosen.strip() if chosen else None

    def number(self, variable: str, most: int) -> int:
        """A whole number from 1 to `most`, which is also what an unset variable means."""
        text = self.text(None, variable) or str(most)
        if not text.isascii() or not text.isdigit() or not 1 <= int(text[:12]) <= most or len(text) > 12:
            raise ConfigError(f"{variable} is no whole number from 1 to {most:,}.", hint="Leave it unset for the most.")
        return int(text)

    def secret(self, variable: str) -> Secret | None:
        value = self.text(None, variable)
        return Secret(value) if value else None

    def path(self, option: str | None, variable: str, recorded: str | None = None) -> Path | None:
        """An absolute path; `~` is the home folder of the environment that was handed in."""
        chosen = self.text(option, variable) or recorded
        if not chosen:
            return None
        if chosen.split("/")[0] == "~" and "HOME" in self.environ:
            chosen = self.environ["HOME"] + chosen[1:]
        try:
            return self.cwd / Path(chosen).expanduser()
        except RuntimeError:
            raise ConfigError(
                f"{_name_of(option, variable)} begins with a ~ that is no home folder.", hint="Write the whole path."
            ) from None


def _own_name(value: str) -> str | None:
    reference = REFERENCE.fullmatch(value.strip())
    return reference and reference[1]


def _name_of(option: str | None, variable: str) -> str:
    """The name of what was given: the option that goes with the variable, or the variable."""
    return variable if option is None else "--" + variable.removeprefix("KHEISH_").lower().replace("_", "-")


def _address(text: str | None, name: str) -> Address:
    if text is None:
        return Address()
    match = BIND.fullmatch(text)
    if match is None or int(match[3]) > 65535 or (match[1] and not _is_ipv6(match[1])):
        raise ConfigError(f"{name} is not a host and a port.", hint="Such as 127.0.0.1:4000 or [::1]:4000.")
    return Address(match[1] or match[2], int(match[3]))


def _is_ipv6(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _discovery(text: str | None) -> Discovery:
    try:
        return DISCOVERY[(text or "").lower()]
    except KeyError:
        raise ConfigError(
            "KHEISH_OPENROUTER_MODEL_DISCOVERY has a value that is not known.",
            hint="Use best_effort, required or disabled, or leave it unset.",
        ) from None
