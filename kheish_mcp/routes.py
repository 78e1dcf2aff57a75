"""routes.toml, parsed once into routes."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from .errors import ConfigError, Json
from .route_keys import ACCOUNT_KEYS, FLAGS, KEY_SOURCES, LIMITS, MODELS, ROUTE, TOP, Rule, is_url
from .secret import Secret
from .toml_positions import KeyPath, positions

LARGEST: Final = 1 << 20
SHOWN: Final = 64
PATHS: Final = {"openrouter": "/api/v1", "openai": "/v1"}
BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
SPOT: Final = re.compile(r"\(at line (\d+), column (\d+)\)$")
EXAMPLE: Final = "See routes.example.toml."


@dataclass(frozen=True, slots=True)
class Limits:
    """What a route may do at once and spend, in USD; None is no cap."""

    max_concurrency: int = 8
    max_cost_usd_per_call: float | None = None
    max_cost_usd_per_day: float | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One named way to a provider. `flags` are the capabilities that the file switches, `models` those it names.

    At most one of `auth_ref` (a slot), `api_key_env` (a variable) and `api_key` is there. `base_url` ends without a
    slash; None is the driver's own.
    """

    route_id: str
    driver: str
    default_model: str | None = None
    model_support: str = "family"
    auth_ref: str | None = None
    api_key_env: str | None = None
    api_key: Secret | None = None
    base_url: str | None = None
    flags: Mapping[str, bool] = field(default_factory=dict)
    models: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    limits: Limits = Limits()
    preferences: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Routes:
    """All routes, the default first and the others by id; `source` is None for the built-in inventory."""

    routes: tuple[Route, ...]
    default_route: str
    source: Path | None = None
    warnings: tuple[str, ...] = ()


def read_routes(path: Path, *, drivers: Mapping[str, frozenset[str]], default_route: str | None = None) -> Routes:
    """The routes of a file of at most 1 MiB; ConfigError names the file, and never quotes what stands in it."""
    try:
        if path.exists() and not path.is_file():  # a pipe of that name would hold the daemon for ever
            raise ConfigError(f"{path}: the routes file is not a file.", hint="Name it with --routes-file.")
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        hint = "Name it with --routes-file or KHEISH_ROUTES_FILE, or leave both out for the built-in routes."
        raise ConfigError(f"{path}: the routes file cannot be read ({error.strerror}).", hint=hint) from None
    if len(data) > LARGEST:
        raise ConfigError(f"{path}: the routes file is larger than {LARGEST:,} bytes.", hint="A page or two will do.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: the routes file is not UTF-8.", hint="Save it as UTF-8.") from None
    return parse_routes(text, source=path, drivers=drivers, default_route=default_route)


def parse_routes(
    text: str, *, source: Path, drivers: Mapping[str, frozenset[str]], default_route: str | None = None
) -> Routes:
    """The routes of a text; `drivers` maps each driver to the capability flags that it has a backend for.

    `default_route` overrides the file's own. ConfigError for anything that cannot be meant, with file, line, column,
    key and the nearest known key in its message and in `details`, and never with a value.
    """
    try:
        loaded = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = SPOT.search(str(error))  # the message itself may quote the file
        spot = (int(match[1]), int(match[2])) if match else (text.count("\n") + 1, len(text) - text.rfind("\n"))
        raise _refusal(source, spot, "this is not valid TOML.") from None
    except (ValueError, RecursionError):
        raise _refusal(source, (1, 1), "a number is too long, or values are nested too deeply.") from None
    return _File(source, positions(text), drivers).routes(loaded, default_route)


def _refusal(source: Path, spot: tuple[int, int], what: str, hint: str = EXAMPLE, **details: Json) -> ConfigError:
    line, column = spot
    return ConfigError(
        f"{source}:{line}:{column}: {what}",
        hint=hint,
        details={"file": str(source), "line": line, "column": column, **details},
    )


