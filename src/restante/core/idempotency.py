"""Idempotency keys: a client that got no answer repeats its request and gets the first one's, not a second effect.

A key is taken in the transaction of the effect. So of two requests at the same time one waits for the other's commit,
and a request that failed has taken nothing.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select

from restante import clock
from restante.errors import Conflict
from restante.ids import AccountId
from restante.schema import counters, tables
from restante.schema.connections import ReadConn, WriteConn

LIFETIME = timedelta(hours=24)
MAX_KEY_CHARS = 255

_k = tables.idempotency_keys.c


@dataclass(frozen=True, slots=True)
class Once:
    """A request that shall have its effect once.

    ``account_id`` is the caller's, ``scope`` the caller and the operation, ``request_hash`` tells its body from others.
    """

    account_id: AccountId
    scope: str
    key: str
    request_hash: bytes


def find(conn: ReadConn, account_id: AccountId, once: Once, now: datetime) -> bytes | None:
    """What an earlier request under the key left; None when there was none in the last 24 hours.

    Conflict ``idempotency_conflict`` when that request was another one.
    """
    row = conn.execute(
        select(_k.request_hash, _k.answer).where(
            _k.account_id == account_id, _k.scope == once.scope, _k.key == once.key, _k.created_at > _horizon(now)
        )
    ).first()
    if row is None:
        return None
    if row.request_hash != once.request_hash:
        raise Conflict("This Idempotency-Key was used for another request.", code="idempotency_conflict")
    return bytes(row.answer)


def take(conn: WriteConn, account_id: AccountId, once: Once, answer: bytes, now: datetime) -> bytes:
    """Keep ``answer`` under the key, unless an earlier request did: then that one's. Conflict as ``find``."""
    mine = _k.account_id == account_id, _k.scope == once.scope, _k.key == once.key
    conn.execute(delete(tables.idempotency_keys).where(*mine, _k.created_at <= _horizon(now)))
    conn.execute(
        counters.insert(conn.dialect.name, tables.idempotency_keys)
        .values(
            account_id=account_id,
            scope=once.scope,
            key=once.key,
            request_hash=once.request_hash,
            answer=answer,
            created_at=clock.to_micros(now),
        )
        .on_conflict_do_nothing()
    )
    return find(conn, account_id, once, now) or answer


def remove_expired(conn: WriteConn, limit: int, now: datetime) -> int:
    """Forget up to ``limit`` keys of all accounts that nobody may repeat any more; returns how many."""
    old = select(_k.account_id, _k.scope, _k.key).where(_k.created_at <= _horizon(now)).limit(limit)
    rows = conn.execute(old).all()
    for row in rows:
        mine = _k.account_id == row.account_id, _k.scope == row.scope, _k.key == row.key
        conn.execute(delete(tables.idempotency_keys).where(*mine))
    return len(rows)


def _horizon(now: datetime) -> int:
    return clock.to_micros(now - LIFETIME)
