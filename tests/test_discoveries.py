"""When providers are asked for their models: whom, how often, and what a failure leaves."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from kheish_mcp.capabilities import ModelCard
from kheish_mcp.daemon import open_daemon
from kheish_mcp.discovery import FRESH_S, RETRY_S, Discoveries, is_asked
from kheish_mcp.drivers.http import Endpoint
from kheish_mcp.drivers.openrouter.driver import BUILT_IN, OpenRouter
from kheish_mcp.secret import Secret
from kheish_mcp.settings import Settings
from kheish_mcp.stores.models import ModelStore
from tests.conftest import CANARY
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import faults

HOME = "https://openrouter.ai/api/v1"
FLUX, FLASH = "black-forest-labs/flux.2-klein", "google/gemini-3.1-flash-image-preview"


class Clock:
    """A time that goes on when it is told to."""

    def __init__(self) -> None:
        self.time = 1_790_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    """The time of a test."""
    return Clock()


@pytest.fixture
async def driver(emulator: OpenRouterEmulator) -> AsyncGenerator[OpenRouter]:
    """A driver of the stand-in."""
    opened = OpenRouter(Endpoint("home", emulator.base_url, Secret(CANARY)))
    yield opened
    await opened.close()


@pytest.fixture
def discoveries(state_root: Path, clock: Clock, emulator: OpenRouterEmulator, driver: OpenRouter) -> Discoveries:
    """A process that asks the stand-in too, and has just opened the driver."""
    made = Discoveries("required", ModelStore(state_root), now=clock)
    made.recall(driver, emulator.base_url)
    return made


def gets(emulator: OpenRouterEmulator) -> int:
    """How often the models were asked for."""
    return [seen.path for seen in emulator.requests].count("/models")


@pytest.mark.parametrize(
    ("base_url", "best_effort", "required"),
    [
        (HOME, True, True),
        ("https://eu.openrouter.ai/api/v1", True, True),
        ("http://127.0.0.1:9/api/v1", False, True),
        ("https://openrouter.ai.example/api/v1", False, True),
        ("https://notopenrouter.ai/api/v1", False, True),
        ("", False, False),
    ],
)
def test_only_openrouter_itself_is_asked_unless_it_is_required(base_url: str, best_effort: bool, required: bool):
    assert is_asked("best_effort", base_url) is best_effort
    assert is_asked("required", base_url) is required
    assert is_asked("disabled", base_url) is False


@pytest.mark.anyio
async def test_nobody_is_asked_at_once_then_once_and_then_after_an_hour(
    emulator: OpenRouterEmulator, discoveries: Discoveries, driver: OpenRouter, clock: Clock
):
    assert not await discoveries.refresh({driver: ()})
    assert gets(emulator) == 0
    clock.time += 2
    assert await discoveries.refresh({driver: ()})
    assert len(driver.models()) > 20
    assert not await discoveries.refresh({driver: ()})
    clock.time += FRESH_S - 3
    assert not await discoveries.refresh({driver: ()})
    assert gets(emulator) == 1
    clock.time += FRESH_S * 0.2
    assert await discoveries.refresh({driver: ()})
    assert gets(emulator) == 2


@pytest.mark.anyio
async def test_a_driver_that_is_no_longer_in_use_is_not_asked_for(
    emulator: OpenRouterEmulator, discoveries: Discoveries, clock: Clock
):
    clock.time += 2
    assert not await discoveries.refresh({})
    assert emulator.requests == []


@pytest.mark.anyio
async def test_another_process_and_the_next_start_know_what_one_has_learned(
    emulator: OpenRouterEmulator, discoveries: Discoveries, driver: OpenRouter, clock: Clock, state_root: Path
):
    other, late = (OpenRouter(Endpoint(name, emulator.base_url, Secret(CANARY))) for name in ("other", "late"))
    beside = Discoveries("required", ModelStore(state_root), now=clock)
    beside.recall(other, emulator.base_url)
    clock.time += 2
    await discoveries.refresh({driver: ()})
    assert await beside.refresh({other: ()})
    assert gets(emulator) == 1
    assert other.models() == driver.models()
    clock.time += 30 * FRESH_S
    started = Discoveries("required", ModelStore(state_root), now=clock)
    started.recall(late, emulator.base_url)
    assert late.models() == driver.models()
    learned = started.of(late)
    assert learned is not None
    assert learned.seen_at == pytest.approx(clock.time - 30 * FRESH_S)
    clock.time += 2
    assert await started.refresh({late: ()})
    assert gets(emulator) == 2
    await late.close()


@pytest.mark.anyio
async def test_a_list_from_the_future_is_used_but_not_believed_to_be_fresh(
    emulator: OpenRouterEmulator, driver: OpenRouter, clock: Clock, state_root: Path
):
    ModelStore(state_root).remember(emulator.base_url, (ModelCard("v/m", ("text",)),), clock.time + 10 * FRESH_S)
    made = Discoveries("required", ModelStore(state_root), now=clock)
    made.recall(driver, emulator.base_url)
    assert [card.id for card in driver.models()] == ["v/m"]
    clock.time += 2
    assert await made.refresh({driver: ()})
    assert gets(emulator) == 1
    assert len(driver.models()) > 20


@pytest.mark.anyio
async def test_a_failure_keeps_what_is_known_and_is_tried_again_later(
    emulator: OpenRouterEmulator, discoveries: Discoveries, driver: OpenRouter, clock: Clock
):
    emulator.always(faults.status(503, "Down for repairs"), path="/models")
    clock.time += 2
    assert await discoveries.refresh({driver: ()})
    assert driver.models() == BUILT_IN
    learned = discoveries.of(driver)
    assert learned is not None
    assert "Down for repairs" in (learned.trouble or "")
    assert discoveries.absence(driver) == learned.trouble
    assert not await discoveries.refresh({driver: ()})
    clock.time += RETRY_S * 2
    emulator.heal()
    assert await discoveries.refresh({driver: ()})
    assert (learned.trouble, discoveries.absence(driver)) == (None, None)
    emulator.always(faults.status(503, "Down again"), path="/models")
    clock.time += FRESH_S * 2
    assert await discoveries.refresh({driver: ()})
    assert learned.trouble is not None
    assert discoveries.absence(driver) is None
    assert len(driver.models()) > 20


@pytest.mark.anyio
async def test_a_state_root_that_cannot_be_written_costs_only_the_memory(
    discoveries: Discoveries, driver: OpenRouter, clock: Clock, state_root: Path
):
    await anyio.Path(state_root).write_text("a file where the folder belongs")
    clock.time += 2
    assert await discoveries.refresh({driver: ()})
    assert len(driver.models()) > 20


# In the daemon


@pytest.fixture
def routes(tmp_path: Path, emulator: OpenRouterEmulator) -> Path:
    """A route whose only image model does not edit, and whose text model does not see."""
    path = tmp_path / "routes.toml"
    path.write_text(
        f'version = 1\n[routes.home]\ndriver = "openrouter"\ndefault_model = "z-ai/glm-5.3-flash"\n'
        f'api_key_env = "KEY"\nbase_url = "{emulator.base_url}"\n[routes.home.models]\nimage_edit = "{FLUX}"\n'
    )
    return path


@pytest.fixture
def settings(state_root: Path, routes: Path) -> Settings:
    """Where discovery is required, so that the stand-in is asked."""
    variables = {"KEY": CANARY}
    return Settings(state_root, routes_file=routes, discovery="required", _variables=variables)


async def told(daemon: Any, route: str = "home") -> dict[str, Any]:
    """One route of the runtime view."""
    view = json.loads(json.dumps(await daemon.runtime()))
    return next(shown for shown in view["routes"] if shown["route_id"] == route)


@pytest.mark.anyio
async def test_the_daemon_learns_in_the_background_and_its_tools_follow(
    settings: Settings, emulator: OpenRouterEmulator
):
    async with open_daemon(settings) as daemon:
        assert "edit_image" in daemon.inventory.listed
        assert gets(emulator) == 0
        with anyio.fail_after(30):
            await anyio.to_thread.run_sync(emulator.wait_for, lambda: gets(emulator) == 1)
            while "edit_image" in daemon.inventory.listed:
                await anyio.lowlevel.checkpoint()
        paths = [seen.path for seen in emulator.requests]
        assert paths == ["/models", "/images/models", f"/images/models/{FLASH}/endpoints", *paths[3:]]
        shown = await told(daemon)
        assert shown["state"] == "warning"
        assert FLUX in shown["reasons"][0]
        assert shown["capabilities"]["image_generation"] is True
        assert shown["capabilities"]["multimodal_input"] is False
        [offer] = daemon.inventory.catalog.offers
        assert offer.seen_at is not None
    async with open_daemon(settings) as daemon:
        assert "edit_image" not in daemon.inventory.listed


@pytest.mark.anyio
async def test_a_daemon_that_is_closed_does_not_wait_for_an_answer_and_says_nothing(
    settings: Settings, emulator: OpenRouterEmulator, caplog: pytest.LogCaptureFixture
):
    emulator.always(faults.hang(), path="/models")
    with anyio.fail_after(10):
        async with open_daemon(settings):
            await anyio.to_thread.run_sync(emulator.wait_for, lambda: gets(emulator) == 1)
    assert [record for record in caplog.records if record.name.startswith("kheish_mcp.discovery")] == []


@pytest.mark.anyio
async def test_a_route_whose_required_discovery_failed_is_absent_with_the_reason_until_it_works(
    settings: Settings, emulator: OpenRouterEmulator
):
    emulator.always(faults.status(500, "Not now"), path="/models")
    async with open_daemon(settings) as daemon:
        discoveries = daemon.inventories.discoveries
        [driver] = [offer.driver for offer in daemon.inventory.catalog.offers if offer.driver]
        learned = discoveries.of(driver)
        assert learned is not None
        learned.due_at = 0.0
        assert await daemon.inventories.discover()
        await daemon.reload()
        shown = await told(daemon)
        assert shown["state"] == "error"
        assert "Not now" in shown["reasons"][0]
        assert "generate_image" not in daemon.inventory.listed
        emulator.heal()
        learned.due_at = 0.0
        assert await daemon.inventories.discover()
        await daemon.reload()
        assert "generate_image" in daemon.inventory.listed


@pytest.mark.anyio
@pytest.mark.parametrize("discovery", ["best_effort", "disabled"])
async def test_a_server_that_is_not_openrouter_is_neither_asked_nor_remembered(
    settings: Settings, emulator: OpenRouterEmulator, discovery: Any
):
    ModelStore(settings.state_root).remember(emulator.base_url, (ModelCard("v/m", ("text",), outputs=("text",)),), 1.0)
    async with open_daemon(replace(settings, discovery=discovery)) as daemon:
        [offer] = daemon.inventory.catalog.offers
        assert offer.driver is not None
        assert offer.driver.models() == BUILT_IN
        assert not await daemon.inventories.discover()
    assert emulator.requests == []
