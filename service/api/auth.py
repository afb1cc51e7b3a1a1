"""Who asks: API tokens, OIDC bearer tokens, or the word of a proxy that is trusted; nothing here knows of HTTP paths.

An API token reads `ty_<id>_<secret>`. The store has the SHA-256 of the secret, which is 160 random bits: nothing slower
is needed to keep it from being guessed. A token is shown once, when it is made.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Protocol

from service.api.remembered import MOST, Remembered
from service.errors import TuneyardError
from service.records import EVERY_PROJECT, Principal, Role, TokenRecord
from service.store import UNKEYED, Origin

if TYPE_CHECKING:
    from service.api.auth_oidc import OidcSettings

PREFIX: Final = "ty_"
USER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+|-]{0,126}\Z")
_SECRET_BYTES: Final = 20
_LONGEST: Final = 16_384  # characters of a credential that are looked at
_TOKEN: Final = re.compile(r"ty_([A-Za-z0-9-]{1,64})_([0-9a-f]{40})\Z")
Mode = Literal["none", "token", "oidc", "proxy"]
RoleMap = Mapping[str, Mapping[str, Role]]


class AuthError(TuneyardError):
    """The request shows no identity that counts; the text says what to do, never what was given."""


class ProviderAwayError(TuneyardError):
    """Whether the identity counts cannot be known: whoever would vouch for it does not answer."""


class TokenStore(Protocol):
    """The part of the store that tokens live in."""

    def add_token(
        self,
        user: str,
        name: str,
        roles: Mapping[str, Role],
        *,
        token_hash: str,
        expires_at: float | None,
        origin: Origin = ...,
    ) -> TokenRecord:
        """Keep a new token."""

    def token_by_hash(self, token_hash: str) -> TokenRecord | None:
        """The token whose secret has this hash, revoked and expired ones too."""


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """A proxy that says who asks. Its headers count only in requests that come from `trusted` networks.

    `role_map` gives roles by project for each group in `groups_header`; everybody has `default_roles`.
    """

    trusted: tuple[str, ...]
    user_header: str = "x-forwarded-user"
    groups_header: str = "x-forwarded-groups"
    role_map: RoleMap = field(default_factory=dict)
    default_roles: Mapping[str, Role] = field(default_factory=dict)

    def trusts(self, address: str) -> bool:
        """Whether requests from `address` come from the proxy."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in ipaddress.ip_network(network, strict=False) for network in self.trusted)


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """How people show who they are. API tokens count in every mode but `none`, in which everybody is an admin."""

    mode: Mode = "token"
    oidc: OidcSettings | None = None
    proxy: ProxySettings | None = None


LOCAL_ADMIN: Final = Principal("local", {EVERY_PROJECT: Role.ADMIN})


