"""Which addresses may be connected to on somebody else's word."""

import pytest

from restante.net.egress import Egress

PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1"]
CLOSED = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:a9fe:a9fe",
    "::10.0.0.1",
    "64:ff9b::a00:1",  # NAT64 of 10.0.0.1
    "64:ff9b::a9fe:a9fe",  # of the metadata service
    "64:ff9b:1::1",
    "2002:a00:1::",  # 6to4 of 10.0.0.1
    "2002:7f00:1::1",
    "2001::1",
    "2001:db8::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_the_internet_may_be_reached(address: str) -> None:
    assert Egress().permits(address)


@pytest.mark.parametrize("address", CLOSED)
def test_what_is_near_this_server_may_not(address: str) -> None:
    assert not Egress().permits(address)


@pytest.mark.parametrize("text", ["", "localhost", "0x7f000001", "2130706433", "127.1", "10.0.0.1\n", "[::1]"])
def test_what_is_no_address_may_not(text: str) -> None:
    assert not Egress().permits(text)


def test_the_operator_may_allow_networks() -> None:
    egress = Egress(["10.0.0.0/8", "fd00::/8"])
    assert egress.permits("10.1.2.3")
    assert egress.permits("::ffff:10.1.2.3")
    assert egress.permits("fd00::1")
    assert not egress.permits("192.168.1.1")
    assert not egress.permits("127.0.0.1")
