"""One provider over HTTP: key, limits, deadline, error table."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from .. import __version__
from ..capabilities import Exchange
from ..errors import DeadlineExceeded, Json, KheishError, Unauthenticated
from ..secret import Secret
from .refusals import NOTHING_ASKED, PERHAPS_BILLED, error_in, failure_of, malformed, refusal_of

if TYPE_CHECKING:
    from httpx2 import AsyncClient, Response

LARGEST: Final = 64 << 20
LARGEST_REFUSAL: Final = 1 << 20
CONNECT_S, POOL_S, WRITE_S, READ_S, REFUSAL_S = 10.0, 30.0, 60.0, 120.0, 10.0
PARSE_IN_THREAD: Final = 1 << 20
STEP: Final = 256 << 10
GENERATION: Final = "x-generation-id"
LONGEST_ID: Final = 200


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a route's provider is, and the key for it; `preferences` go into requests that take them.

    `base_url` has no query and no login; a path like `/images` is appended to it. Equal endpoints may share a line.
    """

    route_id: str
    base_url: str
    key: Secret | None = None
    preferences: Mapping[str, Json] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200 that is no web page and not empty: its body, Content-Type as sent, and the provider's id for it.

    It may still hold an error instead of a result: `Line.refusal_in` tells.
    """

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


@dataclass(slots=True)
class _Outgoing:
    """A request on its way. Its body announces itself before its first byte leaves, and knows when its last has."""

    method: str
    url: str
    headers: Mapping[str, str]
    exchange: Exchange = field(default_factory=Exchange)
    content: bytes = b""
    left: bool = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body, asked for once its headers are out: without it the provider has nothing to work on or to bill."""
        await self.exchange.sent()
        # In steps: the write timeout then asks for progress, and not for the whole body within a minute.
        for start in range(0, len(self.content), STEP):
            yield self.content[start : start + STEP]
        self.left = True


class Line:
    """The line to one endpoint: a client that is opened when it is first needed, and every rule that a request keeps.

    `headers` go with every request; `hints` are the provider's own next steps by status. No proxy, no redirect, no
    environment; the key stands in Authorization and nowhere else.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
        hints: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        self.endpoint = endpoint
        self._headers = {"Accept-Encoding": "identity", "User-Agent": f"kheish-mcp/{__version__}", **headers}
        self._hints = hints
        self._client: AsyncClient | None = None

    async def post_json(
        self, path: str, body: Mapping[str, Json], exchange: Exchange, *, deadline_s: float, largest: int = LARGEST
    ) -> Answer:
        """One POST of JSON; `exchange.sent` is awaited before its first byte leaves, `responded` at the headers.

        Refuses by the provider's status and words, with DeadlineExceeded after `deadline_s` whatever trickles in, and
        with Unavailable where the line breaks. `details.possibly_billed` says that the request had left.
        """
        content = await anyio.to_thread.run_sync(_written, body)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content)), **self._authorised()}
        return await self._attempt(_Outgoing("POST", self._url(path), headers, exchange, content), deadline_s, largest)

    async def get_json(self, path: str, *, deadline_s: float, largest: int = LARGEST) -> Answer:
        """One GET with the key, which costs nothing; refuses as `post_json` does."""
        return await self._attempt(_Outgoing("GET", self._url(path), self._authorised()), deadline_s, largest)

    async def fetch(self, url: str, *, deadline_s: float, largest: int = LARGEST) -> Answer:
        """The bytes behind a URL that an answer names: only from the route's own origin, and without the key."""
        import httpx2

        try:
            there, own = httpx2.URL(url), httpx2.URL(self.endpoint.base_url)
        except httpx2.InvalidURL:
            raise malformed("The provider answered with a URL that cannot be read.") from None
        # An answer may name anything, the cloud's metadata service too; the client's own reading of it is compared.
        if (there.scheme, there.host, there.port) != (own.scheme, own.host, own.port) or there.userinfo:
            raise malformed("The provider answered with a URL on another origin, which is not followed.")
        return await self._attempt(_Outgoing("GET", str(there), self._headers), deadline_s, largest)

    def refusal_in(self, body: Json) -> KheishError | None:
        """The refusal that a 200 may hold instead of a result."""
        return refusal_of(200, {}, body, self._secrets, self._hints) if error_in(body) else None

    async def close(self) -> None:
        """Closes the client, if one was opened."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _attempt(self, outgoing: _Outgoing, deadline_s: float, largest: int) -> Answer:
        """One request and its answer, without a second try: a policy that repeats goes around this."""
        import httpx2

        # Not fail_after: a TimeoutError may also come from a hook, and is then no word on the provider.
        with anyio.move_on_after(deadline_s):
            try:
                return await self._exchange(outgoing, largest)
            except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, httpx2.CookieConflict) as error:
                raise failure_of(error, self.endpoint.route_id, left=outgoing.left) from None
        raise DeadlineExceeded(
            f"The provider of route {self.endpoint.route_id} gave no whole answer within {deadline_s:g} s.",
            hint=PERHAPS_BILLED if outgoing.left else NOTHING_ASKED,
            retryable=not outgoing.left,
            details={"possibly_billed": outgoing.left},
        )

    async def _exchange(self, outgoing: _Outgoing, largest: int) -> Answer:
        """The request out and the answer in; the socket is closed whichever way this is left early."""
        stream = self._opened().stream(
            outgoing.method, outgoing.url, headers=outgoing.headers, content=outgoing if outgoing.content else None
        )
        async with stream as response:
            generation_id = _generation_id(response)
            await outgoing.exchange.responded(generation_id)
            if response.status_code != 200:
                said = _said(await _beginning(response))
                raise refusal_of(response.status_code, response.headers, said, self._secrets, self._hints)
            return _answer(await _whole(response, largest), response.headers.get("content-type", ""), generation_id)

    def _url(self, path: str) -> str:
        """A path below the endpoint's address."""
        return self.endpoint.base_url.rstrip("/") + path

    @property
    def _secrets(self) -> tuple[Secret, ...]:
        """What no sentence may repeat."""
        return (self.endpoint.key,) if self.endpoint.key is not None else ()

    def _authorised(self) -> dict[str, str]:
        """The headers with the key; Unauthenticated for one that no header takes."""
        if self.endpoint.key is None:
            return self._headers
        value = self.endpoint.key.reveal()
        # The HTTP library would quote a value that no header takes in its error.
        if not value.isascii() or not value.isprintable() or value != value.strip():
            raise Unauthenticated(
                f"The key of route {self.endpoint.route_id} holds characters that no key has.",
                hint="Set it again with `kheish-daemon secrets set`; a pasted line break is the usual reason.",
            )
        return {**self._headers, "Authorization": f"Bearer {value}"}

    def _opened(self) -> AsyncClient:
        """The client, opened at its first use: the HTTP library is slow to import, and so are the system's certificates."""
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


