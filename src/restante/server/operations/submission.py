"""Operations on mail that is sent: send, and the queue."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from restante.core import access, tracking, transfer
from restante.core import submission as core
from restante.core.submission import Recipient, Status, Submission
from restante.core.tracking import Attempt, Query
from restante.errors import Invalid
from restante.ids import AccountId, SubmissionId
from restante.mail import address as addresses
from restante.mail.address import Address
from restante.mail.compose import Draft, Part
from restante.runtime import Runtime
from restante.schema.connections import ReadConn, WriteConn
from restante.server.operations import naming
from restante.services import submission

Json = dict[str, Any]

MAX_PAGE = 1000
MAX_ATTEMPTS = 1000  # of one message that ``queue show`` prints


def _submission_json(found: Submission) -> Json:
    return {
        "id": str(found.public_id),
        "queue_id": found.queue_id,
        "source": found.source,
        "status": found.status,
        "sender": found.sender,
        "envelope_sender": found.envelope_sender,
        "subject": found.subject,
        "message_id": found.message_id_header,
        "size_bytes": found.size_bytes,
        "recipients": found.recipients,
        "deferred": found.deferred,
        "sent": found.sent,
        "bounced": found.bounced,
        "created_at": naming.moment(found.created_at),
        "submitted_at": naming.moment(found.submitted_at),
        "expires_at": naming.moment(found.expires_at),
    }


def _recipient_json(found: Recipient) -> Json:
    return {
        "address": found.address,
        "kind": found.kind,
        "status": found.status,
        "held": found.is_held,
        "dsn_code": found.dsn_code,
        "response": found.smtp_response,
        "remote_mta": found.remote_mta,
        "attempts": found.attempts,
        "last_attempt_at": naming.moment(found.last_attempt_at),
        "next_attempt_at": naming.moment(found.next_attempt_at),
        "delivered_at": naming.moment(found.delivered_at),
    }


def _attempt_json(found: Attempt) -> Json:
    return {
        "address": found.address,
        "attempted_at": naming.moment(found.attempted_at),
        "status": found.status,
        "dsn_code": found.dsn_code,
        "response": found.smtp_response,
        "remote_mta": found.remote_mta,
        "tls": found.tls,
    }


async def send(
    rt: Runtime,
    sender: str,
    to: Sequence[str],
    cc: Sequence[str] = (),
    bcc: Sequence[str] = (),
    reply_to: Sequence[str] = (),
    subject: str = "",
    text: str | None = None,
    html: str | None = None,
    attachments: Sequence[Json] = (),
) -> Json:
    """Compose a message and put it into the queue; durable when it answers. ``attachments``: filename, type, bytes."""
    draft = Draft(
        from_=_address("from", sender),
        to=_addresses("to", to),
        cc=_addresses("cc", cc),
        reply_to=_addresses("reply-to", reply_to),
        subject=subject,
        text=text,
        html=html,
        attachments=tuple(Part(one["filename"], one["content_type"], one["content"]) for one in attachments),
    )
    hidden = _addresses("bcc", bcc)
    return _submission_json(await submission.send(rt, access.OPERATOR, draft, hidden, origin="command"))


async def send_raw(rt: Runtime, sender: str, to: Sequence[str], raw: bytes) -> Json:
    """Put a finished message into the queue; Bcc is taken out of it, what it lacks is added."""
    wanted = [_address("to", one).email for one in to]
    if not wanted:
        raise Invalid("a message needs a recipient", details={"to": "at least one"})
    envelope_sender = _address("from", sender).email if sender else ""
    return _submission_json(await submission.take(rt, access.OPERATOR, envelope_sender, wanted, None, raw))


async def queue_list(
    rt: Runtime,
    status: Status | None = "submitted",
    sender: str | None = None,
    recipient: str | None = None,
    limit: int = 50,
    offset: int = 0,
) -> Json:
    """Messages newest first: those on their way, or in another state (None: in any)."""
    query = Query(
        status=status,
        sender=None if sender is None else addresses.normalise(sender),
        recipient=recipient,
        limit=max(1, min(limit, MAX_PAGE)),
        offset=max(0, offset),
    )
    page = await rt.db.read(tracking.list_page, None, query)
    return {"total": page.total, "submissions": [_submission_json(one) for one in page.items]}


async def queue_show(rt: Runtime, name: str) -> Json:
    """One message with its recipients and the tries to move them."""
    return await rt.db.read(_show, name)


async def queue_retry(rt: Runtime, name: str) -> Json:
    """Try every recipient that is not final at once, held or not."""
    return await rt.db.write(_change, _retry, name, rt.clock.now())


async def queue_hold(rt: Runtime, name: str) -> Json:
    """Try no recipient until the message is released or tried again."""
    return await rt.db.write(_change, _hold, name, rt.clock.now())


async def queue_release(rt: Runtime, name: str) -> Json:
    """End ``queue_hold``: each recipient is tried when its turn comes."""
    return await rt.db.write(_change, _release, name, rt.clock.now())


async def queue_drop(rt: Runtime, name: str) -> Json:
    """Give up on every recipient that is not final; they count as bounced, and their sender gets no mail of it."""
    return await rt.db.write(_change, _drop, name, rt.clock.now())


Verb = Callable[[WriteConn, AccountId, SubmissionId, datetime], int]


def _retry(conn: WriteConn, account_id: AccountId, submission_id: SubmissionId, now: datetime) -> int:
    return transfer.retry(conn, account_id, submission_id, now)


def _hold(conn: WriteConn, account_id: AccountId, submission_id: SubmissionId, _now: datetime) -> int:
    return transfer.hold(conn, account_id, submission_id)


def _release(conn: WriteConn, account_id: AccountId, submission_id: SubmissionId, now: datetime) -> int:
    return transfer.release(conn, account_id, submission_id, now)


def _drop(conn: WriteConn, account_id: AccountId, submission_id: SubmissionId, now: datetime) -> int:
    return transfer.drop(conn, account_id, submission_id, now, "dropped by the operator")


def _change(conn: WriteConn, verb: Verb, name: str, now: datetime) -> Json:
    found = naming.submission(conn, name)
    changed = verb(conn, found.account_id, found.id, now)
    return _submission_json(core.get(conn, found.account_id, found.id)) | {"changed": changed}


def _show(conn: ReadConn, name: str) -> Json:
    found = naming.submission(conn, name)
    recipients = core.list_recipients(conn, found.account_id, [found.id])
    attempts = tracking.list_attempts(conn, found.account_id, found.id, MAX_ATTEMPTS)
    return _submission_json(found) | {
        "recipient_list": [_recipient_json(one) for one in recipients],
        "attempt_list": [_attempt_json(one) for one in attempts],
    }


def _addresses(field: str, given: Sequence[str]) -> tuple[Address, ...]:
    return tuple(_address(field, one) for one in given)


def _address(field: str, text: str) -> Address:
    try:
        return addresses.parse_one(text)
    except Invalid as error:
        raise Invalid(f"{text!r} is not an address", code=error.code, details={field: error.message}) from error
