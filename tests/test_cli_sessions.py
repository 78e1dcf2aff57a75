"""`sessions input` as a person or a script runs it, against the provider's stand-in."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from kheish_mcp.cli import run
from kheish_mcp.cli.conversing import Asked, conversed
from kheish_mcp.cli.drawing import CHUNK, ITERM, KITTY, SIXEL, drawer_of, iterm, kitty
from kheish_mcp.cli.frame import awaited, printable
from kheish_mcp.secret import Secret
from kheish_mcp.settings import Settings
from tests.conftest import CANARY, environment, kheish
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import faults, stream_faults, synthetic, wire_faults
from tests.emulators.provider.chat import Call, Turn
from tests.pdfs import pdf

DEADLINE_S = 30
SAYS = "This is what the stand-in always says."
KEYS = {"session", "text", "outputs", "artifacts", "route_id", "model", "usage", "cost_usd"}
TEXT, SEES = "openai/gpt-5.4-mini", "google/gemini-2.5-flash"


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs command lines on one state root, and reads what they print."""

    state_root: Path
    capfd: pytest.CaptureFixture[str]

    def run(self, *arguments: str, output: str = "json") -> tuple[int, str, str]:
        """The exit code, what went out as data, and what was said."""
        code = run([*arguments, "--state-root", str(self.state_root), "--output", output])
        return code, *self.capfd.readouterr()

    def ask(self, *arguments: str) -> Any:
        """What `sessions input demo` prints as JSON."""
        code, out, err = self.run("sessions", "input", "demo", *arguments)
        assert code == 0, err
        return json.loads(out)

    def refusal(self, *arguments: str) -> tuple[int, Any]:
        """The exit code of an input that has to fail, and the error that it prints."""
        code, out, err = self.run("sessions", "input", "demo", *arguments)
        assert out == ""
        return code, json.loads(err)["error"]


