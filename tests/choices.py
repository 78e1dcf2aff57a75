"""What a catalog gives for the words of one call."""

from __future__ import annotations

from typing import TypeVar

from kheish_mcp.capabilities import Capability
from kheish_mcp.catalog import Backend, Catalog
from kheish_mcp.selectors import select

C = TypeVar("C", bound=Capability)


def chosen(catalog: Catalog, kind: type[C], *, provider: str | None = None, model: str | None = None) -> Backend[C]:
    """The backend that comes first for a route id and a selector, with the refusals of both."""
    return catalog.backend(kind, select(model, provider, catalog.routes))
