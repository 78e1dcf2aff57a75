"""The fault table of a driver: every fault of the provider, at every endpoint that can meet it, is exactly one outcome.

One outcome is one code, or what came. Each comes inside the deadline, without the key, after as many requests as the
retry table allows, never billed twice, and never called free where the provider billed it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import pytest

from kheish_mcp.capabilities import Exchange, ImageRequest, SpeechRequest, TranscriptionRequest, nobody_listens
from kheish_mcp.conversation import ChatRequest, Text, Turn
from kheish_mcp.drivers.http import Endpoint
from kheish_mcp.drivers.openrouter.driver import OpenRouter
from kheish_mcp.drivers.receipts import Deadlines
from kheish_mcp.errors import KheishError
from kheish_mcp.media import Media, Pcm
from kheish_mcp.secret import Secret
from tests.clocks import Clockwork
from tests.conftest import CANARY
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import faults
from tests.emulators.provider.records import Seen
from tests.emulators.provider.stream_faults import CHAT

pytestmark = pytest.mark.anyio

SOON: Final = 10.0
SHORT: Final = 0.4
IMAGES, SPEECH, HEARING, TALK = "/images", "/audio/speech", "/audio/transcriptions", "/chat/completions"
CAME = "came"
SOUND = Media(b"\x10\x00\xf0\xff" * 6000, "audio/pcm", pcm=Pcm(16_000))


async def draw(driver: OpenRouter, exchange: Exchange) -> object:
    """Two pictures of one request."""
    return await driver.generate_image("openai/gpt-image-2", ImageRequest("a pier", count=2), exchange)


async def speak(driver: OpenRouter, exchange: Exchange) -> object:
    """A sentence spoken."""
    return await driver.generate_audio("openai/gpt-4o-mini-tts-2025-12-15", SpeechRequest("Hello there."), exchange)


async def hear(driver: OpenRouter, exchange: Exchange) -> object:
    """A sound written down."""
    return await driver.transcribe("openai/whisper-1", TranscriptionRequest(SOUND), exchange)


async def talk(driver: OpenRouter, exchange: Exchange) -> object:
    """A question answered."""
    request = ChatRequest((Turn("user", (Text("Name three ports."),)),))
    return await driver.answer("openai/gpt-5.4-mini", request, exchange, nobody_listens)


CALLS: Final[dict[str, Callable[[OpenRouter, Exchange], Awaitable[object]]]] = {
    IMAGES: draw, SPEECH: speak, HEARING: hear, TALK: talk,
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A fault, and what it has to come to: a code for all endpoints, or one for each; after so many requests."""

    fault: faults.Fault
    outcome: str | Mapping[str, str]
    requests: int = 1
    only: tuple[str, ...] = ()
    name: str = ""
    endless: bool = False
    outcomes: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        paths = self.only or self.fault.paths or tuple(CALLS)
        by_path = self.outcome if isinstance(self.outcome, Mapping) else dict.fromkeys(paths, self.outcome)
        object.__setattr__(self, "outcomes", {path: by_path[path] for path in paths})

    def __str__(self) -> str:
        return self.name or self.fault.name


BROKE, LOST, LATE, BUSY = "unavailable", "data_loss", "deadline_exceeded", "resource_exhausted"
STATUSES: Final = {
    400: "invalid_argument", 401: "unauthenticated", 402: BUSY, 403: "permission_denied", 404: "not_found", 405: BROKE,
    408: LATE, 413: "invalid_argument", 422: "invalid_argument", 429: BUSY, 500: BROKE, 504: LATE, 520: BROKE, 524: LATE,
    529: BROKE,
}  # fmt: skip

