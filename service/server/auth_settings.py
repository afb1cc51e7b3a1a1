"""How people prove who they are, from the operator's settings: TUNEYARD_OIDC_… and TUNEYARD_PROXY_… variables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from service.api.auth import AuthSettings, ProxySettings
from service.errors import Fault, SpecError
from service.records import Role
from service.settings import PREFIX

_OIDC: Final = ("oidc_issuer", "oidc_audience", "oidc_jwks_url")


def auth_settings(kind: str, variables: Mapping[str, str]) -> AuthSettings:
    """The settings for one of `AUTH_KINDS`. SpecError with every variable that is missing or cannot be read."""
    if kind == "oidc":
        from service.api.auth_oidc import OidcSettings

        _need(variables, _OIDC, kind)
        shared = _roles(variables)
        issuer, audience, jwks_url = (variables[name] for name in _OIDC)
        claims: dict[str, Any] = {
            name: variables[f"oidc_{name}"] for name in ("user_claim", "roles_claim") if f"oidc_{name}" in variables
        }
        return AuthSettings("oidc", oidc=OidcSettings(issuer, audience, jwks_url, **claims, **shared))
    if kind == "proxy":
        _need(variables, ("proxy_trusted",), kind)
        trusted = tuple(variables["proxy_trusted"].replace(",", " ").split())
        names = ("user_header", "groups_header")
        given = {name: variables.get(f"proxy_{name}") for name in names}
        headers: dict[str, Any] = {name: text.lower() for name, text in given.items() if text is not None}
        return AuthSettings("proxy", proxy=ProxySettings(trusted, **headers, **_roles(variables)))
    return AuthSettings("none" if kind == "none" else "token")


def _need(variables: Mapping[str, str], names: tuple[str, ...], kind: str) -> None:
    missing = [name for name in names if name not in variables]
    if missing:
        message = f"`--auth {kind}` needs this variable"
        raise SpecError([Fault(message, f"{PREFIX}{name.upper()}") for name in missing])


def _roles(variables: Mapping[str, str]) -> dict[str, Any]:
    """`role_map`: {group: {project: role}} and `default_roles`: {project: role}, both as JSON."""
    faults: list[Fault] = []
    found: dict[str, Any] = {}
    for name, is_nested in (("role_map", True), ("default_roles", False)):
        if name not in variables:
            continue
        try:
            given = json.loads(variables[name])
            found[name] = {key: _by_project(value) for key, value in given.items()} if is_nested else _by_project(given)
        except (ValueError, AttributeError) as error:
            shape = '{"GROUP": {"PROJECT": "ROLE"}}' if is_nested else '{"PROJECT": "ROLE"}'
            allowed = f"{shape} with * for all projects, and a role of {', '.join(Role)}"
            faults.append(Fault(str(error), f"{PREFIX}{name.upper()}", given=variables[name], allowed=allowed))
    if faults:
        raise SpecError(faults)
    return found


def _by_project(given: Mapping[str, str]) -> dict[str, Role]:
    return {project: Role(role) for project, role in given.items()}
