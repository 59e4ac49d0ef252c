"""The dictionaries of arrivals: each subject, word and address of an account once, with a number to name it by.

Words and addresses also stand in ``blocks``, where all that contain a text are found.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Table, bindparam, delete, func, insert, select, update

from restante.core.arrivals import blocks
from restante.mail import subjects
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn
from restante.schema.prepared import Prepared, PreparedByIds, Row

_c = tables.correspondents.c


def hash_of(text: str) -> int:
    """A number of 64 bits (signed) to find a text by, which may be longer than an index takes."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)


class Texts:
    """Subjects or words: texts with the number of listed arrivals that have each."""

    def __init__(self, table: Table, kind: str | None = None) -> None:
        t = table.c
        self._kind = kind
        mine = t.account_id == bindparam("account")
        self._find = PreparedByIds(select(t.text, t.id, t.arrivals).where(mine), t.hash)
        self._texts = PreparedByIds(select(t.id, t.text).where(mine), t.id)
        self._counts = PreparedByIds(select(t.id, t.arrivals).where(mine), t.id)
        self._last = Prepared(select(func.max(t.id)).where(mine))
        self._insert = Prepared(insert(table))
        one = mine, t.id == bindparam("of")
        self._count = Prepared(update(table).where(*one).values(arrivals=t.arrivals + bindparam("more")))
        self._delete = Prepared(delete(table).where(*one))

    def find(self, conn: ReadConn, account_id: int, texts: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Number and arrivals of those of the texts that there are."""
        wanted = {text: hash_of(text) for text in texts}
        rows = self._find.rows(conn, {"account": account_id}, list(wanted.values()))
        return {row[0]: (row[1], row[2]) for row in rows if row[0] in wanted}

    def texts(self, conn: ReadConn, account_id: int, ids: Iterable[int]) -> dict[int, str]:
        """The texts with these numbers."""
        return dict(map(_pair, self._texts.rows(conn, {"account": account_id}, list(ids))))

    def arrivals(self, conn: ReadConn, account_id: int, ids: Iterable[int]) -> dict[int, int]:
        """How many listed arrivals have each."""
        return dict(map(_pair, self._counts.rows(conn, {"account": account_id}, list(ids))))

    def count(self, conn: WriteConn, account_id: int, more: Mapping[str, int]) -> dict[str, int]:
        """Add to the arrivals of texts, or take away; returns their numbers. New texts are made, unused ones go."""
        found = self.find(conn, account_id, more)
        row = self._last.row(conn, {"account": account_id})
        last = (row[0] or 0) if row else 0
        ids, changed, made, gone = {}, [], {}, {}
        for text, change in more.items():
            if text not in found:
                last += 1
                made[text] = ids[text] = last
                continue
            ids[text], before = found[text]
            if before + change > 0:
                changed.append({"account": account_id, "of": ids[text], "more": change})
            else:
                gone[text] = ids[text]
        self._count.many(conn, changed)
        self._delete.many(conn, [{"account": account_id, "of": one} for one in gone.values()])
        rows = [
            {"account_id": account_id, "id": one, "hash": hash_of(text), "text": text, "arrivals": more[text]}
            for text, one in made.items()
        ]
        self._insert.many(conn, rows)
        if self._kind is not None:
            blocks.set_texts(
                conn,
                account_id,
                self._kind,
                {one: text for text, one in made.items()} | dict.fromkeys(gone.values(), ""),
            )
        return ids


SUBJECTS = Texts(tables.arrival_subjects)
WORDS = Texts(tables.arrival_words, "word")


def _pair(row: Row) -> tuple[Any, Any]:
    return row[0], row[1]


def correspondent_hash(role: str, address: str) -> int:
    """The number to find a correspondent by."""
    return hash_of(f"{role} {address}")


_CORRESPONDENT = Prepared(
    select(_c.role, _c.address, _c.id, _c.arrivals).where(
        _c.account_id == bindparam("account"), _c.hash == bindparam("hash")
    )
)


def find_correspondent(conn: ReadConn, account_id: int, role: str, address: str) -> tuple[int, int] | None:
    """Number and listed arrivals of an address (in any case) that mail ever came to or from."""
    folded = subjects.fold(address)
    key = {"account": account_id, "hash": correspondent_hash(role, folded)}
    return next(((row[2], row[3]) for row in _CORRESPONDENT.rows(conn, key) if row[:2] == (role, folded)), None)


class Seen(NamedTuple):
    """An address in one mail that came: its name there, and when that was (microseconds)."""

    role: str  # inbox | sender
    address: str
    name: str
    at: int


_FIND_CORRESPONDENTS = PreparedByIds(
    select(_c.role, _c.address, _c.id, _c.name, _c.created_at, _c.updated_at).where(
        _c.account_id == bindparam("account")
    ),
    _c.hash,
)
_LAST_CORRESPONDENT = Prepared(
    select(func.max(_c.id)).where(_c.account_id == bindparam("account"), _c.role == bindparam("role"))
)
_INSERT_CORRESPONDENT = Prepared(insert(tables.correspondents))
_ONE = _c.account_id == bindparam("account"), _c.role == bindparam("in_role"), _c.id == bindparam("of")
_RENAME = Prepared(
    update(tables.correspondents)
    .where(*_ONE)
    .values(name=bindparam("to"), created_at=bindparam("first"), updated_at=bindparam("newest"))
)
_COUNT_CORRESPONDENT = Prepared(
    update(tables.correspondents).where(*_ONE).values(arrivals=_c.arrivals + bindparam("more"))
)


def meet(conn: WriteConn, account_id: int, seen: Iterable[Seen]) -> tuple[dict[tuple[str, str], int], list[Seen]]:
    """Note the addresses of mail that came, the newest name of each.

    Returns the numbers by role and address, and what was the first of an address.
    """
    ids: dict[tuple[str, str], int] = {}
    firsts = []
    every = list(seen)
    for role in ("inbox", "sender"):
        mine = {one.address: one for one in sorted([one for one in every if one.role == role], key=lambda one: one.at)}
        oldest = {
            one.address: one for one in sorted([one for one in every if one.role == role], key=lambda one: -one.at)
        }
        key = {"account": account_id, "role": role}
        hashes = [correspondent_hash(role, address) for address in mine]
        rows = _FIND_CORRESPONDENTS.rows(conn, {"account": account_id}, hashes)
        found = {row[1]: row[2:] for row in rows if row[0] == role}
        row = _LAST_CORRESPONDENT.row(conn, key)
        last = (row[0] or 0) if row else 0
        made = {}
        for address, newest in mine.items():
            first = oldest[address]
            if address in found:
                ids[role, address], name, created_at, updated_at = found[address]
                is_newer = newest.at >= updated_at
                if is_newer or first.at < created_at:
                    values = {"to": newest.name if is_newer else name, "first": min(first.at, created_at)}
                    one = {"account": account_id, "in_role": role, "of": ids[role, address]}
                    _RENAME.run(conn, {**one, **values, "newest": max(newest.at, updated_at)})
                continue
            last += 1
            ids[role, address], made[last] = last, address
            firsts.append(first)
            _INSERT_CORRESPONDENT.run(
                conn,
                {
                    "account_id": account_id,
                    "role": role,
                    "id": last,
                    "hash": correspondent_hash(role, address),
                    "address": address,
                    "name": newest.name,
                    "arrivals": 0,
                    "created_at": first.at,
                    "updated_at": newest.at,
                },
            )
        blocks.set_texts(conn, account_id, role, made)
    return ids, firsts


def count_correspondents(conn: WriteConn, account_id: int, more: Mapping[tuple[str, int], int]) -> None:
    """Add to the listed arrivals of correspondents (role, number), or take away."""
    changes = [
        {"account": account_id, "in_role": role, "of": one, "more": change}
        for (role, one), change in sorted(more.items())
        if change
    ]
    _COUNT_CORRESPONDENT.many(conn, changes)
