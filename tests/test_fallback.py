"""What fails without cost goes to the next model, then to the next route; what was named, forbidden or billed does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kheish_mcp.capabilities import ImageGeneration
from kheish_mcp.errors import Code, KheishError, from_json
from kheish_mcp.tools.fallback import passes_on
from tests.daemons import client_of, daemon_on, states
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import faults
from tests.hosts import call, refused

pytestmark = pytest.mark.anyio

FIRST, SECOND, THIRD = "google/gemini-3.1-flash-image-preview", "openai/gpt-image-2", "openai/gpt-5-image-mini"
SPEAKS = "openai/gpt-4o-mini-tts-2025-12-15"
HEARS, HEARS_TOO = "openai/gpt-4o-mini-transcribe", "openai/whisper-1"
PIER: dict[str, Any] = {"prompt": "a pier at dusk"}
ROUTES = f"""
default_route = "main"

[routes.main]
driver = "openrouter"
base_url = "URL"
default_model = "openai/gpt-5.4-mini"
api_key_env = "OPENROUTER_API_KEY"
[routes.main.models]
image_generation = ["{FIRST}", "{SECOND}"]
image_edit = ["{FIRST}", "{SECOND}"]
audio_generation = "{SPEAKS}"
transcription = ["{HEARS}", "{HEARS_TOO}"]

[routes.home]
driver = "local"

[routes.zeta]
driver = "openrouter"
base_url = "URL"
default_model = "openai/gpt-5.4-mini"
api_key_env = "OPENROUTER_API_KEY"
[routes.zeta.models]
image_generation = "{THIRD}"

