"""mcpscore, the field's quality score: everything over stdio and HTTPS, and over plain HTTP everything but TLS."""

from __future__ import annotations

import ipaddress
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kheish_mcp.transports.serving import Front
from tests.conftest import CANARY, environment
from tests.emulators.openrouter import OpenRouterEmulator
from tests.sites import opened_site

from .workshop import python_with, run

pytestmark = pytest.mark.anyio

MCPSCORE = "mcpscore==1.29.0"
RUN = "import sys; from mcpscore.cli import main; sys.exit(main())"


@pytest.fixture
def env(state_root: Path, emulator: OpenRouterEmulator) -> dict[str, str]:
    return environment(state_root, OPENROUTER_API_KEY=CANARY, OPENROUTER_BASE_URL=emulator.base_url)


async def audit(*options: str | Path, env: dict[str, str]) -> dict[str, Any]:
    """mcpscore's report on a server, with every tool called that only reads."""
    python = python_with(MCPSCORE)
    code, told, complaint = await run(python, "-c", RUN, "--no-config", "--json", "--smoke", *options, env=env)
    assert code == 0, complaint[-4000:]
    report: dict[str, Any] = json.loads(told)
    return report


def failed(report: dict[str, Any]) -> list[str]:
    """The rules that were not kept."""
    return [rule["rule_id"] for rule in (*report["results"], *report["readiness"]["results"]) if not rule["passed"]]


def noted(scores: list[str], transport: str, report: dict[str, Any]) -> None:
    """Notes a score to be printed."""
    scores.append(
        f"mcpscore over {transport}: {report['score']}/{report['max_score']}, lost: {failed(report) or 'nothing'}"
    )


async def test_nothing_is_lost_over_stdio(env: dict[str, str], scores: list[str]):
    names = [word for name in env for word in ("--env", name)]
    serve = ("--stdio", sys.executable, "-m", "kheish_mcp", "serve", "--transport", "stdio")
    report = await audit(*names, *serve, env=env)
    noted(scores, "stdio", report)
    assert failed(report) == []
    assert report["score"] == report["max_score"]


@asynccontextmanager
async def served(env: dict[str, str], workspace: Path, front: Front | None = None) -> AsyncGenerator[str]:
    """Where a site is reached."""
    async with opened_site(env, workspace, front=front) as site:
        yield f"{'https' if front else 'http'}://127.0.0.1:{site.port}/mcp"


async def test_nothing_but_tls_is_lost_over_http(env: dict[str, str], workspace: Path, scores: list[str]):
    async with served(env, workspace) as url:
        report = await audit(url, env=environment(workspace))
    noted(scores, "HTTP", report)
    assert failed(report) == ["security_tls_enabled"]


async def test_nothing_is_lost_over_https(env: dict[str, str], workspace: Path, scores: list[str]):
    front = own_certificate(workspace)
    async with served(env, workspace, front) as url:
        report = await audit(url, env=environment(workspace, SSL_CERT_FILE=str(front.certificate)))
    noted(scores, "HTTPS", report)
    assert failed(report) == []
    assert report["score"] == report["max_score"]


def own_certificate(folder: Path) -> Front:
    """A front with a certificate for this machine that vouches for itself."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    front = Front(certificate=folder / "certificate.pem", key=folder / "key.pem")
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *private))
    return front
