"""The product's server with the suite's fixtures beside its own tools and resources."""

from __future__ import annotations

import mcp_types as t
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.shared.exceptions import MCPError

from kheish_mcp.mcp_server.server import Context, Face, KheishServer

from . import resources
from .jobs import JOBS
from .prompts import PROMPTS
from .questions import Asked, Result, Schema
from .tasks import AskingTasks
from .tools import FIXTURES


class ConformanceServer(KheishServer):
    """Everything that is not a fixture is the product's, its handlers and middleware included."""

    def __init__(self, face: Face) -> None:
        super().__init__(face)
        self.fixtures = {fixture.name: fixture for fixture in (*FIXTURES, *JOBS)}
        self.tasks = AskingTasks(self.tasks.jobs, self.tasks.owner, self.tasks.present)
        self.tasks.serve(self)
        self.prompts = {prompt.name: prompt for prompt in PROMPTS}
        self.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=self.name))
        self.add_request_handler("prompts/list", t.PaginatedRequestParams, self.list_prompts)
        self.add_request_handler("prompts/get", t.GetPromptRequestParams, self.get_prompt)
        self.add_request_handler("logging/setLevel", t.SetLevelRequestParams, self.set_level)

    async def list_tools(self, ctx: Context, params: t.PaginatedRequestParams | None) -> t.ListToolsResult:
        """The product's tools, then the suite's."""
        own = await super().list_tools(ctx, params)
        return t.ListToolsResult(tools=[*own.tools, *(fixture.listed() for fixture in self.fixtures.values())])

    def input_schema(self, name: str) -> Schema | None:
        """A fixture's schema, or that of the product's tool."""
        fixture = self.fixtures.get(name)
        return fixture.schema if fixture else super().input_schema(name)

    async def call_tool(self, ctx: Context, params: t.CallToolRequestParams) -> Result:
        """A fixture, or the product's tool."""
        fixture = self.fixtures.get(params.name)
        return await (
            fixture.run(Asked(self.face, self.tasks, ctx, params)) if fixture else super().call_tool(ctx, params)
        )

    async def list_prompts(self, ctx: Context, params: t.PaginatedRequestParams) -> t.ListPromptsResult:
        """The suite's prompts."""
        return t.ListPromptsResult(prompts=[prompt.listed() for prompt in PROMPTS])

    async def get_prompt(
        self, ctx: Context, params: t.GetPromptRequestParams
    ) -> t.GetPromptResult | t.InputRequiredResult:
        """One prompt."""
        prompt = self.prompts.get(params.name)
        if prompt is None:
            raise MCPError(t.INVALID_PARAMS, "Unknown prompt")
        return prompt.get(Asked(self.face, self.tasks, ctx, params))

    async def set_level(self, ctx: Context, params: t.SetLevelRequestParams) -> t.EmptyResult:
        """Takes note, as a server of the handshake era has to."""
        return t.EmptyResult()

    async def list_resources(self, ctx: Context, params: t.PaginatedRequestParams | None) -> t.ListResourcesResult:
        """The suite's resources stand before the product's on the first page."""
        page = await super().list_resources(ctx, params)
        is_first = params is None or params.cursor is None
        return page.model_copy(update={"resources": [*resources.listed(), *page.resources]}) if is_first else page

    async def list_templates(
        self, ctx: Context, params: t.PaginatedRequestParams | None
    ) -> t.ListResourceTemplatesResult:
        """The product's templates and the suite's."""
        own = await super().list_templates(ctx, params)
        return t.ListResourceTemplatesResult(resource_templates=[*own.resource_templates, resources.template()])

    async def read_resource(self, ctx: Context, params: t.ReadResourceRequestParams) -> t.ReadResourceResult:
        """A resource of the suite, or the product's."""
        return resources.read(params.uri) or await super().read_resource(ctx, params)
