"""Bearer tokens for HTTP clients."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import anyio
import typer

from ..errors import Json
from ..principals import Scope
from ..stores.database import Database
from ..stores.tokens import Token, TokenStore
from .frame import Frame, command_group, table
from .moments import from_now, told

app = command_group(__doc__)

T = TypeVar("T")
Name = Annotated[str, typer.Argument(help="What to know it by, such as laptop.")]


@app.command()
def create(
    ctx: typer.Context,
    name: Name,
    scope: Annotated[
        Scope,
        typer.Option(help="read lists and reads, generate also calls tools, admin also sees runtime and workspace."),
    ] = "generate",
    expires: Annotated[
        str | None, typer.Option(help="A date (2027-01-31, UTC) or a stretch of time (12h, 30d).")
    ] = None,
) -> None:
    """Make a token, and show it this once; what it makes belongs to it alone."""
    until = None if expires is None else from_now(expires, "--expires")
    token, secret = _with_store(ctx, lambda store: store.create(name, scope, until))
    shown: Json = {"name": name, "token": secret.reveal(), "scope": token.scope, "expires_at": told(until)}
    ctx.obj.give(shown, secret.reveal())
    print("Keep it now: only its digest is stored. Clients send it as `Authorization: Bearer TOKEN`.", file=sys.stderr)


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the tokens by name, without what would open anything."""
    tokens = _with_store(ctx, lambda store: store.list())
    rows = [(token.name, token.scope, told(token.created_at), _end(token)) for token in tokens]
    pretty = table([("NAME", "SCOPE", "CREATED", "EXPIRES"), *rows]) if rows else "There are no tokens."
    ctx.obj.give([_shown(token) for token in tokens], pretty)


@app.command()
def revoke(ctx: typer.Context, name: Name) -> None:
    """End a token: running daemons refuse it from their next request on."""
    _with_store(ctx, lambda store: store.revoke(name))
    ctx.obj.give({"revoked": True}, f"{name} is revoked.")


def _with_store(ctx: typer.Context, ask: Callable[[TokenStore], Awaitable[T]]) -> T:
    """What the token store of the command line's state root answers."""
    frame: Frame = ctx.obj
    root = frame.settings().state_root

    async def main() -> T:
        async with Database.open(root) as database:
            return await ask(TokenStore(database))

    return anyio.run(main)


def _shown(token: Token) -> dict[str, Json]:
    return {
        "name": token.name,
        "scope": token.scope,
        "created_at": told(token.created_at),
        "expires_at": told(token.expires_at),
        "expired": token.is_over,
    }


def _end(token: Token) -> str:
    return f"{told(token.expires_at) or 'never'}{' (over)' if token.is_over else ''}"
