"""The suite's tools that become tasks: they start real jobs of the product's store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import mcp_types as t

from kheish_mcp.errors import FailedPrecondition, JsonObject
from kheish_mcp.mcp_server.tasks import EXTENSION, knows_tasks
from kheish_mcp.stores.job import Job

from .questions import Asked, Result, form
from .tasks import Pending
from .tools import NAME, Fixture, arguments, one, text

Work = Callable[[Asked, Job], Awaitable[JsonObject]]
PATIENCE_S = 10.0


def job(work: Work, *, required: bool = False, **questions: t.InputRequest) -> Callable[[Asked], Awaitable[Result]]:
    """A tool whose work is a job: a task for a client that knows tasks, else waited for unless a task is `required`."""

    async def run(asked: Asked) -> Result:
        if required:
            asked.require({"extensions": {EXTENSION: {}}}, is_there=knows_tasks(asked.ctx))
        return asked.missing(questions) or await started(asked, work)

    return run


async def started(asked: Asked, work: Work) -> Result:
    """The task of a job, or its result."""
    jobs, tasks = asked.face.parts().jobs, asked.tasks
    owner = tasks.owner(asked.ctx)
    job_id = (await jobs.start(owner, asked.params.name, arguments(asked), lambda job: work(asked, job))).job_id
    if knows_tasks(asked.ctx):
        return await tasks.created(asked.ctx, job_id)
    assert await jobs.wait(job_id, PATIENCE_S)
    return await tasks.present(asked.ctx, await jobs.get(job_id, owner))


async def compute(asked: Asked, _: Job) -> JsonObject:
    await anyio.sleep(arguments(asked)["seconds"])
    return {"label": arguments(asked)["label"]}


async def fail(_: Asked, __: Job) -> JsonObject:
    raise FailedPrecondition("This job always fails.")


async def break_down(asked: Asked, job: Job) -> JsonObject:
    asked.tasks.broken.add(job.job_id)
    return {}


async def greet_whom_it_asked(asked: Asked, _: Job) -> JsonObject:
    answered = (asked.params.input_responses or {})["user_name"]
    assert isinstance(answered, t.ElicitResult)
    return {"greeting": f"Hello, {(answered.content or {})['name']}!"}


def confirming(**questions: t.InputRequest) -> Work:
    """A job that waits until all its questions are answered."""

    async def work(asked: Asked, job: Job) -> JsonObject:
        asked.tasks.pending[job.job_id] = pending = Pending(questions)
        await pending.settled.wait()
        return {"confirmed": sorted(questions)}

    return work


async def greet(asked: Asked) -> Result:
    return text(f"Hello, {arguments(asked)['name']}!")


CONFIRM = form("Really delete it?", confirm="boolean")
COMPUTATION: Mapping[str, Any] = {
    "type": "object",
    "properties": {"seconds": {"type": "number"}, "label": {"type": "string"}},
    "required": ["seconds", "label"],
}

JOBS = (
    Fixture("greet", "Greets at once.", greet, one("name")),
    Fixture("slow_compute", "Takes its time.", job(compute), dict(COMPUTATION)),
    Fixture("failing_job", "Refuses, as a task.", job(fail, required=True)),
    Fixture("protocol_error_job", "Breaks, as a task.", job(break_down)),
    Fixture("confirm_delete", "Asks before it goes on.", job(confirming(confirm=CONFIRM)), one("filename")),
    Fixture("multi_input", "Asks twice before it goes on.", job(confirming(name=NAME, confirm=CONFIRM))),
    Fixture(
        "test_tool_with_task", "Asks, then becomes a task.", job(greet_whom_it_asked, required=True, user_name=NAME)
    ),
)
