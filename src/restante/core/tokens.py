"""Tokens: random credentials of programs, kept as a hash, each of one dialect.

The plain token exists once, in the answer of ``create``. A token of another dialect is unknown, never forbidden.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import BindParameter, ColumnElement, RowMapping, bindparam, delete, func, insert, or_, select, update

from restante import clock, ids
from restante.core import accounts, events, mailboxes
from restante.core.messages import Page
from restante.errors import Invalid, LimitExceeded, NotFound
from restante.ids import AccountId, MailboxId, TokenId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn
from restante.schema.prepared import Prepared

MAX_NAME_CHARS = 200
MAX_PLAIN_CHARS = 512
PREFIX_CHARS = 8
MAX_OF_MAILBOX = 100  # for programs
MAX_SESSIONS = 20  # of one mailbox; a further one ends the oldest
MAX_SCOPES = 50
_SCOPE = re.compile(r"[a-z][a-z-]{0,30}:[a-z][a-z-]{0,30}")
TOUCH_EVERY = timedelta(minutes=1)

Kind = Literal["admin", "user"]
Purpose = Literal["program", "session", "permanent"]

# One line a dialect: what its tokens look like. A dialect without a line issues no tokens of this kind.
_MAKERS = {
    "mail-api": ids.new_token,
    "mailcare": ids.new_mailcare_token,
    "native": ids.new_native_token,
}

_T = tables.tokens.c
_COLUMNS = tuple(column.name for column in tables.tokens.columns)
_HOLDERS = tables.tokens.join(tables.accounts, tables.accounts.c.id == _T.account_id).outerjoin(
    tables.mailboxes,
    (tables.mailboxes.c.id == _T.mailbox_id) & (tables.mailboxes.c.account_id == _T.account_id),
)
_WITH_HOLDER = select(
    *tables.tokens.columns,
    tables.accounts.c.status,
    tables.mailboxes.c.status,
    tables.mailboxes.c.role,
    tables.mailboxes.c.address,
).select_from(_HOLDERS)
_HELD = Prepared(_WITH_HOLDER.where(_T.hash == bindparam("token_hash"), _T.dialect == bindparam("token_dialect")))


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret; ``rate_limit`` is requests a minute, None the dialect's own limits, 0 no limit.

    ``purpose``: made for a program, by a login (``session``), or the one permanent key of its holder.
    """

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
    purpose: Purpose
    scopes: tuple[str, ...] | None  # what it is held to; None: all that its kind may do

    def is_usable(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.is_active and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class Held:
    """A token with its holder.

    ``is_sound`` while the account and the mailbox are active, and the mailbox of an admin token is an administrator's.
    """

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
    purpose: Purpose = "program",
    scopes: Sequence[str] | None = None,
) -> tuple[Token, str]:
    """Make a token and return it with its plain form, which is not kept.

    ``kind`` admin acts as the operator of the instance; user acts as the mailbox, or as the account without one, within
    ``scopes`` (names of the dialect, which alone knows them; None: without that bound).
    Errors: Invalid (dialect, name, rate limit, scopes, an expiry in the past), NotFound ``account_not_found``,
    ``mailbox_not_found``, LimitExceeded ``too_many_tokens`` (of a mailbox, for programs).
    """
    if dialect not in _MAKERS or kind not in ("admin", "user"):
        known = ", ".join(sorted(_MAKERS))
        field, reason = ("kind", "admin or user") if dialect in _MAKERS else ("dialect", f"one of {known}")
        raise Invalid("The token cannot be made like this.", details={field: reason})
    _require_sound(name, rate_limit)
    _require_scopes(scopes)
    _require_future(expires_at, now)
    accounts.get(conn, account_id)
    if mailbox_id is not None:
        mailboxes.get(conn, account_id, mailbox_id)
        if purpose == "program":
            _require_few(conn, account_id, mailbox_id)
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
        purpose=purpose,
        scopes=None if scopes is None else " ".join(dict.fromkeys(scopes)),
    )
    token_id = TokenId(conn.execute(row.returning(_T.id)).scalar_one())
    body = {"token_id": int(token_id), "prefix": plain[:PREFIX_CHARS], "dialect": dialect, "kind": kind}
    events.record(conn, account_id, "token.created", body, mailbox_id=mailbox_id, now=now)
    return get(conn, account_id, token_id), plain


