"""Permissions: grants to a mailbox's user over a domain (the Mail API's model; operators hold all implicitly)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, RowMapping, bindparam, delete, func, insert, select

from restante import clock
from restante.core import domains, events, mailboxes
from restante.core.messages import Page
from restante.errors import Invalid
from restante.ids import AccountId, DomainId, MailboxId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn
from restante.schema.prepared import Prepared

MANAGE_USERS = "manage_users"
MANAGE_DOMAINS = "manage_domains"
VIEW_MAILBOX = "view_mailbox"
VIEW_STATS = "view_stats"
SEND_MAIL = "send_mail"

CATALOGUE: dict[str, str] = {
    MANAGE_USERS: "create, update and delete users in the domain",
    MANAGE_DOMAINS: "see the DNS configuration of the domain and verify its records",
    VIEW_MAILBOX: "read the mail of any user in the domain",
    VIEW_STATS: "see delivery statistics of the domain",
    SEND_MAIL: "send as any user in the domain",
}

_P, _D, _M = tables.permissions.c, tables.domains.c, tables.mailboxes.c
_HAS = Prepared(
    select(_P.permission).where(
        _P.account_id == bindparam("account"),
        _P.mailbox_id == bindparam("mailbox"),
        _P.domain_id == bindparam("domain"),
        _P.permission == bindparam("permission"),
    )
)
_GRANTS = (
    select(tables.permissions, _D.name.label("domain"), _M.address)
    .join(tables.domains, _D.id == _P.domain_id)
    .join(tables.mailboxes, _M.id == _P.mailbox_id)
)


@dataclass(frozen=True, slots=True)
class Grant:
    """One permission of one user, named by their address, over one domain."""

    mailbox_id: MailboxId
    address: str
    domain_id: DomainId
    domain: str
    permission: str
    created_at: datetime


def grant_bulk(
    conn: WriteConn,
    account_id: AccountId,
    mailbox_id: MailboxId,
    domain_id: DomainId,
    names: Sequence[str],
    now: datetime,
    domain_account_id: AccountId | None = None,
) -> tuple[list[str], list[str]]:
    """Grant permissions over a domain; returns (granted, skipped as already there), both in the order asked for.

    Repeats collapse. The domain is one of the account's own unless the operator names its other account. Errors:
    Invalid ``invalid_permission`` (nothing is granted then), NotFound ``mailbox_not_found``, ``domain_not_found``.
    """
    wanted = list(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in CATALOGUE]
    if unknown:
        message = f"There is no permission {unknown[0][:100]!r}."
        raise Invalid(message, code="invalid_permission", details={"permissions": f"of {', '.join(CATALOGUE)}"})
    mailboxes.get(conn, account_id, mailbox_id)
    domain = domains.get(conn, account_id if domain_account_id is None else domain_account_id, domain_id)
    there = set(conn.execute(select(_P.permission).where(*_mine(account_id, mailbox_id, domain_id))).scalars())
    granted = [name for name in wanted if name not in there]
    for name in granted:
        conn.execute(
            insert(tables.permissions).values(
                mailbox_id=mailbox_id,
                domain_id=domain_id,
                permission=name,
                account_id=account_id,
                created_at=clock.to_micros(now),
            )
        )
    if granted:
        body = {"domain": domain.name, "permissions": granted}
        events.record(conn, account_id, "permission.granted", body, mailbox_id=mailbox_id, now=now)
    return granted, [name for name in wanted if name in there]


def list_grants(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId) -> list[Grant]:
    """What a user was granted, by domain and permission; NotFound ``mailbox_not_found``."""
    mailboxes.get(conn, account_id, mailbox_id)
    statement = _GRANTS.where(_P.account_id == account_id, _P.mailbox_id == mailbox_id)
    return [_grant(row) for row in conn.execute(statement.order_by(_D.name, _P.permission)).mappings()]


def list_page(conn: ReadConn, domain_id: DomainId | None = None, *, limit: int, offset: int = 0) -> Page[Grant]:
    """Grants over a domain, or all of the instance, by user, domain and permission (for the operator)."""
    which = [] if domain_id is None else [_P.domain_id == domain_id]
    total = conn.execute(select(func.count()).select_from(tables.permissions).where(*which)).scalar_one()
    statement = _GRANTS.where(*which).order_by(_M.address, _D.name, _P.permission).limit(limit).offset(offset)
    return Page(total, [_grant(row) for row in conn.execute(statement).mappings()])


def list_domain_ids(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId, name: str) -> list[DomainId]:
    """The domains over which a user was granted the permission."""
    mine = _P.account_id == account_id, _P.mailbox_id == mailbox_id, _P.permission == name
    return [DomainId(found) for found in conn.execute(select(_P.domain_id).where(*mine)).scalars()]


def revoke(
    conn: WriteConn, account_id: AccountId, mailbox_id: MailboxId, domain_id: DomainId, name: str, now: datetime
) -> bool:
    """Take a grant away; False when it was not there. NotFound ``mailbox_not_found``."""
    mailboxes.get(conn, account_id, mailbox_id)
    mine = _mine(account_id, mailbox_id, domain_id)
    if conn.execute(delete(tables.permissions).where(*mine, _P.permission == name)).rowcount == 0:
        return False
    body = {"domain_id": int(domain_id), "permissions": [name]}
    events.record(conn, account_id, "permission.revoked", body, mailbox_id=mailbox_id, now=now)
    return True


def has(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId, domain_id: DomainId, name: str) -> bool:
    """Whether the user of a mailbox was granted the permission over a domain."""
    key = {"account": account_id, "mailbox": mailbox_id, "domain": domain_id, "permission": name}
    return _HAS.row(conn, key) is not None


def _grant(row: RowMapping) -> Grant:
    return Grant(
        mailbox_id=MailboxId(row["mailbox_id"]),
        address=row["address"],
        domain_id=DomainId(row["domain_id"]),
        domain=row["domain"],
        permission=row["permission"],
        created_at=clock.from_micros(row["created_at"]),
    )


def _mine(account_id: AccountId, mailbox_id: MailboxId, domain_id: DomainId) -> tuple[ColumnElement[bool], ...]:
    return _P.account_id == account_id, _P.mailbox_id == mailbox_id, _P.domain_id == domain_id
