"""Providers asked about keys: whether they take one, and for a new one."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final

import anyio
import anyio.to_thread

from ..capabilities import KeyStanding
from ..drivers import DRIVERS, open_driver
from ..drivers.http import Endpoint
from ..drivers.openrouter.driver import OpenRouter
from ..drivers.openrouter.keys import SignIn
from ..errors import DeadlineExceeded, FailedPrecondition, Json, UsageError
from ..routes import builtin_routes
from ..secret import Secret
from ..settings import Settings, withdraw_secrets
from ..stores.auth import AuthStore, Slot
from ..workers import Workers
from .callback import Callback
from .frame import awaited
from .runtime import opened

WAIT_S: Final = 600.0  # as long as a code lives


def standing_of(settings: Settings, slot: Slot) -> KeyStanding:
    """What the provider says of a slot's key, asked wherever routes send it; refuses where it is not taken there."""
    return anyio.run(_standing_of, settings, slot)


def signed_in(settings: Settings, *, by_hand: bool) -> Secret:
    """A new key of OpenRouter: through the browser of this machine, or with a code that the user brings."""
    sign_in = SignIn(address_of(settings, "openrouter") or "")
    withdraw_secrets()  # a browser that is started here may outlive us by days

    async def main() -> Secret:
        return await sign_in.key(await (_code_by_hand(sign_in) if by_hand else _code_by_browser(sign_in)))

    return awaited(main)


async def _standing_of(settings: Settings, slot: Slot) -> KeyStanding:
    key = AuthStore.of(settings).open(slot.slot_id)
    told = [await _asked(slot.provider, base_url, key) for base_url in await _places(settings, slot)]
    return told[0]


async def _asked(driver_name: str, base_url: str, key: Secret) -> KeyStanding:
    driver = open_driver(driver_name, Endpoint(driver_name, base_url, key), Workers())
    try:
        standing = await driver.check_key()
    finally:
        await driver.close()
    if standing is None:
        raise FailedPrecondition(f"Nobody can be asked about a key for {driver_name}.", hint="Use it, and see.")
    return standing


async def _places(settings: Settings, slot: Slot) -> list[str]:
    """The addresses of the routes that use the slot; without any, the provider's own."""
    async with opened(settings) as (inventory, _):
        known = inventory.routes.routes if inventory.routes is not None else ()
        using = {route.route_id for route in known if route.auth_ref == slot.slot_id and route.driver == slot.provider}
        found = [offer.base_url for offer in inventory.catalog.offers if offer.route_id in using and offer.base_url]
    own = address_of(settings, slot.provider)
    return list(dict.fromkeys(found)) or ([own] if own else [""])


def address_of(settings: Settings, provider: str) -> str | None:
    """Where a provider is when no route says otherwise; FailedPrecondition for one that no driver speaks to."""
    driver = DRIVERS.get(provider)
    if driver is None:
        raise FailedPrecondition(f"There is nobody to ask about a key for {provider}.", hint="Use it, and see.")
    if driver is OpenRouter:
        given = settings.openrouter_base_url
        return builtin_routes(openrouter=True, base_url=given, by_slot=True, default_route=None).routes[0].base_url or (
            driver.default_base_url
        )
    return driver.default_base_url


async def _code_by_hand(sign_in: SignIn) -> str:
    print(f"Open this page anywhere, sign in, and copy the code:\n{sign_in.page()}", file=sys.stderr)
    print("Code: ", end="", file=sys.stderr, flush=True)
    code = str(await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)).strip()
    if not code:
        raise UsageError("no code was given", hint="Run it again, and paste the code that the page shows.")
    return code


async def _code_by_browser(sign_in: SignIn) -> str:
    async with Callback.opened() as callback:
        page = sign_in.page(callback.url)
        print(f"Sign in in the browser; if none opens, open this page on this machine:\n{page}", file=sys.stderr)
        print("On a machine without a browser, use --no-browser.", file=sys.stderr, flush=True)
        await anyio.to_thread.run_sync(_open, page)
        with anyio.move_on_after(WAIT_S):
            return await callback.code()
    raise DeadlineExceeded("No browser came back within ten minutes.", hint="Run it again, or use --no-browser.")


def _open(page: str) -> None:
    with _stdout_for_talk():
        webbrowser.open(page)


@contextmanager
def _stdout_for_talk() -> Iterator[None]:
    """What a browser's starter prints goes to stderr: stdout is for data."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def as_json(standing: KeyStanding) -> dict[str, Json]:
    """A standing as commands show it."""
    return asdict(standing)
