"""A provider's failure becomes ours: the right class, its own best sentence, no secret, and when to come back."""

from __future__ import annotations

import email.utils
import json
import time
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kheish_mcp.drivers.refusals import LASTING, LONGEST, failure_of, malformed, number, refusal_of
from kheish_mcp.errors import (
    DeadlineExceeded,
    InvalidArgument,
    KheishError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from kheish_mcp.secret import Secret

KEY = Secret("sk-or-v1-refusals0123456789abcdef")
UPSTREAM = {
    "error": {
        "code": 429,
        "message": "Provider returned error",
        "metadata": {
            "raw": "glm-5.3 is temporarily rate-limited upstream. Please retry shortly...",
            "provider_name": "BaseTen",
            "error_type": "rate_limit_exceeded",
            "remedy_hint": "Retry shortly, or route to another provider",
        },
        "availability": {"code": "capacity_exhausted", "retryable": True, "retry_after": 40},
    }
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def said(body: Any, status: int = 400) -> str:
    """The sentence that is made of a body."""
    return refusal_of(status, {}, body).message


def error(message: Any, **facts: Any) -> dict[str, Any]:
    """The documented envelope."""
    return {"error": {"message": message, **facts}}


@pytest.mark.parametrize(
    ("status", "kind", "retryable", "possibly_billed"),
    [
        (400, InvalidArgument, False, False),
        (401, Unauthenticated, False, False),
        (402, ResourceExhausted, False, False),
        (403, PermissionDenied, False, False),
        (404, NotFound, False, False),
        (408, DeadlineExceeded, True, False),
        (413, InvalidArgument, False, False),
        (422, InvalidArgument, False, False),
        (429, ResourceExhausted, True, False),
        (500, Unavailable, True, False),
        (502, Unavailable, True, False),
        (503, Unavailable, True, False),
        (504, DeadlineExceeded, False, True),
        (524, DeadlineExceeded, False, True),
        (529, Unavailable, True, False),
        (307, Unavailable, False, False),
        (405, Unavailable, False, False),
    ],
)
def test_the_status_decides(status: int, kind: type[KheishError], retryable: bool, possibly_billed: bool):
    # The body claims another one: it is not heard on this.
    refusal = refusal_of(status, {}, error("It went wrong.", code=418))
    assert type(refusal) is kind
    assert refusal.message.endswith(": It went wrong.")
    assert refusal.retryable is retryable
    assert refusal.details == {"status": status, "possibly_billed": possibly_billed}
    assert refusal.hint


@pytest.mark.parametrize(
    ("facts", "kind", "status"),
    [
        ({"code": 402}, ResourceExhausted, 402),
        ({"code": "429"}, ResourceExhausted, 429),
        ({"http_status": 403}, PermissionDenied, 403),
        ({"code": "server_error"}, Unavailable, 502),
        ({"code": 200}, Unavailable, 502),
        ({"code": 4290}, Unavailable, 502),
        ({}, Unavailable, 502),
    ],
)
def test_an_error_in_a_200_is_judged_by_the_status_it_names_and_may_have_been_billed(
    facts: dict[str, Any], kind: type[KheishError], status: int
):
    refusal = refusal_of(200, {}, error("No.", **facts))
    assert type(refusal) is kind
    assert (refusal.details["status"], refusal.details["possibly_billed"]) == (status, True)


def test_the_upstream_s_own_words_stand_where_the_message_says_nothing():
    refusal = refusal_of(429, {}, UPSTREAM)
    assert refusal.message == (
        "The provider refused: glm-5.3 is temporarily rate-limited upstream. Please retry shortly..."
    )
    assert refusal.hint == "Retry shortly, or route to another provider"
    assert refusal.retry_after_s == 40
    assert refusal.details["provider_name"] == "BaseTen"
    assert refusal.details["error_type"] == "rate_limit_exceeded"
    assert refusal.details["availability"] == "capacity_exhausted"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"error": "model not loaded"}, "model not loaded."),
        ("error code: 524", "error code: 524."),
        ({"detail": "Not authenticated"}, "Not authenticated."),
        ({"detail": {"error": "bad_voice", "message": "There is no such voice!"}}, "There is no such voice!"),
        ({"detail": {"error": "bad_voice"}}, "bad_voice."),
        ({"detail": [{"loc": ["body", "speed"], "msg": "too fast"}]}, "body.speed: too fast."),
        ({"success": False, "error": {"name": "ZodError", "message": '[{"path":["input_audio","format"],"message":"Bad"}]'}},
         "input_audio.format: Bad."),
        ({"success": False, "error": {"name": "ZodError", "message": "[oops"}}, "[oops."),
        ({"choices": [{"error": {"code": 502, "message": "Half way"}}]}, "Half way."),
        (error("Provider returned error", metadata={"raw": '{"error":{"message":"Bad prompt"}}'}), "Bad prompt."),
        (error("Provider returned error", metadata={"raw": {"error": {"message": "Bad prompt"}}}), "Bad prompt."),
        (error("Provider returned error", metadata={"raw": "{broken"}), "{broken."),
        (error("Provider returned error", metadata=None), "Provider returned error."),
        (error(None, metadata="x", availability=[]), "status 400 without a reason."),
        (error({"deep": "er"}), "status 400 without a reason."),
        ("<!DOCTYPE html><html><body>Bad gateway", "status 400 without a reason."),
        (error("Provider returned error", metadata={"raw": "<html><h1>502</h1></html>"}), "Provider returned error."),
        (error("Line one\r\nline\x00two \u202etext\u200b"), "Line one line two text."),
        (None, "status 400 without a reason."),
        ([], "status 400 without a reason."),
        ({"error": []}, "status 400 without a reason."),
    ],
)  # fmt: skip
def test_the_best_sentence_is_found_in_every_shape_that_errors_have(body: Any, sentence: str):
    assert said(body) == f"The provider refused: {sentence}"


