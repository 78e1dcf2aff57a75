"""Every way to fail that the facts name: what is answered instead, how an answer is spoilt, how its bytes travel."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from typing import Any, Literal

from tests.emulators.provider import synthetic
from tests.emulators.provider.answers import ERROR_TYPES, Answer, Asked, envelope
from tests.emulators.provider.fault import Fault as Fault
from tests.emulators.provider.fault import Origins as Origins
from tests.emulators.provider.stream_faults import error_in_choice as error_in_choice
from tests.emulators.provider.stream_faults import no_done as no_done
from tests.emulators.provider.stream_faults import no_usage as no_usage
from tests.emulators.provider.stream_faults import stream_error as stream_error
from tests.emulators.provider.wire_faults import cut_body as cut_body
from tests.emulators.provider.wire_faults import delay as delay
from tests.emulators.provider.wire_faults import hang as hang
from tests.emulators.provider.wire_faults import keep_alives as keep_alives
from tests.emulators.provider.wire_faults import odd_splits as odd_splits
from tests.emulators.provider.wire_faults import reset_after_headers as reset_after_headers
from tests.emulators.provider.wire_faults import reset_before_headers as reset_before_headers
from tests.emulators.provider.wire_faults import slow_drip as slow_drip
from tests.emulators.provider.wire_faults import stall as stall

Shape = Literal["envelope", "availability", "string", "string_code", "zod", "html", "text", "empty"]
PICTURES = ("/images",)
SPEECH = ("/audio/speech",)
MEDIA = (*PICTURES, *SPEECH)
# Links that no client may follow: this machine in other spellings, the cloud's own address, a file.
LOOPBACKS = (
    "http://127.0.0.1:{port}/files/{number}.png",
    "http://localhost:{port}/files/{number}.png",
    "http://127.1:{port}/files/{number}.png",
    "http://2130706433:{port}/files/{number}.png",
    "http://0x7f000001:{port}/files/{number}.png",
    "http://[::ffff:127.0.0.1]:{port}/files/{number}.png",
    "http://0.0.0.0:{port}/files/{number}.png",
    "http://169.254.169.254/latest/meta-data/",
    "file:///etc/hostname",
)
HTML = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>"


def status(
    code: int,
    message: str = "Provider returned error",
    retry_after: int | float | str | None = None,
    metadata: dict[str, Any] | None = None,
    shape: Shape = "envelope",
) -> Fault:
    """An HTTP status with one of the bodies that were seen with it."""
    details = metadata or {"error_type": ERROR_TYPES.get(code, "unmapped"), "provider_name": "Emulated"}
    zod = {"success": False, "error": {"name": "ZodError", "message": json.dumps([{"message": message}])}}
    shapes = {
        "envelope": Answer(code, envelope(code, message, details)),
        "string": Answer(code, {"error": message}),
        "string_code": Answer(code, {"error": {"code": "server_error", "message": message}}),
        "availability": Answer(code, {"error": availability(code, message)}),
        "text": Answer(code, body=message.encode(), media_type="text/plain"),
        "zod": Answer(code, zod),
        "html": Answer(code, body=HTML, media_type="text/html; charset=UTF-8"),
        "empty": Answer(code),
    }
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return Fault(f"status {code}", instead=lambda _asked, _origins: replace(shapes[shape], headers=headers))


def http_date(at: float) -> str:
    """A Retry-After that names a moment, in seconds of the epoch, and not a span."""
    return formatdate(at, usegmt=True)


def availability(code: int, message: str) -> dict[str, Any]:
    """The newer form of an error, which says whether to try again and has no `code` of its own."""
    again = code in (429, 503, 529)
    word = {429: "capacity_exhausted", 503: "temporarily_unavailable"}.get(code, "no_endpoints")
    available = {"code": word, "retryable": again, "retry_after": 40 if again else None}
    return {
        "error_type": ERROR_TYPES.get(code, "unmapped"),
        "http_status": code,
        "message": message,
        "availability": {name: value for name, value in available.items() if value is not None},
    }


def error_in_200(code: int) -> Fault:
    """HTTP 200 with leading whitespace and an error envelope."""
    body = b"\n         \n" + json.dumps(envelope(code, "Provider returned error")).encode()
    return Fault("error in 200", instead=lambda _asked, _origins: Answer(body=body))


def malformed_json() -> Fault:
    """JSON that stops in the middle, with a length that says it is whole."""

    def spoil(answer: Answer, _origins: Origins) -> Answer:
        text = answer.content()
        return replace(answer, payload=None, body=text[: len(text) // 2], media_type="application/json")

    return Fault("malformed JSON", spoil=spoil)


def gzip_bomb() -> Fault:
    """A quarter of a megabyte that unpacks to 256."""
    body = synthetic.gzip_spaces()
    return Fault("gzip bomb", instead=lambda _asked, _origins: Answer(body=body, headers={"content-encoding": "gzip"}))


def redirect(other_origin: bool) -> Fault:
    """307 to the same path, on the other origin or on the own one."""

    def answer(asked: Asked, origins: Origins) -> Answer:
        place = origins.other if other_origin else origins.own
        return Answer(307, headers={"location": f"{place}/api/v1{asked.path}"}, media_type="text/plain")

    return Fault("redirect", instead=answer)


def key_in_error(code: int = 400) -> Fault:
    """An upstream error that repeats the request's headers, the key among them."""

    def answer(_asked: Asked, origins: Origins) -> Answer:
        raw = json.dumps({"headers": {"authorization": f"Bearer {origins.key}"}, "error": "bad request"})
        message = f"Upstream refused Authorization: Bearer {origins.key}"
        return Answer(code, envelope(code, message, {"raw": raw, "provider_name": "Emulated"}))

    return Fault("key in error", instead=answer)


