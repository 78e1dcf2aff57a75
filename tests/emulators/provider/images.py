"""POST /images and GET /images/models, and the picture files that a link answer points to."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import itertools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from PIL import Image

from tests.emulators.provider import synthetic
from tests.emulators.provider.answers import Answer, Asked, Refused, stream
from tests.emulators.provider.catalogue import MODELS, Model, find
from tests.emulators.provider.wire import ImagePart, ImageRequest, parse

if TYPE_CHECKING:
    from tests.emulators.provider.emulator import OpenRouterEmulator

MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "svg": "image/svg+xml"}
KNOBS = ("aspect_ratio", "resolution", "size", "quality", "background", "output_format", "output_compression", "seed")


async def generate(emulator: OpenRouterEmulator, asked: Asked) -> Answer:
    """Pictures as base64, one price each."""
    request = parse(ImageRequest, asked.body)
    model = find(request.model, "image")
    check_count(request, model)
    check_knobs(request, model)
    check_references(request.input_references or [], model)
    form = request.output_format or model.parameters.get("output_format", {"values": ["png"]})["values"][0]
    size = synthetic.measure(request.size, request.resolution, request.aspect_ratio)
    seeds = [emulator.next_picture() for _ in range(request.n)]
    clear = request.background == "transparent"
    make = synthetic.picture
    made = [await asyncio.to_thread(make, seed, size, form, emulator.picture_bytes, clear) for seed in seeds]
    data = [{"b64_json": base64.b64encode(one).decode(), "media_type": MEDIA_TYPES[form]} for one in made]
    cost = round(model.cost * request.n, 6)
    payload = {"created": int(time.time()), "data": data, "usage": usage(cost, request.n)}
    told = {"model": request.model, "cost": cost, "generation_id": emulator.next_id("gen")}
    if request.stream and model.streams:
        return stream(shown(payload), **told, cancellable=True)
    return Answer(payload=payload, **told)


def shown(payload: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events of a stream: for every picture a first impression, and then itself; the last one tells the price."""
    for item in payload["data"]:
        with Image.open(io.BytesIO(base64.b64decode(item["b64_json"]))) as picture:
            first = synthetic.picture(0, (picture.width // 8, picture.height // 8), "png")
        text = base64.b64encode(first).decode()
        yield {"type": "image_generation.partial_image", "partial_image_index": 0, "b64_json": text}
        told = {"usage": payload["usage"]} if item is payload["data"][-1] else {}
        yield {"type": "image_generation.completed", **item, "created": payload["created"], **told}


def usage(cost: float, count: int) -> dict[str, object]:
    """Tokens and USD as the provider counts them."""
    tokens = 4175 * count
    return {
        "prompt_tokens": 0,
        "completion_tokens": tokens,
        "total_tokens": tokens,
        "cost": cost,
        "is_byok": False,
        "cost_details": {
            "upstream_inference_cost": cost,
            "upstream_inference_prompt_cost": 0,
            "upstream_inference_completions_cost": cost,
        },
        "completion_tokens_details": {"reasoning_tokens": 0, "image_tokens": tokens},
    }


def check_count(request: ImageRequest, model: Model) -> None:
    """Single-image models refuse more than one; the others have a bound."""
    bound = model.parameters.get("n", {"max": 1})["max"]
    if request.n > bound:
        raise Refused(400, f"{model.id} makes at most {bound} image per request: n is not supported")


def check_knobs(request: ImageRequest, model: Model) -> None:
    """A parameter that the model does not list is refused, and so is a value that it does not list."""
    for name in KNOBS:
        value = getattr(request, name)
        described = model.parameters.get("resolution" if name == "size" and value and "x" not in value else name)
        if value is None:
            continue
        if described is None:
            raise Refused(400, f"{name} is not supported by {model.id}")
        if described["type"] == "enum" and value not in described["values"]:
            raise Refused(400, f"{name}: this value is not supported by {model.id}")


def check_references(references: list[ImagePart], model: Model) -> None:
    """Every reference is a picture that decodes, under its own label, and not too many of them."""
    if not references:
        return
    if "image" not in model.inputs:
        raise Refused(404, "No endpoints found that support the requested input modalities: image")
    if len(references) > model.parameters["input_references"]["max"]:
        raise Refused(400, f"{model.id} takes fewer input_references")
    for part in references:
        check_picture(part.image_url.url)


def check_picture(url: str) -> None:
    """A data URL whose bytes are the picture that its label says."""
    if not url.startswith("data:"):
        raise Refused(400, "The image could not be downloaded", error_type="image_download_failed")
    label, comma, text = url.removeprefix("data:").partition(";base64,")
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise Refused(400, "Invalid base64 in image data URL", error_type="invalid_image") from error
    if not comma or synthetic.sniff_picture(data) != label:
        raise Refused(400, "The image does not match its media type", error_type="unsupported_image_format")


async def models(_emulator: OpenRouterEmulator, _asked: Asked) -> Answer:
    """The image models with their parameters."""
    return Answer(payload={"data": [model.image_row() for model in MODELS.values() if model.makes_pictures]})


async def endpoints(_emulator: OpenRouterEmulator, asked: Asked) -> Answer:
    """Who serves an image model, and for how much."""
    model = MODELS.get(asked.path.removeprefix("/images/models/").removesuffix("/endpoints"))
    if model is None or not model.makes_pictures:
        raise Refused(404, "Model not found")
    return Answer(payload=model.image_endpoints())


async def file(_emulator: OpenRouterEmulator, asked: Asked) -> Answer:
    """A picture behind a link: `/files/<number>.png`."""
    number = int("".join(itertools.filterfalse(str.isalpha, asked.path.rpartition("/")[2].partition(".")[0])) or 0)
    return Answer(body=synthetic.picture(2 * 10**6 + number, (64, 64), "png"), media_type="image/png")
