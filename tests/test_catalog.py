"""The table between drivers and tools: which backend answers, and what is said where none can."""

from __future__ import annotations

import json

import pytest

from kheish_mcp.capabilities import (
    AudioGeneration,
    Capability,
    Driver,
    Exchange,
    Generation,
    ImageGeneration,
    ImageRequest,
    ModelCard,
    NativeWebSearch,
)
from kheish_mcp.catalog import Absence, Catalog, Offer
from kheish_mcp.errors import CapabilityUnavailable, InvalidArgument, NotFound
from tests.choices import chosen


class Painter(Driver, ImageGeneration):
    """A driver that does not exist yet: tools and catalog work with it all the same."""

    name = "painter"
    provider = "painters"
    needs_key = False

    def __init__(self, *known: str, open_ended: bool = True, lacks: str = "") -> None:
        self.known = known
        self.takes_any_model = open_ended  # type: ignore[misc]  # each test's own
        self.lacks = lacks

    def missing(self, capability: type[Capability]) -> tuple[str, str] | None:
        """What this installation lacks."""
        return (self.lacks, "pip install it") if self.lacks else None

    def models(self) -> tuple[ModelCard, ...]:
        """The models that it was made with."""
        return tuple(ModelCard(model, ("image_generation",)) for model in self.known)

    async def generate_image(self, model: str, request: ImageRequest, exchange: Exchange) -> Generation:
        """Nothing; the catalog never asks."""
        raise NotImplementedError


def offer(route_id: str, driver: Driver | None = None, **more: object) -> Offer:
    """A route of painters."""
    return Offer(route_id, "painter", driver, **more)  # type: ignore[arg-type]


def test_the_first_route_answers_and_a_named_one_beats_it():
    catalog = Catalog([offer("a", Painter()), offer("b", Painter())])
    assert chosen(catalog, ImageGeneration).route_id == "a"
    assert chosen(catalog, ImageGeneration, provider="b").route_id == "b"
    assert chosen(catalog, ImageGeneration, model="b/v/m").route_id == "b"
    assert chosen(catalog, ImageGeneration, model="b/v/m").model == "v/m"


def test_a_model_without_a_route_goes_where_it_is_named_else_where_any_is_taken():
    closed = Painter("svg", open_ended=False)
    named = offer("c", Painter(), models={"image_generation": ("v/special",)})
    catalog = Catalog([offer("a", closed), offer("b", Painter()), named])
    assert chosen(catalog, ImageGeneration, model="v/special").route_id == "c"
    assert chosen(catalog, ImageGeneration, model="v/other").route_id == "b"


def test_a_driver_with_models_of_its_own_takes_no_other():
    catalog = Catalog([offer("a", Painter("svg", open_ended=False))])
    with pytest.raises(InvalidArgument) as refusal:
        chosen(catalog, ImageGeneration, model="a/v/m")
    assert "svg" in str(refusal.value.hint)


def test_each_absence_has_its_reason_and_the_first_fix_is_the_hint():
    catalog = Catalog(
        [
            offer("nokey", absence=Absence("nokey", "it has no key", "set one")),
            offer("off", Painter(), flags={"image_generation": False}),
            offer("lacking", Painter(lacks="the extra is missing")),
        ]
    )
    assert not catalog.offers_any(ImageGeneration)
    with pytest.raises(CapabilityUnavailable) as refusal:
        chosen(catalog, ImageGeneration)
    told = refusal.value.message
    assert "nokey: it has no key" in told
    assert "off: image_generation is switched off in routes.toml" in told
    assert "lacking: the extra is missing" in told
    assert refusal.value.hint == "set one"


def test_what_a_driver_does_not_declare_it_does_not_offer():
    catalog = Catalog([offer("a", Painter())])
    assert catalog.offers_any(ImageGeneration)
    assert not catalog.offers_any(AudioGeneration)
    assert not catalog.offers_any(NativeWebSearch)
    with pytest.raises(CapabilityUnavailable, match="does not do this"):
        chosen(catalog, AudioGeneration, provider="a")


def test_a_route_that_cannot_names_those_that_can():
    catalog = Catalog([offer("off", Painter(), flags={"image_generation": False}), offer("on", Painter())])
    with pytest.raises(CapabilityUnavailable) as refusal:
        chosen(catalog, ImageGeneration, provider="off")
    assert "on" in str(refusal.value.hint)


def test_an_unknown_route_is_not_found_and_the_known_ones_are_named():
    catalog = Catalog([offer("a", Painter()), offer("b", Painter())])
    with pytest.raises(NotFound) as refusal:
        chosen(catalog, ImageGeneration, provider="z")
    assert "a, b" in json.dumps(refusal.value.as_json())


def test_without_routes_the_trouble_is_the_reason():
    catalog = Catalog([], trouble="routes.toml:3:1: this is not valid TOML.")
    assert "routes.toml:3:1" in catalog.why_not(ImageGeneration)
    assert "there are no routes" in Catalog([]).why_not(ImageGeneration)
