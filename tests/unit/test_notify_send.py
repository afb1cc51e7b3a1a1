"""Webhooks: signed, over plain connections to addresses that were checked, and nowhere else."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Iterator

import pytest

from service.control import notify_send
from service.control.notify_send import (
    ForbiddenAddressError,
    Parcel,
    UndeliveredError,
    may_reach,
    reachable,
    send,
    signature,
)
from tests.receiver import Receiver, receiving

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
SECRET = "canary-secret-0123456789"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def parcel(url: str) -> Parcel:
    return Parcel(url, "finished", "d-1", b'{"kind":"finished"}', SECRET)


def test_a_receiver_can_check_who_sent_it_and_when(receiver: Receiver) -> None:
    send(parcel(f"{receiver.url}/hook?team=a"), 1_700_000_000.4, LOOPBACK)
    path, headers, body = receiver.got[0]
    made = hmac.new(SECRET.encode(), b"1700000000." + body, hashlib.sha256).hexdigest()
    assert path == "/hook?team=a"
    assert headers["Tuneyard-Signature"] == f"t=1700000000,v1={made}" == signature(SECRET, 1_700_000_000, body)
    assert (headers["Tuneyard-Event"], headers["Tuneyard-Delivery"]) == ("finished", "d-1")
    assert SECRET not in str(receiver.got)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 500])
def test_whatever_is_no_success_was_not_delivered_and_nothing_is_followed(receiver: Receiver, status: int) -> None:
    receiver.status = status
    with pytest.raises(UndeliveredError, match=str(status)) as caught:
        send(parcel(receiver.url), 0, LOOPBACK)
    assert [path for path, _, _ in receiver.got] == ["/"]
    assert SECRET not in str(caught.value)


def test_a_receiver_that_drips_its_answer_is_cut_off(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify_send, "TIMEOUT_S", 0.6)
    receiver.drips = True
    with pytest.raises(UndeliveredError):
        send(parcel(receiver.url), 0, LOOPBACK)


def test_the_address_that_was_checked_is_the_one_that_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["93.184.216.34", "169.254.169.254"])
    called: list[object] = []

    def connect(address: tuple[str, int], **_: object) -> None:
        called.append(address)
        raise ConnectionRefusedError

    found = lambda *_a, **_k: [(2, 1, 6, "", (next(answers), 80))]  # noqa: E731  # a resolver that changes its mind
    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(UndeliveredError, match="ConnectionRefusedError"):
        send(parcel("http://hook.example/"), 0)
    assert called == [("93.184.216.34", 80)]


HOSTILE = [
    "ftp://example.org/", "file:///etc/passwd", "gopher://127.0.0.1/", "http:///nohost", "http://", "//example.org",
    "javascript:alert(1)", "http://user:pw@93.184.216.34/", "http://user@93.184.216.34/", "http://93.184.216.34:0/",
    "http://93.184.216.34:99999/", "http://93.184.216.34/\r\nX: y", "http://93.184.216.34/ HTTP/1.1", "http://[::1",
    "http://93.184.216.34\\@127.0.0.1/", "http://93.184.216.34/\x00", "http://bücher.example/",
    "http://127.0.0.1/", "http://127.1/", "http://0x7f000001/", "http://2130706433/", "http://0177.0.0.1/",
    "http://0.0.0.0/", "http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.1.1/", "http://169.254.169.254/",
    "http://100.64.0.1/", "http://[::1]/", "http://[::]/", "http://[fe80::1]/", "http://[fc00::1]/", "http://[fec0::1]/",
    "http://[::ffff:127.0.0.1]/", "http://[::ffff:169.254.169.254]/", "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/", "http://224.0.0.1/", "http://255.255.255.255/", "http://240.0.0.1/", "http://localhost/",
]  # fmt: skip


@pytest.mark.parametrize("url", HOSTILE)
def test_hostile_urls_are_refused_before_anything_is_connected_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        pytest.fail("it connected")

    monkeypatch.setattr(socket, "create_connection", never)
    with pytest.raises(UndeliveredError):
        send(parcel(url), 0)


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(2, 1, 6, "", (address, 80)) for address in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: both)
    with pytest.raises(ForbiddenAddressError, match=r"10\.0\.0\.1.*TUNEYARD_WEBHOOK_NETWORKS"):
        reachable("http://two.example/")


def test_an_operator_may_allow_a_network_of_their_own() -> None:
    office = ipaddress.ip_network("10.1.0.0/16")
    assert may_reach(ipaddress.ip_address("10.1.2.3"), [office])
    assert may_reach(ipaddress.ip_address("::ffff:10.1.2.3"), [office])
    assert not may_reach(ipaddress.ip_address("10.2.2.3"), [office])
    assert may_reach(ipaddress.ip_address("93.184.216.34"))
