"""ask_model as a client calls it: who answers, what it gets, what comes back and how the client hears of it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import mcp_types as t
import pytest
from mcp.client import Client

from kheish_mcp.errors import KheishError, Unavailable
from kheish_mcp.mcp_server.listeners import Listeners
from kheish_mcp.mcp_server.server import Face, KheishServer
from kheish_mcp.selectors import Selector
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import synthetic
from tests.hosts import ERAS, call, refused, result_object
from tests.scripted import Bench, Scripted, answer, bench, kinds, last_result, refusal, texts, wants

pytestmark = pytest.mark.anyio


@pytest.fixture
async def scripted(state_root: Path, emulator: OpenRouterEmulator) -> AsyncGenerator[Bench]:
    """A daemon whose text route is scripted and whose media tools are the stand-in's."""
    async with bench(state_root, emulator, Scripted()) as made:
        yield made


@asynccontextmanager
async def client_of(made: Bench, mode: str = "2026-07-28") -> AsyncGenerator[Client]:
    """The official client on a server of the bench's parts."""

    async def runtime() -> dict[str, Any]:
        return {}

    server = KheishServer(Face(lambda: made.call, runtime, Listeners()))
    async with Client(server, mode=mode, cache=None) as client:
        yield client


@pytest.mark.parametrize("mode", ERAS)
async def test_a_question_is_answered(scripted: Bench, mode: str):
    scripted.driver.say("Gdansk.")
    async with client_of(scripted, mode) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names.index("ask_model") == names.index("emit_output") - 1
        result = await call(client, "ask_model", input="Name a port.", system="Be brief.", temperature=0.2)
    assert (result["text"], result["finish_reason"], result["session"]) == ("Gdansk.", "stop", None)
    assert result["usage"]["total_tokens"] == 15
    assert result["job_id"].startswith("job-")
    [request] = scripted.driver.requests
    assert (request.temperature, request.max_output_tokens) == (0.2, None)
    assert texts(request.turns[0]).endswith("Be brief.")
    assert texts(request.turns[1]) == "Name a port."


async def test_the_tools_fit_into_a_client_s_patience(scripted: Bench):
    async with client_of(scripted) as client:
        listed = await client.list_tools()
        assert len(listed.model_dump_json(by_alias=True, exclude_none=True).encode()) < 12_288
        [tool] = [tool for tool in listed.tools if tool.name == "ask_model"]
        assert tool.annotations is not None
        assert (tool.annotations.read_only_hint, tool.output_schema) == (False, None)


async def test_without_a_text_route_it_is_not_listed_and_says_why(state_root: Path):
    async with bench(state_root, None, Scripted()) as made:
        parts = made.call
        bare = type(parts.catalog)(offer for offer in parts.catalog.offers if offer.driver_name != "scripted")
        object.__setattr__(made.call, "catalog", bare)
        async with client_of(made) as client:
            assert "ask_model" not in [tool.name for tool in (await client.list_tools()).tools]
            error = await refused(client, "ask_model", input="Hello?")
    assert error["code"] == "failed_precondition"
    assert "answers in text" in error["message"]


async def test_a_session_goes_on(scripted: Bench):
    scripted.driver.say("Alice.", "Bob.")
    async with client_of(scripted) as client:
        await call(client, "ask_model", input="I am Bob. Who are you?", session="talk")
        second = await call(client, "ask_model", input="Who am I?", session="talk")
        shown = await client.read_resource("kheish://sessions/talk")
    assert (second["text"], second["session"]) == ("Bob.", "talk")
    assert [texts(turn) for turn in scripted.driver.requests[1].turns[1:]] == [
        "I am Bob. Who are you?", "Alice.", "Who am I?",
    ]  # fmt: skip
    [contents] = shown.contents
    assert isinstance(contents, t.TextResourceContents)
    assert [entry["kind"] for entry in json.loads(contents.text)["entries"]] == ["input", "answer"] * 2


async def test_what_it_says_is_streamed_through_progress(scripted: Bench):
    told: list[str] = []
    heard = anyio.Event()

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        told.append(message or "")
        if told[-1].startswith("Gdansk"):
            heard.set()

    scripted.driver.say("Gdansk it is.")
    scripted.driver.between = heard.wait
    async with client_of(scripted) as client:
        with anyio.fail_after(20):
            result = await client.call_tool("ask_model", {"input": "Name a port."}, progress_callback=progress)
    assert not result.is_error
    assert result_object(result)["text"] == "Gdansk it is."


async def test_attachments_are_references_of_any_kind_in_order(scripted: Bench):
    made = await scripted.call.assets.keep(synthetic_picture(), owner="local")
    async with client_of(scripted) as client:
        await call(
            client,
            "ask_model",
            input="What is this?",
            model="script/script/eyes",
            attachments=["data:text/plain,Read%20me.", made.uri, made.asset_id],
        )
    [request] = scripted.driver.requests
    assert kinds(request.turns[-1].parts) == ["text", "text", "text", "image/png", "text", "image/png"]
    assert "Read me." in texts(request.turns[-1])


def synthetic_picture() -> Any:
    """A small PNG."""
    from kheish_mcp.media import Media

    return Media(synthetic.picture(1, (16, 16), "png"), "image/png", "pier.png")


