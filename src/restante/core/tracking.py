"""Tracking: what became of submissions, for those who may follow them."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, func, select

from restante import clock
from restante.core import access, domains, permissions, submission
from restante.core.access import Principal
from restante.core.messages import Page
from restante.core.submission import RecipientStatus, Source, Status, Submission
from restante.errors import Forbidden, NotFound
from restante.ids import AccountId, MailboxId, SubmissionId
from restante.schema import tables
from restante.schema.connections import ReadConn, scanning

_s, _t = tables.submissions.c, tables.transfers.c


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one try to move one recipient came to; ``tls`` None: in clear, or local."""

    address: str
    attempted_at: datetime
    status: RecipientStatus
    dsn_code: str | None
    smtp_response: str | None
    remote_mta: str | None
    tls: str | None


@dataclass(frozen=True, slots=True)
class Query:
    """Which submissions to list. ``sender`` and ``recipient`` are whole addresses; times are of acceptance."""

    source: Source | None = None
    mailbox_id: MailboxId | None = None
    status: Status | None = None
    sender: str | None = None
    recipient: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 50
    offset: int = 0


def require(
    conn: ReadConn, principal: Principal, public_id: UUID, permission: str | None = permissions.VIEW_STATS
) -> Submission:
    """The submission of that id, if the principal may follow it.

    The operator follows all, an account's owner its own, a user what they sent, what went out under their mailbox's
    addresses, and what came from a domain granted with ``permission`` (None: a grant is not enough). Errors: NotFound
    ``submission_not_found`` (none, or a stranger's); Forbidden ``access_denied`` (somebody else's in the same account).
    """
    found = submission.get_by_public_id(conn, None, public_id)
    if principal.kind == "operator" or (principal.kind == "account" and found.account_id == principal.account_id):
        return found
    if principal.mailbox_id is not None and principal.mailbox_id in (found.mailbox_id, found.submitter_id):
        return found
    domain = domains.find(conn, found.account_id, found.sender_domain)
    if permission and domain is not None and access.is_granted(conn, principal, domain.id, permission):
        return found
    if found.account_id != principal.account_id:
        raise NotFound("There is no such submission.", code="submission_not_found")
    raise Forbidden("Access denied.", code="access_denied")


def list_attempts(conn: ReadConn, account_id: AccountId, submission_id: SubmissionId, limit: int) -> list[Attempt]:
    """The newest tries to move a submission's recipients, oldest of them first."""
    a = tables.transfer_attempts.c
    rows = conn.execute(
        select(_t.address, a.attempted_at, a.status, a.dsn_code, a.smtp_response, a.remote_mta, a.tls)
        .join_from(tables.transfer_attempts, tables.transfers, (_t.id == a.transfer_id) & (_t.account_id == account_id))
        .where(a.account_id == account_id, a.submission_id == submission_id)
        .order_by(a.id.desc())
        .limit(limit)
    ).all()
    return [Attempt(row.address, clock.from_micros(row.attempted_at), *row[2:]) for row in reversed(rows)]


@scanning
def list_page(conn: ReadConn, account_id: AccountId | None, query: Query) -> Page[Submission]:
    """Newest first, with the number of all that match; of every account for None (the operator)."""
    where = _conditions(account_id, query)
    total = conn.execute(select(func.count()).select_from(tables.submissions).where(*where)).scalar_one()
    wanted = select(_s.id).where(*where).order_by(_s.id.desc()).limit(query.limit).offset(query.offset)
    ids = list(conn.execute(wanted).scalars()) if query.offset < total else []
    rows = conn.execute(select(tables.submissions).where(_s.id.in_(ids)).order_by(_s.id.desc())).mappings()
    return Page(int(total), [submission.from_row(row) for row in rows])


def _conditions(account_id: AccountId | None, query: Query) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = [] if account_id is None else [_s.account_id == account_id]
    for column, value in (
        (_s.source, query.source),
        (_s.mailbox_id, query.mailbox_id),
        (_s.status, query.status),
        (_s.sender, query.sender),
    ):
        if value is not None:
            where.append(column == value)
    if query.since is not None:
        where.append(_s.created_at >= clock.to_micros(query.since))
    if query.until is not None:
        where.append(_s.created_at <= clock.to_micros(query.until))
    if query.recipient is not None:
        to = select(_t.submission_id).where(func.lower(_t.address) == query.recipient.lower())
        where.append(_s.id.in_(to if account_id is None else to.where(_t.account_id == account_id)))
    return where
