"""Every fault of the stand-in does over the wire what its name says, and nothing outlives its end."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from PIL import Image

from kheish_mcp.trust import trust_of
from tests.conftest import CANARY
from tests.emulators.provider import faults, synthetic
from tests.emulators.provider.emulator import OpenRouterEmulator

DRAW = {"model": "bytedance-seed/seedream-4.5", "prompt": "a red fox", "n": 2, "size": "64x64"}
SAY = {
    "model": "openai/gpt-4o-mini-tts-2025-12-15",
    "input": "Hello there.",
    "voice": "alloy",
    "response_format": "mp3",
}
HEAR = {
    "model": "openai/whisper-1",
    "input_audio": {"data": base64.b64encode(synthetic.wav(synthetic.tone(9))).decode(), "format": "wav"},
}


@pytest.fixture
def http(emulator: OpenRouterEmulator) -> Iterator[httpx2.Client]:
    """A plain client with the key, that follows nothing."""
    headers = {"Authorization": f"Bearer {CANARY}"}
    with httpx2.Client(
        base_url=emulator.base_url, headers=headers, timeout=10, verify=trust_of(emulator.base_url)
    ) as client:
        yield client


@pytest.fixture
def draw(emulator: OpenRouterEmulator, http: httpx2.Client) -> Callable[[faults.Fault], httpx2.Response]:
    """One request for two pictures under one fault."""

    def under(fault: faults.Fault) -> httpx2.Response:
        emulator.fail_next(fault)
        return http.post("/images", json=DRAW)

    return under


@pytest.fixture
def say(emulator: OpenRouterEmulator, http: httpx2.Client) -> Callable[[faults.Fault], httpx2.Response]:
    """One request for speech under one fault."""

    def under(fault: faults.Fault) -> httpx2.Response:
        emulator.fail_next(fault)
        return http.post("/audio/speech", json=SAY)

    return under


Under = Callable[[faults.Fault], httpx2.Response]


def first(answer: httpx2.Response) -> tuple[bytes, str]:
    """The first picture's bytes and label."""
    item = answer.json()["data"][0]
    return base64.b64decode(item["b64_json"], validate=True), item["media_type"]


def decodes(data: bytes) -> bool:
    try:
        Image.open(io.BytesIO(data)).load()
    except (OSError, SyntaxError):
        return False
    return True


def test_a_status_comes_in_five_shapes(draw: Under, emulator: OpenRouterEmulator) -> None:
    plain = draw(faults.status(429, "slow down", retry_after=7, metadata={"error_type": "rate_limit_exceeded"}))
    assert (plain.status_code, plain.headers["retry-after"]) == (429, "7")
    assert plain.json()["error"] == {
        "code": 429,
        "message": "slow down",
        "metadata": {"error_type": "rate_limit_exceeded"},
    }
    assert draw(faults.status(500, "bare", shape="string")).json() == {"error": "bare"}
    zod = draw(faults.status(400, "zod says", shape="zod")).json()
    assert json.loads(zod["error"]["message"]) == [{"message": "zod says"}]
    assert draw(faults.status(524, shape="html")).headers["content-type"].startswith("text/html")
    assert draw(faults.status(503, shape="empty")).content == b""
    assert emulator.ledger == []


def test_an_error_hides_in_a_200(draw: Under, emulator: OpenRouterEmulator) -> None:
    answer = draw(faults.error_in_200(502))
    assert (answer.status_code, answer.content[:1], answer.json()["error"]["code"]) == (200, b"\n", 502)
    assert emulator.ledger == []


def test_a_hang_ends_when_the_client_goes(http: httpx2.Client, emulator: OpenRouterEmulator) -> None:
    emulator.fail_next(faults.hang())
    with pytest.raises(httpx2.ReadTimeout):
        http.post("/images", json=DRAW, timeout=httpx2.Timeout(10, read=0.1))
    emulator.wait_for(lambda: emulator.requests[0].disconnected and emulator.requests[0].ended is not None)
    assert emulator.ledger == []


