"""The main job end to end: a client of our own server, with no key and no network."""

from __future__ import annotations

import base64
import json
import logging
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Final

import anyio
import typer

from ..errors import Json, JsonObject, KheishError, Unavailable, UsageError, from_json
from ..settings import Settings, environment
from .frame import EXIT_CODES, Frame, command_group, printable, tell

if TYPE_CHECKING:
    from mcp.client import Client

log = logging.getLogger(__name__)
app = command_group(__doc__)

# Chosen because it is heard without an error (by en-us+f2 at 8 speeds from 0.7 to 1.1, by en-us+f3 at 0.85, 0.9 and
# 1.0), so it says nothing of other texts: of 40 everyday sentences (273 words) en-us+f2 at 0.9 had 33 % wrong, and en-us
# has 44 to 56 % wrong even in this one.
SENTENCE: Final = "We will have an interesting conversation about the future."
VOICE: Final = "en-us+f2"
SPEED: Final = 0.9
# What routes would serve the demo instead of the built-in ones.
ROUTING: Final = ("KHEISH_ROUTES_FILE", "KHEISH_DEFAULT_ROUTE")
NEXT: Final = "Next: `kheish-daemon clients list`, then `kheish-daemon clients install NAME`."
PROSE: Final = "A lighthouse on a rock at dusk, flat illustration, three colours"
CHANGE: Final = "Turn the picture into a black and white print"
OPERATIONS: Final = 'crop 0,70,640,330; resize 480; grayscale; text "edited exactly" at 20,20 size 24 color white'


@dataclass(frozen=True, slots=True)
class Step:
    """One step as it went: seconds, a sentence, the files that it left."""

    name: str
    ok: bool
    seconds: float
    detail: str
    files: tuple[str, ...] = ()

    def as_json(self) -> JsonObject:
        """The step's object."""
        return {
            "name": self.name, "ok": self.ok, "seconds": self.seconds, "detail": self.detail, "files": list(self.files),
        }  # fmt: skip

    def __str__(self) -> str:
        head = f"{'ok' if self.ok else 'FAILED':<7}{self.name:<12}{self.seconds:6.2f} s  {self.detail}"
        return "\n".join([head, *(f"{'':29}{file}" for file in self.files)])


@app.command()
def demo(
    ctx: typer.Context,
    provider: Annotated[str, typer.Option(help="The route to use; any but local costs money.")] = "local",
) -> int:
    """Start the server as an editor would, then draw, edit, speak, listen, publish and read back."""
    frame: Frame = ctx.obj
    if frame.offline and provider != "local":
        raise UsageError("--offline forbids any route but local", hint="Leave --provider out.")
    walk = Walk(provider, show=lambda step: None if frame.as_json else print(printable(str(step)), flush=True))
    settings = frame.settings()
    anyio.run(walk.whole, settings)
    if frame.as_json:
        print(json.dumps({"ok": walk.refusal is None, "steps": [step.as_json() for step in walk.steps]}))
    if walk.refusal is not None:
        tell(walk.refusal, frame)
        return EXIT_CODES[walk.refusal.code]
    if not frame.as_json:
        print(f"\nEverything works. The assets are kept under {settings.state_root}.\n{NEXT}")
    return 0


