"""One input of a session on the command line: attached, answered, shown as it goes."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import anyio.to_thread

from ..capabilities import nobody_listens
from ..daemon import Daemon, open_daemon
from ..errors import JsonObject, KheishError, from_json
from ..formats import kind_of
from ..media import Kind, Media
from ..settings import Settings
from ..sources.references import ASSET_ID, asset_id_of
from ..tools.ask_model import text_backends
from ..tools.attachments import seeing
from ..tools.base import Call, Parts, Question, Witness
from .assets import OWNER, read_file
from .drawing import LARGEST_PX, Drawer
from .frame import printable

if TYPE_CHECKING:
    from ..stores.assets import Asset
    from ..stores.jobs import Job

TOOL: Final = "sessions_input"


@dataclass(frozen=True, slots=True)
class Asked:
    """A command line's question: `attached` are files and assets' ids in their order."""

    session: str
    text: str
    provider: str | None
    model: str | None
    attached: tuple[str, ...]
    tools: bool


def _say(text: str, *, end: str = "\n", file: TextIO | None = None) -> None:
    """Prints at once; a reader that has gone ends the printing, and not a run that is paid for."""
    with suppress(BrokenPipeError):
        print(text, end=end, file=file, flush=True)


class Screen:
    """Shows a run to a person: text and outputs on stdout, steps on stderr."""

    def __init__(self, daemon: Daemon, drawer: Drawer | None) -> None:
        self.parts = daemon.parts
        self.drawer = drawer
        self.in_line = False

    async def said(self, piece: str) -> None:
        """A piece of the text, at once."""
        shown = printable(piece)
        _say(shown, end="")
        self.in_line = not shown.endswith("\n") if shown else self.in_line

    async def did(self, sentence: str) -> None:
        """One step."""
        self.end_line()
        _say(f"  {printable(sentence)}", file=sys.stderr)

    async def published(self, output: JsonObject) -> None:
        """What the model has published: its texts, and each artifact's name and path."""
        self.end_line()
        listed: Any = output["parts"]
        for part in listed:
            if part["type"] == "text":
                _say(printable(part["text"]))
        artifacts: Any = output["artifacts"]
        for artifact in artifacts:
            await self.show(await self.parts.assets.get(artifact["asset_id"], OWNER))

    async def show(self, asset: Asset) -> None:
        """An asset's name and path, and the picture where the terminal can draw it."""
        self.end_line()
        _say(f"{asset.file_name}  {await self.parts.assets.path_of(asset)}")
        if self.drawer is not None and kind_of(asset.media_type) is Kind.IMAGE:
            await self._draw(asset, self.drawer)

    async def _draw(self, asset: Asset, drawer: Drawer) -> None:
        media = await self.parts.assets.read(asset)
        width = min(LARGEST_PX, asset.width or LARGEST_PX)
        try:
            made = await self.parts.workers.run(drawer.craft, drawer.parameters(width), media.data)
        except KheishError:
            return  # its name and path stand there
        _say(drawer.written(made.blobs[0]))

    def end_line(self) -> None:
        """Ends the line of text that is under way."""
        if self.in_line:
            _say("")
        self.in_line = False


async def conversed(settings: Settings, asked: Asked, drawer: Drawer | None, quiet: bool) -> JsonObject:
    """The result object of one input; unless `quiet`, shown as it goes. Paid calls under way are waited for."""
    async with open_daemon(settings) as daemon:
        screen = Screen(daemon, drawer)
        witness = Witness() if quiet else Witness(screen.said, screen.did, screen.published)
        try:
            result = await _answered(daemon, asked, witness)
            if not quiet:
                await _show_rest(screen, result)
        finally:
            screen.end_line()
        await daemon.drain()
        return result


async def _answered(daemon: Daemon, asked: Asked, witness: Witness) -> JsonObject:
    """Runs as a job, as a call of ask_model would, and raises its refusal."""
    shared = {field.name: getattr(daemon.parts, field.name) for field in fields(Parts)}
    call = Call(**shared, owner=OWNER, at_hand=True, report=nobody_listens, wait_seconds=0.0)
    backends = await text_backends(call, asked.session, provider=asked.provider, model=asked.model)
    attachments = tuple([await _attached(call, each) for each in asked.attached])
    backends = seeing(backends, attachments)
    question = Question(asked.text, attachments, asked.session, tools=asked.tools)

    async def work(job: Job) -> JsonObject:
        return await call.converse(call, job, backends, question, witness)

    job = await call.jobs.start(OWNER, TOOL, {"session": asked.session, "input": asked.text}, work)
    await job.finished.wait()
    record = await call.jobs.get(job.job_id, OWNER)
    await call.jobs.mark_delivered(job.job_id)
    if record.error is not None:
        raise from_json(record.error)
    return record.result or {}


async def _attached(call: Call, named: str) -> Asset:
    """The asset of an id or an asset:// URI, or any file that the user can read."""
    if named.startswith("asset://") or ASSET_ID.fullmatch(named):
        return await call.assets.get(asset_id_of(named), OWNER)
    path = Path(named)
    data = await anyio.to_thread.run_sync(read_file, path)
    return await call.assets.keep(Media(data, "", path.name), owner=OWNER, provenance={"source": "import"})


async def _show_rest(screen: Screen, result: JsonObject) -> None:
    """The pictures that the model itself has drawn, which no output holds."""
    outputs: Any = result["outputs"]
    published = {artifact["asset_id"] for output in outputs for artifact in output["artifacts"]}
    assets: Any = result["assets"]
    for shown in assets:
        if shown["asset_id"] not in published:
            await screen.show(await screen.parts.assets.get(shown["asset_id"], OWNER))
