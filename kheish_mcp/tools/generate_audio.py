"""Text in, one spoken asset out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import Field

from ..capabilities import AudioFormat, AudioGeneration, Exchange, Generation, SpeechRequest
from ..catalog import Backend
from ..errors import InvalidArgument, JsonObject, KheishError
from ..formats.joining import APART, join
from ..sentences import split_speech
from ..stores.assets import Asset
from ..stores.jobs import Job
from .base import Call, MediaInput, Outcome, Tool, total
from .caps import give_back, plan
from .fallback import Made, first_that_works
from .paid import keep_paid, origin, reluctantly, save_copies, shown, spend
from .running import run_as_job


class GenerateAudio(MediaInput):
    """Speaks a text of any length exactly as written and keeps the sound as an asset.

    The user hears it only through emit_output or its path. list_models shows voices. Paid on a provider's route.
    """

    input: str = Field(min_length=1, max_length=200_000, description="The text to speak, any length.")
    voice: str | None = Field(
        None, max_length=96, pattern=r"^[A-Za-z0-9_.+-]+$", description="Voice name; the model's own if left out."
    )
    format: AudioFormat | None = Field(None, description="mp3 by default; wav from a model that gives only PCM.")
    speed: float | None = Field(None, ge=0.25, le=4, description="1 is the voice's own.")
    instructions: str | None = Field(None, max_length=4000, description="How to speak, for models that take it.")


async def run(given: GenerateAudio, call: Call) -> Outcome:
    """Refuses before anything is spent where no route, model, text or path fits."""
    backends = call.catalog.candidates(AudioGeneration, provider=given.provider, model=given.model)
    if not given.input.strip():
        raise InvalidArgument("input holds nothing to speak.", hint="Give at least one word.")
    request = SpeechRequest(given.input, given.voice or "", given.format, given.speed, given.instructions or "")

    async def work(job: Job) -> JsonObject:
        made = await first_that_works(backends, lambda backend: _spoken(call, job, backend, request))
        asset = await _joined(call, job, made.backend, made.what.parts)
        return await _result(call, job, made, asset, given)

    return await run_as_job(call, TOOL.name, given, work)


@dataclass(frozen=True, slots=True)
class _Part:
    """One spoken part: what was paid for, without the bytes, and the asset that it is until all parts are joined."""

    text: str
    generation: Generation
    asset: Asset


@dataclass(frozen=True, slots=True)
class _Speech:
    """The parts that were spoken, at least one, and a warning where others were not."""

    parts: tuple[_Part, ...]
    warnings: tuple[str, ...] = ()


async def _spoken(call: Call, job: Job, backend: Backend[AudioGeneration], request: SpeechRequest) -> _Speech:
    """Speaks part by part; when a later part fails, what was spoken so far is delivered with a warning."""
    texts = split_speech(request.text, backend.driver.longest_speech(backend.model))
    if len(texts) > 1 and request.format in APART:
        raise InvalidArgument(
            f"A text of {len(texts)} parts cannot be joined as {request.format}.", hint="Ask for wav, mp3 or opus."
        )
    wanted = [replace(request, text=text) for text in texts]
    rows = await plan(call, job, backend, AudioGeneration.flag, wanted)
    parts: list[_Part] = []
    for at, (row, part) in enumerate(zip(rows, wanted, strict=True)):
        try:
            parts.append(await _part(call, job, backend, row, part, alone=len(wanted) == 1))
        except KheishError as refusal:
            await give_back(call, rows[at + 1 :], refusal)
            if not parts:
                raise
            return _Speech(tuple(parts), (f"Only {len(parts)} of {len(texts)} parts were spoken: {refusal.message}",))
        await job.report(f"{backend.route_id}: {len(parts)} of {len(texts)} parts spoken")
    return _Speech(tuple(parts))


async def _part(
    call: Call, job: Job, backend: Backend[AudioGeneration], row: int, request: SpeechRequest, *, alone: bool
) -> _Part:
    async def ask(model: str, exchange: Exchange) -> Generation:
        return await backend.driver.generate_audio(model, request, exchange)

    generation = await spend(call, job, backend, row, ask, alone=alone)
    provenance = origin(call, job, backend, request.text, generation)
    (asset,), _ = await keep_paid(call, row, generation, label=job.tool, provenance=provenance)
    return _Part(request.text, replace(generation, media=()), asset)


async def _joined(call: Call, job: Job, backend: Backend[AudioGeneration], parts: Sequence[_Part]) -> Asset:
    """The one asset of all parts, with what is heard as its text; the parts go, but for one that was there before."""
    text = "".join(part.text for part in parts)
    whole = parts[0].asset
    if len(parts) > 1:
        media = join([await call.assets.read(part.asset) for part in parts])
        provenance = origin(call, job, backend, text, parts[0].generation)
        whole = await call.assets.keep(media, owner=call.owner, label=job.tool, provenance=provenance)
        own = {part.asset.asset_id for part in parts if part.asset.provenance.get("job_id") == job.job_id}
        for asset_id in own - {whole.asset_id}:
            await call.assets.delete(asset_id, call.owner)
    with reluctantly():
        await call.assets.set_text(whole, _heard(parts))
    return whole


def _heard(parts: Sequence[_Part]) -> str:
    """What is heard: the text exactly, or where the model says what it said, that."""
    if all(part.generation.transcript is None for part in parts):
        return "".join(part.text for part in parts)
    return " ".join((part.generation.transcript or part.text).strip() for part in parts)


async def _result(
    call: Call, job: Job, made: Made[AudioGeneration, _Speech], asset: Asset, given: GenerateAudio
) -> JsonObject:
    parts, warnings = made.what.parts, made.what.warnings
    generations = [part.generation for part in parts]
    paths, unsaved = await save_copies(call, (asset,), given.save_as)
    told = dict.fromkeys(warning for generation in generations for warning in generation.warnings)
    result: JsonObject = {
        "route_id": made.backend.route_id,
        "provider": made.backend.provider,
        "model": generations[0].model,
        "assets": [shown(asset, paths)],
        "transcript": _heard(parts),
        "cost_usd": total([generation.cost_usd for generation in generations]),
        "job_id": job.job_id,
        "warnings": [*made.warnings, *told, *warnings, *unsaved],
        **made.attempts_json,
    }
    if generations[0].generation_id:
        result["generation_id"] = generations[0].generation_id
    return result


TOOL = Tool("generate_audio", "Generate speech", GenerateAudio, run, needs=(AudioGeneration,), spends=True)
