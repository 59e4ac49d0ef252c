"""Storing: from the bytes of a message to rows, for reception, import, drafts and the server's own notices.

Bytes first, row second: small messages travel compressed in their row, large ones are put into the blob store before
the transaction begins. A crash leaves at worst a blob that no row names; the sweep takes it.
"""

import asyncio
import functools
import hashlib
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import zstandard

from restante import clock
from restante.core import deliveries, delivery
from restante.core.contents import NewContent
from restante.core.delivery import Delivered, Summary, Target
from restante.core.messages import NO_FLAGS, Flag
from restante.errors import TooLarge
from restante.ids import AccountId, MailboxId
from restante.mail import message, words
from restante.mail.address import Address
from restante.mail.message import Message
from restante.mail.structure import Buffer
from restante.runtime import Runtime
from restante.services.intake import Incoming, Intake
from restante.storage import packing

OFF_LOOP_BYTES = 256 * 1024  # larger messages are read in a thread
BLOB_FACTOR = 8  # nothing compresses better than this often enough to try
MAX_LISTED_RECIPIENTS = 100  # of To, in list rows; the message itself shows all
MAX_SUBJECT = 2000  # characters kept in list rows
MAX_LISTED = 500  # characters of a name, an address or a Message-ID kept in list rows


class Examined(NamedTuple):
    """What was read from a message's bytes, before it is known for whom it is.

    ``raw`` is None for a message that is too large for a row; only then ``folded`` is set.
    """

    message: Message
    summary: Summary
    size_bytes: int
    sha256: bytes
    structure: bytes
    raw: bytes | None
    folded: bytes | None


_local = threading.local()


def _compress(data: bytes) -> bytes:
    compressor: zstandard.ZstdCompressor | None = getattr(_local, "compressor", None)
    if compressor is None:
        compressor = _local.compressor = packing.new_packer()
    return compressor.compress(data)


def examine(raw: Buffer, envelope_sender: str, inline_bytes: int) -> Examined:
    """Read a message: its structure, what lists show, and its compressed bytes when they fit in a row.

    The text that search sees is left to the indexer, which has the bytes at hand then; only for a message that goes
    to the blob store it is made here.
    """
    return examine_all(inline_bytes, [Incoming(raw, envelope_sender)])[0]


def examine_all(inline_bytes: int, messages: Sequence[Incoming]) -> list[Examined]:
    """As ``examine`` for each, stage by stage."""
    parsed = [message.parse(one.raw) for one in messages]
    packed = [_pack(one.raw, inline_bytes) for one in messages]
    texts = [_texts(*each) for each in zip(parsed, messages, packed, strict=True)]
    digests = [hashlib.sha256(one.raw).digest() for one in messages]
    return [
        Examined(
            structure,
            _summary(structure, preview, one.envelope_sender),
            len(one.raw),
            digest,
            message.dump(structure),
            row,
            folded,
        )
        for one, structure, row, (preview, folded), digest in zip(messages, parsed, packed, texts, digests, strict=True)
    ]


def _pack(raw: Buffer, inline_bytes: int) -> bytes | None:
    """The compressed bytes; None when they do not fit in a row."""
    if len(raw) > inline_bytes * BLOB_FACTOR:
        return None
    packed = _compress(raw[:])
    return packed if len(packed) <= inline_bytes else None


def _texts(parsed: Message, one: Incoming, packed: bytes | None) -> tuple[str, bytes | None]:
    """The preview; and the text that search sees, of a message that is too large for a row."""
    if packed is not None:
        return message.preview(parsed, one.raw), None
    preview, searchable = message.extracts(parsed, one.raw)
    return preview, _compress(words.fold(searchable).encode("utf-8", "surrogatepass"))


def new_intake(inline_bytes: int) -> Intake:
    """What messages go through to be examined together."""
    return Intake(functools.partial(examine_all, inline_bytes))


def _summary(parsed: Message, preview: str, envelope_sender: str) -> Summary:
    sender = parsed.from_[0] if parsed.from_ else Address("", "")
    to = [(one.name[:MAX_LISTED], one.email[:MAX_LISTED]) for one in parsed.to[:MAX_LISTED_RECIPIENTS]]
    return Summary(
        subject=parsed.subject[:MAX_SUBJECT],
        from_name=sender.name[:MAX_LISTED],
        from_email=sender.email[:MAX_LISTED],
        recipients=delivery.encode_recipients(to),
        message_id_header=parsed.message_id[:MAX_LISTED] if parsed.message_id else None,
        sent_at=clock.to_micros(parsed.date) if parsed.date else None,
        attachments=len(parsed.attachments),
        thread_key=parsed.thread_key,
        preview=preview,
        envelope_sender=envelope_sender,
    )


async def examine_bounded(rt: Runtime, raw: Buffer, envelope_sender: str) -> Examined:
    """As ``examine``, off the event loop when the message is large. Raises Unavailable when the disk is almost full."""
    rt.room.require(len(raw))
    inline_bytes = rt.config.storage.inline_bytes
    if len(raw) <= OFF_LOOP_BYTES:
        return await rt.intake.examine(Incoming(raw, envelope_sender))
    return await asyncio.get_running_loop().run_in_executor(rt.pool, examine, raw, envelope_sender, inline_bytes)


async def deliver(
    rt: Runtime, raw: Buffer, examined: Examined, targets: Sequence[Target], received_at: datetime
) -> list[Delivered]:
    """Store an examined message for its targets; durable when it returns.

    Raises Unavailable (nothing is stored), NotFound when a mailbox is gone.
    """
    call = await encode(rt, raw, examined, targets, received_at)
    return deliveries.decode_answer(await rt.db.write(deliveries.deliver_encoded, call))


async def encode(
    rt: Runtime, raw: Buffer, examined: Examined, targets: Sequence[Target], received_at: datetime
) -> bytes:
    """The call for ``deliveries.deliver_encoded``; large bytes are in the blob store when this returns.

    Raises Unavailable.
    """
    parts = [
        (account_id, await new_content(rt, account_id, raw, examined))
        for account_id in dict.fromkeys(target.account_id for target in targets)
    ]
    return deliveries.encode_call(parts, examined.summary, list(targets), received_at)


async def new_content(rt: Runtime, account_id: AccountId, raw: Buffer, examined: Examined) -> NewContent:
    """The content row to be written for an account; large bytes are in the blob store when this returns.

    Raises Unavailable.
    """
    key = None
    if examined.raw is None:
        name = f"{account_id}/{examined.sha256.hex()}"
        key = await asyncio.get_running_loop().run_in_executor(rt.pool, rt.blobs.put, name, raw)
    return NewContent(examined.size_bytes, examined.sha256, examined.structure, examined.raw, key, examined.folded)


async def store(
    rt: Runtime,
    account_id: AccountId,
    mailbox_id: MailboxId,
    folder: str,
    raw: Buffer,
    *,
    flags: Flag = NO_FLAGS,
    keywords: str = "",
    received_at: datetime | None = None,
) -> Delivered:
    """Put a message into a folder as it is, without trace headers (import, APPEND, drafts, Sent copies).

    Raises TooLarge, NotFound(code="folder_not_found"), Unavailable.
    """
    limit = rt.config.smtp.limits.max_message_bytes
    if len(raw) > limit:
        raise TooLarge(f"the message is over {limit} bytes")
    examined = await examine_bounded(rt, raw, "")
    target = Target(account_id, mailbox_id, folder, "", b"", int(flags), keywords)
    (delivered,) = await deliver(rt, raw, examined, [target], received_at or rt.clock.now())
    return delivered
