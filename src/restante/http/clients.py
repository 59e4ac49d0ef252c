"""Who calls: the peer's address, or the one that a configured proxy vouches for in X-Forwarded-For.

The header is believed only from a peer in ``http.trusted_proxies``; the right-most address in it that is not itself
such a proxy counts, since everything to its left is the client's own claim.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from starlette.types import Scope

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_HOPS = 20
FORWARDING = (
    b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-server", b"forwarded", b"via",
    b"x-real-ip", b"x-client-ip", b"true-client-ip", b"cf-connecting-ip",
)  # fmt: skip
_HERE = re.compile(rb"(?:127\.[0-9.]+|\[::1\]|[a-z0-9_-]+)?(?::[0-9]*)?", re.IGNORECASE)


@lru_cache(maxsize=4096)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.strip().strip("[]").partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


class Clients:
    """Tells the client's address; made once from the configured proxies."""

    def __init__(self, trusted_proxies: Iterable[str] = ()) -> None:
        self._trusted: tuple[Network, ...] = tuple(ipaddress.ip_network(text, strict=False) for text in trusted_proxies)

    def of(self, scope: Scope, headers: Mapping[bytes, bytes]) -> str:
        """The client's IP address as text; ``""`` when the transport has none."""
        peer: str = (scope.get("client") or ("", 0))[0]
        forwarded = headers.get(b"x-forwarded-for")
        if forwarded is None or not self._trusted or not self._is_trusted(peer):
            return peer
        client = peer
        for text in reversed(forwarded.decode("latin-1").split(",")[-MAX_HOPS:]):
            found = _address(text[:64])
            if found is None:
                break
            client = str(found)
            if not self._is_trusted(client):
                break
        return client

    def is_exempt(self, peer: str) -> bool:
        """Whether a peer speaks for many: a trusted proxy, or (perhaps one too) this machine itself."""
        found = _address(peer)
        return found is None or found.is_loopback or self._is_trusted(peer)

    def _is_trusted(self, text: str) -> bool:
        found = _address(text)
        return found is not None and any(found in network for network in self._trusted)


def is_direct_loopback(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    """Whether the peer is this machine itself, not a proxy on it or a browser led here by a name of somebody else.

    A proxy tells by what it adds; one that adds nothing, and DNS rebinding, by a Host that is a domain name.
    """
    found = _address((scope.get("client") or ("", 0))[0])
    if found is None or not found.is_loopback or any(name in headers for name in FORWARDING):
        return False
    return _HERE.fullmatch(headers.get(b"host", b"")) is not None


def limit_key(client: str) -> str:
    """What rate limits count by: an IPv4 address, or the /64 that one IPv6 subscriber has."""
    found = _address(client)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, 64), strict=False))
    return client if found is None else str(found)
