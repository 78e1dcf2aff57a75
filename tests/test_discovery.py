"""OpenRouter's catalogue: read leniently, asked for once, and used to refuse what would cost money in vain."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kheish_mcp.capabilities import (
    EditRequest,
    Exchange,
    ImageEdit,
    ImageGeneration,
    ImageRequest,
    ModelCard,
    MultimodalInput,
    SpeechRequest,
)
from kheish_mcp.catalog import Absence, Backend, Catalog, Offer
from kheish_mcp.drivers.http import Endpoint
from kheish_mcp.drivers.openrouter.discovery import decode_models, find, indexed, with_image_models, with_prices
from kheish_mcp.drivers.openrouter.driver import BUILT_IN, OpenRouter
from kheish_mcp.drivers.openrouter.narrowing import narrowed_picture, narrowed_speech
from kheish_mcp.errors import InvalidArgument, Json, KheishError, Unavailable
from kheish_mcp.media import Media
from kheish_mcp.prices import Amount, estimate_usd
from kheish_mcp.secret import Secret
from tests.choices import chosen
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import faults

KEY = "sk-or-v1-discovery0123456789abcdef0123456789abcd"
FLASH, GPT, MINI = "google/gemini-3.1-flash-image-preview", "openai/gpt-image-2", "openai/gpt-5-image-mini"
FLUX, BLIND, SIGHTED = "black-forest-labs/flux.2-klein", "z-ai/glm-5.3-flash", "openai/gpt-5.4-mini"
KOKORO, CHIRP = "hexgrad/kokoro-82m", "google/chirp-3"
PNG = Media(b"\x89PNG", "image/png")


@pytest.fixture
def emulator() -> Iterator[OpenRouterEmulator]:
    """The stand-in; at the end the key was nowhere but in its header."""
    with OpenRouterEmulator(key=KEY) as running:
        yield running
        assert running.violations == []


@pytest.fixture
async def driver(emulator: OpenRouterEmulator) -> AsyncGenerator[OpenRouter]:
    """A driver that has learned nothing yet."""
    opened = OpenRouter(Endpoint("home", emulator.base_url, Secret(KEY)))
    yield opened
    await opened.close()


async def taught(driver: OpenRouter) -> OpenRouter:
    """The driver after a discovery."""
    driver.learn(await driver.discover())
    return driver


def row(model: str = "vendor/model", **more: Json) -> dict[str, Json]:
    """A row of GET /models."""
    return {"id": model, "name": "Model", "architecture": {}, "pricing": {}, **more}


def modal(inputs: list[Json], outputs: list[Json]) -> dict[str, Json]:
    """An architecture."""
    return {"input_modalities": inputs, "output_modalities": outputs}


def listed(*rows: dict[str, Json], **more: Json) -> dict[str, Json]:
    """An answer that lists rows."""
    return {"data": list(rows), **more}


def one(*rows: dict[str, Json]) -> ModelCard:
    """The first card of an answer with these rows."""
    return decode_models(listed(*rows))[0]


# Reading a row


@pytest.mark.parametrize(
    ("inputs", "outputs", "flags"),
    [
        (["text"], ["image"], ("image_generation",)),
        (["text", "image"], ["image"], ("image_generation", "image_edit")),
        (["image", "text"], ["text", "image"], ("image_generation", "text", "image_edit", "multimodal_input")),
        (["text"], ["speech"], ("audio_generation",)),
        (["text", "audio"], ["text", "audio"], ("audio_generation", "text")),
        (["text"], ["speech", "audio"], ("audio_generation",)),
        (["audio"], ["transcription"], ("transcription",)),
        (["text"], ["text"], ("text",)),
        (["text", "image", "file"], ["text"], ("text", "multimodal_input")),
        (["text"], ["embeddings"], ()),
        (["text"], ["smell"], ()),
    ],
)
def test_a_model_does_what_its_modalities_say(inputs: list[Json], outputs: list[Json], flags: tuple[str, ...]):
    card = one(row(architecture=modal(inputs, outputs)))
    assert card.capabilities == flags
    assert (card.inputs, card.outputs) == (tuple(inputs), tuple(outputs))


def test_modalities_without_lists_are_read_from_the_sign():
    card = one(row(architecture={"modality": "text+image->text", "input_modalities": None, "output_modalities": None}))
    assert card.capabilities == ("text", "multimodal_input")


def test_the_example_of_the_documentation_is_read_whole():
    card = one(
        {
            "id": "openai/gpt-4o-mini-tts-2025-12-15", "canonical_slug": "openai/gpt-4o-mini-tts", "name": "OpenAI: TTS",
            "context_length": 4096, "hugging_face_id": None,
            "architecture": {**modal(["text"], ["speech"]), "instruct_type": None},
            "pricing": {"prompt": "0.000015", "completion": "0", "request": "0"},
            "top_provider": {"context_length": None, "max_completion_tokens": None}, "per_request_limits": None,
            "supported_parameters": [], "supported_voices": ["alloy", "nova"], "expiration_date": "2027-01-31",
        }
    )  # fmt: skip
    assert card.voices == ("alloy", "nova")
    assert card.formats == ("mp3", "wav", "pcm")
    assert card.prices == {"character": 0.000015}
    assert card.price == "$15.00 a million characters"
    assert card.context_tokens == 4096
    assert card.note == "It may be removed on 2027-01-31."
    assert card.aliases == ("openai/gpt-4o-mini-tts",)


def test_google_s_voices_give_samples_only():
    assert one(row("google/gemini-3.1-flash-tts", architecture=modal(["text"], ["speech"]))).formats == ("wav", "pcm")


TEXT, DRAWS, SPEAKS, HEARS = (
    modal(["text"], ["text"]), modal(["text"], ["image"]), modal(["text"], ["speech"]), modal(["audio"], ["transcription"])
)  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "pricing", "prices"),
    [
        (TEXT, {"prompt": "0.00000025", "completion": 0.000002}, {"token_in": 0.00000025, "token_out": 0.000002}),
        (TEXT, {"prompt": "0", "completion": "0", "image": "0"}, {"token_in": 0.0, "token_out": 0.0}),
        (TEXT, {"prompt": "-1", "completion": "-1"}, {}),
        (TEXT, {"prompt": "nan", "completion": "1e999", "request": True, "image": None, "audio": []}, {}),
        (TEXT, {"prompt": "1", "audio": "0.1", "image": "0.2", "request": "0.3", "web_search": "9"},
         {"token_in": 1.0, "audio_token_in": 0.1, "image_in": 0.2, "request": 0.3}),
        (DRAWS, {"prompt": "0", "completion": "0"}, {}),
        (DRAWS, {"prompt": "0", "completion": "0", "image_output": "0.00003"}, {"image_token_out": 0.00003}),
        (DRAWS, {"image": "0.003", "image_output": "0.04"}, {"image_out": 0.04, "image_in": 0.003}),
        (DRAWS, {"image_output": "0"}, {}),
        (SPEAKS, {"prompt": "0.000015", "completion": "0"}, {"character": 0.000015}),
        (SPEAKS, {"prompt": "0", "completion": "0"}, {}),
        (SPEAKS, {"prompt": "0.000001", "completion": "0.00002"}, {"token_in": 0.000001, "audio_token_out": 0.00002}),
        (SPEAKS, {"prompt": "0.1", "completion": "0.2", "audio_output": "0.3"}, {"token_in": 0.1, "audio_token_out": 0.3}),
        (HEARS, {"prompt": "0.0001", "completion": "0"}, {"second": 0.0001}),
        (HEARS, {"prompt": "0.1", "completion": "0.2", "audio": "0.3"},
         {"token_in": 0.1, "token_out": 0.2, "audio_token_in": 0.3}),
        (HEARS, {}, {}),
        (modal(["text"], ["audio"]), {"prompt": "0", "request": "0.08"}, {"token_in": 0.0, "request": 0.08}),
        (modal(["text"], ["video"]), {"prompt": "1"}, {}),
    ],
)  # fmt: skip
def test_prices_are_read_by_what_the_model_does_and_zeros_that_say_nothing_are_none(
    architecture: dict[str, Json], pricing: dict[str, Json], prices: dict[str, float]
):
    assert one(row(architecture=architecture, pricing=pricing)).prices == pytest.approx(prices)


@pytest.mark.parametrize("architecture", [TEXT, DRAWS, SPEAKS, HEARS])
def test_a_free_variant_is_free(architecture: dict[str, Json]):
    card = one(row("vendor/model:free", architecture=architecture, pricing={"prompt": "0", "completion": "0"}))
    amount = Amount(pictures=1, characters=9, seconds=9, tokens_in=9, tokens_out=9)
    assert card.capabilities
    assert estimate_usd(card, card.capabilities[0], amount) == 0.0
    assert card.price == "free"


def test_an_alias_of_a_family_is_what_it_points_to():
    family = row("~vendor/latest", architecture=None, alias_target={"slug": "vendor/model", "name": "Model"})
    alias = one(family, row(architecture=TEXT, pricing={"prompt": "1", "completion": "2"}))
    assert alias.id == "~vendor/latest"
    assert alias.capabilities == ("text",)
    assert alias.prices == {"token_in": 1.0, "token_out": 2.0}


def test_an_alias_of_nothing_is_still_listed():
    assert one(row("~vendor/latest", alias_target={"slug": "vendor/gone"})).capabilities == ()


# What cannot be read


@pytest.mark.parametrize(
    "body", [None, [], {}, {"data": None}, {"data": {}}, {"data": []}, {"data": [1, {}, {"id": 7}]}]
)
def test_an_answer_without_a_model_is_none(body: Json):
    with pytest.raises(Unavailable):
        decode_models(body)


def test_rows_that_cannot_be_read_do_not_take_the_others_along():
    cards = decode_models(
        listed({"id": ""}, {"id": "a\nb"}, {"id": "x" * 300}, row(), {"id": None}, row("vendor/other"))
    )
    assert [card.id for card in cards] == ["vendor/model", "vendor/other"]


KEYS = st.sampled_from(["id", "architecture", "pricing", "type", "values", "max"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    [
        "architecture", "pricing", "top_provider", "supported_voices", "supported_parameters", "context_length", "name",
        "canonical_slug", "expiration_date", "alias_target",
    ]
)  # fmt: skip


@given(spoiled=st.dictionaries(FIELDS, JSON), body=JSON)
def test_whatever_stands_in_a_row_it_gives_a_card_that_can_be_written_down(spoiled: dict[str, Any], body: Any):
    card = one({**row(architecture=DRAWS), **spoiled})
    assert card.id == "vendor/model"
    assert all(usd >= 0 for usd in card.prices.values())
    [drawing, *_] = with_image_models((card,), listed(row(supported_parameters=body)))
    assert json.dumps([drawing.sizes, drawing.formats, drawing.voices, dict(drawing.knobs)]).isascii()


# Picture parameters


def test_picture_parameters_narrow_and_unknown_descriptors_leave_every_value_open():
    described: dict[str, Json] = {
        "resolution": {"type": "enum", "values": ["1K", "2K", "1024x1024"]}, "size": {"type": "shape"},
        "seed": {"type": "boolean"}, "input_references": {"type": "range", "min": 1, "max": 14}, "style": None,
        "output_format": {"type": "enum", "values": ["png", "svg"]},
    }  # fmt: skip
    card = one(row(architecture=modal(["text", "image"], ["image"])))
    [drawing] = with_image_models((card,), listed(row(supported_parameters=described)))
    assert drawing.sizes == ("1K", "2K", "WxH")
    assert drawing.formats == ("png", "svg")
    assert drawing.most_references == 14
    assert drawing.knobs["size"] == drawing.knobs["style"] == ()
    assert drawing.capabilities == ("image_generation", "image_edit")


def test_a_model_that_takes_no_references_edits_nothing():
    card = one(row(architecture=modal(["text", "image"], ["image"])))
    none: Json = {"input_references": {"type": "range", "min": 0, "max": 0}}
    assert with_image_models((card,), listed(row(supported_parameters=none)))[0].capabilities == ("image_generation",)


def test_a_model_that_only_draws_and_is_only_listed_there_is_added():
    [text, drawing] = with_image_models((one(row()),), listed(row("vendor/new", architecture=DRAWS)))
    assert (text.knobs, drawing.id, drawing.capabilities) == ({}, "vendor/new", ("image_generation",))


# What pictures cost


def priced(*lines: dict[str, Json] | Json, prices: dict[str, float] | None = None) -> dict[str, float]:
    """A card's prices after one endpoint with these lines, and one without any."""
    body: Json = {"endpoints": [{"pricing": [*lines]}, {"pricing": None}, "none"]}
    return dict(with_prices(ModelCard("v/m", (), prices=prices or {}), body).prices)


