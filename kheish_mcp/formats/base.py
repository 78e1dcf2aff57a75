"""The shape of a format: which bytes are it, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ..errors import MediaRejected
from ..media import Facts, Kind, Media

MOST_PARTS = 200_000


@dataclass(frozen=True, slots=True)
class Format:
    """One media type. `sniff` looks at the bytes alone; `inspect` walks their structure to its end.

    `inspect` gives the facts, or MediaRejected where the structure is broken or cut short. A format without a
    signature (`sniff` None) is only taken when it is declared, or named by one of its endings. One that is `textual` may
    be declared as plain text as well.
    """

    media_type: str
    kind: Kind
    extension: str
    inspect: Callable[[Media], Facts]
    sniff: Callable[[bytes], bool] | None = None
    endings: tuple[str, ...] = ()
    textual: bool = False

    def facts(self, *, width: int | None = None, height: int | None = None, duration_s: float | None = None) -> Facts:
        """Facts of this format."""
        return Facts(self.media_type, self.kind, self.extension, width, height, duration_s)


def renamed(
    form: Format, media_type: str, extension: str, sniff: Callable[[bytes], bool], endings: tuple[str, ...] = ()
) -> Format:
    """The same bytes by another name of theirs, which is kept where it is declared."""

    def inspect(media: Media) -> Facts:
        return replace(form.inspect(media), media_type=media_type, extension=extension)

    return Format(media_type, form.kind, extension, inspect, sniff, endings)


def within_reason(name: str) -> Iterator[int]:
    """A count for each part of a file on the way through it; MediaRejected when there are more than a real one has."""
    yield from range(MOST_PARTS)
    raise broken(name, "it has more parts than any real one")


def broken(name: str, where: str) -> MediaRejected:
    """The refusal for a structure that is damaged or cut short."""
    return MediaRejected(f"The {name} is damaged or cut short: {where}.", hint="Send the whole file.")
