"""`runtime` and `sessions set-route` as a person or a script runs them, and as a running daemon sees them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import mcp_types as t
import pytest

from kheish_mcp.cli import run
from kheish_mcp.stores.database import Database
from kheish_mcp.stores.sessions import SessionStore
from tests.conftest import CANARY, environment, kheish
from tests.hosts import ERAS, client_of, daemon_of

pytestmark = pytest.mark.anyio

FILE = """
version = 1
default_route = "openrouter"

[routes.openrouter]
driver = "openrouter"
default_model = "openai/gpt-5.4-mini"
api_key_env = "PROVIDER_KEY"
base_url = "http://127.0.0.1:9/api/v1"

[routes.bare]
driver = "openrouter"
default_model = "vendor/model"
auth_ref = "nobody.set"
"""
PAGE = {"multimodal_input": True, "native_web_search": False, "image_generation": True, "image_edit": True}


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs command lines on one state root with one routes file, and reads what they print."""

    state_root: Path
    capfd: pytest.CaptureFixture[str]

    def run(self, *arguments: str, output: str = "json") -> tuple[int, str, str]:
        """The exit code, what went out as data, and what was said."""
        code = run([*arguments, "--state-root", str(self.state_root), "--output", output])
        return code, *self.capfd.readouterr()

    def data(self, *arguments: str) -> Any:
        """The JSON that a command prints."""
        found, out, err = self.run(*arguments)
        assert (found, err) == (0, "")
        return json.loads(out)

    def refusal(self, *arguments: str) -> tuple[int, Any]:
        """The exit code of a command that has to fail, and the error that it prints."""
        found, out, err = self.run(*arguments)
        assert out == ""
        return found, json.loads(err)["error"]


@pytest.fixture
def routes_file(tmp_path: Path) -> Path:
    """A route that has its key, and one whose slot is missing."""
    path = tmp_path / "routes.toml"
    path.write_text(FILE)
    return path


