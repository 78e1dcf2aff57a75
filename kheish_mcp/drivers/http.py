"""One provider over HTTP: key, limits, deadline, and its failures as ours."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from ..capabilities import Exchange
from ..errors import DeadlineExceeded, Json, KheishError, Unavailable
from ..secret import Secret
from .refusals import refusal_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from httpx2 import AsyncClient, Response

LARGEST: Final = 64 << 20
CONNECT_S, POOL_S, WRITE_S, READ_S = 10.0, 30.0, 60.0, 120.0
PARSE_IN_THREAD: Final = 1 << 20
GENERATION: Final = "x-generation-id"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a route's provider is, and the key for it; `preferences` go into requests that take them."""

    route_id: str
    base_url: str
    key: Secret | None = None
    preferences: Mapping[str, Json] = field(default_factory=dict, hash=False)

    @property
    def origin(self) -> tuple[str, str | None, int | None]:
        """Scheme, host and port: the only place that ever sees the key."""
        parts = urlsplit(self.base_url)
        return parts.scheme, parts.hostname, parts.port


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer: its body, its Content-Type as sent, and the provider's id for the generation."""

    body: bytes
    content_type: str
    generation_id: str | None

    async def json(self) -> Json:
        """The body as JSON; Unavailable where it is none. A large one is parsed in a thread."""
        try:
            if len(self.body) > PARSE_IN_THREAD:
                return await anyio.to_thread.run_sync(_parse, self.body)
            return _parse(self.body)
        except (ValueError, RecursionError):
            raise malformed("The provider's answer is not JSON.") from None


class Line:
    """The line to one endpoint: a client that is opened when it is first needed, and every rule that a request keeps."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._client: AsyncClient | None = None

    async def post(self, path: str, body: Mapping[str, Json], exchange: Exchange, *, deadline_s: float) -> Answer:
        """One POST of JSON; never repeated.

        Refuses by the provider's status and words, with DeadlineExceeded after `deadline_s` whatever trickles in, and
        with Unavailable where the line breaks. `details.possibly_billed` says that the request had left.
        """
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        sent = False

        async def leaving() -> None:
            nonlocal sent
            await exchange.sent()
            sent = True

        try:
            with anyio.fail_after(deadline_s):
                return await self._exchange("POST", self._url(path), content, leaving, exchange)
        except TimeoutError:
            raise DeadlineExceeded(
                f"The provider of route {self.endpoint.route_id} gave no whole answer within {deadline_s:.0f} s.",
                hint="It may have been billed all the same; see `kheish-daemon costs` before asking again.",
                details={"possibly_billed": sent},
            ) from None

    async def fetch(self, url: str, *, deadline_s: float) -> Answer:
        """The bytes behind a URL that an answer names: only from the route's own origin, and never after a redirect."""
        parts = urlsplit(url)
        if (parts.scheme, parts.hostname, parts.port) != self.endpoint.origin or parts.username is not None:
            raise malformed("The provider answered with a URL on another origin, which is not followed.")
        try:
            with anyio.fail_after(deadline_s):
                return await self._exchange("GET", url, b"", _nothing, Exchange())
        except TimeoutError:
            raise malformed("The provider's own URL gave no whole answer in time.") from None

    async def close(self) -> None:
        """Closes the client, if one was opened."""
        if self._client is not None:
            await self._client.aclose()

    def _url(self, path: str) -> str:
        return self.endpoint.base_url.rstrip("/") + path

    async def _exchange(self, method: str, url: str, content: bytes, leaving: Any, exchange: Exchange) -> Answer:
        import httpx2

        sent = method == "POST"
        try:
            client = self._open()
            request = client.build_request(method, url, content=content or None, headers=self._headers())
            await leaving()
            async with _streamed(client, request) as response:
                generation_id = response.headers.get(GENERATION)
                await exchange.responded(generation_id)
                body = await _body(response)
                return self._judged(response, body, generation_id)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol):
            raise Unavailable(
                f"The provider of route {self.endpoint.route_id} cannot be reached.",
                hint="Look at the network and at base_url; nothing was sent.",
                retryable=True,
                details={"possibly_billed": False},
            ) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise Unavailable(
                f"The line to the provider of route {self.endpoint.route_id} broke ({type(error).__name__}).",
                hint="It may have been billed all the same; see `kheish-daemon costs` before asking again.",
                details={"possibly_billed": sent},
            ) from None

    def _judged(self, response: Response, body: bytes, generation_id: str | None) -> Answer:
        content_type = response.headers.get("content-type", "")
        if response.status_code == 200 and body and "html" not in content_type:
            return Answer(body, content_type, generation_id)
        raise refusal_of(response.status_code, dict(response.headers), body, self._secrets())

    def refused_inside(self, body: Json) -> KheishError | None:
        """The refusal that a 200 may hold, if it does."""
        if isinstance(body, dict) and body.get("error"):
            return refusal_of(_status_inside(body), {}, json.dumps(body).encode(), self._secrets())
        return None

    def _secrets(self) -> tuple[Secret, ...]:
        return (self.endpoint.key,) if self.endpoint.key is not None else ()

    def _headers(self) -> dict[str, str]:
        # identity: a compressed bomb would otherwise unfold here.
        headers = {
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "X-OpenRouter-Title": "kheish-mcp",
        }
        if self.endpoint.key is not None:
            headers["Authorization"] = f"Bearer {self.endpoint.key.reveal()}"
        return headers

    def _open(self) -> AsyncClient:
        if self._client is None:
            import httpx2

            for name in ("httpx2", "httpcore2"):  # they log whole URLs at INFO
                logging.getLogger(name).setLevel(logging.WARNING)
            self._client = httpx2.AsyncClient(
                timeout=httpx2.Timeout(READ_S, connect=CONNECT_S, pool=POOL_S, write=WRITE_S),
                follow_redirects=False,
                trust_env=False,
            )
        return self._client


@asynccontextmanager
async def _streamed(client: AsyncClient, request: Any) -> AsyncGenerator[Response]:
    response = await client.send(request, stream=True)
    try:
        yield response
    finally:
        with anyio.CancelScope(shield=True):
            await response.aclose()


async def _body(response: Response) -> bytes:
    """The whole body; Unavailable past the cap, which counts what was unfolded."""
    parts, held = [], 0
    async for part in response.aiter_bytes():
        held += len(part)
        if held > LARGEST:
            raise Unavailable(
                f"The provider's answer is larger than {LARGEST >> 20} MiB.",
                hint="Ask for fewer or smaller results; this one may have been billed.",
                details={"possibly_billed": True},
            )
        parts.append(part)
    return b"".join(parts)


async def _nothing() -> None:
    """A GET has nothing to announce."""


def _parse(body: bytes) -> Json:
    loaded: Json = json.loads(body)
    return loaded


def _status_inside(body: Mapping[str, Json]) -> int:
    error = body.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 502


def malformed(message: str) -> Unavailable:
    """An answer that came whole and makes no sense; providers do not bill an answer without a result."""
    return Unavailable(message, hint="Try again, or another model.", details={"possibly_billed": True})
