"""What each key of routes.toml has to be."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

MODEL_KEYS: Final = ("image_generation", "image_edit", "audio_generation", "transcription")
FLAGS: Final = ("multimodal_input", "native_web_search", *MODEL_KEYS)
KEY_SOURCES: Final = ("auth_ref", "api_key_env", "api_key")
ACCOUNT_KEYS: Final = ("openai_auth_source", "openai_auth_file", "anthropic_auth_source", "anthropic_credentials_file")
# Both are shown wherever a key is missing; a key that was put in their place must not be.
SLOT: Final = re.compile(r"(?!sk-)[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


@dataclass(frozen=True, slots=True)
class Rule:
    """One key: what its value has to be, in words, and whether a value is that."""

    must_be: str
    allows: Callable[[Any], bool]


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value == value.strip() and value.isprintable()


def _fits(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def is_url(value: Any) -> bool:
    """Absolute http or https with a host; no user, query or fragment."""
    if not _is_name(value) or re.search(r"[\s\\?#]", value):
        return False
    try:
        parts = urlsplit(value)
        return (
            parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
        )
    except ValueError:
        return False


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


def _is_models(value: Any) -> bool:
    return _is_name(value) or (isinstance(value, list) and bool(value) and all(map(_is_name, value)))


def _is_json(value: Any) -> bool:
    """What JSON can say: no dates, no inf and nan, and no number that JSON readers round."""
    if isinstance(value, dict | list):
        return all(map(_is_json, value.values() if isinstance(value, dict) else value))
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | bool) or _is_whole(value, -(1 << 53), 1 << 53)


NAME: Final = Rule("a text without blanks around it", _is_name)
SWITCH: Final = Rule("true or false", lambda value: isinstance(value, bool))
AMOUNT: Final = Rule("an amount in USD, 0 or more", _is_amount)
TABLE: Final = Rule("a table", lambda value: isinstance(value, dict))
TOP: Final = {
    "version": Rule("1, the one version there is", lambda value: _is_whole(value, 1, 1)),
    "default_route": NAME,
    "routes": TABLE,
}
ROUTE: Final = {
    "driver": NAME,
    "default_model": NAME,
    "model_support": Rule('"family" or "any"', lambda value: value in ("family", "any")),
    "auth_ref": Rule("the name of a slot", lambda value: _fits(SLOT, value)),
    "api_key_env": Rule("the name of a variable", lambda value: _fits(VARIABLE, value)),
    "api_key": NAME,
    "base_url": Rule("an absolute http(s) URL without user, query or fragment", is_url),
    **dict.fromkeys(FLAGS, SWITCH),
    "models": TABLE,
    "limits": TABLE,
    "preferences": Rule("a table of what JSON can say", lambda value: isinstance(value, dict) and _is_json(value)),
}
MODELS: Final = dict.fromkeys(MODEL_KEYS, Rule("a model id, or a list of them", _is_models))
LIMITS: Final = {
    "max_concurrency": Rule("a whole number from 1 to 64", lambda value: _is_whole(value, 1, 64)),
    "max_cost_usd_per_call": AMOUNT,
    "max_cost_usd_per_day": AMOUNT,
}
