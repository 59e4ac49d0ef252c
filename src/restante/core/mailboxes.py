"""Mailboxes and their aliases: one address's store, and the further addresses that route to it.

An address is unique on the instance through its domain, which belongs to one account. An alias may lead to several
mailboxes of that account; a mailbox's own address leads to it alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from sqlalchemy import ColumnElement, RowMapping, bindparam, delete, func, insert, select, update

from restante import clock, ids
from restante.core import events, folders, webhooks
from restante.core.messages import Page
from restante.errors import Conflict, Invalid, LimitExceeded, NotFound
from restante.ids import AccountId, DomainId, MailboxId
from restante.mail import address as addresses
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn, single
from restante.schema.prepared import Prepared

MAX_NAME_CHARS = 255
MAX_ALIAS_TARGETS = 100

Role = Literal["user", "member", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
Status = Literal["active", "disabled"]

_M = tables.mailboxes.c
_A = tables.addresses.c
_IS_THERE = _M.status != "removed"
_COLUMNS = tuple(column.name for column in tables.mailboxes.columns)
_TARGETS = Prepared(
    select(*tables.mailboxes.columns)
    .join(tables.addresses, (_A.mailbox_id == _M.id) & (_A.account_id == _M.account_id))
    .where(_A.address == bindparam("wanted"))
    .order_by(_M.id)
)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One mailbox with its counters; never its password."""

    id: MailboxId
    account_id: AccountId
    domain_id: DomainId
    address: str
    public_id: UUID
    name: str
    role: Role
    status: Status
    has_password: bool
    quota_bytes: int | None
    used_bytes: int
    messages: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Alias:
    """A further address of a mailbox; one row for each mailbox that it leads to."""

    address: str
    mailbox_id: MailboxId
    mailbox_address: str
    domain_id: DomainId
    may_send: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Login:
    """What a password is checked against."""

    mailbox: Mailbox
    password_hash: str | None
    is_account_active: bool


def create(
    conn: WriteConn,
    account_id: AccountId,
    address: str,
    now: datetime,
    name: str = "",
    role: Role = "user",
    password_hash: str | None = None,
    quota_bytes: int | None = None,
) -> Mailbox:
    """Add an active mailbox with its default folders, in a domain of the account (approved or not).

    Errors: Invalid (address, name, quota), NotFound ``domain_not_found``, Conflict ``address_exists``.
    """
    wanted = addresses.normalise(address)
    _require_name(name)
    _require_quota(quota_bytes)
    domain_id = _domain_of(conn, account_id, wanted)
    if conn.execute(select(_A.mailbox_id).where(_A.address == wanted)).first() is not None:
        raise Conflict(f"The address {wanted} is in use.", code="address_exists")
    moment = clock.to_micros(now)
    row = insert(tables.mailboxes).values(
        account_id=account_id,
        domain_id=domain_id,
        address=wanted,
        public_id=str(ids.new_uuid()),
        name=name,
        role=role,
        status="active",
        password_hash=password_hash,
        quota_bytes=quota_bytes,
        created_at=moment,
    )
    mailbox_id = MailboxId(conn.execute(row.returning(_M.id)).scalar_one())
    _add_address(conn, account_id, domain_id, wanted, mailbox_id, "mailbox", True, moment)
    folders.create_defaults(conn, account_id, mailbox_id, now)
    events.record(conn, account_id, "mailbox.created", {"address": wanted}, mailbox_id=mailbox_id, now=now)
    return get(conn, account_id, mailbox_id)


def list_mailboxes(conn: ReadConn, account_id: AccountId, domain_id: DomainId | None = None) -> list[Mailbox]:
    """The mailboxes of an account by address, or of one of its domains."""
    statement = select(tables.mailboxes).where(_M.account_id == account_id, _IS_THERE).order_by(_M.address)
    if domain_id is not None:
        statement = statement.where(_M.domain_id == domain_id)
    return [_mailbox(row) for row in conn.execute(statement).mappings()]


def list_all(conn: ReadConn) -> list[Mailbox]:
    """Every mailbox of the instance by address (for the operator)."""
    statement = select(tables.mailboxes).where(_IS_THERE).order_by(_M.address)
    return [_mailbox(row) for row in conn.execute(statement).mappings()]


def list_page(
    conn: ReadConn,
    domain_ids: Sequence[DomainId] | None,
    *,
    text: str = "",
    status: Status | None = None,
    limit: int,
    offset: int = 0,
) -> Page[Mailbox]:
    """Mailboxes of some domains (None: of all, for the operator) by address; ``text`` is a part of the address."""
    which = [_IS_THERE]
    if domain_ids is not None:
        which.append(_M.domain_id.in_(domain_ids))
    if text:
        which.append(_M.address.contains(text.lower(), autoescape=True))
    if status is not None:
        which.append(_M.status == status)
    total = conn.execute(select(func.count()).select_from(tables.mailboxes).where(*which)).scalar_one()
    statement = select(tables.mailboxes).where(*which).order_by(_M.address).limit(limit).offset(offset)
    return Page(total, [_mailbox(row) for row in conn.execute(statement).mappings()])


