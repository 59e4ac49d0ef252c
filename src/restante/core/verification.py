"""Verification: what the rows say against each other, read in short steps, and the rebuilding of what is derived.

Counters of folders, mailboxes and accounts, use counts of contents, and list fields of messages can all be made again
from messages and bytes. A folder's modseq moves with every change in it, so sums taken in several steps are sound when
it stands where it stood.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, case, func, insert, select, update

from restante.core.delivery import Summary
from restante.core.messages import Flag
from restante.ids import AccountId, ContentId, FolderId, MailboxId, MessageId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn, scanning, touch

_a, _b, _f, _m, _c, _s = (
    tables.accounts.c,
    tables.mailboxes.c,
    tables.folders.c,
    tables.messages.c,
    tables.contents.c,
    tables.submissions.c,
)


@dataclass(frozen=True, slots=True)
class ContentCheck:
    """A content as stored with the number of messages and submissions that really use it."""

    id: ContentId
    size_bytes: int
    sha256: bytes
    blob_key: str | None
    raw: bytes | None
    structure: bytes
    uses: int
    is_marked_unused: bool
    real_uses: int


@dataclass(frozen=True, slots=True)
class MessageCheck:
    """A message with what it points to; None where there is nothing."""

    id: MessageId
    folder_id: FolderId
    mailbox_id: MailboxId
    uid: int
    modseq: int
    flags: int
    size_bytes: int
    trace_bytes: int
    content_size_bytes: int | None


@dataclass(frozen=True, slots=True)
class FolderCheck:
    """A folder with its stored counters."""

    id: FolderId
    mailbox_id: MailboxId
    name: str
    uid_next: int
    modseq: int
    messages: int
    unseen: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Sums:
    """Counters of a mailbox or account: as stored, and as its parts add up."""

    id: int
    name: str
    messages: int
    used_bytes: int
    real_messages: int
    real_bytes: int

    @property
    def is_right(self) -> bool:
        """Whether both agree."""
        return self.messages == self.real_messages and self.used_bytes == self.real_bytes


def count_all(conn: ReadConn) -> tuple[int, int]:
    """How many accounts there are, and how many messages their mailboxes count (for a progress bar)."""
    accounts = conn.execute(select(func.count()).select_from(tables.accounts)).scalar_one()
    messages = conn.execute(select(func.coalesce(func.sum(_b.messages), 0))).scalar_one()
    return int(accounts), int(messages)


@scanning
def check_contents(conn: ReadConn, account_id: AccountId, after: int, limit: int) -> list[ContentCheck]:
    """The account's next contents by id, with their bytes when those are in the row."""
    real = _real_uses(account_id)
    rows = conn.execute(
        select(_c.id, _c.size_bytes, _c.sha256, _c.blob_key, _c.raw, _c.structure, _c.uses, _c.unused_at, real)
        .where(_c.account_id == account_id, _c.id > after)
        .order_by(_c.id)
        .limit(limit)
    )
    return [
        ContentCheck(
            ContentId(row[0]), row[1], row[2], row[3], row[4], row[5], row[6], row[7] is not None, int(row[8] or 0)
        )
        for row in rows
    ]


def _real_uses(account_id: AccountId) -> ColumnElement[int]:
    """How many messages and submissions point to a content of the surrounding query."""
    messages = select(func.count()).select_from(tables.messages)
    submissions = select(func.count()).select_from(tables.submissions)
    of_messages = messages.where(_m.account_id == account_id, _m.content_id == _c.id).scalar_subquery()
    of_submissions = submissions.where(_s.account_id == account_id, _s.content_id == _c.id).scalar_subquery()
    return of_messages + of_submissions


def list_checked_folders(conn: ReadConn, account_id: AccountId) -> list[FolderCheck]:
    """All folders of the account with their counters."""
    rows = conn.execute(
        select(_f.id, _f.mailbox_id, _f.name, _f.uid_next, _f.modseq, _f.messages, _f.unseen, _f.size_bytes)
        .where(_f.account_id == account_id)
        .order_by(_f.id)
    )
    return [FolderCheck(*row) for row in rows]


