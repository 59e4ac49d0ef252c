"""What an SMTP session needs of the rest of the house: a few calls and the values that go with them."""

from typing import Protocol

from restante.core.access import Principal
from restante.core.routing import Route
from restante.services.reception import Envelope, Receipt, Source
from restante.storage.spool import Buffer


class Backend(Protocol):
    """The calls; each may raise anything of the error tree, which ``smtp/errors.py`` turns into replies."""

    def expect(self, messages: int) -> None:
        """So many more messages (or fewer, when negative) are arriving or wait for an answer."""
        ...

    async def route(self, address: str, size_bytes: int) -> tuple[Route, ...]:
        """Where mail for an address goes."""
        ...

    async def receive(self, envelope: Envelope, source: Source, raw: Buffer) -> Receipt:
        """Keep a message; returns only when it is durably stored. ``raw`` is valid until then."""
        ...

    async def login(self, username: str, password: str, peer: str) -> Principal:
        """Who these credentials belong to."""
        ...

    async def submit(
        self, principal: Principal, sender: str, recipients: tuple[str, ...], source: Source, raw: Buffer
    ) -> Receipt:
        """Accept a user's message for sending; otherwise as ``receive``."""
        ...

    async def require_sender(self, principal: Principal, sender: str) -> None:
        """Let a login use this sender address, or raise Forbidden."""
        ...


__all__ = ["Backend", "Buffer", "Envelope", "Receipt", "Route", "Source"]