def test_a_sentence_is_at_most_500_characters():
    assert len(said(error("long " * 1000))) <= LONGEST + len("The provider refused: .")


def test_no_secret_is_told_wherever_the_provider_repeats_it():
    key = KEY.reveal()
    body = error(
        f"Bad header Authorization: Bearer {key}",
        metadata={
            "raw": key, "provider_name": key, "error_type": key, "remedy_hint": f"Replace {key}", "reasons": [key, {"k": key}],
        },
        availability={"code": key},
    )  # fmt: skip
    shown = json.dumps(refusal_of(400, {"retry-after": key}, body, (KEY,)).as_json())
    assert key not in shown
    assert key[9:] not in shown


def test_a_secret_is_taken_out_before_the_sentence_is_cut():
    key = KEY.reveal()
    for before in range(LONGEST - len(key), LONGEST + 2):
        assert key[:12] not in refusal_of(400, {}, error("x" * before + key), (KEY,)).message


def test_somebody_else_s_key_is_no_sentence_either_but_the_word_bearer_is():
    assert "sk-proj-abc" not in said(error("Incorrect API key provided: sk-proj-abcdefghij."))
    assert said(error("Missing Bearer token.")) == "The provider refused: Missing Bearer token."


def test_moderation_s_reasons_are_kept_and_the_flagged_text_is_not():
    metadata = {"reasons": ["violence"], "flagged_input": "my secret plan", "provider_name": "OpenAI"}
    refusal = refusal_of(403, {}, error("Flagged.", metadata=metadata))
    assert refusal.details["reasons"] == ["violence"]
    assert "my secret plan" not in json.dumps(refusal.as_json())


def test_guardrail_patterns_are_reasons_too_and_not_more_than_twenty():
    refusal = refusal_of(403, {}, error("Blocked.", metadata={"patterns": [f"p{n}" for n in range(90)]}))
    assert refusal.details["reasons"] == [f"p{n}" for n in range(20)]


def test_the_provider_s_own_next_step_comes_first_then_the_driver_s_then_ours():
    remedy = error("No.", metadata={"remedy_hint": "Do this."})
    assert refusal_of(402, {}, remedy, (), {402: "Top up."}).hint == "Do this."
    assert refusal_of(402, {}, error("No."), (), {402: "Top up."}).hint == "Top up."
    assert "out of credit" in (refusal_of(402, {}, error("No.")).hint or "")


