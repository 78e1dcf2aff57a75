"""The stand-in's chat: read by the official SDK, scripted by a queue, strict about every field."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from openrouter import OpenRouter, errors
from openrouter.utils import BackoffStrategy, RetryConfig
from PIL import Image

from kheish_mcp.trust import trust_of
from tests.conftest import CANARY
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import faults, synthetic
from tests.emulators.provider.chat import Call, Turn

TEXT = "openai/gpt-5.4-mini"
PATIENT = "google/gemini-2.5-flash"
DRAWING = "google/gemini-2.5-flash-image"
SPEAKING = "openai/gpt-audio"
STREAMING = "openai/gpt-image-2"
ONCE = RetryConfig("none", BackoffStrategy(1, 1, 1.0, 1), False)
ASKED = [{"role": "user", "content": "Name three ports."}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


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


def chat(model: str = TEXT, messages: Any = ASKED, **more: Any) -> dict[str, Any]:
    """A body for POST /chat/completions."""
    return {"model": model, "messages": messages, **more}


def png() -> str:
    """A small picture as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(synthetic.picture(1, (8, 8), 'png')).decode()}"


def shown(url: str) -> dict[str, Any]:
    """A user's message that is one picture."""
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}


def played(data: bytes, form: str) -> dict[str, Any]:
    """A user's message that is one sound."""
    sound = {"data": base64.b64encode(data).decode(), "format": form}
    return {"role": "user", "content": [{"type": "input_audio", "input_audio": sound}]}


def events(body: str) -> list[dict[str, Any]]:
    """The objects of a stream, its comments and its end mark left out."""
    lines = (line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: {"))
    return [json.loads(line) for line in lines]


def test_the_sdk_reads_an_answer_and_its_price(sdk: OpenRouter, emulator: OpenRouterEmulator) -> None:
    emulator.say("Gdansk, Riga, Tallinn.")
    answer = sdk.chat.send(model=TEXT, messages=ASKED)
    [choice] = answer.choices
    assert (choice.message.content, choice.finish_reason) == ("Gdansk, Riga, Tallinn.", "stop")
    assert answer.usage.cost == pytest.approx(emulator.ledger[0].cost)
    assert answer.usage.cost > 0
    assert sdk.generations.get_generation(id=answer.id).data.total_cost == pytest.approx(answer.usage.cost)


def test_the_sdk_reads_a_stream_with_its_usage_at_the_end(sdk: OpenRouter, emulator: OpenRouterEmulator) -> None:
    emulator.say(Turn("Gdansk, Riga, Tallinn.", reasoning="Baltic, then."))
    chunks = list(sdk.chat.send(model=TEXT, messages=ASKED, stream=True))
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == "Gdansk, Riga, Tallinn."
    assert "".join(delta.reasoning or "" for delta in deltas) == "Baltic, then."
    assert (chunks[-1].choices, chunks[-2].choices[0].finish_reason) == ([], "stop")
    assert chunks[-1].usage.cost == pytest.approx(emulator.ledger[0].cost)


def test_a_stream_keeps_the_line_alive_and_says_when_it_ends(http: httpx2.Client) -> None:
    body = http.post("/chat/completions", json=chat(stream=True)).text
    assert body.startswith(": OPENROUTER PROCESSING\n\n")
    assert body.endswith("data: [DONE]\n\n")


def scripted_agent() -> tuple[Turn, Callable[[Any], str]]:
    """A model that looks, and then tells what it saw."""
    look = Turn(calls=(Call("look", {"at": "the sea"}),))
    return look, lambda request: f"I saw {request['messages'][-1]['content']}."


def test_a_script_calls_a_tool_and_answers_from_its_result(sdk: OpenRouter, emulator: OpenRouterEmulator) -> None:
    emulator.say(*scripted_agent())
    first = sdk.chat.send(model=TEXT, messages=ASKED, tools=[TOOL]).choices[0]
    [call] = first.message.tool_calls
    assert (first.finish_reason, call.function.name) == ("tool_calls", "look")
    assert json.loads(call.function.arguments) == {"at": "the sea"}
    told = {"role": "tool", "tool_call_id": call.id, "content": "a ship"}
    said = {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]}
    second = sdk.chat.send(model=TEXT, messages=[*ASKED, said, told], tools=[TOOL])
    assert second.choices[0].message.content == "I saw a ship."
    assert len(emulator.ledger) == 2


def test_the_sdk_reads_tool_calls_out_of_a_stream(sdk: OpenRouter, emulator: OpenRouterEmulator) -> None:
    emulator.say(Turn(calls=(Call("look", {"at": "the sea"}), Call("look", "no JSON"))))
    chunks = list(sdk.chat.send(model=TEXT, messages=ASKED, tools=[TOOL], stream=True))
    parts = [part for chunk in chunks for choice in chunk.choices for part in choice.delta.tool_calls or ()]
    arguments = ["".join(part.function.arguments or "" for part in parts if part.index == at) for at in (0, 1)]
    assert arguments == ['{"at": "the sea"}', "no JSON"]
    assert [part.function.name for part in parts if part.id] == ["look", "look"]


@pytest.mark.parametrize("whole", [True, False])
def test_a_chat_draws(http: httpx2.Client, emulator: OpenRouterEmulator, whole: bool) -> None:
    wanted = {"modalities": ["image", "text"], "image_config": {"aspect_ratio": "16:9"}, "stream": not whole}
    answer = http.post("/chat/completions", json=chat(DRAWING, **wanted))
    if whole:
        [image] = answer.json()["choices"][0]["message"]["images"]
    else:
        [image] = [i for e in events(answer.text) for c in e["choices"] for i in c["delta"].get("images", ())]
    data = base64.b64decode(image["image_url"]["url"].partition(",")[2])
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.width / picture.height == pytest.approx(16 / 9, rel=0.01)
    assert emulator.ledger[0].cost == pytest.approx(0.04)


def test_a_chat_speaks_in_parts_that_are_decoded_one_by_one(http: httpx2.Client, emulator: OpenRouterEmulator) -> None:
    emulator.say("Hello there, friend.")
    wanted = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "pcm16"}, "stream": True}
    told = events(http.post("/chat/completions", json=chat(SPEAKING, **wanted)).text)
    audio = [choice["delta"]["audio"] for e in told for choice in e["choices"] if "audio" in choice["delta"]]
    parts = [part["data"] for part in audio if "data" in part]
    assert "".join(part.get("transcript", "") for part in audio) == "Hello there, friend."
    assert any(part.endswith("=") for part in parts[:-1])
    assert b"".join(map(base64.b64decode, parts)) == synthetic.tone(len("Hello there, friend."))


