"""Every way to say no, each with a code a caller can act on.

KheishError                      internal
  InvalidArgument                invalid_argument       the caller can mend it
    MediaRejected                invalid_argument       bytes that are not what they should be
    UsageError                   invalid_argument       a command line that cannot be meant
  FailedPrecondition             failed_precondition    something must be set up first
    ConfigError                  failed_precondition    routes.toml or a setting: file, line, column, key
    CapabilityUnavailable        failed_precondition    no backend; names each absence and its fix
  NotFound                       not_found
  PermissionDenied               permission_denied
    StoreInsecure                permission_denied      a secret file that others can read, or a link
  Unauthenticated                unauthenticated
    MasterKeyMissing             unauthenticated
    MasterKeyWrong               unauthenticated
    StoreTampered                unauthenticated        the auth store was changed by other hands
  ResourceExhausted              resource_exhausted     credit, rate, size, caps
  DeadlineExceeded               deadline_exceeded
  Cancelled                      cancelled
  Unavailable                    unavailable            the other side failed; often worth another try
  DataLoss                       data_loss              bytes that were whole once and are not
  Aborted                        aborted                somebody else was first
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = "dict[str, Json]"


class Code(StrEnum):
    """The closed list: callers act on these, never on a message."""

    INVALID_ARGUMENT = "invalid_argument"
    FAILED_PRECONDITION = "failed_precondition"
    NOT_FOUND = "not_found"
    PERMISSION_DENIED = "permission_denied"
    UNAUTHENTICATED = "unauthenticated"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CANCELLED = "cancelled"
    UNAVAILABLE = "unavailable"
    DATA_LOSS = "data_loss"
    ABORTED = "aborted"
    INTERNAL = "internal"


class KheishError(Exception):
    """A refusal: what is wrong, in one sentence, and the way out.

    `hint` is the next step; `retryable` says whether the same call may work later, `retry_after_s` when (seconds);
    `details` is extra JSON for programs. None of them ever holds a secret, a prompt or a URL with one. `remains` are
    bytes that were paid for and are no result: whoever spends keeps them aside, and nobody shows them.
    """

    code: ClassVar[Code] = Code.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
        details: Mapping[str, Json] | None = None,
        remains: tuple[bytes, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.details = dict(details or {})
        self.remains = remains

    def as_json(self) -> JsonObject:
        """The refusal's object: code, message, retryable, and hint, retry_after_s, details where there are any."""
        shown: JsonObject = {"code": self.code.value, "message": self.message, "retryable": self.retryable}
        if self.hint:
            shown["hint"] = self.hint
        if self.retry_after_s is not None:
            shown["retry_after_s"] = self.retry_after_s
        if self.details:
            shown["details"] = self.details
        return shown


class InvalidArgument(KheishError):
    """The caller can mend the call."""

    code = Code.INVALID_ARGUMENT


class MediaRejected(InvalidArgument):
    """Bytes that are not the kind of media they should be."""


class UsageError(InvalidArgument):
    """A command line that cannot be meant."""


class FailedPrecondition(KheishError):
    """Something has to be set up first; the hint says what."""

    code = Code.FAILED_PRECONDITION


class ConfigError(FailedPrecondition):
    """A configuration that cannot be used; the message names file, line, column and key, never a value."""


class CapabilityUnavailable(FailedPrecondition):
    """No route offers the capability; the message lists each route's reason."""


class NotFound(KheishError):
    """Nothing by that name, or not for this caller: the two look the same on purpose."""

    code = Code.NOT_FOUND


class PermissionDenied(KheishError):
    """Known, and not allowed."""

    code = Code.PERMISSION_DENIED


class StoreInsecure(PermissionDenied):
    """A secret file that is a link, or that others can read."""


class Unauthenticated(KheishError):
    """A key is missing or was not accepted."""

    code = Code.UNAUTHENTICATED


class MasterKeyMissing(Unauthenticated):
    """The auth store is there and nothing says how to open it."""


class MasterKeyWrong(Unauthenticated):
    """The auth store was sealed for another master key; both key ids are named."""


class StoreTampered(Unauthenticated):
    """The auth store's seal is broken, or an older store was put in its place."""


class ResourceExhausted(KheishError):
    """Out of credit, over a cap, over a size, over a rate."""

    code = Code.RESOURCE_EXHAUSTED


class DeadlineExceeded(KheishError):
    """It took longer than it may."""

    code = Code.DEADLINE_EXCEEDED


class Cancelled(KheishError):
    """Somebody asked for it to stop."""

    code = Code.CANCELLED


class Unavailable(KheishError):
    """The other side failed."""

    code = Code.UNAVAILABLE


class DataLoss(KheishError):
    """Bytes that were whole once and are not."""

    code = Code.DATA_LOSS


class Aborted(KheishError):
    """Somebody else changed it first."""

    code = Code.ABORTED


def from_json(shown: Mapping[str, Json]) -> KheishError:
    """A refusal from the object that `as_json` made of it; the broad class of its code."""
    hint, wait, details = shown.get("hint"), shown.get("retry_after_s"), shown.get("details")
    return BY_CODE[Code(str(shown["code"]))](
        str(shown["message"]),
        hint=hint if isinstance(hint, str) else None,
        retryable=shown.get("retryable") is True,
        retry_after_s=wait if isinstance(wait, int | float) else None,
        details=details if isinstance(details, dict) else None,
    )


BY_CODE: dict[Code, type[KheishError]] = {
    kind.code: kind
    for kind in (
        KheishError,
        InvalidArgument,
        FailedPrecondition,
        NotFound,
        PermissionDenied,
        Unauthenticated,
        ResourceExhausted,
        DeadlineExceeded,
        Cancelled,
        Unavailable,
        DataLoss,
        Aborted,
    )
}
