"""The shape of a tool, and what a running tool may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, TypeVar

import anyio
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..capabilities import Capability, nobody_listens
from ..catalog import Backend, Catalog
from ..conversation import TextGeneration
from ..errors import InvalidArgument, JsonObject
from ..sources.references import References
from ..sources.workspace import Workspace
from ..stores.assets import Asset, AssetStore
from ..stores.jobs import Job, Jobs
from ..stores.ledger import Ledger
from ..stores.policy import Policy
from ..stores.sessions import SessionStore
from ..workers import Workers

Preview = Literal["auto", "none", "full"]
LONGEST_REFERENCE: Final = 100_000_000  # a data: URI of 64 MiB in base64


class Input(BaseModel):
    """A tool's arguments, validated once and then trusted; unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class MediaInput(Input):
    """The arguments that every tool that makes or hears media shares."""

    provider: str | None = Field(None, max_length=128, description="Route id, see list_models.")
    model: str | None = Field(None, max_length=256, description="Model or ROUTE/model.")
    wait_seconds: float | None = Field(None, ge=0, le=300, description="Seconds, then a job_id comes instead.")
    preview: Preview = Field("auto", description="What is shown inline.")
    save_as: str | None = Field(None, max_length=1024, description="Workspace path to save to.")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished call: the result object, and the assets to be shown with it, each with a preview and a link.

    `working` is the job of a call that is not finished yet.
    """

    result: JsonObject
    assets: tuple[Asset, ...] = ()
    preview: Preview = "auto"
    working: str | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """An emitted output: texts and assets in the order in which they are to be seen, and the result object.

    `named` are the assets that follow without being asked for inline: a picture is seen all the same, a sound is a link.
    """

    result: JsonObject
    parts: tuple[str | Asset, ...]
    named: tuple[Asset, ...] = ()


class Lanes:
    """At most so many exchanges of a route at once in this process; the others wait, first come first served."""

    def __init__(self) -> None:
        self._of: dict[str, anyio.CapacityLimiter] = {}

    def lane(self, backend: Backend[Any]) -> anyio.CapacityLimiter:
        """The route's lane, as wide as its limits say now."""
        wide = backend.limits.max_concurrency
        known = self._of.setdefault(backend.route_id, anyio.CapacityLimiter(wide))
        if known.total_tokens != wide:
            known.total_tokens = wide
        return known


def total(costs: Sequence[float | None]) -> float | None:
    """The sum in USD; None as soon as one part is unknown, since an unknown price is not zero."""
    known = [cost for cost in costs if cost is not None]
    return round(sum(known), 9) if len(known) == len(costs) else None


@dataclass(frozen=True, slots=True)
class Question:
    """What a run is to answer: words, and attachments in the order in which they are shown.

    `session` is the one that it goes on with, or None for none; `tools` says whether the daemon's own are at hand.
    """

    text: str
    attachments: tuple[Asset, ...] = ()
    session: str | None = None
    system: str = ""
    max_output_tokens: int | None = None
    temperature: float | None = None
    tools: bool = True


@dataclass(frozen=True, slots=True)
class Witness:
    """Who hears how a run goes: `said` each piece of its text as it comes, `did` a sentence for each of its steps.

    `published` gets the result object of each emit_output.
    """

    said: Callable[[str], Awaitable[None]] = nobody_listens
    did: Callable[[str], Awaitable[None]] = nobody_listens
    published: Callable[[JsonObject], Awaitable[None]] = nobody_listens


@dataclass(frozen=True, slots=True)
class Parts:
    """What running tools share: the table of backends as it is now, the stores, the sources of media.

    `latest` holds each owner's most recent pictures, for an edit that names none. `converse` is one run of the first of
    several text models that answers, by whoever stands above the tools; it gives ask_model's result object. `lanes` is
    how much of each route is in use.
    """

    catalog: Catalog
    assets: AssetStore
    references: References
    workspace: Workspace | None
    workers: Workers
    jobs: Jobs
    ledger: Ledger
    sessions: SessionStore
    policy: Policy
    latest: dict[str, tuple[str, ...]]
    converse: Callable[[Call, Job, Sequence[Backend[TextGeneration]], Question, Witness], Awaitable[JsonObject]]
    lanes: Lanes
    learn: Callable[[], Awaitable[None]]


def nobody_notes(job_id: str) -> None:
    """The default of a call whose answer nobody keeps account of."""


async def nobody_stops() -> bool:
    """The default of a call that has no way to be stopped."""
    return False


