"""Complaints: what recipients think of what was sent, told by the abuse reports of their providers (RFC 5965)."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import bindparam, select, update

from restante import clock
from restante.core import events
from restante.ids import AccountId, MailboxId, SubmissionId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn
from restante.schema.prepared import Prepared

_s, _t = tables.submissions.c, tables.transfers.c

_BY_MESSAGE_ID = Prepared(
    select(_s.id)
    .where(_s.account_id == bindparam("account"), _s.message_id_header == bindparam("message_id"))
    .order_by(_s.id.desc())
    .limit(1)
)
_RECIPIENTS = Prepared(
    select(_t.id, _t.address, _t.complained_at, _s.public_id, _s.mailbox_id)
    .join_from(tables.transfers, tables.submissions, (_s.account_id == _t.account_id) & (_s.id == _t.submission_id))
    .where(_t.account_id == bindparam("account"), _t.submission_id == bindparam("submission"))
)
_MARK = Prepared(
    update(tables.transfers)
    .where(_t.account_id == bindparam("account"), _t.id == bindparam("transfer"))
    .values(complained_at=bindparam("now"))
)


def find(conn: ReadConn, account_id: AccountId, message_id_header: str) -> SubmissionId | None:
    """The newest submission with a Message-ID (in its angle brackets)."""
    row = _BY_MESSAGE_ID.row(conn, {"account": account_id, "message_id": message_id_header})
    return None if row is None else SubmissionId(row[0])


def record(
    conn: WriteConn,
    account_id: AccountId,
    submission_id: SubmissionId,
    recipient: str,
    kind: str,
    reporter: str | None,
    now: datetime,
) -> bool:
    """Note a complaint by one recipient of a submission, its first alone; returns whether it was noted.

    Without a ``recipient`` (providers often hide it) only one that had a single recipient can be meant. Records
    ``transfer.complained``.
    """
    rows = _RECIPIENTS.rows(conn, {"account": account_id, "submission": submission_id})
    meant = [row for row in rows if row[1].lower() == recipient.lower()] or (rows if len(rows) == 1 else [])
    if not meant or meant[0][2] is not None:
        return False
    transfer_id, address, _, public_id, mailbox_id = meant[0]
    _MARK.run(conn, {"account": account_id, "transfer": transfer_id, "now": clock.to_micros(now)})
    body = {
        "submission": submission_id,
        "id": str(UUID(bytes=public_id)),
        "transfer": transfer_id,
        "recipient": address,
        "kind": kind,
        "reporter": reporter,
    }
    mailbox = None if mailbox_id is None else MailboxId(mailbox_id)
    events.record(conn, account_id, "transfer.complained", body, now=now, mailbox_id=mailbox)
    return True
