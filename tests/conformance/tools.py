"""The suite's tools: contents of every kind, questions to the client, changes to hear of, and schemas to keep whole."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import mcp_types as t
from mcp.server.subscriptions import PromptsListChanged

from kheish_mcp.errors import FailedPrecondition
from kheish_mcp.mcp_server.content import refusal
from tests.samples import picture, wav

from .questions import Asked, Result, Schema, form, roots, sampling

PNG = base64.b64encode(picture("PNG", (1, 1))).decode()
WAV = base64.b64encode(wav()).decode()
NOTHING: Schema = {"type": "object", "properties": {}, "additionalProperties": False}

NAME = form("What is your name?", name="string")
GREETING = sampling("Generate a greeting.")
CAPITAL = sampling("What is the capital of France?")
CONFIRM = form("Please confirm.", ok="boolean")


@dataclass(frozen=True, slots=True)
class Fixture:
    """A tool of the suite."""

    name: str
    description: str
    run: Callable[[Asked], Awaitable[Result]]
    schema: Schema = field(default_factory=lambda: NOTHING)

    def listed(self) -> t.Tool:
        """Its definition."""
        return t.Tool(name=self.name, description=self.description, input_schema=self.schema)


def text(sentence: str) -> t.CallToolResult:
    """A result that says one sentence."""
    return contents(t.TextContent(type="text", text=sentence))


def contents(*blocks: t.ContentBlock) -> t.CallToolResult:
    """A result of these blocks."""
    return t.CallToolResult(content=list(blocks))


def given(*blocks: t.ContentBlock) -> Callable[[Asked], Awaitable[Result]]:
    """A tool that always gives these blocks."""

    async def run(_: Asked) -> Result:
        return contents(*blocks)

    return run


def embedded(uri: str, media_type: str, said: str) -> t.EmbeddedResource:
    """A text within a result."""
    return t.EmbeddedResource(
        type="resource", resource=t.TextResourceContents(uri=uri, mime_type=media_type, text=said)
    )


async def fail(_: Asked) -> Result:
    return refusal(FailedPrecondition("This tool intentionally returns an error for testing."))


async def log(asked: Asked) -> Result:
    for sentence in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await asked.log(sentence)
    return text("Three sentences were logged.")


async def progress(asked: Asked) -> Result:
    for done in (0, 50, 100):
        await asked.ctx.session.report_progress(done, 100)
    return text("Progress was reported three times.")


async def sample(asked: Asked) -> Result:
    answer = await asked.sample(arguments(asked)["prompt"])
    return text(f"LLM response: {answer.content.model_dump_json()}")


def elicit(**fields: dict[str, Any]) -> Callable[[Asked], Awaitable[Result]]:
    """A tool that asks the user for these fields."""

    async def run(asked: Asked) -> Result:
        schema = {"type": "object", "properties": fields, "required": list(fields)}
        answer = await asked.elicit(arguments(asked).get("message", "Please answer."), schema)
        return text(f"User response: action={answer.action}, content={answer.content}")

    return run


def arguments(asked: Asked) -> dict[str, Any]:
    """What the tool was called with."""
    return asked.params.arguments or {}


def inquire(state: str | None = None, **questions: t.InputRequest) -> Callable[[Asked], Awaitable[Result]]:
    """A tool that cannot end before these questions are answered."""

    async def run(asked: Asked) -> Result:
        return asked.missing(questions, state) or text(f"state-ok: {sorted(asked.params.input_responses or {})}")

    return run


async def two_rounds(asked: Asked) -> Result:
    first, second = {"step1": NAME}, {"step2": form("What is your favourite colour?", color="string")}
    if asked.params.request_state == "second":
        return asked.missing(second, "second") or text("Both steps are done.")
    return asked.missing(first, "first") or t.InputRequiredResult(input_requests=dict(second), request_state="second")


async def what_is_declared(asked: Asked) -> Result:
    possible = {"elicitation": NAME, "sampling": GREETING, "roots": roots()}
    return await inquire(**{name: one for name, one in possible.items() if asked.declares(name)})(asked)


async def need_sampling(asked: Asked) -> Result:
    asked.require({"sampling": {}}, is_there=asked.declares("sampling"))
    return text("The client can sample.")


async def change_tools(asked: Asked) -> Result:
    await asked.face.listeners.tools_changed()
    return text("The tools have changed.")


async def change_prompts(asked: Asked) -> Result:
    await asked.face.listeners._bus.publish(PromptsListChanged())
    return text("The prompts have changed.")


def one(name: str, **more: Any) -> Schema:
    """A schema of one required string."""
    return {"type": "object", "properties": {name: {"type": "string", **more}}, "required": [name]}


DEFAULTS = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
TITLED = [{"const": f"value{number}", "title": f"Option {number}"} for number in (1, 2, 3)]
CHOICES: dict[str, dict[str, Any]] = {
    "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
    "titledSingle": {"type": "string", "oneOf": TITLED},
    "legacyEnum": {"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
    "titledMulti": {"type": "array", "items": {"anyOf": TITLED}},
}
WHOLE: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}

SAID = t.TextContent(type="text", text="This is a simple text response for testing.")
SEEN = t.ImageContent(type="image", data=PNG, mime_type="image/png")
HEARD = t.AudioContent(type="audio", data=WAV, mime_type="audio/wav")
HELD = embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")
MIXED = embedded("test://mixed-content-resource", "application/json", '{"test": "data", "value": 123}')

FIXTURES = (
    Fixture("test_simple_text", "Gives a text.", given(SAID)),
    Fixture("test_image_content", "Gives a picture.", given(SEEN)),
    Fixture("test_audio_content", "Gives a sound.", given(HEARD)),
    Fixture("test_embedded_resource", "Gives a resource.", given(HELD)),
    Fixture("test_multiple_content_types", "Gives a text, a picture and a resource.", given(SAID, SEEN, MIXED)),
    Fixture("test_error_handling", "Refuses.", fail),
    Fixture("test_tool_with_logging", "Logs three sentences.", log),
    Fixture("test_logging_tool", "Logs three sentences.", log),
    Fixture("test_tool_with_progress", "Reports progress three times.", progress),
    Fixture("test_sampling", "Asks the client's model.", sample, one("prompt")),
    Fixture(
        "test_elicitation",
        "Asks the user.",
        elicit(username={"type": "string"}, email={"type": "string"}),
        one("message"),
    ),
    Fixture("test_elicitation_sep1034_defaults", "Asks the user, with defaults.", elicit(**DEFAULTS)),
    Fixture("test_elicitation_sep1330_enums", "Asks the user to choose.", elicit(**CHOICES)),
    Fixture("test_missing_capability", "Needs a client that can sample.", need_sampling),
    Fixture("test_streaming_elicitation", "Asks the user.", inquire(user_name=NAME)),
    Fixture("test_trigger_tool_change", "Says that the tools have changed.", change_tools),
    Fixture("test_trigger_prompt_change", "Says that the prompts have changed.", change_prompts),
    Fixture("test_input_required_result_elicitation", "Asks the user.", inquire(user_name=NAME)),
    Fixture("test_input_required_result_sampling", "Asks the client's model.", inquire(capital_question=CAPITAL)),
    Fixture("test_input_required_result_list_roots", "Asks for the roots.", inquire(client_roots=roots())),
    Fixture("test_input_required_result_request_state", "Asks, with a state.", inquire("state", confirm=CONFIRM)),
    Fixture("test_input_required_result_tampered_state", "Asks, with a state.", inquire("state", confirm=CONFIRM)),
    Fixture(
        "test_input_required_result_multiple_inputs",
        "Asks everybody at once.",
        inquire("state", user_name=NAME, greeting=GREETING, client_roots=roots()),
    ),
    Fixture("test_input_required_result_multi_round", "Asks twice.", two_rounds),
    Fixture("test_input_required_result_capabilities", "Asks whom it can.", what_is_declared),
    Fixture("test_custom_header", "Gives a text; its argument stands in a header too.", given(SAID),
            one("region", **{"x-mcp-header": "Region"})),
    Fixture("json_schema_2020_12_tool", "Has a schema with everything in it.", given(SAID), WHOLE),
)  # fmt: skip