def start_session(
    conn: WriteConn,
    account_id: AccountId,
    mailbox_id: MailboxId,
    dialect: str,
    name: str,
    now: datetime,
    expires_at: datetime,
) -> tuple[Token, str]:
    """Make a token for somebody who logged in; it acts as the operator when the mailbox is an administrator's.

    Sessions that are over go, and the oldest beyond 20. Errors: NotFound ``mailbox_not_found``.
    """
    mailbox = mailboxes.get(conn, account_id, mailbox_id)
    mine = _T.account_id == account_id, _T.mailbox_id == mailbox_id, _T.purpose == "session", _T.dialect == dialect
    over = or_(_T.expires_at <= clock.to_micros(now), _T.is_active == 0)
    conn.execute(delete(tables.tokens).where(*mine, over))
    newest = select(_T.id).where(*mine).order_by(_T.id.desc()).offset(MAX_SESSIONS - 1)
    for token_id in conn.execute(newest).scalars().all():
        remove(conn, account_id, TokenId(token_id), now)
    kind: Kind = "admin" if mailbox.role == "admin" else "user"
    return create(conn, account_id, dialect, kind, name, now, mailbox_id, expires_at, purpose="session")


def end_sessions(
    conn: WriteConn, account_id: AccountId, mailbox_id: MailboxId, now: datetime, keep: TokenId | None = None
) -> int:
    """Remove the sessions of a mailbox but the one to keep, in every dialect; returns how many there were."""
    mine = select(_T.id).where(_T.account_id == account_id, _T.mailbox_id == mailbox_id, _T.purpose == "session")
    gone = [TokenId(found) for found in conn.execute(mine).scalars() if found != keep]
    for token_id in gone:
        remove(conn, account_id, token_id, now)
    return len(gone)


def replace_permanent(
    conn: WriteConn, account_id: AccountId, mailbox_id: MailboxId | None, dialect: str, kind: Kind, now: datetime
) -> tuple[Token, str]:
    """Make the permanent key of a mailbox (None: of the account itself); the one before is useless from this commit on.

    Errors: NotFound ``account_not_found``, ``mailbox_not_found``.
    """
    before = find_permanent(conn, account_id, mailbox_id, dialect)
    if before is not None:
        remove(conn, account_id, before.id, now)
    return create(conn, account_id, dialect, kind, "permanent key", now, mailbox_id, purpose="permanent")


def find_permanent(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId | None, dialect: str) -> Token | None:
    """The permanent key of a mailbox, or of the account itself."""
    holder = _T.mailbox_id.is_(None) if mailbox_id is None else _T.mailbox_id == mailbox_id
    mine = _T.account_id == account_id, holder, _T.purpose == "permanent", _T.dialect == dialect
    row = conn.execute(select(tables.tokens).where(*mine)).mappings().first()
    return None if row is None else _token(row)


def find_held(conn: ReadConn, dialect: str, plain: str) -> Held | None:
    """The dialect's token with that secret, revoked and expired ones too, with the state of its account and mailbox.

    A credential is how its account is found. One prepared statement per request.
    """
    if not 0 < len(plain) <= MAX_PLAIN_CHARS:
        return None
    row = _HELD.row(conn, {"token_hash": ids.token_hash(plain), "token_dialect": dialect})
    return None if row is None else _held(row)


