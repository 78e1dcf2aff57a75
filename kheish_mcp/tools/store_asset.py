"""A file, a link or inline data becomes an asset."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .base import LONGEST_REFERENCE, Call, Input, Outcome, Tool


class StoreAsset(Input):
    """Keeps a file as an asset whose id every tool accepts."""

    source: str = Field(
        min_length=1, max_length=LONGEST_REFERENCE, description="Workspace path, https:// URL or data: URI."
    )
    label: str | None = Field(None, max_length=200, description="A name to find it by.")
    media_type: str | None = Field(None, max_length=100, description="Checked against the bytes.")
    kind: Literal["file", "microphone_segment"] = Field("file", description="microphone_segment: wav or webm only.")


# What a caller goes on with; the asset object has more, and a list of tools has to stay small.
ASSET_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "asset_id": {"type": "string", "description": "Every tool takes it."},
        "uri": {"type": "string", "description": "To read it by."},
        "media_type": {"type": "string", "description": "As recognised."},
    },
    "required": ["asset_id", "uri", "media_type"],
}


async def run(given: StoreAsset, call: Call) -> Outcome:
    """The asset; equal bytes give the asset that is already there."""
    asset = await call.references.resolve(
        given.source,
        owner=call.owner,
        kinds=None,
        argument="source",
        label=given.label or "",
        media_type=given.media_type or "",
        kind=given.kind,
    )
    return Outcome(asset.as_json(), preview="none")


TOOL = Tool("store_asset", "Store an asset", StoreAsset, run, fetches=True, output_schema=ASSET_SCHEMA)
