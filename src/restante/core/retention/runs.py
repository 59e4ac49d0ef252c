"""Runs of retention: what is over a mailbox's limits, and taking it to Trash step by step.

One run of an account at a time: it holds a lease, and a step of a run that lost it changes nothing. Each step looks at
limits, counters and flags in its own transaction, so nothing is taken that need not be by then.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, cast, func, insert, select, update

from restante import clock
from restante.core import events, leases, messages
from restante.core.messages import TRASH, Flag
from restante.core.retention import days, rules
from restante.core.retention.days import DAY, Found, Piece
from restante.core.retention.forecast import Outlook
from restante.core.retention.rules import Bound, Cover
from restante.errors import Conflict
from restante.ids import AccountId, FolderId, MailboxId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn, scanning

LEASE = timedelta(minutes=5)  # a run that died is over then

_a, _b, _f, _m = tables.retention_accounts.c, tables.mailboxes.c, tables.folders.c, tables.messages.c


class Need(NamedTuple):
    """What has to go: all of the days before one, and so many messages and bytes."""

    before_day: int
    messages: int
    bytes: int

    def wants(self, day: int) -> bool:
        """Whether the oldest message left, of that day, has to go."""
        return day < self.before_day or self.messages > 0 or self.bytes > 0


class Due(NamedTuple):
    """Folders of a mailbox (None: of all the account's) that are over their limits."""

    mailbox_id: MailboxId | None
    mailbox: str | None
    bound: Bound
    need: Need


class Taken(NamedTuple):
    """What a step took to Trash; ``is_done``: no more has to go."""

    messages: int
    bytes: int
    is_done: bool


@scanning
def list_due(
    conn: ReadConn, account_id: AccountId, cover: Cover, after: MailboxId, limit: int, now: datetime
) -> tuple[list[Due], MailboxId | None]:
    """What is over its limits in the next ``limit`` covered mailboxes behind ``after``.

    Also where to go on; None at the end.
    """
    rows = conn.execute(
        select(_b.id, _b.address)
        .where(_b.account_id == account_id, _b.id > after, cover.holds())
        .order_by(_b.id)
        .limit(limit)
    ).all()
    due = []
    for mailbox_id, address in rows:
        for bound in rules.bounds(conn, account_id, mailbox_id):
            need = measure(conn, account_id, mailbox_id, bound, now)
            oldest = days.first_day(conn, account_id, mailbox_id, bound)
            if oldest is not None and need.wants(oldest):
                due.append(Due(mailbox_id, address, bound, need))
    return due, MailboxId(rows[-1].id) if len(rows) == limit else None


def measure(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId, bound: Bound, now: datetime) -> Need:
    """How far some folders of a mailbox are over their limits, by their counters."""
    sums = [func.coalesce(cast(func.sum(column), BigInteger), 0) for column in (_f.messages, _f.size_bytes)]
    mine = _f.account_id == account_id, _f.mailbox_id == mailbox_id, bound.is_about()
    held: Any = conn.execute(select(*sums).where(*mine)).one()
    count, size = held
    limits = bound.limits
    return Need(
        before_day=(clock.to_micros(now) - limits.days * DAY) // DAY if limits.days else 0,
        messages=max(0, count - limits.messages) if limits.messages else 0,
        bytes=max(0, size - limits.bytes) if limits.bytes else 0,
    )


def choose(found: Iterable[Found], day: int, need: Need) -> tuple[list[Found], Need]:
    """The first of a day's messages that have to go; and what has to go besides."""
    chosen = []
    for one in found:
        if not need.wants(day):
            break
        chosen.append(one)
        need = Need(need.before_day, need.messages - 1, need.bytes - one.size_bytes)
    return chosen, need


def take_by_rule(
    conn: WriteConn,
    account_id: AccountId,
    owner: str,
    mailbox_id: MailboxId,
    role: str,
    pieces: Sequence[Piece],
    now: datetime,
) -> Taken:
    """Move to Trash those of the messages, the oldest first, that the limits still want gone.

    Records ``message.moved``. Raises Conflict(code="lease_lost").
    """
    hold(conn, account_id, owner, now)
    bound = next((one for one in rules.bounds(conn, account_id, mailbox_id) if one.role == role), None)
    if bound is None:
        return Taken(0, 0, True)
    return take(conn, account_id, pieces, measure(conn, account_id, mailbox_id, bound, now), now)


def take_for_room(
    conn: WriteConn,
    account_id: AccountId,
    owner: str,
    pieces: Sequence[Piece],
    left_bytes: int,
    outlook: Outlook,
    now: datetime,
) -> Taken:
    """Move to Trash the oldest of the messages, as many as make ``left_bytes``; records ``retention.cleaned``.

    Raises Conflict(code="lease_lost").
    """
    hold(conn, account_id, owner, now)
    taken = take(conn, account_id, pieces, Need(0, 0, left_bytes), now)
    if taken.messages:
        body = {"messages": taken.messages, "bytes": taken.bytes}
        body |= {"forecast_bytes": outlook.growth_bytes, "free_bytes": outlook.free_bytes}
        events.record(conn, account_id, "retention.cleaned", body, now=now)
    return taken


def take(conn: WriteConn, account_id: AccountId, pieces: Sequence[Piece], need: Need, now: datetime) -> Taken:
    """Move to Trash what ``need`` wants of the messages, as long as they are where they were and no favourites."""
    count = size = 0
    for piece in pieces:
        there = _still_there(conn, account_id, piece)
        chosen, need = choose(there, piece.day, need)
        if chosen:
            bin_id = _trash_of(conn, account_id, piece.mailbox_id)
            ids = [one.id for one in chosen]
            messages.move(conn, account_id, piece.mailbox_id, ids, bin_id, now=now)
        count, size = count + len(chosen), size + sum(one.size_bytes for one in chosen)
        if len(chosen) < len(there):
            days.shrink(conn, account_id, piece, there[len(chosen)].uid)
            return Taken(count, size, is_done=True)
        days.shrink(conn, account_id, piece, piece.next_uid)
    return Taken(count, size, is_done=False)


def _still_there(conn: ReadConn, account_id: AccountId, piece: Piece) -> list[Found]:
    ids = [one.id for one in piece.found]
    mine = _m.account_id == account_id, _m.folder_id == piece.folder_id, _m.mailbox_id == piece.mailbox_id
    rows = conn.execute(select(_m.id, _m.flags).where(*mine, _m.id.in_(ids)))
    free = {row.id for row in rows if not row.flags & Flag.FLAGGED}
    return [one for one in piece.found if one.id in free]


def _trash_of(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId) -> FolderId:
    mine = _f.account_id == account_id, _f.mailbox_id == mailbox_id, _f.role == TRASH
    return FolderId(conn.execute(select(_f.id).where(*mine)).scalar_one())


def claim(conn: WriteConn, account_id: AccountId, owner: str, now: datetime) -> None:
    """Begin a run of an account. Raises Conflict(code="retention_running") while there is another."""
    free = leases.free(tables.retention_accounts, owner, clock.to_micros(now))
    lease = {"lease_owner": owner, "lease_until": clock.to_micros(now + LEASE)}
    mine = _a.account_id == account_id
    if conn.execute(update(tables.retention_accounts).where(mine, free).values(lease)).rowcount:
        return
    if conn.execute(select(_a.account_id).where(mine)).first() is not None:
        raise Conflict("Another run of this account is under way.", code="retention_running")
    conn.execute(insert(tables.retention_accounts).values(lease | {"account_id": account_id}))


def hold(conn: WriteConn, account_id: AccountId, owner: str, now: datetime) -> None:
    """Keep the lease for another while. Raises Conflict(code="lease_lost")."""
    mine = _a.account_id == account_id, _a.lease_owner == owner
    until = clock.to_micros(now + LEASE)
    if not conn.execute(update(tables.retention_accounts).where(*mine).values(lease_until=until)).rowcount:
        raise Conflict("Another run of this account has begun.", code="lease_lost")


def release(conn: WriteConn, account_id: AccountId, owner: str) -> None:
    """End a run."""
    mine = _a.account_id == account_id, _a.lease_owner == owner
    conn.execute(update(tables.retention_accounts).where(*mine).values(lease_owner=None, lease_until=None))


def release_all(conn: WriteConn, owners: str) -> None:
    """End the runs whose owner's name begins so: of a server that is known to be gone."""
    leases.release_all(conn, tables.retention_accounts, owners)
