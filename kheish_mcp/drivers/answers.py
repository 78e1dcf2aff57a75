"""What is read of an answer, how much of it, and what of that is believed."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import anyio.to_thread

from ..errors import Json, KheishError
from ..secret import MASK, Secret
from .refusals import malformed

if TYPE_CHECKING:
    from httpx2 import Response

LARGEST: Final = 64 << 20
LARGEST_REFUSAL: Final = 1 << 20
REFUSAL_S: Final = 10.0
PARSE_IN_THREAD: Final = 1 << 20
MARKS: Final = (b",", b"[", b"{")  # each begins one more value
MOST_VALUES: Final = 2_000_000  # a day's recording with the time of each word has a quarter of that
GENERATION: Final = "x-generation-id"
LONGEST_ID: Final = 200

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200 that is no web page and not empty: its body, Content-Type as sent, and the provider's id for it.

    It may still hold an error instead of a result: `Line.refusal_in` tells.
    """

    body: bytes
    content_type: str
    generation_id: str | None

    async def json(self) -> Json:
        """The body as JSON; Unavailable where it is none. A large one is parsed in a thread.

        And Unavailable for countless values: 64 MiB of `[],[],` are 4 GB once they are parsed, and minutes.
        """
        if sum(map(self.body.count, MARKS)) > MOST_VALUES:
            raise malformed("The provider's answer holds far too many values.", self.body)
        try:
            if len(self.body) > PARSE_IN_THREAD:
                return await to_end(partial(_parse, self.body))
            return _parse(self.body)
        except (ValueError, RecursionError):
            raise malformed("The provider's answer is not JSON.", self.body) from None

    @contextmanager
    def kept(self) -> Generator[None]:
        """Whatever refuses the answer within carries its bytes: they were paid for, and are kept aside."""
        try:
            yield
        except KheishError as refusal:
            refusal.remains = refusal.remains or (self.body,)
            raise


async def to_end(work: Callable[[], T]) -> T:
    """The result of work in a thread on what has come, also for a call that is cancelled meanwhile: it is paid for."""
    with anyio.CancelScope(shield=True):
        result = await anyio.to_thread.run_sync(work)
    return result  # noqa: RET504 - a scope may swallow an exception, as a type checker sees it


async def whole(
    response: Response, generation_id: str | None, *, held: bytearray, largest: int, secrets: Iterable[Secret]
) -> Answer:
    """A 200 that does not come as a stream; Unavailable past `largest` bytes, where it is empty, or a web page.

    `held` is empty, and holds what has come if this is left early.
    """
    async for part in response.aiter_bytes():
        held += part
        if len(held) > largest:  # it counts what was unpacked and not what was sent
            held.clear()
            raise malformed(f"The provider's answer is larger than {largest / (1 << 20):g} MiB.")
    body = without(secrets, bytes(held))
    held.clear()  # a large answer is not held twice
    return _answer(body, response.headers.get("content-type", ""), generation_id)


def without(secrets: Iterable[Secret], data: bytes) -> bytes:
    """An answer's bytes as they may be kept: no medium holds a key, but an echo of the request does."""
    for secret in secrets:
        data = data.replace(secret.reveal().encode(), MASK.encode())
    return data


async def beginning(response: Response) -> bytes:
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
        raise malformed("The provider answered with a web page.", body)
    return Answer(body, content_type, generation_id)


def generation_id_of(response: Response) -> str | None:
    """The provider's id for what it is about to answer, if it is one that can be kept and shown."""
    stated: str = response.headers.get(GENERATION, "")
    return stated if 0 < len(stated) <= LONGEST_ID and stated.isascii() and stated.isprintable() else None


def said(body: bytes) -> Json:
    """A refusal's body as JSON, else as text; None where it is neither."""
    for read in (_parse, bytes.decode):
        with suppress(ValueError, RecursionError):
            return read(body)
    return None


def _parse(body: bytes) -> Json:
    """JSON; ValueError or RecursionError where it is none."""
    loaded: Json = json.loads(body)
    return loaded
