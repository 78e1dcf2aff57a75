"""What a server may ask of its client: within a call in the handshake era, as an unfinished result in the era after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mcp_types as t
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata

from kheish_mcp.errors import JsonObject
from kheish_mcp.mcp_server.server import Context, Face

from .tasks import AskingTasks

Result = t.CallToolResult | t.InputRequiredResult | dict[str, Any]
Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """One call of a fixture: the face and the tasks that it came to, its context and its parameters."""

    face: Face
    tasks: AskingTasks
    ctx: Context
    params: t.CallToolRequestParams | t.GetPromptRequestParams

    async def log(self, sentence: str) -> None:
        """Tells the client, if it wants to be told."""
        await self.ctx.session.send_log_message("info", sentence, related_request_id=self.ctx.request_id)

    async def elicit(self, message: str, schema: Schema) -> t.ElicitResult:
        """Asks the user, in the handshake era."""
        return await self.ctx.session.elicit_form(message, schema, self.ctx.request_id)

    async def sample(self, prompt: str) -> t.CreateMessageResult:
        """Asks the client's model, in the handshake era."""
        back = ServerMessageMetadata(related_request_id=self.ctx.request_id)
        return await self.ctx.session.send_request(sampling(prompt), t.CreateMessageResult, metadata=back)

    def missing(
        self, questions: Mapping[str, t.InputRequest], state: str | None = None
    ) -> t.InputRequiredResult | None:
        """An unfinished result while questions are open, or the state did not come back with the answers.

        The client's state has been unsealed by the SDK's boundary, which refuses what it did not seal.
        """
        answered = self.params.input_responses or {}
        if questions.keys() <= answered.keys() and self.params.request_state == state:
            return None
        return t.InputRequiredResult(input_requests=dict(questions), request_state=state)

    def require(self, capabilities: JsonObject, *, is_there: bool) -> None:
        """-32021 where the client has not declared what an answer needs."""
        if not is_there:
            needed: JsonObject = {"requiredCapabilities": capabilities}
            raise MCPError(t.MISSING_REQUIRED_CLIENT_CAPABILITY, "The client lacks a capability.", needed)

    def declares(self, capability: str) -> bool:
        """Whether the client has declared a capability."""
        declared = self.ctx.session.client_capabilities
        return declared is not None and getattr(declared, capability) is not None


def form(message: str, **fields: str) -> t.ElicitRequest:
    """A question to the user, with the type of each field."""
    properties = {name: {"type": kind} for name, kind in fields.items()}
    schema = {"type": "object", "properties": properties, "required": list(fields)}
    return t.ElicitRequest(params=t.ElicitRequestFormParams(message=message, requested_schema=schema))


def sampling(prompt: str) -> t.CreateMessageRequest:
    """A question to the client's model."""
    said = t.SamplingMessage(role="user", content=t.TextContent(type="text", text=prompt))
    return t.CreateMessageRequest(params=t.CreateMessageRequestParams(messages=[said], max_tokens=100))


def roots() -> t.ListRootsRequest:
    """A question for the client's roots."""
    return t.ListRootsRequest()