def test_an_answer_fits_the_tokens_that_it_may_have(http: httpx2.Client, emulator: OpenRouterEmulator) -> None:
    emulator.say("one two three four")
    [choice] = http.post("/chat/completions", json=chat(max_completion_tokens=2)).json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one two", "length")


CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "a ship"}
SOUND = synthetic.wav(synthetic.tone(9))
VOICE = {"voice": "alloy", "format": "pcm16"}
REFUSALS = [
    (chat(messages=[]), 400, "messages"),
    (chat(prompt="x"), 400, "prompt"),
    (chat(temperature=3), 400, "temperature"),
    (chat(temperature="1"), 400, "temperature"),
    (chat(modalities=None), 400, "null is not allowed"),
    (chat(messages=[{"role": "robot", "content": "x"}]), 400, "messages"),
    (chat(messages=[{"role": "user", "content": [{"type": "image", "image": "x"}]}]), 400, "messages"),
    (chat(messages=[*ASKED, RESULT]), 400, "must answer a tool call"),
    (chat(messages=[*ASKED, CALLED]), 400, "no tool messages"),
    (chat(messages=[*ASKED, CALLED, *ASKED]), 400, "needs its tool message"),
    (chat(messages=[*ASKED, CALLED, RESULT, RESULT]), 400, "must answer a tool call"),
    (chat(tools=[{"type": "function", "function": {"name": "no spaces"}}]), 400, "tools"),
    (chat(provider={"max_price": {"prompt": 1}}), 400, "max_price"),
    (chat("acme/none"), 400, "not a valid model ID"),
    (chat(models=["acme/none"]), 400, "not a valid model ID"),
    (chat("z-ai/glm-5.3-flash", [shown(png())]), 404, "image input"),
    (chat(messages=[shown("data:image/jpeg;base64," + png().partition(",")[2])]), 400, "media type"),
    (chat(messages=[shown("ftp://example.com/a.png")]), 400, "url"),
    (chat(messages=[played(SOUND, "wav")]), 404, "audio input"),
    (chat(PATIENT, [played(SOUND, "mp3")]), 400, "declared format"),
    (chat(modalities=["image", "text"]), 404, "image, text"),
    (chat(DRAWING, modalities=["image"]), 404, "image"),
    (chat(STREAMING, modalities=["image"]), 404, "image"),
    (chat(SPEAKING, modalities=["text", "audio"], audio=VOICE), 400, "stream"),
    (chat(SPEAKING, modalities=["text", "audio"], audio={**VOICE, "format": "wav"}, stream=True), 400, "pcm16"),
    (chat(SPEAKING, modalities=["text", "audio"], stream=True), 400, "belong together"),
]


