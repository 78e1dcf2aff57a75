"""The configurations of MCP hosts: what to put there, and putting it there."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from ..errors import ConfigError, FailedPrecondition, Json, JsonObject, KheishError, NotFound, UsageError
from ..hosts.insertion import Edit, Unclear, edit_for, entry_at, loaded
from ..hosts.known import ALIAS, HOSTS, TOKEN, Host, Launch, Remote, document_of, entry_of
from ..hosts.layouts import as_json, as_toml, as_yaml
from ..settings import Address, Settings, environment
from .frame import Frame, awaited, command_group, table
from .placing import Target, replace, target_of

app = command_group(__doc__)

Scope = Literal["user", "project"]
Name = Annotated[str, typer.Argument(help="The client, as `clients list` names it.")]
Transport = Annotated[
    Literal["stdio", "http"], typer.Option(help="stdio: the client starts the daemon; http: it runs already.")
]
Scoped = Annotated[
    Scope | None, typer.Option(help="For all that you do, or for the project in this folder; user where there is one.")
]
Workspace = Annotated[
    str | None, typer.Option(help="The folder that tools may read and write; a client's own ${...} is kept.")
]
Url = Annotated[str | None, typer.Option(help="The daemon's address for http; by default that of KHEISH_BIND.")]
WithToken = Annotated[
    bool | None,
    typer.Option("--token/--no-token", help=f"Send what {TOKEN} holds; by default where the state root has tokens."),
]

BOM: Final = b"\xef\xbb\xbf"
PASSING: Final = (
    "This copy goes when uv's cache is cleaned: uv tool install kheish-mcp, then run this again with that copy."
)
ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - addresses that nobody connects to


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The options that say which server a client is to have, and where."""

    scope: Scope
    transport: str
    workspace_root: str | None
    url: str | None
    token: bool | None


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the clients that are known: where their file is, whether they are here, whether the daemon is in it."""
    standings = [_standing(host) for host in HOSTS.values()]
    words: dict[Json, str] = {True: "yes", False: "", None: "?"}
    rows = [(s["name"], words[s["present"]], words[s["installed"]], s["path"] or "") for s in standings]
    shown: list[Json] = [*standings]
    ctx.obj.give(shown, table([("NAME", "PRESENT", "INSTALLED", "FILE"), *rows]))


@app.command()
def show(
    ctx: typer.Context,
    name: Name,
    transport: Transport = "stdio",
    scope: Scoped = None,
    workspace_root: Workspace = None,
    url: Url = None,
    token: WithToken = None,
) -> None:
    """Print what belongs into a client's file, in the file's own format; with --output json as JSON on one line."""
    frame, host = ctx.obj, _known(name)
    wanted = _Wanted(_scope(host, scope), transport, workspace_root, url, token)
    entry = entry_of(host, _server(frame, host, wanted))
    text = snippet(host, entry)
    _encoded(text)
    print(json.dumps(document_of(host, entry)) if frame.output == "json" else text)


@app.command()
def install(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    name: Name,
    transport: Transport = "stdio",
    scope: Scoped = None,
    workspace_root: Workspace = None,
    url: Url = None,
    token: WithToken = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the change.")] = False,
) -> None:
    """Put the daemon into a client's file as `kheish`: nothing else in it changes, and a backup stays beside it."""
    frame, host = ctx.obj, _known(name)
    wanted = _Wanted(_scope(host, scope), transport, workspace_root, url, token)
    entry = entry_of(host, _server(frame, host, wanted))
    path = file_of(host, wanted.scope, environment())
    if not host.is_editable:
        raise FailedPrecondition(
            f"{host.title} keeps its servers in YAML, which is not edited.", hint=_paste(host, path)
        )
    # A user's links are the user's; those in a project came with it.
    target = target_of(path, Path.cwd() if wanted.scope == "project" else None)
    text, edit = _edit(target, host, entry)
    if edit is None:
        return _tell(frame, host, target.path, "unchanged")
    action = "replaced" if entry_at(loaded(text, host.format), (*host.path, ALIAS)) is not None else "added"
    if dry_run:
        return _tell(frame, host, target.path, f"would be {action}", diff=_diff(target.path, text, edit, host))
    mark = BOM if target.data.startswith(BOM) else b""
    backup = replace(target, mark + _encoded(edit.applied(text)))
    _tell(frame, host, target.path, action, backup=None if backup is None else str(backup))
    print(f"{host.title} sees it after a restart.", file=sys.stderr)
    if is_passing(sys.executable):
        print(PASSING, file=sys.stderr)
    return None


