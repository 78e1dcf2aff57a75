"""A provider's failure as ours: the status decides first, then the body."""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

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
from ..secret import KEYLIKE, MASK, Secret, scrub

LONGEST: Final = 500
MOST_REASONS: Final = 20
GENERIC: Final = frozenset({"provider returned error", "internal server error", ""})
MARKUP: Final = re.compile(r"<(?:!doctype|html|head|body|title)\b", re.IGNORECASE)

PERHAPS_BILLED: Final = "It may have been billed all the same; see `kheish-daemon costs` before asking again."
NOTHING_ASKED: Final = "Nothing was asked of it; look at the network and at the route's base_url, then try again."
OTHER_ARGUMENTS: Final = "Change the arguments; list_models shows what the model takes."


class Verdict(NamedTuple):
    """What a failure means: our class, the next step where the provider names none, whether a later try may work."""

    kind: type[KheishError]
    hint: str
    retryable: bool


BY_STATUS: Final[dict[int, Verdict]] = {
    400: Verdict(InvalidArgument, OTHER_ARGUMENTS, False),
    401: Verdict(Unauthenticated, "The key was not accepted: set it again with `kheish-daemon secrets set`.", False),
    402: Verdict(ResourceExhausted, "The account is out of credit: top it up at the provider.", False),
    403: Verdict(PermissionDenied, "The provider does not allow this request or this key.", False),
    404: Verdict(NotFound, "Choose another model; list_models shows them.", False),
    408: Verdict(DeadlineExceeded, "Try again.", True),
    413: Verdict(InvalidArgument, "Send less: fewer or smaller files, or a shorter text.", False),
    422: Verdict(InvalidArgument, OTHER_ARGUMENTS, False),
    429: Verdict(ResourceExhausted, "Wait, or use another model or route.", True),
    504: Verdict(DeadlineExceeded, PERHAPS_BILLED, False),
    524: Verdict(DeadlineExceeded, PERHAPS_BILLED, False),
}
FAILED: Final = Verdict(Unavailable, "Try again later, or another model or route.", True)
ASTRAY: Final = Verdict(Unavailable, "Look at the route's base_url and model.", False)
# A 200 is an answer that may have been billed, whatever it holds; so is what ran into somebody's deadline.
BILLABLE: Final = frozenset({200, 504, 524})
WORDS: Final = {401: "the key was not accepted", 402: "out of credit", 404: "not found", 429: "too many requests"}

# What happened to the line, by the name of the HTTP library's class or of one that it inherits.
FAILURES: Final[dict[str, tuple[type[KheishError], str]]] = {
    "ConnectError": (Unavailable, "cannot be reached"),
    "ConnectTimeout": (Unavailable, "cannot be reached"),
    "ProxyError": (Unavailable, "cannot be reached"),
    "PoolTimeout": (Unavailable, "has no free connection"),
    "UnsupportedProtocol": (Unavailable, "has an address that is not http or https"),
    "InvalidURL": (Unavailable, "has an address that cannot be read"),
    "LocalProtocolError": (Unavailable, "cannot be asked in HTTP what was to be asked"),
    "TimeoutException": (DeadlineExceeded, "fell silent"),
    "RemoteProtocolError": (Unavailable, "broke its answer off"),
    "DecodingError": (Unavailable, "packed its answer so that nobody can unpack it"),
    "NetworkError": (Unavailable, "broke the connection"),
    "HTTPError": (Unavailable, "broke the connection"),
    "StreamError": (Unavailable, "broke the connection"),
    "CookieConflict": (Unavailable, "broke the connection"),
}

# What no other attempt mends.
LASTING: Final = frozenset({"UnsupportedProtocol", "InvalidURL", "LocalProtocolError"})


def refusal_of(
    status: int,
    headers: Mapping[str, str],
    body: Json,
    secrets: Iterable[Secret] = (),
    hints: Mapping[int, str] = MappingProxyType({}),
) -> KheishError:
    """The refusal for an answer: class by status, the provider's own sentence without any secret, when to come back.

    `body` is the parsed JSON, None where it was none; `headers` have lower-case names; `hints` are the provider's next
    steps by status. A 200 that holds an error is judged by the status that the error names. details: `status`,
    `possibly_billed`, and what the provider says of the kind of error, of who failed, and of moderation's reasons.
    """
    error, known = error_in(body), tuple(secrets)
    stated = _status_in(error) if status == 200 else status
    verdict = BY_STATUS.get(stated, FAILED if stated >= 500 else ASTRAY)
    sentence = _sentence(error, known) or WORDS.get(stated, f"status {stated} without a reason")
    verb = "failed" if stated >= 500 else "refused"
    patience = _table(error, "availability").get("retryable")
    return verdict.kind(
        f"The provider {verb}: {sentence}{'' if sentence[-1] in '.!?' else '.'}",
        hint=_clean(_text(_table(error, "metadata"), "remedy_hint"), known) or hints.get(stated) or verdict.hint,
        retryable=patience if isinstance(patience, bool) else verdict.retryable,
        retry_after_s=_wait(headers, error),
        details={"status": stated, "possibly_billed": status in BILLABLE, **_details(error, known)},
    )


def failure_of(error: Exception, route_id: str, *, left: bool) -> KheishError:
    """The refusal for an exception of the HTTP library; `left` says that the whole request had gone out.

    The exception's own text is not kept: it may hold a header, and so the key.
    """
    # The order of inheritance is the order from the most specific name to the broadest.
    name = next(base.__name__ for base in type(error).__mro__ if base.__name__ in FAILURES)
    kind, what = FAILURES[name]
    return kind(
        f"The provider of route {route_id} {what}.",
        hint=PERHAPS_BILLED if left else NOTHING_ASKED,
        retryable=not left and name not in LASTING,
        details={"possibly_billed": left},
    )


