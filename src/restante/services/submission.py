"""Submission: from a draft, or from the bytes of a user's mail program, to an accepted message.

What is accepted is durable with its copy and the jobs that move it on; whatever is wrong before that leaves nothing,
except that a message which only this server's trouble kept out leaves a submission with the status ``failed``.
"""

import asyncio
import contextlib
import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from restante import ids, log
from restante.core import access, idempotency
from restante.core import submission as core
from restante.core.access import Principal, Sender
from restante.core.idempotency import Once
from restante.core.jobs import Job
from restante.core.submission import NewRecipient, NewSubmission, RecipientKind, Submission
from restante.errors import Conflict, Invalid, RestanteError, SendFailed, TooLarge, Unavailable
from restante.ids import AccountId, SubmissionId
from restante.mail import address as addresses
from restante.mail import compose, headers, serialize, structure, threads
from restante.mail.address import Address
from restante.mail.compose import Draft
from restante.mail.structure import Buffer
from restante.runtime import Runtime
from restante.schema.connections import ReadConn
from restante.services import retrieval, storing
from restante.services.reception import Source
from restante.storage.spool import Spool

SWEEP_ROWS = 500
MAX_SENDERS = 10  # addresses of From in a message from a mail program
KEEP_BYTES = timedelta(days=30)  # so long a message may be sent again, and a late report be matched with it
_PIECE = 1024 * 1024  # of a large message that is rewritten
_COMPOSED_OFF_LOOP = 64 * 1024  # characters and bytes of a draft

_FROM = re.compile(rb"^from[ \t]*:", re.IGNORECASE | re.MULTILINE)  # also as no parser but some reader may take it
_PRIVATE = re.compile(
    rb"^(?:bcc|resent-bcc|return-path)[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*", re.IGNORECASE | re.MULTILINE
)

_log = log.logger(__name__)


