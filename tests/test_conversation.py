"""The text row of the catalog: the route's default model, no switch, and a reason where nobody answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from kheish_mcp.capabilities import CAPABILITIES, Driver, Exchange
from kheish_mcp.catalog import Absence, Backend, Catalog, Offer
from kheish_mcp.conversation import ChatRequest, Reply, TextGeneration
from kheish_mcp.drivers import flags_by_driver
from kheish_mcp.drivers.local import Local
from kheish_mcp.errors import CapabilityUnavailable
from kheish_mcp.route_keys import FLAGS
from kheish_mcp.workers import Workers
from tests.choices import chosen


class Parrot(Driver, TextGeneration):
    """A driver that exists for the catalog's questions."""

    name = "parrot"
    provider = "parrot"
    needs_key = False

    async def answer(
        self, model: str, request: ChatRequest, exchange: Exchange, said: Callable[[str], Awaitable[None]]
    ) -> Reply:
        return Reply("", model, "stop", {})


def parrot(route_id: str = "home", **flags: bool) -> Offer:
    return Offer(route_id, "parrot", Parrot(), flags=flags, models={"text": ("ara/ararauna",)})


def local() -> Offer:
    return Offer("local", "local", Local(Workers()))


def test_a_text_route_answers_with_its_default_model():
    backend = chosen(Catalog([local(), parrot()]), TextGeneration)
    assert (backend.route_id, backend.models) == ("home", ("ara/ararauna",))


def test_a_named_model_goes_to_a_text_route_without_its_prefix():
    backend = chosen(Catalog([local(), parrot("a"), parrot("b")]), TextGeneration, model="b/psittacus/erithacus")
    assert (backend.route_id, backend.model) == ("b", "psittacus/erithacus")


def test_no_switch_of_routes_toml_turns_text_off():
    assert isinstance(Catalog([parrot(multimodal_input=False)]).row(TextGeneration)[0], Backend)
    assert TextGeneration not in CAPABILITIES
    assert "text" not in FLAGS
    assert all("text" not in flags for flags in flags_by_driver().values())


def test_a_route_that_cannot_answer_says_so():
    [cell] = Catalog([local()]).row(TextGeneration)
    assert isinstance(cell, Absence)
    assert "local does not do this" in cell.reason
    with pytest.raises(CapabilityUnavailable, match="No route answers in text") as refusal:
        chosen(Catalog([local()]), TextGeneration)
    assert "local: its driver" in refusal.value.message


def test_a_driver_that_says_nothing_of_its_models_takes_text_alone():
    assert (Parrot().sees("m"), Parrot().hears("m"), Parrot().context_tokens("m")) == (False, False, None)
