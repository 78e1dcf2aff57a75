"""Whom a connection trusts: who it is must be proved over https, and nobody is believed by a context without certificates."""

from __future__ import annotations

import ssl

import pytest

from kheish_mcp.trust import trust_of, trust_of_the_system


@pytest.mark.parametrize("url", ["https://openrouter.ai/api/v1", "HTTPS://openrouter.ai", "http://127.0.0.1:1234", ""])
def test_no_certificate_goes_unchecked(url: str):
    trust = trust_of(url)
    assert trust.verify_mode is ssl.CERT_REQUIRED
    assert trust.check_hostname


def test_the_environment_chooses_no_certificates(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")  # whoever goes by it fails
    trust_of_the_system.cache_clear()
    trust_of("https://openrouter.ai/api/v1")


def test_the_system_s_certificates_are_read_once():
    assert trust_of("https://openrouter.ai/api/v1") is trust_of("https://api.openai.com/v1")


def test_an_address_without_tls_costs_no_certificates():
    assert trust_of("http://127.0.0.1:1234").cert_store_stats()["x509_ca"] == 0
