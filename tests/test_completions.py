"""Completions: the values that may stand in an argument, narrowed by what stands in the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mcp_types as t
import pytest

from kheish_mcp.capabilities import ModelCard
from kheish_mcp.catalog import Catalog, Offer
from kheish_mcp.drivers.http import Endpoint
from kheish_mcp.drivers.openrouter.driver import OpenRouter
from kheish_mcp.mcp_server.completions import completions
from tests.conftest import environment
from tests.hosts import ERAS, call, client_of, daemon_of

SPEAKS = ModelCard("a/speaks", ("audio_generation",), ("Kore", "Puck"), outputs=("speech",))
SINGS = ModelCard("b/sings", ("audio_generation",), ("Puck", "nova"), outputs=("speech",))
DRAWS = ModelCard("a/draws", ("image_generation",), outputs=("image",))


def route(route_id: str, *cards: ModelCard) -> Offer:
    """A route whose provider listed these models."""
    driver = OpenRouter(Endpoint(route_id, "https://home.example/api/v1"))
    driver.learn(cards)
    return Offer(route_id, "openrouter", driver)


TABLE = Catalog([route("home", SPEAKS, DRAWS), route("away", SINGS, SPEAKS), Offer("gone", "openrouter", None)])


@pytest.mark.parametrize(
    ("argument", "typed", "chosen", "values"),
    [
        ("provider", "", {}, ("home", "away", "gone")),
        ("route_id", "a", {}, ("away",)),
        ("model", "", {}, ("a/speaks", "a/draws", "b/sings")),
        ("model", "a/d", {}, ("a/draws",)),
        ("model", "", {"provider": "away"}, ("b/sings", "a/speaks")),
        ("model", "", {"provider": "gone"}, ()),
        ("model", "home", {}, ()),
        ("model", "home/", {}, ("home/a/speaks", "home/a/draws")),
        ("model", "away/b", {}, ("away/b/sings",)),
        ("model", "gone/", {}, ()),
        ("voice", "", {}, ("Kore", "Puck", "nova")),
        ("voice", "", {"model": "b/sings"}, ("Puck", "nova")),
        ("voice", "P", {"model": "away/b/sings"}, ("Puck",)),
        ("voice", "", {"model": "vendor/unheard-of"}, ("Kore", "Puck", "nova")),
        ("voice", "", {"model": "home/", "provider": "home"}, ("Kore", "Puck")),
        ("voice", "", {"model": "\x00"}, ("Kore", "Puck", "nova")),
        ("voice", "kore", {}, ()),
        ("prompt", "", {}, ()),
    ],
)
def test_values_begin_with_what_was_typed_and_go_with_what_was_chosen(
    argument: str, typed: str, chosen: dict[str, str], values: tuple[str, ...]
):
    assert completions(TABLE, argument, typed, chosen) == values


ASSET = t.ResourceTemplateReference(type="ref/resource", uri="asset://{asset_id}")


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ERAS)
async def test_a_client_completes_assets_models_and_voices(mode: str, state_root: Path, workspace: Path):
    (workspace / "note.txt").write_text("a note")
    env = environment(state_root, KHEISH_WORKSPACE_ROOT=str(workspace))
    async with daemon_of(env) as daemon, client_of(daemon, mode) as client:
        kept = await call(client, "store_asset", source="note.txt")

        async def values(name: str, typed: str, **chosen: Any) -> list[str]:
            found = await client.complete(ASSET, {"name": name, "value": typed}, context_arguments=chosen or None)
            assert found.completion.total == len(found.completion.values)
            return found.completion.values

        assert await values("asset_id", kept["asset_id"][:8]) == [kept["asset_id"]]
        assert await values("asset_id", "nothing") == []
        assert await values("model", "esp") == ["espeak-ng"]
        assert await values("voice", "en-us+", model="espeak-ng") == ["en-us+f2", "en-us+f3"]
        assert await values("provider", "", model="svg") == ["local"]


@pytest.mark.anyio
async def test_a_hundred_values_are_sent_and_the_others_counted(state_root: Path):
    cards = tuple(ModelCard(f"v/{number:03}", ("text",), outputs=("text",)) for number in range(250))
    async with daemon_of(environment(state_root, OPENROUTER_API_KEY="sk-or-v1-nobody-takes-this-one")) as daemon:
        [driver] = [
            offer.driver for offer in daemon.inventory.catalog.offers if offer.driver and offer.driver.needs_key
        ]
        driver.learn(cards)
        async with client_of(daemon) as client:
            found = await client.complete(ASSET, {"name": "model", "value": "v/"})
    assert (len(found.completion.values), found.completion.total, found.completion.has_more) == (100, 250, True)
