"""Calls as tasks, for clients that declare the extension with the very request, and for nobody else."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import anyio
import mcp_types as t
import pytest
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.shared.exceptions import MCPError
from pydantic import Field

from kheish_mcp.daemon import Daemon
from kheish_mcp.mcp_server.server import Face, KheishServer
from kheish_mcp.mcp_server.tasks import EXTENSION, TaskParams, Tasks
from kheish_mcp.principals import Principal
from tests.daemons import SOON, Wire, client_of, daemon_on, seen, states, wire_to
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import faults
from tests.hosts import result_object

pytestmark = pytest.mark.anyio
PIER: dict[str, Any] = {"prompt": "a pier at dusk"}


async def begun(wire: Wire, emulator: OpenRouterEmulator, **more: Any) -> dict[str, Any]:
    """A task whose request the provider has."""
    before = len(emulator.requests)
    answer = await wire.answer(await wire.call("generate_image", {**PIER, **more}))
    await seen(emulator, lambda: len(emulator.requests) > before)
    result = answer["result"]
    assert isinstance(result, dict)
    return result


async def ended(daemon: Daemon, wire: Wire, task_id: str) -> dict[str, Any]:
    """The task once it has ended."""
    assert await daemon.parts.jobs.wait(task_id, SOON)
    task: dict[str, Any] = (await wire.ask("tasks/get", taskId=task_id))["result"]
    return task


async def test_a_call_becomes_a_task_that_gives_its_result(state_root: Path, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.hang())
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon, "2026-07-28", EXTENSION) as wire:
        task = await begun(wire, emulator, wait_seconds=300)
        assert (task["resultType"], task["status"], task["ttlMs"]) == ("task", "working", None)
        assert task["taskId"].startswith("job-")
        assert task["pollIntervalMs"] > 0
        working = (await wire.ask("tasks/get", taskId=task["taskId"]))["result"]
        assert (working["resultType"], working["status"]) == ("complete", "working")
        assert working["createdAt"] == task["createdAt"]
        assert "result" not in working
        emulator.release()
        done = await ended(daemon, wire, task["taskId"])
        assert (done["resultType"], done["status"]) == ("complete", "completed")
        kinds = [block["type"] for block in done["result"]["content"]]
        assert kinds == ["text", "image", "resource_link"]
        assert json.loads(done["result"]["content"][0]["text"])["job_id"] == task["taskId"]
        assert not done["result"]["isError"]
        again = (await wire.ask("tasks/get", taskId=task["taskId"]))["result"]
        assert again["result"]["content"] == done["result"]["content"]
    assert len(emulator.ledger) == 1


async def test_a_task_is_delivered_and_its_preview_is_as_wished(state_root: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon, "2026-07-28", EXTENSION) as wire:
        task = await begun(wire, emulator, preview="none")
        done = await ended(daemon, wire, task["taskId"])
        assert [block["type"] for block in done["result"]["content"]] == ["text", "resource_link"]
        assert (await daemon.parts.jobs.get(task["taskId"], "local")).delivered
        assert (await begun(wire, emulator))["taskId"] != task["taskId"]


async def test_a_task_outlives_the_daemon_that_made_it(state_root: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon, "2026-07-28", EXTENSION) as wire:
        task = await begun(wire, emulator)
        with anyio.fail_after(SOON):
            await daemon.parts.jobs.idle()
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon, "2026-07-28", EXTENSION) as wire:
        done = await ended(daemon, wire, task["taskId"])
    assert done["status"] == "completed"
    assert done["createdAt"] == task["createdAt"]


async def test_a_refusal_is_a_completed_task_with_an_error_as_its_result(
    state_root: Path, emulator: OpenRouterEmulator
):
    emulator.fail_next(faults.status(403))
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon, "2026-07-28", EXTENSION) as wire:
        done = await ended(daemon, wire, (await begun(wire, emulator))["taskId"])
    assert (done["status"], done["result"]["isError"]) == ("completed", True)
    assert json.loads(done["result"]["content"][0]["text"])["error"]["code"] == "permission_denied"


async def test_arguments_that_are_wrong_are_refused_at_once(state_root: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon, "2026-07-28", EXTENSION) as wire:
        answer = await wire.answer(await wire.call("generate_image", {"prompt": ""}))
        listed = await wire.answer(await wire.call("list_models", {}))
    assert answer["result"]["isError"]
    assert answer["result"]["resultType"] == listed["result"]["resultType"] == "complete"


async def test_a_cancelled_task_stops_the_provider_within_a_second(state_root: Path, emulator: OpenRouterEmulator):
    emulator.fail_next(faults.hang())
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon, "2026-07-28", EXTENSION) as wire:
        task = await begun(wire, emulator)
        gone = (await wire.ask("tasks/cancel", taskId=task["taskId"]))["result"]
        assert {key for key in gone if key != "_meta"} == {"resultType"}
        await seen(emulator, lambda: emulator.requests[0].disconnected, seconds=1)
        assert (await ended(daemon, wire, task["taskId"]))["status"] == "cancelled"
        assert await states(daemon) == ["unknown"]
        once_more = await wire.ask("tasks/cancel", taskId=task["taskId"])
        assert once_more["result"]["resultType"] == "complete"


async def test_an_update_that_nobody_waits_for_is_acknowledged(state_root: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon, "2026-07-28", EXTENSION) as wire:
        task = await begun(wire, emulator)
        answer = await wire.ask("tasks/update", taskId=task["taskId"], inputResponses={"name": {"action": "accept"}})
    assert answer["result"]["resultType"] == "complete"


@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
async def test_a_task_that_is_not_there_is_minus_32602(method: str, state_root: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon, "2026-07-28", EXTENSION) as wire:
        for params in ({"taskId": "job-aaaaaaaaaaaaaaaaaaaaaaaaaa"}, {"taskId": 7}, {}):
            assert (await wire.ask(method, **params))["error"]["code"] == t.INVALID_PARAMS


@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
async def test_without_the_extension_there_are_no_tasks(method: str, state_root: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon) as wire:
        made = await wire.answer(await wire.call("generate_image", PIER))
        assert made["result"]["resultType"] == "complete"
        error = (await wire.ask(method, taskId="job-aaaaaaaaaaaaaaaaaaaaaaaaaa"))["error"]
    assert error["code"] == t.MISSING_REQUIRED_CLIENT_CAPABILITY
    assert error["data"] == {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}


async def test_the_handshake_era_has_no_tasks(state_root: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon, "legacy", EXTENSION) as wire:
        made = await wire.answer(await wire.call("generate_image", PIER))
        assert "resultType" not in made["result"]
        error = (await wire.ask("tasks/get", taskId=json.loads(made["result"]["content"][0]["text"])["job_id"]))[
            "error"
        ]
    assert error["code"] == t.METHOD_NOT_FOUND


async def test_a_foreign_task_looks_like_none(state_root: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon, "2026-07-28", EXTENSION) as wire:
        task = await begun(wire, emulator)
        stranger = Principal("token-b", at_hand=False)
        face = Face(lambda: daemon.parts, daemon.runtime, daemon.listeners, principal=lambda _: stranger)
        tasks = KheishServer(face).tasks
        with pytest.raises(MCPError) as refusal:
            await tasks.get(request(), TaskParams(taskId=task["taskId"]))
    assert refusal.value.error.code == t.INVALID_PARAMS


def request(**headers: str) -> Any:
    """A request's context, as far as a task looks at it."""
    declared = t.ClientCapabilities(extensions={EXTENSION: {}})
    return SimpleNamespace(
        protocol_version="2026-07-28",
        method="tasks/get",
        session=SimpleNamespace(client_capabilities=declared),
        request=SimpleNamespace(headers={name.replace("_", "-"): value for name, value in headers.items()}),
    )


