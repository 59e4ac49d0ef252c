"""Messages in their folders: listing, finding, flags, moves, removal.

A message's id stays when it moves; its UID belongs to the folder it is in. Every change takes the folder's next modseq
in its own transaction, and UIDs that leave a folder are noted in ``expunged`` (RFC 7162).
"""

import enum
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import bindparam, delete, insert, select, update

from restante import clock
from restante.core import contents, events
from restante.errors import Invalid, NotFound
from restante.ids import AccountId, ContentId, FolderId, MailboxId, MessageId, ModSeq, Uid
from restante.mail.address import Address
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn, touch
from restante.schema.prepared import Prepared, PreparedByIds

T = TypeVar("T")

TRASH = "trash"  # the role of the folder that keeps for a while what is to go
MAX_KEYWORDS = 30
MAX_KEYWORD = 64  # characters


class Flag(enum.IntFlag):
    """The system flags as bits (RFC 9051 §2.3.2)."""

    SEEN = 1
    ANSWERED = 2
    FLAGGED = 4
    DELETED = 8
    DRAFT = 16


NO_FLAGS = Flag(0)

FLAG_NAMES = {
    Flag.SEEN: "\\Seen",
    Flag.ANSWERED: "\\Answered",
    Flag.FLAGGED: "\\Flagged",
    Flag.DELETED: "\\Deleted",
    Flag.DRAFT: "\\Draft",
}
_FLAG_TUPLES = [tuple(name for flag, name in FLAG_NAMES.items() if bits & flag) for bits in range(32)]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items of ``total``."""

    total: int
    items: list[T]


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message as lists show it. ``size_bytes`` counts the trace headers too."""

    id: MessageId
    public_id: uuid.UUID
    mailbox_id: MailboxId
    folder_id: FolderId
    uid: Uid
    modseq: ModSeq
    content_id: ContentId
    flags: tuple[str, ...]
    size_bytes: int
    received_at: datetime
    sent_at: datetime | None
    attachments: int
    message_id_header: str | None
    envelope_sender: str
    envelope_recipient: str
    from_: Address
    to: tuple[Address, ...]
    subject: str
    preview: str


_m = tables.messages.c
_COLUMNS = (
    _m.id,
    _m.public_id,
    _m.mailbox_id,
    _m.folder_id,
    _m.uid,
    _m.modseq,
    _m.content_id,
    _m.flags,
    _m.keywords,
    _m.size_bytes,
    _m.received_at,
    _m.sent_at,
    _m.attachments,
    _m.message_id_header,
    _m.envelope_sender,
    _m.envelope_recipient,
    _m.from_name,
    _m.from_email,
    _m.recipients,
    _m.subject,
    _m.preview,
)

_LIST = Prepared(
    select(*_COLUMNS)
    .where(_m.account_id == bindparam("account"), _m.folder_id == bindparam("folder"), _m.uid < bindparam("before"))
    .order_by(_m.uid.desc())
    .limit(bindparam("limit"))
)
_FIND = Prepared(
    select(*_COLUMNS).where(
        _m.account_id == bindparam("account"), _m.folder_id == bindparam("folder"), _m.uid == bindparam("uid")
    )
)
_GET = Prepared(select(*_COLUMNS).where(_m.id == bindparam("message"), _m.account_id == bindparam("account")))
_BY_IDS = PreparedByIds(select(*_COLUMNS).where(_m.account_id == bindparam("account")), _m.id)
_TRACE = Prepared(
    select(_m.trace, _m.content_id).where(_m.id == bindparam("message"), _m.account_id == bindparam("account"))
)
_MOVE = Prepared(
    update(tables.messages)
    .where(_m.id == bindparam("message"), _m.account_id == bindparam("account"))
    .values(folder_id=bindparam("to_folder"), uid=bindparam("to_uid"), modseq=bindparam("to_modseq"))
)
NO_UID_REACHES = (1 << 32) + 1  # UIDs have 32 bits

_pairs = msgspec.json.Decoder(list[tuple[str, str]])


def flag_names(flags: int, keywords: str) -> tuple[str, ...]:
    """The system flags of those bits, then the keywords, as a row has them."""
    names = _FLAG_TUPLES[flags & 31]
    return names + tuple(keywords.split(" ")) if keywords else names


