"""The sealed store of provider keys."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ..errors import InvalidArgument, Json, NotFound, UsageError
from ..secret import Secret
from ..settings import environment
from ..stores.auth import LONGEST, PROVIDERS, AuthStore, Slot, check_name
from ..stores.envelope import MasterKey
from .frame import Frame, command_group, table

if TYPE_CHECKING:
    from ..capabilities import KeyStanding

app = command_group(__doc__)

ENOUGH: Final = LONGEST + 16
Ref = Annotated[str, typer.Argument(help="The slot's name, such as openrouter.primary.")]


@app.command()
def generate() -> None:
    """Print a new master key: 32 random bytes in base64, on one line; nothing is stored."""
    print(MasterKey.generate().secret.reveal())


@app.command()
def init(ctx: typer.Context) -> None:
    """Make the key file that every command on this state root finds by itself; never overwrite one."""
    path = str(_store(ctx).init())
    ctx.obj.give({"key_file": path}, f"The master key is in {path}; keep a copy of it elsewhere.")


@app.command("set")
def set_(
    ctx: typer.Context,
    ref: Ref,
    provider: Annotated[str, typer.Option(help=f"Whose key it is: {', '.join(PROVIDERS)}.")],
    from_env: Annotated[str | None, typer.Option(help="Take the value of this environment variable.")] = None,
    from_file: Annotated[Path | None, typer.Option(help="Take the value from this file.")] = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="Take the value from standard input.")] = False,
    value: Annotated[str | None, typer.Option(help="The value itself; others can see it in the process list.")] = None,
) -> None:
    """Put a key into a slot. With no source named it is asked for, and not shown."""
    if sum((from_env is not None, from_file is not None, stdin, value is not None)) > 1:
        raise UsageError("more than one source is named", hint="Keep one of --from-env, --from-file, --stdin, --value.")
    store = _store(ctx)
    store.master()  # before anybody types a key that could not be kept
    slot = store.set(ref, provider, Secret(_taken(from_env, from_file, value, stdin=stdin)))
    told = f"{slot.slot_id} is set (version {slot.version}); running daemons see it within two seconds."
    ctx.obj.give(_shown(slot), told)


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the slots; their values stay sealed, and no master key is needed."""
    slots = _store(ctx).list()
    rows = [(slot.slot_id, slot.provider, slot.version, slot.updated_at) for slot in slots]
    pretty = table([("SLOT", "PROVIDER", "VERSION", "UPDATED"), *rows]) if rows else "There are no slots."
    ctx.obj.give([_shown(slot) for slot in slots], pretty)


@app.command()
def get(ctx: typer.Context, ref: Ref) -> None:
    """Show what is public of one slot; its value stays sealed."""
    shown = _shown(_store(ctx).get(ref))
    ctx.obj.give(shown, table(list(shown.items())))


@app.command()
def delete(ctx: typer.Context, ref: Ref) -> None:
    """Take a slot away."""
    if not _store(ctx).delete(ref):
        raise NotFound(f"slot {ref} is not set", hint="`kheish-daemon secrets list` shows what is.")
    ctx.obj.give({"deleted": True}, f"{ref} is gone.")


@app.command()
def check(ctx: typer.Context, ref: Ref) -> None:
    """Ask the provider whether it takes the key in a slot, which costs nothing."""
    ctx.obj.check_online("secrets check")
    slot = _store(ctx).get(ref)
    from .keys import as_json, standing_of

    standing = standing_of(ctx.obj.settings(), slot)
    shown = {"slot_id": slot.slot_id, "provider": slot.provider, "ok": True, **as_json(standing)}
    ctx.obj.give(shown, f"{slot.provider} takes the key in {slot.slot_id}.{_money(standing)}")


@app.command()
def login(
    ctx: typer.Context,
    provider: Annotated[str, typer.Argument(help="openrouter, the one that can be signed in to.")],
    ref: Annotated[str, typer.Argument(help="The slot that the new key goes to.")] = "openrouter.primary",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Show the page, and ask for its code.")] = False,
) -> None:
    """Sign in at the provider with a browser, and keep the key that it gives."""
    if provider != "openrouter":
        raise UsageError("only openrouter can be signed in to", hint="secrets login openrouter")
    ctx.obj.check_online("secrets login")
    store = _store(ctx)
    store.master()  # before a key is made that could not be kept
    check_name(ref)
    from .keys import as_json, signed_in, standing_of

    settings = ctx.obj.settings()
    key = signed_in(settings, by_hand=no_browser)
    slot = store.set(ref, provider, key)  # before it is tried: a key that was made must not be lost
    standing = standing_of(settings, slot)
    ctx.obj.give({**_shown(slot), **as_json(standing)}, f"{ref} is set (version {slot.version}).{_money(standing)}")


@app.command()
def rekey(
    ctx: typer.Context,
    new_key_from_env: Annotated[str, typer.Option(help="The variable that holds the new master key.")],
) -> None:
    """Seal everything anew for another master key; the old one opens nothing any more."""
    count = _store(ctx).rekey(MasterKey.parse(_variable(new_key_from_env)))
    ctx.obj.give({"rekeyed": count}, f"{count} slot(s) are sealed for the new master key.")


def _store(ctx: typer.Context) -> AuthStore:
    frame: Frame = ctx.obj
    return AuthStore.of(frame.settings())


def _taken(variable: str | None, path: Path | None, value: str | None, *, stdin: bool) -> str:
    """The value from the source that is named, or from a prompt that does not show it."""
    if variable is not None:
        return _variable(variable)
    if path is not None:
        return _file(path)
    if value is not None:
        print("warning: --value is visible in the process list and in the shell's history", file=sys.stderr)
        return value
    return _piped() if stdin else _asked()


def _variable(name: str) -> str:
    value = environment().get(name)
    if not value:
        raise InvalidArgument(f"the variable {name} is not set or empty", hint="Export it first.")
    return value


def _file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(ENOUGH).decode(errors="replace")
    except OSError:
        raise InvalidArgument(f"the file {path} cannot be read", hint="Check the path and its permissions.") from None


def _piped() -> str:
    return sys.stdin.buffer.read(ENOUGH).decode(errors="replace")


def _asked() -> str:
    if not sys.stdin.isatty():
        raise UsageError("no source is named, and nobody can be asked", hint="Use --from-env, --from-file or --stdin.")
    import getpass

    return getpass.getpass("Key (not shown): ")


def _shown(slot: Slot) -> dict[str, Json]:
    return asdict(slot)


def _money(standing: KeyStanding) -> str:
    """What the key has spent and may still spend, in a sentence, as far as that is known."""
    parts = ((standing.spent_usd, "spent"), (standing.left_usd, "left of its limit"))
    known = [f"${amount:,.2f} {what}" for amount, what in parts if amount is not None]
    return f" {', '.join(known)}." if known else ""
