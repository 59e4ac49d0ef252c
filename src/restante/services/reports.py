"""Reports of failed delivery: ours to our senders, and those of other servers that come back to a return path.

Both end in the INBOX of the sender's mailbox. A message with the null sender is never reported on (RFC 5321 §6.1), so
no report begets another.
"""

import asyncio
from collections.abc import Sequence

from restante import log
from restante.core import contents, transfer
from restante.core.delivery import Target
from restante.core.jobs import Job
from restante.core.routing import Route
from restante.core.transfer import Failed, Failure
from restante.errors import NotFound, Unavailable
from restante.ids import AccountId, SubmissionId, TransferId
from restante.mail import dsn, message, serialize
from restante.mail.address import Address
from restante.mail.dsn import FailedRecipient, Report
from restante.mail.message import Message
from restante.mail.structure import Buffer
from restante.runtime import Runtime
from restante.services import retrieval, storing

_log = log.logger(__name__)


async def note(rt: Runtime, routes: Sequence[Route], parsed: Message, raw: Buffer) -> None:
    """Note what a message to return paths reports, if anything; durable when it returns. Raises Unavailable.

    It may be noted again when the message comes again: what has bounced already stays as it is.
    """
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(rt.pool, dsn.parse, parsed, raw)
    failures = [Failure(*each) for each in found]
    for route in routes:
        if route.submission_id is not None and failures:
            count = await rt.db.write(
                transfer.record_report, route.account_id, route.submission_id, failures, rt.clock.now()
            )
            _log.info("report noted", submission=route.submission_id, bounced=count)


async def tell_sender(rt: Runtime, job: Job) -> bool:
    """Put a report of the recipients that were given up into the sender's INBOX, once (the job's handler).

    A sender whose mailbox is gone is not told. Raises Unavailable: later.
    """
    account_id = AccountId(job.payload["account"])
    wanted = {TransferId(each) for each in job.payload["transfers"]}
    try:
        failed = await rt.db.read(transfer.failed, account_id, SubmissionId(job.payload["submission"]), wanted)
        mailbox_id = failed.submission.mailbox_id
        if mailbox_id is None or not failed.recipients:
            return False
        raw = dsn.compose(await _report(rt, account_id, failed, f"report-{job.id}@{rt.config.hostname}"))
        examined = await storing.examine_bounded(rt, raw, "")
        address = failed.submission.sender
        trace = serialize.trace_header("Return-Path", "<>") + serialize.trace_header("Delivered-To", address)
        target = Target(account_id, mailbox_id, "INBOX", address, trace)
        call = await storing.encode(rt, raw, examined, [target], rt.clock.now())
        await rt.db.write(transfer.store_report, call, job)
    except NotFound as error:
        _log.warning("report not stored", submission=job.payload["submission"], reason=error.code)
        return False
    return True


async def _report(rt: Runtime, account_id: AccountId, failed: Failed, message_id: str) -> Report:
    sent = failed.submission
    now = rt.clock.now()
    return Report(
        hostname=rt.config.hostname,
        to=Address("", sent.sender),
        message_id=message_id,
        date=now,
        arrived_at=sent.submitted_at or sent.created_at,
        subject=sent.subject,
        recipients=tuple(
            FailedRecipient(
                each.address,
                each.dsn_code or "5.0.0",
                each.smtp_response or "",
                each.remote_mta,
                each.last_attempt_at or now,
            )
            for each in failed.recipients
        ),
        original_header=await _header(rt, account_id, failed),
    )


async def _header(rt: Runtime, account_id: AccountId, failed: Failed) -> bytes:
    """The original's header block; nothing when its bytes are gone or out of reach."""
    if failed.submission.content_id is None:
        return b""
    try:
        stored = await rt.db.read(contents.get, account_id, failed.submission.content_id)
        raw = await retrieval.received_bytes(rt, stored)
    except (NotFound, Unavailable):
        return b""
    end = message.load(stored.structure).root.body_start
    return bytes(raw[: min(end, dsn.MAX_HEADER_BYTES * 2)])
