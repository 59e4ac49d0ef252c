"""Submission: what our own users (and this server itself) send, from its acceptance on.

One row of ``submissions`` is one message, one row of ``transfers`` one recipient of it. ``accept`` writes both with the
message's bytes, the copy for the Sent folder, the event and the jobs that move it, all in one transaction; what
becomes of the recipients is ``core.transfer``'s.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, bindparam, delete, insert, select, update

from restante import clock, log
from restante.core import (
    access,
    accounts,
    contents,
    delivery,
    events,
    idempotency,
    jobs,
    statistics,
)
from restante.core.access import Principal
from restante.core.contents import NewContent
from restante.core.delivery import Summary, Target
from restante.core.idempotency import Once
from restante.core.messages import Flag
from restante.errors import Forbidden, NotFound
from restante.ids import AccountId, ContentId, MailboxId, SubmissionId, TokenId, TransferId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn
from restante.schema.prepared import Prepared

Source = Literal["api", "smtp", "command", "automation", "system"]
Status = Literal["pending", "submitted", "sent", "partial", "bounced", "failed"]
RecipientKind = Literal["to", "cc", "bcc"]
RecipientStatus = Literal["pending", "deferred", "sent", "bounced"]

STATUSES: tuple[Status, ...] = ("pending", "submitted", "sent", "partial", "bounced", "failed")
LIFETIME = timedelta(days=5)  # after which transfer gives up (RFC 5321 §4.5.4.1)
TRANSFER_KIND = "transfer"  # of the jobs that move the recipients of one domain

_log = log.logger(__name__)
_s, _t = tables.submissions.c, tables.transfers.c


@dataclass(frozen=True, slots=True)
class NewRecipient:
    """One recipient to be; ``address`` goes into RCPT: the domain in lower-case A-labels, the local part as given."""

    kind: RecipientKind
    address: str

    @property
    def domain(self) -> str:
        """The part behind the last @."""
        return self.address.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class NewSubmission:
    """A message ready to be accepted. ``principal`` None is this server itself, which needs no rights.

    ``sender`` is the address of From in routing form, ``envelope_sender`` what bounces go to ("" for nobody).
    """

    public_id: UUID
    queue_id: str
    return_token: str
    source: Source
    principal: Principal | None
    sender: str
    envelope_sender: str
    recipients: tuple[NewRecipient, ...]
    subject: str
    message_id_header: str
    size_bytes: int
    has_copy: bool = True  # whether the Sent folder gets one


@dataclass(frozen=True, slots=True)
class Submission:
    """One message on its way or at its end; ``recipients`` that no other counter has are pending."""

    id: SubmissionId
    account_id: AccountId
    public_id: UUID
    mailbox_id: MailboxId | None
    submitter_id: MailboxId | None
    token_id: TokenId | None
    source: Source
    status: Status
    queue_id: str | None
    sender: str
    sender_domain: str
    envelope_sender: str
    return_token: str
    subject: str
    message_id_header: str
    content_id: ContentId | None
    size_bytes: int
    recipients: int
    deferred: int
    sent: int
    bounced: int
    created_at: datetime
    submitted_at: datetime | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Recipient:
    """What became of one recipient so far. ``next_attempt_at`` None: it is final."""

    id: TransferId
    submission_id: SubmissionId
    kind: RecipientKind
    address: str
    domain: str
    status: RecipientStatus
    is_held: bool
    dsn_code: str | None
    smtp_response: str | None
    remote_mta: str | None
    attempts: int
    last_attempt_at: datetime | None
    next_attempt_at: datetime | None
    delivered_at: datetime | None


_b, _a, _f = tables.mailboxes.c, tables.accounts.c, tables.folders.c
_SENT_FOLDER = Prepared(
    select(_f.name, _b.used_bytes, _b.quota_bytes, _a.used_bytes, _a.quota_bytes)
    .select_from(
        tables.folders.join(tables.mailboxes, (_b.account_id == _f.account_id) & (_b.id == _f.mailbox_id)).join(
            tables.accounts, _a.id == _f.account_id
        )
    )
    .where(
        _f.account_id == bindparam("account"),
        _f.mailbox_id == bindparam("mailbox"),
        _f.role == "sent",
        _b.status != "removed",
    )
    .order_by(_f.id)
)
_INSERT = Prepared(
    insert(tables.submissions)
    .values({column.name: bindparam(column.name) for column in tables.submissions.columns if column.name != "id"})
    .returning(_s.id)
)
_INSERT_TRANSFER = Prepared(
    insert(tables.transfers).values(
        account_id=bindparam("account_id"),
        submission_id=bindparam("submission_id"),
        kind=bindparam("kind"),
        address=bindparam("address"),
        domain=bindparam("domain"),
        status=bindparam("status"),
        next_attempt_at=bindparam("next_attempt_at"),
        is_held=0,
        attempts=0,
    )
)


def status_of(recipients: int, sent: int, bounced: int) -> Status:
    """The state of an accepted message by its recipients: ``submitted`` as long as any is pending or deferred."""
    if sent + bounced < recipients:
        return "submitted"
    if bounced == 0:
        return "sent"
    return "bounced" if sent == 0 else "partial"


def accept(
    conn: WriteConn,
    account_id: AccountId,
    new: NewSubmission,
    content: NewContent,
    summary: Summary,
    now: datetime,
    once: Once | None = None,
) -> Submission:
    """Take a message for transfer: rows, bytes, Sent copy, event and one job a recipient domain.

    The rights are looked at once more, as they may have gone since the message was composed. A request that was
    accepted before under the same key (``once``) gives that submission again. Errors: Forbidden
    ``domain_not_allowed``, ``sender_not_authorized``; Conflict ``idempotency_conflict``. Records
    ``submission.accepted``.
    """
    if once is not None:
        first = idempotency.take(conn, once.account_id, once, new.public_id.bytes, now)
        if first != new.public_id.bytes:
            return get_by_public_id(conn, None, UUID(bytes=first))
    mailbox_id = _mailbox_of_sender(conn, account_id, new)
    micros = clock.to_micros(now)
    folder = (
        None
        if mailbox_id is None or not new.has_copy
        else _sent_folder(conn, account_id, mailbox_id, content.size_bytes)
    )
    content_id = contents.add(conn, account_id, content, 1 if folder is None else 2, micros)
    made = _insert(conn, account_id, new, mailbox_id, content_id, now)
    facts = [
        events.NewEvent(
            "submission.accepted",
            {
                "submission": made.id,
                "id": str(new.public_id),
                "source": new.source,
                "sender": new.sender,
                "recipients": len(new.recipients),
                "size_bytes": content.size_bytes,
            },
            mailbox_id,
        )
    ]
    size = 0
    if mailbox_id is not None and folder is not None:
        size = content.size_bytes
        target = Target(account_id, mailbox_id, folder, "", b"", int(Flag.SEEN))
        copy = delivery.place(conn, target, content_id, size, summary, micros)
        body = {"message": copy.message_id, "id": copy.public_id, "folder": copy.folder_id, "uid": copy.uid}
        facts.append(events.NewEvent("message.stored", body, mailbox_id))
    events.record_all(conn, account_id, facts, now=now, more_bytes=size)
    for domain in dict.fromkeys(recipient.domain for recipient in new.recipients):
        enqueue_transfer(conn, account_id, made.id, domain, now=now)
    return made


class _Call(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The arguments of ``accept``."""

    account_id: AccountId
    new: NewSubmission
    content: NewContent
    summary: Summary
    now: int  # microseconds
    once: Once | None