@pytest.fixture
def shell(
    state_root: Path,
    emulator: OpenRouterEmulator,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Shell:
    """Command lines whose built-in route openrouter is the stand-in."""
    monkeypatch.setenv("OPENROUTER_API_KEY", CANARY)
    monkeypatch.setenv("OPENROUTER_BASE_URL", emulator.base_url)
    return Shell(state_root, capfd)


def bodies(emulator: OpenRouterEmulator) -> list[Any]:
    """The bodies of all chats, in order."""
    return [seen.body for seen in emulator.requests if seen.path == "/chat/completions"]


def speaks(how: str) -> tuple[Any, ...]:
    """A script that speaks a greeting and publishes it, by parts or inline."""

    def publish(request: Any) -> Turn:
        made = json.loads(request["messages"][-1]["content"])["assets"][0]["asset_id"]
        parts = [{"type": "text", "text": "Listen:"}, {"type": "asset", "asset_id": made}]
        inline = {"content": "Listen:", "artifact_ids": [made], "include_artifacts_inline": True}
        return Turn(calls=(Call("emit_output", {"parts": parts} if how == "parts" else inline),))

    return Turn("One moment.", calls=(Call("generate_audio", {"input": "Hello!", "format": "wav"}),)), publish, "Done."


# Answers


def test_an_answer_is_one_json_object_and_the_session_goes_on(shell: Shell, emulator: OpenRouterEmulator):
    emulator.say("Gdansk.", "Riga.")
    first = shell.ask("Name a port.", "--no-tools")
    assert set(first) == KEYS
    assert (first["session"], first["text"], first["route_id"], first["model"]) == (
        "demo",
        "Gdansk.",
        "openrouter",
        TEXT,
    )
    assert first["cost_usd"] == pytest.approx(emulator.ledger[0].cost)
    assert first["usage"]["total_tokens"] > 0
    assert shell.ask("Another.", "--no-tools")["text"] == "Riga."
    told = [(message["role"], message["content"]) for message in bodies(emulator)[1]["messages"]]
    assert [role for role, _ in told] == ["user", "assistant", "user"]
    assert "tools" not in bodies(emulator)[0]
    code, out, _ = shell.run("sessions", "get", "demo", output="pretty")
    assert (code, out) == (0, "> Name a port.\nGdansk.\n> Another.\nRiga.\n")


def test_the_page_s_own_call_names_a_route_and_a_model(shell: Shell, emulator: OpenRouterEmulator):
    result = shell.ask("--provider", "openrouter", "--model", TEXT, "Summarize the attached files and be concise.")
    assert (result["text"], result["model"]) == (SAYS, TEXT)
    assert bodies(emulator)[0]["model"] == TEXT
    assert "emit_output" in [tool["function"]["name"] for tool in bodies(emulator)[0]["tools"]]


def test_people_see_text_on_stdout_and_the_rest_on_stderr(shell: Shell):
    code, out, err = shell.run("sessions", "input", "demo", "Hello.", output="pretty")
    assert (code, out) == (0, f"{SAYS}\n")
    assert f"({TEXT} on route openrouter, 0.0" in err


def test_text_may_come_from_standard_input(shell: Shell, emulator: OpenRouterEmulator, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a long text\n")))
    assert shell.ask("Summarize:", "--stdin", "--no-tools")["text"] == SAYS
    assert bodies(emulator)[0]["messages"][0]["content"] == "Summarize:\n\na long text"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x" * 1_000_001)))
    assert shell.refusal("--stdin")[1]["code"] == "resource_exhausted"


@pytest.mark.parametrize("how", ["parts", "inline"])
def test_a_spoken_greeting_is_made_published_and_printed(shell: Shell, emulator: OpenRouterEmulator, how: str):
    emulator.say(*speaks(how))
    ask = ("sessions", "input", "demo", "Make a short spoken greeting and publish it")
    code, out, err = shell.run(*ask, output="pretty")
    assert code == 0, err
    moment, listen, artifact, done = out.splitlines()
    assert (moment, listen, done) == ("One moment.", "Listen:", "Done.")
    path = artifact.split("  ")[1]
    with wave.open(path) as sound:
        assert sound.getnframes() > 0
    assert "  generate_audio begins" in err
    assert "  emit_output is done" in err


def test_the_same_greeting_as_json(shell: Shell, emulator: OpenRouterEmulator):
    emulator.say(*speaks("parts"))
    result = shell.ask("Make a short spoken greeting and publish it")
    [artifact] = result["artifacts"]
    assert artifact["media_type"] == "audio/wav"
    assert Path(artifact["path"]).read_bytes()[:4] == b"RIFF"
    assert [part["type"] for part in result["outputs"][0]["parts"]] == ["text", "asset"]
    assert result["outputs"][0]["session"] == "demo"


# Attachments


def test_files_and_assets_reach_the_wire_in_the_order_of_the_command_line(
    shell: Shell, emulator: OpenRouterEmulator, tmp_path: Path
):
    for name, data in (
        ("one.png", synthetic.picture(1, (16, 16), "png")),
        ("two.pdf", pdf("Ports of the Baltic.")),
        ("three.webp", synthetic.picture(3, (16, 16), "webp")),
    ):
        (tmp_path / name).write_bytes(data)
    code, out, err = shell.run("assets", "import", str(tmp_path / "three.webp"))
    assert code == 0, err
    asset_id = json.loads(out)["asset_id"]
    files = ("--file", str(tmp_path / "one.png"), "--asset", asset_id, "--file", str(tmp_path / "two.pdf"))
    shell.ask("What is this?", "--model", SEES, *files)
    content = bodies(emulator)[0]["messages"][-1]["content"]
    shown = [part["image_url"]["url"].split(";")[0] if part["type"] == "image_url" else "text" for part in content]
    assert shown == ["text", "text", "data:image/png", "text", "data:image/webp", "text"]
    assert "Ports of the Baltic." in content[-1]["text"]
    assert asset_id in content[3]["text"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("?", "--file", "nothing.png"), 2),
        (("?", "--asset", "asset-" + "a" * 26), 5),
        (("?", "--provider", "nowhere"), 5),
        (("?", "--provider", "openrouter", "--model", "openrouter/"), 2),
        (("  ",), 2),
        ((), 2),
        (("?", "--offline"), 2),
    ],
)
def test_what_cannot_be_asked_is_refused_before_it_is_sent(
    shell: Shell, emulator: OpenRouterEmulator, arguments: tuple[str, ...], code: int
):
    found, error = shell.refusal(*arguments)
    assert (found, bool(error["hint"])) == (code, True)
    assert emulator.requests == []


