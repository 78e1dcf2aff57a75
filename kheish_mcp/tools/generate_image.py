"""Words in, picture assets out."""

from __future__ import annotations

from ..capabilities import ImageGeneration, ImageRequest
from ..catalog import Backend
from ..errors import JsonObject
from ..stores.jobs import Job
from .base import Call, Outcome, Tool
from .fallback import first_that_works
from .pictures import Batch, Order, PictureInput, collect, divide, finish, remembered, request_of
from .running import run_as_job


class GenerateImage(PictureInput):
    """Makes pictures from words and keeps them as assets: gives their ids, paths and a small preview.

    A local route draws exactly what a whole SVG document (<svg ...>...</svg>) says, and nothing else. Paid on a
    provider's route. emit_output shows a picture to the user.
    """


async def run(given: GenerateImage, call: Call) -> Outcome:
    """Refuses before anything is spent where no route, model or path fits."""
    backends = call.catalog.candidates(ImageGeneration, provider=given.provider, model=given.model)
    request = request_of(given, ImageRequest)

    async def work(job: Job) -> JsonObject:
        async def attempt(backend: Backend[ImageGeneration]) -> tuple[Batch, ...]:
            requests = divide(request, backend.driver.images_at_once(backend.model))
            return await collect(
                call, job, Order(backend, ImageGeneration.flag, requests, backend.driver.generate_image)
            )

        return await finish(call, job, await first_that_works(backends, attempt), given)

    return remembered(call, await run_as_job(call, TOOL.name, given, work))


TOOL = Tool("generate_image", "Generate images", GenerateImage, run, needs=(ImageGeneration,), spends=True)
