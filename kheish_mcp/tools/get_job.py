"""How a job goes, and its result once it is there."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ..capabilities import AudioGeneration, ImageEdit, ImageGeneration, Transcription
from ..conversation import TextGeneration
from ..errors import JsonObject
from .base import Call, Input, Outcome, Tool
from .running import follow, refusal_of, result_of, shown_of, wished_preview


class GetJob(Input):
    """Waits for a call that was still working when its answer came, and gives its result."""

    job_id: str = Field(min_length=1, max_length=64, description="From the earlier answer.")
    wait_seconds: float = Field(45, ge=0, le=300, description="Seconds to wait for it.")


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "job_id": {"type": "string", "description": "As asked."},
        "status": {
            "type": "string",
            "enum": ["working", "completed", "failed", "cancelled"],
            "description": "How it stands.",
        },
    },
    "required": ["job_id", "status"],
}


async def run(given: GetJob, call: Call) -> Outcome:
    """The job as it stands after the wait; a failed job is no error of this call."""
    record = await follow(call, given.job_id, given.wait_seconds)
    result: JsonObject = {"job_id": record.job_id, "status": record.state, "progress": record.progress or None}
    if record.state != "working":
        call.hands_over(record.job_id)
    if record.result is not None:
        result["result"] = await result_of(call, record)
    if record.error is not None:
        result["error"] = (await refusal_of(call, record)).as_json()
    return Outcome(result, await shown_of(call, record), wished_preview(record))


TOOL = Tool(
    "get_job",
    "Fetch a job",
    GetJob,
    run,
    needs=(ImageGeneration, ImageEdit, AudioGeneration, Transcription, TextGeneration),
    writes=False,
    output_schema=SCHEMA,
)
