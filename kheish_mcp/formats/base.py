"""The shape of a format: which bytes are it, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import MediaRejected
from ..media import Facts, Kind, Media


@dataclass(frozen=True, slots=True)
class Format:
    """One media type. `sniff` looks at the bytes alone; `inspect` walks their structure to its end.

    `inspect` gives the facts, or MediaRejected where the structure is broken or cut short. A format without a
    signature (`sniff` None) is only taken when it is declared.
    """

    media_type: str
    kind: Kind
    extension: str
    inspect: Callable[[Media], Facts]
    sniff: Callable[[bytes], bool] | None = None
    endings: tuple[str, ...] = ()

    def facts(self, *, width: int | None = None, height: int | None = None, duration_s: float | None = None) -> Facts:
        """Facts of this format."""
        return Facts(self.media_type, self.kind, self.extension, width, height, duration_s)


def broken(name: str, where: str) -> MediaRejected:
    """The refusal for a structure that is damaged or cut short."""
    return MediaRejected(f"The {name} is damaged or cut short: {where}.", hint="Send the whole file.")
