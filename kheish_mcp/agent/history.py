"""What a session remembers, as turns that fit into a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, Final, TypeAlias, cast

from ..conversation import Role, ToolCall
from ..errors import JsonObject
from ..formats import kind_of
from ..media import Kind
from ..stores.assets import Asset
from ..stores.sessions import Entry
from ..tools.attachments import LONGEST_DOCUMENT, mention

# Rough on purpose, and rather too high: three bytes of text a token, and what the large providers say of media.
BYTES_A_TOKEN: Final = 3
PICTURE_TOKENS: Final = 1500
SOUND_TOKENS_A_SECOND: Final = 33
UNKNOWN_CONTEXT: Final = 64_000
LONGEST_MEDIA: Final = 32 << 20
NO_RESULT: Final = '{"error": {"code": "aborted", "message": "The run ended before this call had a result."}}'
NO_ANSWER: Final = "(The run ended before there was an answer.)"

Piece: TypeAlias = str | Asset


@dataclass(frozen=True, slots=True)
class Remembered:
    """A turn as the journal has it, its attachments still assets."""

    role: Role
    pieces: tuple[Piece, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    answers: str = ""

    @property
    def tokens(self) -> int:
        """About how many tokens it takes."""
        calls = sum(len(call.name) + len(call.arguments) for call in self.tool_calls)
        return calls // BYTES_A_TOKEN + sum(map(tokens_of, self.pieces))


@dataclass(frozen=True, slots=True)
class Memory:
    """The turns that fit, and a sentence about those that do not."""

    turns: tuple[Remembered, ...]
    warning: str | None = None


def tokens_of(piece: Piece) -> int:
    """About how many tokens a text or an attachment takes."""
    if isinstance(piece, str):
        return len(piece.encode()) // BYTES_A_TOKEN + 4
    return KIND_TOKENS[kind_of(piece.media_type) or Kind.DOCUMENT](piece)


KIND_TOKENS: Final[dict[Kind, Callable[[Asset], int]]] = {
    Kind.IMAGE: lambda asset: PICTURE_TOKENS,
    Kind.AUDIO: lambda asset: int((asset.duration_s or 60) * SOUND_TOKENS_A_SECOND),
    Kind.TEXT: lambda asset: min(asset.byte_length, LONGEST_DOCUMENT) // BYTES_A_TOKEN,
    Kind.DOCUMENT: lambda asset: LONGEST_DOCUMENT // BYTES_A_TOKEN,
}


def remembered(entries: Iterable[Entry], assets: Mapping[str, Asset]) -> list[list[Remembered]]:
    """The turns of each exchange, an input and what followed it; whatever a run left open is closed in words.

    `assets` are those that are still there, by id.
    """
    exchanges: list[list[Remembered]] = []
    for entry in entries:
        if entry.kind == "input":
            exchanges.append([])
        if exchanges and entry.kind in READERS:
            exchanges[-1].append(READERS[entry.kind](entry.body, assets))
    return [_closed(exchange) for exchange in exchanges]


def _input(body: JsonObject, assets: Mapping[str, Asset]) -> Remembered:
    ids = cast("list[str]", body["attachments"])
    attached: list[Piece] = [assets.get(asset_id, f"[attachment {asset_id} is gone]") for asset_id in ids]
    return Remembered("user", (str(body["text"]), *attached))


def _answer(body: JsonObject, assets: Mapping[str, Asset]) -> Remembered:
    calls = tuple(ToolCall(**call) for call in cast("list[Any]", body["tool_calls"]))
    drawn = [f"[picture {asset_id}]" for asset_id in cast("list[str]", body["assets"])]
    pieces = tuple(piece for piece in (str(body["text"]), *drawn) if piece)
    return Remembered("assistant", pieces if pieces or calls else (NO_ANSWER,), calls)


def _tool(body: JsonObject, assets: Mapping[str, Asset]) -> Remembered:
    return Remembered("tool", (str(body["content"]),), answers=str(body["call_id"]))


READERS: Final = {"input": _input, "answer": _answer, "tool": _tool}


def _closed(exchange: Sequence[Remembered]) -> list[Remembered]:
    """The exchange with a result right behind each of its tool calls, and an answer at its end."""
    closed: list[Remembered] = []
    for place, turn in enumerate(exchange):
        if turn.role == "tool":
            continue
        behind = takewhile(lambda later: later.role == "tool", exchange[place + 1 :])
        results = {later.answers: later for later in behind}
        lost = [Remembered("tool", (NO_RESULT,), answers=call.call_id) for call in turn.tool_calls]
        closed += [turn, *(results.get(instead.answers, instead) for instead in lost)]
    return closed if closed[-1].role == "assistant" else [*closed, Remembered("assistant", (NO_ANSWER,))]


def fitted(exchanges: Sequence[Sequence[Remembered]], room: int) -> Memory:
    """The exchanges in at most `room` tokens and 32 MiB of media: the oldest media go first, then the oldest exchanges."""
    kept = [list(exchange) for exchange in exchanges]
    tokens = sum(turn.tokens for exchange in kept for turn in exchange)
    weight = sum(piece.byte_length for exchange in kept for turn in exchange for piece in _media(turn))
    media = turns = 0
    for exchange in kept:
        for place, turn in enumerate(exchange):
            for piece in _media(turn):
                if tokens <= room and weight <= LONGEST_MEDIA:
                    break
                exchange[place] = _without(exchange[place], piece)
                tokens += tokens_of(mention(piece)) - tokens_of(piece)
                weight -= piece.byte_length
                media += 1
    while kept and tokens > room:
        tokens -= sum(turn.tokens for turn in kept.pop(0))
        turns += 1
    return Memory(tuple(turn for exchange in kept for turn in exchange), _told(media, turns))


def _media(turn: Remembered) -> list[Asset]:
    return [piece for piece in turn.pieces if isinstance(piece, Asset)]


def _without(turn: Remembered, gone: Asset) -> Remembered:
    return replace(turn, pieces=tuple(mention(gone) if piece == gone else piece for piece in turn.pieces))


def _told(media: int, turns: int) -> str | None:
    counts = [
        f"{count} {word}{'s' if count > 1 else ''}" for count, word in ((media, "attachment"), (turns, "turn")) if count
    ]
    return (
        f"The session is longer than the model takes: the oldest {' and '.join(counts)} were left out."
        if counts
        else None
    )
