"""OIDC bearer tokens: signature by the provider's published keys, issuer, audience, times, and whom the claims name."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jwt

from service.api.auth import AuthError, ProviderAwayError, RoleMap, checked_user, merged
from service.records import Principal, Role

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_S: Final = 30.0  # by which the provider's clock may differ
KEYS_LAST_S: Final = 600.0
SHORTEST_REFRESH_S: Final = 10.0  # tokens with made-up key ids must not make the service ask without end
TIMEOUT_S: Final = 5.0
_log: Final = logging.getLogger("tuneyard.api")


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """The provider: whose tokens count, for whom they must be meant, where its keys are, and what its claims give.

    `role_map` gives roles by project for each value of `roles_claim` (dots lead into nested claims, as in
    `realm_access.roles`); everybody has `default_roles`.
    """

    issuer: str
    audience: str
    jwks_url: str
    user_claim: str = "sub"
    roles_claim: str = "groups"
    role_map: RoleMap = field(default_factory=dict)
    default_roles: Mapping[str, Role] = field(default_factory=dict)


class OidcVerifier:
    """Verifies tokens; keeps the provider's keys."""

    def __init__(self, settings: OidcSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._client = jwt.PyJWKClient(settings.jwks_url, cache_jwk_set=False, timeout=TIMEOUT_S)
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at: float | None = None
        self._is_away = False
        self._lock = threading.Lock()

    def principal(self, token: str) -> Principal:
        """Whom the token names. AuthError where it does not count, ProviderAwayError where that cannot be known."""
        settings = self._settings
        try:
            header = jwt.get_unverified_header(token)
            key = self._key(header.get("kid"))
            if header.get("alg") not in ALGORITHMS:
                msg = "the token is signed by an algorithm that is not taken"
                raise AuthError(msg)
            claims: dict[str, Any] = jwt.decode(
                token, key.key, algorithms=[key.algorithm_name], audience=settings.audience, issuer=settings.issuer,
                leeway=LEEWAY_S, options={"require": ["exp", "iat", "iss", "aud", settings.user_claim]},
            )  # fmt: skip
        except jwt.PyJWTError as error:
            msg = f"the token does not count: {type(error).__name__.removesuffix('Error')}; log in again"
            raise AuthError(msg) from error
        groups = _claim(claims, settings.roles_claim)
        names = groups if isinstance(groups, list) else [groups]
        mapped = [settings.role_map[name] for name in names if isinstance(name, str) and name in settings.role_map]
        return Principal(checked_user(claims[settings.user_claim]), merged([settings.default_roles, *mapped]))

    def _key(self, name: object) -> jwt.PyJWK:
        """The provider's key of this name; only who needs one that is not known waits while the provider is asked."""
        is_known = isinstance(name, str) and name in self._keys
        if self._is_due(name) and self._lock.acquire(blocking=not is_known, timeout=-1 if is_known else TIMEOUT_S):
            try:
                if self._is_due(name):  # nobody else has asked meanwhile
                    self._read_keys()
            finally:
                self._lock.release()
        found = self._keys.get(name) if isinstance(name, str) else None
        if found is None and (self._is_away or self._read_at is None):
            msg = "the identity provider cannot be reached, so no one can be identified; try again later"
            raise ProviderAwayError(msg)
        if found is None or found.algorithm_name not in ALGORITHMS:
            msg = "the token is signed by a key that the provider does not publish; log in again"
            raise AuthError(msg)
        return found

    def _is_due(self, name: object) -> bool:
        """Whether the keys are old, or may have been joined by one of this name."""
        age = None if self._read_at is None else self._clock() - self._read_at
        is_known = isinstance(name, str) and name in self._keys
        return age is None or age > KEYS_LAST_S or (not is_known and age > SHORTEST_REFRESH_S)

    def _read_keys(self) -> None:
        """Ask the provider; while it is away, the keys that are known go on to count."""
        try:
            found = self._client.get_signing_keys()
        except Exception as error:  # noqa: BLE001  # whatever it answers: it may be no JSON, or JSON of any shape
            _log.warning("the identity provider's keys cannot be read: %s", error)
            self._is_away = True
        else:
            self._keys = {key.key_id: key for key in found if key.key_id is not None}
            self._is_away = False
        self._read_at = self._clock()  # not before: who comes meanwhile waits for what is found


def _claim(claims: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401  # any JSON value
    """The value at a dotted path; None where there is none."""
    found: Any = claims
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found
