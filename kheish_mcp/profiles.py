"""What each known client can take: a table with its evidence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Profile:
    """What a client gets. Sizes in bytes of the file before base64, lengths in pixels, waits in seconds.

    `pictures` whether small previews are sent inline at all; `links` whether resource_link blocks are;
    `structured` whether results carry structuredContent where a tool has an output schema.
    """

    pictures: bool = True
    links: bool = True
    structured: bool = True
    preview_px: int = 1024
    preview_bytes: int = 150_000
    result_bytes: int = 900_000
    wait_seconds: float = 45.0


UNKNOWN: Final = Profile()

# Measured 2026-11-22 with the hosts' own binaries against a server that sends every kind of block.
PROFILES: Final[dict[str, Profile]] = {
    # Pastes the base64 of a picture uncut into the conversation: 900 kB become 930,000 tokens.
    "continue-cli-client": replace(UNKNOWN, pictures=False),
    # Puts the whole result into JSON text and cuts its middle at 8,000 characters.
    "@cline/core": replace(UNKNOWN, pictures=False),
    # Shows pictures to nobody: neither the model nor the user gets them.
    "copilot-cli": replace(UNKNOWN, pictures=False),
    # Waits for 300 s and pays no attention to progress.
    "codex-mcp-client": replace(UNKNOWN, wait_seconds=120.0),
    # Our own runs: the model reads JSON alone, and nobody hurries it.
    "kheish-agent": replace(UNKNOWN, pictures=False, links=False, wait_seconds=300.0),
    # Has no time limit of its own for tools.
    "claude-code": replace(UNKNOWN, wait_seconds=120.0),
}


def profile_of(client_name: str | None) -> Profile:
    """The profile for clientInfo.name; the careful default for a client that nothing is known of."""
    return PROFILES.get(client_name or "", UNKNOWN)
