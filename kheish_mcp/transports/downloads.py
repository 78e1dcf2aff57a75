"""Assets by URL: whole or in part, checked before a byte goes out, and never run by a browser."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from email.utils import formatdate
from typing import BinaryIO, Final
from urllib.parse import quote

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..formats import kind_of
from ..media import Kind
from ..stores.assets import Asset
from .access import Access, Signer
from .gate import Gate
from .served import Served

PIECE: Final = 512 << 10
RANGE: Final = re.compile(r"bytes[ \t]*=[ \t]*([0-9]{0,18})[ \t]*-[ \t]*([0-9]{0,18})[ \t]*", re.IGNORECASE)
SHOWN: Final = frozenset({Kind.IMAGE, Kind.AUDIO})
SVG: Final = "image/svg+xml"
FIXED: Final = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "private, max-age=86400, immutable",
    "Vary": "Authorization",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
}


class Downloads:
    """`GET /assets/{asset_id}`: for the bearer of a token, or of a URL that was signed for its owner."""

    def __init__(self, daemon: Served, access: Access, gate: Gate, signer: Signer) -> None:
        self._daemon = daemon
        self._access = access
        self._gate = gate
        self._signer = signer

    async def get(self, request: Request) -> Response:
        """The asset, the part of it that is asked for, or 304; NotFound for a foreign and for an unknown one alike."""
        asset_id = request.path_params["asset_id"]
        owner = self._signer.owner_of(asset_id, request.query_params)
        if owner is None or not await self._access.admits(owner):
            owner = (await self._gate.admit(request)).owner
        else:
            self._gate.count(owner)
        assets = self._daemon.parts.assets
        asset = await assets.get(asset_id, owner)
        headers = headers_of(asset)
        if is_known(request.headers.get("if-none-match", ""), headers["ETag"]):
            return Response(
                status_code=304, headers={name: headers[name] for name in ("ETag", "Cache-Control", "Vary")}
            )
        wanted = request.headers.get("range")
        if request.headers.get("if-range", headers["ETag"]) not in (headers["ETag"], headers["Last-Modified"]):
            wanted = None
        start, end = range_of(wanted, asset.byte_length)
        if start >= end:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{asset.byte_length}"})
        return FileAnswer(await assets.open(asset), start, end, asset.byte_length, headers)


class FileAnswer(Response):
    """The bytes from `start` to `end` of an open file, piece by piece; the file is closed whatever happens."""

    def __init__(self, file: BinaryIO, start: int, end: int, size: int, headers: Mapping[str, str]) -> None:
        self._file = file
        self._start = start
        self._end = end
        partial = {} if end - start == size else {"Content-Range": f"bytes {start}-{end - 1}/{size}"}
        self.status_code = 206 if partial else 200
        self.background = None
        self.body = b""
        self.init_headers({**headers, **partial, "Content-Length": str(end - start)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends as fast as the client reads."""
        with self._file as file:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            at = self._start if scope["method"] != "HEAD" else self._end
            while at < self._end:
                length = min(PIECE, self._end - at)
                piece = await anyio.to_thread.run_sync(os.pread, file.fileno(), length, at)
                at += len(piece) or length
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def headers_of(asset: Asset) -> dict[str, str]:
    """What is said of an asset: nothing of a stranger's is announced as something that a browser would run."""
    kind = kind_of(asset.media_type)
    media_type = asset.media_type
    if kind is Kind.TEXT:
        media_type = f"{'text/plain' if media_type == SVG else media_type}; charset=utf-8"
    if asset.pcm is not None:
        media_type = f"{media_type}; rate={asset.pcm.rate}; channels={asset.pcm.channels}"
    place = "inline" if kind in SHOWN else "attachment"
    return {
        **FIXED,
        "Content-Type": media_type,
        "Content-Disposition": f"{place}; {_names(asset.file_name)}",
        "ETag": f'"{asset.sha256}"',
        "Last-Modified": formatdate(asset.created_at, usegmt=True),
    }


def _names(name: str) -> str:
    """The file's name as every client reads it, and as those do that know of more than ASCII (RFC 6266)."""
    ascii_name = "".join(char if " " <= char <= "~" and char not in '"\\%' else "_" for char in name)
    return f"filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"


def is_known(condition: str, etag: str) -> bool:
    """Whether an If-None-Match names this entity."""
    named = [each.strip().removeprefix("W/") for each in condition.split(",")]
    return etag in named or "*" in named


def range_of(header: str | None, size: int) -> tuple[int, int]:
    """The half-open range of bytes that is asked for; an empty one where none of it is there.

    All of it where nothing, several ranges, or nothing that can be understood is asked for (RFC 9110, 14.2).
    """
    match = RANGE.fullmatch(header or "")
    if match is None or not (match[1] or match[2]):
        return 0, size
    if not match[1]:
        return max(0, size - int(match[2])), size
    first = int(match[1])
    last = int(match[2]) if match[2] else max(first, size)
    return (0, size) if last < first else (first, min(last + 1, size))
