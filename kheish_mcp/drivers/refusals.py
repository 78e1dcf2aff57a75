"""A provider's failure as ours: the status decides first, then the body."""

from __future__ import annotations

import email.utils
import json
import re
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ..errors import (
    DeadlineExceeded,
    InvalidArgument,
    Json,
    KheishError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from ..secret import Secret, scrub

LONGEST: Final = 500
GENERIC: Final = frozenset({"provider returned error", "internal server error", ""})
KEYLIKE: Final = re.compile(r"\b(?:sk-[A-Za-z0-9_-]{8,}|Bearer\s+\S+)")

# Each status with our class, the hint, and whether the same call may work later.
BY_STATUS: Final[dict[int, tuple[type[KheishError], str, bool]]] = {
    400: (InvalidArgument, "Change the arguments; list_models shows what the model takes.", False),
    401: (Unauthenticated, "The key was not accepted: set it again with `kheish-daemon secrets set`.", False),
    402: (ResourceExhausted, "The account is out of credit: top it up at the provider.", False),
    403: (PermissionDenied, "The provider does not allow this.", False),
    404: (NotFound, "Choose another model; list_models shows them.", False),
    408: (DeadlineExceeded, "Try again.", True),
    413: (InvalidArgument, "Send less.", False),
    422: (InvalidArgument, "Change the arguments; list_models shows what the model takes.", False),
    429: (ResourceExhausted, "Wait, or use another model or route.", True),
    504: (DeadlineExceeded, "It may have been billed; see `kheish-daemon costs` before asking again.", False),
    524: (DeadlineExceeded, "It may have been billed; see `kheish-daemon costs` before asking again.", False),
}
OTHERWISE: Final = (Unavailable, "The provider failed: try again later, or another model or route.", True)
WORDS: Final = {401: "the key was not accepted", 402: "out of credit", 404: "not found", 429: "too many requests"}


def refusal_of(status: int, headers: Mapping[str, str], body: bytes, secrets: Iterable[Secret]) -> KheishError:
    """The refusal for an answer: code by status, the provider's own sentence without any secret, when to come back."""
    error = _error_of(body)
    kind, hint, retryable = BY_STATUS.get(status, OTHERWISE)
    sentence = _sentence(error, tuple(secrets)) or WORDS.get(status, f"status {status} without a reason")
    remedy = _clean(_text(_metadata(error), "remedy_hint"), tuple(secrets))
    wait = _wait(headers, error) if status in (429, 503) else None
    return kind(
        f"The provider refused: {sentence.rstrip('.')}.",
        hint=remedy or hint,
        retryable=retryable,
        retry_after_s=wait,
        details={"status": status, "possibly_billed": status in (504, 524), **_details(error, tuple(secrets))},
    )


def _error_of(body: bytes) -> dict[str, Any]:
    """The error object in whichever of the shapes that providers use; empty where there is none."""
    try:
        loaded = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    error = loaded.get("error", loaded.get("detail")) if isinstance(loaded, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else {}


def _metadata(error: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = error.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    return value if isinstance(value, str) else ""


def _sentence(error: Mapping[str, Any], secrets: tuple[Secret, ...]) -> str:
    """The most telling sentence: the message, or the upstream's own where the message says nothing."""
    for candidate in _candidates(error):
        cleaned = _clean(candidate, secrets)
        if cleaned.rstrip(".").lower() not in GENERIC:
            return cleaned
    return _clean(_text(error, "message"), secrets)


def _candidates(error: Mapping[str, Any]) -> Iterator[str]:
    message = _text(error, "message")
    yield _first_issue(message) or message
    raw = _text(_metadata(error), "raw")
    inner = _error_of(raw.encode("utf-8", "replace"))
    yield _text(inner, "message") or raw


def _first_issue(message: str) -> str | None:
    """The first problem of a validation error whose message is itself a JSON list."""
    try:
        issues = json.loads(message) if message.lstrip().startswith("[") else None
    except (ValueError, RecursionError):
        return None
    if isinstance(issues, list) and issues and isinstance(issues[0], dict):
        place = ".".join(str(step) for step in issues[0].get("path", []))
        return f"{place}: {_text(issues[0], 'message')}".strip(": ")
    return None


def _clean(text: str, secrets: tuple[Secret, ...]) -> str:
    """A sentence that may be shown: no secret, no markup, no control characters, at most 500 characters."""
    if re.search(r"<(?:!doctype|html|head|body)", text, re.IGNORECASE):
        return ""
    masked = KEYLIKE.sub("[secret]", scrub(text, secrets))
    plain = "".join(character if unicodedata.category(character)[0] != "C" else " " for character in masked)
    return " ".join(plain.split())[:LONGEST]


def _details(error: Mapping[str, Any], secrets: tuple[Secret, ...]) -> dict[str, Json]:
    """What a program can use: the kind of error, the provider behind, moderation's reasons."""
    metadata = _metadata(error)
    kept: dict[str, Json] = {
        key: _clean(_text(metadata, key), secrets) for key in ("error_type", "provider_name") if _text(metadata, key)
    }
    reasons = metadata.get("reasons") or metadata.get("patterns")
    if isinstance(reasons, list):
        kept["reasons"] = [_clean(str(reason), secrets) for reason in reasons[:20]]
    return kept


def _wait(headers: Mapping[str, str], error: Mapping[str, Any]) -> float | None:
    """Seconds to wait: Retry-After as a number or a date, else what the body says."""
    stated = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", stated):
        return float(stated)
    if stated:
        try:
            return max(0.0, round(email.utils.parsedate_to_datetime(stated).timestamp() - time.time(), 1))
        except ValueError:
            return None
    availability = error.get("availability")
    seconds = availability.get("retry_after") if isinstance(availability, dict) else None
    return float(seconds) if isinstance(seconds, int | float) and not isinstance(seconds, bool) else None