def _row(row: Sequence[Any]) -> MessageRow:
    return MessageRow(
        row[0],
        uuid.UUID(bytes=row[1]),
        row[2],
        row[3],
        row[4],
        row[5],
        row[6],
        flag_names(row[7], row[8]),
        row[9],
        clock.from_micros(row[10]),
        None if row[11] is None else clock.from_micros(row[11]),
        row[12],
        row[13],
        row[14],
        row[15],
        Address(row[16], row[17]),
        tuple([Address(name, email) for name, email in _pairs.decode(row[18])]),
        row[19],
        row[20],
    )


def list_page(
    conn: ReadConn,
    account_id: AccountId,
    folder_id: FolderId,
    *,
    limit: int,
    before_uid: int | None = None,
) -> list[MessageRow]:
    """Newest first by UID: at most ``limit`` messages below ``before_uid``, whole (``listing`` has what lists show)."""
    before = NO_UID_REACHES if before_uid is None else before_uid
    values = {"account": account_id, "folder": folder_id, "before": before, "limit": limit}
    return [_row(row) for row in _LIST.rows(conn, values)]


def find(conn: ReadConn, account_id: AccountId, folder_id: FolderId, uid: int) -> MessageRow | None:
    """The message with that UID in that folder."""
    if not 0 < uid < NO_UID_REACHES:
        return None
    row = _FIND.row(conn, {"account": account_id, "folder": folder_id, "uid": uid})
    return None if row is None else _row(row)


def get(conn: ReadConn, account_id: AccountId, message_id: MessageId) -> MessageRow:
    """One message. Raises NotFound(code="message_not_found")."""
    row = _GET.row(conn, {"account": account_id, "message": message_id})
    if row is None:
        raise NotFound("no such message", code="message_not_found")
    return _row(row)


def get_public(conn: ReadConn, account_id: AccountId, public_id: uuid.UUID) -> MessageRow:
    """One message by its public id. Raises NotFound(code="message_not_found")."""
    row = find_public(conn, account_id, public_id)
    if row is None:
        raise NotFound("no such message", code="message_not_found")
    return row


def find_public(conn: ReadConn, account_id: AccountId, public_id: uuid.UUID) -> MessageRow | None:
    """The message of the account with that public id."""
    row = conn.execute(select(*_COLUMNS).where(_m.account_id == account_id, _m.public_id == public_id.bytes)).first()
    return None if row is None else _row(row)


def by_ids(conn: ReadConn, account_id: AccountId, message_ids: Iterable[int]) -> list[MessageRow]:
    """Those of the ids that exist, in the order given."""
    wanted = list(message_ids)
    found = {row[0]: _row(row) for row in _BY_IDS.rows(conn, {"account": account_id}, wanted)}
    return [found[message_id] for message_id in wanted if message_id in found]


def trace(conn: ReadConn, account_id: AccountId, message_id: MessageId) -> tuple[bytes, ContentId]:
    """The recipient's own trace headers and the content they stand in front of. Raises NotFound."""
    row = _TRACE.row(conn, {"account": account_id, "message": message_id})
    if row is None:
        raise NotFound("no such message", code="message_not_found")
    return row[0], ContentId(row[1])


@dataclass(frozen=True, slots=True)
class _Place:
    id: MessageId
    mailbox_id: MailboxId
    folder_id: FolderId
    uid: Uid
    content_id: ContentId
    flags: int
    size_bytes: int
    public_id: bytes

    @property
    def named(self) -> dict[str, Any]:
        """The message as events name it."""
        return {"message": self.id, "id": str(uuid.UUID(bytes=self.public_id))}


def _places(
    conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId, message_ids: Sequence[MessageId]
) -> list[_Place]:
    rows = conn.execute(
        select(_m.id, _m.mailbox_id, _m.folder_id, _m.uid, _m.content_id, _m.flags, _m.size_bytes, _m.public_id)
        .where(_m.account_id == account_id, _m.mailbox_id == mailbox_id, _m.id.in_(message_ids))
        .order_by(_m.folder_id, _m.uid)
    )
    return [_Place(*row) for row in rows]


