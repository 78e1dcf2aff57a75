"""A strict OpenRouter on 127.0.0.1: checks every field, bills every success, fails in every way it is told to."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl

from tests.emulators.provider import discovery, images, speech, transcriptions
from tests.emulators.provider.answers import Answer, Asked, Refused
from tests.emulators.provider.delivery import deliver, watch
from tests.emulators.provider.faults import Fault, Origins
from tests.emulators.provider.origins import Serving, listen

BASE = "/api/v1"
Endpoint = Callable[["OpenRouterEmulator", Asked], Awaitable[Answer]]
ENDPOINTS: dict[str, tuple[str, Endpoint]] = {
    "/images": ("POST", images.generate),
    "/images/models": ("GET", images.models),
    "/audio/speech": ("POST", speech.speak),
    "/audio/transcriptions": ("POST", transcriptions.transcribe),
    "/models": ("GET", discovery.models),
    "/generation": ("GET", discovery.generation),
    "/key": ("GET", discovery.key),
}
PUBLIC = frozenset({"/models", "/images/models", "/files"})


@dataclass(frozen=True, slots=True)
class Bill:
    """One successful generation: USD and the clock's seconds."""

    generation_id: str
    endpoint: str
    model: str
    cost: float
    at: float


@dataclass(frozen=True, slots=True)
class Seen:
    """One request; `path` is below the base, `ended` is None while it is being answered."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    started: float
    ended: float | None = None
    disconnected: bool = False


class OpenRouterEmulator:
    """The provider and a second origin beside it, for the length of a `with` block."""

    def __init__(self, key: str, port: int = 0) -> None:
        self.key = key
        self.same_picture = False
        self.picture_bytes = 0
        self.generation_misses = 0
        self.transcripts: dict[str, str] = {}
        self.ledger: list[Bill] = []
        self.requests: list[Seen] = []
        self.other_requests: list[Seen] = []
        self.violations: list[str] = []
        self._changed = threading.Condition()
        self._next: list[tuple[Fault, str | None]] = []
        self._always: list[tuple[Fault, str | None]] = []
        self._numbers = itertools.count(1)
        self._looked_up: Counter[str] = Counter()
        own, other = listen(port), listen()
        self.port = own.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        self.base_url = self.origin + BASE
        self.other_origin = f"http://127.0.0.1:{other.getsockname()[1]}"
        self._sockets = (own, other)
        self._serving = Serving((self._provider, own), (self._elsewhere, other))

    def __enter__(self) -> OpenRouterEmulator:
        self._serving.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._serving.stop()
        for taken in self._sockets:
            taken.close()

    def fail_next(self, fault: Fault, times: int = 1, path: str | None = None) -> None:
        """Strikes the next `times` requests (to `path`, like "/images")."""
        with self._changed:
            self._next.extend([(fault, path)] * times)

    def always(self, fault: Fault, path: str | None = None) -> None:
        """Strikes every request (to `path`) that no `fail_next` claims."""
        with self._changed:
            self._always.append((fault, path))

    def heal(self) -> None:
        """Forgets every fault."""
        with self._changed:
            self._next.clear()
            self._always.clear()

    def wait_for(self, predicate: Callable[[], bool], seconds: float = 5) -> None:
        """Returns once `predicate()` holds, which is asked after every change; TimeoutError after `seconds`."""
        with self._changed:
            if not self._changed.wait_for(predicate, seconds):
                raise TimeoutError("the stand-in did not see what was waited for")

    def next_picture(self) -> int:
        """The seed of the next picture."""
        return 0 if self.same_picture else next(self._numbers)

    def next_id(self, prefix: str) -> str:
        """A fresh generation id."""
        return f"{prefix}-{int(time.time())}-{next(self._numbers):08d}"

    def too_early(self, generation_id: str) -> bool:
        """Whether this look-up is one of the first `generation_misses` of its id."""
        self._looked_up[generation_id] += 1
        return self._looked_up[generation_id] <= self.generation_misses

    def _claim(self, path: str) -> Fault | None:
        def strikes(planned: tuple[Fault, str | None]) -> bool:
            fault, only = planned
            return only in (None, path) and (not fault.paths or path in fault.paths)

        with self._changed:
            chosen = next(filter(strikes, self._next), None)
            if chosen is not None:
                self._next.remove(chosen)
            chosen = chosen or next(filter(strikes, self._always), None)
        return chosen[0] if chosen else None

    async def _provider(self, scope: Any, receive: Any, send: Any) -> None:
        asked = await self._read(scope, receive)
        path = asked.path.removeprefix(BASE)
        await self._exchange(self.requests, replace(asked, path=path), scope, receive, send)

    async def _elsewhere(self, scope: Any, receive: Any, send: Any) -> None:
        asked = await self._read(scope, receive)
        if self.key in asked.headers.get("authorization", ""):
            self._violate("the key went to another origin")
        await self._exchange(self.other_requests, asked, scope, receive, send)

    async def _read(self, scope: Any, receive: Any) -> Asked:
        body = bytearray()
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        self._watch_key(headers, f"{scope['path']}?{query}", bytes(body))
        return Asked(scope["method"], scope["path"], dict(parse_qsl(query)), headers, bytes(body))

    def _watch_key(self, headers: dict[str, str], target: str, body: bytes) -> None:
        if self.key in target:
            self._violate("the key is in the URL")
        if self.key.encode() in body:
            self._violate("the key is in the body")
        for name, value in headers.items():
            if name != "authorization" and self.key in value:
                self._violate(f"the key is in the header {name}")

    def _violate(self, sentence: str) -> None:
        with self._changed:
            self.violations.append(sentence)
            self._changed.notify_all()

    async def _exchange(self, log: list[Seen], asked: Asked, scope: Any, receive: Any, send: Any) -> None:
        """Records the request, answers it, and notes whether the client stayed for the end."""
        with self._changed:
            place = len(log)
            log.append(Seen(asked.method, asked.path, asked.headers, parsed(asked), time.monotonic()))
            self._changed.notify_all()
        gone = asyncio.ensure_future(watch(receive))
        gone.add_done_callback(lambda _task: self._note(log, place))
        try:
            answer = await self._answer(asked) if log is self.requests else await images.file(self, asked)
            await deliver(answer, scope["transport"], send, gone)
        finally:
            gone.cancel()
            self._note(log, place, ended=time.monotonic())

    def _note(self, log: list[Seen], place: int, ended: float | None = None) -> None:
        with self._changed:
            seen = log[place]
            if seen.ended is None:
                log[place] = replace(seen, ended=ended) if ended else replace(seen, disconnected=True)
            self._changed.notify_all()

    async def _answer(self, asked: Asked) -> Answer:
        fault = self._claim(asked.path) or Fault("none")
        origins = Origins(self.origin, self.other_origin, f"http://localhost:{self.port}", self.key)
        await asyncio.sleep(fault.wait)
        if fault.instead:
            return fault.instead(asked, origins)
        try:
            answer = await self._endpoint(asked)(self, asked)
        except Refused as refused:
            return refused.answer()
        if fault.spoil:
            answer = fault.spoil(answer, origins)
        return self._bill(asked, answer)

    def _endpoint(self, asked: Asked) -> Endpoint:
        family = "/files" if asked.path.startswith("/files/") else asked.path
        method, endpoint = {**ENDPOINTS, "/files": ("GET", images.file)}.get(family, ("", images.file))
        if not method:
            raise Refused(404, "Not Found")
        if asked.method != method:
            raise Refused(405, "Method Not Allowed")
        given = asked.headers.get("authorization")
        if given is None and family not in PUBLIC:
            raise Refused(401, "Missing Authentication header")
        if given not in (None, f"Bearer {self.key}"):
            raise Refused(401, "User not found.")
        return endpoint

    def _bill(self, asked: Asked, answer: Answer) -> Answer:
        if answer.generation_id:
            answer = replace(answer, headers={**answer.headers, "x-generation-id": answer.generation_id})
        if answer.cost is not None:
            with self._changed:
                self.ledger.append(Bill(answer.generation_id, asked.path, answer.model, answer.cost, time.time()))
                self._changed.notify_all()
        return answer


def parsed(asked: Asked) -> Any:
    """The body as JSON where it is JSON, else its bytes."""
    try:
        return json.loads(asked.body)
    except ValueError:
        return asked.body
