"""A tiny real call of each kind on each route, through the tools themselves, so that the ledger has every one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from ..daemon import open_daemon
from ..errors import KheishError
from ..settings import Settings
from ..stores.assets import AssetStore
from ..tools import TOOLS
from ..tools.base import Call, Outcome, Parts, Tool, validate
from .checks import Check, refused

OWNER: Final = "doctor"
WAIT_S: Final = 300.0
DOT: Final = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR42mP8z4AdMDEMKQkAzUEBD7t4NqoAAAAA"
    "SUVORK5CYII="
)
DRAWING: Final = '<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16"><circle cx="8" cy="8" r="6"/></svg>'
# What each tool is asked, and what the local route, which takes no prose, is asked in its place.
ASKED: Final[Mapping[str, Mapping[str, Any]]] = {
    "generate_image": {"prompt": "A red dot on white."},
    "edit_image": {"prompt": "Make it blue.", "image_asset_ids": [DOT]},
    "generate_audio": {"input": "Hello.", "format": "wav"},
    "transcribe_audio": {},
    "ask_model": {"input": "Say yes."},
}
LOCALLY: Final[Mapping[str, Mapping[str, Any]]] = {
    "generate_image": {"prompt": DRAWING},
    "edit_image": {"prompt": "rotate 90"},
}


async def canaries(settings: Settings) -> list[Check]:
    """One check a route and tool; what they leave in the asset store is taken away again."""
    found: list[Check] = []
    async with open_daemon(settings) as daemon:
        flock = _Flock(daemon.parts)
        try:
            for tool in TOOLS:
                if tool.name in ASKED:
                    found += [await flock.send(tool, *route) for route in _routes(tool, daemon.parts)]
        finally:
            await _swept(daemon.parts.assets)
    return found


class _Flock:
    """The calls of one run; the first sound that is made is what is heard afterwards."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._sound: str | None = None

    async def send(self, tool: Tool, route_id: str, provider: str) -> Check:
        """How one call went."""
        name = f"canary.{route_id}.{tool.name}"
        asked = {
            **ASKED[tool.name],
            **(LOCALLY.get(tool.name, {}) if provider == "local" else {}),
            "provider": route_id,
        }
        if tool.name == "transcribe_audio":
            if self._sound is None:
                return Check(name, "warning", "No route made a sound that it could hear.")
            asked["audio"] = self._sound
        try:
            outcome = await tool.run(validate(tool.input, asked), self._call())
        except KheishError as error:
            return refused(name, error)
        assert isinstance(outcome, Outcome)
        if tool.name == "generate_audio" and outcome.assets:
            self._sound = self._sound or outcome.assets[0].uri
        return _judged(name, outcome.result)

    def _call(self) -> Call:
        shared = {field.name: getattr(self._parts, field.name) for field in fields(Parts)}
        return Call(**shared, owner=OWNER, at_hand=False, report=_unheard, wait_seconds=WAIT_S)


def _judged(name: str, result: Mapping[str, Any]) -> Check:
    if result.get("status") == "working":
        return Check(name, "warning", f"It takes longer than {WAIT_S:g} s.")
    cost = result.get("cost_usd")
    paid = "what it cost is not known yet" if cost is None else f"it cost ${cost:.6f}"
    return Check(name, "ok", f"{result.get('model') or 'It'} answered; {paid}.")


def _routes(tool: Tool, parts: Parts) -> list[tuple[str, str]]:
    """The routes that serve a tool now, each with its provider."""
    backends = [backend for kind in tool.needs for backend in parts.catalog.backends(kind)]
    return [(backend.route_id, backend.provider) for backend in backends]


async def _swept(assets: AssetStore) -> None:
    while (page := await assets.page(OWNER, None))[0]:
        for asset in page[0]:
            await assets.delete(asset.asset_id, OWNER)


async def _unheard(sentence: str) -> None:
    """Nobody waits for news of a canary."""
