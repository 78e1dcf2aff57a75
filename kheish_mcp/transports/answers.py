"""Refusals as HTTP answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from ..errors import Code, InvalidArgument, KheishError, MediaRejected, NotFound

STATUS: Final[Mapping[Code, int]] = {
    Code.INVALID_ARGUMENT: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.DEADLINE_EXCEEDED: 408,
    Code.FAILED_PRECONDITION: 409,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 413,
    Code.CANCELLED: 499,
    Code.DATA_LOSS: 500,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
}
PLACES: Final = "MCP is at /mcp, and at /sse for older clients; assets are at /assets."
UNEXPECTED: Final = KheishError("Internal error.", hint="The daemon's log on stderr says more.")


def status_of(error: KheishError) -> int:
    """The HTTP status of a refusal: 429 only where it says when to come back."""
    if isinstance(error, MediaRejected):
        return 415
    if error.code is Code.RESOURCE_EXHAUSTED and error.retry_after_s is not None:
        return 429
    return STATUS[error.code]


def refusal_answer(error: KheishError, status: int = 0, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The refusal's object as JSON, with Retry-After where it has one."""
    status = status or status_of(error)
    more = dict(headers or {})
    if error.retry_after_s is not None:
        more["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    more["Cache-Control"] = "no-store"
    return JSONResponse({"error": error.as_json()}, status, more)


def misdirected(error: HTTPException) -> JSONResponse:
    """The answer to a path or a method that nothing is behind."""
    kind = NotFound if error.status_code == 404 else InvalidArgument
    return refusal_answer(kind(f"{error.detail}.", hint=PLACES), error.status_code, error.headers)


def base_url_of(request: HTTPConnection) -> str:
    """Where this server is reached, as the caller wrote it in a Host header that the guard let through."""
    host = request.headers.get("host", "")
    return f"{request.scope['scheme']}://{host}{request.scope.get('root_path', '')}"
