"""Answers that come late, slowly, in odd parts, or not to their end."""

from __future__ import annotations

import math
from dataclasses import replace

from tests.emulators.provider.answers import Answer, Delivery
from tests.emulators.provider.fault import Fault


def hang() -> Fault:
    """No byte until `release`; a client who goes before that has not paid."""
    return Fault("hang", wait=math.inf)


def delay(seconds: float) -> Fault:
    """The true answer, late; it is made and paid even when the client has gone by then, the worst that may happen."""
    return Fault("delay", wait=seconds)


def reset_before_headers(paid: bool = False) -> Fault:
    """The wire is cut before the status line, of an answer that was not made, or that was `paid`."""
    if paid:
        return travelling("paid, reset before headers", "reset-before")
    return Fault("reset before headers", instead=lambda _asked, _origins: Answer(delivery="reset-before"))


def reset_after_headers() -> Fault:
    """The wire is cut between headers and body, of an answer that was paid."""
    return travelling("reset after headers", "reset-after")


def cut_body() -> Fault:
    """Half the promised body, then the end of the connection."""
    return travelling("cut body", "cut")


def slow_drip(pause: float = 0.02) -> Fault:
    """64 bytes at a time, `pause` seconds between them."""
    return travelling("slow drip", "drip", pause)


def stall() -> Fault:
    """Half the body, and the rest after `release`."""
    return travelling("stall", "stall")


def odd_splits() -> Fault:
    """Parts that end anywhere, within lines and characters; the lines of a stream end in CR LF."""
    return travelling("odd splits", "odd")


def keep_alives() -> Fault:
    """Headers, then signs of life alone (comments, or white space) until `release`."""
    return travelling("keep-alives", "keep-alive")


def travelling(name: str, delivery: Delivery, pause: float = 0.0) -> Fault:
    """A true answer whose bytes travel badly."""
    return Fault(name, spoil=lambda answer, _origins: replace(answer, delivery=delivery, pause=pause))
