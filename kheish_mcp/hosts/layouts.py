"""A document as a person would have typed it: JSON, YAML or TOML, with short lists on one line."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ..errors import Json, JsonObject


def as_json(value: Json, unit: str = "  ", depth: int = 0) -> str:
    """JSON; objects take a line for each key, at `depth` times `unit`, and lists take one."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False)
    lines = [f"{unit * (depth + 1)}{json.dumps(key)}: {as_json(part, unit, depth + 1)}" for key, part in value.items()]
    return "{\n" + ",\n".join(lines) + f"\n{unit * depth}}}"


def as_yaml(value: JsonObject) -> str:
    """YAML in blocks, its scalars and lists of scalars in JSON, which is YAML as well."""
    return "\n".join(_block(value, ""))


def _block(value: JsonObject, indent: str) -> Iterator[str]:
    for key, part in value.items():
        if isinstance(part, dict):
            yield f"{indent}{key}:"
            yield from _block(part, indent + "  ")
        elif isinstance(part, list) and any(isinstance(item, dict) for item in part):
            yield f"{indent}{key}:"
            for item in part:
                yield from _item(item, indent) if isinstance(item, dict) else ()
        else:
            yield f"{indent}{key}: {json.dumps(part, ensure_ascii=False)}"


def _item(value: JsonObject, indent: str) -> Iterator[str]:
    """An item of a list, its first key behind the dash."""
    first, *rest = _block(value, indent + "    ")
    yield f"{indent}  - {first.lstrip()}"
    yield from rest


def as_toml(path: tuple[str, ...], table: JsonObject) -> str:
    """One TOML table of scalars and lists, with its header."""
    pairs = (f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items())
    return "\n".join([f"[{'.'.join(path)}]", *pairs])