async def test_what_cannot_be_asked_is_refused_before_it_is_sent(scripted: Bench):
    picture = (await scripted.call.assets.keep(synthetic_picture(), owner="local")).asset_id
    async with client_of(scripted) as client:
        blind = await refused(client, "ask_model", input="?", attachments=[picture])
        empty = await refused(client, "ask_model", input=" ")
        name = await refused(client, "ask_model", input="?", session="no/name")
        gone = await refused(client, "ask_model", input="?", attachments=["asset-" + "a" * 26])
        both = await refused(client, "ask_model", input="?", provider="script", model="openrouter/a/b")
        path = await refused(client, "ask_model", input="?", save_as="answer.txt")
    assert blind["details"] == {"models": ["script/eyes"]}
    codes = [error["code"] for error in (empty, name, gone, both, path)]
    assert codes == ["invalid_argument", "invalid_argument", "not_found", "invalid_argument", "failed_precondition"]
    assert scripted.driver.requests == []
    assert (await scripted.call.ledger.totals())["calls"] == 0


async def test_a_call_s_model_before_its_session_s_before_set_model(scripted: Bench):
    async with client_of(scripted) as client:
        first = await call(client, "ask_model", input="?", session="talk")
        await scripted.call.policy.choose("script", "script/chosen")
        second = await call(client, "ask_model", input="?", session="talk")
        await scripted.call.policy.choose_for_session("talk", "local", Selector("script", "script/session"))
        third = await call(client, "ask_model", input="?", session="talk")
        fourth = await call(client, "ask_model", input="?", session="talk", model="script/script/own")
        fifth = await call(client, "ask_model", input="?")
    models = [result["model"] for result in (first, second, third, fourth, fifth)]
    assert models == ["script/plain", "script/chosen", "script/session", "script/own", "script/chosen"]


async def test_a_model_that_calls_no_tools_gets_none_and_it_is_said(scripted: Bench):
    async with client_of(scripted) as client:
        result = await call(client, "ask_model", input="?", model="script/script/handless")
        assert (await call(client, "ask_model", input="?", model="script/script/eyes"))["warnings"] == []
    assert result["warnings"] == ["script/handless calls no tools, so it had none."]
    assert [bool(request.tools) for request in scripted.driver.requests] == [False, True]


async def test_what_was_published_comes_with_the_answer(scripted: Bench):
    scripted.driver.say(
        answer("", wants("generate_image", prompt="a pier")),
        lambda request: answer("", wants("emit_output", artifact_ids=[last_result(request)["assets"][0]["asset_id"]])),
        "A pier.",
    )
    async with client_of(scripted) as client:
        result = await client.call_tool("ask_model", {"input": "Draw a pier.", "session": "talk"})
    shown = result_object(result)
    assert [block.type for block in result.content] == ["text", "image", "resource_link"]
    assert [asset["asset_id"] for asset in shown["assets"]] == [
        artifact["asset_id"] for artifact in shown["outputs"][0]["artifacts"]
    ]
    tools = await scripted.call.ledger.totals(by="tool")
    assert {row["key"]: row["calls"] for row in tools["rows"] if isinstance(row, dict)} == {  # type: ignore[union-attr]
        "ask_model": 3, "generate_image": 1,
    }  # fmt: skip


DOWN = Unavailable("The provider is down.", details={"possibly_billed": False})
UNSURE = Unavailable("The stream broke off.", details={"possibly_billed": True})


async def test_where_no_model_was_named_another_route_answers_what_failed_at_no_cost(scripted: Bench):
    scripted.driver.say(DOWN)
    async with client_of(scripted) as client:
        result = await call(client, "ask_model", input="?", session="talk")
    assert (result["route_id"], result["model"], result["finish_reason"]) == ("spare", "script/eyes", "stop")
    [attempt] = result["attempts"]
    assert (attempt["route_id"], attempt["model"], attempt["error"]["code"]) == (
        "script",
        "script/plain",
        "unavailable",
    )
    assert "script/plain on route script failed" in result["warnings"][0]
    kinds_of = [entry.kind for entry in await scripted.call.sessions.entries("talk", "local")]
    assert kinds_of == ["input", "answer"]


@pytest.mark.parametrize(
    ("refused_with", "named"), [(DOWN, {"model": "script/script/plain"}), (DOWN, {"provider": "script"}), (UNSURE, {})]
)
async def test_nobody_else_is_asked_for_a_named_model_or_what_may_have_cost(
    scripted: Bench, refused_with: KheishError, named: dict[str, str]
):
    scripted.driver.say(refused_with)
    async with client_of(scripted) as client:
        error = await refused(client, "ask_model", input="?", **named)
    assert error["message"] == refused_with.message
    assert scripted.spare.requests == []


async def test_nobody_else_is_asked_where_set_model_has_chosen(scripted: Bench):
    await scripted.call.policy.choose("script", "script/chosen")
    scripted.driver.say(DOWN)
    async with client_of(scripted) as client:
        await refused(client, "ask_model", input="?")
    assert scripted.spare.requests == []


async def test_a_provider_s_refusal_is_the_tool_s(scripted: Bench):
    scripted.driver.say(refusal())
    async with client_of(scripted) as client:
        error = await refused(client, "ask_model", input="Hello?")
    assert (error["code"], error["message"], error["hint"]) == (
        "invalid_argument", "The provider says no.", "Ask otherwise.",
    )  # fmt: skip


async def test_an_answer_that_takes_longer_is_fetched_as_a_job(scripted: Bench):
    scripted.driver.say("Later.")
    async with client_of(scripted) as client:
        begun = await call(client, "ask_model", input="?", wait_seconds=0)
        job = await call(client, "get_job", job_id=begun["job_id"], wait_seconds=20)
    assert job["status"] == "completed"
    assert job["result"]["text"] == "Later."
