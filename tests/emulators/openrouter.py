"""The stand-in for OpenRouter, for tests in this process and as a program of its own."""

from __future__ import annotations

import argparse
import contextlib
import signal

from tests.emulators.provider.emulator import OpenRouterEmulator

__all__ = ["OpenRouterEmulator"]


def main() -> None:
    """Serves until it is interrupted or told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", required=True)
    parser.add_argument("--picture-bytes", type=int, default=0, help="what a picture weighs at least")
    parser.add_argument("--same-picture", action="store_true", help="draw once, so that only the answering takes time")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with OpenRouterEmulator(key=chosen.key, port=chosen.port) as emulator, contextlib.suppress(KeyboardInterrupt):
        emulator.picture_bytes, emulator.same_picture = chosen.picture_bytes, chosen.same_picture
        print(emulator.base_url, flush=True)  # noqa: T201 # the one line that its caller reads
        signal.pause()


if __name__ == "__main__":
    main()
