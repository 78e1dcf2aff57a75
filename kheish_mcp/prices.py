"""What a call will cost at most, from a model's card, before it is sent."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from .capabilities import EditRequest, ImageRequest, ModelCard, SpeechRequest, TranscriptionRequest
from .errors import MediaRejected
from .formats import recognise

Request: TypeAlias = ImageRequest | SpeechRequest | TranscriptionRequest

PIXELS: Final = re.compile(r"(\d{1,5})x(\d{1,5})")
# The largest picture of each tier, as providers cut them, in pixels.
TIERS: Final = {"512": 512 * 512, "1k": 1536 * 1024, "2k": 2048 * 2304, "4k": 4096 * 4608}
USUAL: Final = TIERS["1k"]

# Tokens of one picture where tokens are what is paid. Google's by tier and OpenAI's by quality are their own figures of
# 2026-11; where a provider asks a fixed price, OpenRouter divides it by 4175 (ImageGenerationResponse of 2026-11-22).
GOOGLE: Final = {"512": 1290, "1k": 1290, "2k": 1680, "4k": 2520}
OPENAI: Final = {"low": 408, "medium": 1584, "high": 6240}
FIXED: Final = 4175

# Speech is 25 to 32 tokens a second, and hardly slower than eight characters a second; a transcript has few words.
SPOKEN_TOKENS_PER_CHARACTER: Final = 4
CHARACTERS_PER_TOKEN: Final = 4
HEARD_TOKENS_PER_SECOND: Final = 32
WRITTEN_TOKENS_PER_SECOND: Final = 6


@dataclass(frozen=True, slots=True)
class Amount:
    """How much of a model's work a request asks for.

    `pictures` of `pixels` each (None: the model's choice), of a `tier` (512, 1k, 2k, 4k; "" for the model's choice)
    and a `quality`, from `references` pictures; `characters` to speak; `seconds` to hear; `tokens_in` to read and at
    most `tokens_out` to write. None is not known.
    """

    pictures: int = 0
    pixels: int | None = None
    tier: str = ""
    quality: str = ""
    references: int = 0
    characters: int = 0
    seconds: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None


def amount_of(request: Request) -> Amount:
    """How much one request to a driver asks for."""
    return MEASURES[type(request)](request)


def estimate_usd(card: ModelCard | None, flag: str, amount: Amount) -> float | None:
    """USD that a call of the capability `flag` will cost at most, as far as it can be said; None where it cannot.

    Only a price that the card states as zero gives 0. Estimates lean high: they are held against a cap.
    """
    rule = RULES.get(flag)
    known = rule(card, amount) if card is not None and rule is not None else None
    return None if known is None or card is None else known + card.prices.get("request", 0.0)


def _pictures(card: ModelCard, amount: Amount) -> float | None:
    """Pictures made, and what is asked for those that are worked from where that is known."""
    one = _picture(card, amount)
    return None if one is None else amount.pictures * one + amount.references * card.prices.get("image_in", 0.0)


def _picture(card: ModelCard, amount: Amount) -> float | None:
    """One picture: by its tier and quality, else at one price for all, else by area, else by tokens."""
    prices = card.prices
    variants = [
        ({*unit.partition(":")[2].split("_")}, usd) for unit, usd in prices.items() if unit.startswith("image_out:")
    ]
    if variants:
        asked = {word for word in (amount.tier, amount.quality) if any(word in words for words, _ in variants)}
        return max([usd for words, usd in variants if asked <= words] or [usd for _, usd in variants])
    if "image_out" in prices:
        return prices["image_out"]
    if "megapixel_out" in prices:
        return prices["megapixel_out"] * math.ceil((amount.pixels or TIERS.get(amount.tier, USUAL)) / 1e6)
    tokens = _picture_tokens(card.id, amount)
    return None if tokens is None or "image_token_out" not in prices else prices["image_token_out"] * tokens


def _picture_tokens(model: str, amount: Amount) -> float | None:
    """The tokens of one picture at most; None for a size that its vendor has no known figure for."""
    vendor = model.lstrip("~").partition("/")[0]
    if vendor == "google":
        return GOOGLE.get(amount.tier, GOOGLE["1k"])
    if vendor == "openai":
        area = amount.pixels or TIERS.get(amount.tier, USUAL)
        return OPENAI.get(amount.quality, OPENAI["high"]) * max(1.0, area / USUAL)
    return None if amount.tier == "4k" else FIXED


def _speech(card: ModelCard, amount: Amount) -> float | None:
    """By the character, else by the tokens read and spoken; a song has one price, which is the request's."""
    prices = card.prices
    if "character" in prices:
        return prices["character"] * amount.characters
    if "audio_token_out" not in prices:
        return 0.0 if prices.get("request") and card.outputs == ("audio",) else None
    read = prices.get("token_in", 0.0) / CHARACTERS_PER_TOKEN
    return amount.characters * (read + prices["audio_token_out"] * SPOKEN_TOKENS_PER_CHARACTER)