@scanning
def check_messages(
    conn: ReadConn, account_id: AccountId, folder_id: FolderId, after_uid: int, limit: int
) -> list[MessageCheck]:
    """The folder's next messages by UID, with the size of the content that each points to."""
    rows = conn.execute(
        select(
            _m.id,
            _m.folder_id,
            _m.mailbox_id,
            _m.uid,
            _m.modseq,
            _m.flags,
            _m.size_bytes,
            func.length(_m.trace),
            _c.size_bytes,
        )
        .join_from(
            tables.messages,
            tables.contents,
            (_c.id == _m.content_id) & (_c.account_id == _m.account_id),
            isouter=True,
        )
        .where(_m.account_id == account_id, _m.folder_id == folder_id, _m.uid > after_uid)
        .order_by(_m.uid)
        .limit(limit)
    )
    return [MessageCheck(*row) for row in rows]


def folder_modseq(conn: ReadConn, account_id: AccountId, folder_id: FolderId) -> int | None:
    """Where the folder's changes stand; None when it is gone."""
    statement = select(_f.modseq).where(_f.account_id == account_id, _f.id == folder_id)
    return conn.execute(statement).scalar_one_or_none()


@scanning
def list_strays(conn: ReadConn, account_id: AccountId, limit: int) -> list[MessageId]:
    """Messages whose folder or mailbox is not there, or where the two do not belong together."""
    rows = conn.execute(
        select(_m.id)
        .join_from(
            tables.messages,
            tables.folders,
            (_f.id == _m.folder_id) & (_f.account_id == _m.account_id) & (_f.mailbox_id == _m.mailbox_id),
            isouter=True,
        )
        .where(_m.account_id == account_id, _f.id.is_(None))
        .limit(limit)
    )
    return [MessageId(row.id) for row in rows]


def check_mailboxes(conn: ReadConn, account_id: AccountId) -> list[Sums]:
    """The account's mailboxes: their counters against the sums of their folders' counters."""
    rows = conn.execute(
        select(
            _b.id,
            func.coalesce(_b.address, "a removed mailbox"),
            _b.messages,
            _b.used_bytes,
            func.coalesce(func.sum(_f.messages), 0),
            func.coalesce(func.sum(_f.size_bytes), 0),
        )
        .join_from(
            tables.mailboxes,
            tables.folders,
            (_f.mailbox_id == _b.id) & (_f.account_id == _b.account_id),
            isouter=True,
        )
        .where(_b.account_id == account_id)
        .group_by(_b.id, _b.address, _b.messages, _b.used_bytes)
    )
    return [Sums(row[0], row[1], row[2], row[3], int(row[4]), int(row[5])) for row in rows]


def check_account(conn: ReadConn, account_id: AccountId) -> Sums | None:
    """The account's bytes against the sum of its mailboxes'; None when it is gone."""
    row = conn.execute(select(_a.name, _a.used_bytes).where(_a.id == account_id)).first()
    if row is None:
        return None
    total = conn.execute(
        select(func.coalesce(func.sum(_b.used_bytes), 0)).where(_b.account_id == account_id)
    ).scalar_one()
    return Sums(account_id, row.name, 0, row.used_bytes, 0, int(total))


def rebuild_uses(conn: WriteConn, account_id: AccountId, content_ids: Sequence[ContentId], now_micros: int) -> None:
    """Count anew by how many messages and submissions each content is used."""
    real = _real_uses(account_id)
    mine = (_c.account_id == account_id, _c.id.in_(content_ids))
    conn.execute(update(tables.contents).where(*mine).values(uses=real))
    conn.execute(update(tables.contents).where(*mine, _c.uses > 0).values(unused_at=None))
    idle = update(tables.contents).where(*mine, _c.uses == 0, _c.unused_at.is_(None))
    conn.execute(idle.values(unused_at=now_micros))


