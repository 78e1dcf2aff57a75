"""What each known client can take: a table with its evidence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from .errors import JsonObject


@dataclass(frozen=True, slots=True)
class Profile:
    """What a client gets. Sizes in bytes of the file before base64, lengths in pixels, waits in seconds.

    `pictures` whether small previews are sent inline at all; `links` whether resource_link blocks are;
    `structured` whether results carry structuredContent where a tool has an output schema;
    `read_bytes` the largest asset that resources/read gives over a pipe, None for any.
    """

    pictures: bool = True
    links: bool = True
    structured: bool = True
    preview_px: int = 1024
    preview_bytes: int = 150_000
    result_bytes: int = 900_000
    read_bytes: int | None = None
    wait_seconds: float = 45.0

    @property
    def preview(self) -> JsonObject:
        """The parameters of the craft that makes a preview for this client."""
        return {"max_px": self.preview_px, "max_bytes": self.preview_bytes}


UNKNOWN: Final = Profile()
# The TypeScript SDK (2026-06 and later; measured with 1.32.2 and 2.4.0) closes a pipe that brings 10 MiB in one message, and
# the host loses every tool of the server with it. Hosts that are built on it:
TYPESCRIPT: Final = replace(UNKNOWN, read_bytes=7_800_000)

# Measured 2026-11-22 with the hosts' own binaries against a server that sends every kind of block.
PROFILES: Final[dict[str, Profile]] = {
    # Pastes the base64 of a picture uncut into the conversation: 900 kB become 930,000 tokens.
    "continue-cli-client": replace(TYPESCRIPT, pictures=False),
    # Puts the whole result into JSON text and cuts its middle at 8,000 characters.
    "@cline/core": replace(TYPESCRIPT, pictures=False),
    # Shows pictures to nobody: neither the model nor the user gets them.
    "copilot-cli": replace(TYPESCRIPT, pictures=False),
    # Waits for 300 s and pays no attention to progress.
    "codex-mcp-client": replace(UNKNOWN, wait_seconds=120.0),
    # Our own runs: the model reads JSON alone, and nobody hurries it.
    "kheish-agent": replace(UNKNOWN, pictures=False, links=False, wait_seconds=300.0),
    # Has no time limit of its own for tools.
    "claude-code": replace(TYPESCRIPT, wait_seconds=120.0),
    "gemini-cli-mcp-client": TYPESCRIPT,
    "kilo": TYPESCRIPT,
    "opencode": TYPESCRIPT,
}


def profile_of(client_name: str | None) -> Profile:
    """The profile for clientInfo.name; the careful default for a client that nothing is known of."""
    return PROFILES.get(client_name or "", UNKNOWN)
