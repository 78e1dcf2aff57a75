"""One run: tools through the daemon's own surface, limits, order, memory, and how each ends well."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from kheish_mcp.agent.run import SYSTEM, Limits, limited
from kheish_mcp.conversation import Reply, ToolCall
from kheish_mcp.errors import JsonObject, Unavailable
from kheish_mcp.media import Media
from kheish_mcp.stores.assets import Asset
from kheish_mcp.stores.sessions import WRITE
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import synthetic, wire_faults
from tests.scripted import Bench, Refused, Scripted, answer, bench, kinds, last_result, refusal, texts, wants

pytestmark = pytest.mark.anyio


@pytest.fixture
async def scripted(state_root: Path, emulator: OpenRouterEmulator) -> AsyncGenerator[Bench]:
    """A daemon whose text route is scripted and whose media tools are the stand-in's."""
    async with bench(state_root, emulator, Scripted()) as made:
        yield made


async def keep(made: Bench, data: bytes, media_type: str, name: str) -> Asset:
    """An asset of the caller's."""
    return await made.call.assets.keep(Media(data, media_type, name), owner="local")


def png(number: int = 1) -> bytes:
    """A small picture."""
    return synthetic.picture(number, (16, 16), "png")


# Plain answers


async def test_a_plain_answer_is_streamed_billed_and_journaled(scripted: Bench):
    scripted.driver.say("Gdansk, Riga, Tallinn.")
    result = await scripted.ask("Name three ports.", session="demo")
    assert result["text"] == "Gdansk, Riga, Tallinn."
    assert "".join(scripted.said).strip() == result["text"]
    assert (result["route_id"], result["provider"], result["model"]) == ("script", "scripted", "script/plain")
    assert (result["session"], result["finish_reason"]) == ("demo", "stop")
    assert result["usage"] == {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    assert result["cost_usd"] == pytest.approx(0.001)
    assert (result["assets"], result["outputs"], result["warnings"]) == ([], [], [])
    entries = await scripted.call.sessions.entries("demo", "local")
    assert [(entry.kind, entry.body["text"]) for entry in entries] == [
        ("input", "Name three ports."), ("answer", "Gdansk, Riga, Tallinn."),
    ]  # fmt: skip
    totals = await scripted.call.ledger.totals(by="tool")
    assert totals["rows"] == [{"key": "ask_model", "calls": 1, "cost_usd": 0.001, "unknown_cost_calls": 0}]


async def test_without_tools_the_model_gets_the_words_alone(scripted: Bench):
    await scripted.ask("Hello.", tools=False)
    [request] = scripted.driver.requests
    assert request.tools == ()
    assert [(turn.role, texts(turn)) for turn in request.turns] == [("user", "Hello.")]


async def test_with_tools_it_gets_every_tool_but_ask_model(scripted: Bench):
    await scripted.ask("Hello.", system="Be brief.")
    [request] = scripted.driver.requests
    names = [tool.name for tool in request.tools]
    assert names[:4] == ["generate_image", "edit_image", "generate_audio", "transcribe_audio"]
    assert "emit_output" in names
    assert "ask_model" not in names
    assert texts(request.turns[0]) == f"{SYSTEM}\n\nBe brief."
    assert all(tool.schema["additionalProperties"] is False for tool in request.tools)


async def test_what_the_model_thought_is_handed_back_with_its_calls(scripted: Bench):
    thoughts: tuple[JsonObject, ...] = ({"type": "reasoning.encrypted", "data": "sealed", "index": 0},)
    scripted.driver.say(answer("", wants("list_models"), reasoning=thoughts), "Done.")
    await scripted.ask("Which models are there?", session="demo")
    _, second = scripted.driver.requests
    assert [turn.reasoning for turn in second.turns if turn.tool_calls] == [thoughts]


async def test_bytes_that_came_with_an_answer_and_are_no_medium_are_kept_aside_and_named(
    scripted: Bench, state_root: Path
):
    scripted.driver.say(replace(answer("Here it is."), remains=(b"no picture",), warnings=("It is not base64.",)))
    result = await scripted.ask("Draw.", tools=False)
    assert result["text"] == "Here it is."
    [name] = [path.name for path in (state_root / "quarantine").iterdir() if path.read_bytes() == b"no picture"]
    assert [name in str(warning) for warning in result["warnings"]] == [False, True]


async def test_a_picture_that_does_not_decode_takes_no_words_along(scripted: Bench, state_root: Path):
    broken = Media(b"\x89PNG\r\n\x1a\nno more", "image/png", "")
    scripted.driver.say(replace(answer("Here it is."), media=(broken,)))
    result = await scripted.ask("Draw.", tools=False)
    assert (result["text"], result["assets"]) == ("Here it is.", [])
    [name] = [path.name for path in (state_root / "quarantine").iterdir() if path.read_bytes() == broken.data]
    assert any(name in str(warning) for warning in result["warnings"])
    scripted.driver.say(replace(answer(""), media=(broken,)))
    with pytest.raises(Refused) as nothing:
        await scripted.ask("Draw again.", tools=False)
    assert nothing.value.error["code"] == "data_loss"


async def test_a_session_goes_on_where_it_was(scripted: Bench):
    scripted.driver.say("Alice.", "You are called Bob.")
    await scripted.ask("I am Bob. Who are you?", session="demo", tools=False)
    await scripted.ask("Who am I?", session="demo", tools=False)
    await scripted.ask("Who am I?", session="other", tools=False)
    _, second, third = scripted.driver.requests
    assert [texts(turn) for turn in second.turns] == ["I am Bob. Who are you?", "Alice.", "Who am I?"]
    assert [texts(turn) for turn in third.turns] == ["Who am I?"]


# Tools


async def test_a_greeting_is_made_and_published_as_the_page_says(scripted: Bench):
    scripted.driver.say(
        answer("I will speak.", wants("generate_audio", input="Hello!", format="wav")),
        lambda request: answer(
            "",
            wants(
                "emit_output",
                parts=[
                    {"type": "text", "text": "Listen:"},
                    {"type": "asset", "asset_id": last_result(request)["assets"][0]["asset_id"]},
                ],
            ),
        ),
        "Published.",
    )
    result = await scripted.ask("Make a short spoken greeting and publish it", session="demo")
    [output], [artifact] = result["outputs"], result["assets"]
    assert output["parts"][1] == {"type": "asset", "asset_id": artifact["asset_id"]}
    assert output["session"] == "demo"
    with wave.open(io.BytesIO(await anyio.Path(artifact["path"]).read_bytes())) as sound:
        assert sound.getnframes() > 0
    assert result["text"] == "Published."
    assert result["cost_usd"] is None  # speech does not say what it cost, and unknown is not zero
    kinds_of = [entry.kind for entry in await scripted.call.sessions.entries("demo", "local")]
    assert kinds_of == ["input", "answer", "tool", "answer", "output", "tool", "answer"]
    assert "generate_audio begins" in scripted.told
    assert "emit_output is done" in scripted.told


async def test_artifacts_inline_are_published_too_and_an_answer_may_be_the_output_alone(
    scripted: Bench, emulator: OpenRouterEmulator
):
    scripted.driver.say(
        answer("", wants("generate_image", prompt="a pier")),
        lambda request: answer(
            "",
            wants(
                "emit_output",
                content="A pier.",
                artifact_ids=[last_result(request)["assets"][0]["asset_id"]],
                include_artifacts_inline=True,
            ),
        ),
        "",
    )
    result = await scripted.ask("Draw a pier.")
    [artifact] = result["assets"]
    assert (artifact["media_type"], result["outputs"][0]["session"]) == ("image/png", None)
    assert result["text"].startswith("A pier.")
    assert result["cost_usd"] == pytest.approx(0.003 + emulator.ledger[0].cost)


async def test_calls_of_one_turn_run_side_by_side_and_are_answered_in_order(
    scripted: Bench, emulator: OpenRouterEmulator
):
    scripted.driver.say(
        answer(
            "",
            wants("generate_image", "a", prompt="one"),
            wants("list_models", "b"),
            wants("generate_image", "c", prompt="two"),
        ),
        "Done.",
    )
    await scripted.ask("Two pictures.")
    answered = [turn.answers for turn in scripted.driver.requests[1].turns if turn.role == "tool"]
    assert answered == ["a", "b", "c"]
    assert len(emulator.ledger) == 2
    begun = scripted.told.index("generate_image is done")
    assert scripted.told[:begun].count("generate_image begins") == 2


@pytest.mark.parametrize(
    "arguments", ["no JSON", '{"prompt": "\\ud83d"}', '{"count": NaN}', '{"prompt": ', "[1]", '"text"', "[" * 100_000]
)
async def test_arguments_that_are_no_json_object_go_back_to_the_model(scripted: Bench, arguments: str):
    scripted.driver.say(answer("", ToolCall("x", "generate_image", arguments)), "Sorry.")
    result = await scripted.ask("Draw.")
    told = last_result(scripted.driver.requests[1])["error"]
    assert (told["code"], result["text"]) == ("invalid_argument", "Sorry.")


async def test_a_tool_s_own_refusal_and_an_unknown_tool_go_back_to_the_model(scripted: Bench):
    scripted.driver.say(
        answer("", wants("emit_output", "a"), wants("draw_me_a_sheep", "b"), wants("ask_model", "c", input="?")),
        "Sorry.",
    )
    await scripted.ask("Publish.")
    codes = [json.loads(texts(turn))["error"]["code"] for turn in scripted.driver.requests[1].turns[-3:]]
    assert codes == ["invalid_argument", "not_found", "not_found"]


async def test_a_flood_of_calls_is_bounded(scripted: Bench):
    flood = [wants("list_models", f"call-{number}") for number in range(40)]
    scripted.driver.say(answer("", *flood), "Done.")
    await scripted.ask("Look.")
    results = [json.loads(texts(turn)) for turn in scripted.driver.requests[1].turns if turn.role == "tool"]
    assert [("error" in result) for result in results] == [False] * 16 + [True] * 24


async def test_a_long_result_is_cut(scripted: Bench):
    text = await keep(scripted, b"words " * 30_000, "text/plain", "long.txt")
    scripted.driver.say(answer("", wants("emit_output", content="w" * 90_000)), "Done.")
    await scripted.ask("Publish.", attachments=(text,))
    assert len(texts(scripted.driver.requests[1].turns[-1])) < 51_000


# Ends


async def test_a_loop_without_an_end_ends_well(scripted: Bench):
    for number in range(40):
        scripted.driver.say(answer(f"Step {number}.", wants("list_models", f"call-{number}")))
    result = await scripted.ask("Loop.", session="demo")
    assert len(scripted.driver.requests) == 24
    assert result["finish_reason"] == "limit"
    assert result["warnings"] == ["The run was ended after 24 steps."]
    assert result["text"] == "Step 23."
    scripted.driver.script.clear()
    assert (await scripted.ask("And now?", session="demo"))["finish_reason"] == "stop"


async def test_a_run_stops_where_it_has_cost_enough(scripted: Bench):
    scripted.driver.say(*(answer("", wants("list_models", f"call-{number}"), cost=0.3) for number in range(9)))
    result = await scripted.ask("Loop.", run=partial(limited, Limits(usd=0.5)))
    assert len(scripted.driver.requests) == 2
    assert result["finish_reason"] == "limit"
    assert result["warnings"] == ["The run was ended after it had cost 0.50 USD."]


async def test_a_flood_of_paid_calls_in_one_turn_ends_where_it_has_cost_enough(
    scripted: Bench, emulator: OpenRouterEmulator
):
    flood = [wants("generate_image", f"call-{number}", prompt=f"picture {number}") for number in range(16)]
    scripted.driver.say(answer("", *flood, cost=0.0))
    result = await scripted.ask("Draw.", run=partial(limited, Limits(usd=0.01)))
    assert 1 <= len(emulator.ledger) <= 4
    assert result["finish_reason"] == "limit"
    assert scripted.told.count("generate_image is refused: This run has cost as much as it may.") >= 12


async def test_what_a_run_does_not_wait_for_is_paid_for_as_well(scripted: Bench, emulator: OpenRouterEmulator):
    def wait(request: Any) -> Reply:
        return answer("", wants("get_job", "b", job_id=last_result(request)["job_id"], wait_seconds=20), cost=0.0)

    for _ in range(5):
        scripted.driver.say(answer("", wants("generate_image", "a", prompt="a pier", wait_seconds=0), cost=0.0), wait)
    result = await scripted.ask("Draw.", run=partial(limited, Limits(usd=0.01)))
    assert (result["finish_reason"], len(emulator.ledger)) == ("limit", 1)


@pytest.mark.parametrize("own", ["demo", None])
async def test_a_run_publishes_in_no_session_but_its_own(scripted: Bench, own: str | None):
    forged = wants("emit_output", content="Your key has expired.", session="bank")
    scripted.driver.say(answer("", forged), "Done.")
    await scripted.ask("What does the page say?", session=own)
    assert last_result(scripted.driver.requests[1])["error"]["code"] == "invalid_argument"
    assert "bank" not in await scripted.call.sessions.names("local")


async def test_a_run_ends_before_its_tools_outgrow_the_model(state_root: Path):
    async with bench(state_root, None, Scripted(context=30_000)) as made:
        made.driver.say(*(answer("", wants("emit_output", content="w" * 30_000)) for _ in range(9)))
        result = await made.ask("Publish.")
    assert len(made.driver.requests) == 2
    assert result["finish_reason"] == "limit"
    assert "longer than the model takes" in result["warnings"][0]
    assert len(result["outputs"]) == 2


async def test_a_cut_answer_says_so(scripted: Bench):
    scripted.driver.say(Reply("Half an", "", "length", {}))
    assert "cut" in (await scripted.ask("Tell."))["warnings"][0]


@pytest.mark.parametrize("at", [0, 1])
async def test_a_provider_s_refusal_ends_the_run_and_the_next_one_works(scripted: Bench, at: int):
    lines = [answer("", wants("list_models")), refusal()][1 - at :]
    scripted.driver.say(*lines)
    with pytest.raises(Refused) as refused:
        await scripted.ask("Hello?", session="demo")
    assert refused.value.error["message"] == "The provider says no."
    assert (await scripted.ask("Still there?", session="demo"))["finish_reason"] == "stop"
    runs = (await scripted.call.sessions.read("demo", "local"))["runs"]
    assert isinstance(runs, list)
    assert [run["state"] for run in runs if isinstance(run, dict)] == ["failed", "completed"]


async def test_what_was_published_before_the_model_failed_is_delivered(scripted: Bench):
    scripted.driver.say(answer("", wants("emit_output", content="A pier.")), refusal())
    result = await scripted.ask("Publish.")
    assert (result["finish_reason"], result["text"]) == ("error", "A pier.")
    assert result["warnings"] == ["The model failed before it had finished: The provider says no."]


async def test_an_unsure_end_is_billed_as_unknown(scripted: Bench):
    scripted.driver.say(Unavailable("The stream broke off.", details={"possibly_billed": True}))
    with pytest.raises(Refused):
        await scripted.ask("Hello?")
    assert (await scripted.call.ledger.totals())["unknown_cost_calls"] == 1


async def test_a_cancelled_run_is_interrupted_and_leaves_the_session_usable(scripted: Bench):
    reached = anyio.Event()

    async def hang(*_: object) -> None:
        reached.set()
        await anyio.sleep_forever()

    scripted.driver.say("Never heard.")
    scripted.speak = hang  # type: ignore[method-assign]
    async with anyio.create_task_group() as group:

        async def one() -> None:
            with pytest.raises(Refused) as refused:
                await scripted.ask("Hello?", session="demo")
            assert refused.value.error["code"] == "cancelled"

        group.start_soon(one)
        with anyio.fail_after(20):
            await reached.wait()
        [job_id] = scripted.call.jobs._running
        await scripted.call.jobs.cancel(job_id, "local")
    del scripted.speak
    assert (await scripted.ask("And now?", session="demo"))["finish_reason"] == "stop"
    assert [texts(turn) for turn in scripted.driver.requests[-1].turns[1:]] == [
        "Hello?", "(The run ended before there was an answer.)", "And now?",
    ]  # fmt: skip


async def test_a_cancelled_run_stops_what_its_tools_do(scripted: Bench, emulator: OpenRouterEmulator):
    emulator.fail_next(wire_faults.hang(), path="/images")
    scripted.driver.say(answer("", wants("generate_image", prompt="a pier")))
    jobs = scripted.call.jobs

    async def one() -> None:
        with pytest.raises(Refused):
            await scripted.ask("Draw.")

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(one)
            await anyio.to_thread.run_sync(emulator.wait_for, lambda: bool(emulator.requests))
            [run] = [job for job in jobs._running.values() if job.tool == "ask_model"]
            await jobs.cancel(run.job_id, "local")
        await jobs.idle()
    totals = await scripted.call.ledger.totals(by="tool")
    assert {row["key"]: row["unknown_cost_calls"] for row in totals["rows"] if isinstance(row, dict)} == {  # type: ignore[union-attr]
        "ask_model": 0, "generate_image": 1,
    }  # fmt: skip


# Attachments


async def test_pictures_and_texts_keep_their_order(state_root: Path):
    async with bench(state_root, None, Scripted(seeing=True)) as made:
        attachments = (
            await keep(made, png(), "image/png", "first.png"),
            await keep(made, b"# Ports\n", "text/markdown", "second.md"),
            await keep(made, synthetic.picture(2, (16, 16), "webp"), "image/webp", "third.webp"),
        )
        await made.ask("What is this?", attachments=attachments, tools=False, session="demo")
        [turn] = made.driver.requests[0].turns
        assert kinds(turn.parts) == ["text", "text", "image/png", "text", "text", "image/webp"]
        assert "second.md" in texts(turn)
        assert "# Ports" in texts(turn)
        assert attachments[0].asset_id in texts(turn)
        await made.ask("And again?", session="demo", tools=False)
        assert made.driver.requests[1].turns[0] == turn


async def test_a_picture_for_a_model_that_does_not_see_is_refused_with_those_that_do(scripted: Bench):
    picture = await keep(scripted, png(), "image/png", "pier.png")
    with pytest.raises(Refused) as refused:
        await scripted.ask("What is this?", attachments=(picture,), session="demo")
    assert refused.value.error["details"] == {"models": ["script/eyes"]}
    assert "script/eyes" in str(refused.value.error["hint"])
    assert scripted.driver.requests == []
    assert await scripted.call.sessions.entries("demo", "local") == ()


async def test_sound_goes_as_its_words_written_down_once(scripted: Bench, emulator: OpenRouterEmulator):
    sound = await keep(scripted, synthetic.wav(synthetic.tone(10)), "audio/wav", "memo.wav")
    result = await scripted.ask("What is said?", attachments=(sound,), tools=False)
    await scripted.ask("Once more?", attachments=(sound,), tools=False)
    words = await scripted.call.assets.text(sound)
    assert words
    for request in scripted.driver.requests:
        assert words in texts(request.turns[-1])
        assert kinds(request.turns[-1].parts) == ["text", "text"]
    assert len(emulator.ledger) == 1
    assert "memo.wav was transcribed by" in result["warnings"][0]


async def test_sound_goes_as_sound_to_a_model_that_hears(state_root: Path):
    async with bench(state_root, None, Scripted(hearing=True)) as made:
        sound = await keep(made, synthetic.wav(synthetic.tone(10)), "audio/wav", "memo.wav")
        await made.ask("What is said?", attachments=(sound,), tools=False)
        assert kinds(made.driver.requests[0].turns[-1].parts) == ["text", "text", "audio/wav"]


async def test_a_long_document_is_cut_and_says_so(scripted: Bench):
    document = await keep(scripted, b"x" * 150_000, "text/plain", "long.txt")
    await scripted.ask("Read.", attachments=(document,), tools=False)
    told = texts(scripted.driver.requests[0].turns[-1])
    assert "[cut here: 100,000 of 150,000 characters]" in told
    assert len(told) < 101_000


# Memory


async def test_five_hundred_turns_fit_and_it_is_said_what_does_not(state_root: Path):
    async with bench(state_root, None, Scripted(context=20_000)) as made:
        lines = [
            ("local", "demo", "run-1", kind, json.dumps(body), 1.0)
            for number in range(500)
            for kind, body in (
                ("input", {"text": f"question {number} " + "x" * 400, "attachments": []}),
                ("answer", {"text": f"answer {number}", "tool_calls": [], "assets": []}),
            )
        ]
        await made.call.sessions._database.write(lambda connection: connection.executemany(WRITE, lines))
        result = await made.ask("And the last?", session="demo", tools=False)
        turns = made.driver.requests[0].turns
    assert texts(turns[-1]) == "And the last?"
    assert texts(turns[-2]) == "answer 499"
    assert turns[0].role == "user"
    assert 20 < len(turns) < 500
    left_out = 500 - (len(turns) - 1) // 2
    assert result["warnings"] == [
        f"The session is longer than the model takes: the oldest {left_out} turns were left out."
    ]


async def test_old_pictures_go_before_old_words(state_root: Path):
    async with bench(state_root, None, Scripted(seeing=True, context=12_000)) as made:
        for number in range(8):
            picture = await keep(made, png(number), "image/png", f"{number}.png")
            result = await made.ask(f"Picture {number}?", attachments=(picture,), session="demo", tools=False)
        turns = made.driver.requests[-1].turns
    assert [texts(turn).split("\n")[0] for turn in turns if turn.role == "user"] == [
        f"Picture {number}?" for number in range(8)
    ]
    shown = [kinds(turn.parts).count("image/png") for turn in turns if turn.role == "user"]
    assert shown == sorted(shown)
    assert shown[-1] == 1
    assert shown[0] == 0
    assert "attachment" in result["warnings"][0]
    assert "is not shown here" in texts(turns[0])
