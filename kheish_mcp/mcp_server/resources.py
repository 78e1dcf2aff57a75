"""Assets, the runtime, sessions and costs as MCP resources."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import mcp_types as t
from mcp.shared.exceptions import MCPError

from ..documents import words_of
from ..errors import Code, JsonObject, KheishError, NotFound, ResourceExhausted
from ..formats import kind_of
from ..media import Kind
from ..moments import written
from ..principals import Principal
from ..profiles import UNKNOWN, Profile
from ..scopes import scope_for
from ..stores.assets import Asset
from ..stores.sessions import NAME
from ..tools.base import Parts
from .content import preview_of

Contents = t.TextResourceContents | t.BlobResourceContents

ASSET: Final = re.compile(r"asset://(asset-[a-z2-7]{26})(/text|/preview|/provenance)?")
SESSION: Final = re.compile(f"kheish://sessions/({NAME})")
IMMUTABLE_MS: Final = 86_400_000
JSON: Final = "application/json"
TEMPLATES: Final = (
    ("asset://{asset_id}", "asset", "An asset", "The bytes of an asset, or its text.", None),
    (
        "asset://{asset_id}/text",
        "asset-text",
        "An asset's text",
        "A sound's transcript, a document's words.",
        "text/plain",
    ),
    ("asset://{asset_id}/preview", "asset-preview", "An asset's preview", "A small picture of an image.", None),
    ("asset://{asset_id}/provenance", "asset-origin", "An asset's origin", "Tool, route, model, cost, sources.", JSON),
    ("kheish://sessions/{session}", "session", "A session", "What was said and shown in it, in order.", JSON),
)
FIXED: Final = (
    ("kheish://runtime", "runtime", "Runtime", "Routes, capabilities, tools, and the reason for each absence."),
    ("kheish://costs", "costs", "Costs", "What your calls have cost, by day, route and model."),
)


@dataclass(frozen=True, slots=True)
class Resources:
    """What one principal may read with its client; `runtime` gives the runtime view as it is now."""

    parts: Parts
    principal: Principal
    runtime: Callable[[], Awaitable[JsonObject]]
    profile: Profile = UNKNOWN

    async def page(self, cursor: str | None) -> t.ListResourcesResult:
        """Newest assets first; the daemon's own resources stand before them on the first page."""
        assets, following = await self.parts.assets.page(self.principal.owner, cursor)
        fixed = [
            t.Resource(uri=uri, name=name, title=title, description=told, mime_type="application/json")
            for uri, name, title, told in FIXED
            if self.principal.may(scope_for("resources/read", uri))
        ]
        listed = [_listed(asset) for asset in assets]
        return t.ListResourcesResult(resources=[*fixed, *listed] if cursor is None else listed, next_cursor=following)

    async def read(self, uri: str) -> t.ReadResourceResult:
        """One resource; -32602 with the uri for what is not there, -32603 with `data_loss` for damaged bytes."""
        try:
            contents, ttl_ms = await self._read(uri)
        except KheishError as error:
            code = t.INVALID_PARAMS if error.code in (Code.NOT_FOUND, Code.INVALID_ARGUMENT) else t.INTERNAL_ERROR
            raise MCPError(code, error.message, {"code": error.code.value, "uri": uri}) from None
        return t.ReadResourceResult(contents=[contents], ttl_ms=ttl_ms, cache_scope="private")

    async def _read(self, uri: str) -> tuple[Contents, int]:
        if match := ASSET.fullmatch(uri):
            asset = await self.parts.assets.get(match[1], self.principal.owner)
            return await ASSET_VIEWS[match[2] or ""](self, asset, uri), IMMUTABLE_MS if not match[2] else 0
        if match := SESSION.fullmatch(uri):
            return _json(uri, await self.parts.sessions.read(match[1], self.principal.owner)), 0
        if uri == "kheish://runtime":
            return _json(uri, await self.runtime()), 0
        if uri == "kheish://costs":
            return _json(uri, await self.parts.ledger.overview(self.principal.owner)), 0
        raise NotFound("There is no such resource.", hint="resources/list names what is there.")

    async def _check_room(self, asset: Asset) -> None:
        """ResourceExhausted for more than the client takes in one message; who is at hand is told the file instead."""
        room = self.profile.read_bytes
        grown = asset.byte_length * (2 if kind_of(asset.media_type) is Kind.TEXT else 1)  # a text grows as it is quoted
        if room is not None and self.principal.at_hand and grown > room:
            path = await self.parts.assets.path_of(asset)
            raise ResourceExhausted(
                f"Your client takes {room:,} bytes in one message; all {asset.byte_length:,} are at {path}."
            )

    async def _bytes(self, asset: Asset, uri: str) -> Contents:
        await self._check_room(asset)
        data = (await self.parts.assets.read(asset)).data
        if kind_of(asset.media_type) is Kind.TEXT:
            # Never announced as SVG or HTML: a host that renders it would run what a stranger wrote.
            media_type = "text/plain" if asset.media_type == "image/svg+xml" else asset.media_type
            return t.TextResourceContents(uri=uri, mime_type=media_type, text=data.decode("utf-8"))
        return t.BlobResourceContents(uri=uri, mime_type=asset.media_type, blob=base64.b64encode(data).decode("ascii"))

    async def _text(self, asset: Asset, uri: str) -> Contents:
        if kind_of(asset.media_type) is Kind.TEXT:
            return await self._bytes(asset, uri)
        text = await words_of(asset, self.parts.assets, self.parts.workers)
        return t.TextResourceContents(uri=uri, mime_type="text/plain", text=text)

    async def _preview(self, asset: Asset, uri: str) -> Contents:
        made = await preview_of(asset, self.parts.assets, self.parts.workers, UNKNOWN)
        if made is None:
            raise NotFound("This asset has no preview.", hint="Previews are made of png, jpeg, webp and gif.")
        data, media_type = made
        return t.BlobResourceContents(uri=uri, mime_type=media_type, blob=base64.b64encode(data).decode("ascii"))

    async def _provenance(self, asset: Asset, uri: str) -> Contents:
        origin = asset.provenance
        generation = origin.get("generation_id")
        if origin.get("cost_usd", 0.0) is None and isinstance(generation, str):  # known by now, perhaps
            origin["cost_usd"] = await self.parts.ledger.cost_of_generation(generation)
        return _json(uri, {"created_at": written(asset.created_at), "sha256": asset.sha256, **origin})


ASSET_VIEWS: Final[dict[str, Callable[[Resources, Asset, str], Awaitable[Contents]]]] = {
    "": Resources._bytes,
    "/text": Resources._text,
    "/preview": Resources._preview,
    "/provenance": Resources._provenance,
}


def templates() -> t.ListResourceTemplatesResult:
    """The URI templates of the contract."""
    return t.ListResourceTemplatesResult(
        resource_templates=[
            t.ResourceTemplate(uri_template=uri, name=name, title=title, description=told, mime_type=media_type)
            for uri, name, title, told, media_type in TEMPLATES
        ]
    )


def _listed(asset: Asset) -> t.Resource:
    return t.Resource(
        uri=asset.uri,
        name=asset.file_name,
        title=asset.label or asset.file_name,
        description=f"{asset.media_type}, {asset.byte_length:,} bytes",
        mime_type=asset.media_type,
        size=asset.byte_length,
        annotations=t.Annotations(last_modified=written(asset.created_at)),
    )


def _json(uri: str, value: Any) -> Contents:
    return t.TextResourceContents(uri=uri, mime_type="application/json", text=json.dumps(value, ensure_ascii=False))
