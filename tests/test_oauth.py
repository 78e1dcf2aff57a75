"""OAuth: whose token is taken and whose is not, against a real issuer on this machine."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kheish_mcp.errors import ConfigError, PermissionDenied, Unauthenticated, Unavailable
from kheish_mcp.stores.database import Database
from kheish_mcp.stores.tokens import TokenStore
from kheish_mcp.transports.access import Access
from kheish_mcp.transports.jwks import COOLDOWN_S, MAX_AGE_S, Jwks, is_safe, places_of
from kheish_mcp.transports.oauth import PLACES, ResourceServer, owner_of, scope_of
from tests.emulators.issuer import IssuerEmulator, SigningKey, unsigned

pytestmark = pytest.mark.anyio

AUDIENCE = "https://media.example/mcp"
BASE = "https://media.example"
RSA_KEY, EC_KEY, ED_KEY = (
    SigningKey.make("a", "RS256"),
    SigningKey.make("b", "ES256"),
    SigningKey.make("c", "EdDSA"),
)
STRANGER = SigningKey.make("b", "ES256")


@pytest.fixture(scope="module")
def running() -> Iterator[IssuerEmulator]:
    """An issuer with a key of each kind."""
    with IssuerEmulator(RSA_KEY, EC_KEY, ED_KEY) as issuer:
        yield issuer


@pytest.fixture
def issuer(running: IssuerEmulator) -> IssuerEmulator:
    """The issuer as it was to begin with, whatever a test before has told it."""
    running.reset()
    return running


@pytest.fixture
def server(issuer: IssuerEmulator) -> ResourceServer:
    """A resource server that trusts it."""
    return ResourceServer(issuer.issuer, AUDIENCE)


async def refused(server: ResourceServer, token: str) -> str:
    """Why a token is not taken; the refusal never quotes it."""
    with pytest.raises(Unauthenticated) as refusal:
        await server.judge(token)
    assert refusal.value.details == {"oauth_error": "invalid_token"}
    assert len(token) < 2 or token not in json.dumps(refusal.value.as_json())
    return refusal.value.message


def from_now(seconds: int) -> Callable[[], int]:
    """A moment, once it is asked for: parameters are made long before their test runs."""
    return lambda: int(time.time()) + seconds


def now(change: dict[str, Any]) -> dict[str, Any]:
    """Claims with their moments."""
    return {name: value() if callable(value) else value for name, value in change.items()}


@pytest.mark.parametrize("key", [RSA_KEY, EC_KEY, ED_KEY], ids=lambda key: key.algorithm)
async def test_a_good_token_of_each_algorithm_is_taken(issuer: IssuerEmulator, server: ResourceServer, key: SigningKey):
    who = await server.judge(issuer.sign(issuer.claims(AUDIENCE), key))
    assert (who.at_hand, who.scope) == (False, "generate")
    assert who.owner.startswith("oauth-")
    assert "user-1" not in who.owner


@pytest.mark.parametrize(("change", "why"), [
    ({"aud": "https://other.example/mcp"}, "another audience"),
    ({"aud": [AUDIENCE + "/"]}, "another audience"),
    ({"aud": None}, "not good here"),
    ({"iss": "https://other.example"}, "another issuer"),
    ({"iss": None}, "not good here"),
    ({"exp": from_now(-31)}, "expired"),
    ({"exp": None}, "not good here"),
    ({"nbf": from_now(60)}, "not valid yet"),
    ({"sub": None}, "not good here"),
    ({"sub": 7}, "not good here"),
    ({"client_id": 7}, "client is no text"),
    ({"cnf": {"jkt": "x"}}, "bound to a key"),
])  # fmt: skip
async def test_a_token_with_a_wrong_claim_is_refused(
    issuer: IssuerEmulator, server: ResourceServer, change: dict[str, Any], why: str
):
    assert why in await refused(server, issuer.sign(issuer.claims(AUDIENCE, **now(change))))


@pytest.mark.parametrize("change", [
    {"aud": ["https://other.example", AUDIENCE]},
    {"exp": from_now(-10)},
    {"nbf": from_now(10)},
    {"client_id": None, "azp": "client-1"},
])  # fmt: skip
async def test_clocks_may_differ_a_little_and_an_audience_may_be_one_of_several(
    issuer: IssuerEmulator, server: ResourceServer, change: dict[str, Any]
):
    plain = await server.judge(issuer.sign(issuer.claims(AUDIENCE)))
    assert await server.judge(issuer.sign(issuer.claims(AUDIENCE, **now(change)))) == plain


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "HS256", "RS512", "ES384", "PS256"])
async def test_the_token_never_chooses_how_it_is_checked(
    issuer: IssuerEmulator, server: ResourceServer, algorithm: str
):
    assert await refused(server, unsigned(issuer.claims(AUDIENCE), algorithm))
    assert not issuer.asked  # refused before anything is looked up


async def test_a_public_key_is_no_hmac_secret(issuer: IssuerEmulator, server: ResourceServer):
    public = RSA_KEY.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[union-attr]
    for algorithm in ("HS256", "RS256"):
        body = unsigned(issuer.claims(AUDIENCE), algorithm).rstrip(".")
        mac = hmac.new(public, body.encode(), hashlib.sha256).digest()
        assert await refused(server, f"{body}.{jwt.utils.base64url_encode(mac).decode()}")


async def test_a_key_signs_only_by_its_own_algorithm(issuer: IssuerEmulator, server: ResourceServer):
    claims = issuer.claims(AUDIENCE)
    assert "not good" in await refused(server, issuer.sign(claims, RSA_KEY, kid="b"))
    assert "not good" in await refused(server, issuer.sign(claims, STRANGER))
    assert "does not have" in await refused(server, issuer.sign(claims, RSA_KEY, kid="z"))
    assert "does not have" in await refused(server, issuer.sign(claims, SigningKey(None, "RS256", RSA_KEY.private)))


@pytest.mark.parametrize("typ", ["JWT", "at+jwt", "application/at+jwt", "AT+JWT"])
async def test_access_tokens_come_under_these_types(issuer: IssuerEmulator, server: ResourceServer, typ: str):
    assert await server.judge(issuer.sign(issuer.claims(AUDIENCE), typ=typ))


@pytest.mark.parametrize("headers", [
    {"typ": "logout+jwt"}, {"typ": "dpop+jwt"}, {"crit": ["x"], "x": 1}, {"b64": False, "crit": ["b64"]},
])  # fmt: skip
async def test_other_tokens_of_the_issuer_are_no_access_tokens(
    issuer: IssuerEmulator, server: ResourceServer, headers: dict[str, Any]
):
    assert await refused(server, issuer.sign(issuer.claims(AUDIENCE), **headers))


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "e30.e30.", "." * 5, "\ud800", "[]", "W10.e30.x", "x" * 20_000])
async def test_what_is_no_token_is_refused_without_asking_anybody(
    issuer: IssuerEmulator, server: ResourceServer, token: str
):
    assert await refused(server, token)
    assert not issuer.asked


async def test_a_token_whose_words_were_changed_is_refused(issuer: IssuerEmulator, server: ResourceServer):
    head, body, signature = issuer.sign(issuer.claims(AUDIENCE)).split(".")
    wider = json.dumps(issuer.claims(AUDIENCE, scope="admin")).encode()
    assert "not good" in await refused(server, f"{head}.{jwt.utils.base64url_encode(wider).decode()}.{signature}")
    assert "not good" in await refused(server, f"{head}.{body}.{signature[:-8]}AAAAAAAA")


@pytest.mark.parametrize(("claims", "scope"), [
    ({"scope": "read"}, "read"),
    ({"scope": "openid admin read"}, "admin"),
    ({"scp": ["generate", "x"]}, "generate"),
    ({"scp": "read generate"}, "generate"),
    ({"scope": "read", "scp": ["admin"]}, "admin"),
])  # fmt: skip
def test_the_widest_scope_that_is_named_counts(claims: dict[str, Any], scope: str):
    assert scope_of(claims) == scope


@pytest.mark.parametrize("claims", [
    {}, {"scope": ""}, {"scope": "openid profile"}, {"scope": "administrator"}, {"scope": "Admin"}, {"scp": [["admin"]]},
    {"scope": 7}, {"scope": {"admin": True}}, {"scope": "read,admin"}, {"scope": None},
])  # fmt: skip
def test_a_token_without_a_scope_of_ours_may_nothing(claims: dict[str, Any]):
    with pytest.raises(PermissionDenied) as refusal:
        scope_of(claims)
    assert refusal.value.details == {"needed_scope": "read"}


def test_no_two_callers_share_an_owner():
    triples = [
        ("https://i", "c", "s"), ("https://i", "c", "t"), ("https://i", "d", "s"), ("https://j", "c", "s"),
        ("https://i", "", "cs"), ("https://i", "cs", ""), ("https://i", 'c", "s', ""), ("https://i|c", "", "s"),
    ]  # fmt: skip
    owners = {owner_of(issuer, {"client_id": client, "sub": sub}) for issuer, client, sub in triples}
    assert len(owners) == len(triples)
    assert owner_of("https://i", {"azp": "c", "sub": "s"}) == owner_of("https://i", {"client_id": "c", "sub": "s"})


async def test_a_storm_of_unknown_key_ids_asks_the_issuer_once(issuer: IssuerEmulator):
    clock = [0.0]
    keys = Jwks(issuer.issuer, now=lambda: clock[0])
    assert await keys.find("a")
    clock[0] += COOLDOWN_S
    issuer.asked.clear()
    async with anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(keys.find, f"unknown-{number}")
    assert issuer.asked.count("/keys") == 1
    assert await keys.find("unknown") is None
    assert issuer.asked.count("/keys") == 1


async def test_a_first_storm_asks_once_too_and_all_are_answered(issuer: IssuerEmulator, server: ResourceServer):
    token, owners = issuer.sign(issuer.claims(AUDIENCE)), []

    async def one() -> None:
        owners.append((await server.judge(token)).owner)

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(one)
    assert len(owners) == 50
    assert issuer.asked.count("/keys") == 1


async def test_a_new_key_is_found_and_an_old_one_ends_within_the_hour(issuer: IssuerEmulator):
    clock = [0.0]
    keys = Jwks(issuer.issuer, now=lambda: clock[0])
    assert await keys.find("a")
    issuer.keys = [SigningKey.make("new")]
    clock[0] += COOLDOWN_S - 1
    assert await keys.find("new") is None  # not yet asked again
    clock[0] += 1
    assert await keys.find("new")
    assert await keys.find("a") is None
    issuer.keys = [EC_KEY, ED_KEY]
    assert await keys.find("new")
    clock[0] += MAX_AGE_S
    assert await keys.find("new") is None


async def test_an_issuer_that_is_down_takes_nobody_out_who_was_in(issuer: IssuerEmulator):
    clock = [0.0]
    keys = Jwks(issuer.issuer, now=lambda: clock[0])
    issuer.is_down = True
    for _ in range(3):
        with pytest.raises(Unavailable) as refusal:
            await keys.find("a")
        assert refusal.value.retry_after_s == COOLDOWN_S
    assert len(issuer.asked) == 3  # the three places, once
    issuer.is_down = False
    clock[0] += COOLDOWN_S
    assert await keys.find("a")
    issuer.is_down = True
    clock[0] += MAX_AGE_S
    assert await keys.find("a")


async def test_a_caller_who_leaves_does_not_leave_the_others_without_keys(issuer: IssuerEmulator):
    keys = Jwks(issuer.issuer)
    async with anyio.create_task_group() as group:
        group.start_soon(keys.find, "a")
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert await keys.find("a")


@pytest.mark.parametrize("path", ["", "/tenant", "/tenant/"])
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_the_metadata_is_found_at_each_of_its_places(path: str, place: int):
    with IssuerEmulator(EC_KEY, path=path) as issuer:
        url = places_of(issuer.issuer)[place]
        document = {"issuer": issuer.issuer, "jwks_uri": f"{issuer.origin}/keys"}
        issuer.documents = {url.removeprefix(issuer.origin): document}
        assert await Jwks(issuer.issuer).find("b")


@pytest.mark.parametrize("document", [
    {"issuer": "https://other.example", "jwks_uri": "KEYS"},
    {"jwks_uri": "KEYS"},
    {"issuer": "ISSUER"},
    {"issuer": "ISSUER", "jwks_uri": 7},
    {"issuer": "ISSUER", "jwks_uri": "file:///etc/passwd"},
    {"issuer": "ISSUER", "jwks_uri": "http://169.254.169.254/keys"},
    {"issuer": "ISSUER", "jwks_uri": "http://user@127.0.0.1/keys"},
    b"<html>", b"[" * 100_000, b"x" * (2 << 20), b"",
])  # fmt: skip
async def test_metadata_that_is_not_the_issuer_s_brings_no_keys(issuer: IssuerEmulator, document: Any):
    if isinstance(document, dict):
        words = {"ISSUER": issuer.issuer, "KEYS": f"{issuer.origin}/keys"}
        document = {
            name: words.get(value, value) if isinstance(value, str) else value for name, value in document.items()
        }
    issuer.documents = {"/.well-known/oauth-authorization-server": document}
    with pytest.raises(Unavailable):
        await Jwks(issuer.issuer).find("a")
    assert "/keys" not in issuer.asked


SHORT = SigningKey("short", "RS256", rsa.generate_private_key(65537, 1024))
WIDE = SigningKey("wide", "ES384", ec.generate_private_key(ec.SECP384R1()))


@pytest.mark.parametrize("entry", [
    SHORT.published, WIDE.published, EC_KEY.published | {"use": "enc"}, EC_KEY.published | {"key_ops": ["sign"]},
    RSA_KEY.published | {"alg": "RS512"}, EC_KEY.published | {"d": "AQ"}, EC_KEY.published | {"x": "AQ"},
    {"kty": "oct", "kid": "b", "k": "c2VjcmV0", "alg": "HS256"}, {"kty": ["EC"]}, {"kty": "EC", "crv": "P-256"},
    EC_KEY.published | {"kid": 7}, EC_KEY.published | {"key_ops": 7}, {}, 7, None,
])  # fmt: skip
async def test_a_key_of_another_kind_is_passed_over(issuer: IssuerEmulator, entry: Any):
    issuer.documents["/keys"] = {"keys": [entry]}
    with pytest.raises(Unavailable):
        await Jwks(issuer.issuer).find("b")
    issuer.documents["/keys"] = {"keys": [entry, ED_KEY.published]}
    keys = Jwks(issuer.issuer)
    assert await keys.find("c")
    assert await keys.find("b") is None


async def test_a_single_key_needs_no_id(issuer: IssuerEmulator):
    issuer.keys = [SigningKey(None, "ES256", EC_KEY.private)]
    server = ResourceServer(issuer.issuer, AUDIENCE)
    assert await server.judge(issuer.sign(issuer.claims(AUDIENCE)))


@pytest.mark.parametrize("moved", ["/.well-known/oauth-authorization-server", "/keys"])
async def test_a_redirect_is_not_followed(issuer: IssuerEmulator, moved: str):
    issuer.documents |= {"/elsewhere": issuer.documents.get(moved, {"keys": [EC_KEY.published]}), moved: "/elsewhere"}
    with pytest.raises(Unavailable):
        await Jwks(issuer.issuer).find("b")
    assert "/elsewhere" not in issuer.asked


@pytest.mark.parametrize("url", [
    "http://issuer.example", "https://", "ftp://127.0.0.1", "https://a b", "https://x?y", "https://x#y", "https://u@x",
    "https://x:0", "https://x:y", "https://x\n", "", "https://ü.example", "//x", "http://127.0.0.1.evil.example",
])  # fmt: skip
def test_an_issuer_that_is_not_safe_to_ask_is_a_configuration_error(url: str):
    assert not is_safe(url)
    with pytest.raises(ConfigError):
        ResourceServer(url, AUDIENCE)


@pytest.mark.parametrize("audience", ["", " "])
def test_an_issuer_without_an_audience_is_a_configuration_error(audience: str):
    with pytest.raises(ConfigError, match="--oauth-audience"):
        ResourceServer("https://issuer.example", audience)


@pytest.mark.parametrize(("audience", "resource", "place"), [
    (f"{BASE}/mcp", f"{BASE}/mcp", f"{BASE}{PLACES[1]}"),
    (BASE, BASE, f"{BASE}{PLACES[0]}"),
    ("api://kheish", f"{BASE}/mcp", f"{BASE}{PLACES[1]}"),
    ("https://elsewhere.example/api", f"{BASE}/mcp", f"{BASE}{PLACES[1]}"),
])  # fmt: skip
def test_the_metadata_says_what_this_is_and_where_to_sign_in(audience: str, resource: str, place: str):
    server = ResourceServer("https://issuer.example/", audience)
    assert server.metadata_url(BASE) == server.metadata_url(BASE + "/") == place
    assert server.metadata(BASE) == {
        "resource": resource,
        "resource_name": "Kheish",
        "authorization_servers": ["https://issuer.example/"],
        "scopes_supported": ["read", "generate", "admin"],
        "bearer_methods_supported": ["header"],
    }


async def test_with_an_issuer_no_address_is_open_and_own_tokens_work_beside_it(
    issuer: IssuerEmulator, server: ResourceServer, state_root: Path
):
    async with Database.open(state_root) as database:
        tokens = TokenStore(database)
        access = Access(tokens, server)
        for host in ("127.0.0.1", "0.0.0.0"):
            await access.check_bind(host)
            with pytest.raises(Unauthenticated) as refusal:
                await access.judge(None)
            assert access.challenge(refusal.value, BASE) == (
                f'Bearer realm="kheish", resource_metadata="{BASE}/.well-known/oauth-protected-resource/mcp", '
                'scope="read generate"'
            )
        _, secret = await tokens.create("laptop", "admin")
        assert (await access.judge(f"Bearer {secret.reveal()}")).scope == "admin"
        theirs = await access.judge(f"Bearer {issuer.sign(issuer.claims(AUDIENCE, scope='read'))}")
        assert theirs.scope == "read"
        assert await access.admits(theirs.owner)
        assert not await access.admits("local")
        with pytest.raises(PermissionDenied) as lacking:
            await access.judge(f"Bearer {issuer.sign(issuer.claims(AUDIENCE, scope='openid'))}")
        told = access.challenge(lacking.value, BASE)
        assert 'error="insufficient_scope"' in told
        assert 'scope="read"' in told
        assert "resource_metadata=" in told