@pytest.fixture
def shell(
    state_root: Path, routes_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Shell:
    """Command lines with that file and a key."""
    monkeypatch.setenv("KHEISH_ROUTES_FILE", str(routes_file))
    monkeypatch.setenv("PROVIDER_KEY", CANARY)
    return Shell(state_root, capfd)


def models(view: Any) -> dict[str, str]:
    """Each route's text model."""
    return {route["route_id"]: route["model"] for route in view["routes"]}


def test_the_runtime_is_shown_without_serving_and_without_a_secret(shell: Shell):
    view = shell.data("runtime", "get")
    assert (view["revision"], view["default_route"]) == (0, "openrouter")
    ready, bare = view["routes"]
    assert (ready["state"], bare["state"]) == ("ok", "error")
    assert ready["capabilities"].items() >= {"matrix_version": 2, **PAGE}.items()
    assert "nobody.set" in bare["reasons"][0]
    assert bare["auth_ref"] == "nobody.set"
    assert {tool["name"] for tool in view["tools"] if tool["listed"]} >= {"generate_audio", "emit_output"}


def test_people_read_it_in_columns_with_the_reasons(shell: Shell):
    code, out, _ = shell.run("runtime", "get", output="pretty")
    assert code == 0
    assert "revision 0, default route openrouter" in out
    assert "openai/gpt-5.4-mini" in out
    assert "  bare: " in out
    assert "native_web_search  no" in out


def test_set_model_takes_a_selector_and_is_there_for_the_next_command(shell: Shell):
    chosen = shell.data("runtime", "set-model", "openrouter/anthropic/claude-sonnet-4")
    assert chosen == {
        "revision": 1, "default_route": "openrouter", "route_id": "openrouter", "model": "anthropic/claude-sonnet-4",
    }  # fmt: skip
    assert shell.data("runtime", "set-model", "google/gemini-2.5-pro")["route_id"] == "openrouter"
    view = shell.data("runtime", "get")
    assert view["revision"] == 2
    assert models(view) == {"openrouter": "google/gemini-2.5-pro", "bare": "vendor/model"}
    shell.data("runtime", "set-model", "bare/vendor/other", "--expected-revision", "2")
    view = shell.data("runtime", "get")
    assert (view["default_route"], models(view)["bare"]) == ("bare", "vendor/other")


def test_a_stale_revision_is_a_conflict(shell: Shell):
    shell.data("runtime", "set-model", "openrouter/a/b", "--expected-revision", "0")
    code, error = shell.refusal("runtime", "set-model", "openrouter/c/d", "--expected-revision", "0")
    assert (code, error["code"]) == (6, "aborted")
    assert models(shell.data("runtime", "get"))["openrouter"] == "a/b"


@pytest.mark.parametrize("selector", ["openrouter/", "openrouter", "", "x" * 300])
def test_a_selector_that_names_no_model_is_refused(shell: Shell, selector: str):
    code, error = shell.refusal("runtime", "set-model", selector)
    assert (code, error["code"]) == (2, "invalid_argument")
    assert shell.data("runtime", "get")["revision"] == 0


def test_a_routes_file_that_does_not_parse_is_told_and_nothing_can_be_chosen(shell: Shell, routes_file: Path):
    routes_file.write_text("[routes")
    assert "routes.toml:1:" in shell.data("runtime", "get")["error"]
    assert "routes.toml:1:" in shell.run("runtime", "get", output="pretty")[1]
    assert shell.refusal("runtime", "set-model", "a/b")[0] == 2


def test_a_session_s_own_route_is_set_and_taken_back(shell: Shell):
    assert shell.data("sessions", "set-route", "demo", "bare/vendor/other") == {
        "session": "demo", "route_id": "bare", "model": "vendor/other",
    }  # fmt: skip
    assert shell.data("sessions", "set-route", "demo", "--clear") == {
        "session": "demo",
        "route_id": None,
        "model": None,
    }
    assert "no choice of its own" in shell.run("sessions", "set-route", "demo", "--clear", output="pretty")[1]


@pytest.mark.parametrize(
    "arguments", [["demo"], ["demo", "openrouter/a/b", "--clear"], ["no/name", "a/b"], ["demo", "openrouter/"]]
)
def test_a_session_s_route_is_one_selector_or_none(shell: Shell, arguments: Sequence[str]):
    assert shell.refusal("sessions", "set-route", *arguments)[0] == 2


@pytest.mark.parametrize("mode", ERAS)
async def test_a_running_daemon_sees_what_another_process_chose(mode: str, state_root: Path, routes_file: Path):
    env = environment(state_root, KHEISH_ROUTES_FILE=str(routes_file), PROVIDER_KEY=CANARY)
    async with daemon_of(env) as daemon, client_of(daemon, mode) as client:
        done = kheish("runtime", "set-model", "openrouter/openai/gpt-5.4", env=env)
        assert done.returncode == 0, done.stderr
        [contents] = (await client.read_resource("kheish://runtime")).contents
        assert isinstance(contents, t.TextResourceContents)
        view = json.loads(contents.text)
    assert view["revision"] == 1
    assert models(view)["openrouter"] == "openai/gpt-5.4"


def test_sessions_are_listed_and_shown(shell: Shell):
    async def main() -> None:
        async with Database.open(shell.state_root) as database:
            store = SessionStore(database)
            async with store.turn("demo", "local") as run:
                await run.write("input", {"text": "Draw.", "attachments": ["asset-x"]})
                await run.write("answer", {"text": ""})
                await run.write("tool", {"name": "generate_image", "is_error": False})
                await store.publish("demo", "local", "A pier.", [], [])
            store.close()

    assert shell.data("sessions", "list") == []
    assert shell.refusal("sessions", "get", "demo")[0] == 5
    anyio.run(main)
    [row] = shell.data("sessions", "list")
    assert (row["session"], row["inputs"], row["outputs"]) == ("demo", 1, 1)
    assert "demo     1       1" in shell.run("sessions", "list", output="pretty")[1]
    shown = shell.data("sessions", "get", "demo")
    assert [entry["kind"] for entry in shown["entries"]] == ["input", "answer", "tool", "output"]
    said = shell.run("sessions", "get", "demo", output="pretty")[1]
    assert said == "> Draw. [asset-x]\n(calls tools)\n  generate_image: done\n* A pier.\n"
