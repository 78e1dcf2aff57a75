"""Who calls, and how much that caller may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from .errors import PermissionDenied

Scope = Literal["read", "generate", "admin"]
# Each holds the ones before it: read lists and reads, generate also calls tools, admin also sees runtime and workspace.
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose assets these are, whether the caller sits on this machine, and the widest scope that it holds."""

    owner: str
    at_hand: bool
    scope: Scope = "admin"

    def may(self, needed: Scope) -> bool:
        """Whether its scope holds the needed one."""
        return SCOPES.index(self.scope) >= SCOPES.index(needed)

    def check(self, needed: Scope) -> None:
        """PermissionDenied, with both scopes in its details, where it may not."""
        if not self.may(needed):
            raise PermissionDenied(
                f"This needs the scope {needed}, and you have {self.scope}.",
                hint=f"Use a token with the scope {needed}.",
                details={"needed_scope": needed, "scope": self.scope},
            )


LOCAL: Final = Principal("local", at_hand=True)