def snippet(host: Host, entry: JsonObject) -> str:
    """A file that holds the server and nothing else, without a line break at its end."""
    if host.format == "toml":
        return as_toml((*host.path, ALIAS), entry)
    document = document_of(host, entry)
    return as_yaml(document) if host.format == "yaml" else as_json(document)


def program(executable: str) -> tuple[str, ...]:
    """How this very daemon is started: the script beside the interpreter, or the interpreter itself."""
    script = Path(executable).with_name("kheish-daemon").absolute()
    return (str(script),) if script.is_file() else (executable, "-m", "kheish_mcp")


def is_passing(executable: str) -> bool:
    """Whether this copy of the daemon lies in uv's cache, as under `uvx`."""
    return bool({"archive-v0", "builds-v0"} & {*Path(executable).parts})


def file_of(host: Host, scope: Scope, environ: Mapping[str, str]) -> Path:
    """The host's file: of its places the first that is there, or whose folder is, or the first."""
    if scope == "project":
        return Path.cwd() / host.project
    paths = [place.path(environ) for place in host.user]
    there = [path for path in paths if _is_there(path)] + [path for path in paths if _is_there(path.parent)]
    return [*there, *paths][0]


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder on the way that may not be looked into
        return False


def _known(name: str) -> Host:
    if name not in HOSTS:
        raise NotFound("there is no such client", hint=f"One of: {', '.join(HOSTS)}.")
    return HOSTS[name]


def _scope(host: Host, wanted: Scope | None) -> Scope:
    """The scope that is meant; UsageError where the host has no file of that scope."""
    scope: Scope = wanted or ("user" if host.user else "project")
    if not (host.user if scope == "user" else host.project):
        raise UsageError(f"{host.title} keeps no file of a {scope}", hint="Leave --scope out.")
    return scope


def _server(frame: Frame, host: Host, wanted: _Wanted) -> Launch | Remote:
    if wanted.transport == "http":
        settings = frame.settings(transport="http")
        with_token = awaited(_has_tokens, settings.state_root) if wanted.token is None else wanted.token
        return Remote(_url_of(settings.bind) if wanted.url is None else _checked(wanted.url), with_token)
    if wanted.url is not None or wanted.token is not None:
        raise UsageError("--url and --token are for http", hint="Add --transport http.")
    command, *arguments = program(sys.executable)
    return Launch(command, (*arguments, "serve", "--transport", "stdio", *_roots(frame, host, wanted)))


def _roots(frame: Frame, host: Host, wanted: _Wanted) -> list[str]:
    """The folders that the daemon would not find by itself when the host starts it."""
    given = wanted.workspace_root
    named = given if given and given.startswith("${") else None
    settings = frame.settings(transport="http", workspace_root=None if named else given)
    open_project = host.workspace if wanted.scope == "project" else ""
    workspace = named or settings.workspace_root or open_project
    alone = Settings.load({}, cwd=Path("/"), transport="stdio").state_root
    state_root = [] if settings.state_root == alone else ["--state-root", str(settings.state_root)]
    return [*(["--workspace-root", str(workspace)] if workspace else []), *state_root]


def _url_of(bind: Address) -> str:
    return f"http://{Address(ANY.get(bind.host, bind.host), bind.port)}/mcp"


