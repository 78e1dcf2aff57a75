"""Prices: what is stated is counted, what is not stated is unknown, and never nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kheish_mcp.capabilities import EditRequest, ImageRequest, ModelCard, SpeechRequest, TranscriptionRequest
from kheish_mcp.drivers.local import Local
from kheish_mcp.media import Media, Pcm
from kheish_mcp.prices import RULES, Amount, amount_of, estimate_usd, told
from kheish_mcp.workers import Workers

PICTURE = Amount(pictures=1)
UNITS = (
    "image_out", "image_out:2k", "megapixel_out", "image_token_out", "image_in", "character", "second", "token_in",
    "token_out", "audio_token_in", "audio_token_out", "request",
)  # fmt: skip


def card(model: str = "vendor/model", **prices: float) -> ModelCard:
    """A model with these prices."""
    return ModelCard(model, (), prices={unit.replace("_at_", ":"): usd for unit, usd in prices.items()})


def drawn(model: ModelCard, amount: Amount = PICTURE) -> float | None:
    """What pictures cost."""
    return estimate_usd(model, "image_generation", amount)


# What is not known


@pytest.mark.parametrize("flag", [*RULES, "multimodal_input", "native_web_search"])
def test_a_model_that_nothing_is_known_of_has_no_price(flag: str):
    everything = Amount(1, 1, "1k", "low", 1, 1, 1.0, 1, 1)
    assert estimate_usd(None, flag, everything) is None
    assert estimate_usd(card(), flag, everything) is None


@pytest.mark.parametrize(
    ("flag", "prices", "amount"),
    [
        ("image_generation", {"token_in": 0.0, "token_out": 0.0}, PICTURE),
        ("image_edit", {"image_in": 0.01, "request": 0.01}, PICTURE),
        ("audio_generation", {"token_in": 0.1, "token_out": 0.1}, Amount(characters=9)),
        ("transcription", {"second": 0.1}, Amount()),
        ("transcription", {"token_in": 0.1}, Amount(seconds=1)),
        ("transcription", {"token_out": 0.1}, Amount(seconds=1)),
        ("text", {"token_in": 0.1}, Amount(tokens_in=1, tokens_out=1)),
        ("text", {"token_in": 0.1, "token_out": 0.1}, Amount(tokens_in=1)),
        ("text", {"token_in": 0.1, "token_out": 0.1}, Amount(tokens_out=1)),
        ("multimodal_input", {"image_in": 1.0}, Amount(references=1)),
    ],
)
def test_prices_of_something_else_or_of_an_unknown_amount_say_nothing(
    flag: str, prices: dict[str, float], amount: Amount
):
    assert estimate_usd(card(**prices), flag, amount) is None


@given(
    flag=st.sampled_from(list(RULES)),
    prices=st.dictionaries(st.sampled_from(UNITS), st.floats(1e-9, 1), max_size=6),
    amount=st.builds(
        Amount, pictures=st.integers(1, 4), characters=st.integers(1, 10**5), seconds=st.floats(0.1, 1e4),
        tokens_in=st.integers(1, 10**6), tokens_out=st.integers(1, 10**5), tier=st.sampled_from(["", "1k", "4k", "x"]),
    ),
)  # fmt: skip
def test_an_estimate_is_unknown_or_more_than_nothing(flag: str, prices: dict[str, float], amount: Amount):
    estimate = estimate_usd(ModelCard("v/m", (), prices=prices), flag, amount)
    assert estimate is None or (estimate > 0 and math.isfinite(estimate))
    assert estimate is not None or not prices.keys() & {"image_out"} or not flag.startswith("image")


def test_only_a_stated_zero_is_free():
    assert drawn(card(image_out=0.0)) == 0.0
    for own in Local(Workers()).models():
        assert estimate_usd(own, own.capabilities[0], Amount(pictures=3, characters=9, seconds=9.0)) == 0.0
        assert own.price == "free"


# Pictures


def test_pictures_cost_their_number_and_what_they_are_worked_from():
    model = card(image_out=0.04, image_in=0.003, request=0.01)
    assert drawn(model, Amount(pictures=3, references=2)) == pytest.approx(0.136)
    assert estimate_usd(model, "image_edit", Amount(pictures=1, references=1)) == pytest.approx(0.053)


def test_a_tier_has_its_own_price_and_an_open_one_the_highest():
    model = card(image_out_at_1k=0.03, image_out_at_4k=0.12, image_out=0.01)
    assert drawn(model, Amount(pictures=1, tier="1k")) == 0.03
    assert drawn(model, Amount(pictures=1, tier="2k")) == 0.12
    assert drawn(model) == 0.12


def test_a_variant_is_chosen_by_as_much_as_it_says():
    model = ModelCard("v/m", (), prices={"image_out:low_1k": 0.01, "image_out:low_2k": 0.02, "image_out:high_2k": 0.2})
    costs = {
        ("1k", "low"): 0.01,
        ("2k", "low"): 0.02,
        ("2k", "high"): 0.2,
        ("2k", ""): 0.2,
        ("", "low"): 0.02,
        ("1k", "high"): 0.2,
    }
    for (tier, quality), usd in costs.items():
        assert drawn(model, Amount(pictures=1, tier=tier, quality=quality)) == usd
    tiers = card(image_out_at_1k=0.03, image_out_at_2k=0.06)
    assert drawn(tiers, Amount(pictures=1, tier="1k", quality="high")) == 0.03


def test_an_area_is_paid_by_the_begun_megapixel():
    model = card(megapixel_out=0.014)
    assert drawn(model, amount_of(ImageRequest("a pier", size="1024x576"))) == pytest.approx(0.014)
    assert drawn(model, amount_of(ImageRequest("a pier", size="1025x1024"))) == pytest.approx(0.028)
    assert drawn(model, amount_of(ImageRequest("a pier", size="4K"))) == pytest.approx(19 * 0.014)


def test_google_s_pictures_are_paid_by_their_tier():
    model = card("google/gemini-2.5-flash-image", image_token_out=0.00003)
    assert drawn(model) == pytest.approx(0.0387)
    assert drawn(model, amount_of(ImageRequest("a pier", size="4096x4096"))) == pytest.approx(2520 * 0.00003)


@pytest.mark.parametrize(
    ("request_", "tokens"),
    [
        (ImageRequest("a pier", quality="low"), 408),
        (ImageRequest("a pier", quality="medium", size="1024x1024"), 1584),
        (ImageRequest("a pier", quality="high"), 6240),
        (ImageRequest("a pier", quality="auto"), 6240),
        (ImageRequest("a pier"), 6240),
        (ImageRequest("a pier", quality="low", size="3072x2048"), 4 * 408),
    ],
)
def test_openai_s_pictures_are_paid_by_quality_and_area(request_: ImageRequest, tokens: int):
    model = card("openai/gpt-image-2", image_token_out=0.00001)
    assert drawn(model, amount_of(request_)) == pytest.approx(tokens * 0.00001)


def test_a_fixed_price_that_comes_by_the_token_is_put_together_again():
    model = card("sourceful/riverflow-v2.5-pro", image_token_out=0.13 / 4175)
    assert drawn(model) == pytest.approx(0.13)
    assert drawn(replace(model, id="~sourceful/riverflow-latest"), Amount(pictures=1, tier="4k")) is None


def test_an_alias_is_paid_as_its_vendor():
    assert drawn(card("~google/gemini-image-latest", image_token_out=0.00001)) == pytest.approx(0.0129)


# Sound and text


def test_speech_is_paid_by_the_character():
    amount = amount_of(SpeechRequest("Grüße, 世界!"))
    assert amount.characters == 10
    assert estimate_usd(card(character=0.000015), "audio_generation", amount) == pytest.approx(0.00015)


def test_speech_by_the_token_is_estimated_high():
    # A minute of quick speech: 900 characters, 25 tokens a second.
    model = card(token_in=0.000001, audio_token_out=0.00002)
    estimate = estimate_usd(model, "audio_generation", Amount(characters=900))
    assert estimate is not None
    assert 60 * 25 * 0.00002 < estimate < 4 * 60 * 25 * 0.00002


def test_a_song_has_one_price():
    song = replace(card(request=0.08), outputs=("audio",))
    assert estimate_usd(song, "audio_generation", Amount(characters=900)) == 0.08
    assert estimate_usd(replace(song, outputs=("speech",)), "audio_generation", Amount(characters=900)) is None
    assert estimate_usd(replace(song, prices={}), "audio_generation", Amount(characters=900)) is None


def test_sound_is_paid_by_its_own_length():
    pcm = Media(b"\x00\x00" * 32_000, "audio/pcm", pcm=Pcm(16_000))
    amount = amount_of(TranscriptionRequest(pcm))
    assert amount.seconds == pytest.approx(2.0)
    assert estimate_usd(card(second=0.0001), "transcription", amount) == pytest.approx(0.0002)


def test_sound_by_the_token_is_estimated_by_the_second():
    heard = estimate_usd(card(token_in=1e-6, token_out=1e-5), "transcription", Amount(seconds=10))
    dearer = estimate_usd(card(token_in=1e-6, audio_token_in=1e-5, token_out=1e-5), "transcription", Amount(seconds=10))
    assert heard == pytest.approx(10 * (32e-6 + 6e-5))
    assert dearer == pytest.approx(10 * (32e-5 + 6e-5))


def test_sound_of_unknown_length_has_no_price():
    assert amount_of(TranscriptionRequest(Media(b"nothing that is known", "audio/wav"))) == Amount()


def test_text_is_paid_by_what_is_read_looked_at_and_written():
    model = card(token_in=0.00000025, token_out=0.000002, image_in=0.001, request=0.01)
    amount = Amount(tokens_in=1000, tokens_out=500, references=2)
    assert estimate_usd(model, "text", amount) == pytest.approx(0.00025 + 0.001 + 0.002 + 0.01)


def test_an_edit_counts_its_pictures():
    pictures = (Media(b"one", "image/png"), Media(b"two", "image/png"))
    amount = amount_of(EditRequest("swap them", count=2, size="2K", quality="low", images=pictures))
    assert amount == Amount(pictures=2, tier="2k", quality="low", references=2)


# As a sentence


@pytest.mark.parametrize(
    ("prices", "sentence"),
    [
        ({}, None),
        ({"image_out": 0.0}, "free"),
        ({"image_out": 0.04}, "$0.04 a picture"),
        ({"image_out:1k": 0.0472851, "image_out:4k": 0.16}, "$0.04729 a picture at 1K, $0.16 a picture at 4K"),
        ({"character": 0.000015}, "$15.00 a million characters"),
        ({"second": 0.0001}, "$0.006 a minute of sound"),
        ({"token_in": 0.00000025, "token_out": 0.000002}, "$0.25 a million tokens read, $2.00 a million tokens written"),
        ({"image_token_out": 0.00003, "request": 0.0}, "$30.00 a million picture tokens"),
        ({"furlong": 3.0, "request": 0.0000001}, "$0.0000001 a request"),
    ],
)  # fmt: skip
def test_prices_are_told_in_units_that_people_know(prices: dict[str, float], sentence: str | None):
    assert told(prices) == sentence