def list_admins(conn: ReadConn) -> list[Mailbox]:
    """The active mailboxes whose users operate the instance, oldest first: who is told of what needs the operator."""
    statement = select(tables.mailboxes).where(_M.role == "admin", _M.status == "active").order_by(_M.id)
    return [_mailbox(row) for row in conn.execute(statement).mappings()]


def get(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId) -> Mailbox:
    """The mailbox; NotFound ``mailbox_not_found``."""
    return _mailbox(_row(conn, account_id, mailbox_id))


def find(conn: ReadConn, account_id: AccountId, address: str) -> Mailbox | None:
    """The account's mailbox with that address or alias; the oldest one of a shared alias. Nonsense finds nothing."""
    found = [mailbox for mailbox in targets(conn, address) if mailbox.account_id == account_id]
    return found[0] if found else None


def targets(conn: ReadConn, address: str) -> list[Mailbox]:
    """The mailboxes that an address or alias names, oldest first, whatever their account.

    For edges that know an address and not yet its account: who gets to see them is ``core.access``'s to say.
    """
    try:
        wanted = addresses.normalise(address)
    except Invalid:
        return []
    rows = _TARGETS.rows(conn, {"wanted": wanted})
    return [_mailbox(dict(zip(_COLUMNS, row, strict=True))) for row in rows]


def find_exact(conn: ReadConn, address: str) -> Mailbox | None:
    """The mailbox whose own address that is, whatever its account; an alias finds nothing (see ``targets``)."""
    found = targets(conn, address)
    return found[0] if found and found[0].address == addresses.normalise(address) else None


@single
def find_login(conn: ReadConn, address: str) -> Login | None:
    """The mailbox of exactly that address with what its password is checked against (an alias is no login)."""
    try:
        wanted = addresses.normalise(address)
    except Invalid:
        return None
    statement = select(tables.mailboxes, tables.accounts.c.status.label("account_status"))
    statement = statement.join(tables.accounts, tables.accounts.c.id == _M.account_id)
    statement = statement.join(tables.addresses, (_A.mailbox_id == _M.id) & (_A.account_id == _M.account_id))
    statement = statement.where(_A.address == wanted, _A.kind == "mailbox")
    row = conn.execute(statement).mappings().one_or_none()
    if row is None:
        return None
    return Login(_mailbox(row), row["password_hash"], row["account_status"] == "active")


def set_password(
    conn: WriteConn, account_id: AccountId, mailbox_id: MailboxId, password_hash: str | None, now: datetime
) -> Mailbox:
    """Replace the password's hash; None ends logins by password."""
    return _set(conn, account_id, mailbox_id, "mailbox.password_set", {"password_hash": password_hash}, now)


def set_quota(
    conn: WriteConn, account_id: AccountId, mailbox_id: MailboxId, quota_bytes: int | None, now: datetime
) -> Mailbox:
    """Limit the stored bytes; None takes the limit away."""
    _require_quota(quota_bytes)
    return _set(conn, account_id, mailbox_id, "mailbox.quota_set", {"quota_bytes": quota_bytes}, now)


def set_role(conn: WriteConn, account_id: AccountId, mailbox_id: MailboxId, role: Role, now: datetime) -> Mailbox:
    """Make the mailbox's user an operator of the instance (``admin``), one who sees all mail of the account
    (``member`` of its team), or an ordinary user.
    """
    if role not in ROLES:
        raise Invalid("There is no such role.", details={"role": f"one of {', '.join(ROLES)}"})
    return _set(conn, account_id, mailbox_id, "mailbox.role_set", {"role": role}, now)


def update_properties(
    conn: WriteConn,
    account_id: AccountId,
    mailbox_id: MailboxId,
    now: datetime,
    *,
    name: str,
    role: Role,
    quota_bytes: int | None,
) -> Mailbox:
    """Give a mailbox these properties, whatever it had before; each that changes records its event."""
    _require_name(name)
    _set(conn, account_id, mailbox_id, "mailbox.name_set", {"name": name}, now)
    set_role(conn, account_id, mailbox_id, role, now)
    return set_quota(conn, account_id, mailbox_id, quota_bytes, now)


def disable(conn: WriteConn, account_id: AccountId, mailbox_id: MailboxId, now: datetime) -> Mailbox:
    """Stop logins and delivery; the mail stays."""
    return _set(conn, account_id, mailbox_id, "mailbox.disabled", {"status": "disabled"}, now)