async def test_the_routing_header_has_to_name_the_task(state_root: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon, "2026-07-28", EXTENSION) as wire:
        task = await begun(wire, emulator)
        tasks = cast("Tasks", KheishServer(Face(lambda: daemon.parts, daemon.runtime, daemon.listeners)).tasks)
        params = TaskParams(taskId=task["taskId"])
        for headers in ({}, {"mcp_name": task["taskId"]}):
            assert await tasks.cancel(request(**headers), params) == {}
        with pytest.raises(MCPError) as refusal:
            await tasks.cancel(request(mcp_name="job-other"), params)
    assert refusal.value.error.code == t.HEADER_MISMATCH


async def test_the_extension_is_declared(state_root: Path, emulator: OpenRouterEmulator):
    async with daemon_on(state_root, emulator) as daemon, wire_to(daemon) as wire:
        told = (await wire.ask("server/discover"))["result"]
    assert told["capabilities"]["extensions"] == {EXTENSION: {}}


class Created(t.Result):
    """What a call that has become a task is answered, as a client reads it."""

    result_type: Literal["task"] = Field("task", alias="resultType")
    task_id: str = Field(alias="taskId")


class Got(t.Result):
    """What tasks/get is answered, as a client reads it."""

    status: str
    result: dict[str, Any] = Field(default_factory=dict)


class KnowsTasks(ClientExtension):
    """The extension in a client of the official SDK."""

    identifier = EXTENSION

    def claims(self) -> list[ResultClaim[Any]]:
        """What a call may be answered instead of its result."""
        return [ResultClaim(result_type="task", model=Created, resolve=self.resolve)]

    async def resolve(self, created: Created, ctx: ClaimContext) -> t.CallToolResult:
        """The task's result once it is there."""
        await ctx.session.call_tool("get_job", {"job_id": created.task_id})
        asked: Any = t.Request(method="tasks/get", params=TaskParams(taskId=created.task_id))
        task = await ctx.session.send_request(asked, Got)
        return t.CallToolResult.model_validate(task.result)


async def test_the_official_client_resolves_a_task_by_itself(state_root: Path, emulator: OpenRouterEmulator):
    async with (
        daemon_on(state_root, emulator) as daemon,
        client_of(daemon, extensions=[KnowsTasks()]) as client,
    ):
        result = await client.call_tool("generate_image", PIER)
    assert result_object(result)["model"] == "google/gemini-3.1-flash-image-preview"
