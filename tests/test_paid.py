"""What was paid for is kept: what is whole beside what is not, at its price, and as a result of whoever asks."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import mcp_types as t
import pytest
from PIL import Image

from kheish_mcp.daemon import Daemon
from kheish_mcp.errors import ResourceExhausted
from kheish_mcp.tools import paid, running
from tests.daemons import client_of, daemon_on, states, wire_to
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import faults, synthetic
from tests.hosts import call, refused, result_object

pytestmark = pytest.mark.anyio
PIER: dict[str, Any] = {"prompt": "a pier at dusk"}
NO_PICTURE = b"this is no picture at all"


def with_a_text() -> faults.Fault:
    """An answer with a second picture that is text."""

    def change(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [*data, {**data[0], "b64_json": base64.b64encode(NO_PICTURE).decode()}]

    return faults.pictures("a text among the pictures", change)


def no_sound() -> faults.Fault:
    """An answer of the right type that is text."""
    return faults.Fault("text for sound", spoil=lambda answer, _origins: replace(answer, body=b"this is no sound"))


async def rows(daemon: Daemon) -> list[tuple[str, float | None, str | None]]:
    """State, cost and error of each row of the ledger."""
    jobs: Any = daemon.parts.jobs
    found = await jobs._database.rows("SELECT state, cost_usd, error_code FROM exchange ORDER BY number")
    return [tuple(row) for row in found]


def quarantined(state_root: Path) -> list[bytes]:
    """What lies in the quarantine."""
    return [path.read_bytes() for path in (state_root / "quarantine").glob("*.bin")]


async def test_a_picture_beside_one_that_is_none_is_delivered_and_the_other_is_kept_aside(
    state_root: Path, emulator: OpenRouterEmulator
):
    emulator.fail_next(with_a_text())
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        made = await call(client, "generate_image", **PIER)
        assert [state for state, _, _ in await rows(daemon)] == ["stored"]
    assert len(made["assets"]) == 1
    assert made["cost_usd"] == pytest.approx(emulator.ledger[0].cost)
    [warning] = made["warnings"]
    assert "quarantine/" in warning
    assert quarantined(state_root) == [NO_PICTURE]


async def test_a_picture_is_decoded_once_for_its_check_and_its_preview(state_root: Path, emulator: OpenRouterEmulator):
    emulator.picture_bytes = 400_000
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        result = await client.call_tool("generate_image", {"prompt": "a pier"})
        [preview] = [block for block in result.content if isinstance(block, t.ImageContent)]
        [asset] = result_object(result)["assets"]
        shown = await client.read_resource(f"{asset['uri']}/preview")
        assert [worker.done for worker in daemon.parts.workers._idle] == [1]
    assert shown.contents[0].blob == preview.data  # type: ignore[union-attr]  # a picture
    with Image.open(io.BytesIO(base64.b64decode(preview.data))) as small:
        assert max(small.size) <= 1024
        assert len(preview.data) * 3 // 4 <= 150_000 < asset["byte_length"]


async def test_a_picture_of_more_pixels_than_may_be_kept_is_kept_aside(state_root: Path, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.pixel_bomb())
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        told = await refused(client, "generate_image", **PIER)
    assert (told["code"], told["details"]["possibly_billed"]) == ("resource_exhausted", True)
    assert told["details"]["quarantine"] in told["hint"]
    assert quarantined(state_root) == [synthetic.bomb()]


@pytest.mark.parametrize("tool", ["generate_image", "generate_audio"])
async def test_what_was_paid_for_in_vain_is_in_the_ledger_at_its_price_or_as_unknown(
    tool: str, state_root: Path, emulator: OpenRouterEmulator
):
    emulator.fail_next(faults.truncated_media() if tool == "generate_image" else no_sound())
    arguments = {"generate_image": PIER, "generate_audio": {"input": "Hello."}}[tool]
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        told = await refused(client, tool, **arguments)
        [(state, cost, error)] = await rows(daemon)
        totals = await daemon.parts.ledger.totals()
    assert told["details"]["possibly_billed"] is True
    assert error == told["code"]
    expected = {"generate_image": ("failed", emulator.ledger[0].cost), "generate_audio": ("unknown", None)}[tool]
    assert (state, cost) == expected
    assert totals["calls"] == 1
    assert totals["unknown_cost_calls"] == (tool == "generate_audio")


async def test_a_picture_that_nobody_could_look_at_in_time_is_kept_aside(
    state_root: Path, emulator: OpenRouterEmulator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(paid, "KEEPING_S", 0)
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        told = await refused(client, "generate_image", **PIER)
        assert [state for state, _, _ in await rows(daemon)] == ["unknown"]
    assert (told["code"], told["details"]["possibly_billed"]) == ("data_loss", True)
    [kept] = quarantined(state_root)
    assert kept.startswith(b"\x89PNG")
    assert told["details"]["quarantine"] in told["hint"]


async def test_costs_are_the_owner_s_own(state_root: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        await call(client, "generate_image", **PIER)
        row = await daemon.parts.ledger.plan(
            job_id="job-theirs", owner="token-b", tool="generate_image", route_id="theirs", provider="p", model="m"
        )
        await daemon.parts.ledger.stored(row, 7.0, ())
        read = await client.read_resource("kheish://costs")
    told = json.loads(read.contents[0].text)  # type: ignore[union-attr]
    assert told["total_usd"] == pytest.approx(emulator.ledger[0].cost)
    assert [row["key"] for row in told["by_route"]] == ["openrouter"]
    assert [row["key"] for row in told["by_model"]] == ["google/gemini-3.1-flash-image-preview"]


async def test_calls_overlap_and_others_are_answered_meanwhile(state_root: Path, emulator: OpenRouterEmulator):
    emulator.always(faults.hang(), path="/images")
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon) as wire:
        requests = [await wire.call("generate_image", {"prompt": f"pier {number}"}) for number in range(4)]
        await anyio.to_thread.run_sync(emulator.wait_for, lambda: len(emulator.requests) == 4)
        assert "tools" in (await wire.ask("tools/list"))["result"]
        emulator.release()
        answers = [await wire.answer(request) for request in requests]
        assert await states(daemon) == ["stored"] * 4
    assert not any(answer["result"].get("isError") for answer in answers)


async def test_progress_says_how_far_it_is_at_once_and_how_long_it_takes(
    state_root: Path, emulator: OpenRouterEmulator
):
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon) as wire:
        emulator.fail_next(faults.hang())
        request = await wire.call("generate_image", {**PIER, "count": 3}, progressToken="t")
        await wire.told(lambda came: any("2 of 3 images, " in str(each) for each in came))
        emulator.release()
        answer = await wire.answer(request)
        told = [each["params"] for each in wire.notifications if each["method"] == "notifications/progress"]
    assert not answer["result"].get("isError")
    assert {each["progressToken"] for each in told} == {"t"}
    amounts = [each["progress"] for each in told]
    assert amounts == sorted(set(amounts))


async def test_wait_seconds_zero_answers_at_once_with_the_job(state_root: Path, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.hang())
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        result = await client.call_tool("generate_image", {**PIER, "wait_seconds": 0})
        told = result_object(result)
        assert set(told) == {"job_id", "status", "hint"}
        assert (told["status"], result.is_error) == ("working", False)
        waiting = await call(client, "get_job", job_id=told["job_id"], wait_seconds=0)
        assert waiting["status"] == "working"
        await anyio.to_thread.run_sync(emulator.wait_for, lambda: len(emulator.requests) == 1)
        emulator.release()
        done = await call(client, "get_job", job_id=told["job_id"])
    assert done["result"]["job_id"] == told["job_id"]
    assert len(done["result"]["assets"]) == 1


async def test_who_gave_a_token_hears_of_a_long_call_again_and_again(
    state_root: Path, emulator: OpenRouterEmulator, monkeypatch: pytest.MonkeyPatch
):
    assert running.REPORT_EVERY_S < 5
    monkeypatch.setattr(running, "REPORT_EVERY_S", 0.02)
    emulator.fail_next(faults.hang())
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon) as wire:
        request = await wire.call("generate_image", PIER, progressToken=7)
        quiet = await wire.call("generate_image", {"prompt": "another pier"})
        await wire.told(lambda came: sum("openrouter: " in str(each) for each in came) > 5)
        emulator.release()
        for each in (request, quiet):
            assert not (await wire.answer(each))["result"].get("isError")
        told = [each["params"] for each in wire.notifications if each["method"] == "notifications/progress"]
    assert {each["progressToken"] for each in told} == {7}
    # Until the driver has said something there is only the time.
    assert all(re.fullmatch(r"(openrouter: .+|working), \d+ s", each["message"]) for each in told)


@pytest.mark.parametrize("step", ["responded", "stored"])
async def test_a_ledger_that_cannot_be_written_any_more_takes_no_picture_with_it(
    step: str, state_root: Path, emulator: OpenRouterEmulator, monkeypatch: pytest.MonkeyPatch
):
    async def full(*_: object) -> None:
        raise ResourceExhausted("The disk of the state root is full.")

    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        monkeypatch.setattr(daemon.parts.ledger, step, full)
        made = await call(client, "generate_image", **PIER)
        assert len(made["assets"]) == 1
        assert await states(daemon) == ["unknown" if step == "stored" else "stored"]


async def test_a_replayed_picture_is_the_last_one_again(state_root: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        await call(client, "generate_image", **PIER, wait_seconds=0)
        with anyio.fail_after(30):
            await daemon.parts.jobs.idle()
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        again = await call(client, "generate_image", **PIER)
        assert again["replayed"] is True
        await call(client, "edit_image", prompt="make it blue")
