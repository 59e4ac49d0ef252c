"""Stand-ins for what lies outside this machine."""

from collections.abc import Mapping, Sequence

from restante.errors import RemoteUnavailable
from restante.net.dns import Mx

Zone = Mapping[tuple[str, str], Sequence[str] | None]


class FakeResolver:
    """DNS from a table: ``{("example.com", "TXT"): ["..."], ("example.com", "MX"): ["10 mx.example.com"]}``.

    Kinds are TXT, MX and A (for addresses of both families); a value of None is a name server that does not answer;
    what is not in the table is not there. ``zone`` may be changed at any time, ``asked`` lists the questions.
    """

    def __init__(self, zone: Zone) -> None:
        self.zone: dict[tuple[str, str], Sequence[str] | None] = dict(zone)
        self.asked: list[tuple[str, str]] = []

    async def txt(self, name: str) -> tuple[str, ...]:
        """The TXT texts of the table."""
        return self._answer(name, "TXT")

    async def mx(self, name: str) -> tuple[Mx, ...]:
        """The MX rows of the table, each ``preference host``."""
        rows = [row.split() for row in self._answer(name, "MX")]
        return tuple(sorted(Mx(int(preference), host.rstrip(".")) for preference, host in rows))

    async def addresses(self, name: str) -> tuple[str, ...]:
        """The addresses of the table."""
        return self._answer(name, "A")

    def _answer(self, name: str, kind: str) -> tuple[str, ...]:
        question = name.rstrip(".").lower(), kind
        self.asked.append(question)
        found = self.zone.get(question, ())
        if found is None:
            raise RemoteUnavailable(f"DNS does not answer for {name}.", host=name, code="dns_failed")
        return tuple(found)


class FakePressure:
    """Pressure that a test sets."""

    def __init__(self, level: float = 0.0) -> None:
        self.level = level
