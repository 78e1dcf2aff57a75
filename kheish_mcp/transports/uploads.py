"""Files from another machine: a raw body or a form, straight to the disk, refused at the byte that is too much."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final, Protocol

import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from ..errors import Cancelled, InvalidArgument, ResourceExhausted
from .answers import base_url_of
from .forms import OVERHEAD, Form, media_type_of
from .gate import principal_of
from .served import Served

FORM: Final = "multipart/form-data"
# What `curl --data-binary` says of any file: it means nothing.
MEANINGLESS: Final = "application/x-www-form-urlencoded"


class Body(Protocol):
    """How a body holds a file, whose name and media type are known once all of it was taken."""

    name: str
    media_type: str

    def take(self, piece: bytes) -> bytes:
        """What of the file is in one more piece of the body."""

    def finish(self) -> None:
        """The body has ended; InvalidArgument where it should not have."""


class Raw:
    """A body that is the file."""

    def __init__(self, media_type: str) -> None:
        self.name = ""
        self.media_type = media_type

    def take(self, piece: bytes) -> bytes:
        """All of it."""
        return piece

    def finish(self) -> None:
        """It may end anywhere."""


class Uploads:
    """`POST /assets`."""

    def __init__(self, daemon: Served) -> None:
        self._daemon = daemon

    async def post(self, request: Request) -> Response:
        """201 with the asset object; equal bytes give the asset that is already there."""
        owner = principal_of(request)
        owner.check("generate")
        assets = self._daemon.parts.assets
        body = _body_of(request)
        async with assets.arriving() as arrival:
            async for piece in _pieces(request, assets.max_bytes + OVERHEAD):
                await anyio.to_thread.run_sync(arrival.write, body.take(piece))
            body.finish()
            name = request.query_params.get("name") or body.name
            asset = await assets.keep_arrival(arrival, body.media_type, name, owner=owner.owner)
        place = f"{base_url_of(request)}/assets/{asset.asset_id}"
        return JSONResponse(asset.as_json(), 201, {"Location": place, "Cache-Control": "no-store"})


def _body_of(request: Request) -> Body:
    if request.headers.get("content-encoding", "identity") != "identity":
        raise InvalidArgument("The body is encoded.", hint="Send the bytes of the file as they are.")
    declared = request.headers.get("content-type", "")
    plain = media_type_of(declared)
    if plain == FORM:
        return Form(declared)
    return Raw("" if plain == MEANINGLESS else declared)


async def _pieces(request: Request, most: int) -> AsyncGenerator[bytes]:
    """The body as it comes; ResourceExhausted as soon as it says, or shows, that it is more than `most` bytes."""
    declared = request.headers.get("content-length", "0")
    came = int(declared) if declared.isascii() and declared.isdigit() else 0
    _refuse_more(came, most)
    came = 0
    try:
        async for piece in request.stream():
            came += len(piece)
            _refuse_more(came, most)
            yield piece
    except ClientDisconnect:
        raise Cancelled("The client went away before its file was whole.") from None


def _refuse_more(size: int, most: int) -> None:
    if size > most:
        raise ResourceExhausted("This is more than an asset may have.", hint=f"At most {most - OVERHEAD:,} bytes.")
