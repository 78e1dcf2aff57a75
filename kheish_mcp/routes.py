"""routes.toml, parsed once into routes."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from .errors import ConfigError, Json
from .secret import Secret
from .toml_positions import KeyPath, positions

LARGEST: Final = 1 << 20
MODEL_KEYS: Final = ("image_generation", "image_edit", "audio_generation", "transcription")
FLAGS: Final = ("multimodal_input", "native_web_search", *MODEL_KEYS)
PATHS: Final = {"openrouter": "/api/v1", "openai": "/v1"}
ACCOUNT_KEYS: Final = ("openai_auth_source", "openai_auth_file", "anthropic_auth_source", "anthropic_credentials_file")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a route may do at once and spend, in USD; None is no cap."""

    max_concurrency: int = 8
    max_cost_usd_per_call: float | None = None
    max_cost_usd_per_day: float | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One named way to a provider. `flags` are the capabilities that the file switches, `models` those it names."""

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


@dataclass(frozen=True, slots=True)
class _Rule:
    """One key: what its value has to be, in words, and whether a value is that."""

    must_be: str
    allows: Callable[[Any], bool]


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value == value.strip() and value.isprintable()


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


def _is_url(value: Any) -> bool:
    """Absolute http or https with a host; no user, query or fragment."""
    if not _is_name(value) or any(character.isspace() for character in value) or "\\" in value:
        return False
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return False
    plain = (
        parts.username is None and parts.password is None and not (parts.query or parts.fragment or value[-1] in "?#")
    )
    return parts.scheme in ("http", "https") and bool(parts.hostname) and plain


def _is_models(value: Any) -> bool:
    return _is_name(value) or (isinstance(value, list) and bool(value) and all(map(_is_name, value)))


NAME: Final = _Rule("a text without blanks around it", _is_name)
SWITCH: Final = _Rule("true or false", lambda value: isinstance(value, bool))
AMOUNT: Final = _Rule("an amount in USD, 0 or more", _is_amount)
TABLE: Final = _Rule("a table", lambda value: isinstance(value, dict))
TOP: Final = {
    "version": _Rule("1", lambda value: value == 1 and isinstance(value, int) and not isinstance(value, bool)),
    "default_route": NAME,
    "routes": TABLE,
}
ROUTE: Final = {
    "driver": NAME,
    "default_model": NAME,
    "model_support": _Rule("family or any", lambda value: value in ("family", "any")),
    "auth_ref": NAME,
    "api_key_env": NAME,
    "api_key": NAME,
    "base_url": _Rule("an absolute http(s) URL without user, query or fragment", _is_url),
    **dict.fromkeys(FLAGS, SWITCH),
    "models": TABLE,
    "limits": TABLE,
    "preferences": TABLE,
}
MODELS: Final = dict.fromkeys(MODEL_KEYS, _Rule("a model id, or a list of them", _is_models))
LIMITS: Final = {
    "max_concurrency": _Rule(
        "a whole number from 1 to 64", lambda value: isinstance(value, int) and value is not True and 1 <= value <= 64
    ),
    "max_cost_usd_per_call": AMOUNT,
    "max_cost_usd_per_day": AMOUNT,
}


def read_routes(path: Path, *, drivers: Mapping[str, frozenset[str]], default_route: str | None = None) -> Routes:
    """The routes of a file; ConfigError names the file, and never quotes what stands in it."""
    try:
        data = path.read_bytes()
        text = data.decode("utf-8") if len(data) <= LARGEST else ""
    except OSError as error:
        hint = "Name it with --routes-file, or leave that out for the built-in routes."
        raise ConfigError(f"{path}: the routes file cannot be read ({error.strerror}).", hint=hint) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: the routes file is not UTF-8.", hint="Save it as UTF-8.") from None
    if len(data) > LARGEST:
        raise ConfigError(
            f"{path}: the routes file is larger than {LARGEST:,} bytes.", hint="It should be a page or two."
        )
    return parse_routes(text, source=path, drivers=drivers, default_route=default_route)


def parse_routes(
    text: str, *, source: Path, drivers: Mapping[str, frozenset[str]], default_route: str | None = None
) -> Routes:
    """The routes of a text; `drivers` maps each driver to the capability flags that it has a backend for.

    `default_route` overrides the file's own. ConfigError for anything that cannot be meant, with file, line, column,
    key and the nearest known key.
    """
    try:
        loaded = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, column = _syntax_spot(str(error), text)
        raise ConfigError(
            f"{source}:{line}:{column}: this is not valid TOML.", hint="See routes.example.toml."
        ) from None
    except RecursionError:
        raise ConfigError(f"{source}: values are nested too deeply.", hint="See routes.example.toml.") from None
    return _File(source, positions(text), drivers).routes(loaded, default_route)


def _syntax_spot(message: str, text: str) -> tuple[int, int]:
    """Line and column from tomllib's message, which may quote the file and is therefore not shown."""
    import re

    match = re.search(r"\(at line (\d+), column (\d+)\)", message)
    return (int(match[1]), int(match[2])) if match else (text.count("\n") + 1, 1)