def enable(conn: WriteConn, account_id: AccountId, mailbox_id: MailboxId, now: datetime) -> Mailbox:
    """Undo ``disable``."""
    return _set(conn, account_id, mailbox_id, "mailbox.enabled", {"status": "active"}, now)


def remove(conn: WriteConn, account_id: AccountId, mailbox_id: MailboxId, now: datetime, force: bool = False) -> None:
    """Take a mailbox out of service with its aliases, tokens and grants; with its messages when ``force``.

    The address is free, logins and mail are refused, no list shows it from this commit on; ``core.removal`` deletes the
    messages bit by bit, and until then they count against the account's quota. Errors: NotFound ``mailbox_not_found``,
    Conflict ``mailbox_not_empty``.
    """
    mailbox = get(conn, account_id, mailbox_id)
    if mailbox.messages and not force:
        raise Conflict(f"{mailbox.address} holds {mailbox.messages} messages.", code="mailbox_not_empty")
    _retire(conn, account_id, _M.id == mailbox_id, now)


def remove_of_domain(conn: WriteConn, account_id: AccountId, domain_id: DomainId, now: datetime) -> None:
    """As ``remove`` with ``force``, for every mailbox of a domain at once."""
    _retire(conn, account_id, _M.domain_id == domain_id, now)


def add_alias(
    conn: WriteConn,
    account_id: AccountId,
    address: str,
    mailbox_id: MailboxId,
    now: datetime,
    may_send: bool = True,
) -> Alias:
    """Let ``address`` lead to a mailbox too; call it again for further mailboxes behind the same alias.

    Errors: Invalid, NotFound ``domain_not_found`` (of the alias) or ``mailbox_not_found``, Conflict ``address_exists``
    (a mailbox's own address, or this very alias), LimitExceeded ``too_many_targets``.
    """
    wanted = addresses.normalise(address)
    mailbox = get(conn, account_id, mailbox_id)
    domain_id = _domain_of(conn, account_id, wanted)
    there = conn.execute(select(_A.mailbox_id, _A.kind).where(_A.address == wanted)).all()
    if any(row.kind == "mailbox" or row.mailbox_id == mailbox_id for row in there):
        raise Conflict(f"The address {wanted} is in use.", code="address_exists")
    if len(there) >= MAX_ALIAS_TARGETS:
        raise LimitExceeded(f"An alias leads to {MAX_ALIAS_TARGETS} mailboxes at most.", code="too_many_targets")
    moment = clock.to_micros(now)
    _add_address(conn, account_id, domain_id, wanted, mailbox_id, "alias", may_send, moment)
    body = {"address": wanted, "mailbox": mailbox.address}
    events.record(conn, account_id, "alias.added", body, mailbox_id=mailbox_id, now=now)
    return Alias(wanted, mailbox_id, mailbox.address, domain_id, may_send, clock.from_micros(moment))


def list_aliases(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId | None = None) -> list[Alias]:
    """The aliases of an account by address, or those of one mailbox."""
    statement = select(tables.addresses, _M.address.label("mailbox_address")).join(
        tables.mailboxes, _M.id == _A.mailbox_id
    )
    statement = statement.where(_A.account_id == account_id, _A.kind == "alias").order_by(_A.address, _A.mailbox_id)
    if mailbox_id is not None:
        statement = statement.where(_A.mailbox_id == mailbox_id)
    return [_alias(row) for row in conn.execute(statement).mappings()]


def remove_alias(
    conn: WriteConn, account_id: AccountId, address: str, now: datetime, mailbox_id: MailboxId | None = None
) -> None:
    """Take an alias away, from all its mailboxes or from one; NotFound ``alias_not_found``."""
    wanted = addresses.normalise(address)
    statement = delete(tables.addresses).where(_A.account_id == account_id, _A.address == wanted, _A.kind == "alias")
    if mailbox_id is not None:
        statement = statement.where(_A.mailbox_id == mailbox_id)
    if conn.execute(statement).rowcount == 0:
        raise NotFound("There is no such alias.", code="alias_not_found")
    events.record(conn, account_id, "alias.removed", {"address": wanted}, mailbox_id=mailbox_id, now=now)


def change_aliases(
    conn: WriteConn,
    account_id: AccountId,
    mailbox_id: MailboxId,
    add: Sequence[str],
    remove: Sequence[str],
    now: datetime,
    most: int,
) -> list[Alias]:
    """Take aliases of a mailbox away and add others, all or nothing; returns those it has then.

    Errors as of ``add_alias`` and ``remove_alias``; LimitExceeded ``too_many_aliases`` over ``most``.
    """
    for address in remove:
        remove_alias(conn, account_id, address, now, mailbox_id)
    for address in add:
        add_alias(conn, account_id, address, mailbox_id, now)
    found = list_aliases(conn, account_id, mailbox_id)
    if add and len(found) > most:
        raise LimitExceeded(f"A mailbox has {most} aliases at most.", code="too_many_aliases")
    return found