def line(usd: Json, billable: Json = "output_image", unit: Json = "image", **more: Json) -> dict[str, Json]:
    """A line of a price list."""
    return {"billable": billable, "unit": unit, "cost_usd": usd, **more}


@pytest.mark.parametrize(
    ("lines", "prices"),
    [
        ([line(0.04)], {"image_out": 0.04}),
        ([line(0.03), line(0.04)], {"image_out": 0.04}),
        ([line(0.03, variant="1K"), line(0.12, variant="high_4k")], {"image_out:1k": 0.03, "image_out:high_4k": 0.12}),
        ([line(0.014, unit="megapixel")], {"megapixel_out": 0.014}),
        (
            [line(0.00003, unit="token"), line(5e-6, "input_text", "token")],
            {"image_token_out": 0.00003, "token_in": 5e-6},
        ),
        ([line(0.04), line(0.003, "input_image"), line(0.2, "input_reference")], {"image_out": 0.04, "image_in": 0.2}),
        ([line(0.04), line(9, unit="furlong"), line(9, "input_font"), line("x"), line(-1), 7], {"image_out": 0.04}),
        ([line(0)], {"image_out": 0.0}),
    ],
)
def test_the_dearest_of_each_kind_counts(lines: list[dict[str, Json]], prices: dict[str, float]):
    assert priced(*lines) == prices