class _File:
    """One file on its way to routes; knows where everything stands, so that an error can say so."""

    def __init__(
        self, source: Path, spots: Mapping[KeyPath, tuple[int, int]], drivers: Mapping[str, frozenset[str]]
    ) -> None:
        self.source = source
        self.spots = spots
        self.drivers = drivers
        self.warnings: list[str] = []

    def routes(self, loaded: Mapping[str, Any], default_route: str | None) -> Routes:
        self._check((), loaded, TOP)
        tables: Mapping[str, Any] = loaded.get("routes", {})
        if not tables:
            raise self._error((), "there is no route in it", "Add one: [routes.openrouter].")
        routes = {route_id: self._route(route_id, table) for route_id, table in tables.items()}
        default = self._default(loaded, routes, default_route)
        ordered = [routes.pop(default), *(routes[route_id] for route_id in sorted(routes))]
        return Routes(tuple(ordered), default, self.source, tuple(self.warnings))

    def _default(self, loaded: Mapping[str, Any], routes: Mapping[str, Route], override: str | None) -> str:
        named = override or loaded.get("default_route")
        if named is None and len(routes) == 1:
            return next(iter(routes))
        if named is None:
            raise self._error(
                (), "default_route is missing, and there are several routes", f"One of: {', '.join(routes)}."
            )
        if named not in routes:
            spot: KeyPath = () if override else ("default_route",)
            raise self._error(spot, "default_route names no route of this file", _nearest(named, routes))
        return str(named)

    def _route(self, route_id: str, table: Any) -> Route:
        path: KeyPath = ("routes", route_id)
        if (
            not route_id
            or "/" in route_id
            or any(character.isspace() for character in route_id)
            or not route_id.isprintable()
        ):
            raise self._error(path, "a route id is not empty and holds neither / nor white space", "Rename the route.")
        if not isinstance(table, dict):
            raise self._error(path, "it must be a table", f"Write [routes.{route_id}].")
        self._driver(path, table)
        self._check(path, table, ROUTE)
        self._credentials(path, table)
        flags = {flag: bool(table[flag]) for flag in FLAGS if flag in table}
        self._backends(path, table["driver"], flags)
        return Route(
            route_id=route_id,
            driver=table["driver"],
            default_model=table.get("default_model"),
            model_support=table.get("model_support", "family"),
            auth_ref=table.get("auth_ref"),
            api_key_env=table.get("api_key_env"),
            api_key=Secret(table["api_key"]) if "api_key" in table else None,
            base_url=with_path(table["base_url"], table["driver"]) if "base_url" in table else None,
            flags=flags,
            models=self._models((*path, "models"), table.get("models", {})),
            limits=self._limits((*path, "limits"), table.get("limits", {})),
            preferences=table.get("preferences", {}),
        )

    def _driver(self, path: KeyPath, table: Mapping[str, Any]) -> None:
        driver = table.get("driver")
        if driver is None:
            raise self._error(path, "driver is missing", f"One of: {', '.join(sorted(self.drivers))}.")
        if driver not in self.drivers:
            raise self._error((*path, "driver"), "there is no such driver", _nearest(driver, self.drivers))
        accounts = [key for key in ACCOUNT_KEYS if key in table]
        if driver == "openrouter" and accounts:
            raise self._error(
                (*path, accounts[0]), "OpenRouter routes are API-key routes and take no account login", "Use auth_ref."
            )
        if driver != "local" and "default_model" not in table:
            raise self._error(path, "default_model is missing", 'Such as default_model = "openai/gpt-5.4-mini".')

    def _credentials(self, path: KeyPath, table: Mapping[str, Any]) -> None:
        named = [key for key in ("auth_ref", "api_key_env", "api_key") if key in table]
        if len(named) > 1:
            raise self._error((*path, named[1]), f"{named[0]} is there already", "A route has one source for its key.")
        if named == ["api_key"]:
            where = self._where((*path, "api_key"))
            self.warnings.append(f"{where}: the key stands in the file; `secrets set` and auth_ref would seal it.")

    def _backends(self, path: KeyPath, driver: str, flags: Mapping[str, bool]) -> None:
        for flag, wanted in flags.items():
            if wanted and flag not in self.drivers[driver]:
                raise self._error((*path, flag), f"the driver {driver} has no backend for it", "Take the line out.")

    def _models(self, path: KeyPath, table: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        self._check(path, table, MODELS)
        return {key: (value,) if isinstance(value, str) else tuple(value) for key, value in table.items()}

    def _limits(self, path: KeyPath, table: Mapping[str, Any]) -> Limits:
        self._check(path, table, LIMITS)
        return Limits(**table)

    def _check(self, path: KeyPath, table: Mapping[str, Any], rules: Mapping[str, _Rule]) -> None:
        """Every key is known and its value is what it must be; neither error quotes a value."""
        for key, value in table.items():
            rule = rules.get(key)
            if rule is None:
                raise self._error((*path, key), "there is no such key", _nearest(key, rules))
            if not rule.allows(value):
                raise self._error((*path, key), f"it must be {rule.must_be}", "See routes.example.toml.")

    def _where(self, path: KeyPath) -> str:
        line, column = next((self.spots[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.spots), (1, 1))
        return f"{self.source}:{line}:{column}"

    def _error(self, path: KeyPath, what: str, hint: str) -> ConfigError:
        table = f" in [{'.'.join(path[:-1])}]" if len(path) > 1 else ""
        key = f"{path[-1][:64]}{table}: " if path else ""
        return ConfigError(f"{self._where(path)}: {key}{what}.", hint=hint)


def _nearest(name: object, known: Mapping[str, object]) -> str:
    near = get_close_matches(str(name), known, 1)
    return f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."


def with_path(base_url: str, driver: str) -> str:
    """A base URL with the driver's own path where it has none, and without a slash at its end."""
    trimmed = base_url.rstrip("/")
    return trimmed + PATHS.get(driver, "") if not urlsplit(trimmed).path else trimmed


def builtin_routes(
    *, openrouter: bool, base_url: str | None = None, by_slot: bool = False, default_route: str | None = None
) -> Routes:
    """The routes where there is no file: local always, openrouter first while there is a key for it.

    `by_slot` says that the key is the slot openrouter.primary and not OPENROUTER_API_KEY.
    """
    local = Route("local", "local")
    routes = (local,)
    if openrouter:
        if base_url is not None and not _is_url(base_url):
            raise ConfigError(
                "OPENROUTER_BASE_URL is not an absolute http(s) URL.", hint="Such as https://host/api/v1."
            )
        remote = Route(
            "openrouter",
            "openrouter",
            "openai/gpt-5.4-mini",
            "any",
            auth_ref="openrouter.primary" if by_slot else None,
            api_key_env=None if by_slot else "OPENROUTER_API_KEY",
            base_url=with_path(base_url, "openrouter") if base_url else None,
        )
        routes = (remote, local)
    known = {route.route_id: route for route in routes}
    if default_route is not None and default_route not in known:
        raise ConfigError("The default route is none of the built-in routes.", hint=f"Known: {', '.join(known)}.")
    first = default_route or routes[0].route_id
    rest = tuple(route for route in routes if route.route_id != first)
    return Routes((known[first], *rest), first)
