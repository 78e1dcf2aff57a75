"""A strict OpenRouter on 127.0.0.1: checks every field, bills every success, fails in every way it is told to."""

from __future__ import annotations

import asyncio
import itertools
import math
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl

from tests.emulators.provider import chat, discovery, images, oauth, speech, transcriptions
from tests.emulators.provider.answers import Answer, Asked, Refused
from tests.emulators.provider.delivery import Line, deliver, watch
from tests.emulators.provider.faults import Fault, Origins
from tests.emulators.provider.origins import Serving, listen
from tests.emulators.provider.records import Bill, Seen, once, parsed

BASE = "/api/v1"
Endpoint = Callable[["OpenRouterEmulator", Asked], Awaitable[Answer]]
ENDPOINTS: dict[str, tuple[str, Endpoint]] = {
    "/chat/completions": ("POST", chat.complete),
    "/images": ("POST", images.generate),
    "/images/models": ("GET", images.models),
    "/audio/speech": ("POST", speech.speak),
    "/audio/transcriptions": ("POST", transcriptions.transcribe),
    "/models": ("GET", discovery.models),
    "/generation": ("GET", discovery.generation),
    "/key": ("GET", discovery.key),
    "/auth/keys": ("POST", oauth.exchange),
}
NESTED: dict[str, tuple[str, Endpoint]] = {
    r"/files/\d+\.png": ("GET", images.file),
    r"/images/models/[^/]+/[^/]+/endpoints": ("GET", images.endpoints),
}
PUBLIC = (images.file, images.models, images.endpoints, discovery.models, oauth.exchange)


