"""Sends one webhook: signed, to an address that may be reached, over a connection that cannot be led elsewhere."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from service.errors import TuneyardError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

TIMEOUT_S: Final = 10.0
SIGNATURE_HEADER: Final = "Tuneyard-Signature"
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_READ_BYTES: Final = 1024  # of an answer: only its status counts
_PORTS: Final = {"http": 80, "https": 443}


class UndeliveredError(TuneyardError):
    """A webhook was not taken; the text says why, without the secret and without what the receiver wrote."""


class ForbiddenAddressError(UndeliveredError):
    """The URL leads where this service must not go."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One delivery: where to, what, and how it is signed."""

    url: str
    kind: str
    delivery: str  # the same for every try of one delivery, so that a receiver can tell repeats
    body: bytes
    secret: str


def signature(secret: str, at: int, body: bytes) -> str:
    """`t=<seconds>,v1=<hex HMAC-SHA256 of "<seconds>.<body>">`; receivers refuse old times, so nothing is replayed."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def send(parcel: Parcel, at: float, allowed: Sequence[Network] = ()) -> None:
    """Deliver `parcel`; UndeliveredError unless the receiver answers with a 2xx. Redirects are not followed.

    The address that was checked is the one that is connected to: a second look-up of the name could answer otherwise.
    """
    parts, address = _plain(parcel.url), reachable(parcel.url, allowed)
    host, port = str(parts.hostname), parts.port or _PORTS[parts.scheme]
    connection = _connection(parts.scheme, host, port, address)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "tuneyard",
        "Tuneyard-Event": parcel.kind,
        "Tuneyard-Delivery": parcel.delivery,
        SIGNATURE_HEADER: signature(parcel.secret, int(at), parcel.body),
    }
    try:
        with _within(TIMEOUT_S, connection):
            connection.request("POST", path, parcel.body, headers)
            answer = connection.getresponse()
            answer.read(_READ_BYTES)
    except (OSError, ValueError, http.client.HTTPException) as error:
        msg = f"{host} could not be told: {type(error).__name__}"
        raise UndeliveredError(msg) from error
    if not 200 <= answer.status < 300:  # noqa: PLR2004  # what HTTP calls success
        msg = f"{host} answered {answer.status}; a receiver has to answer 2xx, and redirects are not followed"
        raise UndeliveredError(msg)


def reachable(url: str, allowed: Sequence[Network] = ()) -> str:
    """The one address to connect to for `url`, public or among `allowed`.

    ForbiddenAddressError where the URL is no plain http(s) one, or any address of its host is not for webhooks;
    UndeliveredError where the name is not known just now.
    """
    parts = _plain(url)
    try:
        port = parts.port or _PORTS[parts.scheme]
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        msg = f"the host {parts.hostname!r} of the webhook is not known"
        raise UndeliveredError(msg) from error
    addresses = [ipaddress.ip_address(str(entry[4][0]).split("%")[0]) for entry in found]
    refused = [address for address in addresses if not may_reach(address, allowed)]
    if refused or not addresses:
        msg = (
            f"{parts.hostname!r} leads to {', '.join(sorted(map(str, refused))) or 'no address'}, which is not public; "
            "an operator may allow it with TUNEYARD_WEBHOOK_NETWORKS"
        )
        raise ForbiddenAddressError(msg)
    return str(addresses[0])


def may_reach(address: Address, allowed: Sequence[Network] = ()) -> bool:
    """Whether a webhook may go to `address`: public unicast, however it is written, or in a network that is allowed."""
    inner = _inner(address)
    if any(inner in network for network in allowed if network.version == inner.version):
        return True
    is_site_local = isinstance(inner, ipaddress.IPv6Address) and inner.is_site_local  # fec0::/10: once private
    return inner.is_global and not (inner.is_multicast or inner.is_reserved or is_site_local)


def _inner(address: Address) -> Address:
    """The IPv4 address within an IPv6 one that only carries it."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _plain(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_odd = parts.port == 0
    except ValueError as error:
        msg = "the webhook's URL cannot be read"
        raise ForbiddenAddressError(msg) from error
    has_user = parts.username is not None or parts.password is not None
    if parts.scheme not in _PORTS or not parts.hostname or has_user or is_odd or not _is_plain_text(url):
        msg = (
            "a webhook's URL is http:// or https:// with a host, in ASCII, without a user name, a password, spaces or "
            "control characters"
        )
        raise ForbiddenAddressError(msg)
    return parts


def _is_plain_text(url: str) -> bool:
    return url.isascii() and url.isprintable() and " " not in url and "\\" not in url


def _connection(scheme: str, host: str, port: int, address: str) -> http.client.HTTPConnection:
    def connect(_named: object, timeout: float = TIMEOUT_S, _source: object = None) -> socket.socket:
        return socket.create_connection((address, port), timeout=timeout)

    made: Any  # for its seam that typeshed does not know: how it makes its socket
    if scheme == "https":
        made = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=ssl.create_default_context())
    else:
        made = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    made._create_connection = connect  # noqa: SLF001  # subclassing would copy the TLS handshake of the library
    connection: http.client.HTTPConnection = made
    return connection


@contextmanager
def _within(seconds: float, connection: http.client.HTTPConnection) -> Iterator[None]:
    """Cut the connection after `seconds` in all: a receiver that drips its answer must not hold up the others."""
    is_late = threading.Event()

    def cut() -> None:
        is_late.set()
        with suppress(OSError, AttributeError):
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
        if is_late.is_set():  # the library takes a connection that ends within the headers for their end
            raise TimeoutError
    finally:
        timer.cancel()
        connection.close()
