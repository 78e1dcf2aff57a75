"""Named conversations, and the route that answers in each."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar

import anyio
import typer

from ..errors import FailedPrecondition, Json, JsonObject, ResourceExhausted, UsageError
from ..runtime import chosen_text
from ..selectors import OPEN, Selector
from ..settings import environment
from ..stores.database import Database
from ..stores.policy import Policy
from ..stores.sessions import SessionStore, session_name
from .frame import Frame, awaited, command_group, printable, table
from .runtime import opened

app = command_group(__doc__)

T = TypeVar("T")
LONGEST_TEXT: Final = 1_000_000
SHOWN: Final = ("session", "text", "outputs", "route_id", "model", "usage", "cost_usd")
ONLINE: Final = "Leave --offline out."
OWNER = "local"  # the same as a client on stdio
Id = Annotated[str, typer.Argument(help="The session's name.")]


@app.command("input")
def input_(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    session: Id,
    text: Annotated[str | None, typer.Argument(help="What to ask.")] = None,
    provider: Annotated[str | None, typer.Option(help="The route that answers.")] = None,
    model: Annotated[str | None, typer.Option(help="A model, or ROUTE/MODEL.")] = None,
    attach: Annotated[
        list[str] | None, typer.Option("--file", "--asset", help="A file, or an asset's id; as often as needed.")
    ] = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="Read the text, or more of it, from standard input.")] = False,
    no_tools: Annotated[bool, typer.Option("--no-tools", help="One plain answer, without the daemon's tools.")] = False,
) -> None:
    """Ask a text model, which goes on where the session was and may use the daemon's own tools."""
    frame: Frame = ctx.obj
    if frame.offline:
        raise FailedPrecondition("a text model is asked over the network, and --offline forbids that", hint=ONLINE)
    name = session_name(session)
    from .conversing import Asked, conversed
    from .drawing import drawer_of

    asked = Asked(name, _question(text, stdin=stdin), provider, model, tuple(attach or ()), not no_tools)
    drawer = drawer_of(environment()) if sys.stdout.isatty() else None
    result = awaited(conversed, frame.settings(), asked, drawer, frame.as_json)
    _tell_end(result, brief=frame.as_json)
    if frame.as_json:
        frame.give({**{key: result[key] for key in SHOWN}, "artifacts": result["assets"]}, "")


def _question(text: str | None, *, stdin: bool) -> str:
    """The text and what comes on standard input, in this order; refuses where there is neither, and where it is too long."""
    piped = sys.stdin.buffer.read(LONGEST_TEXT + 1).decode(errors="replace") if stdin else ""
    question = "\n\n".join(each.strip() for each in (text or "", piped) if each.strip())
    if not question:
        raise UsageError("there is no text to answer", hint="kheish-daemon sessions input ID TEXT, or --stdin.")
    if len(question) > LONGEST_TEXT:
        raise ResourceExhausted(f"at most {LONGEST_TEXT:,} characters can be asked", hint="Attach it with --file.")
    return question.encode(errors="replace").decode()


def _tell_end(result: dict[str, Any], *, brief: bool) -> None:
    """Warnings and, unless `brief`, who answered for how much, on stderr."""
    for warning in result["warnings"]:
        print(f"warning: {printable(warning)}", file=sys.stderr)
    if brief:
        return
    cost = "cost not known" if result["cost_usd"] is None else f"{result['cost_usd']:.6f} USD"
    print(f"({printable(result['model'])} on route {result['route_id']}, {cost})", file=sys.stderr)


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the sessions, the one last used first."""
    frame: Frame = ctx.obj
    found = _in_store(frame, lambda store: store.overview(OWNER))
    rows = [(row["session"], row["inputs"], row["outputs"], row["updated_at"]) for row in found]
    listed: list[Json] = [*found]
    frame.give(
        listed, table([("SESSION", "INPUTS", "OUTPUTS", "LAST USED"), *rows]) if rows else "There are no sessions."
    )


@app.command()
def get(ctx: typer.Context, session: Id) -> None:
    """Show what was said and published in a session, in order."""
    frame: Frame = ctx.obj
    shown = _in_store(frame, lambda store: store.read(session_name(session), OWNER))
    frame.give(shown, _journal(shown))


@app.command("set-route")
def set_route(
    ctx: typer.Context,
    session: Id,
    selector: Annotated[str | None, typer.Argument(help="ROUTE/MODEL, or a model for the default route.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take the session's own choice back.")] = False,
) -> None:
    """Choose the text model that answers in one session where a call names none."""
    frame: Frame = ctx.obj
    name = session_name(session)
    if clear == (selector is not None):
        raise UsageError(
            "a selector or --clear is needed, and not both", hint="kheish-daemon sessions set-route --help"
        )

    async def main() -> Selector:
        async with opened(frame.settings()) as (inventory, database):
            policy = Policy(database)
            chosen = OPEN
            if selector is not None:
                chosen = Selector(*chosen_text(inventory.routes, selector, (await policy.choice()).selector))
            await policy.choose_for_session(name, OWNER, chosen)
            return chosen

    chosen = anyio.run(main)
    shown: JsonObject = {"session": name, "route_id": chosen.route_id, "model": chosen.model}
    now = f"{chosen.model} on route {chosen.route_id} answers" if selector else "no choice of its own holds"
    frame.give(shown, f"In session {name} {now} now.")


def _journal(shown: dict[str, Any]) -> str:
    """A session as a person reads it: who said what, what was done, what was published."""
    return "\n".join(LINES[entry["kind"]](entry) for entry in shown["entries"])


LINES: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    "input": lambda entry: "> " + " ".join([entry["text"], *(f"[{asset}]" for asset in entry["attachments"])]),
    "answer": lambda entry: entry["text"] or "(calls tools)",
    "tool": lambda entry: f"  {entry['name']}: {'refused' if entry['is_error'] else 'done'}",
    "output": lambda entry: f"* {entry['content']}",
}


def _in_store(frame: Frame, work: Callable[[SessionStore], Awaitable[T]]) -> T:
    """What `work` gives with the store of this command line's state root, beside whatever daemons run on it."""

    async def main() -> T:
        async with Database.open(frame.settings().state_root) as database:
            return await work(SessionStore(database))

    return anyio.run(main)
