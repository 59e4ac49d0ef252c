"""Submission: mail from our own users after a login (RFC 6409), under their own addresses, to anybody."""

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from restante import errors
from restante.core.access import Principal
from restante.core.routing import Route
from restante.mail import address as addresses
from restante.smtp.backend import Backend, Buffer, Receipt, Source

if TYPE_CHECKING:
    from restante.smtp.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Submission:
    """A login comes first, and the sender is an address that it may send from."""

    requires_login: bool = True

    async def check_sender(self, backend: Backend, principal: Principal | None, sender: str) -> None:
        """Let the null sender pass too: receipts and other notices of a user's program have it (RFC 8098 §2.1)."""
        if principal is None:
            raise errors.Unauthenticated("authentication required")
        if sender:
            await backend.require_sender(principal, sender)

    async def route(self, backend: Backend, address: str, size_bytes: int) -> tuple[Route, ...]:
        """Take every address that can be sent to; of ours only those that lead somewhere.

        Whatever else is wrong with one of ours (it is full, say) may be over when the transfer comes to it.
        """
        if addresses.normalise(address).endswith("]"):
            raise errors.Invalid("mail is not sent to an address in brackets", code="invalid_address")
        with contextlib.suppress(errors.Forbidden, errors.Unavailable, errors.QuotaExceeded):
            await backend.route(address, size_bytes)
        return ()

    async def keep(
        self, backend: Backend, principal: Principal | None, transaction: "Transaction", source: Source, raw: Buffer
    ) -> Receipt:
        """Submit it."""
        assert principal is not None, "check_sender comes before every message"
        return await backend.submit(principal, transaction.mail.sender, tuple(transaction.addresses), source, raw)
