"""Reports: of failed delivery, ours to our senders and those that come back to a return path; and of abuse.

All end in an INBOX. A message with the null sender is never reported on (RFC 5321 §6.1), so no report begets another.
"""

import asyncio
from collections.abc import Sequence

from restante import log
from restante.core import complaints, contents, routing, transfer
from restante.core.delivery import Target
from restante.core.jobs import Job
from restante.core.routing import RETURN_PREFIX, Route
from restante.core.transfer import Failed, Failure
from restante.errors import NotFound, RestanteError, Unavailable
from restante.ids import AccountId, SubmissionId, TransferId
from restante.mail import dsn, feedback, message, serialize
from restante.mail.address import Address
from restante.mail.dsn import FailedRecipient, Report
from restante.mail.feedback import Complaint
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


async def note_complaint(rt: Runtime, routes: Sequence[Route], parsed: Message, raw: Buffer) -> None:
    """Note what an abuse report complains of, if that was sent from here; durable when it returns. Raises Unavailable.

    Its return path names the message, wherever the report comes in; its Message-ID does among what the accounts of
    ``routes`` sent.
    """
    found = await asyncio.get_running_loop().run_in_executor(rt.pool, feedback.parse, parsed, raw)
    if found is None:
        return
    for account_id, submission_id in await _complained_about(rt, routes, found):
        is_new = await rt.db.write(
            complaints.record,
            account_id,
            submission_id,
            found.recipient,
            found.kind,
            found.reporter,
            rt.clock.now(),
        )
        _log.info("complaint", submission=submission_id, kind=found.kind, noted=is_new)


async def _complained_about(
    rt: Runtime, routes: Sequence[Route], found: Complaint
) -> list[tuple[AccountId, SubmissionId]]:
    if found.return_path.startswith(RETURN_PREFIX):
        try:
            route, *_ = await rt.db.read(routing.resolve, found.return_path)
        except RestanteError as error:
            if isinstance(error, Unavailable) and error.code != "account_suspended":
                raise
            return []  # not a return path of ours
        return [] if route.submission_id is None else [(route.account_id, route.submission_id)]
    if not found.message_id:
        return []
    accounts = dict.fromkeys(route.account_id for route in routes)
    each = [(account_id, await rt.db.read(complaints.find, account_id, found.message_id)) for account_id in accounts]
    return [(account_id, submission_id) for account_id, submission_id in each if submission_id is not None]


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
