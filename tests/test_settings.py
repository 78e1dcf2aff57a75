"""Settings: which source wins, whose folder is taken, and that no value is ever repeated."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from kheish_mcp.errors import ConfigError, KheishError, UsageError
from kheish_mcp.secret import Secret
from kheish_mcp.settings import HERE, MARK, RECORD, Address, Settings, environment, record_serve
from tests.conftest import CANARY

PATHS = {
    "state_root": "KHEISH_STATE_ROOT",
    "workspace_root": "KHEISH_WORKSPACE_ROOT",
    "routes_file": "KHEISH_ROUTES_FILE",
}
KEY, KEY_FILE = "KHEISH_AUTH_STORE_MASTER_KEY", "KHEISH_AUTH_STORE_MASTER_KEY_FILE"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Settings]:
    """Loads settings from variables and options, in a folder of the test's own and with a state root in it."""

    def loaded(environ: dict[str, str] | None = None, **options: Any) -> Settings:
        return Settings.load({"KHEISH_STATE_ROOT": "state", **(environ or {})}, cwd=tmp_path, **options)

    return loaded


@pytest.mark.parametrize("name", PATHS)
def test_an_option_beats_the_environment(name: str, load: Callable[..., Settings], tmp_path: Path):
    both = load({PATHS[name]: "by-variable"}, **{name: "by-option"})
    assert getattr(both, name) == tmp_path / "by-option"
    assert getattr(load({PATHS[name]: "by-variable"}), name) == tmp_path / "by-variable"


def test_an_option_beats_the_environment_for_text_too(load: Callable[..., Settings]):
    environ = {"KHEISH_BIND": "0.0.0.0:80", "KHEISH_DEFAULT_ROUTE": " local "}
    assert (load(environ).bind, load(environ).default_route) == (Address("0.0.0.0", 80), "local")
    chosen = load(environ, bind="[::1]:0", default_route="openrouter")
    assert (chosen.bind, chosen.default_route) == (Address("::1", 0), "openrouter")


def test_nothing_given_is_the_defaults(load: Callable[..., Settings], tmp_path: Path):
    assert load() == Settings(tmp_path / "state")
    assert str(load().bind) == "127.0.0.1:4000"


@pytest.mark.parametrize("nothing", ["", "  ", "\n"])
def test_an_empty_variable_is_an_unset_one(nothing: str, load: Callable[..., Settings]):
    names = [*PATHS.values(), KEY, KEY_FILE, "KHEISH_DEFAULT_ROUTE", "KHEISH_BIND", "OPENROUTER_API_KEY"]
    names += ["OPENROUTER_BASE_URL", "KHEISH_OPENROUTER_MODEL_DISCOVERY", "MY_KEY"]
    empty = load({**dict.fromkeys(names, nothing), "KHEISH_STATE_ROOT": "state"})
    assert empty == load()
    assert empty.variable("MY_KEY") is None


@pytest.mark.parametrize("form", ["${%s}", "$%s", " ${env:%s} ", "{env:%s}", "${{ secrets.%s }}", "${%s:-}", "%%%s%%"])
def test_a_reference_to_itself_that_a_client_did_not_fill_is_an_unset_one(form: str, load: Callable[..., Settings]):
    names = ("OPENROUTER_API_KEY", KEY, KEY_FILE, "KHEISH_WORKSPACE_ROOT", "MY_KEY")
    settings = load({name: form % name for name in names})
    assert settings == load()
    assert settings.variable("MY_KEY") is None


@pytest.mark.parametrize("value", ["OPENROUTER_API_KEY", "${OTHER}", "$OPENROUTER_API_KEY2", "x${OPENROUTER_API_KEY}"])
def test_what_only_looks_like_a_reference_is_a_value(value: str, load: Callable[..., Settings]):
    assert load({"OPENROUTER_API_KEY": value}).openrouter_api_key == Secret(value)


@pytest.mark.parametrize("name", [*PATHS, "default_route", "bind"])
def test_an_empty_option_is_a_slip_of_the_script(name: str, load: Callable[..., Settings]):
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} is empty"):
        load(**{name: " "})


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("~", "home"),
        ("~/data", "home/data"),
        ("./data", "here/data"),
        ("data", "here/data"),
        ("../data", "here/../data"),
        ("/srv/data", "/srv/data"),
        ("a~b", "here/a~b"),
    ],
)
def test_paths_are_absolute_and_the_home_folder_is_the_given_one(given: str, meant: str, tmp_path: Path):
    here = tmp_path / "here"
    loaded = Settings.load({"HOME": str(tmp_path / "home")}, cwd=here, state_root=given)
    assert loaded.state_root == tmp_path / meant


