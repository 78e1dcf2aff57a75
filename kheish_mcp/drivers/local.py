"""This machine: SVG to pictures, exact edits, espeak-ng, pocketsphinx; no key, no network, no cost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import ClassVar, Final

from ..capabilities import (
    AudioGeneration,
    Capability,
    Driver,
    EditRequest,
    Exchange,
    Generation,
    ImageEdit,
    ImageGeneration,
    ImageRequest,
    ModelCard,
    Segment,
    SpeechRequest,
    Transcript,
    Transcription,
    TranscriptionRequest,
)
from ..crafts.operations import EXAMPLES, parse_operations
from ..errors import InvalidArgument, Json, JsonObject
from ..formats.pcm import with_header
from ..formats.wav import unwrap
from ..media import Media
from ..workers import Workers

NEEDS: Final[dict[str, tuple[str, ...]]] = {
    "image_generation": ("resvg_py", "defusedxml"),
    "image_edit": (),
    "audio_generation": ("espeakng_loader",),
    "transcription": ("pocketsphinx",),
}
INSTALL: Final = "pip install 'kheish-mcp[local]'"
VOICES: Final = ("en-us", "en-gb", "en-us+f2", "en-us+f3", "de", "fr", "es", "it", "pt", "nl", "pl")
PIXELS: Final = re.compile(r"([1-9]\d{0,3})x([1-9]\d{0,3})")
ROOT: Final = re.compile(r"<svg[\s>]")
END: Final = "</svg>"
ENGLISH: Final = re.compile(r"en(?:g|-.+)?", re.IGNORECASE)
WORD_PAUSE_S: Final = 0.6
PLAIN: Final = "A plain voice."
CLEAR: Final = "Clear English speech only."


class Local(Driver, ImageGeneration, ImageEdit, AudioGeneration, Transcription):
    """The route that works with nothing set up. What it cannot do it refuses with a sentence that teaches."""

    name = "local"
    provider = "local"
    needs_key = False
    takes_any_model = False
    stands_in = False
    preferred: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "image_generation": ("svg",),
        "image_edit": ("operations",),
        "audio_generation": ("espeak-ng",),
        "transcription": ("pocketsphinx",),
    }

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def missing(self, capability: type[Capability]) -> tuple[str, str] | None:
        """The package that is not installed, and how to install it."""
        absent = [name for name in NEEDS[capability.flag] if find_spec(name) is None]
        return (f"the extra 'local' is not installed ({', '.join(absent)} is missing)", INSTALL) if absent else None

    def models(self) -> tuple[ModelCard, ...]:
        """Four models, each with how to prompt it."""
        pictures = ("png", "jpeg", "webp")
        svg = "The prompt is a whole SVG document; it is drawn exactly."
        edits = f"The prompt is operations: {EXAMPLES}."
        cards = (
            ModelCard("svg", ("image_generation",), (), ("WxH",), pictures, note=svg, prices={"image_out": 0.0}),
            ModelCard("operations", ("image_edit",), (), (), pictures, note=edits, prices={"image_out": 0.0}),
            ModelCard(
                "espeak-ng", ("audio_generation",), VOICES, (), ("wav", "pcm"), note=PLAIN, prices={"character": 0.0}
            ),
            ModelCard("pocketsphinx", ("transcription",), (), (), ("wav",), note=CLEAR, prices={"second": 0.0}),
        )
        return tuple(replace(card, price="free") for card in cards)

    async def generate_image(self, model: str, request: ImageRequest, exchange: Exchange) -> Generation:
        """The SVG of the prompt as a picture; prose is refused with a sentence that teaches."""
        begin, end = ROOT.search(request.prompt), request.prompt.rfind(END)
        if begin is None or end < begin.start():
            raise InvalidArgument(
                "This route draws SVG exactly and cannot imagine a scene: the prompt has to be a whole SVG document.",
                hint="Write the picture as <svg xmlns=...>...</svg>, or use a route with an image model.",
            )
        document = request.prompt[begin.start() : end + len(END)]
        parameters: JsonObject = {**_target(request)}
        opaque = request.background == "opaque" or request.output_format == "jpeg"
        if opaque:
            parameters["background"] = "white"
        made = await self._workers.run("render_svg", parameters, document.encode(errors="replace"))
        data = made.blobs[0]
        if request.output_format in ("jpeg", "webp"):
            edit: JsonObject = {"prompt": "sharpen 0", "output_format": request.output_format}
            data = (await self._workers.run("edit_image", edit, data)).blobs[0]
        return Generation((Media(data, ""),), model, 0.0, warnings=_ignored(request))

    async def edit_image(self, model: str, request: EditRequest, exchange: Exchange) -> Generation:
        """The picture after the operations of the prompt; prose is refused with a sentence that teaches."""
        parse_operations(request.prompt)
        blobs = [image.data for image in request.images] + ([request.mask.data] if request.mask else [])
        parameters: JsonObject = {
            "prompt": request.prompt,
            "mask": request.mask is not None,
            "output_format": request.output_format,
        }
        made = await self._workers.run("edit_image", parameters, *blobs)
        return Generation((Media(made.blobs[0], ""),), model, 0.0, warnings=_ignored(request))

    async def generate_audio(self, model: str, request: SpeechRequest, exchange: Exchange) -> Generation:
        """The text as WAV, or as samples where those are asked."""
        if request.format not in (None, "wav", "pcm", "mp3"):
            raise InvalidArgument(f"This route gives no {request.format}.", hint="Ask for wav or pcm.")
        parameters: dict[str, Json] = {"voice": request.voice or None, "speed": request.speed}
        made = await self._workers.run("speak", parameters, request.text.encode(errors="replace"))
        told = {
            "This route gives WAV instead of mp3.": request.format == "mp3",
            "espeak-ng takes no instructions.": bool(request.instructions),
            f"espeak-ng speaks at {made.facts['speed']} times its own speed, which is as near as it gets.":
                request.speed is not None and made.facts["speed"] != request.speed,
        }  # fmt: skip
        media = Media(made.blobs[0], "audio/wav")
        if request.format == "pcm":
            samples, pcm = unwrap(media.data)
            media = Media(samples, "audio/pcm", pcm=pcm)
        return Generation((media,), model, 0.0, warnings=tuple(warning for warning, holds in told.items() if holds))

    async def transcribe(self, model: str, request: TranscriptionRequest, exchange: Exchange) -> Transcript:
        """The words of clear English speech, with times."""
        audio = request.audio
        if audio.media_type != "audio/wav" and audio.pcm is None:
            raise InvalidArgument(
                f"This route hears WAV and PCM, and this is {audio.media_type}.",
                hint="Use a route with a speech model.",
            )
        if request.language and not ENGLISH.fullmatch(request.language):
            raise InvalidArgument("This route hears English alone.", hint="Use a route with a speech model.")
        made = await self._workers.run("hear", {}, with_header(audio), timeout=300)
        words = _words(made.facts.get("words"))
        ignored = [name for name, given in (("prompt", request.prompt), ("diarize", request.diarize)) if given]
        return Transcript(
            text=str(made.facts["text"]),
            model=model,
            language="en",
            duration_s=float(str(made.facts["duration_s"])),
            segments=_segments(words),
            words=words,
            cost_usd=0.0,
            warnings=tuple(f"pocketsphinx takes no {name}." for name in ignored),
        )

    def longest_speech(self, model: str) -> int:
        """Characters in one go; pieces keep the progress coming."""
        return 5000


def _target(request: ImageRequest) -> dict[str, Json]:
    if not request.size:
        return {}
    match = PIXELS.fullmatch(request.size)
    if match is None:
        raise InvalidArgument("size is WxH in pixels on this route.", hint="Such as 1024x768.")
    return {"width": int(match[1]), "height": int(match[2])}


def _ignored(request: ImageRequest) -> tuple[str, ...]:
    given = {
        "seed": request.seed is not None,
        "quality": request.quality is not None,
        "aspect_ratio": request.aspect_ratio,
    }
    return tuple(f"{name} changes nothing on this route." for name, there in given.items() if there)


def _words(found: Json) -> tuple[Segment, ...]:
    entries = found if isinstance(found, list) else []
    return tuple(
        Segment(float(str(entry["start"])), float(str(entry["end"])), str(entry["text"]))
        for entry in entries
        if isinstance(entry, dict)
    )


def _segments(words: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """Words put together up to the next pause."""
    runs: list[list[Segment]] = []
    for word in words:
        if runs and word.start - runs[-1][-1].end < WORD_PAUSE_S:
            runs[-1].append(word)
        else:
            runs.append([word])
    return tuple(Segment(run[0].start, run[-1].end, " ".join(word.text for word in run)) for run in runs)
