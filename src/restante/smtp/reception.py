"""Reception: mail from other servers (port 25), for our own mailboxes only; and a session's way into the house."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from restante.core import access, routing
from restante.core.access import Principal
from restante.core.routing import Route
from restante.errors import Forbidden
from restante.services import authentication, reception, submission
from restante.smtp.backend import Backend, Envelope, Receipt, Source
from restante.storage.spool import Buffer

if TYPE_CHECKING:
    from restante.runtime import Runtime
    from restante.smtp.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Reception:
    """Anyone may send; no login is taken here. What is not ours is refused recipient by recipient: no relaying."""

    requires_login: bool = False

    async def check_sender(self, backend: Backend, principal: Principal | None, sender: str) -> None:
        """Every sender may try."""

    async def route(self, backend: Backend, address: str, size_bytes: int) -> tuple[Route, ...]:
        """Take the addresses of our own mailboxes."""
        return await backend.route(address, size_bytes)

    async def keep(
        self, backend: Backend, principal: Principal | None, transaction: "Transaction", source: Source, raw: Buffer
    ) -> Receipt:
        """Deliver it."""
        return await backend.receive(transaction.envelope(), source, raw)


class House:
    """The real backend: routing, reception and authentication of one runtime."""

    __slots__ = ("_rt",)

    def __init__(self, rt: "Runtime") -> None:
        self._rt = rt

    def expect(self, messages: int) -> None:
        self._rt.intake.expect(messages)

    async def route(self, address: str, size_bytes: int) -> tuple[Route, ...]:
        try:
            return await self._rt.db.read(routing.resolve, address, size_bytes)
        except Forbidden:
            if address.lower() != f"{routing.POSTMASTER}@{self._rt.config.hostname}".lower():
                raise
        return await self._rt.db.read(routing.postmaster, address.lower())

    async def receive(self, envelope: Envelope, source: Source, raw: Buffer) -> Receipt:
        return await reception.receive(self._rt, envelope, source, raw)

    async def login(self, username: str, password: str, peer: str) -> Principal:
        return await authentication.login(self._rt, username, password, peer)

    async def submit(
        self, principal: Principal, sender: str, recipients: tuple[str, ...], source: Source, raw: Buffer
    ) -> Receipt:
        done = await submission.take(self._rt, principal, sender, recipients, source, raw)
        return Receipt(done.queue_id or "", ())

    async def require_sender(self, principal: Principal, sender: str) -> None:
        await self._rt.db.read(access.require_sender, principal, sender)
