"""The same call is not paid twice: joined while it is under way, given once when nobody has had it, else a new call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from kheish_mcp.daemon import Daemon
from kheish_mcp.errors import JsonObject
from kheish_mcp.stores.jobs import Job
from tests.daemons import SOON, client_of, daemon_on, seen, wire_to
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import faults
from tests.hosts import ERAS, call, refused
from tests.samples import WHOLE

pytestmark = pytest.mark.anyio
PIER: dict[str, Any] = {"prompt": "a pier at dusk"}


def names_in(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


async def idle(daemon: Daemon) -> None:
    """Returns once no job runs any more."""
    with anyio.fail_after(SOON):
        await daemon.parts.jobs.idle()


async def abandoned(daemon: Daemon, emulator: OpenRouterEmulator, mode: str, **arguments: Any) -> None:
    """A client that is gone in the middle of a call without a word; the call's job then ends."""
    emulator.fail_next(faults.hang())
    asked = len(emulator.requests)
    async with wire_to(daemon, mode) as wire:
        await wire.call("generate_image", arguments)
        await seen(emulator, lambda: len(emulator.requests) > asked)
    assert daemon.parts.jobs.in_flight == 1
    emulator.release()
    await idle(daemon)


def drawings(emulator: OpenRouterEmulator) -> int:
    """How often a picture was asked for; the settler asks what one cost at a moment of its own."""
    return sum(seen.path == "/images" for seen in emulator.requests)


@pytest.mark.parametrize("mode", ERAS)
async def test_the_same_call_joins_the_one_under_way(mode: str, state_root: Path, emulator: OpenRouterEmulator):
    answers: list[dict[str, Any]] = []
    emulator.fail_next(faults.hang())
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon, mode) as client:

        async def ask(**more: Any) -> None:
            answers.append(await call(client, "generate_image", **PIER, **more))

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await seen(emulator, lambda: len(emulator.requests) == 1)
            working = await call(client, "generate_image", **PIER, wait_seconds=0)
            assert working["status"] == "working"
            group.start_soon(lambda: ask(preview="none", wait_seconds=20))
            await anyio.wait_all_tasks_blocked()
            emulator.release()
    assert len(emulator.ledger) == 1
    assert {each["job_id"] for each in answers} == {working["job_id"]}
    assert answers[0]["assets"] == answers[1]["assets"]
    assert sorted(len(each["warnings"]) for each in answers) == [0, 1]
    assert not any("replayed" in each for each in answers)


@pytest.mark.parametrize("mode", ERAS)
async def test_what_a_client_that_disconnects_paid_for_is_given_once(
    mode: str, state_root: Path, emulator: OpenRouterEmulator
):
    async with daemon_on(state_root, emulator) as daemon:
        await abandoned(daemon, emulator, mode, **PIER)
        async with client_of(daemon, mode) as client:
            again = await call(client, "generate_image", **PIER)
            assert again["replayed"] is True
            assert len(emulator.ledger) == 1
            assert again["cost_usd"] == pytest.approx(emulator.ledger[0].cost)
            fresh = await call(client, "generate_image", **PIER)
            assert "replayed" not in fresh
            assert len(emulator.ledger) == 2
            assert fresh["assets"] != again["assets"]


async def test_it_is_given_after_a_restart_with_this_caller_s_own_wishes(
    state_root: Path, workspace: Path, emulator: OpenRouterEmulator
):
    async with daemon_on(state_root, emulator, workspace=workspace) as daemon:
        await abandoned(daemon, emulator, "legacy", **PIER, save_as="pier.png")
        assert (workspace / "pier.png").exists()
    async with daemon_on(state_root, emulator, workspace=workspace) as daemon, client_of(daemon) as client:
        again = await client.call_tool("generate_image", {**PIER, "save_as": "kept/pier.png", "preview": "none"})
        assert [block.type for block in again.content] == ["text", "resource_link"]
    assert len(emulator.ledger) == 1
    assert (workspace / "kept" / "pier.png").read_bytes() == (workspace / "pier.png").read_bytes()
    assert names_in(workspace) == ["kept", "pier.png"]


async def test_the_same_wish_is_not_fulfilled_twice(state_root: Path, workspace: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator, workspace=workspace) as daemon:
        await abandoned(daemon, emulator, "legacy", **PIER, save_as="pier.png")
        async with client_of(daemon) as client:
            again = await call(client, "generate_image", **PIER, save_as="pier.png")
    assert again["replayed"] is True
    assert names_in(workspace) == ["pier.png"]


