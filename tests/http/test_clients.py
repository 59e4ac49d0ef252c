"""X-Forwarded-For is believed from configured proxies only."""

import pytest

from restante.http.clients import Clients, is_direct_loopback, limit_key


def scope(peer: str | None) -> dict[str, object]:
    return {"client": None if peer is None else (peer, 1234)}


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "client"),
    [
        ((), "203.0.113.9", None, "203.0.113.9"),
        ((), "203.0.113.9", b"198.51.100.1", "203.0.113.9"),
        (("10.0.0.0/8",), "203.0.113.9", b"198.51.100.1", "203.0.113.9"),
        (("10.0.0.0/8",), "10.1.2.3", b"198.51.100.1", "198.51.100.1"),
        (("10.0.0.0/8",), "10.1.2.3", b"1.1.1.1, 198.51.100.1, 10.9.9.9", "198.51.100.1"),
        (("10.0.0.0/8",), "10.1.2.3", b"1.1.1.1, nonsense", "10.1.2.3"),
        (("10.0.0.0/8",), "10.1.2.3", b"10.0.0.1", "10.0.0.1"),
        (("10.0.0.0/8",), "::ffff:10.1.2.3", b"198.51.100.1", "198.51.100.1"),
        (("::1",), "::1", b"[2001:db8::1]", "2001:db8::1"),
        (("10.0.0.0/8",), "10.1.2.3", b"", "10.1.2.3"),
        (("10.0.0.0/8",), "10.1.2.3", b"1.1.1.1," * 10_000 + b"198.51.100.1", "198.51.100.1"),
    ],
)
def test_client(trusted: tuple[str, ...], peer: str, forwarded: bytes | None, client: str) -> None:
    headers = {} if forwarded is None else {b"x-forwarded-for": forwarded}
    assert Clients(trusted).of(scope(peer), headers) == client


def test_a_transport_without_peer() -> None:
    assert Clients().of(scope(None), {}) == ""
    assert not is_direct_loopback(scope(None), {})


def test_loopback_is_not_who_a_proxy_on_it_speaks_for() -> None:
    assert is_direct_loopback(scope("127.0.0.1"), {})
    assert is_direct_loopback(scope("::1"), {})
    assert is_direct_loopback(scope("::ffff:127.0.0.1"), {})
    assert not is_direct_loopback(scope("127.0.0.1"), {b"x-forwarded-for": b"127.0.0.1"})
    assert not is_direct_loopback(scope("203.0.113.9"), {})


def test_one_ipv6_subscriber_counts_once() -> None:
    assert limit_key("2001:db8:0:1::5") == limit_key("2001:db8:0:1:ffff::9")
    assert limit_key("2001:db8:0:1::5") != limit_key("2001:db8:0:2::5")
    assert limit_key("::ffff:203.0.113.9") == limit_key("203.0.113.9") == "203.0.113.9"


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        (b"localhost:8025", True),
        (b"127.0.0.1:8025", True),
        (b"[::1]:8025", True),
        (b"buildbox", True),
        (b"rebound.example", False),
        (b"localhost.example:8025", False),
        (b"192.0.2.1", False),
    ],
)
def test_a_domain_as_host_is_no_loopback_caller(host: bytes, is_here: bool) -> None:
    assert is_direct_loopback(scope("127.0.0.1"), {b"host": host}) is is_here


@pytest.mark.parametrize("name", [b"forwarded", b"via", b"x-forwarded-proto", b"x-forwarded-host", b"cf-connecting-ip"])
def test_whatever_a_proxy_adds_gives_it_away(name: bytes) -> None:
    assert not is_direct_loopback(scope("127.0.0.1"), {b"host": b"localhost", name: b"x"})
