"""Whom a connection trusts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl


def trust_of(url: str) -> ssl.SSLContext:
    """The system's certificates for an https address, whatever the environment says; nobody for any other.

    Reading the system's certificates takes 35 ms, which an address without TLS has no use for.
    """
    if not url.lower().startswith("https:"):
        import ssl

        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    import httpx2

    return httpx2.create_ssl_context(trust_env=False)