def test_what_the_endpoints_say_of_pictures_beats_the_list_and_leaves_the_rest():
    listed_prices = {"image_token_out": 0.00001, "token_in": 0.5, "request": 0.1}
    assert priced(line(0.04), prices=listed_prices) == {"image_out": 0.04, "token_in": 0.5, "request": 0.1}
    assert priced(line(0.1, "input_text", "token"), prices=listed_prices) == listed_prices


@pytest.mark.parametrize("body", [None, [], {}, {"endpoints": None}, {"endpoints": [{"pricing": [None, "x"]}]}])
def test_endpoints_that_cannot_be_read_change_nothing(body: Json):
    card = ModelCard("v/m", (), prices={"image_token_out": 0.00001}, price="$10")
    assert with_prices(card, body) == card


# Finding a model by what people call it


INDEX = indexed(
    [
        ModelCard("a/b", (), price="$1", prices={"token_in": 1.0}, aliases=("a/b-2026",)),
        ModelCard("a/b:free", (), price="free"), ModelCard("a/b-2026-old", (), aliases=("a/b",)),
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "found", "price"),
    [
        ("a/b", "a/b", "$1"),
        ("a/b-2026", "a/b", "$1"),
        ("a/b:free", "a/b:free", "free"),
        ("a/b:online", "a/b", "$1"),
        ("a/b:nitro", "a/b", None),
        ("a/b-2026:free", "a/b", None),
        ("a/b@preset/mine", "a/b", "$1"),
        ("a/b:free@preset/mine", "a/b:free", "free"),
    ],
)
def test_variants_presets_and_aliases_lead_to_their_model(name: str, found: str, price: str | None):
    card = find(INDEX, name)
    assert card is not None
    assert (card.id, card.price) == (found, price)


