"""Named conversations, and the route that answers in each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar

import anyio
import typer

from ..errors import Json, JsonObject, UsageError
from ..runtime import chosen_text
from ..selectors import OPEN, Selector
from ..stores.database import Database
from ..stores.policy import Policy
from ..stores.sessions import SessionStore, session_name
from .frame import Frame, command_group, table
from .moments import told
from .runtime import opened

app = command_group(__doc__)

T = TypeVar("T")
OWNER = "local"  # the same as a client on stdio
Id = Annotated[str, typer.Argument(help="The session's name.")]


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the sessions, the one last used first."""
    frame: Frame = ctx.obj
    found = _in_store(frame, lambda store: store.overview(OWNER))
    rows = [(row["session"], row["inputs"], row["outputs"], told(row["updated_at"])) for row in found]
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
