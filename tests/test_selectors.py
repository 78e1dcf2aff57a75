"""Selectors: one split, every refusal, and what holds for any route and any model."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from kheish_mcp.errors import InvalidArgument, NotFound
from kheish_mcp.selectors import LONGEST, Selector, parse_selector, select

ROUTES: Mapping[str, str] = {"openrouter": "openrouter", "work": "openrouter", "openai": "openai", "local": "local"}
ALONE: Mapping[str, str] = {"openrouter": "openrouter"}

SHOWN = st.characters(exclude_categories=("C", "Z"))
ROUTE_IDS = st.text(SHOWN.filter(lambda character: character != "/"), min_size=1, max_size=20)
DRIVERS = st.sampled_from(["openrouter", "openai", "local"])
ROUTE_TABLES = st.dictionaries(ROUTE_IDS, DRIVERS, max_size=4)
NAMES = st.text(SHOWN, min_size=1, max_size=40)
VENDORED = st.builds("{}/{}".format, ROUTE_IDS, NAMES)


@pytest.mark.parametrize(
    ("text", "routes", "meant"),
    [
        ("openrouter/openai/gpt-5.4-mini", ALONE, Selector("openrouter", "openai/gpt-5.4-mini")),
        ("openrouter/anthropic/claude-sonnet-4", ALONE, Selector("openrouter", "anthropic/claude-sonnet-4")),
        ("google/gemini-2.5-pro", ALONE, Selector(None, "google/gemini-2.5-pro")),
        ("gpt-5.4-mini", ALONE, Selector(None, "gpt-5.4-mini")),
        ("openrouter", ALONE, Selector(None, "openrouter")),
        ("openrouter/auto", ALONE, Selector(None, "openrouter/auto")),
        ("openrouter/openrouter/auto", ALONE, Selector("openrouter", "openrouter/auto")),
        ("work/auto", ROUTES, Selector(None, "work/auto")),
        ("work/openrouter/auto", ROUTES, Selector("work", "openrouter/auto")),
        ("openai/gpt-5.4-mini", ROUTES, Selector("openai", "gpt-5.4-mini")),
        ("openai/openai/gpt-5.4-mini", ROUTES, Selector("openai", "openai/gpt-5.4-mini")),
        ("local/espeak-ng", ROUTES, Selector("local", "espeak-ng")),
        ("Local/espeak-ng", ROUTES, Selector(None, "Local/espeak-ng")),
        ("  local/ espeak-ng\n", ROUTES, Selector("local", "espeak-ng")),
        ("openrouter/meta/llama:free", ALONE, Selector("openrouter", "meta/llama:free")),
        ("/gpt-5.4-mini", ROUTES, Selector(None, "/gpt-5.4-mini")),
        ("openai/gpt-5.4-mini", {}, Selector(None, "openai/gpt-5.4-mini")),
    ],
)
def test_a_selector_is_split_once(text: str, routes: Mapping[str, str], meant: Selector):
    assert parse_selector(text, routes) == meant


@pytest.mark.parametrize("text", ["openrouter/", "openrouter/ ", "local/"])
def test_a_route_without_a_model_is_refused(text: str):
    with pytest.raises(InvalidArgument, match="names a route and no model") as refused:
        parse_selector(text, ROUTES)
    assert refused.value.hint == f"Write {text.strip()}MODEL."


@pytest.mark.parametrize(
    "text",
    ["", "   ", "a\nb", "a\x00b", "a\x1b[31m", "a\u202eb", "a\u200bb", "a\ud800", "x" * (LONGEST + 1)],
)
@pytest.mark.parametrize("as_provider", [False, True])
def test_what_no_selector_can_be_is_refused_and_not_repeated(text: str, as_provider: bool):
    with pytest.raises(InvalidArgument) as refused:
        select("gpt", text, ROUTES) if as_provider else select(text, None, ROUTES)
    assert refused.value.message.startswith("A provider" if as_provider else "A selector")
    assert not text.strip() or text not in f"{refused.value.message}{refused.value.hint}"


def test_the_longest_selector_is_taken():
    assert parse_selector("x" * LONGEST, ROUTES) == Selector(None, "x" * LONGEST)
    assert parse_selector(" " + "x" * LONGEST + " ", ROUTES) == Selector(None, "x" * LONGEST)


@pytest.mark.parametrize(
    ("model", "provider", "meant"),
    [
        (None, None, Selector()),
        (None, "local", Selector("local")),
        ("espeak-ng", "local", Selector("local", "espeak-ng")),
        ("local/espeak-ng", "local", Selector("local", "espeak-ng")),
        ("openai/gpt-5.4-mini", None, Selector("openai", "gpt-5.4-mini")),
        ("google/gemini-2.5-pro", "openrouter", Selector("openrouter", "google/gemini-2.5-pro")),
        ("openrouter/auto", "openrouter", Selector("openrouter", "openrouter/auto")),
        ("openrouter/openai/gpt-5.4-mini", "openrouter", Selector("openrouter", "openai/gpt-5.4-mini")),
        ("google/gemini-2.5-pro", " openrouter ", Selector("openrouter", "google/gemini-2.5-pro")),
        ("openrouter/auto", "local", Selector("local", "openrouter/auto")),
    ],
)
def test_provider_and_model_make_one_choice(model: str | None, provider: str | None, meant: Selector):
    assert select(model, provider, ROUTES) == meant


def test_the_page_s_example_means_what_the_page_says():
    assert select("openai/gpt-5.4-mini", "openrouter", ALONE) == Selector("openrouter", "openai/gpt-5.4-mini")


def test_a_contradiction_names_both_routes_and_its_hint_resolves_it():
    with pytest.raises(InvalidArgument, match=r"provider says route openrouter.* begins with route openai") as refused:
        select("openai/gpt-5.4-mini", "openrouter", ROUTES)
    assert "openrouter/openai/gpt-5.4-mini" in str(refused.value.hint)
    meant = select("openrouter/openai/gpt-5.4-mini", "openrouter", ROUTES)
    assert meant == Selector("openrouter", "openai/gpt-5.4-mini")


def test_an_unknown_provider_lists_the_routes_and_the_nearest():
    with pytest.raises(NotFound, match=r"no route 'opnrouter'\. Did you mean openrouter\?") as refused:
        select(None, "opnrouter", ROUTES)
    assert refused.value.hint == "provider is a route id: openrouter, work, openai, local."
    with pytest.raises(NotFound) as refused:
        select(None, "Local", {})
    assert refused.value.hint == "provider is a route id: none is there."


@given(ROUTE_TABLES, ROUTE_IDS, DRIVERS, VENDORED)
def test_the_prefix_never_reaches_the_model(routes: dict[str, str], route_id: str, driver: str, model: str):
    routes = {**routes, route_id: driver}
    assert parse_selector(f"{route_id}/{model}", routes) == Selector(route_id, model)
    assert select(f"{route_id}/{model}", route_id, routes) == Selector(route_id, model)


@given(ROUTE_TABLES, st.text(max_size=80) | VENDORED)
@example({"openrouter": "openrouter"}, "openrouter/auto")
@example({"local": "local"}, "local/local/x")
@example({"local": "local"}, "local/ x")
def test_a_choice_written_down_is_the_same_choice(routes: dict[str, str], text: str):
    for route_id in ("", *(f"{known}/" for known in routes)):
        try:
            chosen = parse_selector(f"{route_id}{text}", routes)
        except InvalidArgument:
            continue
        assert parse_selector(str(chosen), routes) == chosen
        assert chosen.route_id is None or chosen.route_id in routes


@given(ROUTE_TABLES, VENDORED)
def test_a_model_of_no_route_is_kept_whole(routes: dict[str, str], model: str):
    assume(model.partition("/")[0] not in routes)
    assert parse_selector(model, routes) == Selector(None, model)


@given(ROUTE_TABLES, ROUTE_IDS, ROUTE_IDS, VENDORED)
def test_provider_and_prefix_agree_or_are_refused(routes: dict[str, str], one: str, other: str, model: str):
    assume(one != other)
    routes = {**routes, one: "openrouter", other: "local"}
    for provider, prefix in ((one, other), (other, one)):
        with pytest.raises(InvalidArgument) as refused:
            select(f"{prefix}/{model}", provider, routes)
        assert f"route {provider}," in refused.value.message
        assert f"route {prefix}." in refused.value.message
