"""How a caller on another machine gets at files: a URL for each asset, and a place to send its own to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import Json, JsonObject


@dataclass(frozen=True, slots=True)
class Reach:
    """`url_of` gives where an asset of the caller's can be fetched; `upload` says in one line how a file is sent."""

    url_of: Callable[[str], str]
    upload: str

    def shown(self, result: JsonObject) -> JsonObject:
        """The result with a `url` for every asset in it, made now: one from the time of an old job would be over."""
        return {key: self._shown(value) for key, value in result.items()} | self._url(result)

    def _shown(self, value: Json) -> Json:
        if isinstance(value, dict):
            return self.shown(value)
        return [self._shown(item) for item in value] if isinstance(value, list) else value

    def _url(self, shown: JsonObject) -> JsonObject:
        is_asset = {"asset_id", "uri", "sha256"} <= shown.keys()
        return {"url": self.url_of(str(shown["asset_id"]))} if is_asset else {}