def test_a_late_answer_is_paid_though_nobody_waited(http: httpx2.Client, emulator: OpenRouterEmulator) -> None:
    emulator.fail_next(faults.delay(1.0))
    with pytest.raises(httpx2.ReadTimeout):
        http.post("/images", json=DRAW, timeout=httpx2.Timeout(10, read=0.05))
    emulator.wait_for(lambda: len(emulator.ledger) == 1)
    assert emulator.requests[0].disconnected


def test_a_hang_does_not_hold_up_the_end() -> None:
    with OpenRouterEmulator(key=CANARY) as emulator:
        emulator.always(faults.hang())
        waiting = socket.create_connection(("127.0.0.1", emulator.port))
        waiting.sendall(b"GET /api/v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        emulator.wait_for(lambda: len(emulator.requests) == 1)
    with waiting:
        assert waiting.recv(1) == b""


def test_a_body_is_cut(draw: Under, emulator: OpenRouterEmulator) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        draw(faults.cut_body())
    assert len(emulator.ledger) == 1


@pytest.mark.parametrize(
    "fault", [faults.reset_before_headers(), faults.reset_after_headers()], ids=lambda fault: fault.name
)
def test_the_wire_is_reset(http: httpx2.Client, emulator: OpenRouterEmulator, fault: faults.Fault) -> None:
    emulator.fail_next(fault)
    seen: list[int] = []
    with pytest.raises(httpx2.ReadError), http.stream("POST", "/images", json=DRAW) as answer:  # noqa: PT012 # the reset may come in the body
        seen.append(answer.status_code)
        answer.read()
    paid = fault.name == "reset after headers"
    assert (seen, len(emulator.ledger)) == (([200], 1) if paid else ([], 0))


def test_a_drip_is_slow_and_whole(http: httpx2.Client, emulator: OpenRouterEmulator) -> None:
    emulator.always(faults.slow_drip(pause=0.001), path="/audio/speech")
    with http.stream("POST", "/audio/speech", json=SAY) as answer:
        pieces = list(answer.iter_raw())
    assert len(pieces) > 3
    assert b"".join(pieces) == synthetic.mp3(len(SAY["input"]))


def test_json_and_base64_are_spoilt(draw: Under) -> None:
    with pytest.raises(json.JSONDecodeError):
        draw(faults.malformed_json()).json()
    for fault in (faults.bad_base64(), faults.truncated_base64()):
        with pytest.raises(ValueError, match="base64"):
            first(draw(fault))


def test_media_is_not_what_it_says(draw: Under, say: Under) -> None:
    data, label = first(draw(faults.wrong_media_type()))
    assert (Image.open(io.BytesIO(data)).format, label) == ("PNG", "image/jpeg")
    assert say(faults.wrong_media_type()).headers["content-type"].startswith("audio/pcm")
    data, label = first(draw(faults.not_an_image()))
    assert (decodes(data), label) == (False, "image/png")
    sound = say(faults.wav_labelled_mp3())
    assert (sound.content[:4], sound.headers["content-type"]) == (b"RIFF", "audio/mpeg")
    assert say(faults.pcm_without_rate()).headers["content-type"] == "audio/pcm"


def test_media_is_truncated(draw: Under, say: Under) -> None:
    data, _ = first(draw(faults.truncated_media()))
    assert data.startswith(b"\x89PNG")
    assert not decodes(data)
    assert len(say(faults.truncated_media()).content) < len(synthetic.mp3(len(SAY["input"])))


def test_media_is_huge(draw: Under, say: Under) -> None:
    data, _ = first(draw(faults.huge(3_000_000)))
    assert len(data) >= 3_000_000
    assert decodes(data)
    assert len(say(faults.huge(1_000_000)).content) >= 1_000_000


def test_bombs_are_small_on_the_wire(draw: Under, http: httpx2.Client, emulator: OpenRouterEmulator) -> None:
    data, _ = first(draw(faults.pixel_bomb()))
    assert len(data) < 200_000
    assert data[16:24] == (30000).to_bytes(4, "big") * 2
    emulator.fail_next(faults.gzip_bomb())
    with http.stream("POST", "/images", json=DRAW) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert int(answer.headers["content-length"]) < 1_000_000
        assert next(answer.iter_raw())[:2] == b"\x1f\x8b"


def test_a_drawing_carries_a_script(draw: Under) -> None:
    data, label = first(draw(faults.svg_script()))
    assert b"<script>" in data
    assert label == "image/svg+xml"


def test_a_redirect_points_home_or_away(draw: Under, emulator: OpenRouterEmulator) -> None:
    home, away = draw(faults.redirect(other_origin=False)), draw(faults.redirect(other_origin=True))
    assert home.status_code == away.status_code == 307
    assert home.headers["location"] == f"{emulator.base_url}/images"
    httpx2.post(away.headers["location"], json=DRAW)
    assert [(seen.method, seen.path) for seen in emulator.other_requests] == [("POST", "/api/v1/images")]
    assert emulator.violations == []


@pytest.mark.parametrize("target", ["own", "other", "loopback-alias"])
def test_an_answer_is_a_link(draw: Under, http: httpx2.Client, emulator: OpenRouterEmulator, target: Any) -> None:
    links = [item["url"] for item in draw(faults.url_answer(target)).json()["data"]]
    pictures = {httpx2.get(link).content for link in links}
    assert len(pictures) == 2
    assert all(map(decodes, pictures))
    assert len(emulator.other_requests) == (2 if target == "other" else 0)


def test_there_are_more_pictures_or_fewer_or_none(draw: Under, emulator: OpenRouterEmulator) -> None:
    counts = [
        len(draw(fault).json()["data"]) for fault in (faults.extra_images(2), faults.fewer_images(), faults.no_images())
    ]
    assert counts == [4, 1, 0]
    assert [bill.cost for bill in emulator.ledger] == [0.08, 0.08]


def test_the_price_is_not_told(draw: Under, http: httpx2.Client, emulator: OpenRouterEmulator) -> None:
    assert "usage" not in draw(faults.no_usage()).json()
    emulator.fail_next(faults.no_usage())
    assert "usage" not in http.post("/audio/transcriptions", json=HEAR).json()
    assert len(emulator.ledger) == 2


def test_the_key_comes_back_in_an_error(draw: Under) -> None:
    error = draw(faults.key_in_error()).json()["error"]
    assert CANARY in error["message"]
    assert CANARY in error["metadata"]["raw"]


def test_speech_is_empty(say: Under, emulator: OpenRouterEmulator) -> None:
    answer = say(faults.empty_speech())
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"", "audio/mpeg")
    assert emulator.ledger == []