TABLE: Final = (
    # The provider says no.
    *(Row(faults.status(code), outcome) for code, outcome in STATUSES.items()),
    *(Row(faults.status(code, retry_after=5), STATUSES[code], name=f"{code} with a wait") for code in (408, 500, 529)),
    Row(faults.status(502), BROKE, requests=2, name="502 in JSON"),
    Row(faults.status(503), BROKE, requests=2, name="503 in JSON"),
    Row(faults.status(502, shape="html"), BROKE, name="502 as a web page"),
    Row(faults.status(503, shape="html"), BROKE, name="503 as a web page"),
    Row(faults.status(524, shape="html"), LATE, name="524 as a web page"),
    Row(faults.status(502, shape="empty"), BROKE, name="502 and nothing"),
    Row(faults.status(429, retry_after=5), BUSY, requests=3, name="429 with a wait"),
    Row(faults.status(503, retry_after=5), BROKE, requests=3, name="503 with a wait"),
    Row(faults.status(429, retry_after=3600), BUSY, name="429 with an hour's wait"),
    Row(faults.status(429, shape="availability"), BUSY, requests=3, only=(IMAGES,), name="429 with a wait in its body"),
    Row(faults.status(400, shape="zod"), "invalid_argument", name="400 as a list of issues"),
    Row(faults.status(400, shape="string"), "invalid_argument", name="400 as a bare text"),
    Row(faults.key_in_error(400), "invalid_argument", name="400 with the key in it"),
    Row(faults.key_in_error(502), BROKE, requests=2, name="502 with the key in it"),
    Row(faults.redirect(other_origin=True), BROKE, name="redirect to another origin"),
    Row(faults.redirect(other_origin=False), BROKE, name="redirect to itself"),
    # A 200 that is none.
    Row(faults.error_in_200(402), BUSY, name="402 in a 200"),
    Row(faults.error_in_200(502), BROKE, name="502 in a 200"),
    Row(faults.status(200, shape="html"), BROKE, name="web page"),
    Row(faults.status(200, shape="empty"), BROKE, name="nothing"),
    Row(faults.status(200, "I cannot do that.", shape="text"), BROKE, name="bare words"),
    Row(faults.malformed_json(), BROKE),
    Row(faults.gzip_bomb(), BROKE),
    Row(faults.stream_error(429), BUSY, only=CHAT),
    Row(faults.no_done(), BROKE, only=CHAT),
    # The wire.
    Row(faults.cut_body(), BROKE),
    Row(faults.reset_before_headers(), BROKE),
    Row(faults.reset_before_headers(paid=True), BROKE),
    Row(faults.reset_after_headers(), BROKE),
    Row(faults.hang(), LATE, endless=True),
    Row(faults.stall(), LATE, endless=True),
    Row(faults.keep_alives(), LATE, endless=True),
    Row(faults.slow_drip(2 * SHORT), LATE, endless=True, only=(IMAGES, SPEECH, HEARING)),
    Row(faults.delay(0.05), CAME),
    Row(faults.odd_splits(), CAME),
    # What was made.
    Row(faults.bad_base64(), LOST),
    Row(faults.truncated_base64(), LOST),
    Row(faults.no_images(), BROKE),
    Row(faults.extra_images(2), CAME),
    Row(faults.fewer_images(), CAME),
    Row(faults.no_usage(), CAME),
    Row(faults.url_answer("other"), BROKE),
    Row(faults.url_answer("loopback-alias"), BROKE),
    *(Row(faults.url_answer(link), BROKE, name=f"link {link}") for link in faults.LOOPBACKS[1:]),
    Row(faults.huge(49 << 20), BROKE, only=(IMAGES,), name="huge picture"),
    Row(faults.huge(65 << 20), BROKE, only=(SPEECH,), name="huge sound"),
    Row(faults.empty_speech(), BROKE),
    Row(faults.wav_labelled_mp3(), CAME),
    Row(faults.odd_pcm(), CAME),
    Row(faults.pcm_without_rate(), CAME),
    # Whole as far as a driver can see: who keeps media looks into them.
    Row(faults.truncated_media(), CAME),
    Row(faults.not_an_image(), CAME),
    Row(faults.pixel_bomb(), CAME),
    Row(faults.svg_script(), CAME),
    Row(faults.wrong_media_type(), CAME),
)


