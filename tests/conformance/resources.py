"""The suite's resources, beside the product's own."""

from __future__ import annotations

import json
import re

import mcp_types as t

from .tools import PNG

TEMPLATE = re.compile(r"test://template/([^/]+)/data")
FIXED: dict[str, t.TextResourceContents | t.BlobResourceContents] = {
    contents.uri: contents
    for contents in (
        t.TextResourceContents(
            uri="test://static-text", mime_type="text/plain", text="This is the content of the static text resource."
        ),
        t.BlobResourceContents(uri="test://static-binary", mime_type="image/png", blob=PNG),
        t.TextResourceContents(uri="test://watched-resource", mime_type="text/plain", text="This is watched."),
    )
}


def listed() -> list[t.Resource]:
    """The resources of the suite."""
    return [
        t.Resource(uri=uri, name=uri.removeprefix("test://"), description="For the suite.", mime_type=one.mime_type)
        for uri, one in FIXED.items()
    ]


def template() -> t.ResourceTemplate:
    """The template of the suite."""
    return t.ResourceTemplate(uri_template="test://template/{id}/data", name="template", mime_type="application/json")


def read(uri: str) -> t.ReadResourceResult | None:
    """One of them; None where the URI is not the suite's."""
    if match := TEMPLATE.fullmatch(uri):
        value = {"id": match[1], "templateTest": True, "data": f"Data for ID: {match[1]}"}
        contents = t.TextResourceContents(uri=uri, mime_type="application/json", text=json.dumps(value))
        return t.ReadResourceResult(contents=[contents])
    return t.ReadResourceResult(contents=[FIXED[uri]]) if uri in FIXED else None
