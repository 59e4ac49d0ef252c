"""Egress: which addresses this server may connect to on somebody else's word (an MX record, a webhook's URL).

Judge the address that is connected to, never a name: a name may resolve to another address a moment later. An IPv6
form that carries an IPv4 address (mapped, NAT64, 6to4) is judged by both.
"""

import ipaddress
from collections.abc import Iterable, Iterator

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_CLOSED: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # RFC 1122 "this network": a connection reaches this machine
        "10.0.0.0/8",
        "100.64.0.0/10",  # RFC 6598, shared by carriers
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, metadata services among them
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "::/96",  # loopback, unspecified, IPv4-compatible (RFC 4291 §2.5.5)
        "64:ff9b:1::/48",  # local NAT64, RFC 8215
        "100::/64",
        "2001::/23",  # Teredo and other protocol assignments
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",  # segment routing, RFC 9602
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)


class Egress:
    """The rule of one server: the public internet, and the networks that its operator allows besides."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed: tuple[Network, ...] = tuple(ipaddress.ip_network(text, strict=False) for text in allowed)

    def permits(self, text: str) -> bool:
        """Whether a connection to this IP address may be made. What is no address is refused."""
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return False
        return all(self._permits(one) for one in _meanings(address))

    def _permits(self, address: Address) -> bool:
        if any(address in network for network in self._allowed):
            return True
        return not any(address in network for network in _CLOSED)


def _meanings(address: Address) -> Iterator[Address]:
    """The address, or all that a packet to it may end up at."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            yield address.ipv4_mapped
            return
        if address.sixtofour is not None:
            yield address.sixtofour
        if address in _NAT64:
            yield ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    yield address