@dataclass(frozen=True, slots=True)
class Call(Parts):
    """One call and what it may use. `owner` is whose assets these are; `report` tells the caller how it goes.

    `at_hand` says that the caller sits on this machine, so that a file's path means something to it; `wait_seconds`
    is what this client's profile waits. `hands_over` names a job whose end goes out with the answer of this call;
    `wants_stop`, asked once the call was cancelled, says whether its caller said stop and has not only gone. `session`
    is the one whose run calls, if a run does.
    """

    owner: str
    at_hand: bool
    report: Callable[[str], Awaitable[None]]
    wait_seconds: float
    hands_over: Callable[[str], None] = nobody_notes
    wants_stop: Callable[[], Awaitable[bool]] = nobody_stops
    session: str | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """What a client sees of a tool, what it needs of the catalog, and the function that runs it.

    `needs` is empty for a tool that is always listed; else one backend for any of them lists it. `spends` says that it
    costs money or time, `writes` that it leaves something behind, `fetches` that it may ask strangers; all three end up
    in the annotations.
    """

    name: str
    title: str
    input: type[Input]
    run: Callable[[Any, Call], Awaitable[Outcome | Published]]
    needs: tuple[type[Capability], ...] = ()
    spends: bool = False
    writes: bool = True
    fetches: bool = False
    output_schema: Mapping[str, Any] | None = None

    @property
    def description(self) -> str:
        """What the model reads: the docstring of the tool's input."""
        return " ".join((self.input.__doc__ or "").split())

    def listed_by(self, catalog: Catalog) -> bool:
        """Whether the tool stands in tools/list now."""
        return not self.needs or any(catalog.offers_any(kind) for kind in self.needs)

    def why_not(self, catalog: Catalog) -> str:
        """Why it is not listed, in one sentence per thing it lacks."""
        return " ".join(catalog.why_not(kind) for kind in self.needs)


T = TypeVar("T", bound=Input)
MOST_ARGUMENTS: Final = 100
# What pydantic says of these is about its own models; a caller knows of arguments.
PLAINLY: Final = {"missing": "it is required", "extra_forbidden": "there is no such argument"}


def validate(model: type[T], arguments: Mapping[str, Any]) -> T:
    """The arguments as a frozen value; InvalidArgument names the wrong ones and says what they should be."""
    if len(arguments) > MOST_ARGUMENTS:  # each would be told of by itself, and half a million of them take seconds
        raise InvalidArgument("There are far too many arguments.", hint=_takes(model))
    try:
        return model.model_validate(dict(arguments))
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        told = "; ".join(f"{_place(problem['loc'])}: {_said(problem)}" for problem in problems[:5])
        raise InvalidArgument(f"Wrong arguments: {told}.", hint=_takes(model)) from None


def _said(problem: Mapping[str, Any]) -> str:
    return PLAINLY.get(problem["type"]) or str(problem["msg"])


def _takes(model: type[Input]) -> str:
    """Every argument, in the order of the schema, and which of them have to be there."""
    known = [f"{name} (required)" if model.model_fields[name].is_required() else name for name in _ordered(model)]
    return f"It takes: {', '.join(known)}."


def _ordered(model: type[Input]) -> list[str]:
    own = [name for name in model.model_fields if name not in MediaInput.model_fields]
    return own + [name for name in model.model_fields if name not in own]


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(step)[:64] for step in location) or "arguments"


@cache
def schema_of(model: type[Input]) -> dict[str, Any]:
    """The input schema: closed, flat, own arguments before shared ones, without `$ref`, `anyOf`, null; made once (2 ms)."""
    raw = model.model_json_schema()
    definitions = raw.pop("$defs", {})
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: _flat(raw["properties"][name], definitions) for name in _ordered(model)},
        "additionalProperties": False,
    }
    if raw.get("required"):
        schema["required"] = raw["required"]
    return schema


def _flat(node: Any, definitions: Mapping[str, Any]) -> Any:
    """A schema node without what some hosts stumble over; see the facts about hosts in AGENTS.md."""
    if isinstance(node, list):
        return [_flat(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _flat(
            definitions[node["$ref"].rsplit("/", 1)[-1]] | {k: v for k, v in node.items() if k != "$ref"}, definitions
        )
    merged = dict(node)
    branches = [branch for branch in merged.pop("anyOf", []) if branch.get("type") != "null"]
    if len(branches) == 1:
        merged = {**branches[0], **merged}
    # Hosts drop patterns or mistake them; the server asks for them all the same, and a default is what it takes anyway.
    for key in ("pattern", "default"):
        if not isinstance(merged.get(key), dict):
            merged.pop(key, None)
    if "title" in merged and isinstance(merged["title"], str):
        del merged["title"]
    return {key: _flat(value, definitions) for key, value in merged.items()}
