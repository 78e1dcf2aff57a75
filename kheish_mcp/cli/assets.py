"""The kept files."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

import anyio
import typer

from ..errors import Aborted, Code, DataLoss, InvalidArgument, Json, JsonObject, ResourceExhausted
from ..media import Media
from ..settings import MAX_BYTES
from ..stores.assets import Asset, AssetStore
from ..stores.database import Database
from ..stores.disk import write_new
from .frame import EXIT_CODES, Frame, command_group, table

app = command_group(__doc__)

T = TypeVar("T")
SHARED: Final = 0o644
OWNER: Final = "local"  # the same as a client on stdio
Id = Annotated[str, typer.Argument(help="The asset's id, or its asset:// URI.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="next_cursor of the page before.")] = None,
) -> None:
    """List the assets, newest first."""
    frame: Frame = ctx.obj
    assets, following = _in_store(frame, lambda store: store.page(OWNER, cursor, limit))
    rows = [("ID", "TYPE", "BYTES", "NAME", "CREATED"), *map(_row, assets)]
    shown: JsonObject = {"assets": [asset.as_json() for asset in assets]}
    more = f"\nMore: --cursor {following}" if following else ""
    frame.give(
        shown | {"next_cursor": following} if following else shown,
        table(rows) + more if assets else "There are no assets.",
    )


@app.command()
def get(ctx: typer.Context, asset_id: Id) -> None:
    """Show one asset, with a path under which other programs can read it."""
    _show(ctx.obj, _in_store(ctx.obj, lambda store: _described(store, asset_id)))


@app.command("import")
def import_(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(help="Any file that you can read.")],
    media_type: Annotated[str, typer.Option(help="What it is, such as image/png; checked against the bytes.")] = "",
    kind: Annotated[Literal["file", "microphone_segment"], typer.Option(help="What it is for.")] = "file",
    label: Annotated[str, typer.Option(help="A name to find it by.")] = "",
) -> None:
    """Keep a file as an asset; equal bytes give the asset that is already there."""
    media = Media(read_file(path), media_type, path.name)

    async def work(store: AssetStore) -> JsonObject:
        asset = await store.keep(media, owner=OWNER, label=label, kind=kind, provenance={"source": "import"})
        return await _described(store, asset.asset_id)

    _show(ctx.obj, _in_store(ctx.obj, work))


@app.command()
def export(
    ctx: typer.Context,
    asset_id: Id,
    path: Annotated[Path, typer.Argument(help="The new file, or a folder to put it in.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write an asset's bytes to a file; never over one that is there, unless --force."""
    frame: Frame = ctx.obj

    async def work(store: AssetStore) -> Media:
        return await store.read(await _found(store, asset_id))

    media = _in_store(frame, work)
    written = path / media.name if path.is_dir() else path
    _write(written, media.data, force=force)
    shown: JsonObject = {"asset_id": _bare(asset_id), "path": str(written.absolute()), "byte_length": len(media.data)}
    frame.give(shown, f"{written}: {len(media.data):,} bytes")


@app.command()
def delete(
    ctx: typer.Context,
    asset_id: Id,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Take an asset away for good."""
    frame: Frame = ctx.obj

    async def work(store: AssetStore) -> Asset:
        asset = await _found(store, asset_id)
        if not dry_run:
            await store.delete(asset.asset_id, OWNER)
        return asset

    asset = _in_store(frame, work)
    said = "would be deleted" if dry_run else "is gone"
    frame.give(
        {"would_delete" if dry_run else "deleted": asset.asset_id}, f"{asset.asset_id} ({asset.file_name}) {said}."
    )


@app.command()
def gc(
    ctx: typer.Context, execute: Annotated[bool, typer.Option("--execute", help="Remove them, not only list.")] = False
) -> None:
    """Find what crashes and deletions left behind, older than an hour; with --execute remove it."""
    frame: Frame = ctx.obj
    names = _in_store(frame, lambda store: store.gc(execute=execute))
    orphans: list[Json] = list(names)
    said = f"{len(names)} left-over file(s) {'removed' if execute else 'found; --execute removes them'}."
    frame.give(
        {"orphans": orphans, "removed": execute}, "\n".join([*names, said]) if names else "Nothing is left over."
    )


@app.command()
def verify(ctx: typer.Context) -> int:
    """Read every asset and compare it with its digest."""
    frame: Frame = ctx.obj
    checked, ids = _in_store(frame, AssetStore.verify)
    damaged: list[Json] = list(ids)
    said = "\n".join([*ids, f"{len(ids)} of {checked} assets are damaged."]) if ids else f"{checked} assets are whole."
    frame.give({"checked": checked, "damaged": damaged}, said)
    return EXIT_CODES[Code.DATA_LOSS] if damaged else 0


def _in_store(frame: Frame, work: Callable[[AssetStore], Awaitable[T]]) -> T:
    """What `work` gives with the store of this command line's state root, beside whatever daemons run on it."""
    settings = frame.settings()
    bounds = {"max_bytes": settings.max_asset_bytes, "max_pixels": settings.max_pixels}

    async def main() -> T:
        async with Database.open(settings.state_root) as database:
            return await work(AssetStore(settings.state_root, database, **bounds))

    return anyio.run(main)


async def _found(store: AssetStore, asset_id: str) -> Asset:
    """The asset by its id or its URI; NotFound for what is not this user's."""
    return await store.get(_bare(asset_id), OWNER)


async def _described(store: AssetStore, asset_id: str) -> JsonObject:
    """The asset object; without a path where its bytes are damaged."""
    asset = await _found(store, asset_id)
    try:
        return {**asset.as_json(), "path": str(await store.path_of(asset))}
    except DataLoss:
        return asset.as_json()


def _bare(asset_id: str) -> str:
    return asset_id.removeprefix("asset://")


def _show(frame: Frame, shown: JsonObject) -> None:
    """One object: whole for programs, what it has in two columns for people."""
    frame.give(shown, table([(key, value) for key, value in shown.items() if value is not None]))


def _row(asset: Asset) -> tuple[str, ...]:
    made = datetime.fromtimestamp(asset.created_at, UTC).strftime("%Y-%m-%d %H:%M")
    return asset.asset_id, asset.media_type, str(asset.byte_length), asset.label or asset.file_name, made


def read_file(path: Path) -> bytes:
    """A plain file's bytes, of no more than an asset may have."""
    try:
        if not path.is_file():
            raise InvalidArgument(f"{path} is no file", hint="Name a file that is there.")
        if path.stat().st_size > MAX_BYTES:
            raise ResourceExhausted(f"{path} is larger than an asset may be", hint=f"At most {MAX_BYTES:,} bytes.")
        return path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read ({error.strerror})", hint="Check its permissions.") from None


def _write(path: Path, data: bytes, *, force: bool) -> None:
    """A new file; Aborted where the name is taken, unless `force`: then the old one stays until the new one is whole."""
    try:
        if not force:
            return write_new(path, data, SHARED)
        temporary = path.with_name(f".{path.name[:64]}.{secrets.token_hex(4)}.tmp")
        write_new(temporary, data, SHARED)
        temporary.replace(path)
    except FileExistsError:
        raise Aborted(f"{path} is there already", hint="Choose another name, or add --force.") from None
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be written ({error.strerror})", hint="Choose another place.") from None
