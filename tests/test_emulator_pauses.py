"""The stand-in's pauses, picture streams, links, odd errors and logins."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from openrouter import OpenRouter, errors
from openrouter.utils import BackoffStrategy, RetryConfig
from PIL import Image

from kheish_mcp.trust import trust_of
from tests.conftest import CANARY
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import faults

DRAWING = "google/gemini-2.5-flash-image"
STREAMING = "openai/gpt-image-2"
ONCE = RetryConfig("none", BackoffStrategy(1, 1, 1.0, 1), False)
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


@pytest.fixture
def sdk(emulator: OpenRouterEmulator) -> Iterator[OpenRouter]:
    """The official SDK, with its hour of retries turned off."""
    with OpenRouter(api_key=CANARY, server_url=emulator.base_url, retry_config=ONCE, timeout_ms=10_000) as client:
        yield client


@pytest.fixture
def http(emulator: OpenRouterEmulator) -> Iterator[httpx2.Client]:
    """A plain client with the key."""
    headers = {"Authorization": f"Bearer {CANARY}"}
    with httpx2.Client(
        base_url=emulator.base_url, headers=headers, timeout=10, verify=trust_of(emulator.base_url)
    ) as client:
        yield client


def test_the_sdk_reads_a_stream_of_pictures(sdk: OpenRouter, emulator: OpenRouterEmulator) -> None:
    told = list(sdk.images.generate(model=STREAMING, prompt="a fox", size="320x200", stream=True))
    assert [event.type for event in told] == ["image_generation.partial_image", "image_generation.completed"]
    with Image.open(io.BytesIO(base64.b64decode(told[1].b64_json))) as picture:
        assert picture.size == (320, 200)
    assert told[1].usage.cost == pytest.approx(emulator.ledger[0].cost)


def test_a_model_that_cannot_stream_answers_whole(http: httpx2.Client) -> None:
    answer = http.post("/images", json={"model": DRAWING, "prompt": "a fox", "stream": True})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["data"]


def test_the_sdk_reads_who_serves_an_image_model(sdk: OpenRouter, http: httpx2.Client) -> None:
    answer = sdk.images.list_model_endpoints(author="openai", slug="gpt-image-2")
    assert answer.endpoints[0].pricing[0].cost_usd == pytest.approx(0.04)
    assert http.get("/images/models/openai/none/endpoints").status_code == 404


def fox() -> dict[str, Any]:
    """A body for POST /images."""
    return {"model": STREAMING, "prompt": "a fox", "size": "64x64"}


def test_a_hang_a_stall_and_signs_of_life_end_when_they_are_told(
    http: httpx2.Client, emulator: OpenRouterEmulator
) -> None:
    for fault in (faults.hang(), faults.delay(60), faults.stall(), faults.keep_alives()):
        emulator.fail_next(fault)
        answers: list[dict[str, Any]] = []
        asking = threading.Thread(target=lambda into=answers: into.append(http.post("/images", json=fox()).json()))
        before = len(emulator.requests)
        asking.start()
        emulator.wait_for(lambda seen=before: len(emulator.requests) > seen)
        assert not answers
        emulator.release()
        asking.join(10)
        assert answers[0]["data"]
    assert len(emulator.ledger) == 4


def test_signs_of_life_defeat_a_read_timeout_and_cost_nothing(
    http: httpx2.Client, emulator: OpenRouterEmulator
) -> None:
    emulator.always(faults.keep_alives())
    for body, sign in ((fox(), b" "), (fox() | {"stream": True}, b": OPENROUTER PROCESSING\n\n")):
        with http.stream("POST", "/images", json=body, timeout=5) as answer:
            pieces = answer.iter_raw()
            assert [next(pieces), next(pieces)] == [sign, sign]
    emulator.wait_for(lambda: all(seen.ended for seen in emulator.requests))
    assert emulator.ledger == []


def test_a_paid_answer_may_be_lost_before_its_first_byte(http: httpx2.Client, emulator: OpenRouterEmulator) -> None:
    emulator.fail_next(faults.reset_before_headers(paid=True))
    with pytest.raises(httpx2.ReadError):
        http.post("/images", json=fox())
    assert len(emulator.ledger) == 1


@pytest.mark.parametrize("link", faults.LOOPBACKS)
def test_a_link_may_point_where_nobody_should_look(
    http: httpx2.Client, emulator: OpenRouterEmulator, link: str
) -> None:
    emulator.fail_next(faults.url_answer(link))
    [item] = http.post("/images", json=fox()).json()["data"]
    assert set(item) == {"url"}
    port = emulator.other_origin.rpartition(":")[2]
    assert item["url"] == link.format(port=port, number=0)


def test_errors_come_in_the_newer_shapes_too(http: httpx2.Client, emulator: OpenRouterEmulator) -> None:
    moment = faults.http_date(1_795_344_919)
    emulator.fail_next(faults.status(429, shape="availability", retry_after=moment))
    answer = http.post("/images", json=fox())
    error = answer.json()["error"]
    assert (answer.headers["retry-after"], error["http_status"]) == ("Sun, 22 Nov 2026 10:55:19 GMT", 429)
    assert error["availability"] == {"code": "capacity_exhausted", "retryable": True, "retry_after": 40}
    emulator.fail_next(faults.status(500, shape="string_code"))
    assert http.post("/images", json=fox()).json()["error"]["code"] == "server_error"
    emulator.fail_next(faults.status(502, "plain words", shape="text"))
    assert http.post("/images", json=fox()).text == "plain words"


def test_samples_may_end_in_the_middle_of_one(http: httpx2.Client, emulator: OpenRouterEmulator) -> None:
    emulator.fail_next(faults.odd_pcm())
    said = {"model": "openai/gpt-4o-mini-tts-2025-12-15", "input": "Hello.", "voice": "alloy"}
    assert len(http.post("/audio/speech", json=said).content) % 2 == 1


def test_the_sdk_trades_a_code_for_the_key_once(emulator: OpenRouterEmulator) -> None:
    assert base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=") == CHALLENGE
    code = emulator.authorise(CHALLENGE)
    with OpenRouter(server_url=emulator.base_url, retry_config=ONCE) as stranger:

        def trade(**more: Any) -> Any:
            return stranger.o_auth.exchange_auth_code_for_api_key(code=code, **more)

        with pytest.raises(errors.ForbiddenResponseError, match="code_verifier"):
            trade(code_verifier="another", code_challenge_method="S256")
        with pytest.raises(errors.BadRequestResponseError, match="code_challenge_method"):
            trade(code_verifier=VERIFIER, code_challenge_method="plain")
        assert trade(code_verifier=VERIFIER, code_challenge_method="S256").key == CANARY
        with pytest.raises(errors.ForbiddenResponseError, match="Invalid code"):
            trade(code_verifier=VERIFIER, code_challenge_method="S256")


def test_nothing_is_served_outside_the_base(emulator: OpenRouterEmulator) -> None:
    headers = {"Authorization": f"Bearer {CANARY}"}
    assert httpx2.get(f"{emulator.origin}/key", headers=headers).status_code == 404
    assert httpx2.get(f"{emulator.base_url}/auth/keys").status_code == 405
    assert httpx2.get(f"{emulator.base_url}/models", params={"colour": "red"}).status_code == 400
    assert [seen.status for seen in emulator.requests] == [404, 405, 400]
    assert emulator.requests[2].query == {"colour": "red"}
