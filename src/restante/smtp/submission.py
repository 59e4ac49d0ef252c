"""Submission: mail from our own users after a login (RFC 6409), under their own addresses."""

from dataclasses import dataclass

from restante import errors
from restante.core import mailboxes, routing
from restante.core.access import Principal
from restante.mail import address as addresses
from restante.schema.connections import ReadConn
from restante.smtp.backend import Backend


@dataclass(frozen=True, slots=True)
class Submission:
    """A login comes first, and the sender is an address that it may send from."""

    requires_login: bool = True

    async def check_sender(self, backend: Backend, principal: Principal | None, sender: str) -> None:
        """Let the null sender pass too: receipts and other notices of a user's program have it (RFC 8098 §2.1)."""
        if principal is None:
            raise errors.Unauthenticated("authentication required")
        if sender and not await backend.may_send(principal, sender):
            raise errors.Forbidden("the sender is not an address of this login", code="sender_not_allowed")


def may_send(conn: ReadConn, principal: Principal, sender: str) -> bool:
    """Whether ``sender`` is the login's own address, an alias of it that may send, either with a tag, or its catch-all.

    A full mailbox may still send; an alias kept from sending may not, whatever else leads to the mailbox.
    """
    if principal.mailbox_id is None:
        return False
    try:
        wanted = addresses.normalise(sender)
    except errors.Invalid:
        return False
    local, domain = addresses.split(wanted)
    base = wanted if local.startswith('"') else f"{local.partition('+')[0] or local}@{domain}"
    aliases = mailboxes.list_aliases(conn, principal.account_id, principal.mailbox_id)
    allowed = {alias.address: alias.may_send for alias in aliases}
    for address in (wanted, base):
        if address in allowed:
            return allowed[address]
        if address == principal.address:
            return True
    try:
        routes = routing.resolve(conn, wanted)
    except errors.RestanteError:
        return False
    return any(route.mailbox_id == principal.mailbox_id for route in routes)
