"""One provider over HTTP: key, limits, deadline, retries, error table."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import anyio
import anyio.to_thread

from .. import __version__
from ..capabilities import Exchange
from ..errors import DeadlineExceeded, Json, KheishError, Unauthenticated
from ..secret import Secret
from ..trust import trust_of
from .answers import LARGEST, Answer, beginning, generation_id_of, said, whole, without
from .breaker import Breakers
from .course import Course
from .forms import Field, encode_form
from .patience import Clock, Patience
from .refusals import NOTHING_ASKED, PERHAPS_BILLED, error_in, failure_of, malformed, refusal_of
from .streaming import Ending, listen

if TYPE_CHECKING:
    from httpx2 import AsyncClient, Response

CONNECT_S, POOL_S, WRITE_S, READ_S = 10.0, 30.0, 60.0, 120.0
STEP: Final = 256 << 10
EVENTS: Final = "text/event-stream"

T = TypeVar("T")
Read: TypeAlias = Callable[["Response", str | None], Awaitable[T]]


Body: TypeAlias = Mapping[str, Json] | Callable[[], Mapping[str, Json]]


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
class _Outgoing:
    """A request on its way. Its body announces itself before its first byte leaves, and tells when its last has."""

    method: str
    url: str
    headers: Mapping[str, str]
    course: Course
    content: bytes = b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body, asked for once its headers are out: without it the provider has nothing to work on or to bill."""
        await self.course.leaves()
        # In steps: the write timeout then asks for progress, and not for the whole body within a minute.
        for start in range(0, len(self.content), STEP):
            yield self.content[start : start + STEP]
        self.course.left = True