_calls = msgspec.msgpack.Decoder(_Call)
_encoder = msgspec.msgpack.Encoder()
_answers = msgspec.msgpack.Decoder(Submission)


def encode_call(
    account_id: AccountId, new: NewSubmission, content: NewContent, summary: Summary, now: datetime, once: Once | None
) -> bytes:
    """The arguments of ``accept`` as ``accept_encoded`` takes them (see ``deliveries.encode_call``)."""
    return _encoder.encode(_Call(account_id, new, content, summary, clock.to_micros(now), once))


def accept_encoded(conn: WriteConn, call: bytes) -> bytes:
    """As ``accept``, with bytes in and out: a seventh of the time that pickling the values takes."""
    got = _calls.decode(call)
    now = clock.from_micros(got.now)
    return _encoder.encode(accept(conn, got.account_id, got.new, got.content, got.summary, now, got.once))


def decode_answer(answer: bytes) -> Submission:
    """What ``accept_encoded`` returned."""
    return _answers.decode(answer)


def enqueue_transfer(
    conn: WriteConn,
    account_id: AccountId,
    submission_id: SubmissionId,
    domain: str,
    *,
    now: datetime,
    run_at: datetime | None = None,
) -> None:
    """Let the waiting recipients of one domain be tried at ``run_at`` (default: at once); one such job at a time."""
    jobs.enqueue(
        conn,
        account_id,
        TRANSFER_KIND,
        {"account": account_id, "submission": submission_id, "domain": domain},
        now=now,
        run_at=run_at,
        unique_key=transfer_key(submission_id, domain),
        lane=f"{TRANSFER_KIND}-{domain}",
    )


def transfer_key(submission_id: SubmissionId, domain: str) -> str:
    """The unique key of the job that moves a submission's recipients of one domain."""
    return f"{TRANSFER_KIND}-{submission_id}-{domain}"


