"""The commands, one file a group; only the group that is called is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, get_args

from .. import __version__
from ..errors import KheishError, UsageError
from ..secret import scrub_all
from .frame import GLOBAL, Frame, hoisted, printable, tell

COMMANDS: Final = {
    "demo": "The main job end to end, with no key and no network.",
    "serve": "Serve MCP clients over stdio or HTTP.",
    "secrets": "The sealed store of provider keys: generate, init, set, list, get, delete, check, login, rekey.",
    "runtime": "The routes and what they offer; the text model that answers where none is named.",
    "sessions": "Named conversations: input, list, get, set-route.",
    "assets": "The kept files: list, get, import, export, delete, gc, verify.",
    "costs": "What was spent, by route, model, tool or day.",
    "doctor": "What works, what does not, why, and the command that fixes it.",
    "clients": "The configurations of MCP hosts: list, show, install.",
    "tokens": "Bearer tokens for HTTP clients: create, list, revoke.",
}
OVERVIEW: Final = """Usage: kheish-daemon COMMAND ...

Pictures, speech and transcripts for any MCP client.

{commands}

Before or after any command: --output pretty|json, --state-root PATH, --log-level LEVEL, --offline, --help."""
INTERRUPTED, PIPE_CLOSED = 130, 141  # as a shell says it: 128 and the signal's number


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and gives its exit code; a failure is told on stderr, never as a traceback for a mistake."""
    frame = Frame()
    try:
        frame, rest = hoisted(arguments)
        frame.check()
        code = _dispatch(rest, frame)
        sys.stdout.flush()
    except KheishError as error:
        return tell(error, frame)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _abandon_stdout()
        return PIPE_CLOSED
    except Exception:
        _abandon_stdout()
        if frame.log_level == "debug":
            import traceback

            print(printable(scrub_all(traceback.format_exc())), end="", file=sys.stderr)
        hint = "Run it again with --log-level debug, and report what it prints."
        return tell(KheishError("internal error", hint=hint), frame)
    return code


def _dispatch(rest: Sequence[str], frame: Frame) -> int:
    if rest and rest[0] == "--version":
        print(__version__)
        return 0
    if not rest and frame.help:
        print(OVERVIEW.format(commands="\n".join(f"  {name:<9}{told}" for name, told in COMMANDS.items())))
        return 0
    name, path = _named(rest, COMMANDS, "kheish-daemon"), ["kheish-daemon", *rest[:1]]
    command, rest = _opened(name), rest[1:]
    if getattr(command, "commands", None) and (rest or not frame.help):
        inner = _named(rest, command.commands, " ".join(path))
        command, path, rest = command.commands[inner], [*path, inner], rest[1:]
    return _invoke(command, path, rest, frame)


def _named(rest: Sequence[str], names: Iterable[str], path: str) -> str:
    """The command that comes first; it is not quoted where it is unknown, since a key may have come there."""
    if rest and rest[0] in names:
        return rest[0]
    what = "no command is named" if not rest else "there is no such command"
    raise UsageError(what, hint=f"{_near(rest[:1], names)}{path} has: {', '.join(names)}.")


def _near(given: Sequence[str], names: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = [name for token in given for name in get_close_matches(token.split("=")[0], names, 1)]
    return f"Did you mean {near[0]}? " if near else ""


def _opened(name: str) -> Any:
    """The typer command of a group. Its --help is ours: typer's own loads pydantic (60 ms) for every command."""
    from typer.main import get_command

    opened = get_command(import_module(f".{name}", __name__).app)
    for command in (opened, *getattr(opened, "commands", {}).values()):
        command.add_help_option = False
    return opened


def _invoke(command: Any, path: Sequence[str], rest: Sequence[str], frame: Frame) -> int:
    import typer
    from typer.exceptions import TyperException

    name = " ".join(path)
    if frame.help:
        print(command.get_help(typer.Context(command, info_name=name)))
        return 0
    try:
        done = command.main(args=list(rest), prog_name=name, standalone_mode=False, obj=frame)
    except typer.Abort:
        raise UsageError("the input ended before an answer came", hint=f"{name} --help") from None
    except TyperException as error:
        raise _mistake(error, command, name) from None
    return done if isinstance(done, int) else 0


def _mistake(error: Any, command: Any, path: str) -> UsageError:
    """The refusal for a command line that typer does not take, without typer's words: they quote, and it may be a key."""
    known = [*(option for parameter in command.params for option in parameter.opts), *GLOBAL]
    help_hint = f"{path} --help"
    option, parameter = getattr(error, "option_name", None), getattr(error, "param", None)
    if option is not None and option not in known:
        return UsageError("there is no such option", hint=f"{_near([option], known)}{help_hint}")
    if option is not None:
        return UsageError(f"{option} lacks a value, or has one that it does not take", hint=help_hint)
    if parameter is not None:
        what = "is missing" if hasattr(error, "param_type") else "does not take this value"
        choices = [each for each in get_args(parameter.type_descriptor.annotation) if isinstance(each, str)]
        hint = f"One of: {', '.join(choices)}." if choices and what != "is missing" else help_hint
        return UsageError(f"{parameter.opts[0]} {what}", hint=hint)
    return UsageError("there are more arguments than the command takes", hint=help_hint)


def _abandon_stdout() -> None:
    """What stdout has not taken by now is dropped, so that Python does not try again, and complain, on its way out."""
    with suppress(OSError):
        sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
