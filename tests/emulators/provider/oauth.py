"""POST /auth/keys: a code from the browser, with its verifier, becomes a key."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tests.emulators.provider.answers import Answer, Asked, Refused
from tests.emulators.provider.wire import Name, Wire, parse

if TYPE_CHECKING:
    from tests.emulators.provider.emulator import OpenRouterEmulator


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a code was given for: the challenge, and the method that it was made by (S256 or plain)."""

    text: str
    method: str = "S256"


class KeyRequest(Wire):
    code: Name
    code_verifier: Name | None = None
    code_challenge_method: Literal["S256", "plain"] | None = None


async def exchange(emulator: OpenRouterEmulator, asked: Asked) -> Answer:
    """The stand-in's key, once a code."""
    request = parse(KeyRequest, asked.body)
    challenge = emulator.codes.get(request.code)
    if challenge is None:
        raise Refused(403, "Invalid code or code_verifier")
    if (request.code_challenge_method or challenge.method) != challenge.method:
        raise Refused(400, "Invalid code_challenge_method")
    if challenged(request.code_verifier or "", challenge.method) != challenge.text:
        raise Refused(403, "Invalid code or code_verifier")
    del emulator.codes[request.code]
    return Answer(payload={"key": emulator.key, "user_id": "user_emulated"})


def challenged(verifier: str, method: str) -> str:
    """The challenge that belongs to a verifier."""
    if method == "plain":
        return verifier
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