def record_failed(conn: WriteConn, account_id: AccountId, new: NewSubmission, now: datetime) -> Submission:
    """Keep the trace of a message that could not be accepted, so that its sender can ask for it.

    Its recipients stay pending for good and count as rejected. When it was accepted after all (the answer to the
    attempt got lost), that submission is returned. Records ``submission.failed``. NotFound ``account_not_found``.
    """
    accounts.get(conn, account_id)
    try:
        return get_by_public_id(conn, account_id, new.public_id)
    except NotFound:
        record_rejected(conn, account_id, new.sender, new.recipients, now)
    made = _insert(conn, account_id, new, _mailbox_of_sender(conn, account_id, new), None, now)
    body = {"submission": made.id, "id": str(new.public_id), "sender": new.sender}
    events.record(conn, account_id, "submission.failed", body, now=now)
    return made


def record_rejected(
    conn: WriteConn, account_id: AccountId, sender: str, recipients: Sequence[NewRecipient], now: datetime
) -> None:
    """Count recipients of a message that was refused by policy, or failed, before it came into the queue."""
    counted = Counter(recipient.domain for recipient in recipients)
    changes = {domain: statistics.Delta(rejected=number) for domain, number in counted.items()}
    statistics.record_outbound(conn, account_id, sender, now, changes)


def get(conn: ReadConn, account_id: AccountId, submission_id: SubmissionId) -> Submission:
    """One submission; NotFound ``submission_not_found``."""
    return _one(conn, _s.account_id == account_id, _s.id == submission_id)


def get_by_public_id(conn: ReadConn, account_id: AccountId | None, public_id: UUID) -> Submission:
    """The submission of that id; of any account for None (the operator). NotFound ``submission_not_found``."""
    mine = [] if account_id is None else [_s.account_id == account_id]
    return _one(conn, _s.public_id == public_id.bytes, *mine)


def get_by_queue_id(conn: ReadConn, account_id: AccountId | None, queue_id: str) -> Submission:
    """As ``get_by_public_id``, by what replies, logs and Received lines call it."""
    mine = [] if account_id is None else [_s.account_id == account_id]
    return _one(conn, _s.queue_id == queue_id, *mine)


def list_recipients(
    conn: ReadConn, account_id: AccountId, submission_ids: Iterable[SubmissionId], kind: RecipientKind | None = None
) -> list[Recipient]:
    """The recipients of some submissions (of one ``kind``), in the order in which they were given."""
    statement = select(tables.transfers).where(_t.account_id == account_id, _t.submission_id.in_(set(submission_ids)))
    if kind is not None:
        statement = statement.where(_t.kind == kind)
    rows = conn.execute(statement.order_by(_t.submission_id, _t.id))
    return [_recipient(row) for row in rows]


def release_contents(
    conn: WriteConn, account_id: AccountId, submission_ids: Sequence[SubmissionId], now: datetime
) -> None:
    """Let go of the bytes of messages that are not sent again."""
    mine = _s.account_id == account_id, _s.id.in_(submission_ids), _s.content_id.is_not(None)
    held = [ContentId(found) for found in conn.execute(select(_s.content_id).where(*mine)).scalars()]
    conn.execute(update(tables.submissions).where(*mine).values(content_id=None))
    if held:
        contents.release(conn, account_id, held, now)


def remove_some(conn: WriteConn, account_id: AccountId, limit: int, now: datetime) -> bool:
    """Delete up to ``limit`` submissions with all that hangs on them; False when there were none."""
    some = select(_s.id).where(_s.account_id == account_id).order_by(_s.id).limit(limit)
    gone = [SubmissionId(found) for found in conn.execute(some).scalars()]
    if not gone:
        return False
    release_contents(conn, account_id, gone, now)
    for table in (tables.transfer_attempts, tables.transfers):
        mine = table.c.account_id == account_id, table.c.submission_id.in_(gone)
        conn.execute(delete(table).where(*mine))
    conn.execute(delete(tables.submissions).where(_s.account_id == account_id, _s.id.in_(gone)))
    return True


def list_releasable(conn: ReadConn, before: datetime, limit: int) -> list[tuple[AccountId, SubmissionId]]:
    """Submissions of all accounts that were accepted before then, are final, and hold their bytes still."""
    statement = select(_s.account_id, _s.id).where(
        _s.content_id.is_not(None), _s.created_at < clock.to_micros(before), _s.status != "submitted"
    )
    return [(AccountId(row.account_id), SubmissionId(row.id)) for row in conn.execute(statement.limit(limit))]


