"""Who counts as whom, from the operator's variables: whole, or refused with every one that is missing or unreadable."""

from __future__ import annotations

import pytest

from service.errors import SpecError
from service.records import Role
from service.server.auth_settings import auth_settings

OIDC = {
    "oidc_issuer": "https://id.example",
    "oidc_audience": "tuneyard",
    "oidc_jwks_url": "https://id.example/keys",
    "oidc_roles_claim": "realm_access.roles",
    "role_map": '{"ml": {"vision": "submitter"}}',
    "default_roles": '{"default": "viewer"}',
}


def test_nothing_is_needed_for_tokens_or_for_none() -> None:
    assert auth_settings("none", {}).mode == "none"
    assert auth_settings("token", {}).mode == "token"


def test_oidc_reads_its_variables() -> None:
    found = auth_settings("oidc", OIDC).oidc
    assert found is not None
    assert (found.issuer, found.audience, found.jwks_url) == tuple(OIDC.values())[:3]
    assert (found.user_claim, found.roles_claim) == ("sub", "realm_access.roles")
    assert found.role_map == {"ml": {"vision": Role.SUBMITTER}}
    assert found.default_roles == {"default": Role.VIEWER}


def test_a_proxy_is_trusted_by_its_network() -> None:
    given = {"proxy_trusted": "10.0.0.0/8, 127.0.0.1/32", "proxy_user_header": "X-User"}
    found = auth_settings("proxy", given).proxy
    assert found is not None
    assert found.user_header == "x-user"
    assert [found.trusts(address) for address in ("10.1.2.3", "127.0.0.1", "192.0.2.1")] == [True, True, False]


@pytest.mark.parametrize(
    ("kind", "given", "names"),
    [
        ("oidc", {}, ["TUNEYARD_OIDC_ISSUER", "TUNEYARD_OIDC_AUDIENCE", "TUNEYARD_OIDC_JWKS_URL"]),
        ("proxy", {}, ["TUNEYARD_PROXY_TRUSTED"]),
        ("oidc", {**OIDC, "role_map": "[]", "default_roles": '{"a": "king"}'}, ["ROLE_MAP", "DEFAULT_ROLES", "king"]),
    ],
)
def test_all_that_is_wrong_is_told_at_once(kind: str, given: dict[str, str], names: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        auth_settings(kind, given)
    assert [name for name in names if name not in str(caught.value)] == []
