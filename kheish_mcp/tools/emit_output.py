"""Chosen texts and assets become part of the visible answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from ..errors import InvalidArgument, JsonObject
from ..stores.assets import Asset
from .base import Call, Input, Published, Tool

Part = str | Asset


class OutputPart(Input):
    """One piece."""

    type: Literal["text", "asset"] = Field(description="Its kind.")
    text: str | None = Field(None, max_length=100_000, description="For type text.")
    asset_id: str | None = Field(None, max_length=64, description="For type asset.")


class EmitOutput(Input):
    """Publishes texts and assets to the user as one answer, in order. Generated audio is only heard this way.

    Give content, parts or artifact_ids.
    """

    content: str | None = Field(None, max_length=100_000, description="Text shown first.")
    parts: list[OutputPart] | None = Field(None, max_length=64, description="Texts and assets, in order.")
    artifact_ids: list[str] | None = Field(None, max_length=64, description="Asset ids that belong to the output.")
    include_artifacts_inline: bool = Field(False, description="Sounds of artifact_ids too, not only their links.")
    session: str | None = Field(
        None, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Session to record it in."
    )


async def run(given: EmitOutput, call: Call) -> Published:
    """Refuses an empty output and unknown assets; what is published stays in the session's record."""
    parts = [part for part in [await _resolved(part, call) for part in given.parts or []] if part]
    ids = dict.fromkeys(map(_bare, given.artifact_ids or []))
    named = [await call.assets.get(asset_id, call.owner) for asset_id in ids]
    in_parts = [part for part in parts if isinstance(part, Asset)]
    artifacts = tuple(dict.fromkeys([*in_parts, *named]))
    visible: list[Part] = [given.content] if given.content and given.content.strip() else []
    visible += parts
    following = [asset for asset in named if asset not in in_parts]
    if given.include_artifacts_inline or not visible:
        visible, following = [*visible, *following], []
    if not visible:
        raise InvalidArgument("There is nothing to emit.", hint="Give content, parts or artifact_ids.")
    return replace(await _publish(given, call, tuple(visible), artifacts), named=tuple(following))


async def _resolved(part: OutputPart, call: Call) -> Part | None:
    if part.type == "asset":
        if not part.asset_id:
            raise InvalidArgument("A part of type asset needs its asset_id.", hint="Take it from an earlier result.")
        return await call.assets.get(_bare(part.asset_id), call.owner)
    return part.text if part.text and part.text.strip() else None


async def _publish(given: EmitOutput, call: Call, visible: tuple[Part, ...], artifacts: tuple[Asset, ...]) -> Published:
    content = "\n".join(part if isinstance(part, str) else _mention(part) for part in visible)
    parts: list[JsonObject] = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "asset", "asset_id": part.asset_id}
        for part in visible
    ]
    shown = [asset.as_json() for asset in artifacts]
    session = given.session or call.session
    output_id = await call.sessions.publish(session, call.owner, content, parts, shown)
    result: JsonObject = {
        "content": content,
        "parts": [dict(part) for part in parts],
        "artifacts": [dict(asset) for asset in shown],
        "session": session,
        "output_id": output_id,
    }
    return Published(result, visible)


def _bare(asset_id: str) -> str:
    """The id, also where it came as an asset:// URI."""
    return asset_id.removeprefix("asset://")


def _mention(asset: Asset) -> str:
    return f"[{asset.file_name} ({asset.media_type})]"


TOOL = Tool("emit_output", "Publish output", EmitOutput, run)
