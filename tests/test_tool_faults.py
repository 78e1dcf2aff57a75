"""The fault table of the tools: every fault of the provider, under every tool that can meet it, is exactly one outcome.

The faults and their codes are those of the driver's table. Here the whole daemon meets them, through a real client: what
came is whole and on record, what did not is one refusal, the ledger's row is where the money is, and nothing that was
paid for is thrown away.
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import mcp_types as t
import pytest
from mcp.client import Client
from PIL import Image

from kheish_mcp.daemon import Daemon
from kheish_mcp.drivers.openrouter.driver import OpenRouter
from kheish_mcp.drivers.receipts import Deadlines
from kheish_mcp.media import Media
from tests import samples
from tests.clocks import Clockwork
from tests.conftest import CANARY, environment
from tests.emulators.openrouter import OpenRouterEmulator
from tests.hosts import client_of, daemon_of, result_object
from tests.test_fault_table import CAME, HEARING, IMAGES, LOST, SHORT, SOON, SPEECH, TABLE, TALK, Row, is_over

pytestmark = pytest.mark.anyio

TOOLS: Final[dict[str, str]] = {
    "generate_image": IMAGES, "edit_image": IMAGES, "generate_audio": SPEECH, "transcribe_audio": HEARING,
    "ask_model": TALK,
}  # fmt: skip
SMALL: Final = {"model": "openai/gpt-image-2", "size": "64x64"}
# What a driver passes on and whoever keeps media refuses, by fault and endpoint.
REFUSED_LATER: Final = {
    ("truncated media", IMAGES): LOST,
    ("truncated media", SPEECH): LOST,
    ("odd PCM", SPEECH): LOST,  # here it is an mp3 that ends too early
    ("not an image", IMAGES): LOST,
    ("pixel bomb", IMAGES): "resource_exhausted",
}


def kind(row: Row) -> str:
    """What a row is one of: a status in whatever form, a link to whatever place, or a fault of its own."""
    name = row.fault.name
    return name if name.startswith("status") else name.partition(": http")[0] if ": http" in name else str(row)


# One of each kind is enough here: how each form of a refusal is read is the driver's table.
ROWS: Final = tuple({(kind(row), str(row.outcome)): row for row in TABLE}.values())
UNDELIVERED: Final = {"paid, reset before headers"}  # nobody has heard of what was billed


@dataclass
class Bench:
    """A daemon, its client, and the tools' arguments."""

    daemon: Daemon
    client: Client
    arguments: dict[str, dict[str, Any]]
    ends: dict[str, t.CallToolResult] = field(default_factory=dict)

    async def ask(self, tool: str) -> None:
        """One call, whatever it comes to."""
        self.ends[tool] = await self.client.call_tool(tool, self.arguments[tool])

    async def rows(self) -> dict[str, dict[str, Any]]:
        """The ledger: one row a tool."""
        jobs: Any = self.daemon.parts.jobs
        names = ("tool", "state", "generation_id", "cost_usd", "error_code", "asset_ids")
        found = await jobs._database.rows(f"SELECT {', '.join(names)} FROM exchange ORDER BY number")
        assert len({row[0] for row in found}) == len(found)
        return {row[0]: dict(zip(names, row, strict=True)) for row in found}


@pytest.fixture
async def bench(
    emulator: OpenRouterEmulator, state_root: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Bench]:
    """A daemon whose driver waits for nothing between attempts, and not long where the fault never ends."""
    monkeypatch.setattr("kheish_mcp.settler.LOOK_EVERY_S", 3600)  # it would price a row between its end and our look
    endless = request.node.callspec.params["row"].endless
    limits = Deadlines(SHORT, SHORT, SHORT, talk=SHORT, silence=2 * SHORT) if endless else Deadlines()
    env = environment(state_root, OPENROUTER_API_KEY=CANARY, OPENROUTER_BASE_URL=emulator.base_url)
    async with daemon_of(env) as daemon:
        daemon.parts.workers.size = 1  # a child is slow to start, and one is enough
        await with_driver(daemon, limits, Clockwork())
        keep = daemon.parts.assets.keep
        picture = await keep(Media(samples.picture("PNG"), "image/png"), owner="local")
        sound = await keep(samples.WHOLE["audio/wav"], owner="local")
        arguments = {
            "generate_image": {"prompt": "a pier", **SMALL},
            "edit_image": {"prompt": "a pier", "image_asset_ids": [picture.asset_id], **SMALL},
            "generate_audio": {"input": "Hello there."},
            "transcribe_audio": {"audio": sound.asset_id},
            "ask_model": {"input": "Name three ports.", "model": "openai/gpt-5.4-mini"},
        }
        async with client_of(daemon) as client:
            yield Bench(daemon, client, arguments)
    assert emulator.violations == []


