"""Accounts: the tenants that own domains, mailboxes, tokens and a quota."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import RowMapping, bindparam, insert, select, update

from restante import clock, ids
from restante.core import events
from restante.errors import Conflict, Invalid, NotFound
from restante.ids import AccountId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn
from restante.schema.prepared import Prepared

MAX_NAME_CHARS = 200

Status = Literal["active", "suspended"]

_IS_THERE = tables.accounts.c.status != "removed"
_PUBLIC_ID = Prepared(
    select(tables.accounts.c.public_id).where(tables.accounts.c.id == bindparam("account"), _IS_THERE)
)


@dataclass(frozen=True, slots=True)
class Account:
    """One tenant with its counters; ``quota_bytes`` None means no limit."""

    id: AccountId
    public_id: UUID
    name: str
    status: Status
    quota_bytes: int | None
    used_bytes: int
    created_at: datetime


def create(conn: WriteConn, name: str, now: datetime, quota_bytes: int | None = None) -> Account:
    """Add an active account; its name is unique on the instance.

    Errors: Invalid, Conflict ``account_exists``.
    """
    clean = name.strip()
    if not clean or len(clean) > MAX_NAME_CHARS or "\0" in clean:
        raise Invalid("An account needs a name of 1 to 200 characters.", details={"name": "1 to 200 characters"})
    _require_quota(quota_bytes)
    if find(conn, clean) is not None:
        raise Conflict(f"There is an account {clean!r} already.", code="account_exists")
    row = insert(tables.accounts).values(
        public_id=str(ids.new_uuid()),
        name=clean,
        status="active",
        quota_bytes=quota_bytes,
        created_at=clock.to_micros(now),
    )
    account_id = AccountId(conn.execute(row.returning(tables.accounts.c.id)).scalar_one())
    events.record(conn, account_id, "account.created", {"name": clean}, now=now)
    return get(conn, account_id)


def list_accounts(conn: ReadConn) -> list[Account]:
    """Every account of the instance, oldest first (for the operator)."""
    rows = conn.execute(select(tables.accounts).where(_IS_THERE).order_by(tables.accounts.c.id)).mappings()
    return [_account(row) for row in rows]


def get(conn: ReadConn, account_id: AccountId) -> Account:
    """The account; NotFound ``account_not_found``."""
    return _account(_row(conn, account_id))


def get_public_id(conn: ReadConn, account_id: AccountId) -> UUID:
    """The account's public id; NotFound ``account_not_found``."""
    row = _PUBLIC_ID.row(conn, {"account": account_id})
    if row is None:
        raise NotFound("There is no such account.", code="account_not_found")
    return UUID(row[0])


def find(conn: ReadConn, name: str) -> Account | None:
    """The account of that name (for the operator, who names accounts)."""
    if "\0" in name:  # no engine keeps it
        return None
    statement = select(tables.accounts).where(tables.accounts.c.name == name.strip())
    row = conn.execute(statement).mappings().one_or_none()
    return None if row is None else _account(row)


def suspend(conn: WriteConn, account_id: AccountId, now: datetime) -> Account:
    """Stop logins, tokens and delivery of the account; its data stays. Suspending twice changes nothing."""
    return _set(conn, account_id, "account.suspended", {"status": "suspended"}, now)


def resume(conn: WriteConn, account_id: AccountId, now: datetime) -> Account:
    """End a suspension."""
    return _set(conn, account_id, "account.resumed", {"status": "active"}, now)


def set_quota(conn: WriteConn, account_id: AccountId, quota_bytes: int | None, now: datetime) -> Account:
    """Limit the stored bytes of the whole account; None takes the limit away."""
    _require_quota(quota_bytes)
    return _set(conn, account_id, "account.quota_set", {"quota_bytes": quota_bytes}, now)


def _set(conn: WriteConn, account_id: AccountId, event: str, values: dict[str, Any], now: datetime) -> Account:
    before = _row(conn, account_id)
    if any(before[key] != value for key, value in values.items()):
        conn.execute(update(tables.accounts).where(tables.accounts.c.id == account_id).values(**values))
        events.record(conn, account_id, event, values, now=now)
    return get(conn, account_id)


def _row(conn: ReadConn, account_id: AccountId) -> RowMapping:
    statement = select(tables.accounts).where(tables.accounts.c.id == account_id, _IS_THERE)
    row = conn.execute(statement).mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such account.", code="account_not_found")
    return row


def _require_quota(quota_bytes: int | None) -> None:
    if quota_bytes is not None and not 0 <= quota_bytes < 2**62:
        raise Invalid("A quota is a number of bytes, 0 or more.", details={"quota_bytes": "0 or more"})


def _account(row: RowMapping) -> Account:
    return Account(
        id=AccountId(row["id"]),
        public_id=UUID(row["public_id"]),
        name=row["name"],
        status=row["status"],
        quota_bytes=row["quota_bytes"],
        used_bytes=row["used_bytes"],
        created_at=clock.from_micros(row["created_at"]),
    )