def rebuild_folder(conn: WriteConn, account_id: AccountId, folder_id: FolderId) -> None:
    """Count a folder's messages anew; its UIDNEXT and modseq only ever grow."""
    row = conn.execute(
        select(
            func.count(),
            func.coalesce(func.sum(1 - _m.flags.op("&")(int(Flag.SEEN))), 0),
            func.coalesce(func.sum(_m.size_bytes), 0),
            func.coalesce(func.max(_m.uid), 0),
            func.coalesce(func.max(_m.modseq), 0),
        ).where(_m.account_id == account_id, _m.folder_id == folder_id)
    ).one()
    stands = conn.execute(
        select(_f.uid_next, _f.modseq).where(_f.account_id == account_id, _f.id == folder_id)
    ).one_or_none()
    if stands is None:
        return
    conn.execute(
        update(tables.folders)
        .where(_f.account_id == account_id, _f.id == folder_id)
        .values(
            messages=int(row[0]),
            unseen=int(row[1]),
            size_bytes=int(row[2]),
            uid_next=max(stands.uid_next, int(row[3]) + 1),
            modseq=max(stands.modseq, int(row[4])) + 1,
        )
    )
    touch(conn, account_id)


def rebuild_totals(conn: WriteConn, account_id: AccountId) -> None:
    """Add up the mailboxes from their folders, and the account from its mailboxes."""
    mine = (_f.account_id == account_id, _f.mailbox_id == _b.id)
    conn.execute(
        update(tables.mailboxes)
        .where(_b.account_id == account_id)
        .values(
            messages=select(func.coalesce(func.sum(_f.messages), 0)).where(*mine).scalar_subquery(),
            used_bytes=select(func.coalesce(func.sum(_f.size_bytes), 0)).where(*mine).scalar_subquery(),
        )
    )
    total = select(func.coalesce(func.sum(_b.used_bytes), 0)).where(_b.account_id == account_id).scalar_subquery()
    conn.execute(update(tables.accounts).where(_a.id == account_id).values(used_bytes=total))


def set_message_size(conn: WriteConn, account_id: AccountId, message_id: MessageId) -> None:
    """Make a message's size that of its trace headers and its content."""
    content = select(_c.size_bytes).where(_c.account_id == account_id, _c.id == _m.content_id).scalar_subquery()
    conn.execute(
        update(tables.messages)
        .where(_m.account_id == account_id, _m.id == message_id)
        .values(size_bytes=content + func.length(_m.trace))
    )


def rebuild_rows(
    conn: WriteConn,
    account_id: AccountId,
    content_id: ContentId,
    structure: bytes,
    folded: bytes | None,
    summary: Summary,
) -> None:
    """Replace what was read from a content's bytes, in its own row and in its messages'; queue them for the index."""
    conn.execute(
        update(tables.contents)
        .where(_c.account_id == account_id, _c.id == content_id)
        .values(structure=structure, folded=folded)
    )
    mine = (_m.account_id == account_id, _m.content_id == content_id)
    conn.execute(
        update(tables.messages)
        .where(*mine)
        .values(
            subject=summary.subject,
            from_name=summary.from_name,
            from_email=summary.from_email,
            recipients=summary.recipients,
            message_id_header=summary.message_id_header,
            sent_at=summary.sent_at,
            attachments=summary.attachments,
            thread_key=summary.thread_key,
            preview=summary.preview,
        )
    )
    ids = [MessageId(row.id) for row in conn.execute(select(_m.id).where(*mine))]
    queue_for_index(conn, account_id, ids)


def queue_for_index(conn: WriteConn, account_id: AccountId, message_ids: Sequence[MessageId]) -> None:
    """Have the search index make these messages' places anew."""
    if message_ids:
        rows = [{"account_id": account_id, "message_id": message_id} for message_id in message_ids]
        conn.execute(insert(tables.index_queue), rows)
        touch(conn, account_id)


def renew_uid_validity(conn: WriteConn, account_id: AccountId, value: int) -> None:
    """Give every folder of the account a new UIDVALIDITY: a restored store may give out UIDs a second time.

    RFC 9051 §2.3.1.1: a value that only grows; here seconds since 1970.
    """
    larger = case((_f.uid_validity < value, value), else_=_f.uid_validity + 1)
    conn.execute(update(tables.folders).where(_f.account_id == account_id).values(uid_validity=larger))
