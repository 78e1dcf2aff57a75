"""OpenRouter's catalogue as model cards; pure, no I/O, and lenient: a row that cannot be read is left out.

Facts of 2026-11-22: GET /models lists every model with modalities and prices (decimal strings in USD), GET /images/models
the parameters of those that draw, and below it GET ID/endpoints what their pictures cost. Fields may be null, descriptors of
new types appear, prices of -1 mean "it depends".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from ...capabilities import ModelCard
from ...errors import Json, JsonObject
from ...prices import told
from ..refusals import malformed
from .codec import PIXELS, speech_wire, table_of
from .sound import manner_of

MOST_MODELS, MOST_VALUES, LONGEST = 5000, 500, 256
# What a model with such an output does here: speech comes from an endpoint of its own, audio in a chat.
DOES: Final = {
    "image": "image_generation",
    "speech": "audio_generation",
    "audio": "audio_generation",
    "transcription": "transcription",
    "text": "text",
}
UNITS: Final = {
    "prompt": "token_in", "completion": "token_out", "image": "image_in", "audio": "audio_token_in",
    "audio_output": "audio_token_out", "request": "request",
}  # fmt: skip
# Documented as USD a picture, listed as USD a token (gemini-3-pro-image 0.00012): no picture is as cheap as this, and
# no token as dear.
CHEAPEST_PICTURE: Final = 0.0005
LINES: Final = {
    ("output_image", "image"): "image_out", ("output_image", "megapixel"): "megapixel_out",
    ("output_image", "token"): "image_token_out", ("output_image", "request"): "image_out",
    ("input_image", "image"): "image_in", ("input_reference", "image"): "image_in", ("input_text", "token"): "token_in",
}  # fmt: skip
DRAWN: Final = ("image_out", "megapixel_out", "image_token_out")
VARIED: Final = (":free", ":nitro", ":floor")  # priced otherwise than the model that they are variants of


def decode_models(body: Json) -> tuple[ModelCard, ...]:
    """The cards of an answer of GET /models; Unavailable where it lists none."""
    rows = _rows(body)
    cards = {card.id: card for card in map(_card, rows) if card is not None}
    targets = {card.id: _text(table_of(row.get("alias_target")).get("slug")) for row, card in _paired(rows, cards)}
    found = tuple(_as_target(card, cards.get(targets.get(card.id, ""))) for card in cards.values())
    if not found:
        raise malformed("The provider's list of models holds no model.")
    return found


def with_image_models(cards: tuple[ModelCard, ...], body: Json) -> tuple[ModelCard, ...]:
    """The cards with the picture parameters of an answer of GET /images/models; a model that only it lists is added."""
    rows = {row_id: row for row in _rows(body) if (row_id := _text(row.get("id")))}
    known = {card.id for card in cards}
    added = (card for row_id, row in rows.items() if row_id not in known and (card := _card(row)) is not None)
    return tuple(_drawing(card, rows[card.id]) if card.id in rows else card for card in (*cards, *added))


def with_prices(card: ModelCard, body: Json) -> ModelCard:
    """The card with the picture prices of an answer of GET /images/models/ID/endpoints: of each kind the dearest.

    They are stated by picture, megapixel or token, some by variant (`2k`, `low_1k`), and beat those of GET /models.
    """
    endpoints = body.get("endpoints") if isinstance(body, dict) else None
    prices: dict[str, float] = {}
    for endpoint in endpoints if isinstance(endpoints, list) else []:
        lines = table_of(endpoint).get("pricing")
        for line in lines if isinstance(lines, list) else []:
            unit, usd = _line(table_of(line))
            if unit and usd is not None:
                prices[unit] = max(usd, prices.get(unit, 0.0))
    if not any(unit.partition(":")[0] in DRAWN for unit in prices):
        return card
    kept = {unit: usd for unit, usd in card.prices.items() if unit.partition(":")[0] not in DRAWN}
    merged = {**prices, **kept, **prices}  # in the order in which they are told
    return replace(card, prices=merged, price=told(merged))


def _line(line: JsonObject) -> tuple[str, float | None]:
    """The unit of one line of a price list, and its USD; no unit for what is not known here."""
    unit = LINES.get((_text(line.get("billable")), _text(line.get("unit"))), "")
    variant = _text(line.get("variant")).lower()
    return f"{unit}:{variant}" if unit == "image_out" and variant else unit, _usd(line.get("cost_usd"))


def indexed(cards: Iterable[ModelCard]) -> dict[str, ModelCard]:
    """The cards by every id that they go by; an id of its own beats an alias."""
    held = tuple(cards)
    return {alias: card for card in held for alias in card.aliases} | {card.id: card for card in held}


def find(index: Mapping[str, ModelCard], model: str) -> ModelCard | None:
    """The card of a model, with or without `:variant` and `@preset/...`; the price of a variant may be another one."""
    plain = model.partition("@preset/")[0]
    exact = index.get(plain)
    if exact is not None or ":" not in plain:
        return exact
    card = index.get(plain.partition(":")[0])
    return replace(card, prices={}, price=None) if card is not None and plain.endswith(VARIED) else card


def _rows(body: Json) -> list[JsonObject]:
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list):
        raise malformed("The provider's list of models has no known shape.")
    return [row for row in data[:MOST_MODELS] if isinstance(row, dict)]


def _paired(rows: Iterable[JsonObject], cards: Mapping[str, ModelCard]) -> list[tuple[JsonObject, ModelCard]]:
    return [(row, cards[row_id]) for row in rows if (row_id := _text(row.get("id"))) in cards]


def _card(row: JsonObject) -> ModelCard | None:
    """The card of one row; None without an id that can be written down."""
    model = _text(row.get("id"))
    if not model:
        return None
    inputs, outputs = _modalities(table_of(row.get("architecture")))
    top = table_of(row.get("top_provider"))
    prices = _prices(model, outputs, table_of(row.get("pricing")))
    slug, ends = _text(row.get("canonical_slug")), _text(row.get("expiration_date"))
    manner = manner_of(model, outputs) if outputs else None
    notes = (manner.note if manner is not None else None, f"It may be removed on {ends}." if ends else None)
    return ModelCard(
        model,
        _capabilities(inputs, outputs),
        voices=_texts(row.get("supported_voices")),
        formats=_speech_formats(model) if "speech" in outputs else manner.gives if manner is not None else (),
        price=told(prices),
        note=" ".join(filter(None, notes)) or None,
        name=_text(row.get("name")),
        inputs=inputs,
        outputs=outputs,
        prices=prices,
        context_tokens=_whole(top.get("context_length")) or _whole(row.get("context_length")),
        parameters=_texts(row.get("supported_parameters")) if "text" in outputs else (),
        aliases=(slug,) if slug and slug != model else (),
    )


def _modalities(architecture: JsonObject) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What goes in and what comes out, by the lists, else by the sign `text+image->text`."""
    reads, _, gives = _text(architecture.get("modality")).partition("->")
    inputs, outputs = _texts(architecture.get("input_modalities")), _texts(architecture.get("output_modalities"))
    return inputs or tuple(filter(None, reads.split("+"))), outputs or tuple(filter(None, gives.split("+")))


