"""What each request needs: a scope by its method, and by the resource that it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .principals import Scope

METHODS: Final[Mapping[str, Scope]] = {
    "tools/call": "generate",
    "tasks/get": "generate",
    "tasks/update": "generate",
    "tasks/cancel": "generate",
}
# One folder for all: what a path reaches is its operator's, and no principal's own.
WORKSPACE: Final[Scope] = "admin"
RESOURCES: Final[Mapping[str, Scope]] = {"kheish://runtime": "admin"}


def scope_for(method: str, name: object = None) -> Scope:
    """The scope that a request needs; `name` is the tool or the resource in it, as the client wrote it."""
    if method.startswith("resources/") and isinstance(name, str) and name in RESOURCES:
        return RESOURCES[name]
    return METHODS.get(method, "read")