def _domain_of(conn: ReadConn, account_id: AccountId, address: str) -> DomainId:
    name = addresses.split(address)[1]
    d = tables.domains.c
    found = conn.execute(select(d.id).where(d.name == name, d.account_id == account_id)).scalar_one_or_none()
    if found is None:
        raise NotFound(f"The domain {name} is not one of this account.", code="domain_not_found")
    return DomainId(found)


def _add_address(
    conn: WriteConn,
    account_id: AccountId,
    domain_id: DomainId,
    address: str,
    mailbox_id: MailboxId,
    kind: str,
    may_send: bool,
    moment: int,
) -> None:
    conn.execute(
        insert(tables.addresses).values(
            address=address,
            mailbox_id=mailbox_id,
            account_id=account_id,
            domain_id=domain_id,
            kind=kind,
            may_send=int(may_send),
            created_at=moment,
        )
    )


def _set(
    conn: WriteConn, account_id: AccountId, mailbox_id: MailboxId, event: str, values: dict[str, Any], now: datetime
) -> Mailbox:
    before = _row(conn, account_id, mailbox_id)
    if any(before[key] != value for key, value in values.items()):
        statement = update(tables.mailboxes).where(_M.account_id == account_id, _M.id == mailbox_id)
        conn.execute(statement.values(**values))
        body = {key: value for key, value in values.items() if key != "password_hash"}
        events.record(conn, account_id, event, body, mailbox_id=mailbox_id, now=now)
    return get(conn, account_id, mailbox_id)


def _retire(conn: WriteConn, account_id: AccountId, chosen: ColumnElement[bool], now: datetime) -> None:
    """Mark the chosen mailboxes as removed: some statements for all of them, however many they are."""
    mine = _M.account_id == account_id, chosen, _IS_THERE
    facts = [
        events.NewEvent("mailbox.removed", {"address": row.address}, row.id)
        for row in conn.execute(select(_M.id, _M.address).where(*mine).order_by(_M.id))
    ]
    if not facts:
        return
    which = select(_M.id).where(*mine)
    for table in (tables.tokens, tables.permissions, tables.addresses, tables.retention_rules):
        conn.execute(delete(table).where(table.c.account_id == account_id, table.c.mailbox_id.in_(which)))
    d = tables.domains.c
    catching = update(tables.domains).where(d.account_id == account_id, d.catch_all_mailbox_id.in_(which))
    conn.execute(catching.values(catch_all_mailbox_id=None))
    gone = {"status": "removed", "address": None, "domain_id": None, "password_hash": None}
    conn.execute(update(tables.mailboxes).where(*mine).values(**gone))
    webhooks.remove_of_mailbox(conn, account_id, [MailboxId(fact.mailbox_id) for fact in facts if fact.mailbox_id], now)
    events.record_all(conn, account_id, facts, now=now)


def _row(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId) -> RowMapping:
    statement = select(tables.mailboxes).where(_M.account_id == account_id, _M.id == mailbox_id, _IS_THERE)
    row = conn.execute(statement).mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such mailbox.", code="mailbox_not_found")
    return row


def _require_name(name: str) -> None:
    if len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise Invalid("A name has at most 255 printable characters.", details={"name": "at most 255 characters"})


def _require_quota(quota_bytes: int | None) -> None:
    if quota_bytes is not None and not 0 <= quota_bytes < 2**62:
        raise Invalid("A quota is a number of bytes, 0 or more.", details={"quota_bytes": "0 or more"})


def _mailbox(row: RowMapping | dict[str, Any]) -> Mailbox:
    return Mailbox(
        id=MailboxId(row["id"]),
        account_id=AccountId(row["account_id"]),
        domain_id=DomainId(row["domain_id"]),
        address=row["address"],
        public_id=UUID(row["public_id"]),
        name=row["name"],
        role=row["role"],
        status=row["status"],
        has_password=row["password_hash"] is not None,
        quota_bytes=row["quota_bytes"],
        used_bytes=row["used_bytes"],
        messages=row["messages"],
        created_at=clock.from_micros(row["created_at"]),
    )


def _alias(row: RowMapping) -> Alias:
    return Alias(
        address=row["address"],
        mailbox_id=MailboxId(row["mailbox_id"]),
        mailbox_address=row["mailbox_address"],
        domain_id=DomainId(row["domain_id"]),
        may_send=bool(row["may_send"]),
        created_at=clock.from_micros(row["created_at"]),
    )