def test_a_session_s_name_is_checked(shell: Shell):
    assert shell.run("sessions", "input", "no/name", "Hello.")[0] == 2


# Ends


@pytest.mark.parametrize(
    "fault",
    [faults.status(402), faults.status(429), faults.status(500), faults.error_in_200(502)],
    ids=lambda fault: fault.name,
)
def test_a_provider_s_refusal_is_an_exit_code_and_the_next_input_works(
    shell: Shell, emulator: OpenRouterEmulator, fault: faults.Fault
):
    emulator.always(fault, path="/chat/completions")
    code, error = shell.refusal("Hello?")
    assert code in (3, 7)
    assert error["message"]
    emulator.heal()
    assert shell.ask("Still there?")["text"] == SAYS


@pytest.mark.parametrize("fault", [stream_faults.stream_error(), stream_faults.no_done()], ids=lambda fault: fault.name)
def test_a_stream_that_breaks_off_is_no_answer(shell: Shell, emulator: OpenRouterEmulator, fault: faults.Fault):
    emulator.always(fault, path="/chat/completions")
    code, error = shell.refusal("Hello?", "--no-tools")
    assert (code, error["code"] != "internal") in ((3, True), (7, True))
    emulator.heal()
    assert shell.ask("Still there?", "--no-tools")["text"] == SAYS
    told = [message["content"] for message in bodies(emulator)[-1]["messages"]]
    assert told == ["Hello?", "(The run ended before there was an answer.)", "Still there?"]


def test_tool_arguments_that_are_no_json_go_back_over_the_wire(shell: Shell, emulator: OpenRouterEmulator):
    emulator.say(Turn(calls=(Call("generate_image", '{"prompt": '),)), "Sorry.")
    assert shell.ask("Draw.")["text"] == "Sorry."
    told = bodies(emulator)[1]["messages"][-1]
    assert (told["role"], json.loads(told["content"])["error"]["code"]) == ("tool", "invalid_argument")


def test_an_input_killed_half_way_is_interrupted_and_the_next_one_works(
    shell: Shell, emulator: OpenRouterEmulator, state_root: Path
):
    emulator.fail_next(wire_faults.hang(), path="/chat/completions")
    env = environment(state_root, OPENROUTER_API_KEY=CANARY, OPENROUTER_BASE_URL=emulator.base_url)
    command = [sys.executable, "-m", "kheish_mcp", "sessions", "input", "demo", "Hello?", "--no-tools"]
    with subprocess.Popen(command, env=env) as child:
        emulator.wait_for(lambda: bool(emulator.requests), DEADLINE_S)
        child.kill()
    emulator.release()
    assert shell.ask("Still there?", "--no-tools")["text"] == SAYS
    runs = json.loads(shell.run("sessions", "get", "demo")[1])["runs"]
    assert [run["state"] for run in runs] == ["interrupted", "completed"]
    assert json.loads(shell.run("costs")[1])["unknown_cost_calls"] == 1


