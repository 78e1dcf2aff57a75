"""Attached files as a model takes them: pictures as they are, sound as sound or as its words, documents as bounded text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import anyio

from ..capabilities import Driver, Exchange, Transcript, Transcription, TranscriptionRequest
from ..catalog import Backend
from ..conversation import Part, Text, TextGeneration
from ..documents import words_of
from ..errors import CapabilityUnavailable, InvalidArgument, KheishError
from ..formats import kind_of
from ..media import Kind
from ..stores.assets import Asset
from ..stores.jobs import Job
from .base import Call
from .caps import plan
from .paid import note_kept, spend

LONGEST_DOCUMENT: Final = 100_000  # characters
# What every model that hears takes; other sound goes as its words.
HEARD: Final = frozenset({"audio/wav", "audio/mpeg"})
CUT: Final = "\n[cut here: {:,} of {:,} characters]"


def seeing(
    backends: Sequence[Backend[TextGeneration]], attachments: Sequence[Asset]
) -> tuple[Backend[TextGeneration], ...]:
    """The backends that take these attachments.

    InvalidArgument, naming the route's models that see, where a picture is attached and the first does not see.
    """
    pictures = [asset for asset in attachments if kind_of(asset.media_type) is Kind.IMAGE]
    able = tuple(each for each in backends if not pictures or each.driver.sees(each.model))
    backend = backends[0]
    if backend in able:
        return able
    cards = cast("Driver", backend.driver).models()
    seeing = [card.id for card in cards if "text" in card.capabilities and backend.driver.sees(card.id)]
    known = f"On route {backend.route_id} these do: {', '.join(seeing[:8])}." if seeing else "Leave the pictures out."
    raise InvalidArgument(
        f"{backend.model} takes no pictures, and {pictures[0].file_name} is one.",
        hint=known,
        details={"models": [*seeing]},
    )


@dataclass(slots=True)
class Attachments:
    """Makes parts of attachments for one model, transcribing what has no words yet; what that costs adds up in USD."""

    call: Call
    job: Job
    backend: Backend[TextGeneration]
    costs: list[float | None] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    async def parts(self, asset: Asset) -> tuple[Part, ...]:
        """What the model gets of one attachment, its name first, so that tools can be told of it by its id.

        Refuses a document without text, and sound that nobody can transcribe.
        """
        told = f"Attachment: {asset.file_name} ({asset.media_type}), asset_id {asset.asset_id}"
        kind = kind_of(asset.media_type)
        if self.is_shown(asset):
            return Text(told), await self.call.assets.read(asset)
        words = await (self._transcript(asset) if kind is Kind.AUDIO else self._document(asset))
        title = "transcript" if kind is Kind.AUDIO else "text"
        return (Text(f"{told}\n--- {title} begins ---\n{_bounded(words)}\n--- {title} ends ---"),)

    async def recalled(self, asset: Asset) -> tuple[Part, ...]:
        """The same for an attachment of an earlier turn, at no cost: what cannot be had any more is only named."""
        kind = kind_of(asset.media_type)
        try:
            is_silent = kind is Kind.AUDIO and not self.is_shown(asset) and await self.call.assets.text(asset) is None
            unseen = kind is Kind.IMAGE and not self.is_shown(asset)
            return (Text(mention(asset)),) if is_silent or unseen else await self.parts(asset)
        except KheishError:
            return (Text(mention(asset)),)

    def is_shown(self, asset: Asset) -> bool:
        """Whether the model gets the file itself."""
        driver, model = self.backend.driver, self.backend.model
        if kind_of(asset.media_type) is Kind.IMAGE:
            return driver.sees(model)
        return asset.media_type in HEARD and driver.hears(model)

    async def _document(self, asset: Asset) -> str:
        if kind_of(asset.media_type) is Kind.TEXT:
            return (await self.call.assets.read(asset)).data.decode("utf-8-sig")
        text = await words_of(asset, self.call.assets, self.call.workers)
        if not text.strip():
            raise InvalidArgument(
                f"{asset.file_name} ({asset.media_type}) holds no text.",
                hint="Attach its pages as pictures to a model that sees.",
            )
        return text

    async def _transcript(self, asset: Asset) -> str:
        """The sound's words, written down once and kept as its text."""
        known = await self.call.assets.text(asset)
        if known is not None:
            return known
        backend = self._transcription(asset)
        request = TranscriptionRequest(await self.call.assets.read(asset))

        async def ask(model: str, exchange: Exchange) -> Transcript:
            return await backend.driver.transcribe(model, request, exchange)

        [row] = await plan(self.call, self.job, backend, Transcription.flag, [request])
        heard = await spend(self.call, self.job, backend, row, ask)
        with anyio.CancelScope(shield=True):
            await self.call.assets.set_text(asset, heard.text)
            await note_kept(self.call, row, heard.cost_usd, [asset])
        self.costs.append(heard.cost_usd)
        self.warnings.append(f"{asset.file_name} was transcribed by {heard.model} on route {backend.route_id}.")
        return heard.text

    def _transcription(self, asset: Asset) -> Backend[Transcription]:
        """The text route's own transcription, else the first there is."""
        backends = self.call.catalog.backends(Transcription)
        own = [backend for backend in backends if backend.route_id == self.backend.route_id]
        if not backends:
            raise CapabilityUnavailable(
                f"{asset.file_name} is sound. {self.call.catalog.why_not(Transcription)}",
                hint="Attach its words as text.",
            )
        return (own or [*backends])[0]


def mention(asset: Asset) -> str:
    """An attachment that is not shown, as the model reads of it."""
    return f"[attachment {asset.file_name} ({asset.media_type}), asset_id {asset.asset_id}, is not shown here]"


def _bounded(text: str) -> str:
    return text if len(text) <= LONGEST_DOCUMENT else text[:LONGEST_DOCUMENT] + CUT.format(LONGEST_DOCUMENT, len(text))