def _capabilities(inputs: tuple[str, ...], outputs: tuple[str, ...]) -> tuple[str, ...]:
    """The flags of what the model does: one that draws and takes pictures edits, one that writes and takes them sees."""
    flags = [flag for output, flag in DOES.items() if output in outputs]
    if "image" in inputs:
        flags += [
            more for flag, more in (("image_generation", "image_edit"), ("text", "multimodal_input")) if flag in flags
        ]
    return tuple(dict.fromkeys(flags))


def _speech_formats(model: str) -> tuple[str, ...]:
    return ("wav", "pcm") if speech_wire(model, None) == "pcm" else ("mp3", "wav", "pcm")


def _prices(model: str, outputs: tuple[str, ...], pricing: JsonObject) -> dict[str, float]:
    """USD by unit. A zero counts only where zero is said of all that the model does: in text, or in a `:free` variant."""
    stated = {key: usd for key, value in pricing.items() if (usd := _usd(value)) is not None}
    free = model.endswith(":free")
    prices = next((read(stated, free) for output, read in READERS.items() if output in outputs), {})
    return {unit: usd for unit, usd in prices.items() if usd or free or unit in ("token_in", "token_out")}


def _text_prices(stated: Mapping[str, float], free: bool) -> dict[str, float]:
    return {UNITS[key]: usd for key, usd in stated.items() if key in UNITS and (usd or key in ("prompt", "completion"))}


