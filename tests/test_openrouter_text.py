"""Conversations of the OpenRouter driver against the strict stand-in: what is said arrives, whatever fails says so."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from kheish_mcp.capabilities import Exchange, ModelCard, nobody_listens
from kheish_mcp.conversation import ChatRequest, Reply, Text, ToolSpec, Turn
from kheish_mcp.drivers.http import Endpoint, Line
from kheish_mcp.drivers.openrouter.codec import Picture
from kheish_mcp.drivers.openrouter.driver import OpenRouter
from kheish_mcp.drivers.openrouter.talk import Talk
from kheish_mcp.errors import (
    DeadlineExceeded,
    InvalidArgument,
    Json,
    KheishError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from kheish_mcp.formats import recognise
from kheish_mcp.media import Media
from kheish_mcp.secret import Secret
from tests.conftest import CANARY
from tests.daemons import client_of, daemon_on
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import chat, faults, synthetic
from tests.emulators.provider.answers import Answer
from tests.emulators.provider.stream_faults import CHAT, is_event
from tests.hosts import call

pytestmark = pytest.mark.anyio
TEXT, HEARS, BLIND, DRAWS = (
    "openai/gpt-5.4-mini",
    "google/gemini-2.5-flash",
    "z-ai/glm-5.3-flash",
    "google/gemini-2.5-flash-image",
)
PNG = Media(synthetic.picture(1, (8, 8), "png"), "image/png")
WEBP = Media(synthetic.picture(2, (8, 8), "webp"), "image/webp")
WAV = Media(synthetic.wav(synthetic.tone(2)), "audio/wav")
LOOK = ToolSpec("look", "Looks at a place.", {"type": "object", "properties": {"at": {"type": "string"}}})
PORTS = ChatRequest((Turn("user", (Text("Name three ports."),)),))


@pytest.fixture
async def driver(emulator: OpenRouterEmulator) -> AsyncGenerator[OpenRouter]:
    """A driver of a route without preferences."""
    opened = OpenRouter(Endpoint("home", emulator.base_url, Secret(CANARY)))
    yield opened
    await opened.close()
    assert emulator.violations == []


async def ask(
    driver: OpenRouter, request: ChatRequest = PORTS, model: str = TEXT, exchange: Exchange | None = None
) -> tuple[Reply, list[str]]:
    """One question: the reply, and its text in the pieces in which it was told."""
    pieces: list[str] = []

    async def said(piece: str) -> None:
        pieces.append(piece)

    reply = await driver.answer(model, request, exchange or Exchange(), said)
    assert "".join(pieces) == reply.text
    return reply, pieces


async def refused(driver: OpenRouter, kind: type[KheishError], *, billed: bool, **more: Any) -> KheishError:
    """One question that has to be refused, with what is known of the money, and without key or prompt."""
    with pytest.raises(kind) as caught:
        await ask(driver, **more)
    told = json.dumps(caught.value.as_json())
    assert caught.value.details["possibly_billed"] is billed
    assert CANARY not in told
    assert "three ports" not in told
    return caught.value


# What is answered


async def test_an_answer_streams_and_says_what_it_cost(driver: OpenRouter, emulator: OpenRouterEmulator):
    emulator.say("Gdansk, Riga, Tallinn.")
    reply, pieces = await ask(driver)
    [bill] = emulator.ledger
    assert pieces == ["Gdansk,", " Riga,", " Tallinn."]
    assert (reply.model, reply.finish_reason, reply.warnings) == (TEXT, "stop", ())
    assert (reply.cost_usd, reply.generation_id) == (pytest.approx(bill.cost), bill.generation_id)
    assert reply.usage["completion_tokens"] == 3


async def test_the_story_is_told_in_order(driver: OpenRouter, emulator: OpenRouterEmulator):
    story: list[Any] = []

    async def sent() -> None:
        story.append(("sent", len(emulator.requests)))

    async def responded(generation_id: str | None) -> None:
        story.append(("responded", generation_id))

    async def progress(sentence: str) -> None:
        story.append(sentence)

    reply, _ = await ask(driver, exchange=Exchange(sent, responded, progress))
    assert story == [
        ("sent", 0),
        "home: waiting for the answer",
        ("responded", reply.generation_id),
        "home: the provider is at work on the answer",
    ]


async def test_every_wish_reaches_the_provider(emulator: OpenRouterEmulator):
    preferences: dict[str, Json] = {"order": ["openai"], "zdr": True, "max_price": {"prompt": 1.5}, "sort": "price"}
    driver = OpenRouter(Endpoint("home", emulator.base_url, Secret(CANARY), preferences))
    wishes = {"fallbacks": (HEARS,), "max_output_tokens": 2, "temperature": 0.5, "effort": "low"}
    schema: dict[str, Json] = {"type": "object"}
    emulator.say("one two three")
    reply, _ = await ask(driver, replace(PORTS, **wishes, schema=schema, tools=(LOOK,)))
    await driver.close()
    body = emulator.requests[0].body
    routed = {**preferences, "max_price": {"prompt": "1.5"}, "require_parameters": True}
    assert (body["provider"], body["models"], body["reasoning"]) == (routed, [HEARS], {"effort": "low"})
    assert (reply.text, reply.finish_reason) == ("one two", "length")


async def test_pictures_and_sound_go_in_the_caller_s_order(driver: OpenRouter, emulator: OpenRouterEmulator):
    parts = (Text("Compare"), PNG, Text("with"), WEBP, WAV)
    await ask(driver, ChatRequest((Turn("user", parts),)), HEARS)
    content = emulator.requests[0].body["messages"][0]["content"]
    assert [part["type"] for part in content] == ["text", "image_url", "text", "image_url", "input_audio"]


async def test_tools_are_called_and_answered_until_the_model_speaks(driver: OpenRouter, emulator: OpenRouterEmulator):
    look = chat.Turn(calls=(chat.Call("look", {"at": "the sea"}), chat.Call("look", "no JSON")))
    emulator.say(look, lambda request: f"I saw {request['messages'][-2]['content']}.")
    request = replace(PORTS, tools=(LOOK,))
    reply, _ = await ask(driver, request)
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [
        ("look", '{"at": "the sea"}'),
        ("look", "no JSON"),
    ]
    assert reply.finish_reason == "tool_calls"
    results = zip(reply.tool_calls, ("a ship", "those arguments are no JSON"), strict=True)
    answers = [Turn("tool", (Text(told),), answers=call.call_id) for call, told in results]
    said = Turn("assistant", (), reply.tool_calls, reasoning=reply.reasoning)
    reply, _ = await ask(driver, replace(request, turns=(*request.turns, said, *answers)))
    assert reply.text == "I saw a ship."


async def test_reasoning_is_not_told_as_text_and_can_be_handed_back(driver: OpenRouter, emulator: OpenRouterEmulator):
    emulator.say(chat.Turn("Riga.", reasoning="The Baltic has many."))
    reply, pieces = await ask(driver)
    assert pieces == ["Riga."]
    turns = (*PORTS.turns, Turn("assistant", (Text(reply.text),), reasoning=reply.reasoning), *PORTS.turns)
    await ask(driver, ChatRequest(turns))
    [thought] = emulator.requests[-1].body["messages"][1]["reasoning_details"]
    assert (thought["type"], thought["text"]) == ("reasoning.text", "The Baltic has many.")


async def test_bytes_that_end_anywhere_make_no_difference(driver: OpenRouter, emulator: OpenRouterEmulator):
    emulator.say("Gdańsk, Rīga, 東京.")
    emulator.fail_next(faults.odd_splits())
    assert (await ask(driver))[0].text == "Gdańsk, Rīga, 東京."


def drawn(change: Callable[[str], str]) -> faults.Fault:
    """A stream whose pictures lie somewhere else, or are something else."""

    def spoil(answer: Answer, _origins: faults.Origins) -> Answer:
        def changed(piece: bytes) -> bytes:
            if not is_event(piece) or b'"images"' not in piece:
                return piece
            body = json.loads(piece.removeprefix(b"data: "))
            for image in body["choices"][0]["delta"]["images"]:
                image["image_url"]["url"] = change(image["image_url"]["url"])
            return b"data: " + json.dumps(body).encode() + b"\n\n"

        return replace(answer, events=tuple(map(changed, answer.events)))

    return faults.Fault("other pictures", spoil=spoil, paths=CHAT)


async def test_a_picture_in_the_stream_is_media(driver: OpenRouter, emulator: OpenRouterEmulator):
    emulator.say(chat.Turn("Here it is.", pictures=2))
    reply, _ = await ask(driver, model=DRAWS)
    assert [recognise(one).media_type for one in reply.media] == ["image/png"] * 2
    assert (reply.text, reply.cost_usd) == ("Here it is.", pytest.approx(emulator.ledger[0].cost))


async def test_a_picture_of_many_megabytes_is_one_line(driver: OpenRouter, emulator: OpenRouterEmulator):
    heavy = synthetic.picture(3, (512, 512), "png", 6 << 20)
    emulator.say(chat.Turn("Here.", pictures=1))
    emulator.fail_next(drawn(lambda _url: chat.data_url(heavy)))
    [picture] = (await ask(driver, model=DRAWS))[0].media
    assert picture.data == heavy


async def test_a_link_is_followed_to_the_route_s_own_origin_only(driver: OpenRouter, emulator: OpenRouterEmulator):
    emulator.say(*[chat.Turn("Here.", pictures=1)] * 3)
    for place in (emulator.base_url, f"{emulator.other_origin}/api/v1", "http://169.254.169.254"):
        emulator.fail_next(drawn(lambda _url, place=place: f"{place}/files/1.png"))
    replies = [(await ask(driver, model=DRAWS))[0] for _ in range(3)]
    assert [len(reply.media) for reply in replies] == [1, 0, 0]
    assert ["could not be fetched" in " ".join(reply.warnings) for reply in replies] == [False, True, True]
    assert emulator.other_requests == []
    assert "authorization" not in emulator.requests[1].headers


async def test_a_picture_that_is_none_does_not_take_the_words_along(driver: OpenRouter, emulator: OpenRouterEmulator):
    emulator.say(chat.Turn("Here.", pictures=1))
    emulator.fail_next(drawn(lambda _url: "data:image/png;base64,@@"))
    reply, _ = await ask(driver, model=DRAWS)
    assert (reply.text, reply.media, reply.remains) == ("Here.", (), (b"data:image/png;base64,@@",))
    assert "base64" in reply.warnings[0]


async def test_pictures_that_came_before_the_line_broke_are_kept(driver: OpenRouter, emulator: OpenRouterEmulator):
    image = {"type": "image_url", "image_url": {"url": chat.data_url(PNG.data)}}
    emulator.fail_next(ending({"choices": [{"index": 0, "delta": {"images": [image]}}]}))
    refusal = await refused(driver, Unavailable, billed=True)
    assert refusal.remains == (PNG.data,)


async def test_an_answer_at_once_is_an_answer(driver: OpenRouter, emulator: OpenRouterEmulator):
    """A server that takes `stream` for a wish answers as JSON."""

    def whole(answer: Answer, _origins: faults.Origins) -> Answer:
        message = {"role": "assistant", "content": "Riga."}
        payload = {"model": TEXT, "choices": [{"message": message, "finish_reason": "stop"}], "usage": {"cost": 0.5}}
        return replace(answer, events=(), payload=payload, media_type="application/json")

    emulator.fail_next(faults.Fault("whole", spoil=whole, paths=CHAT))
    reply, pieces = await ask(driver)
    assert (pieces[0], reply.finish_reason, reply.cost_usd) == ("Riga.", "stop", 0.5)


# What a model takes


def card(model: str, *inputs: str, outputs: tuple[str, ...] = ("text",)) -> ModelCard:
    """A card as the provider gives it."""
    return ModelCard(model, ("text",), inputs=inputs, outputs=outputs, context_tokens=4096)


async def test_what_is_known_of_a_model_decides_what_it_takes(driver: OpenRouter):
    assert (driver.sees(BLIND), driver.hears(TEXT), driver.hears(HEARS)) == (True, False, True)
    assert driver.context_tokens(TEXT) is None
    driver.learn((card(BLIND, "text"), card(TEXT, "text", "image"), card(HEARS, "text", "image", "audio")))
    assert [driver.sees(model) for model in (BLIND, TEXT, HEARS, f"{TEXT}:free", "un/known")] == [
        False,
        True,
        True,
        True,
        True,
    ]
    assert [driver.hears(model) for model in (BLIND, TEXT, HEARS)] == [False, False, True]
    assert driver.context_tokens(TEXT) == 4096


@pytest.mark.parametrize(("media", "hint"), [(PNG, TEXT), (WAV, "transcribe_audio")])
async def test_media_that_a_model_does_not_take_is_refused_here_with_a_way_out(
    driver: OpenRouter, emulator: OpenRouterEmulator, media: Media, hint: str
):
    driver.learn((card(BLIND, "text"), card(TEXT, "text", "image")))
    with pytest.raises(InvalidArgument, match=BLIND) as caught:
        await ask(driver, ChatRequest((Turn("user", (Text("What is it?"), media)),)), BLIND)
    assert hint in str(caught.value.hint)
    assert emulator.requests == []


async def test_a_model_that_is_not_known_is_refused_by_the_provider_with_the_same_way_out(driver: OpenRouter):
    with pytest.raises(NotFound, match="image input") as caught:
        await ask(driver, ChatRequest((Turn("user", (PNG,)),)), BLIND)
    assert "takes it" in str(caught.value.hint)


# What fails


@pytest.mark.parametrize(
    ("fault", "kind", "billed"),
    [
        (faults.status(400, "no"), InvalidArgument, False),
        (faults.status(401, "no"), Unauthenticated, False),
        (faults.status(402, "no"), ResourceExhausted, False),
        (faults.status(403, "no"), PermissionDenied, False),
        (faults.status(404, "no"), NotFound, False),
        (faults.status(408, "no"), DeadlineExceeded, False),
        (faults.status(429, "no"), ResourceExhausted, False),
        (faults.status(500, "no"), Unavailable, False),
        (faults.status(524, "no", shape="html"), DeadlineExceeded, True),
        (faults.key_in_error(), InvalidArgument, False),
        (faults.redirect(other_origin=True), Unavailable, False),
        (faults.stream_error(429), ResourceExhausted, True),
        (faults.stream_error(502), Unavailable, True),
        (faults.error_in_200(402), ResourceExhausted, True),
        (faults.error_in_200(502), Unavailable, True),
        (faults.no_done(), Unavailable, True),
        (faults.malformed_json(), Unavailable, True),
        (faults.cut_body(), Unavailable, True),
        (faults.reset_after_headers(), Unavailable, True),
        (faults.reset_before_headers(paid=True), Unavailable, True),
        (faults.gzip_bomb(), Unavailable, True),
    ],
    ids=lambda value: value.name if isinstance(value, faults.Fault) else "",
)
async def test_a_failure_says_what_it_is_and_what_it_may_have_cost(
    driver: OpenRouter, emulator: OpenRouterEmulator, fault: faults.Fault, kind: type[KheishError], billed: bool
):
    emulator.fail_next(fault)
    await refused(driver, kind, billed=billed)
    assert len(emulator.other_requests) == 0


def ending(*events: dict[str, Any], done: bool = False) -> faults.Fault:
    """A stream of these events alone."""
    pieces = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]
    marks = [b"data: [DONE]\n\n"] if done else []
    return faults.Fault("events", spoil=lambda answer, _o: replace(answer, events=(*pieces, *marks)), paths=CHAT)


def spoken(content: str, finish: str | None = None) -> dict[str, Any]:
    """One event."""
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]}


async def test_a_reason_that_is_an_error_is_one_without_an_error_object_too(
    driver: OpenRouter, emulator: OpenRouterEmulator
):
    emulator.fail_next(ending(spoken("half"), spoken("", "error"), done=True))
    assert "broke its answer off" in (await refused(driver, Unavailable, billed=True)).message


async def test_a_stream_of_nothing_is_a_failure(driver: OpenRouter, emulator: OpenRouterEmulator):
    emulator.fail_next(ending({"choices": []}, done=True))
    await refused(driver, Unavailable, billed=True)


@pytest.mark.parametrize(("finish", "done"), [("stop", False), (None, True)])
async def test_a_reason_or_an_end_mark_is_enough(
    driver: OpenRouter, emulator: OpenRouterEmulator, finish: str, done: bool
):
    emulator.fail_next(ending(spoken("Riga.", finish), done=done))
    reply, _ = await ask(driver)
    assert (reply.text, reply.finish_reason, reply.cost_usd) == ("Riga.", finish, None)
    assert [warning for warning in reply.warnings if "cost" in warning]


async def test_an_answer_without_a_price_has_none(driver: OpenRouter, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.no_usage())
    reply, _ = await ask(driver)
    assert (reply.cost_usd, reply.usage) == (None, {})


async def test_what_the_model_said_to_its_end_is_kept_though_the_line_breaks_behind_it(
    driver: OpenRouter, emulator: OpenRouterEmulator
):
    late = spoken("Riga.", "stop") | {"model": TEXT}
    emulator.fail_next(ending(late, {"error": {"code": 502, "message": "lost"}}))
    reply, _ = await ask(driver)
    assert (reply.text, reply.cost_usd) == ("Riga.", None)
    assert "behind the last word" in reply.warnings[0]


async def test_silence_ends_at_the_deadline_and_the_connection_with_it(emulator: OpenRouterEmulator):
    line = Line(Endpoint("home", emulator.base_url, Secret(CANARY)))
    emulator.fail_next(faults.stall())
    with pytest.raises(DeadlineExceeded, match="fell silent") as caught:
        await Talk(line, nothing_is_fetched, idle_s=0.5).answer(TEXT, PORTS, Exchange(), nobody_listens)
    assert caught.value.details["possibly_billed"] is True
    await anyio.to_thread.run_sync(emulator.wait_for, lambda: emulator.requests[0].disconnected)
    await line.close()


async def nothing_is_fetched(picture: Picture) -> Picture:
    """For answers without pictures."""
    return picture


async def test_who_cancels_stops_the_provider_s_work(driver: OpenRouter, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.stall())
    with anyio.CancelScope() as scope:

        async def said(piece: str) -> None:
            scope.cancel()

        await driver.answer(TEXT, PORTS, Exchange(), said)
    assert scope.cancelled_caught
    await anyio.to_thread.run_sync(emulator.wait_for, lambda: emulator.requests[0].ended is not None)
    assert (emulator.requests[0].disconnected, emulator.ledger) == (True, [])


async def test_many_conversations_share_a_driver(driver: OpenRouter, emulator: OpenRouterEmulator):
    emulator.say(*[lambda request: request["messages"][0]["content"]] * 8)
    replies: dict[str, str] = {}

    async def one(name: str) -> None:
        replies[name] = (await ask(driver, ChatRequest((Turn("user", (Text(name),)),))))[0].text

    async with anyio.create_task_group() as group:
        for at in range(8):
            group.start_soon(one, f"question {at}")
    assert replies == {name: name for name in replies}
    assert len(replies) == 8


# The whole way


async def test_a_model_sees_speaks_and_publishes_with_the_daemon_s_tools(
    state_root: Path, workspace: Path, emulator: OpenRouterEmulator
):
    (workspace / "a.png").write_bytes(PNG.data)
    (workspace / "b.webp").write_bytes(WEBP.data)

    def publish(request: Any) -> chat.Turn:
        [asset] = json.loads(request["messages"][-1]["content"])["assets"]
        return chat.Turn(
            calls=(chat.Call("emit_output", {"parts": [{"type": "asset", "asset_id": asset["asset_id"]}]}),)
        )

    speech = chat.Call("generate_audio", {"input": "Hello!", "format": "wav"})
    emulator.say(chat.Turn(calls=(speech,), reasoning="First I speak."), publish, "Published.")
    async with daemon_on(state_root, emulator, workspace=workspace) as daemon, client_of(daemon) as client:
        result = await call(client, "ask_model", input="Greet them.", attachments=["b.webp", "a.png"])
    asked = [seen.body["messages"] for seen in emulator.requests if seen.path == "/chat/completions"]
    pictures = [part["image_url"]["url"][:15] for part in asked[-1][1]["content"] if part["type"] == "image_url"]
    assert pictures == ["data:image/webp", "data:image/png;"]
    assert asked[-1][2]["reasoning_details"][0]["text"] == "First I speak."
    assert (result["text"], [asset["media_type"] for asset in result["assets"]]) == ("Published.", ["audio/wav"])