[routes.alpha]
driver = "openrouter"
base_url = "URL"
default_model = "openai/gpt-5.4-mini"
api_key_env = "OPENROUTER_API_KEY"
"""


def asked(emulator: OpenRouterEmulator) -> list[str]:
    """The models that were asked for something, in order."""
    return [request.body["model"] for request in emulator.requests if request.method == "POST"]


async def test_the_next_model_answers_and_the_result_says_so(state_root: Path, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.status(404))
    async with daemon_on(state_root, emulator, ROUTES) as daemon, client_of(daemon) as client:
        made = await call(client, "generate_image", **PIER)
        assert await states(daemon) == ["failed", "stored"]
    assert asked(emulator) == [FIRST, SECOND]
    assert (made["route_id"], made["model"]) == ("main", SECOND)
    [attempt] = made["attempts"]
    assert (attempt["route_id"], attempt["model"], attempt["error"]["code"]) == ("main", FIRST, "not_found")
    [warning] = made["warnings"]
    assert FIRST in warning
    assert f"{SECOND} on route main answered" in warning
    assert made["cost_usd"] == pytest.approx(emulator.ledger[0].cost)


async def test_a_call_that_works_at_once_has_no_attempts(state_root: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator, ROUTES) as daemon, client_of(daemon) as client:
        made = await call(client, "generate_image", **PIER)
    assert "attempts" not in made
    assert made["warnings"] == []


async def test_the_other_routes_follow_in_the_order_of_their_ids_and_never_the_local_one(
    state_root: Path, emulator: OpenRouterEmulator
):
    emulator.always(faults.status(404), path="/images")
    async with daemon_on(state_root, emulator, ROUTES) as daemon, client_of(daemon) as client:
        told = await refused(client, "generate_image", **PIER)
        rows: Any = daemon.parts.jobs
        routes = await rows._database.rows("SELECT route_id FROM exchange ORDER BY number")
    assert asked(emulator) == [FIRST, SECOND, FIRST, THIRD]
    assert [route for (route,) in routes] == ["main", "main", "alpha", "zeta"]
    assert told["code"] == "not_found"
    assert [(each["route_id"], each["model"]) for each in told["details"]["attempts"]] == [
        ("main", FIRST), ("main", SECOND), ("alpha", FIRST),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("named", "tried"),
    [
        ({"model": FIRST}, [FIRST]),
        ({"model": f"main/{FIRST}"}, [FIRST]),
        ({"provider": "main"}, [FIRST, SECOND]),
        ({"provider": "zeta"}, [THIRD]),
        ({"provider": "alpha"}, [FIRST]),
    ],
)
async def test_what_was_named_is_not_replaced(
    named: dict[str, str], tried: list[str], state_root: Path, emulator: OpenRouterEmulator
):
    emulator.always(faults.status(404), path="/images")
    async with daemon_on(state_root, emulator, ROUTES) as daemon, client_of(daemon) as client:
        await refused(client, "generate_image", **PIER, **named)
    assert asked(emulator) == tried


async def test_a_driver_s_own_preference_is_one_choice(state_root: Path, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.status(404))
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        told = await refused(client, "generate_image", **PIER)
    assert told["code"] == "not_found"
    assert asked(emulator) == [FIRST]


async def test_nothing_goes_on_from_the_local_route_to_where_it_would_cost(
    state_root: Path, emulator: OpenRouterEmulator
):
    routes = ROUTES.replace('default_route = "main"', 'default_route = "home"')
    async with daemon_on(state_root, emulator, routes) as daemon:
        tried = daemon.parts.catalog.candidates(ImageGeneration)
    assert [backend.route_id for backend in tried] == ["home"]


@pytest.mark.parametrize("code", [401, 402])
async def test_what_is_wrong_with_an_account_is_wrong_with_all_models_of_its_route(
    code: int, state_root: Path, emulator: OpenRouterEmulator
):
    emulator.fail_next(faults.status(code))
    async with daemon_on(state_root, emulator, ROUTES) as daemon, client_of(daemon) as client:
        made = await call(client, "generate_image", **PIER)
    assert (made["route_id"], len(made["attempts"])) == ("alpha", 1)
    assert asked(emulator) == [FIRST, FIRST]


@pytest.mark.parametrize(
    "fault",
    [faults.status(400), faults.status(403), faults.status(413), faults.status(504), faults.cut_body(),
     faults.error_in_200(502), faults.malformed_json(), faults.reset_after_headers(), faults.not_an_image()],
    ids=lambda fault: fault.name,
)  # fmt: skip
async def test_what_is_forbidden_at_fault_or_perhaps_billed_goes_no_further(
    fault: faults.Fault, state_root: Path, emulator: OpenRouterEmulator
):
    emulator.fail_next(fault)
    async with daemon_on(state_root, emulator, ROUTES) as daemon, client_of(daemon) as client:
        told = await refused(client, "generate_image", **PIER)
    assert asked(emulator) == [FIRST]
    assert "attempts" not in told.get("details", {})


async def test_two_of_three_are_delivered_and_not_asked_elsewhere(state_root: Path, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.status(404))
    async with daemon_on(state_root, emulator, ROUTES) as daemon, client_of(daemon) as client:
        made = await call(client, "generate_image", **PIER, count=3)
        assert sorted(await states(daemon)) == ["failed", "stored", "stored"]
    assert asked(emulator) == [FIRST] * 3
    assert len(made["assets"]) == 2
    assert any("A request failed" in warning for warning in made["warnings"])
    assert any("3 asked, 2 came" in warning for warning in made["warnings"])
    assert made["cost_usd"] == pytest.approx(sum(bill.cost for bill in emulator.ledger))


async def test_speech_and_transcription_and_edits_have_their_next_backends_too(
    state_root: Path, emulator: OpenRouterEmulator
):
    async with daemon_on(state_root, emulator, ROUTES) as daemon, client_of(daemon) as client:
        emulator.fail_next(faults.status(404), path="/audio/speech")
        spoken = await call(client, "generate_audio", input="Hello there.")
        emulator.fail_next(faults.status(404), path="/audio/transcriptions")
        heard = await call(client, "transcribe_audio", audio=spoken["assets"][0]["asset_id"])
        drawn = await call(client, "generate_image", **PIER)
        emulator.fail_next(faults.status(404), path="/images")
        edited = await call(
            client, "edit_image", prompt="make it blue", image_asset_ids=[drawn["assets"][0]["asset_id"]]
        )
    assert [each["model"] for each in (spoken, heard, edited)] == [SPEAKS, HEARS_TOO, SECOND]
    assert [each["route_id"] for each in (spoken, heard, edited)] == ["alpha", "main", "main"]
    assert [each["attempts"][0]["model"] for each in (spoken, heard, edited)] == [SPEAKS, HEARS, FIRST]


async def test_a_later_part_of_a_speech_is_not_spoken_by_another_voice(state_root: Path, emulator: OpenRouterEmulator):
    text = "One sentence of some length. " * 200
    async with daemon_on(state_root, emulator, ROUTES) as daemon, client_of(daemon) as client:
        emulator.fail_next(faults.odd_splits(), path="/audio/speech")
        emulator.fail_next(faults.status(404), path="/audio/speech")
        spoken = await call(client, "generate_audio", input=text)
        assert "stored" in await states(daemon)
    assert asked(emulator) == [SPEAKS, SPEAKS]
    assert "attempts" not in spoken
    assert any("Only 1 of 2 parts" in warning for warning in spoken["warnings"])


@pytest.mark.parametrize("code", list(Code))
def test_each_code_passes_on_or_does_not(code: Code):
    passing = {"not_found", "unavailable", "deadline_exceeded", "resource_exhausted", "unauthenticated"}
    refusal = from_json({"code": code.value, "message": "No."})
    assert passes_on(refusal) is (code.value in passing)
    for details in ({"possibly_billed": True}, {"cap": "max_cost_usd_per_day"}):
        assert not passes_on(from_json({"code": code.value, "message": "No.", "details": details}))


def test_a_model_that_is_no_more_is_not_the_caller_s_fault():
    gone: KheishError = from_json(
        {"code": "invalid_argument", "message": "No.", "details": {"availability": "model_not_found"}}
    )
    assert passes_on(gone)


async def test_what_a_model_was_to_speak_and_did_not_is_given_back_before_another_is_asked(
    state_root: Path, emulator: OpenRouterEmulator
):
    routes = ROUTES.replace(f'audio_generation = "{SPEAKS}"', f'audio_generation = ["hexgrad/kokoro-82m", "{SPEAKS}"]')
    emulator.fail_next(faults.status(404), path="/audio/speech")
    async with daemon_on(state_root, emulator, routes) as daemon, client_of(daemon) as client:
        made = await call(client, "generate_audio", input="This is one of many sentences. " * 200)
        jobs: Any = daemon.parts.jobs
        rows = await jobs._database.rows("SELECT model, state, error_code FROM exchange ORDER BY number")
    assert made["model"] == SPEAKS
    assert {row[1:] for row in rows if row[0] != SPEAKS} == {("failed", "not_found")}
    assert {row[1:] for row in rows if row[0] == SPEAKS} == {("stored", None)}
    assert len(rows) > 3
