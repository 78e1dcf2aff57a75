"""The clients commands on files as hosts have them: what is added, what stays, and what is left alone."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from kheish_mcp.cli import run
from kheish_mcp.cli.clients import file_of, is_passing, program
from kheish_mcp.cli.placing import replace, target_of
from kheish_mcp.errors import Aborted, ConfigError
from kheish_mcp.hosts.known import HOSTS, Host
from kheish_mcp.stores.database import Database
from kheish_mcp.stores.tokens import TokenStore
from tests.configurations import TIMEOUTS, check, command_of, entry_in, read
from tests.conftest import CANARY, environment
from tests.test_insertion import is_insertion

Run = Callable[..., tuple[int, str, str]]

HEAVY = {"mcp", "mcp_types", "httpx2", "PIL", "apsw", "pydantic", "rich", "cryptography", "anyio"}
MOVING = ("XDG_CONFIG_HOME", "CODEX_HOME", "COPILOT_HOME", "CLAUDE_CONFIG_DIR", "KHEISH_STATE_ROOT", "KHEISH_BIND")
EDITABLE = [host.name for host in HOSTS.values() if host.is_editable]
PAIRS = [(host.name, transport) for host in HOSTS.values() for transport in host.transports]
CARRYING = [host.name for host in HOSTS.values() if host.reference or host.name == "codex"]
MINE = '{\n  "mcpServers": {\n    "other": {"command": "x", "env": {"SECRET": "keep-me"}}\n  },\n  "z": 1\n}\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with no client in it, and a project that is the current folder."""
    for name in MOVING:
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    (folder / "project").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder / "project")
    return folder


@pytest.fixture
def clients(home: Path, state_root: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs `clients ...`: the exit code, what went out as data, and what was said."""

    def command(*arguments: str, output: str | None = "json") -> tuple[int, str, str]:
        given = [] if output is None else ["--output", output]
        code = run(["clients", *arguments, "--state-root", str(state_root), *given])
        return code, *capfd.readouterr()

    return command


def data(told: tuple[int, str, str]) -> Any:
    """The JSON of a command that worked."""
    assert told[0] == 0, told
    return json.loads(told[1])


def refusal(told: tuple[int, str, str]) -> tuple[int, dict[str, str]]:
    """The exit code and the error of a command that printed no data."""
    assert told[1] == ""
    error: dict[str, str] = json.loads(told[2])["error"]
    assert error["hint"]
    return told[0], error


def written(home: Path, name: str, text: str) -> Path:
    """The host's own file with that text."""
    path = file_of(HOSTS[name], "user" if HOSTS[name].user else "project", {"HOME": str(home)})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def everything(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Each file with its bytes, its inode and its time."""
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path): (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def holds(host: Host, entry: dict[str, Any], transport: str, state_root: Path) -> None:
    """Whether the entry is ours: a command by its absolute path or the URL, and time enough in the host's own unit."""
    if transport == "stdio":
        command = command_of(entry)
        assert command[1:4] == ["serve", "--transport", "stdio"]
        assert Path(command[0]).is_absolute()
        assert Path(command[0]).exists()
        assert command[command.index("--state-root") + 1] == str(state_root)
    else:
        assert "http://127.0.0.1:4000/mcp" in entry.values()
    if host.name in TIMEOUTS:
        key, per_second = TIMEOUTS[host.name]
        assert 300 <= entry[key] / per_second <= 3600


@pytest.mark.parametrize(("name", "transport"), PAIRS)
def test_what_is_shown_fits_the_host(clients: Run, state_root: Path, name: str, transport: str):
    host = HOSTS[name]
    code, out, err = clients("show", name, "--transport", transport, output=None)
    assert (code, err) == (0, "")
    document = read(out, host.format)
    check(host, document)
    holds(host, entry_in(host, document), transport, state_root)
    assert data(clients("show", name, "--transport", transport)) == document


@pytest.mark.parametrize(
    ("name", "transport"), [(name, transport) for name, transport in PAIRS if HOSTS[name].is_editable]
)
def test_what_is_installed_fits_the_host_and_a_second_time_changes_nothing(
    clients: Run, home: Path, state_root: Path, name: str, transport: str
):
    host = HOSTS[name]
    done = data(clients("install", name, "--transport", transport))
    path = Path(done["path"])
    assert (done["name"], done["action"], done["backup"]) == (name, "added", None)
    assert home in path.parents
    document = read(path.read_text(encoding="utf-8"), host.format)
    check(host, document)
    holds(host, entry_in(host, document), transport, state_root)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = everything(home)
    assert data(clients("install", name, "--transport", transport))["action"] == "unchanged"
    assert everything(home) == before


@pytest.mark.parametrize("name", EDITABLE)
def test_other_entries_stay_to_the_byte_and_a_backup_beside(clients: Run, home: Path, name: str):
    text = {"toml": '[mcp_servers.other]\ncommand = "x" # mine\n'}.get(HOSTS[name].format)
    text = text or MINE.replace("mcpServers", HOSTS[name].path[0])
    path = written(home, name, text)
    path.chmod(0o640)
    done = data(clients("install", name))
    new = path.read_text(encoding="utf-8")
    assert is_insertion(text, new)
    backup = Path(done["backup"])
    assert backup.parent == path.parent
    assert backup.read_text(encoding="utf-8") == text
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, backup)] == [0o640, 0o640]
    assert sorted(path.parent.iterdir()) == sorted({path, backup, *path.parent.glob("project")})


