"""What the seed names no endpoints for: one sent message whole, its delivery log, sending it again, stopping it."""

import asyncio
from datetime import datetime

from restante.api.mail_api import auth, mail_shapes, shapes
from restante.api.mail_api.mailbox import OFF_LOOP_BYTES, attachment_item, other_headers
from restante.api.mail_api.submission import accepted, public_id
from restante.core import submission, tracking, transfer
from restante.core.access import Principal
from restante.core.submission import NewRecipient, Recipient, Submission
from restante.core.tracking import Attempt
from restante.errors import Conflict
from restante.http import schemas
from restante.http.answers import Answer
from restante.http.calls import Call
from restante.ids import AccountId, SubmissionId
from restante.mail import message as mail
from restante.schema.connections import ReadConn, WriteConn
from restante.services import retrieval
from restante.services import submission as service
from restante.services.retrieval import Content

MAX_ATTEMPTS = 1000  # in one answer: the newest


async def get_detail(call: Call) -> Answer:
    """Show one message that was sent, with its recipients and its text; the text goes 30 days after sending."""
    caller = await auth.require(call)
    found, recipients = await call.rt.db.read(read_own, caller.principal, call.params["message_id"])
    if found.content_id is None:
        return _detail(found, recipients, None)
    content = await retrieval.content(call.rt, found.account_id, found.content_id)
    if found.size_bytes <= OFF_LOOP_BYTES:
        return _detail(found, recipients, content)
    return await asyncio.get_running_loop().run_in_executor(call.rt.pool, _detail, found, recipients, content)


async def list_log(call: Call) -> Answer:
    """List the tries to hand a message over, oldest first: what each recipient's server said."""
    caller = await auth.require(call)
    found, attempts = await call.rt.db.read(read_log, caller.principal, call.params["message_id"])
    entries = [
        mail_shapes.LogEntry(
            one.address, shapes.moment(one.attempted_at), one.status, one.dsn_code, one.smtp_response, one.remote_mta,
            one.tls,
        )
        for one in attempts
    ]  # fmt: skip
    return shapes.answer(mail_shapes.DeliveryLog(True, str(found.public_id), found.status, entries))


async def resend(call: Call) -> Answer:
    """Send a message again, to those of its recipients that bounced or, with `all`, to everyone: a new message_id."""
    caller = await auth.require(call)
    data = await schemas.read(call, 64 * 1024)
    wanted = schemas.parse(data, mail_shapes.Resend) if data else mail_shapes.Resend()
    found, recipients = await call.rt.db.read(read_own, caller.principal, call.params["message_id"])
    again = tuple(NewRecipient(one.kind, one.address) for one in recipients if wanted.all or one.status == "bounced")
    if not again:
        raise Conflict("No recipient of this message bounced.", code="nothing_bounced")
    return await accepted(service.resend(call.rt, caller.principal, found, again))


async def cancel(call: Call) -> Answer:
    """Give up on the recipients that are not final yet: they become bounced, those that have the mail keep it."""
    caller = await auth.require(call)
    found, _ = await call.rt.db.read(read_own, caller.principal, call.params["message_id"])
    cancelled = await call.rt.db.write(stop, found.account_id, found.id, call.rt.clock.now())
    if not cancelled:
        raise Conflict("Every recipient of this message is final already.", code="already_final")
    now = await call.rt.db.read(submission.get, found.account_id, found.id)
    return shapes.answer(mail_shapes.Cancelled(True, str(now.public_id), now.status, cancelled))


def read_own(conn: ReadConn, principal: Principal, message_id: str) -> tuple[Submission, list[Recipient]]:
    """A submission of the principal's own, and its recipients. Errors: Forbidden, NotFound."""
    found = tracking.require(conn, principal, public_id(message_id), None)
    return found, submission.list_recipients(conn, found.account_id, [found.id])


def read_log(conn: ReadConn, principal: Principal, message_id: str) -> tuple[Submission, list[Attempt]]:
    """A submission that the principal may follow, and the tries to move it. Errors: Forbidden, NotFound."""
    found = tracking.require(conn, principal, public_id(message_id))
    return found, tracking.list_attempts(conn, found.account_id, found.id, MAX_ATTEMPTS)


def stop(conn: WriteConn, account_id: AccountId, submission_id: SubmissionId, now: datetime) -> int:
    """Drop what is not final, in the sender's name; returns how many recipients that were."""
    return transfer.drop(conn, account_id, submission_id, now, "cancelled by the sender")


def _detail(found: Submission, recipients: list[Recipient], content: Content | None) -> Answer:
    def of(kind: str) -> list[str]:
        return [one.address for one in recipients if one.kind == kind]

    body, attachments, headers = None, None, None
    if content is not None:
        body = shapes.Body(mail.text(content.message, content.raw), mail.html(content.message, content.raw))
        attachments = [attachment_item(one) for one in content.message.attachments]
        headers = other_headers(mail.headers(content.raw))
    detail = mail_shapes.MessageDetail(
        success=True,
        message_id=str(found.public_id),
        queue_id=found.queue_id,
        from_=found.sender,
        to=of("to"),
        cc=of("cc"),
        bcc=of("bcc"),
        subject=found.subject,
        status=found.status,
        size=found.size_bytes,
        created_at=shapes.moment(found.created_at),
        submitted_at=shapes.optional_moment(found.submitted_at),
        headers=headers,
        body=body,
        attachments=attachments,
    )
    return shapes.answer(detail)
