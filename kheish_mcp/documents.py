"""The words of a document, read in a worker and kept as its canonical text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .errors import NotFound
from .stores.assets import Asset, AssetStore
from .workers import Workers

MOST: Final = 1_000_000  # characters
READERS: Final[Mapping[str, str]] = {"application/pdf": "read_pdf"}


async def words_of(asset: Asset, assets: AssetStore, workers: Workers) -> str:
    """The asset's canonical text, read now if it can be; NotFound for what has none, and the craft's refusals."""
    known = await assets.text(asset)
    if known is not None:
        return known
    if asset.media_type not in READERS:
        raise NotFound("This asset has no text.", hint="A sound gets one by transcribe_audio; texts and PDFs have one.")
    made = await workers.run(READERS[asset.media_type], {"most": MOST}, (await assets.read(asset)).data)
    text = made.blobs[0].decode()
    await assets.set_text(asset, text)
    return text
