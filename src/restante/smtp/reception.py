"""Reception: mail from other servers (port 25), for our own mailboxes only; and a session's way into the house."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from restante.core import routing
from restante.core.access import Principal
from restante.core.routing import Route
from restante.errors import Forbidden
from restante.services import authentication, reception
from restante.smtp import submission
from restante.smtp.backend import Backend, Envelope, Receipt, Source
from restante.storage.spool import Buffer

if TYPE_CHECKING:
    from restante.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Reception:
    """Anyone may send; no login is taken here. What is not ours is refused recipient by recipient: no relaying."""

    requires_login: bool = False

    async def check_sender(self, backend: Backend, principal: Principal | None, sender: str) -> None:
        """Every sender may try."""


class House:
    """The real backend: routing, reception and authentication of one runtime."""

    __slots__ = ("_rt",)

    def __init__(self, rt: "Runtime") -> None:
        self._rt = rt

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

    async def may_send(self, principal: Principal, sender: str) -> bool:
        return await self._rt.db.read(submission.may_send, principal, sender)