@pytest.mark.parametrize("name", ["", "@preset/mine", "a/c", "a/c:free", ":free"])
def test_what_is_not_listed_is_not_found(name: str):
    assert find(INDEX, name) is None


# What a request may ask


def narrowed(**more: object) -> ImageRequest:
    """A picture as the model below may be asked for it."""
    knobs = {"resolution": ("1K", "2K"), "quality": ("low", "high"), "seed": (), "aspect_ratio": ("1:1", "auto")}
    return narrowed_picture(
        ModelCard("v/m", (), knobs=knobs), replace(ImageRequest("a pier"), **more)  # type: ignore[arg-type]
    )  # fmt: skip


def test_what_the_model_takes_passes_and_auto_goes_where_it_has_no_word_for_it():
    request = narrowed(size="2k", quality="auto", background="auto", aspect_ratio="auto", seed=0)
    assert request == ImageRequest("a pier", size="2k", aspect_ratio="auto", seed=0)
    assert narrowed(quality="high", aspect_ratio="1:1").quality == "high"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"size": "4K"}, "1K, 2K"),
        ({"size": "1024x1024"}, "aspect_ratio, quality, resolution, seed"),
        ({"quality": "medium"}, "low, high"),
        ({"background": "transparent"}, "quality"),
        ({"output_format": "webp"}, "quality"),
        ({"aspect_ratio": "16:9"}, "1:1"),
    ],
)
def test_what_the_model_does_not_take_is_refused_with_what_it_takes(asked: dict[str, object], told: str):
    with pytest.raises(InvalidArgument) as caught:
        narrowed(**asked)
    assert next(iter(asked)) in caught.value.message
    assert told in (caught.value.hint or "")


