"""A stranger's URL, without harm."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import quote, unquote, urljoin

import anyio

from ..errors import (
    DeadlineExceeded,
    InvalidArgument,
    KheishError,
    MediaRejected,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from ..formats import kind_of, parse_media_type
from ..formats.recognition import UNDECLARED
from ..media import Media
from ..trust import trust_of_the_system
from .addresses import is_public

if TYPE_CHECKING:
    import ssl

    from httpcore2 import AsyncNetworkStream, Response

Resolver: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]
Dial: TypeAlias = "Callable[[str, int], Awaitable[AsyncNetworkStream]]"

PORT: Final = 443
LONGEST_URL: Final = 4096
MOST_REDIRECTS: Final = 3
CONNECT_S: Final = 3.0
READABLE_URL: Final = re.compile(r"https://([^/?#@:\\]+)(?::443)?([/?][^#]*)?(?:#.*)?", re.IGNORECASE | re.ASCII)
FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ud800-\udfff]")
# A last label of letters keeps every spelling of an IP address out: decimal, octal, hex, short.
PUBLIC_NAME: Final = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,32}(?:[a-z]{2,63}|xn--[a-z0-9-]{1,58}[a-z0-9])"
)
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
KEPT_IN_TARGET: Final = "%/?:@!$&'()*+,;=-._~"
HEADERS: Final[dict[str | bytes, str | bytes]] = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "Connection": "close",
    "User-Agent": "kheish-mcp",
}
BY_HAND: Final = "Download the file, and name its path under the workspace root."


@dataclass(frozen=True, slots=True)
class Place:
    """A URL taken apart once: the name that is resolved, judged, dialled and asked for, and the path with its query."""

    host: str
    target: str


def read_url(url: str) -> Place:
    """The place that `url` names; InvalidArgument for all but https, port 443, a public-looking name, no user name."""
    found = READABLE_URL.fullmatch(url) if len(url) <= LONGEST_URL and not FORBIDDEN.search(url) else None
    host = _ascii_name(found[1]) if found else ""
    if found is None or not PUBLIC_NAME.fullmatch(host):
        raise InvalidArgument(
            "This is not a URL that can be fetched.",
            hint=f"https:// only, with a full host name (no IP address, user name or other port than {PORT}), "
            f"at most {LONGEST_URL} characters.",
        )
    target = quote(found[2] or "/", safe=KEPT_IN_TARGET)
    return Place(host, target if target.startswith("/") else f"/{target}")


def _ascii_name(host: str) -> str:
    """The name as the DNS knows it (UTS 46, so that full-width digits are digits again); '' for none."""
    import idna

    try:
        return idna.encode(host, uts46=True, std3_rules=True).decode("ascii").lower()
    except UnicodeError:
        return ""


async def resolve(host: str) -> Sequence[str]:
    """Every address that the system knows for `host`, in the order in which it would try them."""
    import socket

    found = await anyio.getaddrinfo(host, PORT, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


async def dial(address: str, port: int) -> AsyncNetworkStream:
    """A TCP connection to an address that has been judged."""
    import httpcore2

    return await httpcore2.AnyIOBackend().connect_tcp(address, port)


class Web:
    """Fetches from the public internet only: every address is judged, and the judged address is the one dialled.

    One fetch, redirects included, ends within `timeout` seconds and brings at most `max_bytes`. `resolver`, `dial` and
    `tls` are the way out to the network; the defaults are the system's.
    """

    def __init__(
        self,
        *,
        max_bytes: int = 20 * 1024 * 1024,
        timeout: float = 10.0,
        resolver: Resolver = resolve,
        dial: Dial = dial,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.max_bytes = max_bytes
        self.timeout = timeout
        self._resolve = resolver
        self._dial = dial
        self._given_tls = tls

    async def fetch(self, url: str) -> Media:
        """The bytes at `url`, the Content-Type that the server claims ('' if none), the last part of the path as name.

        InvalidArgument for a URL that is none of ours, NotFound where no public address is known or the file is not
        there, PermissionDenied for a redirect to elsewhere, ResourceExhausted over `max_bytes`, MediaRejected for what
        no asset can be, DeadlineExceeded, Unavailable. They name the host, never the URL: its query may hold a secret.
        """
        place = read_url(url)
        try:
            with anyio.fail_after(self.timeout):
                return await self._follow(place, url)
        except TimeoutError:
            raise DeadlineExceeded(
                f"{place.host} did not give the file within {self.timeout:g} seconds.", hint=BY_HAND, retryable=True
            ) from None

    async def _follow(self, place: Place, url: str) -> Media:
        """The file after at most three redirects, each of them read, resolved, judged and dialled like the first URL."""
        first = place.host
        for _ in range(MOST_REDIRECTS + 1):
            got = await self._get(place)
            if isinstance(got, Media):
                return got
            url = urljoin(url, got)
            place = _judged_redirect(place, url)
        raise PermissionDenied(f"{first} sends on more than {MOST_REDIRECTS} times.", hint=BY_HAND)

    async def _get(self, place: Place) -> Media | str:
        """One exchange: the file, or where the server says it is."""
        import httpcore2

        url = httpcore2.URL(scheme=b"https", host=place.host.encode(), port=None, target=place.target.encode())
        try:
            async with self._connected(place.host) as stream:
                connection = httpcore2.AsyncHTTP11Connection(url.origin, stream)
                async with connection.stream("GET", url, headers=HEADERS) as response:
                    return await self._take(place, response)
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError):
            raise Unavailable(
                f"{place.host} could not be reached safely, or broke off.", hint=BY_HAND, retryable=True
            ) from None

    @asynccontextmanager
    async def _connected(self, host: str) -> AsyncGenerator[AsyncNetworkStream]:
        """A TLS connection to the first judged address that answers; the certificate must be the name's."""
        async with aclosing(await self._dial_any(await self._judged(host))) as plain:
            yield await plain.start_tls(self._tls, server_hostname=host)

    async def _judged(self, host: str) -> Sequence[str]:
        """The host's addresses, resolved once; one that is not public spoils them all, and looks like an unknown name.

        Told apart, the two refusals would let a caller learn which names a private network knows.
        """
        import socket

        try:
            addresses = await self._resolve(host)
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise Unavailable(f"{host} could not be looked up just now.", retryable=True) from None
            addresses = ()
        if not addresses or not all(is_public(address) for address in addresses):
            raise NotFound(
                f"No place on the public internet is known as {host}.",
                hint="Check the name. Nothing is ever fetched from a private network.",
            )
        return addresses

    async def _dial_any(self, addresses: Sequence[str]) -> AsyncNetworkStream:
        """A connection to the first address that takes one, each given three seconds."""
        import httpcore2

        for address in addresses:
            try:
                with anyio.fail_after(CONNECT_S):
                    return await self._dial(address, PORT)
            except (httpcore2.NetworkError, httpcore2.TimeoutException, OSError):
                continue
        raise httpcore2.ConnectError

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """What certificates are checked against: the system's store, whatever the environment says."""
        return self._given_tls or trust_of_the_system()

    async def _take(self, place: Place, response: Response) -> Media | str:
        """The answer's body, counted while it comes, since a Content-Length may lie or be left out; or its Location."""
        headers = {name.lower().decode("latin-1"): value.decode("utf-8", "replace") for name, value in response.headers}
        if response.status in REDIRECTS and "location" in headers:
            return headers["location"]
        if response.status != 200:
            raise _refused(place.host, response.status)
        media_type = _welcome_type(place.host, headers)
        if int(headers.get("content-length", "0")) > self.max_bytes:
            raise self._too_large(place.host)
        body = bytearray()
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) > self.max_bytes:
                raise self._too_large(place.host)
        return Media(bytes(body), media_type, unquote(place.target.partition("?")[0].rpartition("/")[2]))

    def _too_large(self, host: str) -> ResourceExhausted:
        return ResourceExhausted(
            f"The file at {host} has more than {self.max_bytes} bytes.", hint="Use a smaller one, or " + BY_HAND.lower()
        )