def test_a_backup_is_never_written_over(clients: Run, home: Path):
    path = written(home, "cursor", MINE)
    first = data(clients("install", "cursor"))["backup"]
    between = path.read_bytes()
    done = data(clients("install", "cursor", "--workspace-root", "/srv/media"))
    assert done["action"] == "replaced"
    assert done["backup"] != first
    assert Path(first).read_text(encoding="utf-8") == MINE
    assert Path(done["backup"]).read_bytes() == between
    assert json.loads(path.read_text(encoding="utf-8"))["mcpServers"]["other"]["env"] == {"SECRET": "keep-me"}


def test_comments_stay_where_a_client_takes_them_and_the_file_where_it_does_not(clients: Run, home: Path):
    text = '// mine\n{\n  "context_servers": {\n    // one\n    "a": {"command": "x"}, // two\n  },\n}\n'
    path = written(home, "zed", text)
    assert data(clients("install", "zed"))["action"] == "added"
    assert [line for line in text.splitlines() if line not in path.read_text(encoding="utf-8").splitlines()] == []
    strict = written(home, "claude-desktop", text)
    code, error = refusal(clients("install", "claude-desktop"))
    assert (code, error["message"]) == (2, f"{strict} cannot be parsed; it is left as it is.")
    assert "kheish-daemon clients show claude-desktop" in error["hint"]


@pytest.mark.parametrize("name", ["claude-desktop", "zed", "codex"])  # one of each format
@pytest.mark.parametrize("broken", [b'{"mcpServers": {', b"[mcp_servers.kheish\n", b"\xff\xfe{}", b"[]"])
def test_a_broken_file_is_refused_and_untouched(clients: Run, home: Path, name: str, broken: bytes):
    if HOSTS[name].format == "toml" and broken == b"[]":
        broken = b"[[]"
    path = written(home, name, "")
    path.write_bytes(broken)
    before = everything(home)
    assert refusal(clients("install", name))[0] == 2
    assert everything(home) == before
    standing = next(row for row in data(clients("list")) if row["name"] == name)
    assert standing["installed"] in ([None] if standing["path"] else [False])


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file_and_the_mark_of_a_windows_editor(clients: Run, home: Path, mark: bytes):
    path = written(home, "cursor", "")
    path.write_bytes(mark)
    data(clients("install", "cursor"))
    assert path.read_bytes().startswith(mark + b"{")
    assert json.loads(path.read_text(encoding="utf-8-sig"))["mcpServers"]["kheish"]