def test_a_model_that_nothing_is_known_of_may_be_asked_for_anything():
    request = ImageRequest("a pier", size="9K", quality="high", output_format="webp")
    assert narrowed_picture(None, request) is request
    assert narrowed_picture(ModelCard("v/m", ()), request) is request
    assert narrowed_speech(None, SpeechRequest("Hi", "nobody")).voice == "nobody"
    assert narrowed_speech(ModelCard("v/m", ()), SpeechRequest("Hi", "nobody")).voice == "nobody"


def test_too_many_references_are_refused():
    card = ModelCard("v/m", (), most_references=2)
    assert narrowed_picture(card, EditRequest("merge", images=(PNG, PNG)))
    with pytest.raises(InvalidArgument, match="at most 2"):
        narrowed_picture(card, EditRequest("merge", images=(PNG, PNG, PNG)))


def test_a_voice_is_the_model_s_own_and_its_first_by_default():
    card = ModelCard("v/m", (), voices=("Kore", *(f"voice-{n}" for n in range(40))))
    assert narrowed_speech(card, SpeechRequest("Hi")).voice == "Kore"
    assert narrowed_speech(card, SpeechRequest("Hi", "voice-7")).voice == "voice-7"
    with pytest.raises(InvalidArgument, match="'alloy'") as caught:
        narrowed_speech(card, SpeechRequest("Hi", "alloy"))
    assert "and 17 more" in (caught.value.hint or "")


# The driver


@pytest.mark.anyio
async def test_one_get_brings_all_models_and_one_more_their_picture_parameters(
    emulator: OpenRouterEmulator, driver: OpenRouter
):
    cards = {card.id: card for card in await driver.discover()}
    assert [(seen.path, seen.query) for seen in emulator.requests] == [
        ("/models", {"output_modalities": "all"}), ("/images/models", {}),
    ]  # fmt: skip
    assert cards[GPT].sizes == ("512", "1K", "2K", "4K", "WxH")
    assert cards[FLUX].capabilities == ("image_generation",)
    assert cards[KOKORO].voices == ("af_heart", "af_bella", "am_adam")
    assert cards[SIGHTED].capabilities == ("text", "multimodal_input")
    assert "tools" in cards[SIGHTED].parameters
    assert driver.models() == BUILT_IN


