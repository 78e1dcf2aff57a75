"""Event streams that end badly, and the error that hides in a choice."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from tests.emulators.provider.answers import DONE, ERROR_TYPES, Answer, event
from tests.emulators.provider.fault import Fault, Origins

CHAT = ("/chat/completions",)
STREAMS = (*CHAT, "/images")


def stream_error(code: int = 429) -> Fault:
    """An error half way through a stream whose status was 200; nobody pays for it."""

    def spoil(answer: Answer, _origins: Origins) -> Answer:
        half = first_half(answer)
        begun = next((read(piece) for piece in half if is_event(piece)), {})
        return replace(answer, events=(*half, *ending(begun, code)), cost=None)

    return Fault("error in the stream", spoil=spoil, paths=STREAMS)


def ending(begun: dict[str, Any], code: int) -> tuple[bytes, ...]:
    """The last events: a chat stream ends at its error, a picture's with the end mark after it."""
    error = {"message": "Provider returned error", "metadata": {"error_type": ERROR_TYPES.get(code, "unmapped")}}
    if "choices" not in begun:
        return event({"type": "error", "error": {"message": "Generation failed", "code": "server_error"}}), DONE
    choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error", "native_finish_reason": "error"}
    return (event({**begun, "error": {"code": code, **error}, "choices": [choice]}),)


def no_done() -> Fault:
    """A stream that closes cleanly before its finish, its usage and its end mark."""
    return Fault("no [DONE]", spoil=lambda answer, _o: replace(answer, events=first_half(answer)), paths=STREAMS)


def first_half(answer: Answer) -> tuple[bytes, ...]:
    """The events up to the middle; a request that asked for no stream cannot lose one."""
    if not answer.events:
        raise ValueError("this fault is for streams, and the request did not ask for one")
    return answer.events[: (len(answer.events) + 1) // 2]


def error_in_choice() -> Fault:
    """A chat answer with status 200 whose only choice ended in an error; nobody pays for it."""

    def spoil(answer: Answer, _origins: Origins) -> Answer:
        [choice] = (answer.payload or {})["choices"]
        error = {"code": "server_error", "message": "Provider returned error"}
        broken = {**choice, "finish_reason": "error", "error": error}
        return replace(answer, payload={**(answer.payload or {}), "choices": [broken]}, cost=None)

    return Fault("error in a choice", spoil=spoil, paths=CHAT)


def no_usage() -> Fault:
    """A good answer that does not say what it cost."""

    def spoil(answer: Answer, _origins: Origins) -> Answer:
        events = tuple(event(silent(read(piece))) if is_event(piece) else piece for piece in answer.events)
        payload = None if answer.payload is None else silent(answer.payload)
        return replace(answer, payload=payload, events=events)

    return Fault("no usage", spoil=spoil, paths=(*STREAMS, "/audio/transcriptions"))


def silent(body: dict[str, Any]) -> dict[str, Any]:
    """The same without its usage."""
    return {name: value for name, value in body.items() if name != "usage"}


def is_event(piece: bytes) -> bool:
    """Whether a piece of a stream carries an object."""
    return piece.startswith(b"data: {")


def read(piece: bytes) -> dict[str, Any]:
    """The object of an event."""
    body: dict[str, Any] = json.loads(piece.removeprefix(b"data: "))
    return body