@dataclass(slots=True)
class Walk:
    """The steps of the demo on one route, in order; `show` is told of each as soon as it is over."""

    provider: str
    show: Callable[[Step], None]
    steps: list[Step] = field(default_factory=list)
    refusal: KheishError | None = None
    _at: tuple[str, float] = ("", 0.0)

    async def whole(self, settings: Settings) -> None:
        """Every step up to the first that is refused, if one is."""
        self._begin("start")
        try:
            async with _client(settings, self.provider) as client:
                await self._steps(client)
        except Exception as error:
            # The client's task groups wrap whatever ends them; a step's refusal is told before it reaches them.
            if self.refusal is None:
                log.debug("the demo broke off", exc_info=error)
                self._fail(Unavailable("The server went away.", hint="Its last words stand above, on stderr."))

    async def _steps(self, client: Client) -> None:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        self._done(f"{len(tools)} tools: {', '.join(tools)}")
        try:
            picture = await self._picture(client)
            edited = await self._edited(client, picture)
            spoken = await self._spoken(client)
            await self._heard(client, spoken)
            await self._published(client, edited, spoken)
            await self._read(client, picture)
        except KheishError as refusal:
            self._fail(refusal)

    def _fail(self, refusal: KheishError) -> None:
        """Notes that the step under way was refused, which ends the demo."""
        self.refusal = refusal
        self._end(Step(self._at[0], False, self._seconds(), refusal.message))

    async def _picture(self, client: Client) -> JsonObject:
        self._begin("picture")
        prompt = files(__package__).joinpath("demo.svg").read_text("utf-8") if self._is_local else PROSE
        return self._made(await self._call(client, "generate_image", prompt=prompt))

    async def _edited(self, client: Client, picture: JsonObject) -> JsonObject:
        self._begin("edit")
        prompt = OPERATIONS if self._is_local else CHANGE
        return self._made(await self._call(client, "edit_image", prompt=prompt, image_asset_ids=[picture["asset_id"]]))

    async def _spoken(self, client: Client) -> JsonObject:
        self._begin("speech")
        how = {"voice": VOICE, "speed": SPEED, "format": "wav"} if self._is_local else {}
        return self._made(await self._call(client, "generate_audio", input=SENTENCE, **how))

    async def _heard(self, client: Client, spoken: JsonObject) -> None:
        self._begin("transcript")
        heard = await self._call(client, "transcribe_audio", audio=spoken["asset_id"])
        self._done(f'said "{SENTENCE}", heard "{heard["text"]}"', _paths(heard))

    async def _published(self, client: Client, picture: JsonObject, spoken: JsonObject) -> None:
        self._begin("output")
        parts = [
            {"type": "text", "text": SENTENCE},
            *({"type": "asset", "asset_id": asset["asset_id"]} for asset in (picture, spoken)),
        ]
        result = await client.call_tool("emit_output", {"parts": parts, "session": "demo"})
        kinds = [block.type for block in result.content[:-1]]
        emitted = _object(result, -1)
        self._done(f"{emitted['output_id']} in session demo, shown as {', '.join(kinds)}")

    async def _read(self, client: Client, picture: JsonObject) -> None:
        self._begin("resource")
        [contents] = (await client.read_resource(str(picture["uri"]))).contents
        size = len(base64.b64decode(str(getattr(contents, "blob", ""))))
        self._done(f"{picture['uri']}: {contents.mime_type}, {size:,} bytes")

    async def _call(self, client: Client, name: str, **arguments: Any) -> JsonObject:
        arguments = {**arguments, "provider": self.provider, "wait_seconds": 300}
        return _object(await client.call_tool(name, arguments), 0)

    def _made(self, result: JsonObject) -> JsonObject:
        """The one asset of a result, which ends the step."""
        [asset] = _assets(result)
        shown = {"width": "{} px wide", "height": "{} px high", "duration_s": "{:.1f} s"}
        facts = [form.format(asset[key]) for key, form in shown.items() if asset.get(key)]
        told = [str(asset["media_type"]), *facts, f"{asset['byte_length']:,} bytes"]
        self._done(f"{', '.join(told)}, by {result['route_id']}/{result['model']}", _paths(result))
        return asset

    @property
    def _is_local(self) -> bool:
        return self.provider == "local"

    def _begin(self, name: str) -> None:
        self._at = name, time.monotonic()

    def _seconds(self) -> float:
        return round(time.monotonic() - self._at[1], 3)

    def _done(self, detail: str, left: tuple[str, ...] = ()) -> None:
        self._end(Step(self._at[0], True, self._seconds(), detail, left))

    def _end(self, step: Step) -> None:
        self.steps.append(step)
        self.show(step)


@asynccontextmanager
async def _client(settings: Settings, provider: str) -> AsyncGenerator[Client]:
    """A client whose server is a child of this process, as a host would start it."""
    from mcp.client import Client
    from mcp.client.stdio import StdioServerParameters

    routes = () if provider == "local" or settings.routes_file is None else ("--routes-file", str(settings.routes_file))
    command = ("-m", "kheish_mcp", "--state-root", str(settings.state_root), "serve", "--transport", "stdio", *routes)
    server = StdioServerParameters(command=sys.executable, args=list(command), env=_environment(provider))
    async with Client(server, cache=None) as client:
        yield client


def _environment(provider: str) -> dict[str, str]:
    """The child's variables: ours, and for the local route none that would take it away."""
    hidden: tuple[str, ...] = ROUTING if provider == "local" else ()
    return {name: "" if name in hidden else value for name, value in environment().items()}


def _object(result: Any, place: int) -> JsonObject:
    """The JSON object in a block of a result; raises the refusal that a result may be."""
    value: JsonObject = json.loads(result.content[place].text)
    error = value.get("error")
    if isinstance(error, dict):
        raise from_json(error)
    if result.is_error:
        raise Unavailable("The server answered with an error that it does not explain.", hint="Look at its log.")
    return value


def _assets(result: Mapping[str, Json]) -> list[JsonObject]:
    listed = result["assets"]
    return [asset for asset in listed if isinstance(asset, dict)] if isinstance(listed, list) else []


def _paths(result: Mapping[str, Json]) -> tuple[str, ...]:
    return tuple(str(asset["path"]) for asset in _assets(result) if "path" in asset)
