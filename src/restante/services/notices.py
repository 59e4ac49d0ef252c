"""Notices: mail from this server itself into mailboxes of its own, promised in one transaction and stored by a job.

The job is enqueued beside what it tells of, so a crash loses neither or both. It may run twice: the Message-ID is made
from the notice's key, and a second run looks for it first.
"""

from datetime import datetime
from typing import Any

from restante import log
from restante.core import folders, jobs, mailboxes, messages
from restante.core.jobs import Job
from restante.core.mailboxes import Mailbox
from restante.errors import RestanteError, Unavailable
from restante.ids import AccountId, FolderId, MailboxId
from restante.mail import compose
from restante.mail.address import Address
from restante.runtime import Runtime
from restante.schema.connections import ReadConn, WriteConn
from restante.services import storing

KIND = "store-notice"
LOOKED_THROUGH = 1000  # newest messages of the INBOX that a second run searches for its first

_log = log.logger(__name__)


def enqueue(conn: WriteConn, mailbox: Mailbox, key: str, subject: str, text: str, now: datetime) -> None:
    """Promise a notice to a mailbox, once for each ``key`` (letters, digits, hyphens; unique on the instance)."""
    payload = {
        "account_id": mailbox.account_id,
        "mailbox_id": mailbox.id,
        "key": key,
        "subject": subject,
        "text": text,
    }
    jobs.enqueue(conn, None, KIND, payload, now=now, unique_key=f"notice-{key}")


async def store(rt: Runtime, job: Job) -> None:
    """Put a promised notice into the INBOX (the job's handler).

    A notice that cannot be stored at all (the mailbox is gone) is dropped with a warning. Raises Unavailable: later.
    """
    told = job.payload
    account_id, mailbox_id = AccountId(told["account_id"]), MailboxId(told["mailbox_id"])
    message_id = f"{told['key']}@{rt.config.hostname}"
    try:
        mailbox = await rt.db.read(mailboxes.get, account_id, mailbox_id)
        inbox = await rt.db.read(folders.get_folder, account_id, mailbox_id, "INBOX")
        if job.attempts > 1 and await rt.db.read(_is_stored, account_id, inbox.id, message_id):
            return
        await storing.store(rt, account_id, mailbox_id, inbox.name, _composed(rt, mailbox, message_id, told))
    except Unavailable:
        raise
    except RestanteError as error:
        _log.warning("notice not stored", notice=told["key"], mailbox_id=mailbox_id, reason=error.code)


def _is_stored(conn: ReadConn, account_id: AccountId, folder_id: FolderId, message_id: str) -> bool:
    newest = messages.list_page(conn, account_id, folder_id, limit=LOOKED_THROUGH)
    return any(row.message_id_header == f"<{message_id}>" for row in newest)


def _composed(rt: Runtime, mailbox: Mailbox, message_id: str, told: Any) -> bytes:
    draft = compose.Draft(
        from_=Address("Restante", f"postmaster@{rt.config.hostname}"),
        to=(Address(mailbox.name, mailbox.address),),
        subject=told["subject"],
        text=told["text"],
        date=rt.clock.now(),
        message_id=message_id,
        headers=(("Auto-Submitted", "auto-generated"),),
    )
    return compose.compose(draft)