def _judged_redirect(before: Place, url: str) -> Place:
    """The place of a Location; PermissionDenied where a caller might not have named it either."""
    try:
        return read_url(url)
    except InvalidArgument:
        raise PermissionDenied(
            f"{before.host} sends on to where nothing is fetched from.", hint="Name the file's own https:// URL."
        ) from None


def _welcome_type(host: str, headers: Mapping[str, str]) -> str:
    """The media type claimed, '' for none; MediaRejected for one that no asset can have, or for packed bytes."""
    claimed = headers.get("content-type", "").strip()
    media_type, _ = parse_media_type(claimed)
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise MediaRejected(f"{host} sent the file packed, though asked not to.", hint=BY_HAND)
    if media_type in UNDECLARED:
        return ""
    if kind_of(media_type) is None:
        raise MediaRejected(
            f"What {host} sent claims to be no picture, sound, text or document that is taken.",
            hint="Name the URL of the file itself, not of a page that shows it.",
        )
    return claimed


def _refused(host: str, status: int) -> KheishError:
    """The refusal for a status that brings no file; the body is not even read."""
    kind = REFUSALS.get(status, Unavailable)
    return kind(f"{host} answered {status} instead of a file.", hint=BY_HAND, retryable=status == 429 or status >= 500)


REFUSALS: Final[dict[int, type[KheishError]]] = {
    401: PermissionDenied,
    403: PermissionDenied,
    404: NotFound,
    407: PermissionDenied,
    410: NotFound,
    429: ResourceExhausted,
}
