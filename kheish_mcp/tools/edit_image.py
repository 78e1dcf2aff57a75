"""Picture assets and words in, picture assets out."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from ..capabilities import EditRequest, ImageEdit
from ..catalog import Backend
from ..errors import InvalidArgument, Json, JsonObject
from ..media import Kind
from ..stores.assets import Asset
from ..stores.jobs import Job
from .base import LONGEST_REFERENCE, Call, Outcome, Tool
from .fallback import first_that_works
from .pictures import Batch, Order, PictureInput, collect, divide, finish, remembered, request_of
from .running import run_as_job


class EditImage(PictureInput):
    """Changes pictures by words and keeps the results as new assets.

    On a local route the prompt is exact operations in order, such as: crop 10,10,400,300; resize 512; rotate 90;
    flip horizontal; grayscale; text "Hi" at 20,40. list_models names all. Paid on a provider's route.
    """

    image_asset_ids: list[str] | None = Field(
        None,
        max_length=16,
        description="Pictures, the subject first: asset ids, asset://, https:// or data: URIs, workspace paths. "
        "Left out: your last picture.",
    )
    mask: str | None = Field(
        None, max_length=LONGEST_REFERENCE, description="Picture: only its white or painted parts may change."
    )


async def run(given: EditImage, call: Call) -> Outcome:
    """Refuses before anything is spent where no route, model, picture or path fits."""
    backends = call.catalog.candidates(ImageEdit, provider=given.provider, model=given.model)
    sources = await _sources(given, call)
    mask = await _picture(call, given.mask, "mask") if given.mask is not None else None
    request = request_of(
        given,
        EditRequest,
        images=tuple([await call.assets.read(source) for source in sources]),
        mask=await call.assets.read(mask) if mask is not None else None,
    )
    origins = tuple(source.asset_id for source in sources)

    async def work(job: Job) -> JsonObject:
        async def attempt(backend: Backend[ImageEdit]) -> tuple[Batch, ...]:
            requests = divide(request, backend.driver.edits_at_once(backend.model))
            return await collect(
                call, job, Order(backend, ImageEdit.flag, requests, backend.driver.edit_image, origins)
            )

        return await finish(call, job, await first_that_works(backends, attempt), given)

    return remembered(call, await run_as_job(call, TOOL.name, given, work, _resolved(given, sources, mask)))


def _resolved(given: EditImage, sources: Sequence[Asset], mask: Asset | None) -> dict[str, Json]:
    """What the references stand for. One that was left out stands for nothing: the next call would mean another."""
    named: dict[str, Json] = {"image_asset_ids": [source.asset_id for source in sources]}
    masked: dict[str, Json] = {"mask": mask.asset_id} if mask is not None else {}
    return (named if given.image_asset_ids is not None else {}) | masked


async def _sources(given: EditImage, call: Call) -> list[Asset]:
    """The pictures named, or the one picture of the caller's last image call; an empty list means none."""
    if given.image_asset_ids is None:
        latest = call.latest.get(call.owner, ())
        if len(latest) == 1:
            return [await call.assets.get(latest[0], call.owner)]
        raise InvalidArgument(
            "image_asset_ids is missing, and your last image call did not give exactly one picture.",
            hint=f"Choose from {', '.join(latest)}." if latest else "Name the pictures to edit in image_asset_ids.",
            details={"candidates": list(latest)},
        )
    if not given.image_asset_ids:
        raise InvalidArgument("image_asset_ids is empty: there is nothing to edit.", hint="Name at least one picture.")
    return [await _picture(call, reference, "image_asset_ids") for reference in given.image_asset_ids]


async def _picture(call: Call, reference: str, argument: str) -> Asset:
    return await call.references.resolve(reference, owner=call.owner, kinds=Kind.IMAGE, argument=argument)


TOOL = Tool("edit_image", "Edit images", EditImage, run, needs=(ImageEdit,), spends=True)
