"""Words and attachments in, the answer of a text model out."""

from __future__ import annotations

import time
from typing import Final

from pydantic import Field

from ..catalog import Backend
from ..conversation import TextGeneration
from ..errors import InvalidArgument, Json, JsonObject
from ..media import Media
from ..selectors import select
from ..stores.assets import Asset
from ..stores.jobs import Job
from ..stores.sessions import session_name
from .attachments import seeing
from .base import Call, MediaInput, Outcome, Question, Tool, Witness
from .paid import save_copies, shown
from .running import run_as_job

TELL_EVERY_S: Final = 0.25
LONGEST_TOLD: Final = 2000


class AskModel(MediaInput):
    """Asks another text model, which may see pictures and use these tools; it knows only what you send.

    Paid on a provider's route.
    """

    input: str = Field(min_length=1, max_length=1_000_000, description="The question or task.")
    attachments: list[str] | None = Field(None, max_length=16, description="References: pictures, sounds, texts.")
    session: str | None = Field(None, max_length=128, description="Conversation to go on with.")
    system: str | None = Field(None, max_length=100_000, description="System prompt.")
    max_output_tokens: int | None = Field(None, ge=1, le=1_000_000, description="Longest answer.")
    temperature: float | None = Field(None, ge=0, le=2, description="0 is the steadiest.")


async def run(given: AskModel, call: Call) -> Outcome:
    """Refuses before anything is spent where no route, model, attachment, session or path fits."""
    session = session_name(given.session) if given.session is not None else None
    if not given.input.strip():
        raise InvalidArgument("input holds nothing to answer.", hint="Ask something.")
    backends = await text_backends(call, session, provider=given.provider, model=given.model)
    attachments = [
        await call.references.resolve(reference, owner=call.owner, kinds=None, argument="attachments")
        for reference in given.attachments or ()
    ]
    backends = seeing(backends, attachments)
    question = Question(
        given.input,
        tuple(attachments),
        session,
        given.system or "",
        given.max_output_tokens,
        given.temperature,
    )

    async def work(job: Job) -> JsonObject:
        result = await call.converse(call, job, backends, question, _teller(job))
        return await _saved(call, result, given)

    meant: JsonObject = {
        "attachments": [asset.asset_id for asset in attachments],
        "provider": backends[0].route_id,
        "model": backends[0].model,
    }
    return await run_as_job(call, TOOL.name, given, work, meant)


async def text_backends(
    call: Call, session: str | None, *, provider: str | None, model: str | None
) -> tuple[Backend[TextGeneration], ...]:
    """Who answers: the call's own choice, before its session's, before `runtime set-model`'s, before routes.toml's.

    Others follow only where none of the first three has named a model.
    """
    own = select(model, provider, call.catalog.routes)
    return call.catalog.tried(TextGeneration, await call.policy.settle(own, session, call.owner))


def _teller(job: Job) -> Witness:
    """Reports what the model has said so far, or its last 2,000 characters, at most four times a second."""
    text, told_at = "", 0.0

    async def said(piece: str) -> None:
        nonlocal text, told_at
        text = (text + piece)[-LONGEST_TOLD:]
        if time.monotonic() - told_at >= TELL_EVERY_S:
            told_at = time.monotonic()
            await job.report(text)

    return Witness(said, job.report)


async def _saved(call: Call, result: JsonObject, given: AskModel) -> JsonObject:
    """The result with the copies that were asked for: of its assets, or of its text where it has none."""
    if given.save_as is None:
        return result
    listed = result["assets"]
    ids = [str(entry["asset_id"]) for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    assets: list[Asset] = [await call.assets.get(asset_id, call.owner) for asset_id in ids]
    if not assets:
        media = Media(f"{result['text']}\n".encode(), "text/plain", "answer.txt")
        assets.append(await call.assets.keep(media, owner=call.owner, label=TOOL.name))
    paths, warnings = await save_copies(call, tuple(assets), given.save_as)
    earlier = result["warnings"]
    told: list[Json] = [*(earlier if isinstance(earlier, list) else ()), *warnings]
    return {**result, "assets": [shown(asset, paths) for asset in assets], "warnings": told}


TOOL = Tool("ask_model", "Ask a model", AskModel, run, needs=(TextGeneration,), spends=True)