class _File:
    """One file on its way to routes; knows where everything stands, so that an error can say so."""

    def __init__(
        self, source: Path, spots: Mapping[KeyPath, tuple[int, int]], drivers: Mapping[str, frozenset[str]]
    ) -> None:
        self.source = source
        self.spots = spots
        self.drivers = drivers
        self.warnings: list[str] = []

    def routes(self, loaded: Mapping[str, Any], override: str | None) -> Routes:
        self._check((), loaded, TOP)
        tables: Mapping[str, Any] = loaded.get("routes", {})
        if not tables:
            raise self._error(("routes",), "it holds no route", "Add one: [routes.openrouter].")
        routes = {route_id: self._route(route_id, table) for route_id, table in tables.items()}
        default = self._default(loaded.get("default_route"), tuple(routes), override)
        ordered = [routes.pop(default), *(routes[route_id] for route_id in sorted(routes))]
        return Routes(tuple(ordered), default, self.source, tuple(self.warnings))

    def _default(self, named: str | None, known: tuple[str, ...], override: str | None) -> str:
        path = ("default_route",)
        if named is not None and named not in known:
            raise self._error(path, "it names no route of this file", known=known, name=named)
        if override is not None and override not in known:
            what = "--default-route or KHEISH_DEFAULT_ROUTE names no route of this file"
            raise self._error((), what, known=known, name=override)
        if override is None and named is None and len(known) > 1:
            raise self._error(path, "it is missing, and there are several routes", f"One of: {_listed(known)}.")
        return override or named or known[0]

    def _route(self, route_id: str, table: Any) -> Route:
        path: KeyPath = ("routes", route_id)
        if not route_id or "/" in route_id or not route_id.isprintable() or re.search(r"\s", route_id):
            raise self._error(path, "a route id is not empty and holds neither / nor white space", "Rename the route.")
        if not isinstance(table, dict):
            raise self._error(path, "it must be a table", f"Write [routes.{_written(route_id)}].")
        self._accounts(path, table)
        self._check(path, table, ROUTE)
        self._driver(path, table)
        self._credentials(path, table)
        self._check((*path, "models"), table.get("models", {}), MODELS)
        self._check((*path, "limits"), table.get("limits", {}), LIMITS)
        return _route(route_id, table)

    def _accounts(self, path: KeyPath, table: Mapping[str, Any]) -> None:
        account = next((key for key in table if key in ACCOUNT_KEYS), None)
        if account is not None and table.get("driver") == "openrouter":
            what = "OpenRouter routes are API-key routes and take no account login"
            raise self._error((*path, account), what, "Seal a key with `secrets set` and name it with auth_ref.")

    def _driver(self, path: KeyPath, table: Mapping[str, Any]) -> None:
        driver = table.get("driver")
        if driver is None:
            raise self._error((*path, "driver"), "it is missing", f"One of: {_listed(sorted(self.drivers))}.")
        if driver not in self.drivers:
            known = sorted(self.drivers)
            what = f"there is no such driver among {_listed(known)}"
            raise self._error((*path, "driver"), what, known=known, name=driver)
        if driver != "local" and "default_model" not in table:
            example = 'Such as default_model = "openai/gpt-5.4-mini".'
            raise self._error((*path, "default_model"), "it is missing", example)
        for flag in FLAGS:
            if table.get(flag) and flag not in self.drivers[driver]:
                what = f"the driver {driver} has no backend for it, so it cannot be switched on"
                raise self._error((*path, flag), what, "Take the line out.")

    def _credentials(self, path: KeyPath, table: Mapping[str, Any]) -> None:
        named = [key for key in table if key in KEY_SOURCES]
        if len(named) > 1:
            raise self._error((*path, named[1]), f"{named[0]} is there already", "A route has one source for its key.")
        if named == ["api_key"]:
            line, column = self._spot((*path, "api_key"))
            self.warnings.append(
                f"{self.source}:{line}:{column}: the key stands in the file; `secrets set` and auth_ref would seal it."
            )

    def _check(self, path: KeyPath, table: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
        """Every key is known and its value is what it must be."""
        for key, value in table.items():
            rule = rules.get(key)
            if rule is None:
                raise self._error((*path, key), "there is no such key", known=rules, name=key)
            if not rule.allows(value):
                raise self._error((*path, key), f"it must be {rule.must_be}")

    def _spot(self, path: KeyPath) -> tuple[int, int]:
        """Where a key stands; where it is missing, its table, and at last the beginning of the file."""
        return next((self.spots[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.spots), (1, 1))

    def _error(
        self, path: KeyPath, what: str, hint: str = EXAMPLE, *, known: Collection[str] = (), name: str = ""
    ) -> ConfigError:
        """The refusal of a key; with `known`, it names the one nearest to `name`, and its hint lists them."""
        near = get_close_matches(name[:SHOWN], list(known), 1)
        hint = f"Known: {_listed(known)}." if known else hint
        table, key = ".".join(map(_written, path[:-1])), _written(path[-1]) if path else ""
        place = f"{key} in [{table}]: " if table else f"{key}: " if key else ""
        guess = f"; did you mean {_written(near[0])}?" if near else "."
        details: dict[str, Json] = {"table": table, "key": key, **({"nearest": near[0]} if near else {})}
        return _refusal(self.source, self._spot(path), f"{place}{what}{guess}", hint, **details)


def _route(route_id: str, table: Mapping[str, Any]) -> Route:
    """The route of a table that was checked."""
    models = {
        key: (value,) if isinstance(value, str) else tuple(value) for key, value in table.get("models", {}).items()
    }
    return Route(
        route_id=route_id,
        driver=table["driver"],
        default_model=table.get("default_model"),
        model_support=table.get("model_support", "family"),
        auth_ref=table.get("auth_ref"),
        api_key_env=table.get("api_key_env"),
        api_key=Secret(table["api_key"]) if "api_key" in table else None,
        base_url=_with_path(table["base_url"], table["driver"]) if "base_url" in table else None,
        flags={flag: table[flag] for flag in FLAGS if flag in table},
        models=models,
        limits=Limits(**table.get("limits", {})),
        preferences=table.get("preferences", {}),
    )


def _written(key: str) -> str:
    """A key as TOML writes it, without control characters and cut where it is too long to be one."""
    return key if BARE.fullmatch(key) and len(key) <= SHOWN else json.dumps(key[:SHOWN])


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(map(_written, keys))


def _with_path(base_url: str, driver: str) -> str:
    """A base URL with the driver's own path where it has none, and without a slash at its end."""
    trimmed = base_url.rstrip("/")
    return trimmed if urlsplit(trimmed).path else trimmed + PATHS.get(driver, "")


def with_address(routes: Routes, base_url: str | None) -> Routes:
    """The routes with `base_url` in place of OpenRouter's own address; ConfigError where it cannot be meant.

    A route that names its own keeps it.
    """
    if base_url is None:
        return routes
    address = _address(base_url)
    moved = (
        replace(route, base_url=address) if route.driver == "openrouter" and route.base_url is None else route
        for route in routes.routes
    )
    return replace(routes, routes=tuple(moved))


def builtin_routes(
    *, openrouter: bool, base_url: str | None = None, by_slot: bool = False, default_route: str | None = None
) -> Routes:
    """The routes where there is no file: local always, and before it openrouter while there is a key for it.

    `by_slot` says that the key is the slot openrouter.primary; else it is OPENROUTER_API_KEY, which as a variable
    beats the slot where both are there. ConfigError for a `base_url` or a `default_route` that cannot be meant.
    """
    local = Route("local", "local")
    routes = (_openrouter(base_url, by_slot=by_slot), local) if openrouter else (local,)
    ordered = sorted(routes, key=lambda route: route.route_id != default_route)
    if default_route is not None and ordered[0].route_id != default_route:
        raise ConfigError(
            "The default route is none of the built-in routes.",
            hint="local is always there; openrouter while OPENROUTER_API_KEY or the slot openrouter.primary is.",
        )
    return Routes(tuple(ordered), ordered[0].route_id)


def _address(base_url: str) -> str:
    if not is_url(base_url):
        raise ConfigError("OPENROUTER_BASE_URL is not an absolute http(s) URL.", hint="Such as https://host/api/v1.")
    return _with_path(base_url, "openrouter")


def _openrouter(base_url: str | None, *, by_slot: bool) -> Route:
    return Route(
        "openrouter",
        "openrouter",
        "openai/gpt-5.4-mini",
        "any",
        auth_ref="openrouter.primary" if by_slot else None,
        api_key_env=None if by_slot else "OPENROUTER_API_KEY",
        base_url=_address(base_url) if base_url is not None else None,
    )