def test_a_link_to_the_user_s_own_file_is_followed(clients: Run, home: Path):
    real = home / "dotfiles" / "cursor.json"
    real.parent.mkdir()
    real.write_text(MINE, encoding="utf-8")
    (home / ".cursor").mkdir()
    (home / ".cursor" / "mcp.json").symlink_to(real)
    done = data(clients("install", "cursor"))
    assert (home / ".cursor" / "mcp.json").readlink() == real
    assert done["path"] == str(real)
    assert Path(done["backup"]).parent == real.parent
    assert "kheish" in real.read_text(encoding="utf-8")


def _dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nothing")


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate((16 << 20) + 1)


@pytest.mark.parametrize("make", [_dangling, _loop, _pipe, _folder, _huge])
def test_what_is_no_file_to_edit_is_refused_at_once(clients: Run, home: Path, make: Callable[[Path], None]):
    (home / ".cursor").mkdir()
    make(home / ".cursor" / "mcp.json")
    assert refusal(clients("install", "cursor"))[0] == 2
    assert [path.name for path in (home / ".cursor").iterdir()] == ["mcp.json"]
    assert len(data(clients("list"))) == len(HOSTS)


@pytest.mark.parametrize("folder", [".cursor", "."])
def test_a_folder_that_everyone_can_write_is_refused(clients: Run, home: Path, folder: str):
    written(home, "cursor", MINE)
    before = everything(home)
    (home / folder).chmod(0o777)
    code, error = refusal(clients("install", "cursor"))
    assert (code, error["code"]) == (4, "permission_denied")
    assert error["hint"] == f"chmod o-w {home / folder}"
    assert everything(home) == before


def test_a_link_out_of_a_folder_that_everyone_can_write_is_refused(clients: Run, home: Path):
    real = home / "cursor.json"
    real.write_text(MINE, encoding="utf-8")
    (home / ".cursor").mkdir()
    (home / ".cursor" / "mcp.json").symlink_to(real)
    (home / ".cursor").chmod(0o1777)
    assert refusal(clients("install", "cursor"))[0] == 4
    assert real.read_text(encoding="utf-8") == MINE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("given", [".cursor/mcp.json", ".cursor"])
def test_what_belongs_to_another_user_is_refused(clients: Run, home: Path, given: str):
    path = written(home, "cursor", MINE)
    os.chown(home / given, 65534, -1)
    code, error = refusal(clients("install", "cursor"))
    assert (code, error["code"]) == (4, "permission_denied")
    assert path.read_text(encoding="utf-8") == MINE


def test_a_file_that_changes_under_our_hands_is_left_as_it_became(home: Path):
    path = written(home, "cursor", MINE)
    target = target_of(path)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(Aborted):
        replace(target, b"ours")
    assert [each.name for each in path.parent.iterdir()] == ["mcp.json"]
    assert path.read_text(encoding="utf-8") == "{}"


def test_a_file_that_appears_meanwhile_is_not_replaced(home: Path):
    target = target_of(home / ".cursor" / "mcp.json")
    written(home, "cursor", MINE)
    with pytest.raises(Aborted):
        replace(target, b"ours")