def _mailbox_of_sender(conn: ReadConn, account_id: AccountId, new: NewSubmission) -> MailboxId | None:
    """The mailbox that the sender's address leads to, None for this server's own mail. Errors: Forbidden."""
    if new.principal is None:
        return None
    sender = access.require_sender(conn, new.principal, new.sender)
    if sender.account_id != account_id:
        raise Forbidden("The sender's domain has moved to another account.", code="domain_not_allowed")
    return sender.mailbox_id


def _sent_folder(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId, size_bytes: int) -> str | None:
    """The folder for the copy; None when the mailbox has none or no room, and the mail goes without."""
    row = _SENT_FOLDER.row(conn, {"account": account_id, "mailbox": mailbox_id})
    if row is None:
        return None
    name, *places = row
    if any(quota is not None and used + size_bytes > quota for used, quota in (places[:2], places[2:])):
        _log.info("no_sent_copy", mailbox_id=int(mailbox_id), reason="over_quota")
        return None
    return str(name)


def _insert(
    conn: WriteConn,
    account_id: AccountId,
    new: NewSubmission,
    mailbox_id: MailboxId | None,
    content_id: ContentId | None,
    now: datetime,
) -> Submission:
    """Write the rows of a message and its recipients; without a content it has failed."""
    micros = clock.to_micros(now)
    is_accepted = content_id is not None
    values = {
        "account_id": account_id,
        "public_id": new.public_id.bytes,
        "mailbox_id": mailbox_id,
        "submitter_id": new.principal.mailbox_id if new.principal else None,
        "token_id": new.principal.token_id if new.principal else None,
        "source": new.source,
        "status": "submitted" if is_accepted else "failed",
        "queue_id": new.queue_id if is_accepted else None,
        "sender": new.sender,
        "sender_domain": new.sender.rpartition("@")[2],
        "envelope_sender": new.envelope_sender,
        "return_token": new.return_token,
        "subject": new.subject,
        "message_id_header": new.message_id_header,
        "content_id": content_id,
        "size_bytes": new.size_bytes,
        "recipients": len(new.recipients),
        "deferred": 0,
        "sent": 0,
        "bounced": 0,
        "created_at": micros,
        "submitted_at": micros if is_accepted else None,
        "expires_at": clock.to_micros(now + LIFETIME),
    }
    row = _INSERT.row(conn, values)
    assert row is not None
    _INSERT_TRANSFER.many(
        conn,
        [
            {
                "account_id": account_id,
                "submission_id": row[0],
                "kind": recipient.kind,
                "address": recipient.address,
                "domain": recipient.domain,
                "status": "pending",
                "next_attempt_at": micros if is_accepted else None,
            }
            for recipient in new.recipients
        ],
    )
    return from_row({**values, "id": row[0]})


def _one(conn: ReadConn, *where: ColumnElement[bool]) -> Submission:
    row = conn.execute(select(tables.submissions).where(*where)).mappings().first()
    if row is None:
        raise NotFound("There is no such submission.", code="submission_not_found")
    return from_row(row)


def from_row(row: Any) -> Submission:
    """A row of ``submissions``, by the names of its columns."""
    return Submission(
        id=SubmissionId(row["id"]),
        account_id=AccountId(row["account_id"]),
        public_id=UUID(bytes=row["public_id"]),
        mailbox_id=row["mailbox_id"],
        submitter_id=row["submitter_id"],
        token_id=row["token_id"],
        source=row["source"],
        status=row["status"],
        queue_id=row["queue_id"],
        sender=row["sender"],
        sender_domain=row["sender_domain"],
        envelope_sender=row["envelope_sender"],
        return_token=row["return_token"],
        subject=row["subject"],
        message_id_header=row["message_id_header"],
        content_id=row["content_id"],
        size_bytes=row["size_bytes"],
        recipients=row["recipients"],
        deferred=row["deferred"],
        sent=row["sent"],
        bounced=row["bounced"],
        created_at=clock.from_micros(row["created_at"]),
        submitted_at=clock.optional_from_micros(row["submitted_at"]),
        expires_at=clock.from_micros(row["expires_at"]),
    )


def _recipient(row: Any) -> Recipient:
    return Recipient(
        id=TransferId(row.id),
        submission_id=SubmissionId(row.submission_id),
        kind=row.kind,
        address=row.address,
        domain=row.domain,
        status=row.status,
        is_held=bool(row.is_held),
        dsn_code=row.dsn_code,
        smtp_response=row.smtp_response,
        remote_mta=row.remote_mta,
        attempts=row.attempts,
        last_attempt_at=clock.optional_from_micros(row.last_attempt_at),
        next_attempt_at=clock.optional_from_micros(row.next_attempt_at),
        delivered_at=clock.optional_from_micros(row.delivered_at),
    )