@pytest.mark.anyio
async def test_models_that_are_drawn_with_are_asked_for_their_prices(emulator: OpenRouterEmulator, driver: OpenRouter):
    emulator.always(faults.status(500, "Not now"), path=f"/images/models/{GPT}/endpoints")
    cards = {card.id: card for card in await driver.discover([FLASH, "vendor/new", GPT])}
    assert [seen.path for seen in emulator.requests[2:]] == [
        f"/images/models/{model}/endpoints" for model in (FLASH, GPT)
    ]
    assert cards[FLASH].prices == {"image_out": 0.04}
    assert cards[FLASH].price == "$0.04 a picture"
    assert "image_token_out" in cards[GPT].prices
    many = [card.id for card in cards.values()]
    emulator.requests.clear()
    await driver.discover(many)
    assert len(emulator.requests) <= 2 + 8


@pytest.mark.anyio
async def test_the_estimate_of_a_discovered_model_is_what_it_costs(emulator: OpenRouterEmulator, driver: OpenRouter):
    await taught(driver)
    made = await driver.generate_image(FLASH, ImageRequest("a pier"), Exchange())
    spoken = await driver.generate_audio("hexgrad/kokoro-82m", SpeechRequest("Hello there."), Exchange())
    estimates = (
        estimate_usd(driver.card(FLASH), "image_generation", Amount(pictures=1)),
        estimate_usd(driver.card(spoken.model), "audio_generation", Amount(characters=12)),
    )
    assert made.cost_usd == pytest.approx(0.04)
    assert estimates == pytest.approx([bill.cost for bill in emulator.ledger], rel=1e-6)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "fault",
    [faults.status(500, "Not now"), faults.malformed_json(), faults.status(200, shape="html"), faults.cut_body()],
    ids=lambda fault: fault.name,
)
async def test_a_discovery_that_fails_is_a_refusal_and_what_was_known_stays(
    emulator: OpenRouterEmulator, driver: OpenRouter, fault: faults.Fault
):
    emulator.always(fault, path="/models")
    with pytest.raises(KheishError):
        await driver.discover()
    assert driver.models() == BUILT_IN
    assert driver.can("image_edit", BLIND) is None


@pytest.mark.anyio
async def test_without_the_list_of_picture_models_pictures_are_only_not_narrowed(
    emulator: OpenRouterEmulator, driver: OpenRouter
):
    emulator.always(faults.status(404, "Not Found"), path="/images/models")
    await taught(driver)
    assert driver.can("image_edit", FLASH)
    card = driver.card(FLASH)
    assert card is not None
    assert (card.knobs, card.sizes) == ({}, ())


@pytest.mark.anyio
async def test_what_a_known_model_does_not_take_costs_nothing(emulator: OpenRouterEmulator, driver: OpenRouter):
    await taught(driver)
    emulator.requests.clear()
    for model, request in (
        (FLASH, ImageRequest("a pier", size="3K")),
        (MINI, ImageRequest("a pier", aspect_ratio="16:9")),
        (MINI + ":nitro", ImageRequest("a pier", output_format="webp")),
    ):
        with pytest.raises(InvalidArgument):
            await driver.generate_image(model, request, Exchange())
    with pytest.raises(InvalidArgument, match="no voice"):
        await driver.generate_audio(KOKORO, SpeechRequest("Hi", "alloy"), Exchange())
    assert emulator.requests == []
    spoken = await driver.generate_audio(KOKORO, SpeechRequest("Hi"), Exchange())
    assert spoken.media
    assert emulator.requests[0].body["voice"] == "af_heart"