@pytest.mark.parametrize("retryable", [True, False])
def test_the_provider_says_whether_to_try_again(retryable: bool):
    for status in (429, 503, 404):
        assert refusal_of(status, {}, error("No.", availability={"retryable": retryable})).retryable is retryable


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [("7", 7.0), (" 1.5 ", 1.5), ("0", 0.0), ("", 40.0), ("soon", 40.0), ("-3", 40.0), ("nan", 40.0), ("\u0667", 40.0),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("99999999999999999999", 40.0)],
)  # fmt: skip
def test_when_to_come_back_is_a_number_or_a_date_or_in_the_body(stated: str, seconds: float):
    assert refusal_of(429, {"retry-after": stated}, UPSTREAM).retry_after_s == seconds


def test_a_date_to_come_back_is_counted_from_now():
    stated = email.utils.formatdate(time.time() + 90, usegmt=True)
    waited = refusal_of(503, {"retry-after": stated}, None).retry_after_s
    assert waited is not None
    assert 85 < waited <= 90


@pytest.mark.parametrize("stated", [-1, "soon", True, None, float("nan"), float("inf"), 10**400, [1]])
def test_a_wait_that_is_none_is_left_out(stated: Any):
    refusal = refusal_of(429, {}, error("No.", availability={"retry_after": stated}))
    assert "retry_after_s" not in refusal.as_json()


@given(json_values, st.integers(100, 999), st.text(max_size=40))
def test_no_body_whatever_breaks_the_refusal(body: Any, status: int, retry_after: str):
    shapes = (body, {"error": body}, {"detail": body}, {"choices": body}, {"choices": [{"error": body}]})
    for shape in (
        *shapes,
        error(body),
        error("x", metadata=body, availability=body),
        error("[" + json.dumps(body) + "]"),
    ):
        shown = refusal_of(status, {"retry-after": retry_after}, shape, (KEY,)).as_json()
        assert json.loads(json.dumps(shown, allow_nan=False)) == shown
        assert len(str(shown["message"])) < 2 * LONGEST
        assert not [character for character in str(shown["message"]) if ord(character) < 32]


# What the HTTP library raises


def every_exception() -> list[type[Exception]]:
    """Every exception that the library makes public."""
    public = (getattr(httpx2, name) for name in dir(httpx2))
    return [kind for kind in public if isinstance(kind, type) and issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", every_exception(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("left", [True, False])
def test_every_exception_of_the_http_library_is_a_refusal_that_knows_the_money(kind: type[Exception], left: bool):
    broken = kind.__new__(kind)
    broken.args = (f"Illegal header value b'Bearer {KEY.reveal()}'",)
    refusal = failure_of(broken, "home", left=left)
    assert isinstance(refusal, Unavailable | DeadlineExceeded)
    assert refusal.details == {"possibly_billed": left}
    assert refusal.retryable is (not left and kind.__name__ not in LASTING)
    assert KEY.reveal() not in json.dumps(refusal.as_json())


@pytest.mark.parametrize(
    ("kind", "code", "word"),
    [
        (httpx2.ConnectError, Unavailable, "reached"),
        (httpx2.ConnectTimeout, Unavailable, "reached"),
        (httpx2.ReadTimeout, DeadlineExceeded, "silent"),
        (httpx2.RemoteProtocolError, Unavailable, "broke"),
    ],
)
def test_the_most_specific_word_is_chosen(kind: type[httpx2.TransportError], code: type[KheishError], word: str):
    refusal = failure_of(kind("x"), "home", left=False)
    assert type(refusal) is code
    assert word in refusal.message
    assert "home" in refusal.message


def test_a_200_without_sense_may_have_been_billed_and_is_not_worth_a_blind_second_try():
    refusal = malformed("The answer is half a table.", b'{"data":')
    assert (refusal.details, refusal.retryable) == ({"possibly_billed": True}, False)
    assert refusal.remains == (b'{"data":',)
    assert "data" not in json.dumps(refusal.as_json()).replace("possibly_billed", "")


def test_a_number_is_finite_and_not_negative():
    assert [number(value) for value in (0, 1.5, 10**15)] == [0.0, 1.5, 1e15]
    for value in (-1, True, "1", None, float("nan"), float("inf"), 10**400):
        assert number(value) is None
