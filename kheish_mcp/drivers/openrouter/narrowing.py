"""What a request may ask of a model that is known: refused here, before it costs anything; pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from ...capabilities import EditRequest, ImageRequest, ModelCard, SpeechRequest
from ...conversation import ChatRequest
from ...errors import InvalidArgument
from ...media import Media
from .codec import PIXELS

R = TypeVar("R", bound=ImageRequest)
Word = TypeVar("Word", bound=str)
SHOWN = 24
SEEING = ("openai/gpt-5.4-mini", "google/gemini-2.5-flash")


def narrowed_picture(card: ModelCard | None, request: R) -> R:
    """The request without an `auto` that the model has no word for; InvalidArgument for what it does not take.

    A model whose parameters are not known may be asked for anything.
    """
    if card is None:
        return request
    _check_references(card, request)
    if not card.knobs:
        return request
    size_knob = "size" if PIXELS.fullmatch(request.size) else "resolution"
    _check(card, "size", size_knob, request.size if size_knob == "size" else request.size.upper())
    _check(card, "output_format", "output_format", request.output_format or "")
    _check(card, "seed", "seed", "" if request.seed is None else str(request.seed))
    return replace(
        request,
        aspect_ratio=_unless_auto(card, "aspect_ratio", request.aspect_ratio) or "",
        quality=_unless_auto(card, "quality", request.quality),
        background=_unless_auto(card, "background", request.background),
    )


def narrowed_speech(card: ModelCard | None, request: SpeechRequest) -> SpeechRequest:
    """The request with the model's first voice where none is named; InvalidArgument for a voice that it has not."""
    if card is None or not card.voices:
        return request
    if request.voice and request.voice not in card.voices:
        raise InvalidArgument(f"{card.id} has no voice {request.voice!r}.", hint=f"Its voices: {_listed(card.voices)}.")
    return replace(request, voice=request.voice or card.voices[0])


def check_senses(model: str, request: ChatRequest, *, sees: bool, hears: bool, others: Sequence[str]) -> None:
    """Refuses media that the model does not take; `others` are models that see, for the hint."""
    kinds = {
        part.media_type.partition("/")[0] for turn in request.turns for part in turn.parts if isinstance(part, Media)
    }
    if "image" in kinds and not sees:
        raise InvalidArgument(f"{model} takes no pictures.", hint=f"Models that do: {_listed(others or SEEING)}.")
    if "audio" in kinds and not hears:
        raise InvalidArgument(f"{model} takes no sound.", hint="Give it the transcript: transcribe_audio writes one.")


def _check_references(card: ModelCard, request: ImageRequest) -> None:
    given = len(request.images) if isinstance(request, EditRequest) else 0
    most = card.most_references
    if most is not None and given > most:
        raise InvalidArgument(f"{card.id} works from at most {most} pictures.", hint=f"Name {most} or fewer.")


def _check(card: ModelCard, argument: str, knob: str, value: str) -> None:
    """Refuses a value that is given and not among the model's."""
    if not value:
        return
    values = card.knobs.get(knob)
    if values is None:
        others = _listed(sorted(set(card.knobs) - {"input_references", "n"}))
        raise InvalidArgument(f"{card.id} takes no such {argument}.", hint=f"Leave it out; it takes: {others}.")
    if values and value not in values:
        raise InvalidArgument(f"{card.id} does not take {argument} {value!r}.", hint=f"It takes: {_listed(values)}.")


def _unless_auto(card: ModelCard, knob: str, value: Word | None) -> Word | None:
    """The value, or None where it leaves the choice to a model that has no word for that."""
    values = card.knobs.get(knob)
    if value == "auto" and (values is None or (values and "auto" not in values)):
        return None
    _check(card, knob, knob, value or "")
    return value


def _listed(values: Iterable[str]) -> str:
    held = tuple(values)
    return ", ".join(held[:SHOWN]) + (f" and {len(held) - SHOWN} more" if len(held) > SHOWN else "")
