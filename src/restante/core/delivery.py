"""Final delivery: one message into the mailboxes of its local recipients, in one transaction.

Content, message rows, folder and mailbox counters, events and the search index's queue are written together: after the
commit the message is there whole, before it not at all.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
from sqlalchemy import bindparam, insert, update

from restante import clock, ids
from restante.core import contents, events
from restante.core.contents import NewContent
from restante.core.messages import Flag
from restante.errors import NotFound
from restante.ids import AccountId, FolderId, MailboxId, MessageId, ModSeq, Uid
from restante.schema import tables
from restante.schema.connections import WriteConn, concurrent
from restante.schema.prepared import Prepared


class Summary(NamedTuple):
    """What lists show of a message, the same for all its recipients."""

    subject: str
    from_name: str
    from_email: str
    recipients: str  # JSON [[name, email], ...]
    message_id_header: str | None
    sent_at: int | None  # microseconds
    attachments: int
    thread_key: int
    preview: str
    envelope_sender: str


class Target(NamedTuple):
    """One mailbox to deliver to. ``trace`` is put in front of the received bytes when they are read."""

    account_id: AccountId
    mailbox_id: MailboxId
    folder: str
    envelope_recipient: str
    trace: bytes
    flags: int = 0
    keywords: str = ""


class Delivered(NamedTuple):
    """Where a message went."""

    message_id: MessageId
    public_id: str
    mailbox_id: MailboxId
    folder_id: FolderId
    uid: Uid
    modseq: ModSeq


_f, _b = tables.folders.c, tables.mailboxes.c

_TAKE_UID = Prepared(
    update(tables.folders)
    .where(
        _f.account_id == bindparam("in_account"),
        _f.mailbox_id == bindparam("in_mailbox"),
        _f.name == bindparam("in_folder"),
    )
    .values(
        uid_next=_f.uid_next + 1,
        modseq=_f.modseq + 1,
        messages=_f.messages + 1,
        unseen=_f.unseen + bindparam("more_unseen"),
        size_bytes=_f.size_bytes + bindparam("more_bytes"),
    )
    .returning(_f.id, _f.uid_next, _f.modseq)
)
_COUNT_MAILBOX = Prepared(
    update(tables.mailboxes)
    .where(_b.account_id == bindparam("in_account"), _b.id == bindparam("in_mailbox"), _b.status != "removed")
    .values(used_bytes=_b.used_bytes + bindparam("more_bytes"), messages=_b.messages + 1)
)
_INSERT_MESSAGE = Prepared(
    insert(tables.messages)
    .values({column.name: bindparam(column.name) for column in tables.messages.columns if column.name != "id"})
    .returning(tables.messages.c.id)
)
_INSERT_QUEUE = Prepared(
    insert(tables.index_queue).values(account_id=bindparam("account_id"), message_id=bindparam("message_id"))
)


@concurrent
def deliver(
    conn: WriteConn,
    parts: Sequence[tuple[AccountId, NewContent]],
    summary: Summary,
    targets: Sequence[Target],
    received_at: datetime,
) -> list[Delivered]:
    """Store a message for ``targets``: one content row per account in ``parts``, one message row per target.

    Records ``message.received`` for each. Raises NotFound when a mailbox or folder is gone: then nothing is stored.
    """
    micros = clock.to_micros(received_at)
    done: list[Delivered] = []
    for account_id, content in parts:
        mine = [target for target in targets if target.account_id == account_id]
        content_id = contents.add(conn, account_id, content, len(mine), micros)
        facts = []
        total = 0
        for target in mine:
            size = content.size_bytes + len(target.trace)
            total += size
            delivered = place(conn, target, content_id, size, summary, micros)
            done.append(delivered)
            facts.append(_fact(delivered, target, summary, size))
        events.record_all(conn, account_id, facts, now=received_at, more_bytes=total)
    return done


class _Call(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The arguments of ``deliver``."""

    parts: list[tuple[AccountId, NewContent]]
    summary: Summary
    targets: list[Target]
    received_at: int  # microseconds


