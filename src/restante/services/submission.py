"""Submission: from a draft, or from the bytes of a user's mail program, to an accepted message.

What is accepted is durable with its copy and the jobs that move it on; whatever is wrong before that leaves nothing,
except that a message which only this server's trouble kept out leaves a submission with the status ``failed``.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from restante import ids, log
from restante.core import access, idempotency
from restante.core import submission as core
from restante.core.access import Principal
from restante.core.idempotency import Once
from restante.core.jobs import Job
from restante.core.submission import NewRecipient, NewSubmission, RecipientKind, Submission
from restante.errors import Invalid, RestanteError, SendFailed, TooLarge, Unavailable
from restante.ids import AccountId, SubmissionId
from restante.mail import address as addresses
from restante.mail import compose, serialize
from restante.mail.address import Address
from restante.mail.compose import Draft
from restante.mail.structure import Buffer
from restante.runtime import Runtime
from restante.services import storing

SWEEP_ROWS = 500
KEEP_BYTES = timedelta(days=30)  # so long a message may be sent again, and a late report be matched with it
_COMPOSED_OFF_LOOP = 64 * 1024  # characters and bytes of a draft

_log = log.logger(__name__)


async def send(
    rt: Runtime, principal: Principal, draft: Draft, bcc: tuple[Address, ...] = (), *, once: Once | None = None
) -> Submission:
    """Compose a draft and accept it for its recipients and those of ``bcc``, who stand in no header.

    A recipient named twice gets one mail (To comes before Cc, Cc before Bcc). ``once``: a repeated request gives the
    first one's submission. Errors: Invalid; Forbidden ``domain_not_allowed``, then ``sender_not_authorized``; Conflict
    ``idempotency_conflict``; TooLarge; SendFailed.
    """
    if once is not None:
        first = await rt.db.read(idempotency.find, once.account_id, once, rt.clock.now())
        if first is not None:
            return await rt.db.read(core.get_by_public_id, None, UUID(bytes=first))
    draft, recipients = _one_each(draft, bcc)
    sender = await rt.db.read(access.require_sender, principal, draft.from_.email)
    public_id = ids.new_uuid()
    draft = replace(draft, message_id=f"{public_id}@{sender.domain}", date=rt.clock.now())
    raw = await _composed(rt, draft)
    new = NewSubmission(
        public_id=public_id,
        queue_id=ids.new_queue_id(),
        return_token=ids.new_return_token(),
        source="api",
        principal=principal,
        sender=sender.address,
        envelope_sender=sender.address,
        recipients=recipients,
        subject=serialize.clean(draft.subject),
        message_id_header=f"<{draft.message_id}>",
        size_bytes=len(raw),
    )
    return await _accept(rt, sender.account_id, new, raw, once)


async def _accept(
    rt: Runtime, account_id: AccountId, new: NewSubmission, raw: Buffer, once: Once | None = None
) -> Submission:
    """Keep a finished message: large bytes first, then everything in one transaction."""
    limit = rt.config.smtp.limits.max_message_bytes
    if len(raw) > limit:
        await rt.db.write(core.record_rejected, account_id, new.sender, new.recipients, rt.clock.now())
        raise TooLarge(f"The message is over {limit} bytes.")
    try:
        examined = await storing.examine_bounded(rt, raw, new.envelope_sender)
        content = await storing.new_content(rt, account_id, raw, examined)
        done = await rt.db.write(core.accept, account_id, new, content, examined.summary, rt.clock.now(), once)
    except Unavailable as error:
        done = await _failed(rt, account_id, new, error)
    _log.info("submitted", id=done.queue_id, source=new.source, bytes=len(raw), recipients=done.recipients)
    return done


async def _failed(rt: Runtime, account_id: AccountId, new: NewSubmission, error: Unavailable) -> Submission:
    """Note that a message could not be kept. Raises SendFailed, or the error itself when not even that was possible."""
    try:
        noted = await rt.db.write(core.record_failed, account_id, new, rt.clock.now())
    except RestanteError:
        raise error from None
    if noted.status != "failed":
        return noted
    _log.warning("submission_failed", submission_id=int(noted.id), reason=error.code)
    raise SendFailed("The message could not be accepted for sending.", submission=str(new.public_id)) from error


async def _composed(rt: Runtime, draft: Draft) -> bytes:
    size = sum(len(part.content) for part in draft.attachments) + len(draft.text or "") + len(draft.html or "")
    if size < _COMPOSED_OFF_LOOP:
        return compose.compose(draft)
    return await asyncio.get_running_loop().run_in_executor(rt.pool, compose.compose, draft)


def _one_each(draft: Draft, bcc: Iterable[Address]) -> tuple[Draft, tuple[NewRecipient, ...]]:
    """The draft and its recipients without those named before."""
    seen: set[str] = set()
    recipients: list[NewRecipient] = []
    kept: dict[RecipientKind, tuple[Address, ...]] = {}
    kinds: tuple[tuple[RecipientKind, Iterable[Address]], ...] = (("to", draft.to), ("cc", draft.cc), ("bcc", bcc))
    for kind, named in kinds:
        mine = []
        for one in named:
            wanted = addresses.normalise(one.email)
            if wanted not in seen:
                seen.add(wanted)
                mine.append(one)
                recipients.append(recipient(kind, one.email))
        kept[kind] = tuple(mine)
    if not recipients:
        raise Invalid("A message needs a recipient.", details={"to": "A message needs a recipient."})
    return replace(draft, to=kept["to"], cc=kept["cc"]), tuple(recipients)


def recipient(kind: RecipientKind, address: str) -> NewRecipient:
    """A recipient whose local part is as given and whose domain is in routing form. Invalid ``invalid_address``."""
    local, domain = addresses.split(addresses.normalise(address))
    if domain.startswith("["):
        raise Invalid("Mail is not sent to an address in brackets.", code="invalid_address")
    if not local.startswith('"'):
        local = address.strip().rpartition("@")[0]
    return NewRecipient(kind, f"{local}@{domain}")


async def sweep(rt: Runtime, _job: Job) -> None:
    """Forget idempotency keys that are over, and let go of the bytes of messages that were sent long ago."""
    now = rt.clock.now()
    while await rt.db.write(idempotency.remove_expired, SWEEP_ROWS, now) == SWEEP_ROWS:
        pass
    while held := await rt.db.read(core.list_releasable, now - KEEP_BYTES, SWEEP_ROWS):
        by_account: dict[AccountId, list[SubmissionId]] = {}
        for account_id, submission_id in held:
            by_account.setdefault(account_id, []).append(submission_id)
        for account_id, submission_ids in by_account.items():
            await rt.db.write(core.release_contents, account_id, submission_ids, now)
