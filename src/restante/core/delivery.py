"""Final delivery: one message into the mailboxes of its local recipients, in one transaction.

Content, message rows, folder and mailbox counters, events and the search index's queue are written together: after the
commit the message is there whole, before it not at all.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import bindparam, insert, select, true, update

from restante import clock, ids
from restante.core import contents, events
from restante.core.contents import NewContent
from restante.core.messages import Flag
from restante.errors import NotFound
from restante.ids import AccountId, FolderId, MailboxId, MessageId, ModSeq, Uid
from restante.schema import tables
from restante.schema.connections import WriteConn, concurrent, is_remote
from restante.schema.prepared import Prepared

_SEEN = int(Flag.SEEN)  # the operators of flags take microseconds


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
        uid_next=_f.uid_next + bindparam("more_messages"),
        modseq=_f.modseq + bindparam("more_messages"),
        messages=_f.messages + bindparam("more_messages"),
        unseen=_f.unseen + bindparam("more_unseen"),
        size_bytes=_f.size_bytes + bindparam("more_bytes"),
    )
    .returning(_f.id, _f.uid_next, _f.modseq)
)
_COUNT_MAILBOX = Prepared(
    update(tables.mailboxes)
    .where(_b.account_id == bindparam("in_account"), _b.id == bindparam("in_mailbox"), _b.status != "removed")
    .values(used_bytes=_b.used_bytes + bindparam("more_bytes"), messages=_b.messages + bindparam("more_messages"))
)
INSERT_MESSAGE = Prepared(
    insert(tables.messages).values({c.name: bindparam(c.name) for c in tables.messages.columns if c.name != "id"})
)
INSERT_QUEUE = Prepared(
    insert(tables.index_queue).values(account_id=bindparam("account_id"), message_id=bindparam("message_id"))
)


def _at_once() -> Prepared:
    """The four statements above as one, for engines where each is a journey: folder, next UID, modseq, message.

    No row when there is no such folder; no message when the mailbox is removed.
    """
    taken, counted = _TAKE_UID.statement.cte("taken"), _COUNT_MAILBOX.statement.returning(_b.id).cte("counted")
    found = {"folder_id": taken.c.id, "uid": taken.c.uid_next - 1, "modseq": taken.c.modseq}
    columns = {c.name: found.get(c.name, bindparam(c.name, type_=c.type)) for c in tables.messages.columns}
    del columns["id"]
    both = taken.join(counted, true())
    message = insert(tables.messages).from_select(list(columns), select(*columns.values()).select_from(both))
    added = message.returning(tables.messages.c.id, tables.messages.c.account_id).cte("added")
    queue = insert(tables.index_queue).from_select(["account_id", "message_id"], select(added.c.account_id, added.c.id))
    result = select(taken.c.id, taken.c.uid_next, taken.c.modseq, added.c.id).select_from(
        taken.outerjoin(added, true())
    )
    return Prepared(result.add_cte(queue.cte("queued")))


_PLACE = _at_once()


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
            facts.append(fact(delivered, target, summary, size))
        events.record_all(conn, account_id, facts, now=received_at, more_bytes=total)
    return done


def place(conn: WriteConn, target: Target, content_id: int, size: int, summary: Summary, micros: int) -> Delivered:
    """Put a message whose content is stored into one folder; ``size`` counts its trace too.

    The content's uses, the event and the account's used bytes are the caller's. Raises NotFound.
    """
    public_id = ids.new_uuid_bytes()
    row = columns(target, content_id, public_id, size, summary, micros)
    counted = {"messages": 1, "unseen": unseen(target), "size_bytes": size}
    if is_remote(conn):
        taken = _PLACE.row(conn, row | _bound(target.account_id, target.mailbox_id, target.folder, counted))
        if taken is None:
            raise _folder_gone()
        folder_id, uid_next, modseq, message_id = taken
        if message_id is None:
            raise _mailbox_gone()
    else:
        folder_id, uid_next, modseq = grow(conn, target.account_id, target.mailbox_id, target.folder, counted)
        count(conn, target.account_id, target.mailbox_id, counted)
        row |= {"folder_id": folder_id, "uid": uid_next - 1, "modseq": modseq}
        (message_id,) = INSERT_MESSAGE.insert(conn, [row])
        INSERT_QUEUE.run(conn, {"account_id": target.account_id, "message_id": message_id})
    return Delivered(
        MessageId(message_id),
        ids.uuid_text(public_id),
        target.mailbox_id,
        FolderId(folder_id),
        Uid(uid_next - 1),
        ModSeq(modseq),
    )


def grow(
    conn: WriteConn, account_id: AccountId, mailbox_id: MailboxId, folder: str, more: Mapping[str, int]
) -> tuple[int, int, int]:
    """Count new messages in a folder: ``messages``, ``unseen`` and ``size_bytes`` of them.

    Returns the folder's id, its next UID and its modseq after the last of them. Raises NotFound.
    """
    taken = _TAKE_UID.row(conn, _bound(account_id, mailbox_id, folder, more))
    if taken is None:
        raise _folder_gone()
    folder_id, uid_next, modseq = taken
    return folder_id, uid_next, modseq


def count(conn: WriteConn, account_id: AccountId, mailbox_id: MailboxId, more: Mapping[str, int]) -> None:
    """Count new messages in a mailbox. Raises NotFound."""
    if not _COUNT_MAILBOX.run(conn, _bound(account_id, mailbox_id, "", more)):
        raise _mailbox_gone()


def _bound(account_id: AccountId, mailbox_id: MailboxId, folder: str, more: Mapping[str, int]) -> dict[str, Any]:
    return {
        "in_account": account_id,
        "in_mailbox": mailbox_id,
        "in_folder": folder,
        "more_messages": more["messages"],
        "more_unseen": more["unseen"],
        "more_bytes": more["size_bytes"],
    }


def _folder_gone() -> NotFound:
    return NotFound("the folder is gone", code="folder_not_found")


def _mailbox_gone() -> NotFound:
    return NotFound("the mailbox is removed", code="mailbox_not_found")


def columns(
    target: Target, content_id: int, public_id: bytes, size: int, summary: Summary, micros: int
) -> dict[str, Any]:
    """The columns of a message, but for its id, its folder and its numbers there."""
    return {
        "account_id": target.account_id,
        "mailbox_id": target.mailbox_id,
        "content_id": content_id,
        "public_id": public_id,
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
    }


def unseen(target: Target) -> int:
    """What a message adds to the unseen ones of its folder."""
    return 0 if target.flags & _SEEN else 1


def fact(delivered: Delivered, target: Target, summary: Summary, size: int) -> events.NewEvent:
    """``message.received``."""
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