class Line:
    """The line to one endpoint: a client that is opened when it is first needed, and every rule that a request keeps.

    `headers` go with every request; `hints` are the provider's own next steps by status. No proxy, no redirect, no
    environment; the key stands in Authorization and nowhere else. `clock` is for waits between attempts.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
        hints: Mapping[int, str] = MappingProxyType({}),
        clock: Clock = Clock(),  # noqa: B008 - frozen
    ) -> None:
        self.endpoint = endpoint
        self._patience = Patience(clock)
        self._breakers = Breakers(endpoint.route_id, clock.now)
        self._headers = {"Accept-Encoding": "identity", "User-Agent": f"kheish-mcp/{__version__}", **headers}
        self._hints = hints
        self._client: AsyncClient | None = None

    def watching(self, model: str) -> AbstractContextManager[None]:
        """One call of a model and all that belongs to it: Unavailable at once while its breaker is open."""
        return self._breakers.watching(model)

    async def post_json(
        self,
        path: str,
        body: Body,
        exchange: Exchange,
        *,
        deadline_s: float,
        largest: int = LARGEST,
        awaited: str = "the answer",
    ) -> Answer:
        """One POST of JSON; `exchange.sent` is awaited before its first byte leaves, `responded` at the headers.

        A `body` of files is better given as the function that makes it, so that it is held once, as bytes.
        What cannot have been billed is tried again (patience.py), and `exchange.progress` says every five seconds that
        `awaited` is awaited. Refuses by the provider's status and words, with DeadlineExceeded after `deadline_s`
        whatever trickles in and however often it is tried, and with Unavailable where the line breaks.
        `details.possibly_billed` says that the request had left; `remains` are what had come of a result.
        """
        outgoing = await self._posting(path, body, Course(self.endpoint.route_id, exchange, awaited))
        return await outgoing.course.told(
            partial(self._patiently, outgoing, deadline_s, self._reading(outgoing, largest))
        )

    async def post_form(
        self, path: str, fields: Iterable[Field], exchange: Exchange, *, deadline_s: float, awaited: str = "the answer"
    ) -> Answer:
        """One POST of a form; as `post_json` otherwise."""
        boundary = secrets.token_hex(24)
        content = await anyio.to_thread.run_sync(encode_form, tuple(fields), boundary)
        course = Course(self.endpoint.route_id, exchange, awaited)
        outgoing = self._outgoing(path, f"multipart/form-data; boundary={boundary}", content, course)
        return await outgoing.course.told(
            partial(self._patiently, outgoing, deadline_s, self._reading(outgoing, LARGEST))
        )

    async def stream_json(
        self,
        path: str,
        body: Mapping[str, Json],
        exchange: Exchange,
        take: Callable[[Json], Awaitable[None]],
        *,
        deadline_s: float,
        idle_s: float,
    ) -> Ending:
        """One POST of JSON whose answer comes in events: `take` is awaited with each, as it comes.

        An answer that is no stream is one event. Refuses as `post_json` does; by an event that is an error; and after
        `idle_s` without a byte. Signs of life are told in `exchange.progress`.
        """

        async def heard(data: bytes) -> None:
            event = await Answer(data, EVENTS, None).json()
            refusal = self.refusal_in(event)
            if refusal is not None:
                raise refusal
            await take(event)

        async def alive() -> None:
            await outgoing.course.lives()

        async def streamed(response: Response, generation_id: str | None) -> Ending:
            if EVENTS not in response.headers.get("content-type", "").lower():
                await heard((await self._reading(outgoing, LARGEST)(response, generation_id)).body)
                return Ending(generation_id, done=True)
            return Ending(generation_id, await listen(response.aiter_bytes(), heard, alive, idle_s=idle_s))

        outgoing = await self._posting(path, body, Course(self.endpoint.route_id, exchange))
        return await outgoing.course.told(partial(self._patiently, outgoing, deadline_s, streamed))

    async def get_json(self, path: str, *, deadline_s: float, largest: int = LARGEST) -> Answer:
        """One GET with the key, which costs nothing and is tried once; refuses as `post_json` does."""
        outgoing = _Outgoing("GET", self._url(path), self._authorised(), Course(self.endpoint.route_id))
        attempt = partial(self._attempt, outgoing, self._reading(outgoing, largest))
        return await self._within(outgoing.course, deadline_s, attempt)

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
        outgoing = _Outgoing("GET", str(there), self._headers, Course(self.endpoint.route_id))
        return await self._patiently(outgoing, deadline_s, self._reading(outgoing, largest))

    def refusal_in(self, body: Json) -> KheishError | None:
        """The refusal that a 200 may hold instead of a result."""
        return refusal_of(200, {}, body, self._secrets, self._hints) if error_in(body) else None

    async def close(self) -> None:
        """Closes the client, if one was opened."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _posting(self, path: str, body: Body, course: Course) -> _Outgoing:
        """A POST of JSON, ready to leave."""
        content = await anyio.to_thread.run_sync(_written, body)
        return self._outgoing(path, "application/json", content, course)

    def _outgoing(self, path: str, content_type: str, content: bytes, course: Course) -> _Outgoing:
        """A POST of these bytes, ready to leave."""
        headers = {"Content-Type": content_type, "Content-Length": str(len(content)), **self._authorised()}
        return _Outgoing("POST", self._url(path), headers, course, content)

    def _reading(self, outgoing: _Outgoing, largest: int) -> Read[Answer]:
        """How a 200 that is no stream is read; what has come of it is held in the request's course."""
        return partial(whole, held=outgoing.course.held, largest=largest, secrets=self._secrets)

    async def _patiently(self, outgoing: _Outgoing, deadline_s: float, read: Read[T]) -> T:
        """What `read` makes of a 200, within the deadline however often it is tried."""
        attempt = partial(self._attempt, outgoing, read)
        return await self._within(
            outgoing.course, deadline_s, partial(self._patience.repeat, attempt, outgoing.course, deadline_s)
        )

    async def _within(self, course: Course, deadline_s: float, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, or DeadlineExceeded whatever trickles in."""
        # Not fail_after: a TimeoutError may also come from a hook, and is then no word on the provider.
        with anyio.move_on_after(deadline_s):
            return await work()
        raise DeadlineExceeded(
            f"The provider of route {self.endpoint.route_id} gave no whole answer within {deadline_s:.3g} s.",
            hint=PERHAPS_BILLED if course.left else NOTHING_ASKED,
            retryable=not course.left,
            details={"possibly_billed": course.left},
            remains=self._remains(course),
        )

    async def _attempt(self, outgoing: _Outgoing, read: Read[T]) -> T:
        """One request, and what `read` makes of a 200."""
        import httpx2

        outgoing.course.start()
        try:
            return await self._exchange(outgoing, read)
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, httpx2.CookieConflict) as error:
            refusal = failure_of(error, self.endpoint.route_id, left=outgoing.course.left)
            refusal.remains = self._remains(outgoing.course)
            raise refusal from None

    async def _exchange(self, outgoing: _Outgoing, read: Read[T]) -> T:
        """The request out and the answer in; the socket is closed whichever way this is left early."""
        stream = self._opened().stream(
            outgoing.method, outgoing.url, headers=outgoing.headers, content=outgoing if outgoing.content else None
        )
        async with stream as response:
            generation_id = generation_id_of(response)
            await outgoing.course.is_answered(generation_id)
            if response.status_code != 200:
                words = said(await beginning(response))
                outgoing.course.in_json = isinstance(words, dict)
                raise refusal_of(response.status_code, response.headers, words, self._secrets, self._hints)
            result = await read(response, generation_id)
            outgoing.course.exchange.arrived()
            return result

    def _remains(self, course: Course) -> tuple[bytes, ...]:
        """What had come of a result before it broke off."""
        return (without(self._secrets, bytes(course.held)),) if course.held else ()

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
                verify=trust_of(self.endpoint.base_url),
            )
        return self._client


def _written(body: Body) -> bytes:
    """JSON in ASCII: half a surrogate pair in a prompt cannot be written otherwise."""
    return json.dumps(body() if callable(body) else body, separators=(",", ":")).encode()