async def send(
    rt: Runtime,
    principal: Principal,
    draft: Draft,
    bcc: tuple[Address, ...] = (),
    *,
    origin: core.Source = "api",
    once: Once | None = None,
    has_copy: bool = True,
) -> Submission:
    """Compose a draft and accept it for its recipients and those of ``bcc``, who stand in no header.

    A recipient named twice gets one mail (To comes before Cc, Cc before Bcc). ``once``: a repeated request gives the
    first one's submission. ``has_copy``: the Sent folder gets one. Errors: Invalid; Forbidden ``domain_not_allowed``,
    then ``sender_not_authorized``; Conflict ``idempotency_conflict``; TooLarge; SendFailed.
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
        source=origin,
        principal=principal,
        sender=sender.address,
        envelope_sender=sender.address,
        recipients=recipients,
        subject=serialize.clean(draft.subject),
        message_id_header=f"<{draft.message_id}>",
        size_bytes=len(raw),
        has_copy=has_copy,
    )
    return await _accept(rt, sender.account_id, new, raw, once)


async def resend(
    rt: Runtime, principal: Principal, found: Submission, recipients: tuple[NewRecipient, ...]
) -> Submission:
    """Submit the bytes of an earlier message once more, for some of its recipients; the Sent folder has it already.

    Errors: Forbidden ``domain_not_allowed``, ``sender_not_authorized``; Conflict ``bytes_gone`` (it failed, or is older
    than ``KEEP_BYTES``); SendFailed.
    """
    if found.content_id is None:
        raise Conflict("The bytes of this message are not kept any more.", code="bytes_gone")
    sender = await rt.db.read(access.require_sender, principal, found.sender)
    content = await retrieval.content(rt, found.account_id, found.content_id)
    new = NewSubmission(
        public_id=ids.new_uuid(),
        queue_id=ids.new_queue_id(),
        return_token=ids.new_return_token(),
        source="api",
        principal=principal,
        sender=sender.address,
        envelope_sender=found.envelope_sender,
        recipients=recipients,
        subject=found.subject,
        message_id_header=found.message_id_header,
        size_bytes=found.size_bytes,
        has_copy=False,
    )
    return await _accept(rt, found.account_id, new, content.raw)


async def take(
    rt: Runtime,
    principal: Principal,
    envelope_sender: str,
    recipients: Sequence[str],
    source: Source | None,
    raw: Buffer,
) -> Submission:
    """Accept a message that a user's mail program made, with what a submission server adds (RFC 6409 §8).

    ``source`` is None for one that a command read from a file. What is added: Received (for a source), and From, Date
    and Message-ID where they are missing; Bcc and Return-Path are taken out. Every address of From must be one that the
    principal may send as. Errors: Invalid ``bad_from``, ``invalid_address``; Forbidden ``domain_not_allowed``,
    ``sender_not_authorized``; TooLarge; SendFailed.
    """
    loop, now = asyncio.get_running_loop(), rt.clock.now()
    found = _read_header(raw, envelope_sender)
    senders = await rt.db.read(_require_senders, principal, found.senders)
    public_id, queue_id = ids.new_uuid(), ids.new_queue_id()
    message_id = found.message_id or f"<{public_id}@{senders[0].domain}>"
    trace = [] if source is None else [_received(source, queue_id, now)]
    lines = [*trace, *_missing(found, envelope_sender, message_id, now)]
    with contextlib.closing(Spool(rt.config.data_dir / "spool", room=rt.room)) as spool:
        rebuild = functools.partial(_rebuilt, lines, raw, found.body_start, spool)
        is_small = len(raw) <= storing.OFF_LOOP_BYTES
        finished = rebuild() if is_small else await loop.run_in_executor(rt.pool, rebuild)
        new = NewSubmission(
            public_id=public_id,
            queue_id=queue_id,
            return_token=ids.new_return_token(),
            source="command" if source is None else "smtp",
            principal=principal,
            sender=senders[0].address,
            envelope_sender=envelope_sender,
            recipients=_named(recipients, found),
            subject=found.subject,
            message_id_header=message_id,
            size_bytes=len(finished),
        )
        return await _accept(rt, senders[0].account_id, new, finished)


@dataclass(frozen=True, slots=True)
class _Header:
    """What the header of a submitted message says; ``names`` are the fields that it has, in lower case."""

    names: frozenset[bytes]
    senders: tuple[str, ...]
    to: frozenset[str]
    cc: frozenset[str]
    message_id: str | None
    subject: str
    body_start: int


def _read_header(raw: Buffer, envelope_sender: str) -> _Header:
    fields, body_start = structure.read_header(raw, 0, len(raw))
    block = raw[:body_start]
    values: dict[bytes, bytes] = {}
    for name, value in fields:
        values.setdefault(name.lower(), value)
    froms = len(_FROM.findall(block))
    senders = tuple(one.email for one in addresses.parse(values[b"from"])) if b"from" in values else (envelope_sender,)
    is_one = froms == (b"from" in values) and 0 < len(senders) <= MAX_SENDERS
    if not is_one or any("@" not in one for one in senders):
        raise Invalid("The message needs one From field with addresses.", code="bad_from")
    if body_start > headers.MAX_HEADER_BYTES:
        raise TooLarge("The header is too large.")
    return _Header(
        names=frozenset(values),
        senders=senders,
        to=_listed(values.get(b"to")),
        cc=_listed(values.get(b"cc")),
        message_id=threads.message_id(values.get(b"message-id")),
        subject=headers.decode(values.get(b"subject", b""))[: storing.MAX_SUBJECT],
        body_start=body_start,
    )


def _listed(value: bytes | None) -> frozenset[str]:
    return frozenset(one.email.lower() for one in addresses.parse(value)) if value else frozenset()


def _require_senders(conn: ReadConn, principal: Principal, named: tuple[str, ...]) -> list[Sender]:
    return [access.require_sender(conn, principal, one) for one in named]


def _named(recipients: Sequence[str], found: _Header) -> tuple[NewRecipient, ...]:
    """Each recipient once, of the kind that the header shows it to be."""
    kept: dict[str, NewRecipient] = {}
    for address in recipients:
        shown = address.lower()
        kind: RecipientKind = "to" if shown in found.to else "cc" if shown in found.cc else "bcc"
        kept.setdefault(addresses.normalise(address), recipient(kind, address))
    return tuple(kept.values())


def _received(source: Source, queue_id: str, now: datetime) -> bytes:
    protocol = f"{source.protocol} ({source.tls})" if source.tls else source.protocol
    value = f"from {source.helo} ([{source.peer}]) by {source.hostname} with {protocol} id {queue_id}"
    return serialize.trace_header("Received", f"{value}; {serialize.date(now)}")


def _missing(found: _Header, sender: str, message_id: str, now: datetime) -> Iterator[bytes]:
    """The fields that every message has (RFC 5322 §3.6) and this one lacks."""
    if b"from" not in found.names:
        yield serialize.addresses("From", (Address("", sender),), "from")
    if b"date" not in found.names:
        yield serialize.structured("Date", [serialize.date(now)])
    if b"message-id" not in found.names:
        yield serialize.structured("Message-ID", [message_id])


def _rebuilt(lines: Iterable[bytes], raw: Buffer, body_start: int, spool: Spool) -> Buffer:
    """The message with lines in front, and without the fields that nobody else shall see; a large one in a file."""
    block = _PRIVATE.sub(b"", raw[:body_start])
    has_end = block.endswith(b"\r\n\r\n") or block == b"\r\n"  # else there was no header, or nothing behind it
    head = b"".join((*lines, block, b"" if has_end else b"\r\n"))
    if len(raw) <= _PIECE:
        spool.write(head + raw[body_start:])
    else:
        spool.write(head)
        for at in range(body_start, len(raw), _PIECE):
            spool.write(raw[at : at + _PIECE])
    return spool.finish()


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
        call = core.encode_call(account_id, new, content, examined.summary, rt.clock.now(), once)
        done = core.decode_answer(await rt.db.write(core.accept_encoded, call))
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
