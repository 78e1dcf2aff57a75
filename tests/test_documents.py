"""Documents give their words: in a worker, once, bounded, and with a refusal where there are none."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from kheish_mcp.documents import words_of
from kheish_mcp.errors import MediaRejected, NotFound
from kheish_mcp.media import Media
from kheish_mcp.stores.assets import AssetStore
from kheish_mcp.stores.database import Database
from kheish_mcp.workers import Workers
from tests.pdfs import pdf

pytestmark = pytest.mark.anyio


@pytest.fixture
async def workers() -> AsyncGenerator[Workers]:
    """Real worker processes."""
    made = Workers(1)
    yield made
    await made.close()


@pytest.fixture
async def assets(state_root: Path) -> AsyncGenerator[AssetStore]:
    """A store."""
    async with Database.open(state_root) as database:
        yield AssetStore(state_root, database)


async def test_a_pdf_says_its_pages_in_order_and_is_read_once(assets: AssetStore, workers: Workers):
    asset = await assets.keep(Media(pdf("Ports of the Baltic", "Gdansk, Riga"), "", "ports.pdf"), owner="local")
    assert asset.media_type == "application/pdf"
    assert await words_of(asset, assets, workers) == "Ports of the Baltic\fGdansk, Riga\f"
    assert await assets.text(asset) == "Ports of the Baltic\fGdansk, Riga\f"
    await workers.close()
    assert await words_of(asset, assets, Workers(0)) == "Ports of the Baltic\fGdansk, Riga\f"


@pytest.mark.parametrize(("most", "read"), [(5, b"Ports"), (17, b"Ports of the Balt"), (21, b"Ports of the Baltic\fG")])
async def test_its_text_is_bounded(workers: Workers, most: int, read: bytes):
    made = await workers.run("read_pdf", {"most": most}, pdf("Ports of the Baltic", "Gdansk"))
    assert (made.facts, made.blobs) == ({"pages": 2}, (read,))


@pytest.mark.parametrize("damage", [lambda data: data[:40], lambda data: b"%PDF-1.4\n" + b"x" * 400, lambda data: b""])
async def test_what_is_no_pdf_inside_is_refused(workers: Workers, damage: object):
    assert callable(damage)
    with pytest.raises(MediaRejected):
        await workers.run("read_pdf", {"most": 100}, damage(pdf("Hello")))


async def test_a_picture_has_no_words(assets: AssetStore, workers: Workers):
    from tests.emulators.provider import synthetic

    asset = await assets.keep(Media(synthetic.picture(1, (8, 8), "png"), "image/png"), owner="local")
    with pytest.raises(NotFound):
        await words_of(asset, assets, workers)
