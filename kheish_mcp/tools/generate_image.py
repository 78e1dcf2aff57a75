"""Words in, picture assets out."""

from __future__ import annotations

from ..capabilities import Exchange, Generation, ImageGeneration, ImageRequest
from ..errors import JsonObject
from ..stores.jobs import Job
from .base import Call, Outcome, Tool
from .pictures import PictureInput, collect, divide, finish, request_of
from .running import run_as_job


class GenerateImage(PictureInput):
    """Makes pictures from words and keeps them as assets: gives their ids, paths and a small preview.

    A local route draws exactly what a whole SVG document (<svg ...>...</svg>) says, and nothing else. Paid on a
    provider's route. emit_output shows a picture to the user.
    """


async def run(given: GenerateImage, call: Call) -> Outcome:
    """Refuses before anything is spent where no route, model or path fits."""
    backend = call.catalog.resolve(ImageGeneration, provider=given.provider, model=given.model)
    requests = divide(request_of(given, ImageRequest), backend.driver.images_at_once(backend.model))

    async def ask(model: str, request: ImageRequest, exchange: Exchange) -> Generation:
        return await backend.driver.generate_image(model, request, exchange)

    async def work(job: Job) -> JsonObject:
        batches = await collect(call, job, backend, requests, ask)
        return await finish(call, job, backend, batches, given)

    return await run_as_job(call, TOOL.name, given, work)


TOOL = Tool("generate_image", "Generate images", GenerateImage, run, needs=(ImageGeneration,), spends=True)
