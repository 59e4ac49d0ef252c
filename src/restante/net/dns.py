"""DNS: the one seam through which names are looked up (RFC 1035).

A name that is not there and a name without such records give an empty answer; a resolver that fails or is silent raises
``RemoteUnavailable``: the two must never be taken for each other.
"""

import ipaddress
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from restante.errors import RemoteUnavailable
from restante.net.egress import Egress

if TYPE_CHECKING:
    import dns.asyncresolver

TIMEOUT_SECONDS = 5.0
MAX_RECORDS = 100
LOOPBACK = ("::1", "127.0.0.1")


@dataclass(frozen=True, slots=True, order=True)
class Mx:
    """A mail exchanger; the lowest preference comes first. An empty host is the null MX (RFC 7505)."""

    preference: int
    host: str


class Resolver(Protocol):
    """Looks names up. Answers hold at most 100 records; errors: RemoteUnavailable ``dns_failed``."""

    async def txt(self, name: str) -> tuple[str, ...]:
        """The TXT records, the strings of each joined without spaces (RFC 7208 §3.3)."""
        ...

    async def mx(self, name: str) -> tuple[Mx, ...]:
        """The mail exchangers, most preferred first."""
        ...

    async def addresses(self, name: str) -> tuple[str, ...]:
        """The IPv6 and IPv4 addresses as text."""
        ...


class SystemResolver:
    """Asks the machine's own resolvers, or ``nameservers`` (IP addresses and ports)."""

    def __init__(self, nameservers: tuple[tuple[str, int], ...] = (), timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._nameservers = nameservers
        self._timeout_seconds = timeout_seconds
        self._made: dns.asyncresolver.Resolver | None = None

    async def txt(self, name: str) -> tuple[str, ...]:
        records = await self._ask(name, "TXT")
        return tuple(b"".join(record.strings).decode("utf-8", "replace") for record in records)

    async def mx(self, name: str) -> tuple[Mx, ...]:
        records = await self._ask(name, "MX")
        found = [Mx(record.preference, record.exchange.to_text(omit_final_dot=True).lower()) for record in records]
        return tuple(sorted(Mx(item.preference, "" if item.host == "." else item.host) for item in found))

    async def addresses(self, name: str) -> tuple[str, ...]:
        if name.rstrip(".").lower() == "localhost":  # no name server is asked for it (RFC 6761 §6.3)
            return LOOPBACK
        found = [str(record.address) for kind in ("AAAA", "A") for record in await self._ask(name, kind)]
        return tuple(found[:MAX_RECORDS])

    async def _ask(self, name: str, kind: str) -> list[Any]:
        import dns.exception
        import dns.name
        import dns.resolver

        try:
            answer = await self._resolver().resolve(
                name.rstrip(".") + ".", kind, raise_on_no_answer=False, lifetime=self._timeout_seconds
            )
        except dns.resolver.NXDOMAIN:
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise RemoteUnavailable(f"DNS does not answer for {name}.", host=name, code="dns_failed") from error
        return list(answer.rrset or ())[:MAX_RECORDS]

    def _resolver(self) -> "dns.asyncresolver.Resolver":
        if self._made is None:
            import dns.asyncresolver
            import dns.nameserver

            self._made = dns.asyncresolver.Resolver(configure=not self._nameservers)
            if self._nameservers:
                self._made.nameservers = [dns.nameserver.Do53Nameserver(*each) for each in self._nameservers]
        return self._made


# --- where mail for a domain goes -------------------------------------------------------------------------------------

MAX_HOSTS = 10  # mail exchangers of one domain that are tried
MAX_ADDRESSES = 8  # addresses of one exchanger that are tried


class Unroutable(Exception):
    """No server will ever take mail for the domain as DNS has it now; ``code`` is the enhanced status code."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


async def mail_hosts(resolver: Resolver, domain: str, own_name: str) -> tuple[str, ...]:
    """The hosts that take mail for a domain in the order to try them, equals shuffled (RFC 5321 §5.1).

    A domain without MX records is its own host; an address literal too. Hosts at and behind this server's own place
    are left out. Raises Unroutable (null MX, RFC 7505; nobody before us), RemoteUnavailable when DNS fails.
    """
    if domain.startswith("["):
        return (domain,)
    found = await resolver.mx(domain)
    if not found:
        return (domain,)
    hosts = [mx for mx in found if mx.host]
    if not hosts:
        raise Unroutable("5.1.10", f"{domain} takes no mail: it has a null MX record")
    own = [mx.preference for mx in hosts if mx.host == own_name.lower()]
    if own:
        hosts = [mx for mx in hosts if mx.preference < min(own)]
        if not hosts:
            raise Unroutable("5.4.6", f"mail for {domain} would come back to this server, which does not take it")
    random.shuffle(hosts)
    hosts.sort(key=lambda mx: mx.preference)
    return tuple(dict.fromkeys(mx.host for mx in hosts))[:MAX_HOSTS]


async def host_addresses(resolver: Resolver, host: str, egress: Egress) -> tuple[str, ...]:
    """The addresses of a mail host that may be connected to: MX records are written by strangers.

    Raises Unroutable (no address at all, or none that is allowed), RemoteUnavailable.
    """
    found = (_literal(host),) if host.startswith("[") else await resolver.addresses(host)
    if not found:
        raise Unroutable("5.4.4", f"the host {host} has no address")
    allowed = [each for each in found if egress.permits(each)]
    if not allowed:
        raise Unroutable("5.4.4", f"the host {host} has no address that mail may go to")
    return tuple(allowed[:MAX_ADDRESSES])


def is_address(text: str) -> bool:
    """Whether it is an IP address and no name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _literal(host: str) -> str:
    inside = host[1:-1]
    return inside[5:] if inside[:5].lower() == "ipv6:" else inside
