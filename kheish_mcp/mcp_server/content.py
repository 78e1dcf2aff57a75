"""What a tool gave, as content blocks that this client and this protocol revision can take."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import mcp_types as t

from ..errors import DataLoss, JsonObject, KheishError
from ..formats import kind_of
from ..media import Kind
from ..moments import written
from ..profiles import Profile
from ..stores.assets import Asset, AssetStore
from ..tools.base import Outcome, Preview, Published
from ..workers import Workers
from .reach import Reach

AUDIO_SINCE: Final = "2025-03-26"
LINKS_SINCE: Final = "2025-06-18"
SHOWABLE: Final = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
TOO_LARGE = "{} is too large to be shown inline; read {} or use its path or url."

Block = t.TextContent | t.ImageContent | t.AudioContent | t.ResourceLink | t.EmbeddedResource


@dataclass(slots=True)
class Presenter:
    """Turns outcomes into blocks for one client, and never lets one result grow past the profile's size."""

    assets: AssetStore
    workers: Workers
    profile: Profile
    revision: str
    reach: Reach | None = None
    spent: int = 0

    async def outcome(self, outcome: Outcome, *, structured: bool) -> t.CallToolResult:
        """The result object as text first, then each asset's preview and link."""
        told = self._told(outcome.result)
        shown: list[Block] = []
        warnings: list[str] = []
        for asset in outcome.assets:
            block = await self._inline(asset, outcome.preview)
            if block is not None:
                shown.append(block)
            elif outcome.preview == "full":
                warnings.append(TOO_LARGE.format(asset.asset_id, asset.uri))
            shown += self._link(asset)
        result = _with_warnings(told, warnings)
        wanted = structured and self.profile.structured and self.revision >= LINKS_SINCE
        return t.CallToolResult(content=[_text(result), *shown], structured_content=result if wanted else None)

    async def published(self, published: Published) -> t.CallToolResult:
        """Texts and assets in their order; the result object last, unlike everywhere else."""
        told = self._told(published.result)
        blocks: list[Block] = []
        warnings: list[str] = []
        for part in published.parts:
            if isinstance(part, str):
                blocks.append(t.TextContent(type="text", text=part))
                self.spent += len(part)
                continue
            block = await self._inline(part, "full") or await self._inline(part, "auto")
            blocks += [block] if block is not None else self._mention(part)
            if block is None:
                warnings.append(TOO_LARGE.format(part.asset_id, part.uri))
        for asset in published.named:
            block = await self._inline(asset, "auto")
            blocks += [block] if block is not None else self._mention(asset)
        return t.CallToolResult(content=[*blocks, _text(_with_warnings(told, warnings))])

    def _told(self, result: JsonObject) -> JsonObject:
        """The result object as this client can use it, with its size counted."""
        told = self.reach.shown(result) if self.reach is not None else result
        self.spent = len(json.dumps(told))
        return told

    async def _inline(self, asset: Asset, preview: Preview) -> Block | None:
        """The asset as a block, whole or as a small preview; None where it does not fit or is not wanted."""
        kind = kind_of(asset.media_type)
        if preview == "none" or (kind is Kind.IMAGE and not self.profile.pictures):
            return None
        if kind is Kind.IMAGE and asset.media_type in SHOWABLE:
            return await self._picture(asset, preview)
        if kind is Kind.AUDIO and preview == "full" and self.revision >= AUDIO_SINCE and self._fits(asset.byte_length):
            return t.AudioContent(type="audio", data=await self._base64(asset), mime_type=asset.media_type)
        if kind is Kind.TEXT and preview == "full" and self._fits(asset.byte_length):
            text = (await self.assets.read(asset)).data.decode("utf-8")
            self.spent += len(text)
            return t.TextContent(type="text", text=text)
        return None

    async def _picture(self, asset: Asset, preview: Preview) -> t.ImageContent | None:
        small = asset.byte_length <= self.profile.preview_bytes and max(asset.width or 0, asset.height or 0) <= (
            self.profile.preview_px
        )
        if (preview == "full" or small) and self._fits(asset.byte_length):
            return t.ImageContent(type="image", data=await self._base64(asset), mime_type=asset.media_type)
        if not self._fits(self.profile.preview_bytes):
            return None
        made = await preview_of(asset, self.assets, self.workers, self.profile)
        if made is None:
            return None
        data, media_type = made
        return t.ImageContent(type="image", data=self._spend(data), mime_type=media_type)

    async def _base64(self, asset: Asset) -> str:
        return self._spend((await self.assets.read(asset)).data)

    def _spend(self, data: bytes) -> str:
        encoded = base64.b64encode(data).decode("ascii")
        self.spent += len(encoded)
        return encoded

    def _fits(self, size: int) -> bool:
        return self.spent + size * 4 // 3 + 1024 <= self.profile.result_bytes

    def _mention(self, asset: Asset) -> list[Block]:
        """The asset as a link, or as its URI for a client that takes no links."""
        return self._link(asset) or [t.TextContent(type="text", text=asset.uri)]

    def _link(self, asset: Asset) -> list[Block]:
        return [link(asset)] if self.profile.links and self.revision >= LINKS_SINCE else []


async def preview_of(asset: Asset, assets: AssetStore, workers: Workers, profile: Profile) -> tuple[bytes, str] | None:
    """A small picture of an image asset with its media type, made by a worker; None where none can be made."""
    media = await assets.read(asset)
    try:
        made = await workers.run_once(asset.sha256, "preview_image", profile.preview, media.data)
    except DataLoss:
        raise
    except KheishError:
        return None
    return made.blobs[0], str(made.facts["media_type"])


def link(asset: Asset) -> t.ResourceLink:
    """The asset as a resource_link block."""
    return t.ResourceLink(
        type="resource_link",
        uri=asset.uri,
        name=asset.file_name,
        mime_type=asset.media_type,
        size=asset.byte_length,
        annotations=t.Annotations(last_modified=written(asset.created_at)),
    )


def refusal(error: KheishError) -> t.CallToolResult:
    """A refusal as a result with isError, its object in the first block."""
    return t.CallToolResult(content=[_text({"error": error.as_json()})], is_error=True)


def _text(value: JsonObject) -> t.TextContent:
    return t.TextContent(type="text", text=json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))


def _with_warnings(result: JsonObject, warnings: Sequence[str]) -> JsonObject:
    if not warnings:
        return result
    earlier: Any = result.get("warnings") or []
    return {**result, "warnings": [*earlier, *warnings]}