def test_faults_strike_as_often_and_where_they_are_told(http: httpx2.Client, emulator: OpenRouterEmulator) -> None:
    emulator.fail_next(faults.status(503), times=2, path="/images")
    assert http.get("/models").status_code == 200
    assert [http.post("/images", json=DRAW).status_code for _ in range(3)] == [503, 503, 200]
    emulator.fail_next(faults.empty_speech())
    assert http.get("/models").json()["data"]
    assert http.post("/audio/speech", json=SAY).content == b""
    emulator.always(faults.status(500))
    assert {http.get("/models").status_code for _ in range(3)} == {500}
    emulator.heal()
    assert http.get("/models").status_code == 200


def test_nothing_is_left_behind() -> None:
    before = threading.active_count()
    with OpenRouterEmulator(key="k" * 20) as emulator:
        assert httpx2.get(f"{emulator.base_url}/models").status_code == 200
    assert threading.active_count() == before
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{emulator.base_url}/models")


def test_it_runs_as_a_program() -> None:
    key = "k" * 20
    command = [sys.executable, "-m", "tests.emulators.openrouter", "--key", key, "--same-picture"]
    command += ["--picture-bytes", "300000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}) as program:
        assert program.stdout is not None
        base_url = program.stdout.readline().strip()
        headers = {"Authorization": f"Bearer {key}"}
        drawn = [httpx2.post(f"{base_url}/images", json=DRAW, headers=headers).json()["data"] for _ in range(2)]
        program.send_signal(signal.SIGTERM)
        assert program.wait(10) == 0
    assert drawn[0] == drawn[1]
    assert len(base64.b64decode(drawn[0][0]["b64_json"])) >= 300_000
