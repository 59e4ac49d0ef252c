"""What commands name, found for the operator; and how answers write times."""

import uuid
from datetime import UTC, datetime

from restante.core import accounts, domains, mailboxes
from restante.core import submission as submissions
from restante.core.accounts import Account
from restante.core.domains import Domain
from restante.core.mailboxes import Mailbox
from restante.core.submission import Submission
from restante.errors import Invalid, NotFound
from restante.mail import address as addresses
from restante.schema.connections import ReadConn, WriteConn
from restante.services import provisioning


def moment(value: datetime | None) -> str | None:
    """A time as answers show it: ``2026-11-21T12:00:00Z``."""
    return None if value is None else value.isoformat(timespec="seconds").replace("+00:00", "Z")


def read_moment(text: str | None) -> datetime | None:
    """A date or a time as ISO 8601 has it, without a zone in UTC. Raises Invalid."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(f"{text!r} is no date or time such as 2026-11-21T12:00:00Z") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def account(conn: ReadConn, name: str | None) -> Account:
    """The account of that name; without one the first account."""
    if name is None:
        every = accounts.list_accounts(conn)
        if not every:
            raise NotFound("there is no account yet; `restante account add NAME` makes one", code="account_not_found")
        return every[0]
    found = accounts.find(conn, name)
    if found is None:
        raise NotFound(f"there is no account {name}", code="account_not_found")
    return found


def ensured_account(conn: WriteConn, name: str | None, now: datetime) -> Account:
    """As ``account``; an instance without accounts gets its default one."""
    if name is None and provisioning.is_empty(conn):
        return accounts.create(conn, provisioning.DEFAULT_ACCOUNT, now)
    return account(conn, name)


def domain(conn: ReadConn, name: str) -> Domain:
    found = domains.find_by_name(conn, name)
    if found is None:
        raise NotFound(f"there is no domain {name}", code="domain_not_found")
    return found


def mailbox(conn: ReadConn, address: str) -> Mailbox:
    """The mailbox that an address or alias names."""
    found = mailboxes.targets(conn, address)
    if not found:
        raise NotFound(f"there is no mailbox {address}", code="mailbox_not_found")
    return found[0]


def public_id(text: str, what: str) -> uuid.UUID:
    """The id that somebody gave; what is none is that of nothing: NotFound ``WHAT_not_found``."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise NotFound(f"there is no {what} {text}", code=f"{what}_not_found") from None


def submission(conn: ReadConn, text: str) -> Submission:
    """The submission that a message id (a UUID) or a queue id names."""
    try:
        public_id = uuid.UUID(text)
    except ValueError:
        public_id = None
    try:
        if public_id is None:
            return submissions.get_by_queue_id(conn, None, text)
        return submissions.get_by_public_id(conn, None, public_id)
    except NotFound as error:
        raise NotFound(f"there is no message {text} in the queue or behind it", code=error.code) from error


def own_mailbox(conn: ReadConn, address: str) -> Mailbox:
    """The mailbox whose own address that is: what changes a mailbox does not follow aliases."""
    found = mailbox(conn, address)
    if found.address != addresses.normalise(address):
        raise NotFound(f"{address} is an alias of {found.address}", code="mailbox_not_found")
    return found