def _transcription(card: ModelCard, amount: Amount) -> float | None:
    """By the second, else by the tokens heard and written."""
    prices = card.prices
    heard = prices.get("audio_token_in", prices.get("token_in"))
    if amount.seconds is None:
        return None
    if "second" in prices:
        return prices["second"] * amount.seconds
    if heard is None or "token_out" not in prices:
        return None
    return amount.seconds * (heard * HEARD_TOKENS_PER_SECOND + prices["token_out"] * WRITTEN_TOKENS_PER_SECOND)


def _text(card: ModelCard, amount: Amount) -> float | None:
    """By the tokens read and written, and by the picture where pictures have a price of their own."""
    read, written = card.prices.get("token_in"), card.prices.get("token_out")
    if read is None or written is None or amount.tokens_in is None or amount.tokens_out is None:
        return None
    looked = amount.references * card.prices.get("image_in", 0.0)
    return read * amount.tokens_in + written * amount.tokens_out + looked


def _of_pictures(request: ImageRequest) -> Amount:
    match = PIXELS.fullmatch(request.size)
    pixels = int(match[1]) * int(match[2]) if match else None
    return Amount(
        pictures=request.count,
        pixels=pixels,
        tier=request.size.lower() if pixels is None else _tier(pixels),
        quality=request.quality or "",
        references=len(request.images) if isinstance(request, EditRequest) else 0,
    )


def _tier(pixels: int) -> str:
    """The smallest tier that holds so many pixels."""
    return next((tier for tier, most in TIERS.items() if pixels <= most), "4k")


def _of_sound(request: TranscriptionRequest) -> Amount:
    try:
        return Amount(seconds=recognise(request.audio).duration_s)
    except MediaRejected:
        return Amount()


MEASURES: Final[Mapping[type[Request], Callable[..., Amount]]] = {
    ImageRequest: _of_pictures,
    EditRequest: _of_pictures,
    SpeechRequest: lambda request: Amount(characters=len(request.text)),
    TranscriptionRequest: _of_sound,
}
RULES: Final[Mapping[str, Callable[[ModelCard, Amount], float | None]]] = {
    "image_generation": _pictures,
    "image_edit": _pictures,
    "audio_generation": _speech,
    "transcription": _transcription,
    "text": _text,
}

SAID: Final = {
    "image_out": (1, "a picture"), "megapixel_out": (1, "a megapixel"), "image_token_out": (1e6, "a million picture tokens"),
    "character": (1e6, "a million characters"), "second": (60, "a minute of sound"),
    "token_in": (1e6, "a million tokens read"), "token_out": (1e6, "a million tokens written"),
    "audio_token_in": (1e6, "a million sound tokens heard"), "audio_token_out": (1e6, "a million sound tokens spoken"),
    "image_in": (1, "a picture given"), "request": (1, "a request"),
}  # fmt: skip


def told(prices: Mapping[str, float]) -> str | None:
    """The prices as a sentence such as `$0.04 a picture`; None where none is known, `free` where all are zero."""
    if not prices:
        return None
    parts = [part for unit, usd in prices.items() if usd and (part := _said(unit, usd))]
    return ", ".join(parts) or "free"


def _said(unit: str, usd: float) -> str:
    base, _, variant = unit.partition(":")
    times, words = SAID.get(base, (1, ""))
    at = f" at {variant.upper().replace('_', ' ')}" if variant else ""
    return f"${_money(usd * times)} {words}{at}" if words else ""


def _money(usd: float) -> str:
    """Dollars without an exponent, with cents at least and four figures that count."""
    text = f"{float(f'{usd:.4g}'):.10f}".rstrip("0")
    whole, _, cents = text.partition(".")
    return f"{whole}.{cents.ljust(2, '0')}"