def test_a_key_that_is_missing_is_said_so(shell: Shell, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPENROUTER_API_KEY")
    code, error = shell.refusal("Hello?")
    assert (code, error["code"]) == (2, "failed_precondition")


def test_a_reader_that_has_gone_does_not_end_the_run(state_root: Path, emulator: OpenRouterEmulator):
    env = environment(state_root, OPENROUTER_API_KEY=CANARY, OPENROUTER_BASE_URL=emulator.base_url)
    command = [sys.executable, "-m", "kheish_mcp", "sessions", "input", "demo", "Hello?", "--output", "pretty"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.close()
        assert child.wait(DEADLINE_S) in (0, 141)
    [bill] = emulator.ledger
    assert json.loads(kheish("costs", env=env).stdout)["total_usd"] == pytest.approx(bill.cost)


# The terminal


@pytest.mark.parametrize(
    ("variables", "drawer"),
    [
        ({"TERM": "xterm-kitty"}, KITTY),
        ({"KITTY_WINDOW_ID": "1", "TERM": "xterm-256color"}, KITTY),
        ({"TERM_PROGRAM": "ghostty"}, KITTY),
        ({"TERM_PROGRAM": "iTerm.app"}, ITERM),
        ({"TERM_PROGRAM": "WezTerm"}, ITERM),
        ({"TERM": "foot"}, SIXEL),
        ({"TERM_PROGRAM": "mintty", "TERM": "xterm"}, SIXEL),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM_PROGRAM": "iTerm.app", "TMUX": "/tmp/tmux-0/default,1,0"}, None),
        ({"TERM": "screen-256color", "KITTY_WINDOW_ID": "1"}, None),
        ({}, None),
    ],
)
def test_a_terminal_that_draws_is_known_by_its_environment(variables: dict[str, str], drawer: Any):
    assert drawer_of(variables) is drawer


@pytest.mark.parametrize("size", [1, 3 * CHUNK // 4, 3 * CHUNK // 4 + 1, 20_000])
def test_a_picture_arrives_whole_in_pieces_that_kitty_takes(size: int):
    drawn = kitty(b"x" * size)
    pieces = [piece.split("\x1b\\")[0].split(";") for piece in drawn.split("\x1b_G")[1:]]
    assert base64.b64decode("".join(data for _, data in pieces)) == b"x" * size
    assert all(len(data) <= CHUNK for _, data in pieces)
    assert [head[-1] for head, _ in pieces] == ["1"] * (len(pieces) - 1) + ["0"]
    assert "a=T,f=100" in pieces[0][0]


def test_iterm_gets_it_in_one():
    assert base64.b64decode(iterm(b"png").split(":")[1].removesuffix("\x07")) == b"png"


def test_what_a_model_says_does_not_steer_the_terminal(shell: Shell, emulator: OpenRouterEmulator):
    assert printable("a\x1b[31mb\tc\nd\x07\u202ee") == "a[31mb\tc\nde"
    emulator.say("\x1b]0;owned\x07 Hello.")
    assert "\x1b" not in shell.run("sessions", "input", "demo", "Hello.", output="pretty")[1]


def test_what_a_session_has_kept_does_not_steer_it_either(shell: Shell, emulator: OpenRouterEmulator):
    steering = "\x1b]0;owned\x07 \x9b2J \u202e"
    emulator.say(Turn(calls=(Call("emit_output", {"content": steering}),)), steering)
    shell.ask("Hello.")
    pretty, program = (shell.run("sessions", "get", "demo", output=output)[1] for output in ("pretty", "json"))
    assert pretty.count("]0;owned") == 2
    assert not {"\x1b", "\x9b", "\x07", "\u202e"} & {*pretty, *program}
    assert json.loads(program)["entries"][-1]["text"] == steering


def test_a_published_picture_is_drawn_where_the_terminal_can(
    state_root: Path, emulator: OpenRouterEmulator, capfd: pytest.CaptureFixture[str]
):
    def publish(request: Any) -> Turn:
        made = json.loads(request["messages"][-1]["content"])["assets"][0]["asset_id"]
        return Turn(calls=(Call("emit_output", {"artifact_ids": [made]}),))

    emulator.say(Turn(calls=(Call("generate_image", {"prompt": "a pier"}),)), publish, "Done.")
    settings = Settings(
        state_root,
        openrouter_api_key=Secret(CANARY),
        openrouter_base_url=emulator.base_url,
        _variables={"OPENROUTER_API_KEY": CANARY},
    )
    asked = Asked("demo", "Draw a pier.", None, None, (), True)
    awaited(conversed, settings, asked, ITERM, False)
    out = capfd.readouterr().out
    png = base64.b64decode(out.split("preserveAspectRatio=1:")[1].split("\x07")[0])
    with Image.open(io.BytesIO(png)) as picture:
        assert (picture.format, picture.width) == ("PNG", 640)
