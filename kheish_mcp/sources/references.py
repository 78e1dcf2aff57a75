"""Which of the five kinds a reference is: an asset id, an asset:// URI, an https:// URL, a data: URI or a path."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import Final, TypeAlias

import anyio

from ..errors import FailedPrecondition, InvalidArgument, JsonObject, KheishError, MediaRejected
from ..formats import kind_of, recognise
from ..media import Kind, Media
from ..stores.assets import Asset, AssetStore
from .inline import read_data_uri
from .web import Web, read_url
from .workspace import Workspace

LONGEST: Final = 4096
ASSET, PATH = "asset", ""
ASSET_ID: Final = re.compile(r"asset-[a-z2-7]{26}")
MEANT_AS_ID: Final = re.compile(r"asset-[A-Za-z0-9]*")
SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
ELSEWHERE: Final = re.compile(r"(asset|data|https?):|asset-", re.IGNORECASE)
CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
FIVE_KINDS: Final = (
    "Give an asset id (asset-...), an asset:// URI, an https:// URL, a data: URI or a path under the workspace root."
)
ARTICLES: Final = {Kind.IMAGE: "an image", Kind.AUDIO: "sound", Kind.TEXT: "text", Kind.DOCUMENT: "a document"}

Arrival: TypeAlias = tuple[Media, JsonObject]


class References:
    """Turns whatever a caller may name into an asset; bytes that arrive are kept at once.

    Without a workspace, or without the web, references of that kind are refused with the way to get them.
    """

    def __init__(
        self,
        assets: AssetStore,
        workspace: Workspace | None,
        web: Web | None,
        *,
        max_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self.assets = assets
        self.workspace = workspace
        self.web = web
        self.max_bytes = max_bytes
        self.upload: str | None = None

    def from_afar(self, upload: str) -> References:
        """The same for a caller on another machine: who names a file of its own learns how to send it."""
        far = copy(self)
        far.upload = upload
        return far

    def without_paths(self) -> References:
        """The same for a caller whom the workspace is not open to."""
        apart = copy(self)
        apart.workspace = None
        return apart

    async def resolve(
        self,
        reference: str,
        *,
        owner: str,
        kinds: frozenset[Kind] | Kind | None,
        argument: str = "source",
        label: str = "",
        media_type: str = "",
        kind: str = "file",
    ) -> Asset:
        """The owner's asset that `reference` names or becomes; its bytes are one of `kinds` (None: any).

        What arrives is recognised, and refused, before anything is kept; `media_type`, where given, is what the bytes
        must be. InvalidArgument for what is none of the five kinds, MediaRejected for the wrong sort of bytes, and the
        refusals of each source; all of them begin with `argument`. Bytes the owner has already give the asset that is
        there; an asset that is another owner's is NotFound, as one that never was.
        """
        wanted = frozenset({kinds}) if isinstance(kinds, Kind) else kinds
        with naming(argument), self._teaching(reference):
            form = form_of(reference)
            if form == ASSET:
                asset = await self.assets.get(asset_id_of(reference), owner)
                require(kind_of(asset.media_type), asset.media_type, wanted)
                return asset
            media, provenance = await ARRIVALS[form](self, reference)
            if media_type:
                media = replace(media, media_type=media_type)
            if wanted is not None:
                facts = await anyio.to_thread.run_sync(recognise, media)
                require(facts.kind, facts.media_type, wanted)
            return await self.assets.keep(media, owner=owner, label=label, kind=kind, provenance=provenance)

    @contextmanager
    def _teaching(self, reference: str) -> Generator[None]:
        """A refused path of another machine comes with the way to send the file."""
        try:
            yield
        except KheishError as refusal:
            if self.upload is not None and not ELSEWHERE.match(reference):
                refusal.hint = f"A file of your own machine is sent first, and named by its asset id: {self.upload}"
            raise

    async def _from_web(self, url: str) -> Arrival:
        """The file, and the host alone: the rest of a URL may hold a secret."""
        if self.web is None:
            raise FailedPrecondition(
                "This daemon fetches nothing from the web.", hint="Download the file, and name its path."
            )
        return await self.web.fetch(url), {"source": "web", "host": read_url(url).host}

    async def _from_data(self, uri: str) -> Arrival:
        return await anyio.to_thread.run_sync(read_data_uri, uri, self.max_bytes), {"source": "data"}

    async def _from_workspace(self, path: str) -> Arrival:
        """The file; FailedPrecondition without a workspace."""
        if self.workspace is None:
            raise FailedPrecondition(
                "There is no workspace that you may read from.",
                hint="Start the daemon with --workspace-root FOLDER (over HTTP this takes the scope admin), or send the "
                "bytes as a data: URI.",
            )
        return await self.workspace.read(path), {"source": "workspace"}


ARRIVALS: Final[Mapping[str, Callable[[References, str], Awaitable[Arrival]]]] = {
    "https": References._from_web,
    "data": References._from_data,
    PATH: References._from_workspace,
}


def form_of(reference: str) -> str:
    """The scheme of a reference, PATH without one, ASSET for a bare id; InvalidArgument for what is not followed."""
    if MEANT_AS_ID.fullmatch(reference):
        return ASSET
    found = SCHEME.match(reference)
    form = found[1].lower() if found else PATH
    if form != "data" and (not reference.strip() or len(reference) > LONGEST or CONTROLS.search(reference)):
        raise InvalidArgument(f"A reference is 1 to {LONGEST} printable characters.", hint=FIVE_KINDS)
    if form != ASSET and form not in ARRIVALS:
        raise InvalidArgument("This is no reference that can be followed.", hint=FIVE_KINDS)
    return form


def asset_id_of(reference: str) -> str:
    """The id in an asset id or an asset:// URI; InvalidArgument for a URI that says more than the id."""
    asset_id = reference.removeprefix("asset://")
    if not ASSET_ID.fullmatch(asset_id):
        raise InvalidArgument("This is not the id of an asset.", hint=FIVE_KINDS)
    return asset_id


def require(kind: Kind | None, media_type: str, wanted: frozenset[Kind] | None) -> None:
    """MediaRejected if bytes of `media_type` are not of the kinds wanted."""
    if wanted is not None and kind not in wanted:
        needed = " or ".join(ARTICLES[each] for each in Kind if each in wanted)
        raise MediaRejected(f"the bytes are {media_type}, and {needed} is needed.", hint=FIVE_KINDS)


@contextmanager
def naming(argument: str) -> Generator[None]:
    """Every refusal from inside says which argument it is about."""
    try:
        yield
    except KheishError as error:
        raise type(error)(
            f"{argument}: {error.message}",
            hint=error.hint,
            retryable=error.retryable,
            retry_after_s=error.retry_after_s,
            details=error.details,
        ) from None