class OpenRouterEmulator:
    """The provider and a second origin beside it, for the length of a `with` block; `base` is its path."""

    base = BASE

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
        self.crashes: list[Exception] = []
        self.codes: dict[str, oauth.Challenge] = {}
        self._turns: deque[chat.Said] = deque()
        self._open: set[asyncio.Event] = set()
        self._changed = threading.Condition()
        self._next: list[tuple[Fault, str | None]] = []
        self._always: list[tuple[Fault, str | None]] = []
        self._choose: Callable[[Asked], Fault | None] | None = None
        self._numbers = itertools.count(1)
        self._looked_up: Counter[str] = Counter()
        own, other = listen(port), listen()
        self.port = own.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        self.base_url = self.origin + self.base
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
        if self.crashes and error is None:
            raise self.crashes[0]

    def fail_next(self, fault: Fault, times: int = 1, path: str | None = None) -> None:
        """Strikes the next `times` requests (to `path`, like "/images")."""
        with self._changed:
            self._next.extend([(fault, path)] * times)

    def always(self, fault: Fault, path: str | None = None) -> None:
        """Strikes every request (to `path`) that no `fail_next` claims."""
        with self._changed:
            self._always.append((fault, path))

    def by(self, choose: Callable[[Asked], Fault | None]) -> None:
        """Strikes each request that no `fail_next` claims as `choose`, which is asked on another thread, says for it."""
        with self._changed:
            self._choose = choose

    def heal(self) -> None:
        """Forgets every fault."""
        with self._changed:
            self._choose = None
            self._next.clear()
            self._always.clear()

    def say(self, *turns: chat.Said) -> None:
        """Queues what the next chat requests are answered: a text, a Turn, or a function from the request to either."""
        with self._changed:
            self._turns.extend(turns)

    def next_turn(self) -> chat.Said | None:
        """What was queued for this request, if anything was."""
        with self._changed:
            return self._turns.popleft() if self._turns else None

    def authorise(self, challenge: str, method: str = "S256") -> str:
        """What the browser page does: a code that `/auth/keys` takes once, with the verifier of this challenge."""
        code = f"auth_code_{next(self._numbers):08d}"
        self.codes[code] = oauth.Challenge(challenge, method)
        return code

    def release(self) -> None:
        """Ends every hang, delay and stall that is under way."""
        self._serving.call(lambda: [event.set() for event in self._open])

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

    def _claim(self, asked: Asked) -> Fault | None:
        path = asked.path

        def strikes(planned: tuple[Fault, str | None]) -> bool:
            fault, only = planned
            return only in (None, path) and (not fault.paths or path in fault.paths)

        with self._changed:
            chosen = next(filter(strikes, self._next), None)
            if chosen is not None:
                self._next.remove(chosen)
            chosen = chosen or next(filter(strikes, self._always), None)
            if chosen is None and self._choose is not None:
                return self._choose(asked)
        return chosen[0] if chosen else None

    async def _provider(self, scope: Any, receive: Any, send: Any) -> None:
        asked = await self._read(scope, receive)
        inside = asked.path.startswith(f"{self.base}/")
        path = asked.path.removeprefix(self.base) if inside else f"outside {asked.path}"
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
        self._open.add(go_on := asyncio.Event())
        with self._changed:
            place = len(log)
            told = (asked.method, asked.path, asked.query, asked.headers, parsed(asked.body), time.monotonic())
            seen = Seen(*told, peer=scope["client"][1])
            log.append(seen)
            self._changed.notify_all()
        gone = asyncio.ensure_future(watch(receive))
        gone.add_done_callback(lambda _task: self._note(log, place))
        try:
            line = Line(scope["transport"], send, gone, go_on, lambda: None)
            answer = await (self._answer(asked, line) if log is self.requests else images.file(self, asked))
            with self._changed:
                log[place] = replace(log[place], status=answer.status)
            await deliver(answer, replace(line, pay=once(lambda: self._bill(asked, answer))))
        except Exception as crash:
            self.crashes.append(crash)
            raise
        finally:
            self._open.discard(go_on)
            gone.cancel()
            self._note(log, place, ended=time.monotonic())

    def _note(self, log: list[Seen], place: int, ended: float | None = None) -> None:
        with self._changed:
            seen = log[place]
            if seen.ended is None:
                log[place] = replace(seen, ended=ended) if ended else replace(seen, disconnected=True)
            self._changed.notify_all()

    async def _answer(self, asked: Asked, line: Line) -> Answer:
        fault = self._claim(asked) or Fault("none")
        origins = Origins(self.origin, self.other_origin, f"http://localhost:{self.port}", self.key)
        if fault.wait:
            await line.pause(None if fault.wait == math.inf else fault.wait)
        if fault.wait == math.inf and line.gone.done():
            return Answer(delivery="nothing")
        if fault.instead:
            return fault.instead(asked, origins)
        try:
            answer = await self._endpoint(asked)(self, asked)
        except Refused as refused:
            return refused.answer()
        if fault.spoil:
            answer = fault.spoil(answer, origins)
        if answer.generation_id:
            answer = replace(answer, headers={**answer.headers, "x-generation-id": answer.generation_id})
        return answer

    def _endpoint(self, asked: Asked) -> Endpoint:
        method, endpoint = found(asked.path)
        if asked.method != method:
            raise Refused(405, "Method Not Allowed")
        given = asked.headers.get("authorization")
        if given is None and endpoint not in PUBLIC:
            raise Refused(401, "Missing Authentication header")
        if given not in (None, f"Bearer {self.key}"):
            raise Refused(401, "User not found.")
        return endpoint

    def _bill(self, asked: Asked, answer: Answer) -> None:
        if answer.cost is not None:
            with self._changed:
                self.ledger.append(
                    Bill(answer.generation_id, asked.path, answer.model, answer.cost, time.time(), asked.body)
                )
                self._changed.notify_all()


def found(path: str) -> tuple[str, Endpoint]:
    """The endpoint at a path and its method."""
    nested = (endpoint for pattern, endpoint in NESTED.items() if re.fullmatch(pattern, path))
    endpoint = ENDPOINTS.get(path) or next(nested, None)
    if endpoint is None:
        raise Refused(404, "Not Found")
    return endpoint
