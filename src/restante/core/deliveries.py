"""Deliveries as calls: in a form of their own on the way to the writer, and many as one.

A group changes each counter (of a folder, a mailbox, an account) once. Where statements are journeys it is three
of them: the counters and ids for the rows; contents, messages and the index's queue; the events.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import BigInteger, Column, Integer, bindparam, func, insert, literal_column, select, union_all, update

from restante import clock, ids
from restante.core import contents, delivery, events
from restante.core.contents import NewContent
from restante.core.delivery import Delivered, Summary, Target
from restante.errors import NotFound
from restante.ids import AccountId, FolderId, MailboxId, ModSeq, Uid
from restante.schema import tables
from restante.schema.arrays import Rows
from restante.schema.connections import WriteConn, concurrent, is_remote, together
from restante.schema.prepared import Prepared


class _Call(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The arguments of ``delivery.deliver``."""

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
    """The arguments of ``delivery.deliver`` as ``deliver_encoded`` takes them: the hottest call of all."""
    return _encoder.encode(_Call(parts, summary, targets, clock.to_micros(received_at)))


def decode_answer(answer: bytes) -> list[Delivered]:
    """What ``deliver_encoded`` returned."""
    return _answers.decode(answer)


_f, _b = tables.folders.c, tables.mailboxes.c
_MORE = [Column(name, BigInteger) for name in ("messages", "unseen", "size_bytes")]
_grown = Rows("grown", [_f.account_id, _f.mailbox_id, _f.name, Column("place", BigInteger), *_MORE])
_counted = Rows("counted", [_b.account_id, _b.id, *_MORE])
_added = Rows("added", tables.messages.columns)


def _take() -> Prepared:
    """Rows of (0, place of the folder, its id, next UID, modseq), (1, mailbox), (2, message id, content id)."""
    grown, counted = _grown.c, _counted.c
    zero, one, two = (literal_column(text, Integer) for text in "012")
    folders = (
        update(tables.folders)
        .where(_f.account_id == grown.account_id, _f.mailbox_id == grown.mailbox_id, _f.name == grown.name)
        .values(
            uid_next=_f.uid_next + grown.messages,
            modseq=_f.modseq + grown.messages,
            messages=_f.messages + grown.messages,
            unseen=_f.unseen + grown.unseen,
            size_bytes=_f.size_bytes + grown.size_bytes,
        )
        .returning(grown.place, _f.id, _f.uid_next, _f.modseq)
        .cte("folders_grown")
    )
    mailboxes = (
        update(tables.mailboxes)
        .where(_b.account_id == counted.account_id, _b.id == counted.id, _b.status != "removed")
        .values(used_bytes=_b.used_bytes + counted.size_bytes, messages=_b.messages + counted.messages)
        .returning(_b.id)
        .cte("mailboxes_counted")
    )
    message_id, content_id = (
        literal_column(f"nextval('{name}_id_seq')", BigInteger) for name in ("messages", "contents")
    )
    series = func.generate_series(1, bindparam("rows")).table_valued("n")
    return Prepared(
        union_all(
            select(zero, *folders.c),
            select(one, mailboxes.c.id, zero, zero, zero),
            select(two, message_id, content_id, zero, zero).select_from(series),
        )
    )


def _add() -> Prepared:
    content = contents.ADDED.insert_into(tables.contents).cte("contents_added")
    message = _added.insert_into(tables.messages)
    messages = message.returning(tables.messages.c.account_id, tables.messages.c.id).cte("messages_added")
    queue = insert(tables.index_queue).from_select(["account_id", "message_id"], select(*messages.c))
    return Prepared(queue.add_cte(content))


_TAKE, _ADD = _take(), _add()

_Place = tuple[AccountId, MailboxId, str]  # a folder by its name


class _Placed(NamedTuple):
    """One message on its way into one folder."""

    number: int  # of its call
    content: int  # of all new ones
    target: Target
    size: int


class _New(NamedTuple):
    """A content to be stored."""

    account_id: AccountId
    content: NewContent
    uses: int
    received_at: int  # microseconds


_MessageRow = dict[str, Any]


def _deliver_together(conn: WriteConn, arguments: Sequence[tuple[bytes]]) -> list[bytes]:
    """As ``deliver_encoded`` for each. Raises NotFound when any mailbox or folder is gone."""
    calls = [_calls.decode(call) for (call,) in arguments]
    new: list[_New] = []
    placed: list[_Placed] = []
    for number, call in enumerate(calls):
        for account_id, content in call.parts:
            mine = [target for target in call.targets if target.account_id == account_id]
            placed += [_Placed(number, len(new), target, content.size_bytes + len(target.trace)) for target in mine]
            new.append(_New(account_id, content, len(mine), call.received_at))
    rows = (_store_at_once if is_remote(conn) else _store_in_steps)(conn, calls, new, placed)
    done: list[list[Delivered]] = [[] for _ in calls]
    told: list[events.Facts] = []
    for (number, _, target, size), row in zip(placed, rows, strict=True):
        call, public_id = calls[number], ids.uuid_text(row["public_id"])
        delivered = Delivered(row["id"], public_id, target.mailbox_id, row["folder_id"], row["uid"], row["modseq"])
        done[number].append(delivered)
        told.append(
            events.Facts(
                target.account_id, [delivery.fact(delivered, target, call.summary, size)], call.received_at, size
            )
        )
    events.record_together(conn, told)
    return [_encoder.encode(delivered) for delivered in done]