def _advance(
    conn: WriteConn, account_id: AccountId, folder_id: FolderId, *, messages: int, unseen: int, size: int, uids: int = 0
) -> tuple[Uid, ModSeq, bool]:
    """Take the folder's next modseq (and ``uids`` UIDs) and move its counters.

    Returns the first UID, the modseq, and whether the folder is Trash.
    """
    f = tables.folders.c
    row = conn.execute(
        update(tables.folders)
        .where(f.account_id == account_id, f.id == folder_id)
        .values(
            modseq=f.modseq + 1,
            uid_next=f.uid_next + uids,
            messages=f.messages + messages,
            unseen=f.unseen + unseen,
            size_bytes=f.size_bytes + size,
        )
        .returning(f.uid_next, f.modseq, f.role)
    ).first()
    if row is None:
        raise NotFound("no such folder", code="folder_not_found")
    return Uid(row.uid_next - uids), ModSeq(row.modseq), row.role == TRASH


def _unseen(places: Iterable[_Place]) -> int:
    return sum(not place.flags & Flag.SEEN for place in places)


def _by_folder(places: Iterable[_Place]) -> dict[FolderId, list[_Place]]:
    groups: dict[FolderId, list[_Place]] = {}
    for place in places:
        groups.setdefault(place.folder_id, []).append(place)
    return groups


def require_keywords(names: Iterable[str]) -> str:
    """Keywords in their stored form. Raises Invalid for what IMAP could not carry (RFC 9051 §9, flag-keyword)."""
    found = sorted(set(names))
    bad = set('(){%*"\\] ')
    if len(found) > MAX_KEYWORDS or any(
        not name or len(name) > MAX_KEYWORD or not name.isascii() or not name.isprintable() or bad & set(name)
        for name in found
    ):
        raise Invalid("not a keyword", code="invalid_keyword", details={"flags": "not a keyword"})
    return " ".join(found)


def set_flags(
    conn: WriteConn,
    account_id: AccountId,
    mailbox_id: MailboxId,
    message_ids: Sequence[MessageId],
    *,
    add: Flag = NO_FLAGS,
    remove: Flag = NO_FLAGS,
    now: datetime,
) -> int:
    """Set and clear system flags of messages of one mailbox; returns how many changed.

    Records ``message.flagged`` for each, and ``message.read`` before it for one that is seen now and was not.
    """
    changed = 0
    for folder_id, places in _by_folder(_places(conn, account_id, mailbox_id, message_ids)).items():
        touched = [(place, (place.flags | add) & ~remove) for place in places]
        touched = [(place, flags) for place, flags in touched if flags != place.flags]
        if not touched:
            continue
        unseen = sum(bool(place.flags & Flag.SEEN) - bool(flags & Flag.SEEN) for place, flags in touched)
        _, modseq, _ = _advance(conn, account_id, folder_id, messages=0, unseen=unseen, size=0)
        for place, flags in touched:
            conn.execute(
                update(tables.messages)
                .where(_m.id == place.id, _m.account_id == account_id)
                .values(flags=flags, modseq=modseq)
            )
        facts = []
        for place, flags in touched:
            if flags & ~place.flags & Flag.SEEN:
                facts.append(events.NewEvent("message.read", place.named, mailbox_id))
            names = [name for flag, name in FLAG_NAMES.items() if flags & flag]
            facts.append(events.NewEvent("message.flagged", place.named | {"flags": names}, mailbox_id))
        events.record_all(conn, account_id, facts, now=now)
        changed += len(touched)
    return changed


