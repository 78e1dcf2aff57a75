"""The requests of a client, each answered from the daemon's parts: lists, calls, reads, completions."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import anyio
import anyio.lowlevel
import mcp_types as t
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.shared.exceptions import MCPError

from .. import __version__
from ..errors import CapabilityUnavailable, JsonObject, KheishError
from ..principals import LOCAL, Principal
from ..profiles import Profile, profile_of
from ..scopes import WORKSPACE, scope_for
from ..stores.jobs import JobRecord
from ..tools import TOOLS
from ..tools.base import Call, Outcome, Parts, Tool, schema_of, validate
from ..tools.running import refusal_of, result_of, shown_of, wished_preview
from .completions import completions
from .content import LINKS_SINCE, Presenter, refusal
from .departures import Departures, is_there
from .listeners import Listeners
from .reach import Reach
from .resources import Resources, templates
from .tasks import Tasks, knows_tasks

log = logging.getLogger(__name__)

Context = ServerRequestContext[Any]
REVISIONS: Final = ("2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
WEBSITE: Final = "https://pypi.org/project/kheish-mcp/"
# A white K on black, of few bytes: clients keep it with every server they know.
ICON: Final = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><path d="M0 0h8v8H0z"/>'
    b'<path fill="#fff" d="M2 1h1v2.5L5 1h1.2L4 4l2.2 3H5L3 4.5V7H2z"/></svg>'
)
INSTRUCTIONS: Final = (
    "Pictures, speech and transcripts, kept as assets. Every tool's first block is JSON with asset ids; use those ids "
    "in later calls, read asset://ID for the bytes, and call emit_output to show assets to the user. "
    "kheish://runtime says which tools are there, and why others are not."
)


@dataclass(frozen=True, slots=True)
class Face:
    """What the server shows of a daemon: its parts and runtime view as they are now, and who a request comes from.

    `session` is the one whose run is the client, if one is; `inner` says that the client is a run of ours, which never
    only goes away: what it cancels is to stop. `reach` is how a caller that is not at hand gets at files.
    """

    parts: Callable[[], Parts]
    runtime: Callable[[], Awaitable[JsonObject]]
    listeners: Listeners
    principal: Callable[[Context], Principal] = lambda _: LOCAL
    tools: tuple[Tool, ...] = TOOLS
    session: str | None = None
    inner: bool = False
    reach: Callable[[Context], Reach | None] = lambda _: None


class KheishServer(Server[Any]):
    """The low-level server with our handlers: exact schemas, real cursors, coded refusals."""

    def __init__(self, face: Face) -> None:
        self.face = face
        self.named = {tool.name: tool for tool in face.tools}
        super().__init__(
            "kheish",
            version=__version__,
            title="Kheish",
            description="Pictures, speech and transcripts, kept as assets.",
            instructions=INSTRUCTIONS,
            website_url=WEBSITE,
            icons=[icon(ICON)],
            get_tool_input_schema=self.input_schema,
            cache_hints={"resources/templates/list": CacheHint(3_600_000, "public")},
            on_list_tools=self.list_tools,
            on_list_resources=self.list_resources,
            on_list_resource_templates=self.list_templates,
            on_read_resource=self.read_resource,
            on_subscribe_resource=self.subscribe,
            on_unsubscribe_resource=self.unsubscribe,
            on_subscriptions_listen=self.listen,
            on_completion=self.complete,
        )
        self.departures = Departures()
        self.middleware += [self.remember, self.departures.listen, self.admit]
        self.tasks = Tasks(lambda: face.parts().jobs, lambda ctx: face.principal(ctx).owner, self._presented)
        self.tasks.serve(self)
        self.add_request_handler("server/discover", t.RequestParams, self.discover)
        self.add_request_handler("tools/call", t.CallToolRequestParams, self.call_tool)

    def create_initialization_options(
        self, notification_options: NotificationOptions | None = None, *rest: Any, **more: Any
    ) -> InitializationOptions:
        """As the SDK's, but handshake-era clients too are told that lists change."""
        options = notification_options or NotificationOptions(tools_changed=True, resources_changed=True)
        return super().create_initialization_options(options, *rest, **more)

    async def remember(self, ctx: Context, call_next: Callable[[Context], Awaitable[Any]]) -> Any:
        """Middleware: a connection that has done its handshake is told of changes."""
        result = await call_next(ctx)
        if ctx.method == "initialize":
            self.face.listeners.note(ctx, self.face.principal(ctx))
        return result

    @property
    def server_info_stamp(self) -> dict[str, Any]:
        """What the SDK adds to every result of the newest revision: a name and a version; `discover` tells the rest."""
        return {"name": self.name, "version": self.version}

    def input_schema(self, name: str) -> dict[str, Any] | None:
        """A tool's input schema, for the SDK's check of headers; without this it lists all tools before each call."""
        tool = self.named.get(name)
        return schema_of(tool.input) if tool else None

    async def admit(self, ctx: Context, call_next: Callable[[Context], Awaitable[Any]]) -> Any:
        """Middleware: nothing but `tools/call`, which refuses in its own way, comes further than its scope allows."""
        uri = ctx.params.get("uri") if ctx.params else None
        needed = scope_for(ctx.method, uri)
        if needed != "read" and ctx.method != "tools/call":
            try:
                self.face.principal(ctx).check(needed)
            except KheishError as error:
                told = {"code": error.code.value, "uri": uri, **error.details}
                raise MCPError(t.INVALID_PARAMS, error.message, told) from None
        return await call_next(ctx)

    async def discover(self, ctx: Context, params: t.RequestParams | None) -> t.DiscoverResult:
        """Every revision that this server speaks, the newest first."""
        return t.DiscoverResult(
            supported_versions=list(REVISIONS),
            capabilities=self.get_capabilities(protocol_version=ctx.protocol_version),
            instructions=self.instructions,
            _meta={t.SERVER_INFO_META_KEY: self.server_info.model_dump(by_alias=True, mode="json", exclude_none=True)},
        )

    async def list_tools(self, ctx: Context, params: t.PaginatedRequestParams | None) -> t.ListToolsResult:
        """The tools that the caller may call and a backend can serve now, in their fixed order, on one page."""
        _refuse_cursor(params)
        catalog, may_call = self.face.parts().catalog, self.face.principal(ctx).may(scope_for("tools/call"))
        listed = [tool for tool in self.face.tools if may_call and tool.listed_by(catalog)]
        return t.ListToolsResult(tools=[described(tool, ctx.protocol_version) for tool in listed])

    async def call_tool(self, ctx: Context, params: t.CallToolRequestParams) -> t.CallToolResult | JsonObject:
        """One call: a result, a refusal with its code, or a task; -32602 only for a name that no tool has."""
        tool = self.named.get(params.name)
        if tool is None:
            raise MCPError(t.INVALID_PARAMS, "Unknown tool", {"tools": list(self.named)})
        handed: list[str] = []
        result: t.CallToolResult | JsonObject
        try:
            result = await self._called(tool, params.arguments or {}, ctx, handed)
        except KheishError as error:
            result = refusal(error)
        except Exception:
            log.exception("%s failed", tool.name)
            result = refusal(KheishError("Internal error.", hint="The daemon's log on stderr says more."))
        await self._note_delivery(ctx, handed)
        return result

    async def _note_delivery(self, ctx: Context, handed: Sequence[str]) -> None:
        """Notes which jobs' ends go out with the answer; not so where the client has gone, which may then ask again."""
        if not handed or not await is_there(ctx):
            return
        jobs = self.face.parts().jobs
        try:
            for job_id in handed:
                await jobs.mark_delivered(job_id)
            await anyio.lowlevel.checkpoint()
        except KheishError as error:  # the answer goes out all the same, and perhaps once more
            log.error("a delivery could not be noted: %s", error.message)
        except anyio.get_cancelled_exc_class():  # it left meanwhile
            for job_id in handed:
                await jobs.mark_delivered(job_id, delivered=False)
            raise

    async def _called(
        self, tool: Tool, arguments: Mapping[str, Any], ctx: Context, handed: list[str]
    ) -> t.CallToolResult | JsonObject:
        self.face.principal(ctx).check(scope_for("tools/call", tool.name))
        parts = self.face.parts()
        if not tool.listed_by(parts.catalog):
            raise CapabilityUnavailable(
                f"{tool.name} is not there now. {tool.why_not(parts.catalog)}",
                hint="kheish://runtime, or `kheish-daemon runtime get`, says what each route lacks.",
            )
        profile = _profile(ctx)
        call = self._call(parts, ctx, profile, handed)
        outcome = await tool.run(self.tasks.hastened(ctx, validate(tool.input, arguments)), call)
        if isinstance(outcome, Outcome) and outcome.working is not None and knows_tasks(ctx):
            return await self.tasks.created(ctx, outcome.working)
        presenter = self._presenter(ctx)
        if isinstance(outcome, Outcome):
            return await presenter.outcome(outcome, structured=tool.output_schema is not None)
        return await presenter.published(outcome)

    async def _presented(self, ctx: Context, record: JobRecord) -> t.CallToolResult:
        """A finished job's result as its call would have given it, noted as delivered."""
        if record.error is not None:
            result = refusal(await refusal_of(self.face.parts(), record))
        else:
            call = self._call(self.face.parts(), ctx, _profile(ctx), [])
            outcome = Outcome(await result_of(call, record), await shown_of(call, record), wished_preview(record))
            result = await self._presenter(ctx).outcome(outcome, structured=False)
        await self._note_delivery(ctx, [record.job_id])
        return result

    def _presenter(self, ctx: Context) -> Presenter:
        parts = self.face.parts()
        return Presenter(parts.assets, parts.workers, _profile(ctx), ctx.protocol_version, self.face.reach(ctx))

    def _call(self, parts: Parts, ctx: Context, profile: Profile, handed: list[str]) -> Call:
        started = time.monotonic()

        async def report(sentence: str) -> None:
            await ctx.session.report_progress(round(time.monotonic() - started, 3), None, sentence)

        shared = {field.name: getattr(parts, field.name) for field in fields(Parts)}
        who = self.face.principal(ctx)
        if not who.may(WORKSPACE) and not self.face.inner:
            shared |= {"workspace": None, "references": parts.references.without_paths()}
        if (reach := self.face.reach(ctx)) is not None:
            shared["references"] = shared["references"].from_afar(reach.upload)
        return Call(
            **shared,
            owner=who.owner,
            at_hand=who.at_hand,
            report=report,
            wait_seconds=profile.wait_seconds,
            hands_over=handed.append,
            wants_stop=always if self.face.inner else lambda: self.departures.wants_stop(ctx),
            session=self.face.session,
        )

    def _resources(self, ctx: Context) -> Resources:
        return Resources(self.face.parts(), self.face.principal(ctx), self.face.runtime, _profile(ctx))

    async def list_resources(self, ctx: Context, params: t.PaginatedRequestParams | None) -> t.ListResourcesResult:
        """The caller's assets, newest first, page by page; a cursor that is not ours is -32602."""
        try:
            return await self._resources(ctx).page(params.cursor if params else None)
        except KheishError as error:
            raise MCPError(t.INVALID_PARAMS, error.message) from None

    async def list_templates(
        self, ctx: Context, params: t.PaginatedRequestParams | None
    ) -> t.ListResourceTemplatesResult:
        """The URI templates, on one page."""
        _refuse_cursor(params)
        return templates()

    async def read_resource(self, ctx: Context, params: t.ReadResourceRequestParams) -> t.ReadResourceResult:
        """The contents of one resource."""
        return await self._resources(ctx).read(params.uri)

    async def listen(self, ctx: Context, params: t.SubscriptionsListenRequestParams) -> t.SubscriptionsListenResult:
        """A stream of the changes that the caller may know of."""
        return await self.face.listeners.listen(ctx, params, self.face.principal(ctx))

    async def subscribe(self, ctx: Context, params: t.SubscribeRequestParams) -> t.EmptyResult:
        """A handshake-era client wants to hear of changes of one resource."""
        self.face.listeners.subscribe(ctx, params.uri)
        return t.EmptyResult()

    async def unsubscribe(self, ctx: Context, params: t.UnsubscribeRequestParams) -> t.EmptyResult:
        """It no longer does."""
        self.face.listeners.unsubscribe(ctx, params.uri)
        return t.EmptyResult()

    async def complete(self, ctx: Context, params: t.CompleteRequestParams) -> t.CompleteResult:
        """Asset ids, route ids, model ids, voices and sessions that begin with what was typed."""
        values = await self._offered(ctx, params)
        return t.CompleteResult(
            completion=t.Completion(values=list(values[:100]), total=len(values), has_more=len(values) > 100)
        )

    async def _offered(self, ctx: Context, params: t.CompleteRequestParams) -> tuple[str, ...]:
        parts, who, asked = self.face.parts(), self.face.principal(ctx), params.argument
        if asked.name == "asset_id":
            ids = [asset.asset_id for asset in (await parts.assets.page(who.owner, None))[0]]
            return tuple(asset_id for asset_id in ids if asset_id.startswith(asked.value))
        if asked.name == "session":
            return tuple(name for name in await parts.sessions.names(who.owner) if name.startswith(asked.value))
        if not who.may(scope_for("tools/call")):
            return ()
        chosen = params.context.arguments if params.context is not None else None
        return completions(parts.catalog, asked.name, asked.value, chosen or {})


async def always() -> bool:
    """Says yes."""
    return True


def icon(svg: bytes) -> t.Icon:
    """A drawing of any size."""
    source = "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
    return t.Icon(src=source, mime_type="image/svg+xml", sizes=["any"])


def described(tool: Tool, revision: str) -> t.Tool:
    """A tool's definition for a client of one protocol revision."""
    recent = revision >= LINKS_SINCE
    return t.Tool(
        name=tool.name,
        title=tool.title if recent else None,
        description=tool.description,
        input_schema=schema_of(tool.input),
        output_schema=dict(tool.output_schema) if tool.output_schema and recent else None,
        annotations=t.ToolAnnotations(
            title=None if recent else tool.title,
            read_only_hint=not tool.writes,
            destructive_hint=False if tool.writes else None,
            open_world_hint=tool.spends or tool.fetches,
        ),
    )


def _profile(ctx: Context) -> Profile:
    client = ctx.session.client_params
    return profile_of(client.client_info.name if client and client.client_info else None)


def _refuse_cursor(params: t.PaginatedRequestParams | None) -> None:
    if params is not None and params.cursor is not None:
        raise MCPError(t.INVALID_PARAMS, "Unknown cursor")
