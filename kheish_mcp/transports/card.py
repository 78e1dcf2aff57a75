"""The server card: who we are and where we are reached, for clients that look before they connect (SEP-2127)."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from .. import __version__
from ..errors import Json, JsonObject, KheishError
from ..mcp_server.server import REVISIONS
from .access import Access
from .answers import base_url_of
from .downloads import is_known

SCHEMA: Final = "https://static.modelcontextprotocol.io/schemas/v1/server-card.schema.json"
MEDIA_TYPE: Final = "application/mcp-server-card+json"
UNFIT: Final = re.compile(r"[^A-Za-z0-9.-]")
BEARER: Final[JsonObject] = {
    "name": "Authorization",
    "description": "`Bearer` and a token that `kheish-daemon tokens create` has made.",
    "isRequired": True,
    "isSecret": True,
}


class Card:
    """`GET /mcp/server-card`, for anybody and from any page: it says nothing that is not public."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def get(self, request: Request) -> Response:
        """The card, or 304."""
        card = card_of(request.url.hostname or "", base_url_of(request), needs_token=await self._needs_token())
        body = json.dumps(card).encode()
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {
            "ETag": etag,
            "Cache-Control": "public, max-age=300",
            "Access-Control-Allow-Origin": "*",
            "Vary": "Host",
        }
        if is_known(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=MEDIA_TYPE, headers=headers)

    async def _needs_token(self) -> bool:
        try:
            await self._access.judge(None)
        except KheishError:
            return True
        return False


def card_of(host: str, base_url: str, *, needs_token: bool) -> JsonObject:
    """The card of a server at `base_url`; its name is the host's, backwards, as such names are written."""
    is_address = host.replace(".", "").isdigit() or ":" in host
    name = host if is_address else ".".join(reversed(host.split(".")))
    return {
        "$schema": SCHEMA,
        "name": f"{UNFIT.sub('-', name)}/kheish-mcp",
        "title": "Kheish",
        "description": "Pictures, speech and transcripts, kept as assets.",
        "version": __version__,
        "remotes": [
            _remote(kind, f"{base_url}/{path}", needs_token)
            for kind, path in (("streamable-http", "mcp"), ("sse", "sse"))
        ],
    }


def _remote(kind: str, url: str, needs_token: bool) -> Json:
    remote: JsonObject = {"type": kind, "url": url, "supportedProtocolVersions": list(REVISIONS)}
    return {**remote, "headers": [BEARER]} if needs_token else remote