@pytest.mark.parametrize(("body", "status", "named"), REFUSALS)
def test_a_wrong_conversation_is_refused_by_name(
    http: httpx2.Client, emulator: OpenRouterEmulator, body: dict[str, Any], status: int, named: str
) -> None:
    answer = http.post("/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)
    assert named in answer.json()["error"]["message"]
    assert emulator.ledger == []


def test_every_documented_field_is_taken(http: httpx2.Client) -> None:
    more = {
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "ports", "schema": {}, "strict": True}},
        "provider": {"order": ["openai"], "zdr": True, "sort": {"by": "price"}, "max_price": {"prompt": "1"}},
        "reasoning": {"effort": "low"},
        "stop": ["x"],
        "temperature": None,
        "metadata": {"a": "b"},
        "session_id": "s",
    }
    conversation = [{"role": "system", "content": "Be brief."}, shown(png()), CALLED, RESULT, *ASKED]
    assert http.post("/chat/completions", json=chat(messages=conversation, **more)).status_code == 200
    assert http.post("/chat/completions", json=chat(PATIENT, [played(SOUND, "wav")])).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "right"),
    [
        ("/chat/completions", chat("openai/whisper-1"), "/audio/transcriptions"),
        ("/images", {"model": TEXT, "prompt": "x"}, "/chat/completions"),
        ("/audio/speech", {"model": DRAWING, "input": "x"}, "/images"),
    ],
)
def test_the_wrong_endpoint_names_the_right_one(http: httpx2.Client, path: str, body: dict[str, Any], right: str):
    error = http.post(path, json=body).json()["error"]
    assert (error["code"], error["availability"]["code"]) == (400, "wrong_endpoint")
    assert right in error["availability"]["constraint"]["detail"]


def test_the_sdk_reads_refusals_of_a_chat(sdk: OpenRouter, emulator: OpenRouterEmulator) -> None:
    with pytest.raises(errors.BadRequestResponseError, match="not a valid model ID"):
        sdk.chat.send(model="acme/none", messages=ASKED)
    emulator.fail_next(faults.status(422, "no sense"))
    with pytest.raises(errors.UnprocessableEntityResponseError, match="no sense"):
        sdk.chat.send(model=TEXT, messages=ASKED)


def test_the_sdk_reads_an_error_within_a_stream(sdk: OpenRouter, emulator: OpenRouterEmulator) -> None:
    emulator.fail_next(faults.stream_error(429))
    chunks = list(sdk.chat.send(model=TEXT, messages=ASKED, stream=True))
    assert (chunks[-1].error.code, chunks[-1].choices[0].finish_reason) == (429, "error")
    emulator.fail_next(faults.stream_error())
    told = list(sdk.images.generate(model=STREAMING, prompt="a fox", stream=True))
    assert told[-1].error.code == "server_error"
    assert emulator.ledger == []


def test_a_stream_may_close_without_its_end(http: httpx2.Client, emulator: OpenRouterEmulator) -> None:
    emulator.fail_next(faults.no_done())
    told = http.post("/chat/completions", json=chat(stream=True)).text
    assert "[DONE]" not in told
    assert all(choice["finish_reason"] is None for event in events(told) for choice in event["choices"])


def test_an_error_hides_in_a_choice_and_a_price_is_missing(http: httpx2.Client, emulator: OpenRouterEmulator) -> None:
    emulator.fail_next(faults.error_in_choice())
    [choice] = http.post("/chat/completions", json=chat()).json()["choices"]
    assert (choice["finish_reason"], choice["error"]["code"], emulator.ledger) == ("error", "server_error", [])
    emulator.always(faults.no_usage())
    assert "usage" not in http.post("/chat/completions", json=chat()).json()
    assert "usage" not in http.post("/chat/completions", json=chat(stream=True)).text
    assert len(emulator.ledger) == 2


def test_a_stream_comes_in_parts_that_end_anywhere(http: httpx2.Client, emulator: OpenRouterEmulator) -> None:
    emulator.say("Gdańsk, Rīga, Tallinn.")
    emulator.fail_next(faults.odd_splits())
    with http.stream("POST", "/chat/completions", json=chat(stream=True)) as answer:
        parts = list(answer.iter_raw())
    assert b"\r\n\r\n" in b"".join(parts)
    said = "".join(c["delta"]["content"] for e in events(b"".join(parts).decode()) for c in e["choices"])
    assert said == "Gdańsk, Rīga, Tallinn."


def leave_early(http: httpx2.Client, path: str, body: dict[str, Any]) -> None:
    """Reads the beginning of a stream, and no more."""
    with http.stream("POST", path, json=body) as answer:
        next(answer.iter_raw())


@pytest.mark.parametrize(("model", "bills"), [(TEXT, 0), (PATIENT, 1)])
def test_leaving_a_stream_spares_the_price_where_the_provider_stops(
    http: httpx2.Client, emulator: OpenRouterEmulator, model: str, bills: int
) -> None:
    emulator.fail_next(faults.stall())
    leave_early(http, "/chat/completions", chat(model, stream=True))
    emulator.wait_for(lambda: emulator.requests[0].ended is not None)
    assert (emulator.requests[0].disconnected, len(emulator.ledger)) == (True, bills)


def lose_the_end_of_no_stream() -> None:
    """Asks for a fault that the request gives no room to."""
    key = {"Authorization": f"Bearer {CANARY}"}
    with OpenRouterEmulator(key=CANARY) as other, httpx2.Client(base_url=other.base_url, headers=key) as client:
        other.fail_next(faults.no_done())
        client.post("/chat/completions", json=chat())


def test_a_fault_that_cannot_strike_is_told_at_the_end() -> None:
    with pytest.raises(ValueError, match="did not ask for one"):
        lose_the_end_of_no_stream()