async def with_driver(daemon: Daemon, limits: Deadlines, clock: Clockwork) -> None:
    """Gives the daemon's one OpenRouter route a driver with other deadlines and another clock."""
    drivers = daemon.inventories._drivers
    [(name, endpoint)] = [key for key in drivers if key[0] == "openrouter"]
    await drivers[name, endpoint].close()
    drivers[name, endpoint] = OpenRouter(endpoint, deadlines=limits, clock=clock.clock)
    await daemon.reload()


def expected(row: Row) -> dict[str, str]:
    """What each tool that can meet the fault has to come to."""
    return {
        tool: REFUSED_LATER.get((str(row), path), row.outcomes[path])
        for tool, path in TOOLS.items()
        if path in row.outcomes
    }


def code_of(end: t.CallToolResult) -> str:
    """The one code of a refusal, or that something came."""
    return str(result_object(end)["error"]["code"]) if end.is_error else CAME


def check_refusal(end: t.CallToolResult, row: dict[str, Any], billed: bool, quarantine: Path) -> None:
    """A refusal whose row says the same, that does not call free what was billed, and whose remains are where it says."""
    [block] = end.content
    assert isinstance(block, t.TextContent)
    error = json.loads(block.text)["error"]
    details = error.get("details", {})
    assert (row["error_code"], row["asset_ids"]) == (error["code"], "[]")
    assert error["hint"]
    assert not billed or details["possibly_billed"] is True
    costs = details.get("possibly_billed", False)
    assert row["state"] == ("unknown" if costs and row["cost_usd"] is None else "failed")
    assert costs or row["cost_usd"] is None
    names = details.get("quarantine", "").split(", ") if "quarantine" in details else []
    assert all((quarantine / name).stat().st_size and f"quarantine/{name}" in error["hint"] for name in names)
    assert names or error["code"] != LOST


async def check_assets(daemon: Daemon, row: dict[str, Any]) -> None:
    """What came is stored, and decodes to its last pixel."""
    assert (row["state"], row["error_code"]) == ("stored", None)
    for asset_id in json.loads(row["asset_ids"]):
        media = await daemon.parts.assets.read(await daemon.parts.assets.get(asset_id, "local"))
        if media.media_type.startswith("image/") and media.media_type != "image/svg+xml":
            with Image.open(io.BytesIO(media.data)) as picture:
                picture.load()


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_every_fault_is_exactly_one_outcome_of_every_tool(
    row: Row, bench: Bench, emulator: OpenRouterEmulator, state_root: Path
):
    outcomes = expected(row)
    emulator.always(row.fault)
    with anyio.fail_after(SOON):
        async with anyio.create_task_group() as group:
            for tool in outcomes:
                group.start_soon(bench.ask, tool)
    assert {tool: code_of(end) for tool, end in bench.ends.items()} == outcomes
    rows = await bench.rows()
    assert set(rows) == set(outcomes)
    billed = {bill.generation_id: bill.endpoint for bill in emulator.ledger}
    heard = {each["generation_id"] for each in rows.values()}
    assert set(billed) <= heard or row.fault.name in UNDELIVERED
    for tool, end in bench.ends.items():
        assert CANARY not in str(end)
        if end.is_error:
            check_refusal(end, rows[tool], TOOLS[tool] in billed.values(), state_root / "quarantine")
        else:
            await check_assets(bench.daemon, rows[tool])
    assert await bench.daemon.parts.assets.verify() == (await known(bench.daemon), ())
    if row.endless:
        await anyio.to_thread.run_sync(emulator.wait_for, lambda: all(map(is_over, emulator.requests)))
    assert (await bench.client.list_tools()).tools


async def known(daemon: Daemon) -> int:
    """How many assets there are."""
    page, _ = await daemon.parts.assets.page("local", None)
    return len(page)
