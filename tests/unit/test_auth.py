"""Who asks: tokens, a real OIDC provider with real keys, and a proxy that is trusted or not."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from service.api import auth_oidc
from service.api.auth import Authenticator, AuthError, AuthSettings, ProviderAwayError, ProxySettings, issue
from service.api.auth_oidc import OidcSettings
from service.api.problems import problem_of
from service.api.remembered import Remembered
from service.records import Role
from service.store import Store

ISSUER = "https://id.example.org"
ROLES = {"team": {"default": Role.SUBMITTER}, "chiefs": {"default": Role.ADMIN, "other": Role.VIEWER}}


@dataclass(frozen=True)
class FromNow:
    """A time as a claim, told when the token is made: a case of a test is made long before."""

    seconds: float


@dataclass
class Provider:
    """An identity provider: it publishes keys and signs tokens."""

    keys: dict[str, Any] = field(default_factory=dict)
    asked: int = 0
    is_away: bool = False
    url: str = ""

    def published(self) -> bytes:
        found = []
        for name, key in self.keys.items():
            algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
            entry = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
            found.append({**entry, "kid": name, "alg": algorithm, "use": "sig"})
        return json.dumps({"keys": found}).encode()

    def token(self, key: str = "first", *, without: tuple[str, ...] = (), **claims: Any) -> str:  # noqa: ANN401  # claims
        now = time.time()
        whole = {"iss": ISSUER, "aud": "tuneyard", "sub": "ada", "iat": now, "exp": now + 300, **claims}
        whole.update({name: now + value.seconds for name, value in whole.items() if isinstance(value, FromNow)})
        algorithm = "RS256" if isinstance(self.keys[key], rsa.RSAPrivateKey) else "ES256"
        content = {name: value for name, value in whole.items() if name not in without}
        return jwt.encode(content, self.keys[key], algorithm, headers={"kid": key})


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def provider(rsa_key: rsa.RSAPrivateKey) -> Iterator[Provider]:
    found = Provider({"first": rsa_key, "second": ec.generate_private_key(ec.SECP256R1())})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked += 1
            self.send_response(503 if found.is_away else 200)
            self.end_headers()
            self.wfile.write(b"" if found.is_away else found.published())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}/keys"
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store.open(f"sqlite:///{tmp_path / 'service.db'}")
    yield found
    found.close()


@pytest.fixture
def oidc(provider: Provider, store: Store, monkeypatch: pytest.MonkeyPatch) -> Authenticator:
    """Waits for the provider, and keeps its keys, for longer than any machine takes over a test."""
    monkeypatch.setattr(auth_oidc, "TIMEOUT_S", 120.0)
    monkeypatch.setattr(auth_oidc, "SHORTEST_REFRESH_S", 600.0)
    settings = OidcSettings(ISSUER, "tuneyard", provider.url, role_map=ROLES, default_roles={"default": Role.VIEWER})
    return Authenticator(AuthSettings("oidc", oidc=settings), store)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("key", ["first", "second"])
def test_a_token_of_the_provider_names_its_user_and_roles(oidc: Authenticator, provider: Provider, key: str) -> None:
    found = oidc.authenticate(bearer(provider.token(key, groups=["team", "chiefs", "unknown"])), "")
    assert (found.user, found.roles) == ("ada", {"default": Role.ADMIN, "other": Role.VIEWER})
    assert oidc.authenticate(bearer(provider.token(key)), "").roles == {"default": Role.VIEWER}
    assert provider.asked == 1, "keys are kept"


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another"},
        {"aud": ["another"]},
        {"iss": "https://evil.example.org"},
        {"exp": FromNow(-60)},
        {"nbf": FromNow(600)},
        {"iat": FromNow(600)},
        {"sub": "a b"},
        {"sub": "../../root"},
        {"sub": 7},
        {"sub": ""},
        {"without": ("exp",)},
        {"without": ("aud",)},
        {"without": ("iss",)},
        {"without": ("sub",)},
        {"without": ("iat",)},
    ],
)
def test_a_token_that_is_not_for_us_does_not_count(
    oidc: Authenticator, provider: Provider, changes: dict[str, Any]
) -> None:
    try:
        token = provider.token(**changes)
    except TypeError:
        pytest.skip("the library signs no such claim")
    with pytest.raises(AuthError):
        oidc.authenticate(bearer(token), "")


def test_forged_tokens_do_not_count(oidc: Authenticator, provider: Provider) -> None:
    now = time.time()
    claims = {"iss": ISSUER, "aud": "tuneyard", "sub": "ada", "iat": now, "exp": now + 300}
    other = rsa.generate_private_key(65537, 2048)
    published = provider.published().decode()
    forged = [
        jwt.encode(claims, other, "RS256", headers={"kid": "first"}),
        jwt.encode(claims, None, "none", headers={"kid": "first"}),  # type: ignore[arg-type]  # as an attacker does
        jwt.encode(claims, "x" * 64, "HS256", headers={"kid": "first"}),
        jwt.encode(claims, other, "RS256", headers={"kid": "first", "jku": "http://127.0.0.1/keys"}),
        jwt.encode(claims, other, "RS256", headers={"jwk": json.loads(published)["keys"][0]}),
        provider.token()[:-4] + "AAAA",
        "a.b.c",
        "." * 5000,
    ]
    for token in forged:
        with pytest.raises(AuthError):
            oidc.authenticate(bearer(token), "")


def test_a_new_key_is_asked_for_but_not_without_end(
    oidc: Authenticator, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    oidc.authenticate(bearer(provider.token()), "")
    provider.keys["third"] = ec.generate_private_key(ec.SECP256R1())
    for _ in range(50):
        with pytest.raises(AuthError, match="does not publish"):
            oidc.authenticate(bearer(provider.token("third")), "")
    assert provider.asked == 1
    monkeypatch.setattr(auth_oidc, "SHORTEST_REFRESH_S", 0.0)
    assert oidc.authenticate(bearer(provider.token("third")), "").user == "ada"
    assert provider.asked == 2


def test_while_the_provider_is_away_its_known_keys_count(
    oidc: Authenticator, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.is_away = True
    with pytest.raises(ProviderAwayError, match="cannot be reached") as away:
        oidc.authenticate(bearer(provider.token()), "")
    problem = problem_of(away.value)
    assert problem is not None
    assert (problem.status_code, problem.headers) == (503, {"Retry-After": "2"})
    provider.is_away = False
    monkeypatch.setattr(auth_oidc, "SHORTEST_REFRESH_S", 0.0)
    oidc.authenticate(bearer(provider.token()), "")
    provider.is_away = True
    monkeypatch.setattr(auth_oidc, "KEYS_LAST_S", 0.0)
    assert oidc.authenticate(bearer(provider.token()), "").user == "ada"


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"{}", b'{"keys": 7}', b'{"keys": [7]}', b"\xff"])
def test_keys_that_are_none_are_the_providers_trouble(
    oidc: Authenticator, provider: Provider, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "published", lambda: answer)
    with pytest.raises(ProviderAwayError):
        oidc.authenticate(bearer(provider.token()), "")


def test_who_is_known_does_not_wait_while_the_provider_is_asked(
    oidc: Authenticator, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, published = provider.token(), provider.published()
    oidc.authenticate(bearer(known), "")
    is_asked, go_on = threading.Event(), threading.Event()

    def slowly() -> bytes:
        is_asked.set()
        go_on.wait(120)
        return published

    monkeypatch.setattr(provider, "published", slowly)
    monkeypatch.setattr(auth_oidc, "KEYS_LAST_S", 0.0)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(oidc.authenticate, bearer(known), "")
        assert is_asked.wait(60)
        assert oidc.authenticate(bearer(known), "").user == "ada"
        assert not first.done()
        go_on.set()
        assert first.result().user == "ada"


def test_subjects_of_providers_that_name_their_kind_are_users(oidc: Authenticator, provider: Provider) -> None:
    assert oidc.authenticate(bearer(provider.token(sub="auth0|507f1f77")), "").user == "auth0|507f1f77"


def test_api_tokens_count_beside_the_provider(oidc: Authenticator, store: Store) -> None:
    text, record = issue(store, "robot", "ci", {"default": Role.SUBMITTER})
    found = oidc.authenticate(bearer(text), "")
    assert (found.user, found.token_id) == ("robot", record.id)


def test_a_token_is_bound_to_its_id_and_kept_as_a_hash(store: Store, tmp_path: Path) -> None:
    authenticator = Authenticator(AuthSettings(), store)
    text, record = issue(store, "ada", "laptop", {"default": Role.VIEWER}, expires_at=time.time() + 100)
    secret = text.rpartition("_")[2]
    assert authenticator.authenticate(bearer(text), "").user == "ada"
    for wrong in (f"ty_other_{secret}", text[:-1], text + "0", text.upper(), f"ty_{record.id}_", secret, "ty_", "ty__"):
        with pytest.raises(AuthError):
            authenticator.authenticate(bearer(wrong), "")
    later = Authenticator(AuthSettings(), store, clock=lambda: time.time() + 101)
    with pytest.raises(AuthError, match="expired"):
        later.authenticate(bearer(text), "")
    store.close()
    assert all(secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", "bearer\tx", "Bearer " + "x" * 20_000])
def test_what_is_no_credential_is_refused_with_what_to_do(store: Store, header: str) -> None:
    with pytest.raises(AuthError, match="token"):
        Authenticator(AuthSettings(), store).authenticate({"authorization": header}, "")


@pytest.mark.parametrize(
    ("address", "is_trusted"),
    [
        ("10.1.2.3", True),
        ("fd00::1", True),
        ("10.2.0.1", False),
        ("203.0.113.1", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_only_the_trusted_proxy_says_who_asks(store: Store, address: str, is_trusted: bool) -> None:  # noqa: FBT001  # a case
    proxy = ProxySettings(("10.1.0.0/16", "fd00::/8"), role_map=ROLES, default_roles={"other": Role.VIEWER})
    authenticator = Authenticator(AuthSettings("proxy", proxy=proxy), store)
    headers = {"x-forwarded-user": "ada", "x-forwarded-groups": "team, strangers"}
    if not is_trusted:
        with pytest.raises(AuthError):
            authenticator.authenticate(headers, address)
        return
    found = authenticator.authenticate(headers, address)
    assert (found.user, found.roles) == ("ada", {"default": Role.SUBMITTER, "other": Role.VIEWER})
    with pytest.raises(AuthError):
        authenticator.authenticate({"x-forwarded-user": "ada\r\nx: y"}, address)


def test_what_is_remembered_is_forgotten_with_a_change_and_after_a_moment() -> None:
    now, answers = [0.0], iter(range(100))
    known: Remembered[str, int] = Remembered(lambda _: next(answers), clock=lambda: now[0])
    assert [known("a"), known("a"), known("b")] == [0, 0, 1]
    now[0] += 1.9
    assert (known("a"), known.has("a")) == (0, True)
    now[0] += 0.2
    assert (known.has("a"), known("a")) == (False, 2)
    known.forget()
    assert known("a") == 3
