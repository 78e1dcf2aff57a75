"""Which route and model answer: the precedence as a property, and choices that last, are counted and are seen at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kheish_mcp.capabilities import Driver, Exchange
from kheish_mcp.catalog import Catalog, Offer
from kheish_mcp.conversation import ChatRequest, Reply, TextGeneration
from kheish_mcp.errors import Aborted, ConfigError, InvalidArgument
from kheish_mcp.routes import Route, Routes
from kheish_mcp.runtime import chosen_text
from kheish_mcp.selectors import OPEN, Selector, select, settle
from kheish_mcp.stores.database import Database
from kheish_mcp.stores.policy import Choice, Policy
from tests.children import meet, together

pytestmark = pytest.mark.anyio

NAMES = st.sampled_from([None, "a", "b", "c"])
CHOICES = st.builds(Selector, NAMES, st.sampled_from([None, "m1", "m2", "m3"]))
LAYERS = st.lists(CHOICES, max_size=5)
ROUTES = Routes(
    (
        Route("home", "openrouter", "vendor/first"),
        Route("local", "local"),
        Route("work", "openrouter", "vendor/second"),
    ),
    "home",
)


class Echo(Driver, TextGeneration):
    """A driver that exists for the catalog's questions."""

    name = provider = "echo"
    needs_key = False

    async def answer(
        self, model: str, request: ChatRequest, exchange: Exchange, said: Callable[[str], Awaitable[None]]
    ) -> Reply:
        return Reply("", model, "stop", {})


CATALOG = Catalog(
    Offer(route_id, "echo", Echo(), models={"text": (model,)})
    for route_id, model in (("home", "vendor/first"), ("work", "vendor/second"))
)


@asynccontextmanager
async def opened(state_root: Path) -> AsyncGenerator[Policy]:
    """The policy of a state root."""
    async with Database.open(state_root) as database:
        yield Policy(database)


# The table


@given(LAYERS, CHOICES)
def test_what_a_higher_choice_has_decided_no_lower_one_changes(higher: list[Selector], lower: Selector):
    before, after = settle(*higher), settle(*higher, lower)
    assert before.route_id in (None, after.route_id)
    assert before.model in (None, after.model)


@given(LAYERS)
def test_the_first_named_route_stands_and_a_model_never_moves_to_another_route(layers: list[Selector]):
    settled = settle(*layers)
    named = [layer.route_id for layer in layers if layer.route_id]
    assert settled.route_id == (named[0] if named else None)
    brought = [layer for layer in layers if layer.model == settled.model and layer.route_id in (None, settled.route_id)]
    assert settled.model is None or brought


@given(CHOICES, CHOICES, CHOICES)
def test_layers_may_be_settled_from_the_highest_down(first: Selector, second: Selector, third: Selector):
    assert settle(settle(first, second), third) == settle(first, second, third)


@pytest.mark.parametrize(
    "asked", [None, Selector("work", "call/model"), Selector(None, "call/model"), Selector("home")]
)
@pytest.mark.parametrize("session", [OPEN, Selector("work", "session/model"), Selector("home", "session/model")])
@pytest.mark.parametrize("chosen", [None, ("work", "chosen/model"), ("home", "chosen/model")])
async def test_call_before_session_before_set_model_before_the_file(
    state_root: Path, asked: Selector | None, session: Selector, chosen: tuple[str, str] | None
):
    async with opened(state_root) as policy:
        if chosen:
            await policy.choose(*chosen)
        await policy.choose_for_session("demo", "local", session)
        own = select(asked.model, asked.route_id, CATALOG.routes) if asked else OPEN
        backend = CATALOG.backend(TextGeneration, await policy.settle(own, "demo", "local"))
    layers = [asked or OPEN, session, Selector(*chosen) if chosen else OPEN, Selector("home")]
    route_id = next(layer.route_id for layer in layers if layer.route_id)
    files = {"home": "vendor/first", "work": "vendor/second"}
    models = [layer.model for layer in layers if layer.route_id in (None, route_id)]
    assert backend.route_id == route_id
    assert backend.model == next((model for model in models if model), files[route_id])


async def test_a_choice_for_one_session_is_nobody_else_s(state_root: Path):
    async with opened(state_root) as policy:
        await policy.choose_for_session("demo", "local", Selector("work", "x/y"))
        assert await policy.of_session("demo", "local") == Selector("work", "x/y")
        assert await policy.of_session("other", "local") == OPEN
        assert await policy.of_session("demo", "somebody") == OPEN
        assert await policy.of_session(None, "local") == OPEN
        await policy.choose_for_session("demo", "local", OPEN)
        assert await policy.of_session("demo", "local") == OPEN


# Choices for all sessions


async def test_a_choice_lasts_is_counted_and_is_seen_by_another_process_at_once(state_root: Path):
    async with opened(state_root) as policy, opened(state_root) as elsewhere:
        assert await elsewhere.choice() == Choice(0, OPEN)
        assert await policy.choose("work", "x/y") == Choice(1, Selector("work", "x/y"))
        assert await elsewhere.choice() == Choice(1, Selector("work", "x/y"))
    async with opened(state_root) as later:
        assert await later.choose("home", "x/z", expected_revision=1) == Choice(2, Selector("home", "x/z"))


async def test_a_choice_on_a_stale_revision_is_refused_and_changes_nothing(state_root: Path):
    async with opened(state_root) as policy:
        await policy.choose("work", "x/y")
        with pytest.raises(Aborted, match="revision 1, not at 0") as refused:
            await policy.choose("home", "x/z", expected_revision=0)
        assert refused.value.details == {"revision": 1}
        assert await policy.choice() == Choice(1, Selector("work", "x/y"))


def choose_once(state_root: Path, model: str) -> bool:
    """Chooses on the revision that everybody saw, in a process of its own."""
    import anyio

    async def main() -> bool:
        async with opened(state_root) as policy:
            meet()
            try:
                await policy.choose("home", model, expected_revision=0)
            except Aborted:
                return False
            return True

    return anyio.run(main)


def test_of_processes_that_choose_on_the_same_revision_one_succeeds(state_root: Path):
    assert sorted(together(choose_once, (state_root, "x/1"), (state_root, "x/2"), (state_root, "x/3"))) == [
        False, False, True,
    ]  # fmt: skip


# What a selector means as a choice


@pytest.mark.parametrize(
    ("text", "standing", "meant"),
    [
        ("home/a/b", OPEN, ("home", "a/b")),
        ("a/b", OPEN, ("home", "a/b")),
        ("a/b", Selector("work", "x/y"), ("work", "a/b")),
        ("home/a/b", Selector("work", "x/y"), ("home", "a/b")),
    ],
)
def test_a_model_without_a_route_stays_on_the_standing_one(text: str, standing: Selector, meant: tuple[str, str]):
    assert chosen_text(ROUTES, text, standing) == meant


@pytest.mark.parametrize("text", ["home", "home/", "", "local/espeak-ng"])
def test_a_choice_without_a_text_model_is_refused(text: str):
    with pytest.raises(InvalidArgument) as refused:
        chosen_text(ROUTES, text, OPEN)
    assert refused.value.hint


def test_a_choice_on_a_route_that_is_gone_is_refused():
    with pytest.raises(InvalidArgument):
        chosen_text(ROUTES, "a/b", Selector("gone", "x/y"))


def test_without_routes_nothing_can_be_chosen():
    with pytest.raises(ConfigError):
        chosen_text(None, "home/a/b", OPEN)
