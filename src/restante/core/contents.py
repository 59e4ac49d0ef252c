"""Contents: the bytes of messages, kept once per account, counted by the messages that use them, swept when unused."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, insert, select, update

from restante import clock
from restante.errors import NotFound
from restante.ids import AccountId, ContentId
from restante.schema import tables
from restante.schema.arrays import Rows
from restante.schema.connections import ReadConn, WriteConn, single
from restante.schema.prepared import Prepared

_c = tables.contents.c

INSERT = Prepared(
    insert(tables.contents).values({c.name: bindparam(c.name) for c in tables.contents.columns if c.name != "id"})
)
"""Adds one made of ``row``; its id is counted (``Prepared.insert``) or, on any engine, asked for (``add``)."""

_INSERT_ONE = Prepared(INSERT.statement.returning(_c.id))
ADDED = Rows("content", tables.contents.columns)
"""Contents that another statement adds with its own, made of ``row`` and their ids."""

_GET = Prepared(
    select(_c.size_bytes, _c.sha256, _c.blob_key, _c.structure, _c.raw).where(
        _c.account_id == bindparam("account"), _c.id == bindparam("content")
    )
)
_RELEASE = Prepared(
    update(tables.contents)
    .where(_c.account_id == bindparam("account"), _c.id == bindparam("content"))
    .values(uses=_c.uses - 1)
)


class NewContent(NamedTuple):
    """The bytes of a message and what was read from them, ready to be written.

    Either ``raw`` (zstd of the received bytes) is set, or ``blob_key`` and ``folded`` (zstd of what search sees).
    """

    size_bytes: int
    sha256: bytes
    structure: bytes
    raw: bytes | None
    blob_key: str | None
    folded: bytes | None


@dataclass(frozen=True, slots=True)
class StoredContent:
    """A content as stored; ``raw`` is still compressed."""

    size_bytes: int
    sha256: bytes
    blob_key: str | None
    structure: bytes
    raw: bytes | None


@dataclass(frozen=True, slots=True)
class Unused:
    """A content that no message uses any more."""

    account_id: AccountId
    id: ContentId
    blob_key: str | None


def add(conn: WriteConn, account_id: int, content: NewContent, uses: int, created_at: int) -> ContentId:
    """Write one content row that ``uses`` messages of the same transaction will point to."""
    added = _INSERT_ONE.row(conn, row(account_id, content, uses, created_at))
    assert added is not None
    return ContentId(added[0])


def row(account_id: int, content: NewContent, uses: int, created_at: int) -> dict[str, Any]:
    """The columns of a content, but for its id."""
    return {
        "account_id": account_id,
        "uses": uses,
        "unused_at": None,
        "created_at": created_at,
        "size_bytes": content.size_bytes,
        "sha256": content.sha256,
        "blob_key": content.blob_key,
        "structure": content.structure,
        "folded": content.folded,
        "raw": content.raw,
    }


@single
def get(conn: ReadConn, account_id: AccountId, content_id: ContentId) -> StoredContent:
    """One content. Raises NotFound(code="content_not_found")."""
    row = _GET.row(conn, {"account": account_id, "content": content_id})
    if row is None:
        raise NotFound("no such content", code="content_not_found")
    return StoredContent(*row)


def release(conn: WriteConn, account_id: AccountId, content_ids: Sequence[ContentId], now: datetime) -> None:
    """Count one use less for each id given (an id may stand there several times)."""
    if not content_ids:
        return
    _RELEASE.many(conn, [{"account": account_id, "content": content_id} for content_id in content_ids])
    conn.execute(
        update(tables.contents)
        .where(_c.account_id == account_id, _c.id.in_(set(content_ids)), _c.uses <= 0)
        .values(unused_at=clock.to_micros(now))
    )


def list_unused(conn: ReadConn, before: datetime, limit: int) -> list[Unused]:
    """Contents that have been unused since before that moment, of all accounts."""
    rows = conn.execute(
        select(_c.account_id, _c.id, _c.blob_key).where(_c.unused_at < clock.to_micros(before)).limit(limit)
    )
    return [Unused(AccountId(row.account_id), ContentId(row.id), row.blob_key) for row in rows]


def remove_unused(conn: WriteConn, account_id: AccountId, content_ids: Sequence[ContentId]) -> list[str]:
    """Delete rows that are still unused; returns the blob keys that no row names any more."""
    gone = conn.execute(
        delete(tables.contents)
        .where(_c.account_id == account_id, _c.id.in_(content_ids), _c.uses <= 0)
        .returning(_c.blob_key)
    ).all()
    keys = {row.blob_key for row in gone if row.blob_key}
    if not keys:
        return []
    still = conn.execute(select(_c.blob_key).where(_c.account_id == account_id, _c.blob_key.in_(keys))).all()
    return sorted(keys - {row.blob_key for row in still})


def list_unnamed(conn: ReadConn, account_id: AccountId, keys: Sequence[str]) -> list[str]:
    """Those of the blob keys that no content of the account names."""
    named = conn.execute(select(_c.blob_key).where(_c.account_id == account_id, _c.blob_key.in_(keys))).scalars().all()
    return sorted(set(keys).difference(named))