def _store_at_once(
    conn: WriteConn, calls: Sequence[_Call], new: Sequence[_New], placed: Sequence[_Placed]
) -> list[_MessageRow]:
    """Store contents and messages with two statements; returns the rows of the messages. Raises NotFound.

    Rows that others may change too are taken in the order of their keys.
    """
    by_folder, by_mailbox = _by_counter(placed)
    places = sorted(by_folder)
    grown = [
        {"account_id": account_id, "mailbox_id": mailbox_id, "name": name, "place": at} | _more(by_folder[key])
        for at, key in enumerate(places)
        for account_id, mailbox_id, name in (key,)
    ]
    counted = [
        {"account_id": account_id, "id": mailbox_id} | _more(by_mailbox[account_id, mailbox_id])
        for account_id, mailbox_id in sorted(by_mailbox)
    ]
    wanted = max(len(placed), len(new))
    taken = _TAKE.rows(conn, {"rows": wanted, **_grown.values(grown), **_counted.values(counted)})
    folders = {places[row[1]]: _numbers(len(by_folder[places[row[1]]]), *row[2:]) for row in taken if row[0] == 0}
    if len(folders) < len(by_folder) or sum(row[0] == 1 for row in taken) < len(by_mailbox):
        raise NotFound("a folder or mailbox is gone", code="folder_not_found")
    message_ids, content_ids = zip(*[row[1:3] for row in taken if row[0] == 2], strict=True)
    rows = _rows(calls, placed, folders, content_ids)
    for row, message_id in zip(rows, message_ids, strict=False):
        row["id"] = message_id
    kept = [contents.row(*one) | {"id": content_id} for one, content_id in zip(new, content_ids, strict=False)]
    _ADD.run(conn, _added.values(rows) | contents.ADDED.values(kept))
    return rows


def _store_in_steps(
    conn: WriteConn, calls: Sequence[_Call], new: Sequence[_New], placed: Sequence[_Placed]
) -> list[_MessageRow]:
    """As ``_store_at_once``, with small statements."""
    by_folder, by_mailbox = _by_counter(placed)
    folders = {
        place: _numbers(len(mine), *delivery.grow(conn, *place, _more(mine))) for place, mine in by_folder.items()
    }
    for mailbox, mine in by_mailbox.items():
        delivery.count(conn, *mailbox, _more(mine))
    rows = _rows(calls, placed, folders, contents.INSERT.insert(conn, [contents.row(*one) for one in new]))
    for row, message_id in zip(rows, delivery.INSERT_MESSAGE.insert(conn, rows), strict=True):
        row["id"] = message_id
    delivery.INSERT_QUEUE.many(conn, [{"account_id": row["account_id"], "message_id": row["id"]} for row in rows])
    return rows


def _by_counter(
    placed: Sequence[_Placed],
) -> tuple[dict[_Place, list[_Placed]], dict[tuple[AccountId, MailboxId], list[_Placed]]]:
    """The messages by folder and by mailbox."""
    by_folder: dict[_Place, list[_Placed]] = {}
    by_mailbox: dict[tuple[AccountId, MailboxId], list[_Placed]] = {}
    for one in placed:
        account_id, mailbox_id = one.target.account_id, one.target.mailbox_id
        by_folder.setdefault((account_id, mailbox_id, one.target.folder), []).append(one)
        by_mailbox.setdefault((account_id, mailbox_id), []).append(one)
    return by_folder, by_mailbox


def _rows(
    calls: Sequence[_Call], placed: Sequence[_Placed], folders: dict[_Place, "_Numbers"], content_ids: Sequence[int]
) -> list[_MessageRow]:
    """The rows of the messages, but for their ids."""
    rows = []
    for number, content, target, size in placed:
        call = calls[number]
        folder_id, uid, modseq = next(folders[target.account_id, target.mailbox_id, target.folder])
        row = delivery.columns(target, content_ids[content], ids.new_uuid_bytes(), size, call.summary, call.received_at)
        row |= {"folder_id": folder_id, "uid": uid, "modseq": modseq}
        rows.append(row)
    return rows


@concurrent
@together(_deliver_together)
def deliver_encoded(conn: WriteConn, call: bytes) -> bytes:
    """As ``delivery.deliver``, with bytes in and out: a tenth of the time that pickling the values takes."""
    values = _calls.decode(call)
    done = delivery.deliver(conn, values.parts, values.summary, values.targets, clock.from_micros(values.received_at))
    return _encoder.encode(done)


_Numbers = Iterator[tuple[FolderId, Uid, ModSeq]]  # for the messages of one folder, in turn


def _more(placed: Sequence[_Placed]) -> dict[str, int]:
    """What messages add to the counters of their folder or mailbox."""
    return {
        "messages": len(placed),
        "unseen": sum(delivery.unseen(one.target) for one in placed),
        "size_bytes": sum(one.size for one in placed),
    }


def _numbers(count: int, folder_id: int, uid_next: int, modseq: int) -> _Numbers:
    """UIDs and modseqs for the last ``count`` messages of a folder, oldest first."""
    for back in range(count, 0, -1):
        yield FolderId(folder_id), Uid(uid_next - back), ModSeq(modseq - back + 1)
