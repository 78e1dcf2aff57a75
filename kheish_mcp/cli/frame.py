"""What all commands share: global options, data on stdout, talk on stderr, exit codes."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ..errors import Code, FailedPrecondition, Json, JsonObject, KheishError, UsageError
from ..settings import Settings, environment

if TYPE_CHECKING:
    import typer

T = TypeVar("T")
EXIT_CODES: Final = {
    Code.INVALID_ARGUMENT: 2,
    Code.FAILED_PRECONDITION: 2,
    Code.UNAVAILABLE: 3,
    Code.PERMISSION_DENIED: 4,
    Code.UNAUTHENTICATED: 4,
    Code.NOT_FOUND: 5,
    Code.ABORTED: 6,
    Code.RESOURCE_EXHAUSTED: 7,
    Code.DEADLINE_EXCEEDED: 7,
    Code.CANCELLED: 7,
    Code.DATA_LOSS: 70,
    Code.INTERNAL: 70,
}
FLAGS: Final = {"--offline": "offline", "--help": "help", "-h": "help"}
VALUED: Final = {"--output": "output", "--state-root": "state_root", "--log-level": "log_level"}
GLOBAL: Final = (*VALUED, *FLAGS)
KEPT: Final = "\n\t"
ALLOWED: Final = {"output": ("pretty", "json"), "log_level": ("debug", "info", "warning", "error")}


@dataclass(frozen=True, slots=True)
class Frame:
    """The global options of one command line; without `output`, a terminal gets pretty text and the rest JSON."""

    output: str | None = None
    state_root: str | None = None
    log_level: str | None = None
    offline: bool = False
    help: bool = False

    def check(self) -> None:
        """UsageError where an option has a value that it does not take."""
        for option, name in VALUED.items():
            value, allowed = getattr(self, name), ALLOWED.get(name)
            if allowed and value is not None and value not in allowed:
                raise UsageError(f"{option} does not take this value", hint=f"One of: {', '.join(allowed)}.")

    @property
    def as_json(self) -> bool:
        """Whether data goes out as JSON."""
        return not sys.stdout.isatty() if self.output is None else self.output == "json"

    def check_online(self, what: str) -> None:
        """FailedPrecondition for what cannot be done with --offline."""
        if self.offline:
            raise FailedPrecondition(f"{what} uses the network, and --offline forbids it", hint="Leave --offline out.")

    def settings(self, **options: Any) -> Settings:
        """The settings of this command line."""
        return Settings.load(
            environment(), cwd=Path.cwd(), state_root=self.state_root, log_level=self.log_level, **options
        )

    def give(self, data: Json, pretty: str) -> None:
        """Prints data: as JSON, or as the text for people."""
        print(written(data) if self.as_json else printable(pretty))


def printable(text: str) -> str:
    """The text without what a terminal would obey: a model, a provider or a stranger may have written it."""
    return "".join(each for each in text if each in KEPT or unicodedata.category(each)[0] != "C")


def written(data: Json) -> str:
    """JSON on one line; what a terminal would obey, or could not write, stands in it as an escape."""
    text = json.dumps(data, ensure_ascii=False)
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def hoisted(arguments: Iterable[str]) -> tuple[Frame, list[str]]:
    """The global options, wherever they stand, and the rest; `--` and what follows it are left alone."""
    found, rest, pending = dict[str, Any](), list[str](), iter(arguments)
    for word in pending:
        option, equals, value = word.partition("=")
        if word == "--":
            rest += [word, *pending]
        elif word in FLAGS:
            found[FLAGS[word]] = True
        elif option in VALUED:
            given = value if equals else next(pending, None)
            if given is None:
                raise UsageError(f"{option} needs a value", hint="kheish-daemon --help")
            found[VALUED[option]] = given
        else:
            rest.append(word)
    return Frame(**found), rest


def awaited(work: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """What `work` gives, run to its end; a refusal comes out as itself, whatever task groups it has come through."""
    import anyio

    try:
        return anyio.run(work, *arguments)
    except BaseExceptionGroup as group:
        refusals, others = group.split(KheishError)
        if others is not None or refusals is None:
            raise
        first: BaseException = refusals
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


def command_group(caption: str | None) -> typer.Typer:
    """An app for one file of commands; tracebacks and their variables never reach a terminal."""
    import typer

    return typer.Typer(
        help=caption,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
    )


def tell(error: KheishError, frame: Frame) -> int:
    """Puts a failure on stderr, for people in two lines, for programs as one JSON object; gives the exit code."""
    if frame.output == "json":
        shown: JsonObject = {"code": error.code.value, "message": error.message, "hint": error.hint}
        print(written({"error": shown}), file=sys.stderr)
    else:
        print(f"error: {printable(error.message)}", file=sys.stderr)
        if error.hint:
            print(f"hint: {printable(error.hint)}", file=sys.stderr)
    return EXIT_CODES[error.code]


def table(rows: Sequence[Sequence[object]]) -> str:
    """Rows in columns."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in texts)
    return "\n".join(line.rstrip() for line in lines)