def proof() -> ColumnElement[bool]:
    """For the WHERE of a statement: a token may be used, and it and its holder are as ``proof_values`` says.

    So who was found with it a moment ago is found with it now.
    """
    same = (
        _T.hash == bindparam("token_hash"),
        _T.dialect == bindparam("token_dialect"),
        _T.id == bindparam("token_id"),
        _T.account_id == bindparam("token_account"),
        _T.mailbox_id.is_not_distinct_from(bindparam("token_mailbox")),
        _T.kind == bindparam("token_kind"),
        _T.rate_limit.is_not_distinct_from(bindparam("token_rate_limit")),
        _T.scopes.is_not_distinct_from(bindparam("token_scopes")),
        tables.mailboxes.c.address.is_not_distinct_from(bindparam("token_address")),
    )
    return select(_T.id).select_from(_HOLDERS).where(*same, *_usable(bindparam("token_moment"))).exists()


def proof_values(token: Token, address: str | None, token_hash: bytes, now: datetime) -> dict[str, Any]:
    """What ``proof`` compares: the hash of a secret presented at ``now``, its token and the mailbox's address."""
    return {
        "token_hash": token_hash,
        "token_dialect": token.dialect,
        "token_id": token.id,
        "token_account": token.account_id,
        "token_mailbox": token.mailbox_id,
        "token_kind": token.kind,
        "token_rate_limit": token.rate_limit,
        "token_scopes": None if token.scopes is None else " ".join(token.scopes),
        "token_address": address,
        "token_moment": clock.to_micros(now),
    }


def _usable(moment: int | BindParameter[int]) -> tuple[ColumnElement[bool], ...]:
    """What ``is_usable`` and ``is_sound`` say, of ``_HOLDERS``."""
    a, b = tables.accounts.c, tables.mailboxes.c
    return (
        _T.is_active == 1,
        or_(_T.expires_at.is_(None), _T.expires_at > moment),
        a.status == "active",
        or_(_T.mailbox_id.is_(None), b.status == "active"),
        or_(_T.mailbox_id.is_(None), _T.kind != "admin", b.role == "admin"),
    )


def find_by_id(conn: ReadConn, token_id: int, dialect: str | None = None) -> Held | None:
    """The token with that number, whatever its account, of one dialect if it is named; who sees it, access says."""
    statement = _WITH_HOLDER.where(_T.id == token_id)
    if dialect is not None:
        statement = statement.where(_T.dialect == dialect)
    row = conn.execute(statement).one_or_none()
    return None if row is None else _held(row)