class Authenticator:
    """Turns a request's headers and address into a Principal."""

    def __init__(self, settings: AuthSettings, store: TokenStore, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self._clock = clock
        self._tokens = Remembered(store.token_by_hash)
        self._welcome: OrderedDict[str, None] = OrderedDict()  # hashes of credentials that have counted
        self._lock = threading.Lock()
        self._oidc = None
        if settings.oidc is not None:
            from service.api.auth_oidc import OidcVerifier

            self._oidc = OidcVerifier(settings.oidc)

    @property
    def is_open(self) -> bool:
        """Whether everybody who reaches the service may do everything."""
        return self.settings.mode == "none"

    @property
    def alone(self) -> tuple[str, ...]:
        """Headers that say who asks and what they may, each of which stands once: a proxy wrote one of two, or none."""
        proxy = self.settings.proxy
        return ("authorization", *(() if proxy is None else (proxy.user_header, proxy.groups_header)))

    def is_quick(self, headers: Mapping[str, str]) -> bool:
        """Whether `authenticate` needs to ask nobody, so that it does not block."""
        match = _TOKEN.match(headers.get("authorization", "")[len("bearer ") :])
        return self.is_open or (match is not None and self._tokens.has(hash_of(match[2])))

    def is_welcome(self, headers: Mapping[str, str]) -> bool:
        """Whether what is shown has counted before: whoever floods its address must not lock its owner out."""
        return hash_of(headers.get("authorization", "")) in self._welcome

    def forget(self) -> None:
        """Tokens have changed."""
        self._tokens.forget()

    def authenticate(self, headers: Mapping[str, str], address: str) -> Principal:
        """Who asks; `headers` have lower-case names.

        AuthError where nobody is shown, or somebody who does not count; ProviderAwayError where that cannot be known.
        Blocks on the database, and now and then on the OIDC provider.
        """
        if self.is_open:
            return LOCAL_ADMIN
        credential = headers.get("authorization")
        if credential is not None:
            scheme, _, text = credential.partition(" ")
            if scheme.lower() != "bearer" or not text or len(text) > _LONGEST:
                msg = "send `Authorization: Bearer TOKEN`; `tuneyard token create` makes a token"
                raise AuthError(msg)
            found = self._bearer(text.strip())
            self._note_welcome(hash_of(credential))
            return found
        proxy = self.settings.proxy
        if proxy is not None and proxy.trusts(address) and headers.get(proxy.user_header):
            return _of_proxy(proxy, headers)
        msg = "no credentials were sent; send `Authorization: Bearer TOKEN`, or log in with `tuneyard login`"
        raise AuthError(msg)

    def _note_welcome(self, shown: str) -> None:
        with self._lock:
            self._welcome[shown] = None
            self._welcome.move_to_end(shown)
            if len(self._welcome) > MOST:
                self._welcome.popitem(last=False)

    def _bearer(self, text: str) -> Principal:
        if text.startswith(PREFIX):
            return self._token(text)
        if self._oidc is None:
            msg = "this is no token of this service; those begin with `ty_`"
            raise AuthError(msg)
        return self._oidc.principal(text)

    def _token(self, text: str) -> Principal:
        match = _TOKEN.match(text)
        record = None if match is None else self._tokens(hash_of(match[2]))
        if match is None or record is None or not hmac.compare_digest(record.id, match[1]):
            msg = "the token is not known here; look at `tuneyard context`, or make one with `tuneyard token create`"
            raise AuthError(msg)
        if record.revoked_at is not None:
            msg = "the token has been revoked; make another one with `tuneyard token create`"
            raise AuthError(msg)
        if record.expires_at is not None and record.expires_at <= self._clock():
            msg = "the token has expired; make another one with `tuneyard token create`"
            raise AuthError(msg)
        return Principal(record.user, record.roles, record.id)


def hash_of(secret: str) -> str:
    """What the store keeps in place of a token's secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def issue(
    store: TokenStore,
    user: str,
    name: str,
    roles: Mapping[str, Role],
    *,
    expires_at: float | None = None,
    origin: Origin = UNKEYED,
) -> tuple[str, TokenRecord]:
    """A new token for `user`, and its record.

    The text cannot be had again. ValueError for a name no user can have;
    KeyConflictError where `origin.once` came before.
    """
    if not USER.match(user):
        msg = f"a user is named by letters, digits and . _ @ + | -, a letter or digit first, not {user[:80]!r}"
        raise ValueError(msg)
    secret = secrets.token_hex(_SECRET_BYTES)
    hashed = hash_of(secret)
    record = store.add_token(user, name, roles, token_hash=hashed, expires_at=expires_at, origin=origin)
    return f"{PREFIX}{record.id}_{secret}", record


def merged(all_roles: Sequence[Mapping[str, Role]]) -> dict[str, Role]:
    """The highest role for each project."""
    found: dict[str, Role] = {}
    for roles in all_roles:
        for project, role in roles.items():
            if project not in found or role.covers(found[project]):
                found[project] = role
    return found


def checked_user(name: object) -> str:
    """`name` if it can be a user's. AuthError otherwise."""
    if not isinstance(name, str) or not USER.match(name):
        msg = "the identity names no user: letters, digits and . _ @ + | - only, a letter or digit first"
        raise AuthError(msg)
    return name


def _of_proxy(proxy: ProxySettings, headers: Mapping[str, str]) -> Principal:
    user = checked_user(headers[proxy.user_header])
    groups = [group.strip() for group in headers.get(proxy.groups_header, "").split(",")]
    roles = merged([proxy.default_roles, *(proxy.role_map[group] for group in groups if group in proxy.role_map)])
    return Principal(user, roles)