@dataclass
class Witness:
    """What one call told while it went."""

    story: list[str] = field(default_factory=list)

    def exchange(self) -> Exchange:
        """The hooks that write it down."""

        def hook(name: str) -> Callable[..., Awaitable[None]]:
            async def told(*_: object) -> None:
                self.story.append(name)

            return told

        return Exchange(hook("sent"), hook("responded"), again=hook("again"))


@pytest.fixture
async def driver(emulator: OpenRouterEmulator, request: pytest.FixtureRequest) -> AsyncGenerator[OpenRouter]:
    """A driver that waits for nothing between attempts, and not long where the fault never ends."""
    endless = request.node.callspec.params["row"].endless
    limits = Deadlines(SHORT, SHORT, SHORT, talk=SHORT, silence=2 * SHORT) if endless else Deadlines()
    endpoint = Endpoint("home", emulator.base_url, Secret(CANARY))
    opened = OpenRouter(endpoint, deadlines=limits, clock=Clockwork().clock)
    yield opened
    await opened.close()
    assert emulator.violations == []


async def outcome_of(
    call: Callable[[OpenRouter, Exchange], Awaitable[object]], driver: OpenRouter, witness: Witness
) -> Any:
    """What a call comes to: its result or its refusal."""
    try:
        return await call(driver, witness.exchange())
    except KheishError as refusal:
        return refusal


def check_refusal(refusal: KheishError, billed: bool) -> None:
    """A refusal without the key or a page's markup, which does not call free what was billed."""
    told = json.dumps(refusal.as_json())
    assert CANARY not in told
    assert CANARY.encode() not in b"".join(refusal.remains)
    assert "<" not in refusal.message
    assert refusal.hint
    assert not billed or refusal.details["possibly_billed"] is True


def is_over(seen: Seen) -> bool:
    """Whether the provider has noticed that nobody is there any more; a fault that is endless ends in no other way."""
    return seen.disconnected or seen.ended is not None


@pytest.mark.parametrize("row", TABLE, ids=str)
async def test_every_fault_is_exactly_one_outcome(row: Row, driver: OpenRouter, emulator: OpenRouterEmulator):
    emulator.always(row.fault)
    witnesses = {path: Witness() for path in row.outcomes}
    ends: dict[str, Any] = {}

    async def one(path: str) -> None:
        ends[path] = await outcome_of(CALLS[path], driver, witnesses[path])

    with anyio.fail_after(SOON):
        async with anyio.create_task_group() as group:
            for path in row.outcomes:
                group.start_soon(one, path)
    codes = {path: end.code.value if isinstance(end, KheishError) else CAME for path, end in ends.items()}
    assert codes == row.outcomes
    for path, end in ends.items():
        bills = [bill for bill in emulator.ledger if bill.endpoint == path]
        assert len(bills) <= 1
        assert len([seen for seen in emulator.requests if seen.path == path]) == row.requests
        assert witnesses[path].story.count("sent") == row.requests
        assert witnesses[path].story.count("again") == row.requests - 1
        if isinstance(end, KheishError):
            check_refusal(end, bool(bills))
    assert emulator.other_requests == []
    if row.endless:
        await anyio.to_thread.run_sync(emulator.wait_for, lambda: all(map(is_over, emulator.requests)))
    emulator.heal()
    assert await hear(driver, Exchange())  # the line has survived it


def test_no_fault_of_the_stand_in_is_left_out():
    made = {
        name for name, maker in vars(faults).items() if getattr(maker, "__annotations__", {}).get("return") == "Fault"
    }
    written = Path(__file__).read_text(encoding="utf-8")
    left_out = {name for name in made if f"faults.{name}(" not in written}
    assert left_out == {"pictures", "media", "error_in_choice"}  # two make others; one is of chats that do not stream
