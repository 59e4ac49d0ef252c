"""Submission: mail from our own users after a login (RFC 6409), under their own addresses."""

from dataclasses import dataclass

from restante import errors
from restante.core.access import Principal
from restante.smtp.backend import Backend


@dataclass(frozen=True, slots=True)
class Submission:
    """A login comes first, and the sender is an address of it: the mailbox's own, an alias's, one with a tag."""

    requires_login: bool = True

    async def check_sender(self, backend: Backend, principal: Principal | None, sender: str) -> None:
        """Let the null sender pass too: receipts and other notices of a user's program have it (RFC 8098 §2.1)."""
        if principal is None:
            raise errors.Unauthenticated("authentication required")
        if not sender or sender.lower() == principal.address:
            return
        try:
            routes = await backend.route(sender, 0)
        except (errors.NotFound, errors.Forbidden, errors.Invalid) as error:
            raise _not_allowed() from error
        for route in routes:
            if route.mailbox_id == principal.mailbox_id:
                return
            if principal.mailbox_id is None and route.account_id == principal.account_id:
                return
        raise _not_allowed()


def _not_allowed() -> errors.Forbidden:
    return errors.Forbidden("the sender is not an address of this login", code="sender_not_allowed")