def _picture_prices(stated: Mapping[str, float], free: bool) -> dict[str, float]:
    """Pictures, and what is read and looked at; zeros beside a price of pictures say nothing."""
    around = {UNITS[key]: usd for key, usd in stated.items() if key in UNITS and usd}
    usd = stated.get("image_output", 0.0)
    if usd or free:
        around = {"image_token_out" if 0 < usd < CHEAPEST_PICTURE else "image_out": usd, **around}
    return around


def _speech_prices(stated: Mapping[str, float], free: bool) -> dict[str, float]:
    """By the character, unless what is spoken has a price too: then by the token."""
    spoken, read = stated.get("audio_output") or stated.get("completion"), stated.get("prompt")
    if spoken:
        return {"audio_token_out": spoken, **({"token_in": read} if read is not None else {})}
    return {"character": read} if read or (free and read is not None) else {}


def _transcript_prices(stated: Mapping[str, float], free: bool) -> dict[str, float]:
    """By the second, unless what is written has a price too: then by the token."""
    heard, written = stated.get("prompt"), stated.get("completion")
    if written and heard is not None:
        sound = {"audio_token_in": stated["audio"]} if stated.get("audio") else {}
        return {"token_in": heard, "token_out": written, **sound}
    return {"second": heard} if heard or (free and heard is not None) else {}


# Asked in this order: a model that draws and writes is paid for its pictures first of all.
READERS: Final = {
    "image": _picture_prices,
    "speech": _speech_prices,
    "transcription": _transcript_prices,
    "text": _text_prices,
    "audio": _text_prices,
}


def _drawing(card: ModelCard, row: JsonObject) -> ModelCard:
    """A card with what its pictures may be asked for; a descriptor of an unknown type leaves every value open."""
    described = table_of(row.get("supported_parameters"))
    knobs = {name: _texts(table_of(descriptor).get("values")) for name, descriptor in described.items() if _text(name)}
    most = _whole(table_of(described.get("input_references")).get("max"))
    pixels = ("WxH",) if "size" in knobs else ()
    return replace(
        card,
        capabilities=tuple(flag for flag in card.capabilities if flag != "image_edit" or most != 0),
        sizes=tuple(value for value in knobs.get("resolution", ()) if not PIXELS.fullmatch(value)) + pixels,
        formats=knobs.get("output_format", ()),
        knobs=knobs,
        most_references=most,
    )


def _as_target(card: ModelCard, target: ModelCard | None) -> ModelCard:
    """A `~family-latest` row that says little of itself does what its target does."""
    if target is None or card.outputs:
        return card
    return replace(target, id=card.id, name=card.name or target.name, aliases=())


def _usd(value: Json) -> float | None:
    """A price of a decimal string or a number; None for one below zero, which means that it depends."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        usd = float(value)
    except (ValueError, OverflowError):
        return None
    return usd if math.isfinite(usd) and usd >= 0 else None


def _whole(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(value: Json) -> str:
    """A text of one line that can be written down and shown; empty where it is none."""
    return value if isinstance(value, str) and len(value) <= LONGEST and value.isprintable() else ""


def _texts(value: Json) -> tuple[str, ...]:
    entries = value[:MOST_VALUES] if isinstance(value, list) else []
    return tuple(dict.fromkeys(text for entry in entries if (text := _text(entry))))