_calls = msgspec.msgpack.Decoder(_Call)
_encoder = msgspec.msgpack.Encoder()
_answers = msgspec.msgpack.Decoder(list[Delivered])


def encode_call(
    parts: list[tuple[AccountId, NewContent]], summary: Summary, targets: list[Target], received_at: datetime
) -> bytes:
    """The arguments of ``deliver`` as ``deliver_encoded`` takes them: the hottest call travels in a form of its own."""
    return _encoder.encode(_Call(parts, summary, targets, clock.to_micros(received_at)))


@concurrent
def deliver_encoded(conn: WriteConn, call: bytes) -> bytes:
    """As ``deliver``, with bytes in and out: a tenth of the time that pickling the values takes."""
    values = _calls.decode(call)
    done = deliver(conn, values.parts, values.summary, values.targets, clock.from_micros(values.received_at))
    return _encoder.encode(done)


def decode_answer(answer: bytes) -> list[Delivered]:
    """What ``deliver_encoded`` returned."""
    return _answers.decode(answer)


def place(conn: WriteConn, target: Target, content_id: int, size: int, summary: Summary, micros: int) -> Delivered:
    """Put a message whose content is stored into one folder; ``size`` counts its trace too.

    The content's uses, the event and the account's used bytes are the caller's. Raises NotFound.
    """
    place = _TAKE_UID.row(
        conn,
        {
            "in_account": target.account_id,
            "in_mailbox": target.mailbox_id,
            "in_folder": target.folder,
            "more_unseen": 0 if target.flags & Flag.SEEN else 1,
            "more_bytes": size,
        },
    )
    if place is None:
        raise NotFound("the mailbox or folder is gone", code="folder_not_found")
    folder_id, uid_next, modseq = place
    public_id = ids.new_uuid()
    row = _INSERT_MESSAGE.row(
        conn,
        {
            "account_id": target.account_id,
            "mailbox_id": target.mailbox_id,
            "folder_id": folder_id,
            "uid": uid_next - 1,
            "modseq": modseq,
            "content_id": content_id,
            "public_id": public_id.bytes,
            "flags": target.flags,
            "keywords": target.keywords,
            "size_bytes": size,
            "received_at": micros,
            "sent_at": summary.sent_at,
            "attachments": summary.attachments,
            "thread_key": summary.thread_key,
            "message_id_header": summary.message_id_header,
            "envelope_sender": summary.envelope_sender,
            "envelope_recipient": target.envelope_recipient,
            "from_name": summary.from_name,
            "from_email": summary.from_email,
            "recipients": summary.recipients,
            "subject": summary.subject,
            "preview": summary.preview,
            "trace": target.trace,
        },
    )
    assert row is not None
    counted = {"in_account": target.account_id, "in_mailbox": target.mailbox_id, "more_bytes": size}
    if not _COUNT_MAILBOX.run(conn, counted):
        raise NotFound("the mailbox is removed", code="mailbox_not_found")
    _INSERT_QUEUE.run(conn, {"account_id": target.account_id, "message_id": row[0]})
    return Delivered(
        MessageId(row[0]), str(public_id), target.mailbox_id, FolderId(folder_id), Uid(uid_next - 1), ModSeq(modseq)
    )


def _fact(delivered: Delivered, target: Target, summary: Summary, size: int) -> events.NewEvent:
    body = {
        "message": delivered.message_id,
        "id": delivered.public_id,
        "folder": delivered.folder_id,
        "uid": delivered.uid,
        "sender": summary.envelope_sender,
        "recipient": target.envelope_recipient,
        "size_bytes": size,
    }
    return events.NewEvent("message.received", body, target.mailbox_id)


def encode_recipients(pairs: Sequence[tuple[str, str]]) -> str:
    """``Summary.recipients`` from (name, email) pairs."""
    return msgspec.json.encode(pairs).decode()