def malformed(message: str, *remains: bytes) -> Unavailable:
    """The refusal for a 200 that makes no sense; it counts as an answer that may have been billed."""
    return Unavailable(message, hint=PERHAPS_BILLED, details={"possibly_billed": True}, remains=remains)


def error_in(body: Json) -> dict[str, Any]:
    """The error object of a body, as a table with a `message`; empty where there is none.

    Seen until 2026-11: `{"error": {...}}`, `{"error": "..."}`, FastAPI's `{"detail": ...}` with a text, a table or a list,
    an error inside the first of several results, and bare text. A null or empty `error` is no error.
    """
    if not isinstance(body, dict):
        return {"message": body} if isinstance(body, str) else {}
    error = body.get("error") or body.get("detail") or _nested(body.get("choices"))
    if isinstance(error, dict):
        return error
    return {"message": error if isinstance(error, str) else json.dumps(error)} if error else {}


def number(value: object) -> float | None:
    """A number of somebody's JSON that is finite and not negative, else None; Python reads Infinity, NaN and 10**400."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) and value >= 0 else None
    except OverflowError:
        return None


def _nested(choices: Json) -> Json:
    """The error of the first of several results; None where there is none."""
    first = choices[0] if isinstance(choices, list) and choices else None
    return first.get("error") if isinstance(first, dict) else None


def _status_in(error: Mapping[str, Any]) -> int:
    """The status that an error inside a 200 names; 502 where it names none."""
    for key in ("code", "http_status", "status"):
        text = str(error.get(key))
        if re.fullmatch(r"[45]\d\d", text):
            return int(text)
    return 502


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The table under a key; empty where something else stands there."""
    value = table.get(key)
    return value if isinstance(value, dict) else {}


def _text(table: Mapping[str, Any], key: str) -> str:
    """The text under a key; empty where something else stands there."""
    value = table.get(key)
    return value if isinstance(value, str) else ""


def _sentence(error: Mapping[str, Any], secrets: tuple[Secret, ...]) -> str:
    """The most telling sentence: the message, or the upstream's own where the message says nothing."""
    cleaned = [_clean(candidate, secrets) for candidate in _candidates(error)]
    telling = (sentence for sentence in cleaned if sentence.rstrip(".").lower() not in GENERIC)
    return next(telling, cleaned[0])


def _candidates(error: Mapping[str, Any]) -> Iterator[str]:
    """Sentences to choose from: the message, what the upstream's own error says, and its raw text."""
    message = _text(error, "message")
    yield _first_issue(message) or message or _text(error, "error")
    # The upstream's answer as text, mostly JSON again: "Provider returned error" is all that stands in front of it.
    raw = _table(error, "metadata").get("raw")
    inner = error_in(_parsed(raw) if isinstance(raw, str) else raw)
    yield _text(inner, "message")
    yield raw if isinstance(raw, str) else ""


def _parsed(text: str) -> Json:
    """A text as JSON; None where it is none."""
    try:
        loaded: Json = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return loaded


def _first_issue(message: str) -> str:
    """The first problem of a validation error whose message is a JSON list of them."""
    issues = _parsed(message) if message.lstrip().startswith("[") else None
    first = issues[0] if isinstance(issues, list) and issues else None
    if not isinstance(first, dict):
        return ""
    path = first.get("path", first.get("loc"))
    place = ".".join(str(step) for step in path) if isinstance(path, list) else ""
    return f"{place}: {_text(first, 'message') or _text(first, 'msg')}".strip(": ")


def _clean(text: str, secrets: tuple[Secret, ...]) -> str:
    """A sentence that may be shown: no secret, no markup, no control characters, at most 500 characters."""
    if MARKUP.search(text):
        return ""
    # The cut comes after the secrets are out, so that no half of one is left.
    masked = KEYLIKE.sub(MASK, scrub(text, secrets))[: 8 * LONGEST]
    plain = "".join(" " if unicodedata.category(character)[0] == "C" else character for character in masked)
    return " ".join(plain.split())[:LONGEST]


def _details(error: Mapping[str, Any], secrets: tuple[Secret, ...]) -> dict[str, Json]:
    """What a program can use: the kind of error, the provider behind, moderation's reasons; never the flagged text."""
    metadata = _table(error, "metadata")
    found = {
        "error_type": _text(metadata, "error_type") or _text(error, "error_type"),
        "provider_name": _text(metadata, "provider_name"),
        "availability": _text(_table(error, "availability"), "code"),
    }
    kept: dict[str, Json] = {key: _clean(value, secrets) for key, value in found.items() if value}
    reasons = metadata.get("reasons") or metadata.get("patterns")
    if isinstance(reasons, list):
        kept["reasons"] = [_clean(str(reason), secrets) for reason in reasons[:MOST_REASONS]]
    return kept


def _wait(headers: Mapping[str, str], error: Mapping[str, Any]) -> float | None:
    """Seconds to wait: Retry-After as a number or a date, else what the body says; None where nobody does."""
    stated = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", stated):
        return float(stated)
    try:
        then = email.utils.parsedate_to_datetime(stated)
        return max(0.0, round(then.timestamp() - time.time(), 1))
    except (ValueError, TypeError, IndexError, OverflowError):
        return number(_table(error, "availability").get("retry_after"))