def pictures(name: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Fault:
    """A fault of the pictures in the answer of POST /images."""

    def spoil(answer: Answer, _origins: Origins) -> Answer:
        assert answer.payload is not None
        return replace(answer, payload={**answer.payload, "data": change(answer.payload["data"])})

    return Fault(name, spoil=spoil, paths=PICTURES)


def each(change: Callable[[str], str]) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    """A change to the base64 of every picture."""
    return lambda data: [{**item, "b64_json": change(item["b64_json"])} for item in data]


def bytes_of(change: Callable[[bytes], bytes]) -> Callable[[str], str]:
    """A change to the bytes under a base64."""
    return lambda text: base64.b64encode(change(base64.b64decode(text))).decode()


def labelled(data: bytes, media_type: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    """Every picture replaced by these bytes under this label."""
    text = base64.b64encode(data).decode()
    return lambda items: [{"b64_json": text, "media_type": media_type} for _ in items]


def bad_base64() -> Fault:
    """Letters that are in no base64 alphabet."""
    return pictures("bad base64", each(lambda text: "@@!not base64!@@" + text[16:]))


def truncated_base64() -> Fault:
    """Base64 that stops between two groups of four letters."""
    return pictures("truncated base64", each(lambda text: text[: len(text) // 8 * 4 + 1]))


def not_an_image() -> Fault:
    """Text under the label of a picture."""
    return pictures("not an image", labelled(b"I am sorry, but I cannot draw that. " * 12, "image/png"))


def pixel_bomb() -> Fault:
    """A valid PNG of 30000 by 30000 pixels in a hundred kilobytes."""
    return pictures("pixel bomb", labelled(synthetic.bomb(), "image/png"))


def svg_script() -> Fault:
    """A drawing with a script in it."""
    return pictures("SVG with a script", labelled(synthetic.SCRIPT_SVG, "image/svg+xml"))


def extra_images(k: int) -> Fault:
    """`k` pictures more than were asked for."""
    more = [base64.b64encode(synthetic.picture(10**6 + at, (64, 64), "png")).decode() for at in range(k)]
    return pictures(
        "extra images", lambda data: [*data, *({"b64_json": text, "media_type": "image/png"} for text in more)]
    )


def fewer_images() -> Fault:
    """One picture fewer than were asked for, and never none."""
    return pictures("fewer images", lambda data: data[:-1] or data)


def no_images() -> Fault:
    """An empty list, which nobody pays for."""

    def spoil(answer: Answer, _origins: Origins) -> Answer:
        payload = answer.payload or {}
        return replace(answer, payload={**payload, "data": [], "usage": {**payload["usage"], "cost": 0}}, cost=None)

    return Fault("no images", spoil=spoil, paths=PICTURES)


def url_answer(target: str) -> Fault:
    """A link instead of bytes: `own`, `other`, `loopback-alias` (the own origin by another name), or one of LOOPBACKS."""

    def spoil(answer: Answer, origins: Origins) -> Answer:
        place = {"own": origins.own, "other": origins.other, "loopback-alias": origins.alias}.get(target)
        payload = answer.payload or {}
        name = f"{place}/api/v1/files/{{number}}.png" if place else target
        port = origins.other.rpartition(":")[2]
        links = [{"url": name.format(number=number, port=port)} for number, _ in enumerate(payload["data"])]
        return replace(answer, payload={**payload, "data": links})

    return Fault(f"URL answer: {target}", spoil=spoil, paths=PICTURES)


def media(name: str, picture: Callable[[bytes], bytes], sound: Callable[[bytes], bytes]) -> Fault:
    """A fault of the bytes themselves, in pictures and in speech."""

    def spoil(answer: Answer, origins: Origins) -> Answer:
        if answer.payload is None:
            return replace(answer, body=sound(answer.body))
        changed = pictures(name, each(bytes_of(picture))).spoil
        assert changed is not None
        return changed(answer, origins)

    return Fault(name, spoil=spoil, paths=MEDIA)


def truncated_media() -> Fault:
    """The first half of the file, in valid base64 or with a length that says it is whole."""
    return media("truncated media", lambda data: data[: len(data) // 2], lambda data: data[: len(data) // 2 | 1])


def huge(size: int) -> Fault:
    """At least `size` bytes of valid PNG or sound."""

    def spoil(answer: Answer, origins: Origins) -> Answer:
        if answer.payload is None:
            return replace(answer, body=answer.body * (size // len(answer.body) + 1))
        heavy = pictures("huge", labelled(synthetic.picture(7, (1024, 1024), "png", size), "image/png")).spoil
        assert heavy is not None
        return heavy(answer, origins)

    return Fault("huge", spoil=spoil, paths=MEDIA)


def wrong_media_type() -> Fault:
    """Right bytes under another kind's label."""
    other = {"image/png": "image/jpeg", "audio/mpeg": "audio/pcm;rate=24000;channels=1"}

    def spoil(answer: Answer, _origins: Origins) -> Answer:
        if answer.payload is None:
            return replace(answer, media_type=other.get(answer.media_type, "audio/mpeg"))
        data = [{**item, "media_type": other.get(item["media_type"], "image/png")} for item in answer.payload["data"]]
        return replace(answer, payload={**answer.payload, "data": data})

    return Fault("wrong media type", spoil=spoil, paths=MEDIA)


def empty_speech() -> Fault:
    """Status 200, the right type and not one byte, which nobody pays for."""
    return Fault("empty speech", spoil=lambda answer, _origins: replace(answer, body=b"", cost=None), paths=SPEECH)


def wav_labelled_mp3() -> Fault:
    """A RIFF file where MPEG was promised."""
    sound = synthetic.wav(synthetic.tone(20))
    return Fault(
        "WAV labelled MP3",
        spoil=lambda answer, _origins: replace(answer, body=sound, media_type="audio/mpeg"),
        paths=SPEECH,
    )


def odd_pcm() -> Fault:
    """Samples that end in the middle of one."""
    return Fault("odd PCM", spoil=lambda answer, _origins: replace(answer, body=answer.body[:-1]), paths=SPEECH)


def pcm_without_rate() -> Fault:
    """Samples whose type says neither rate nor channels."""
    return Fault(
        "PCM without rate", spoil=lambda answer, _origins: replace(answer, media_type="audio/pcm"), paths=SPEECH
    )
