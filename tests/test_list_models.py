"""list_models: what the other tools accept now, with what is known of it and since when."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kheish_mcp.capabilities import ModelCard
from kheish_mcp.daemon import Daemon
from kheish_mcp.stores.models import ModelStore
from tests.conftest import CANARY, environment
from tests.emulators.openrouter import OpenRouterEmulator
from tests.hosts import call, client_of, daemon_of, refused

pytestmark = pytest.mark.anyio

FLASH, KOKORO, FLUX = "google/gemini-3.1-flash-image-preview", "hexgrad/kokoro-82m", "black-forest-labs/flux.2-klein"
DRAWER = ModelCard("v/drawer", ("image_generation",), outputs=("image",), name="The Drawer")


@pytest.fixture
def env(state_root: Path, emulator: OpenRouterEmulator) -> dict[str, str]:
    """The built-in routes, openrouter being the stand-in, which is asked for its models."""
    return environment(
        state_root,
        OPENROUTER_API_KEY=CANARY,
        OPENROUTER_BASE_URL=emulator.base_url,
        KHEISH_DEFAULT_ROUTE="openrouter",
        KHEISH_OPENROUTER_MODEL_DISCOVERY="required",
    )


@asynccontextmanager
async def told(env: dict[str, str]) -> AsyncGenerator[Any]:
    """A client of a daemon that has discovered what it can."""
    async with daemon_of(env) as daemon, client_of(daemon) as client:
        await discover(daemon)
        yield client


async def discover(daemon: Daemon) -> None:
    """Asks now instead of a second later."""
    for offer in daemon.inventory.catalog.offers:
        learned = daemon.inventories.discoveries.of(offer.driver) if offer.driver is not None else None
        if learned is not None:
            learned.due_at = 0.0
    await daemon.inventories.discover()
    await daemon.reload()


def ids(listed: dict[str, Any]) -> list[str]:
    """The ids in a result."""
    return [model["id"] for model in listed["models"]]


async def test_what_was_discovered_is_listed_with_all_that_is_known_of_it(env: dict[str, str]):
    async with told(env) as client:
        everything = await call(client, "list_models", limit=200)
        models = {model["id"]: model for model in everything["models"]}
        assert set(models[FLASH].pop("capabilities")) >= {"image_generation", "image_edit"}
        assert models[FLASH] == {
            "id": FLASH, "route_id": "openrouter", "name": "gemini-3.1-flash-image-preview", "inputs": ["text", "image"],
            "outputs": ["image", "text"], "sizes": ["512", "1K", "2K", "4K"], "formats": ["png", "jpeg", "webp"],
            "context_tokens": 4096, "price": "$0.04 a picture",
        }  # fmt: skip
        assert models[KOKORO]["voices"] == ["af_heart", "af_bella", "am_adam"]
        assert models[KOKORO]["price"] == "$1.00 a million characters"
        assert models["google/chirp-3"]["capabilities"] == ["transcription"]
        assert models["svg"]["route_id"] == "local"
        assert everything["truncated"] is False
        assert datetime.now(UTC) - datetime.fromisoformat(everything["as_of"]["openrouter"]) < timedelta(minutes=1)
        assert "notes" not in everything


async def test_what_is_used_by_default_comes_first_and_the_others_by_name(env: dict[str, str]):
    async with told(env) as client:
        drawing = ids(await call(client, "list_models", capability="image_generation", provider="openrouter"))
        assert drawing[:3] == [FLASH, "openai/gpt-image-2", "openai/gpt-5-image-mini"]
        assert drawing[3:] == sorted(drawing[3:])
        assert FLUX in drawing
        assert ids(await call(client, "list_models", capability="text"))[0] == "openai/gpt-5.4-mini"
        assert FLUX not in ids(await call(client, "list_models", capability="image_edit"))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("KOKORO", [KOKORO]),
        ("82m hexgrad", [KOKORO]),
        ("the drawer", []),
        ("flux 82m", []),
        ("   ", None),
    ],
)
async def test_every_word_of_a_query_is_looked_for_in_id_and_name(
    env: dict[str, str], query: str, found: list[str] | None
):
    async with told(env) as client:
        listed = ids(await call(client, "list_models", query=query, provider="openrouter"))
        assert listed == found or (found is None and len(listed) > 10)


async def test_a_limit_cuts_and_says_so(env: dict[str, str]):
    async with told(env) as client:
        two = await call(client, "list_models", limit=2)
        assert (ids(two)[0], len(ids(two)), two["truncated"]) == (FLASH, 2, True)
        exact = await call(client, "list_models", query="hexgrad", limit=1)
        assert (ids(exact), exact["truncated"]) == ([KOKORO], False)


async def test_an_answer_stays_small_and_says_that_there_is_more(env: dict[str, str], state_root: Path):
    voices = tuple(f"voice-of-somebody-{number:05}" for number in range(400))
    cards = tuple(ModelCard(f"v/speaks-{n:03}", ("audio_generation",), voices, outputs=("speech",)) for n in range(200))
    ModelStore(state_root).remember(env["OPENROUTER_BASE_URL"], cards, time.time())
    async with daemon_of(env) as daemon, client_of(daemon) as client:
        listed = await call(client, "list_models", capability="audio_generation", limit=200, provider="openrouter")
        assert listed["truncated"] is True
        assert 2 <= len(listed["models"]) < 10
        assert len(json.dumps(listed)) < 50_000
        assert listed["models"][-1]["voices"] == list(voices)


async def test_without_a_provider_to_ask_the_last_list_is_served_with_its_age(env: dict[str, str], state_root: Path):
    then = time.time() - 3 * 86_400 - 60
    ModelStore(state_root).remember(env["OPENROUTER_BASE_URL"], (DRAWER,), then)
    async with daemon_of(env) as daemon, client_of(daemon) as client:
        listed = await call(client, "list_models", query="the drawer")
        assert ids(listed) == ["v/drawer"]
        assert listed["as_of"]["openrouter"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(then))
        assert listed["notes"] == [
            "openrouter's provider could not be asked for 3 days: prices and models may have changed."
        ]
        local = await call(client, "list_models", provider="local")
        assert "as_of" not in local
        refusal = await refused(client, "edit_image", prompt="bluer", model="v/drawer", image_asset_ids=["x"])
        assert refusal["code"] == "invalid_argument"
        assert "v/drawer" in refusal["message"]


async def test_what_nobody_was_asked_for_is_what_the_driver_knows(env: dict[str, str], emulator: OpenRouterEmulator):
    async with (
        daemon_of({**env, "KHEISH_OPENROUTER_MODEL_DISCOVERY": "disabled"}) as daemon,
        client_of(daemon) as client,
    ):
        listed = await call(client, "list_models", provider="openrouter")
        assert ids(listed)[:2] == [FLASH, "openai/gpt-image-2"]
        assert listed.keys() == {"models", "truncated"}
    assert emulator.requests == []


async def test_a_route_that_is_not_there_is_refused_with_those_that_are(env: dict[str, str]):
    async with daemon_of(env) as daemon, client_of(daemon) as client:
        refusal = await refused(client, "list_models", provider="openruoter")
        assert refusal["code"] == "not_found"
        assert "openrouter" in refusal["message"]


async def test_what_a_route_may_not_do_is_not_listed(env: dict[str, str], tmp_path: Path):
    routes = tmp_path / "routes.toml"
    routes.write_text(
        f'version = 1\n[routes.mine]\ndriver = "openrouter"\ndefault_model = "openai/gpt-5.4-mini"\n'
        f'api_key_env = "OPENROUTER_API_KEY"\nbase_url = "{env["OPENROUTER_BASE_URL"]}"\naudio_generation = false\n'
        'image_edit = false\n[routes.mine.models]\ntranscription = "vendor/unheard-of"\n'
    )
    del env["KHEISH_DEFAULT_ROUTE"]
    async with told({**env, "KHEISH_ROUTES_FILE": str(routes)}) as client:
        models = {model["id"]: model for model in (await call(client, "list_models", limit=200))["models"]}
        assert KOKORO not in models
        assert "image_edit" not in models[FLASH]["capabilities"]
        assert models["vendor/unheard-of"] == {
            "id": "vendor/unheard-of", "route_id": "mine", "capabilities": ["transcription"],
        }  # fmt: skip
