"""The stand-in in a process of its own, slow by so much: `python -m tests.benchmarks.upstream SECONDS`.

It prints its address, and ends with its stdin. A prompt that begins with a number asks for a picture of so many bytes.
"""

from __future__ import annotations

import json
import sys

from tests.conftest import CANARY
from tests.emulators.openrouter import OpenRouterEmulator
from tests.emulators.provider import faults
from tests.emulators.provider.answers import Asked


def main(seconds: float) -> None:
    """Serves until nobody holds the other end of stdin."""
    with OpenRouterEmulator(key=CANARY) as emulator:

        def slow(asked: Asked) -> faults.Fault:
            emulator.picture_bytes = int(json.loads(asked.body)["prompt"].split()[0])
            return faults.delay(seconds)

        emulator.by(slow)
        print(emulator.base_url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(float(sys.argv[1]))