def test_a_folder_that_cannot_be_made_is_told(home: Path):
    (home / ".cursor").write_text("no folder", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be used"):
        replace(target_of(home / ".cursor" / "mcp.json"), b"ours")


@pytest.mark.parametrize(("name", "transport"), PAIRS)
def test_no_secret_of_the_environment_comes_into_a_file_or_out(
    clients: Run, home: Path, monkeypatch: pytest.MonkeyPatch, name: str, transport: str
):
    for variable in ("OPENROUTER_API_KEY", "KHEISH_AUTH_STORE_MASTER_KEY", "KHEISH_TOKEN"):
        monkeypatch.setenv(variable, CANARY)
    told = [clients("show", name, "--transport", transport)]
    if HOSTS[name].is_editable:
        told += [clients("install", name, "--transport", transport, *more) for more in (["--dry-run"], [])]
    assert {code for code, _, _ in told} == {0}
    assert CANARY not in str(told)
    assert not [path for path, (kept, _, _) in everything(home).items() if CANARY.encode() in kept]


def test_a_dry_run_shows_what_would_come_and_writes_nothing(clients: Run, home: Path):
    written(home, "cursor", MINE)
    before = everything(home)
    code, out, _ = clients("install", "cursor", "--dry-run", output="pretty")
    assert code == 0
    assert out.splitlines()[:4] == [
        f"--- {home}/.cursor/mcp.json",
        f"+++ {home}/.cursor/mcp.json",
        "@@ line 2 @@",
        '+    "kheish": {',
    ]
    assert "keep-me" not in out
    assert data(clients("install", "cursor", "--dry-run"))["action"] == "would be added"
    assert everything(home) == before


def test_a_key_that_somebody_left_in_our_entry_is_not_shown_and_goes(clients: Run, home: Path):
    left = json.dumps({"mcpServers": {"kheish": {"command": "old", "env": {"OPENROUTER_API_KEY": "sk-left-behind"}}}})
    path = written(home, "claude-desktop", left)
    done = data(clients("install", "claude-desktop", "--dry-run"))
    assert done["action"] == "would be replaced"
    assert '-{"command": "old", "env": {"OPENROUTER_API_KEY": "***"}}' in done["diff"]
    assert "sk-left-behind" not in json.dumps(done)
    clients("install", "claude-desktop")
    assert "sk-left-behind" not in path.read_text(encoding="utf-8")


@pytest.fixture
def token(state_root: Path) -> str:
    """A token that the state root knows."""

    async def main() -> str:
        async with Database.open(state_root) as database:
            return (await TokenStore(database).create("laptop", "generate"))[1].reveal()

    return anyio.run(main)


@pytest.mark.parametrize("name", [name for name, transport in PAIRS if transport == "http"])
def test_a_token_is_sent_by_the_name_of_its_variable_or_not_at_all(clients: Run, home: Path, token: str, name: str):
    told = clients("show", name, "--transport", "http")
    assert token not in str(told)
    if name not in CARRYING:
        code, error = refusal(told)
        assert (code, error["code"]) == (2, "failed_precondition")
        assert "only in clear" in error["message"]
        return
    check(HOSTS[name], data(told))
    entry = entry_in(HOSTS[name], data(told))
    headers = entry.get("headers") or entry.get("requestOptions", {}).get("headers") or {}
    if name == "codex":
        assert (headers, entry["bearer_token_env_var"]) == ({}, "KHEISH_TOKEN")
    else:
        assert headers == {"Authorization": f"Bearer {HOSTS[name].reference % 'KHEISH_TOKEN'}"}
    assert "KHEISH_TOKEN" not in str(data(clients("show", name, "--transport", "http", "--no-token")))


def test_without_a_token_none_is_spoken_of_and_no_database_is_made(clients: Run, state_root: Path):
    assert "KHEISH_TOKEN" not in str(clients("show", "cursor", "--transport", "http"))
    assert not state_root.exists()
    asked = data(clients("show", "cursor", "--transport", "http", "--token", "--url", "https://media.example.com/mcp"))
    assert asked["mcpServers"]["kheish"] == {
        "url": "https://media.example.com/mcp",
        "headers": {"Authorization": "Bearer ${env:KHEISH_TOKEN}"},
    }


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1:5000", "http://127.0.0.1:5000/mcp"),
        ("0.0.0.0:4000", "http://127.0.0.1:4000/mcp"),
        ("[::]:4000", "http://[::1]:4000/mcp"),
        ("media.local:80", "http://media.local:80/mcp"),
    ],
)
def test_the_url_is_that_of_the_bind(clients: Run, monkeypatch: pytest.MonkeyPatch, bind: str, url: str):
    monkeypatch.setenv("KHEISH_BIND", bind)
    assert data(clients("show", "warp", "--transport", "http"))["mcpServers"]["kheish"] == {"url": url}


@pytest.mark.parametrize(
    "url",
    ["ftp://x/mcp", "x", "http://", "https://a:b@c/mcp", "https://c/?key=b", "https://c/#b", "http://[", "http://a b"],
)
def test_a_url_that_is_none_or_could_hold_a_secret_is_refused_and_not_quoted(clients: Run, url: str):
    code, error = refusal(clients("show", "cursor", "--transport", "http", "--url", url))
    assert (code, error["code"]) == (2, "invalid_argument")
    assert url not in error["message"].split()


