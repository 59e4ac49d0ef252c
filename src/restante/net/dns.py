"""DNS: the one seam through which names are looked up (RFC 1035).

A name that is not there and a name without such records give an empty answer; a resolver that fails or is silent raises
``RemoteUnavailable``: the two must never be taken for each other.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from restante.errors import RemoteUnavailable

if TYPE_CHECKING:
    import dns.asyncresolver

TIMEOUT_SECONDS = 5.0
MAX_RECORDS = 100


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
    """Asks the machine's own resolvers, or ``nameservers`` (IP addresses) at ``port``."""

    def __init__(
        self, nameservers: tuple[str, ...] = (), port: int = 53, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self._nameservers = nameservers
        self._port = port
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

            self._made = dns.asyncresolver.Resolver(configure=not self._nameservers)
            if self._nameservers:
                self._made.nameservers = list(self._nameservers)
                self._made.port = self._port
        return self._made
