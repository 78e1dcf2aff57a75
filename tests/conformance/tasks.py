"""The suite's tasks are jobs of the product; two kinds the product has none of: those that ask, those that break."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import mcp_types as t

from kheish_mcp.errors import JsonObject
from kheish_mcp.mcp_server.server import Context
from kheish_mcp.mcp_server.tasks import TaskParams, Tasks, UpdateParams


class Pending:
    """The questions of one job that nobody has answered yet."""

    def __init__(self, questions: Mapping[str, t.InputRequest]) -> None:
        self.questions = dict(questions)
        self.settled = anyio.Event()

    def answer(self, names: set[str]) -> None:
        """Takes answers, and lets the job go on once it has them all."""
        self.questions = {name: question for name, question in self.questions.items() if name not in names}
        if not self.questions:
            self.settled.set()


@dataclass(frozen=True)
class AskingTasks(Tasks):
    """The product's tasks; `pending` has the questions of a job, `broken` the jobs that end in a protocol error."""

    pending: dict[str, Pending] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)

    async def get(self, ctx: Context, params: TaskParams) -> JsonObject:
        """As the product gives it, with open questions and broken ends."""
        task: dict[str, Any] = await super().get(ctx, params)
        open_questions = self.pending[params.task_id].questions if params.task_id in self.pending else {}
        if task["status"] == "working" and open_questions:
            shown = {
                name: question.model_dump(by_alias=True, mode="json", exclude_none=True)
                for name, question in open_questions.items()
            }
            return {**task, "status": "input_required", "inputRequests": shown}
        if task["status"] == "completed" and params.task_id in self.broken:
            del task["result"]
            return {**task, "status": "failed", "error": {"code": t.INTERNAL_ERROR, "message": "The job broke."}}
        return task

    async def update(self, ctx: Context, params: UpdateParams) -> JsonObject:
        """Hands the answers on."""
        acknowledged = await super().update(ctx, params)
        if params.task_id in self.pending:
            self.pending[params.task_id].answer(set(params.input_responses))
        return acknowledged