async def _whole(response: Response, largest: int) -> bytes:
    """The whole body; refuses past the cap, which counts what was unpacked and not what was sent."""
    held = bytearray()  # a list of parts would cost fifty times its bytes where they come one by one
    async for part in response.aiter_bytes():
        held += part
        if len(held) > largest:
            raise malformed(f"The provider's answer is larger than {largest / (1 << 20):g} MiB.")
    return bytes(held)


async def _beginning(response: Response) -> bytes:
    """What comes of a refusal's body within seconds and a mebibyte; whole or not, the status has decided."""
    import httpx2

    held = bytearray()
    with anyio.move_on_after(REFUSAL_S), suppress(httpx2.HTTPError):
        async for part in response.aiter_bytes():
            held += part
            if len(held) > LARGEST_REFUSAL:
                break
    return bytes(held)


def _answer(body: bytes, content_type: str, generation_id: str | None) -> Answer:
    """A 200 as an answer; Unavailable where it is empty or a web page."""
    if not body or body.isspace():
        raise malformed("The provider's answer is empty.")
    if "html" in content_type.lower() or body[:256].lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise malformed("The provider answered with a web page.")
    return Answer(body, content_type, generation_id)


def _generation_id(response: Response) -> str | None:
    """The provider's id for what it is about to answer, if it is one that can be kept and shown."""
    stated: str = response.headers.get(GENERATION, "")
    return stated if 0 < len(stated) <= LONGEST_ID and stated.isascii() and stated.isprintable() else None


def _said(body: bytes) -> Json:
    """A refusal's body as JSON, else as text; None where it is neither."""
    for read in (_parse, bytes.decode):
        with suppress(ValueError, RecursionError):
            return read(body)
    return None


def _parse(body: bytes) -> Json:
    """JSON; ValueError or RecursionError where it is none."""
    loaded: Json = json.loads(body)
    return loaded


def _written(body: Mapping[str, Json]) -> bytes:
    """JSON in ASCII: half a surrogate pair in a prompt cannot be written otherwise."""
    return json.dumps(body, separators=(",", ":")).encode()