def test_a_tilde_that_is_nobody_s_home_is_refused(load: Callable[..., Settings]):
    with pytest.raises(ConfigError, match="KHEISH_ROUTES_FILE begins with a ~"):
        load({"KHEISH_ROUTES_FILE": "~nobody-of-that-name/routes.toml"})
    with pytest.raises(ConfigError, match="--routes-file begins with a ~"):
        load(routes_file="~nobody-of-that-name/routes.toml")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("127.0.0.1:4000", Address("127.0.0.1", 4000)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:65535", Address("::1", 65535)),
        ("my-host.example_1:80", Address("my-host.example_1", 80)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, meant: Address, load: Callable[..., Settings]):
    assert load(bind=text).bind == meant
    assert str(meant) == text


@pytest.mark.parametrize(
    "text",
    [
        "4000", ":4000", "host", "host:", "host:65536", "host:-1", "host:http", "::1:4000", "[::1]", "[host]:1", "[1.2.3.4]:1",
        "http://host:1", "host:1/mcp", "user@host:1", "ho st:1", "host:\u0661", "host:100000",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_by_the_name_it_came_by(text: str, load: Callable[..., Settings]):
    with pytest.raises(ConfigError, match=r"^KHEISH_BIND is not a host and a port\.$"):
        load({"KHEISH_BIND": text})
    with pytest.raises(ConfigError, match=r"^--bind is not a host and a port\.$"):
        load({"KHEISH_BIND": "127.0.0.1:1"}, bind=text)


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("best_effort", "best_effort"),
        ("Best-Effort", "best_effort"),
        ("1", "best_effort"),
        ("required", "required"),
        (" STRICT ", "required"),
        ("disabled", "disabled"),
        ("off", "disabled"),
    ],
)
def test_discovery_has_three_modes(value: str, meant: str, load: Callable[..., Settings]):
    assert load({"KHEISH_OPENROUTER_MODEL_DISCOVERY": value}).discovery == meant


def test_two_sources_for_the_master_key_are_one_too_many(load: Callable[..., Settings], tmp_path: Path):
    assert load({KEY: f" {CANARY}\n"}).master_key == Secret(CANARY)
    assert load({KEY_FILE: "key"}).master_key_file == tmp_path / "key"
    with pytest.raises(ConfigError, match=f"{KEY} and {KEY_FILE} are both set"):
        load({KEY: CANARY, KEY_FILE: "key"})


def test_keys_are_held_and_never_shown(load: Callable[..., Settings]):
    environ = {KEY: CANARY, "OPENROUTER_API_KEY": CANARY, "MY_KEY": f"{CANARY}\n"}
    loaded = load({**environ, "OPENROUTER_BASE_URL": f"https://{CANARY}@host"})
    assert loaded.openrouter_api_key == loaded.variable("MY_KEY") == Secret(CANARY)
    assert loaded.variable("ANOTHER_KEY") is None
    assert CANARY not in f"{loaded!r} {loaded}"


@pytest.mark.parametrize("name", ["KHEISH_BIND", "KHEISH_OPENROUTER_MODEL_DISCOVERY"])
def test_a_bad_value_is_named_by_its_variable_and_not_repeated(name: str, load: Callable[..., Settings]):
    with pytest.raises(ConfigError, match=f"^{name} ") as refused:
        load({name: CANARY})
    assert CANARY not in str(refused.value.as_json())


def test_settings_cannot_be_changed(load: Callable[..., Settings]):
    with pytest.raises(dataclasses.FrozenInstanceError):
        load().bind = Address()


def test_other_commands_use_what_serve_was_started_with(load: Callable[..., Settings], tmp_path: Path):
    record_serve(load(transport="http", routes_file="routes.toml", workspace_root="work"))
    found = load()
    assert (found.routes_file, found.workspace_root) == (tmp_path / "routes.toml", tmp_path / "work")
    named = load({"KHEISH_ROUTES_FILE": "by-variable"}, workspace_root="by-option")
    assert (named.routes_file, named.workspace_root) == (tmp_path / "by-variable", tmp_path / "by-option")


@pytest.mark.parametrize("transport", ["http", "stdio"])
def test_serve_does_not_read_its_own_record(transport: str, load: Callable[..., Settings]):
    record_serve(load(transport="http", routes_file="routes.toml", workspace_root="work"))
    again = load(transport=transport)
    assert (again.routes_file, again.workspace_root) == (None, None)
    record_serve(again)
    assert load().routes_file is None


def test_the_record_is_private_whole_and_alone(load: Callable[..., Settings], tmp_path: Path):
    for name in ("one.toml", "two.toml"):
        record_serve(load(transport="http", routes_file=name))
    record = tmp_path / "state" / RECORD
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert stat.S_IMODE(record.parent.stat().st_mode) == 0o700
    assert {path.name for path in record.parent.iterdir()} == {RECORD, MARK}
    assert load().routes_file == tmp_path / "two.toml"


def test_a_path_of_any_bytes_is_recorded(load: Callable[..., Settings], tmp_path: Path):
    name = os.fsdecode(b"r\xc3\xb6utes\xff.toml")
    record_serve(load(transport="http", routes_file=name))
    assert load().routes_file == tmp_path / name


@pytest.mark.parametrize(
    "left", [b"", b"{", b"[]", b"null", b'{"routes_file": 5}', b'{"routes_file": ""}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_record_that_is_none_names_nothing(left: bytes, load: Callable[..., Settings], tmp_path: Path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / RECORD).write_bytes(left)
    assert load() == Settings(tmp_path / "state")


def test_a_record_that_is_no_plain_file_holds_up_nothing(load: Callable[..., Settings], tmp_path: Path):
    (tmp_path / "theirs").write_text(json.dumps({"routes_file": "/theirs/routes.toml"}), encoding="utf-8")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / RECORD).symlink_to(tmp_path / "theirs")
    assert load().routes_file is None
    (tmp_path / "state" / RECORD).unlink()
    os.mkfifo(tmp_path / "state" / RECORD)
    assert load().routes_file is None


def test_a_state_root_that_cannot_be_written_is_refused(load: Callable[..., Settings], tmp_path: Path):
    (tmp_path / "state").write_bytes(b"")
    with pytest.raises(ConfigError, match="state root cannot be written"):
        record_serve(load(transport="http"))
    (tmp_path / "other" / RECORD).mkdir(parents=True)
    with pytest.raises(ConfigError, match="state root cannot be written"):
        record_serve(load(transport="http", state_root="other"))
    assert {path.name for path in (tmp_path / "other").iterdir()} == {RECORD, MARK}


def test_a_state_root_that_serve_made_here_is_found(tmp_path: Path):
    record_serve(Settings.load({}, cwd=tmp_path, state_root=HERE, routes_file="routes.toml", transport="http"))
    elsewhere = platformdirs.user_data_path("kheish-mcp", appauthor=False)
    found = Settings.load({}, cwd=tmp_path)
    assert (found.state_root, found.routes_file) == (tmp_path / HERE, tmp_path / "routes.toml")
    assert Settings.load({}, cwd=tmp_path, transport="http").state_root == tmp_path / HERE
    assert Settings.load({}, cwd=tmp_path, transport="stdio").state_root == elsewhere
    assert Settings.load({"KHEISH_STATE_ROOT": "state"}, cwd=tmp_path).state_root == tmp_path / "state"


def _copied(made: Path, place: Path) -> None:
    (place / HERE).mkdir()
    (place / HERE / RECORD).write_bytes((made / RECORD).read_bytes())


def _whole(made: Path, place: Path) -> None:
    shutil.copytree(made, place / HERE)


def _guessed(made: Path, place: Path) -> None:
    (place / HERE).mkdir()
    (place / HERE / MARK).touch()
    numbers = [(place / HERE).stat().st_ino, (place / HERE / MARK).stat().st_ino]
    guesses = {"folder": str(numbers[0]), "mark": f"{numbers[1]}-{time.time_ns()}"}
    (place / HERE / RECORD).write_text(json.dumps(guesses), encoding="utf-8")


def _linked(made: Path, place: Path) -> None:
    (place / HERE).mkdir()
    (place / HERE / RECORD).symlink_to(made / RECORD)


def _empty(made: Path, place: Path) -> None:
    (place / HERE).mkdir()


def _unmarked(made: Path, place: Path) -> None:
    (place / HERE).mkdir()
    (place / HERE / RECORD).write_text(json.dumps({"routes_file": "/theirs/routes.toml"}), encoding="utf-8")


def _a_pipe(made: Path, place: Path) -> None:
    (place / HERE).mkdir()
    os.mkfifo(place / HERE / RECORD)


@pytest.mark.parametrize("come_along", [_copied, _whole, _guessed, _linked, _empty, _unmarked, _a_pipe])
def test_a_folder_that_came_with_a_repository_is_not_taken(come_along: Callable[[Path, Path], None], tmp_path: Path):
    record_serve(Settings(tmp_path / "made"))
    place = tmp_path / "repository"
    place.mkdir()
    come_along(tmp_path / "made", place)
    assert Settings.load({}, cwd=place).state_root == platformdirs.user_data_path("kheish-mcp", appauthor=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_user_s_folder_is_not_taken(tmp_path: Path):
    record_serve(Settings(tmp_path / HERE))
    assert Settings.load({}, cwd=tmp_path).state_root == tmp_path / HERE
    os.chown(tmp_path / HERE / RECORD, 12345, 12345)
    assert Settings.load({}, cwd=tmp_path).state_root != tmp_path / HERE


def test_the_default_is_the_platform_s_folder_and_never_the_current_one(tmp_path: Path):
    assert _default(tmp_path, XDG_DATA_HOME=str(tmp_path / "xdg")) == (0, str(tmp_path / "xdg" / "kheish-mcp"))
    assert _default(Path("/"), HOME="/nowhere") == (0, "/nowhere/.local/share/kheish-mcp")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without a home folder")
def test_without_a_home_folder_a_state_root_has_to_be_named(tmp_path: Path):
    nobody = "import os, platformdirs; platformdirs.user_data_path('x'); os.environ.pop('HOME'); os.setuid(54321)\n"
    refused = (1, "There is no home folder for the state root.")
    assert _default(tmp_path, nobody, HOME=str(tmp_path)) == refused


def _default(cwd: Path, before: str = "", **environ: str) -> tuple[int, str]:
    """The exit code and the line of a program that prints the state root it gets by default."""
    program = (
        "import sys; from pathlib import Path; from kheish_mcp.settings import *\n"
        f"{before}"
        "try: print(Settings.load(environment(), cwd=Path('/')).state_root)\n"
        "except ConfigError as error: print(error.message); sys.exit(1)"
    )
    package = str(Path(__file__).resolve().parent.parent)
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, env={"PYTHONPATH": package, **environ}, capture_output=True, text=True
    )
    return ran.returncode, ran.stdout.strip()


def test_the_environment_is_a_copy():
    given = dict(environment())
    assert given == dict(os.environ)
    given["KHEISH_BIND"] = "changed"
    assert os.environ.get("KHEISH_BIND") != "changed"


def test_reading_settings_loads_nothing_heavy():
    heavy = {"platformdirs", "tempfile", "pydantic", "typer", "mcp", "httpx2", "cryptography", "socket"}
    program = "import sys, kheish_mcp.settings; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not heavy & set(ran.stdout.split())


def test_an_asset_may_be_smaller_than_it_may_be(load: Callable[..., Settings]):
    assert (load({}).max_asset_bytes, load({}).max_pixels) == (64 << 20, 100_000_000)
    less = load({"KHEISH_MAX_ASSET_BYTES": "1048576", "KHEISH_MAX_PIXELS": "1000000"})
    assert (less.max_asset_bytes, less.max_pixels) == (1 << 20, 1_000_000)
    for value in ("0", "-1", "67108865", "1e6", "many", "9" * 5000, "²"):
        with pytest.raises(ConfigError, match="KHEISH_MAX_ASSET_BYTES") as refused:
            load({"KHEISH_MAX_ASSET_BYTES": value})
        assert value not in str(refused.value) or value in "01"


def test_every_refusal_has_a_next_step(load: Callable[..., Settings]):
    bad = [
        {"KHEISH_BIND": "x"},
        {"KHEISH_OPENROUTER_MODEL_DISCOVERY": "x"},
        {"KHEISH_MAX_PIXELS": "x"},
        {KEY: "x", KEY_FILE: "x"},
    ]
    for environ in bad:
        with pytest.raises(KheishError) as refused:
            load(environ)
        assert refused.value.hint