def _checked(url: str) -> str:
    """The URL; UsageError for what is none of a daemon, or could hold a secret, which is not quoted."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable() and " " not in url
        holds_more = "@" in parts.netloc or bool(parts.query or parts.fragment)
    except ValueError:
        fits, holds_more = False, False
    if not fits or holds_more:
        raise UsageError(
            "--url takes an http or https address without user, query or fragment",
            hint="Such as https://media.example.com/mcp.",
        )
    return url


async def _has_tokens(state_root: Path) -> bool:
    """Whether a daemon on that state root wants a token; one that was never used has none, and is not made here."""
    from ..stores.database import FILE, Database
    from ..stores.tokens import TokenStore

    if not (state_root / FILE).exists():
        return False
    async with Database.open(state_root) as database:
        return await TokenStore(database).any()


def _edit(target: Target, host: Host, entry: JsonObject) -> tuple[str, Edit | None]:
    """The file's text and the edit; ConfigError where its text is not understood well enough to be changed."""
    try:
        text = target.data.removeprefix(BOM).decode("utf-8")
        return text, edit_for(text, host.format, (*host.path, ALIAS), entry)
    except UnicodeDecodeError:
        why = "is no UTF-8"
    except Unclear as error:
        why = error.message
    raise ConfigError(f"{target.path} {why}; it is left as it is.", hint=_paste(host, target.path))


def _paste(host: Host, path: Path) -> str:
    return f"Put what `kheish-daemon clients show {host.name}` prints into {path} by hand."


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError("a path is no UTF-8, which clients' files are", hint="Name another folder.") from None


def _tell(
    frame: Frame, host: Host, path: Path, action: str, *, backup: str | None = None, diff: str | None = None
) -> None:
    shown: JsonObject = {"name": host.name, "path": str(path), "action": action, "backup": backup}
    said = f"{path}: {ALIAS} is {action}." if diff is None else diff
    frame.give(
        shown if diff is None else {**shown, "diff": diff}, f"{said}\nBackup: {backup}" if backup is not None else said
    )


def _diff(path: Path, text: str, edit: Edit, host: Host) -> str:
    """What goes and what comes, by lines; values that stood in the old entry's tables may be keys, and are not shown."""
    gone, old = text[edit.start : edit.end], entry_at(loaded(text, host.format), (*host.path, ALIAS))
    tables = [part for part in (old or {}).values() if isinstance(part, dict)] if isinstance(old, dict) else []
    for value in (value for each in tables for value in each.values() if isinstance(value, str) and value):
        gone = gone.replace(json.dumps(value, ensure_ascii=False)[1:-1], "***")
    lines = [f"-{line}" for line in gone.splitlines()]
    lines += [f"+{line}" for line in edit.text.splitlines() if line.strip()]
    at = text.count("\n", 0, edit.start) + 1
    return "\n".join([f"--- {path}", f"+++ {path}", f"@@ line {at} @@", *lines])


def _standing(host: Host) -> JsonObject:
    """One row: `installed` is null where the file cannot be read, `path` where the host has none for a user."""
    path = file_of(host, "user", environment()) if host.user else None
    project: Json = host.project or None
    transports: list[Json] = [*host.transports]
    return {
        "name": host.name,
        "title": host.title,
        "path": None if path is None else str(path),
        "project_path": project,
        "present": path is not None and (_is_there(path) or (path.parent != Path.home() and _is_there(path.parent))),
        "installed": path is not None and _is_in(host, path),
        "transports": transports,
        "editable": host.is_editable,
    }


def _is_in(host: Host, path: Path) -> bool | None:
    if not _is_there(path):
        return False
    if not host.is_editable:
        return None
    try:
        text = target_of(path).data.removeprefix(BOM).decode("utf-8")
        return entry_at(loaded(text, host.format), (*host.path, ALIAS)) is not None
    except (KheishError, UnicodeDecodeError):
        return None