def test_the_folders_are_passed_on_where_the_daemon_would_not_find_them(
    clients: Run, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def shown(*arguments: str) -> list[str]:
        assert run(["clients", "show", "claude-code", *arguments]) == 0
        return command_of(json.loads(capfd.readouterr()[0])["mcpServers"]["kheish"])[4:]

    assert shown() == []
    assert shown("--workspace-root", ".") == ["--workspace-root", str(home / "project")]
    assert shown("--workspace-root", "${workspaceFolder}") == ["--workspace-root", "${workspaceFolder}"]
    assert shown("--scope", "project") == ["--workspace-root", "."]
    assert shown("--state-root", "s") == ["--state-root", str(home / "project" / "s")]
    monkeypatch.setenv("KHEISH_STATE_ROOT", "/srv/state")
    monkeypatch.setenv("KHEISH_WORKSPACE_ROOT", "/srv/media")
    assert shown("--scope", "project") == ["--workspace-root", "/srv/media", "--state-root", "/srv/state"]


@pytest.mark.parametrize("link", [".cursor", ".cursor/mcp.json"])
def test_a_project_s_file_does_not_lead_out_of_the_project(clients: Run, home: Path, link: str):
    theirs = home / "elsewhere"
    theirs.mkdir()
    (theirs / "mcp.json").write_text("{}", encoding="utf-8")
    (home / "project" / link).parent.mkdir(exist_ok=True)
    (home / "project" / link).symlink_to(theirs if link == ".cursor" else theirs / "mcp.json")
    code, _, err = clients("install", "cursor", "--scope", "project")
    assert (code, "leads out of the project" in err) == (4, True)
    assert [path.read_text(encoding="utf-8") for path in theirs.iterdir()] == ["{}"]


def test_a_project_s_file_is_written_in_the_project(clients: Run, home: Path):
    done = data(clients("install", "vscode", "--scope", "project"))
    assert done["path"] == str(home / "project" / ".vscode" / "mcp.json")
    assert data(clients("install", "visual-studio", "--transport", "http"))["path"] == str(
        home / "project" / ".mcp.json"
    )


def test_one_file_serves_two_hosts(clients: Run, home: Path):
    """`.mcp.json` is Claude Code's by `mcpServers` and Visual Studio's by `servers`."""
    for name in ("claude-code", "visual-studio"):
        data(clients("install", name, "--scope", "project"))
    document = json.loads((home / "project" / ".mcp.json").read_text(encoding="utf-8"))
    assert document["mcpServers"]["kheish"]["command"] == document["servers"]["kheish"]["command"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["show", CANARY], 5, "there is no such client"),
        (["install", "claude-desktop", "--transport", "http"], 2, "Claude Desktop takes no server over HTTP"),
        (["install", "lm-studio", "--scope", "project"], 2, "LM Studio keeps no file of a project"),
        (["install", "librechat", "--scope", "user"], 2, "LibreChat keeps no file of a user"),
        (["install", "goose"], 2, "Goose keeps its servers in YAML"),
        (["show", "cursor", "--url", "https://x/mcp"], 2, "--url and --token are for http"),
        (["show", "cursor", "--workspace-root", "/\udcff"], 2, "a path is no UTF-8"),
        (["install", "cursor", "--workspace-root", "/\udcff"], 2, "a path is no UTF-8"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_way_out(
    clients: Run, home: Path, arguments: list[str], code: int, said: str
):
    given, error = refusal(clients(*arguments))
    assert given == code
    assert said in error["message"]
    assert CANARY not in json.dumps(error)
    assert everything(home) == {}


def test_the_yaml_that_is_not_edited_is_named_with_what_to_paste(clients: Run, home: Path):
    hint = refusal(clients("install", "goose"))[1]["hint"]
    assert hint == (
        f"Put what `kheish-daemon clients show goose` prints into {home}/.config/goose/config.yaml by hand."
    )


def test_the_list_says_where_the_files_are_and_whether_the_daemon_is_in_them(clients: Run, home: Path):
    def row() -> dict[str, Any]:
        found: dict[str, Any] = next(row for row in data(clients("list")) if row["name"] == "cursor")
        return found

    assert [each["name"] for each in data(clients("list"))] == list(HOSTS)
    absent = {
        "name": "cursor",
        "title": "Cursor",
        "path": str(home / ".cursor" / "mcp.json"),
        "project_path": ".cursor/mcp.json",
        "present": False,
        "installed": False,
        "transports": ["stdio", "http"],
        "editable": True,
    }
    assert row() == absent
    written(home, "cursor", MINE)
    assert row() == absent | {"present": True}
    data(clients("install", "cursor"))
    assert row() == absent | {"present": True, "installed": True}
    pretty = clients("list", output="pretty")[1].splitlines()
    assert pretty[0].split() == ["NAME", "PRESENT", "INSTALLED", "FILE"]
    assert len(pretty) == len(HOSTS) + 1


def test_yaml_is_not_known_about(clients: Run, home: Path):
    written(home, "goose", "extensions: {}\n")
    standing = next(row for row in data(clients("list")) if row["name"] == "goose")
    assert (standing["present"], standing["installed"], standing["editable"]) == (True, None, False)


def test_a_file_is_where_the_host_s_own_variable_puts_it(home: Path, tmp_path: Path):
    moved = {"CODEX_HOME": str(tmp_path / "c"), "XDG_CONFIG_HOME": "relative", "CLAUDE_CONFIG_DIR": "~/.claude"}
    assert file_of(HOSTS["codex"], "user", moved) == tmp_path / "c" / "config.toml"
    assert file_of(HOSTS["zed"], "user", moved) == home / ".config" / "zed" / "settings.json"
    assert file_of(HOSTS["claude-code"], "user", moved) == home / ".claude" / ".claude.json"


def test_a_place_that_cannot_be_looked_at_is_only_not_there(clients: Run, monkeypatch: pytest.MonkeyPatch, home: Path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ("x" * 300)))
    standing = next(row for row in data(clients("list")) if row["name"] == "zed")
    assert (standing["present"], standing["installed"]) == (False, False)
    assert "cannot be used" in refusal(clients("install", "zed"))[1]["message"]


def test_of_two_places_the_one_in_use_is_taken(home: Path):
    first, second = (place.path({}) for place in HOSTS["opencode"].user)
    assert file_of(HOSTS["opencode"], "user", {}) == first
    second.parent.mkdir(parents=True)
    second.write_text("{}", encoding="utf-8")
    assert file_of(HOSTS["opencode"], "user", {}) == second
    one, other = (place.path({}) for place in HOSTS["cline"].user)
    other.parent.mkdir(parents=True)
    assert file_of(HOSTS["cline"], "user", {}) == other != one


def test_the_command_is_this_very_daemon_whatever_started_it(tmp_path: Path):
    assert program(str(tmp_path / "python")) == (str(tmp_path / "python"), "-m", "kheish_mcp")
    (tmp_path / "kheish-daemon").touch()
    assert program(str(tmp_path / "python")) == (str(tmp_path / "kheish-daemon"),)
    assert is_passing("/home/u/.cache/uv/archive-v0/x/bin/python")
    assert not is_passing(sys.executable)


def test_names_are_ones_that_every_host_can_show():
    """At most 60 characters with a tool's name, and no underscore, which Gemini CLI cannot tell from its own."""
    from kheish_mcp.hosts.known import ALIAS
    from kheish_mcp.tools import TOOLS

    assert ALIAS.isalnum()
    assert all(len(f"mcp__{ALIAS}__{tool.name}") <= 60 for tool in TOOLS)


def test_nothing_heavy_is_imported(home: Path, state_root: Path):
    command = [sys.executable, "-X", "importtime", "-m", "kheish_mcp", "clients", "list"]
    done = subprocess.run(
        command,
        env={**environment(state_root), "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in loaded
    assert not loaded & HEAVY
