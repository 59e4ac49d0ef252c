"""Tokens: random credentials of programs, kept as a hash, each of one dialect.

The plain token exists once, in the answer of ``create``. A token of another dialect is unknown, never forbidden.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import RowMapping, bindparam, insert, or_, select, update

from restante import clock, ids
from restante.core import accounts, events, mailboxes
from restante.errors import Invalid, NotFound
from restante.ids import AccountId, MailboxId, TokenId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn
from restante.schema.prepared import Prepared

MAX_NAME_CHARS = 200
MAX_PLAIN_CHARS = 512
PREFIX_CHARS = 8
TOUCH_EVERY = timedelta(minutes=1)

Kind = Literal["admin", "user"]

# One line a dialect: what its tokens look like. A dialect without a line issues no tokens of this kind.
_MAKERS = {
    "mail-api": ids.new_token,
    "native": ids.new_native_token,
}

_T = tables.tokens.c
_COLUMNS = tuple(column.name for column in tables.tokens.columns)
_MAILBOX_AT = _COLUMNS.index("mailbox_id")
_HELD = Prepared(
    select(*tables.tokens.columns, tables.accounts.c.status, tables.mailboxes.c.status, tables.mailboxes.c.address)
    .join(tables.accounts, tables.accounts.c.id == _T.account_id)
    .outerjoin(
        tables.mailboxes,
        (tables.mailboxes.c.id == _T.mailbox_id) & (tables.mailboxes.c.account_id == _T.account_id),
    )
    .where(_T.hash == bindparam("token_hash"), _T.dialect == bindparam("token_dialect"))
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret; ``rate_limit`` is requests a minute, None the dialect's own limits, 0 no limit."""

    id: TokenId
    account_id: AccountId
    mailbox_id: MailboxId | None
    dialect: str
    kind: Kind
    prefix: str
    name: str
    rate_limit: int | None
    is_active: bool
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None

    def is_usable(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.is_active and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class Held:
    """A token with its holder: ``is_sound`` while the account and the mailbox are active."""

    token: Token
    is_sound: bool
    address: str | None


def create(
    conn: WriteConn,
    account_id: AccountId,
    dialect: str,
    kind: Kind,
    name: str,
    now: datetime,
    mailbox_id: MailboxId | None = None,
    expires_at: datetime | None = None,
    rate_limit: int | None = None,
) -> tuple[Token, str]:
    """Make a token and return it with its plain form, which is not kept.

    ``kind`` admin acts as the operator of the instance; user acts as the mailbox, or as the account without one.
    Errors: Invalid (dialect, name, rate limit, an expiry in the past), NotFound ``account_not_found``,
    ``mailbox_not_found``.
    """
    _require_sound(dialect, kind, name, rate_limit, now, expires_at)
    accounts.get(conn, account_id)
    if mailbox_id is not None:
        mailboxes.get(conn, account_id, mailbox_id)
    plain = _MAKERS[dialect]()
    row = insert(tables.tokens).values(
        account_id=account_id,
        mailbox_id=mailbox_id,
        dialect=dialect,
        kind=kind,
        prefix=plain[:PREFIX_CHARS],
        hash=ids.token_hash(plain),
        name=name,
        rate_limit=rate_limit,
        created_at=clock.to_micros(now),
        expires_at=None if expires_at is None else clock.to_micros(expires_at),
    )
    token_id = TokenId(conn.execute(row.returning(_T.id)).scalar_one())
    body = {"token_id": int(token_id), "prefix": plain[:PREFIX_CHARS], "dialect": dialect, "kind": kind}
    events.record(conn, account_id, "token.created", body, mailbox_id=mailbox_id, now=now)
    return get(conn, account_id, token_id), plain


def find_by_plain(conn: ReadConn, dialect: str, plain: str) -> Token | None:
    """The dialect's token with that secret, revoked and expired ones too (a credential is how its account is found)."""
    held = find_held(conn, dialect, plain)
    return None if held is None else held.token


def find_held(conn: ReadConn, dialect: str, plain: str) -> Held | None:
    """As ``find_by_plain``, with the state of the token's account and mailbox: one prepared statement per request."""
    if not 0 < len(plain) <= MAX_PLAIN_CHARS:
        return None
    row = _HELD.row(conn, {"token_hash": ids.token_hash(plain), "token_dialect": dialect})
    if row is None:
        return None
    account_status, mailbox_status, address = row[-3:]
    is_sound = account_status == "active" and (row[_MAILBOX_AT] is None or mailbox_status == "active")
    return Held(_token(dict(zip(_COLUMNS, row[:-3], strict=True))), is_sound, address)


def find_usable(conn: ReadConn, account_id: AccountId, token_ids: Collection[TokenId], now: datetime) -> set[TokenId]:
    """Which of these tokens of an account may be used at ``now``; their account and mailboxes are looked at too."""
    a, b = tables.accounts.c, tables.mailboxes.c
    moment = clock.to_micros(now)
    statement = (
        select(_T.id)
        .join(tables.accounts, a.id == _T.account_id)
        .outerjoin(tables.mailboxes, (b.account_id == _T.account_id) & (b.id == _T.mailbox_id))
        .where(
            _T.account_id == account_id,
            _T.id.in_(token_ids),
            _T.is_active == 1,
            or_(_T.expires_at.is_(None), _T.expires_at > moment),
            a.status == "active",
            or_(_T.mailbox_id.is_(None), b.status == "active"),
        )
    )
    return {TokenId(row.id) for row in conn.execute(statement)}


def get(conn: ReadConn, account_id: AccountId, token_id: TokenId) -> Token:
    """The token; NotFound ``token_not_found``."""
    statement = select(tables.tokens).where(_T.account_id == account_id, _T.id == token_id)
    row = conn.execute(statement).mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such token.", code="token_not_found")
    return _token(row)


def list_tokens(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId | None = None) -> list[Token]:
    """The tokens of an account, oldest first, or those of one mailbox."""
    statement = select(tables.tokens).where(_T.account_id == account_id).order_by(_T.id)
    if mailbox_id is not None:
        statement = statement.where(_T.mailbox_id == mailbox_id)
    return [_token(row) for row in conn.execute(statement).mappings()]


def list_all(conn: ReadConn) -> list[Token]:
    """Every token of the instance, oldest first (for the operator)."""
    return [_token(row) for row in conn.execute(select(tables.tokens).order_by(_T.id)).mappings()]


def revoke(conn: WriteConn, account_id: AccountId, token_id: TokenId, now: datetime) -> Token:
    """Make the token useless at once; its row stays. Revoking twice changes nothing."""
    before = get(conn, account_id, token_id)
    if before.is_active:
        statement = update(tables.tokens).where(_T.account_id == account_id, _T.id == token_id)
        conn.execute(statement.values(is_active=0))
        body = {"token_id": int(token_id), "prefix": before.prefix}
        events.record(conn, account_id, "token.revoked", body, mailbox_id=before.mailbox_id, now=now)
    return get(conn, account_id, token_id)


def needs_touch(token: Token, now: datetime) -> bool:
    """Whether ``touch`` would write: asked first, so that a busy token costs one write a minute."""
    return token.last_used_at is None or now - token.last_used_at >= TOUCH_EVERY


def touch(conn: WriteConn, account_id: AccountId, token_id: TokenId, now: datetime) -> None:
    """Note a use of the token, at most once a minute; NotFound ``token_not_found``."""
    token = get(conn, account_id, token_id)
    if needs_touch(token, now):
        moment = clock.to_micros(now)
        statement = update(tables.tokens).where(_T.account_id == account_id, _T.id == token_id)
        earlier = or_(_T.last_used_at.is_(None), _T.last_used_at < moment)
        conn.execute(statement.where(earlier).values(last_used_at=moment))


def _require_sound(
    dialect: str, kind: str, name: str, rate_limit: int | None, now: datetime, expires_at: datetime | None
) -> None:
    wrong = {}
    if dialect not in _MAKERS:
        wrong["dialect"] = f"one of {', '.join(sorted(_MAKERS))}"
    if kind not in ("admin", "user"):
        wrong["kind"] = "admin or user"
    if len(name) > MAX_NAME_CHARS:
        wrong["name"] = f"at most {MAX_NAME_CHARS} characters"
    if rate_limit is not None and not 0 <= rate_limit <= 1_000_000_000:
        wrong["rate_limit"] = "requests a minute; 0 for no limit"
    if expires_at is not None and expires_at <= now:
        wrong["expires_at"] = "in the future"
    if wrong:
        raise Invalid("The token cannot be made like this.", details=wrong)


def _token(row: RowMapping | dict[str, Any]) -> Token:
    return Token(
        id=TokenId(row["id"]),
        account_id=AccountId(row["account_id"]),
        mailbox_id=None if row["mailbox_id"] is None else MailboxId(row["mailbox_id"]),
        dialect=row["dialect"],
        kind=row["kind"],
        prefix=row["prefix"],
        name=row["name"],
        rate_limit=row["rate_limit"],
        is_active=bool(row["is_active"]),
        created_at=clock.from_micros(row["created_at"]),
        last_used_at=clock.optional_from_micros(row["last_used_at"]),
        expires_at=clock.optional_from_micros(row["expires_at"]),
    )
