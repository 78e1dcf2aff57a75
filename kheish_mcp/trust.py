"""Whom a connection trusts."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl


def trust_of(url: str) -> ssl.SSLContext:
    """The system's certificates for an https address; nobody for any other, which has no use for them."""
    if url.lower().startswith("https:"):
        return trust_of_the_system()
    import ssl

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@cache
def trust_of_the_system() -> ssl.SSLContext:
    """The system's certificates, whatever the environment says; read once, for each reading takes 35 ms."""
    import httpx2

    return httpx2.create_ssl_context(trust_env=False)