def move(
    conn: WriteConn,
    account_id: AccountId,
    mailbox_id: MailboxId,
    message_ids: Sequence[MessageId],
    folder_id: FolderId,
    *,
    now: datetime,
) -> list[tuple[MessageId, Uid]]:
    """Move messages of one mailbox to another of its folders; returns their new UIDs. Records ``message.moved``.

    Ids stay. Messages that are there already keep their UID and are left out of the answer. Raises NotFound for a
    folder that is not of this mailbox.
    """
    f = tables.folders.c
    target = conn.execute(
        select(f.id).where(f.account_id == account_id, f.id == folder_id, f.mailbox_id == mailbox_id)
    ).first()
    if target is None:
        raise NotFound("no such folder", code="folder_not_found")
    moved: list[tuple[_Place, Uid]] = []
    for source_id, places in _by_folder(_places(conn, account_id, mailbox_id, message_ids)).items():
        if source_id == folder_id:
            continue
        size, unseen, count = sum(place.size_bytes for place in places), _unseen(places), len(places)
        _leave(conn, account_id, source_id, places)
        uid, modseq, is_trash = _advance(
            conn, account_id, folder_id, messages=count, unseen=unseen, size=size, uids=count
        )
        if is_trash:
            trashed = {"account_id": account_id, "folder_id": folder_id, "origin_id": source_id}
            trashed["trashed_at"] = clock.to_micros(now)
            conn.execute(insert(tables.trashed), [trashed | {"uid": uid + at} for at in range(count)])
        arrived = [(place, Uid(uid + at)) for at, place in enumerate(places)]
        there = {"account": account_id, "to_folder": folder_id, "to_modseq": modseq}
        _MOVE.many(conn, [there | {"message": place.id, "to_uid": new_uid} for place, new_uid in arrived])
        moved += arrived
    facts = [
        events.NewEvent("message.moved", place.named | {"folder": folder_id, "uid": uid}, mailbox_id)
        for place, uid in moved
    ]
    if facts:
        queued = [{"account_id": account_id, "message_id": place.id} for place, _ in moved]
        conn.execute(insert(tables.index_queue), queued)  # the folder is a term of the search index
        events.record_all(conn, account_id, facts, now=now)
    return [(place.id, uid) for place, uid in moved]


def revise(
    conn: WriteConn,
    account_id: AccountId,
    mailbox_id: MailboxId,
    message_id: MessageId,
    *,
    add: Flag = NO_FLAGS,
    remove: Flag = NO_FLAGS,
    folder_id: FolderId | None = None,
    now: datetime,
) -> MessageRow:
    """Change the flags of one message and move it to another folder of its mailbox, both or nothing.

    Returns it as it is then. Raises NotFound: "message_not_found", "folder_not_found".
    """
    set_flags(conn, account_id, mailbox_id, [message_id], add=add, remove=remove, now=now)
    if folder_id is not None:
        move(conn, account_id, mailbox_id, [message_id], folder_id, now=now)
    return get(conn, account_id, message_id)


def remove(
    conn: WriteConn,
    account_id: AccountId,
    mailbox_id: MailboxId,
    message_ids: Sequence[MessageId],
    *,
    now: datetime,
    is_told: bool = True,
) -> int:
    """Remove messages of one mailbox for good; returns how many there were.

    Records ``message.deleted`` when ``is_told`` (what becomes of a removed mailbox is nobody's news). Their bytes go
    when no other message uses them and the grace time is over.
    """
    places = _places(conn, account_id, mailbox_id, message_ids)
    if not places:
        return 0
    for folder_id, group in _by_folder(places).items():
        _leave(conn, account_id, folder_id, group)
    gone = [place.id for place in places]
    conn.execute(delete(tables.messages).where(_m.account_id == account_id, _m.id.in_(gone)))
    conn.execute(insert(tables.index_queue), [{"account_id": account_id, "message_id": one} for one in gone])
    contents.release(conn, account_id, [place.content_id for place in places], now)
    size = sum(place.size_bytes for place in places)
    b, a = tables.mailboxes.c, tables.accounts.c
    conn.execute(
        update(tables.mailboxes)
        .where(b.account_id == account_id, b.id == mailbox_id)
        .values(used_bytes=b.used_bytes - size, messages=b.messages - len(places))
    )
    conn.execute(update(tables.accounts).where(a.id == account_id).values(used_bytes=a.used_bytes - size))
    touch(conn, account_id)
    facts = [
        events.NewEvent("message.deleted", place.named | {"folder": place.folder_id}, mailbox_id) for place in places
    ]
    if is_told:
        events.record_all(conn, account_id, facts, now=now)
    return len(places)


def _leave(conn: WriteConn, account_id: AccountId, folder_id: FolderId, places: Sequence[_Place]) -> None:
    """Take messages out of a folder's counters and note their UIDs as gone."""
    size = sum(place.size_bytes for place in places)
    _, modseq, is_trash = _advance(
        conn, account_id, folder_id, messages=-len(places), unseen=-_unseen(places), size=-size
    )
    if is_trash:
        t = tables.trashed.c
        uids = [place.uid for place in places]
        conn.execute(
            delete(tables.trashed).where(t.account_id == account_id, t.folder_id == folder_id, t.uid.in_(uids))
        )
    conn.execute(
        insert(tables.expunged),
        [{"account_id": account_id, "folder_id": folder_id, "modseq": modseq, "uid": place.uid} for place in places],
    )