def find_usable(conn: ReadConn, account_id: AccountId, token_ids: Collection[TokenId], now: datetime) -> set[TokenId]:
    """Which of these tokens of an account may be used at ``now``; their account and mailboxes are looked at too."""
    statement = (
        select(_T.id)
        .select_from(_HOLDERS)
        .where(_T.account_id == account_id, _T.id.in_(token_ids), *_usable(clock.to_micros(now)))
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


def list_page(
    conn: ReadConn,
    account_id: AccountId | None,
    mailbox_id: MailboxId | None,
    dialect: str,
    *,
    limit: int,
    offset: int = 0,
) -> Page[Held]:
    """A dialect's tokens, oldest first: of a mailbox, of an account, or of the instance (for the operator)."""
    which: list[ColumnElement[bool]] = [_T.dialect == dialect]
    if account_id is not None:
        which.append(_T.account_id == account_id)
    if mailbox_id is not None:
        which.append(_T.mailbox_id == mailbox_id)
    total = conn.execute(select(func.count()).select_from(tables.tokens).where(*which)).scalar_one()
    rows = conn.execute(_WITH_HOLDER.where(*which).order_by(_T.id).limit(limit).offset(offset)).all()
    return Page(total, [_held(row) for row in rows])


def revoke(conn: WriteConn, account_id: AccountId, token_id: TokenId, now: datetime) -> Token:
    """Make the token useless at once; its row stays. Revoking twice changes nothing."""
    before = get(conn, account_id, token_id)
    if before.is_active:
        statement = update(tables.tokens).where(_T.account_id == account_id, _T.id == token_id)
        conn.execute(statement.values(is_active=0))
        body = {"token_id": int(token_id), "prefix": before.prefix}
        events.record(conn, account_id, "token.revoked", body, mailbox_id=before.mailbox_id, now=now)
    return get(conn, account_id, token_id)


def update_properties(
    conn: WriteConn,
    account_id: AccountId,
    token_id: TokenId,
    now: datetime,
    *,
    name: str,
    is_active: bool,
    expires_at: datetime | None,
    rate_limit: int | None,
) -> Token:
    """Give a token these properties, whatever it had before. Errors: Invalid, NotFound ``token_not_found``."""
    _require_sound(name, rate_limit)
    before = get(conn, account_id, token_id)
    if expires_at != before.expires_at:
        _require_future(expires_at, now)
    mine = _T.account_id == account_id, _T.id == token_id
    moment = None if expires_at is None else clock.to_micros(expires_at)
    values = {"name": name, "is_active": int(is_active), "expires_at": moment, "rate_limit": rate_limit}
    conn.execute(update(tables.tokens).where(*mine).values(**values))
    after = get(conn, account_id, token_id)
    if after != before:
        body = {"token_id": int(token_id), "prefix": before.prefix, "is_active": is_active}
        events.record(conn, account_id, "token.updated", body, mailbox_id=before.mailbox_id, now=now)
    return after


def remove(conn: WriteConn, account_id: AccountId, token_id: TokenId, now: datetime) -> None:
    """Delete a token, which is useless from this commit on; NotFound ``token_not_found``."""
    before = get(conn, account_id, token_id)
    conn.execute(delete(tables.tokens).where(_T.account_id == account_id, _T.id == token_id))
    body = {"token_id": int(token_id), "prefix": before.prefix}
    events.record(conn, account_id, "token.removed", body, mailbox_id=before.mailbox_id, now=now)


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


def _require_sound(name: str, rate_limit: int | None) -> None:
    wrong = {}
    if len(name) > MAX_NAME_CHARS or not name.isprintable():
        wrong["name"] = f"at most {MAX_NAME_CHARS} printable characters"
    if rate_limit is not None and not 0 <= rate_limit <= 1_000_000_000:
        wrong["rate_limit"] = "requests a minute; 0 for no limit"
    if wrong:
        raise Invalid("The token cannot be made like this.", details=wrong)


def _require_scopes(scopes: Sequence[str] | None) -> None:
    if scopes is not None and (len(scopes) > MAX_SCOPES or not all(_SCOPE.fullmatch(scope) for scope in scopes)):
        raise Invalid("The token cannot be made like this.", details={"scopes": f"at most {MAX_SCOPES} names"})


def _require_future(expires_at: datetime | None, now: datetime) -> None:
    if expires_at is not None and expires_at <= now:
        raise Invalid("The token cannot be made like this.", details={"expires_at": "in the future"})


def _require_few(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId) -> None:
    mine = _T.account_id == account_id, _T.mailbox_id == mailbox_id, _T.purpose == "program"
    if conn.execute(select(func.count()).select_from(tables.tokens).where(*mine)).scalar_one() >= MAX_OF_MAILBOX:
        raise LimitExceeded(f"A mailbox has {MAX_OF_MAILBOX} tokens at most.", code="too_many_tokens")


def _held(row: Sequence[Any]) -> Held:
    account_status, mailbox_status, role, address = row[-4:]
    token = _token(dict(zip(_COLUMNS, row[:-4], strict=True)))
    is_sound = account_status == "active"
    if token.mailbox_id is not None:
        is_sound = is_sound and mailbox_status == "active" and (token.kind != "admin" or role == "admin")
    return Held(token, is_sound, address)


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
        purpose=row["purpose"],
        scopes=None if row["scopes"] is None else tuple(row["scopes"].split()),
    )