# The catalog


def catalog(driver: OpenRouter, flags: dict[str, bool] | None = None, **models: str | tuple[str, ...]) -> Catalog:
    """A catalog of one route that names these models."""
    named = {flag: (model,) if isinstance(model, str) else model for flag, model in models.items()}
    return Catalog([Offer("home", "openrouter", driver, provider="openrouter", flags=flags or {}, models=named)])


def first(catalog: Catalog, kind: type[Any]) -> Backend[Any] | Absence:
    """The one cell of a row."""
    [cell] = catalog.row(kind)
    return cell


@pytest.mark.anyio
async def test_before_a_discovery_nothing_is_narrowed(driver: OpenRouter):
    table = catalog(driver, text=BLIND, image_edit=FLUX)
    for kind in (ImageEdit, MultimodalInput):
        assert isinstance(first(table, kind), Backend)
    assert chosen(table, ImageEdit, model=BLIND).model == BLIND


@pytest.mark.anyio
async def test_the_first_preference_that_exists_is_taken(driver: OpenRouter):
    await taught(driver)
    assert first(catalog(driver), ImageGeneration).models[0] == FLASH  # type: ignore[union-attr]
    driver.learn(tuple(card for card in driver.models() if card.id != FLASH))
    assert chosen(catalog(driver), ImageGeneration).models == (GPT, MINI)
    driver.learn(tuple(card for card in driver.models() if card.id not in (GPT, MINI)))
    assert chosen(catalog(driver), ImageGeneration).model == FLASH


@pytest.mark.anyio
async def test_models_that_a_route_names_are_left_out_where_they_cannot(driver: OpenRouter):
    await taught(driver)
    table = catalog(driver, image_edit=(FLUX, GPT, "vendor/new"))
    assert chosen(table, ImageEdit).models == (GPT, "vendor/new")
    gone = first(catalog(driver, image_edit=FLUX), ImageEdit)
    assert isinstance(gone, Absence)
    assert FLUX in gone.reason
    assert "such as google/gemini" in (gone.fix or "")


@pytest.mark.anyio
async def test_image_tools_are_gated_by_the_image_models_and_sight_by_the_text_model(driver: OpenRouter):
    await taught(driver)
    blind, sighted = catalog(driver, text=BLIND), catalog(driver, text=SIGHTED)
    assert isinstance(first(blind, MultimodalInput), Absence)
    assert isinstance(first(sighted, MultimodalInput), Backend)
    for table in (blind, sighted):
        assert table.offers_any(ImageGeneration)
        assert table.offers_any(ImageEdit)


@pytest.mark.anyio
async def test_a_named_model_that_cannot_is_refused_with_some_that_can(driver: OpenRouter):
    await taught(driver)
    table = catalog(driver)
    for model in (FLUX, BLIND, f"home/{FLUX}:nitro"):
        with pytest.raises(InvalidArgument, match="edits images") as caught:
            chosen(table, ImageEdit, model=model)
        assert f"Models that can: {FLASH}, {GPT}, {MINI}, " in (caught.value.hint or "")
    assert chosen(table, ImageGeneration, model=FLUX).model == FLUX
    assert chosen(table, ImageEdit, model="vendor/new").model == "vendor/new"


@pytest.mark.anyio
async def test_a_model_without_a_route_goes_to_the_route_that_knows_it(driver: OpenRouter):
    await taught(driver)
    unread = OpenRouter(Endpoint("away", "https://away.example/api/v1", Secret(KEY)))
    offers = [
        Offer(route, "openrouter", its, provider="openrouter") for route, its in (("away", unread), ("home", driver))
    ]
    table = Catalog(offers)
    assert chosen(table, ImageGeneration, model=FLUX).route_id == "home"
    assert chosen(table, ImageGeneration, model=FLASH).route_id == "away"
    assert chosen(table, ImageGeneration, model="vendor/new").route_id == "away"