@pytest.mark.parametrize("change", [{"prompt": "another pier"}, {"seed": 1}, {"model": "openai/gpt-image-2"}])
async def test_another_call_is_another_bill(change: dict[str, Any], state_root: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator) as daemon:
        await abandoned(daemon, emulator, "legacy", **PIER)
        async with client_of(daemon) as client:
            assert "replayed" not in await call(client, "generate_image", **{**PIER, **change})
    assert len(emulator.ledger) == 2


async def test_get_job_delivers_too(state_root: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        emulator.fail_next(faults.hang())
        working = await call(client, "generate_image", **PIER, wait_seconds=0)
        await seen(emulator, lambda: len(emulator.requests) == 1)
        emulator.release()
        job = await client.call_tool("get_job", {"job_id": working["job_id"]})
        assert job.structured_content is not None
        assert job.structured_content["status"] == "completed"
        assert [block.type for block in job.content] == ["text", "image", "resource_link"]
        assert "replayed" not in await call(client, "generate_image", **PIER)
    assert len(emulator.ledger) == 2


async def test_an_edit_of_the_last_picture_is_found_again_although_it_has_become_the_last(
    state_root: Path, emulator: OpenRouterEmulator
):
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        await call(client, "generate_image", **PIER)
        emulator.fail_next(faults.hang())
        asked = len(emulator.requests)
        working = await call(client, "edit_image", prompt="make it blue", wait_seconds=0)
        await seen(emulator, lambda: len(emulator.requests) > asked)
        emulator.release()
        await idle(daemon)
        again = await call(client, "edit_image", prompt="make it blue")
    assert (again["job_id"], again["replayed"]) == (working["job_id"], True)
    assert len(emulator.ledger) == 2


async def test_a_refusal_that_cost_nothing_is_no_end_to_wait_for(state_root: Path, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.status(404))
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        working = await call(client, "generate_image", **PIER, wait_seconds=0)
        await idle(daemon)
        made = await call(client, "generate_image", **PIER)
    assert made["job_id"] != working["job_id"]
    assert "replayed" not in made


async def test_a_failure_that_may_have_been_billed_is_told_once_before_the_call_is_sent_anew(
    state_root: Path, emulator: OpenRouterEmulator
):
    emulator.fail_next(faults.cut_body())
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        await call(client, "generate_image", **PIER, wait_seconds=0)
        await idle(daemon)
        told = await refused(client, "generate_image", **PIER)
        assert told["details"]["replayed"] is True
        assert told["details"]["possibly_billed"] is True
        assert drawings(emulator) == 1
        await call(client, "generate_image", **PIER)
    assert drawings(emulator) == 2


async def test_a_stopped_daemon_s_call_is_not_sent_again_unasked(state_root: Path, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.hang())
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        await call(client, "generate_image", **PIER, wait_seconds=0)
        await seen(emulator, lambda: len(emulator.requests) == 1)
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        told = await refused(client, "generate_image", **PIER)
        assert told["code"] == "aborted"
        assert len(emulator.requests) == 1
        await call(client, "generate_image", **PIER)
        assert len(emulator.requests) == 2


async def test_a_call_that_was_paid_when_its_daemon_stopped_is_not_paid_again(
    state_root: Path, emulator: OpenRouterEmulator
):
    async with daemon_on(state_root, emulator) as daemon:
        stored = anyio.Event()

        async def work(job: Job) -> JsonObject:
            row = await daemon.parts.ledger.plan(
                job_id=job.job_id, owner="local", tool=job.tool, route_id="openrouter", provider="p", model="m"
            )
            asset = await daemon.parts.assets.keep(WHOLE["image/png"], owner="local")
            await daemon.parts.ledger.stored(row, 0.1, (asset.asset_id,))
            stored.set()
            await anyio.sleep_forever()
            return {}

        job = await daemon.parts.jobs.start("local", "generate_image", {**PIER, "count": 1}, work)
        await stored.wait()
    async with daemon_on(state_root, emulator) as daemon, client_of(daemon) as client:
        told = await refused(client, "generate_image", **PIER)
        [asset_id] = told["details"]["asset_ids"]
        assert asset_id in told["hint"]
        assert (told["code"], told["details"]["replayed"]) == ("aborted", True)
        assert (await call(client, "get_job", job_id=job.job_id))["error"]["details"]["asset_ids"] == [asset_id]
        assert await daemon.parts.assets.get(asset_id, "local")
    assert emulator.requests == []
