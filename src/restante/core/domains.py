"""Domains: whose they are, whether the operator approved them, whether DNS proves them.

A domain counts as local (mail for it is taken) only when it is approved **and** its DNS status is ``verified`` or
``forced``: a tenant who adds somebody else's domain gets none of its mail.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import RowMapping, delete, func, insert, select, update

from restante import clock
from restante.core import accounts, events, mailboxes, messages
from restante.errors import Conflict, Invalid, NotFound
from restante.ids import AccountId, DomainId, MailboxId
from restante.mail import address as addresses
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn

DnsStatus = Literal["pending", "verified", "forced"]

_D = tables.domains.c


@dataclass(frozen=True, slots=True)
class Domain:
    """One domain; ``created_by`` is the address of whoever signed up with it.

    ``dns_missing_since``: since when DNS answers without a proof that it had shown before.
    """

    id: DomainId
    account_id: AccountId
    name: str
    approved_at: datetime | None
    dns_status: DnsStatus
    dns_token: str
    dns_checked_at: datetime | None
    dns_missing_since: datetime | None
    catch_all_mailbox_id: MailboxId | None
    created_by: str | None
    created_at: datetime

    @property
    def is_approved(self) -> bool:
        """Whether the operator agreed."""
        return self.approved_at is not None

    @property
    def is_local(self) -> bool:
        """Whether mail for it is ours."""
        return self.approved_at is not None and self.dns_status in ("verified", "forced")


@dataclass(frozen=True, slots=True)
class DkimKey:
    """A signing key: the private half sealed by the vault, the public half as in the ``p=`` tag (RFC 6376 §3.6.1)."""

    selector: str
    algorithm: Literal["rsa-sha256", "ed25519-sha256"]
    private_key: str
    public_key: str


def normalise_name(name: str) -> str:
    """A domain name in stored form: lower case, IDNA A-labels, no final dot; Invalid ``invalid_domain``."""
    try:
        found = addresses.normalise_domain(name)
    except Invalid as error:
        raise _invalid_name() from error
    if found.startswith("[") or found.rpartition(".")[2].isdigit():  # an IP address is not a domain
        raise _invalid_name()
    return found


def add(
    conn: WriteConn,
    account_id: AccountId,
    name: str,
    now: datetime,
    created_by: str | None = None,
    approved: bool = True,
    dns_status: DnsStatus = "pending",
) -> Domain:
    """Add a domain to an account: approved at once unless it came by a signup, proved by DNS later.

    Errors: Invalid ``invalid_domain``, NotFound ``account_not_found``, Conflict ``domain_exists`` (any account's).
    """
    wanted = normalise_name(name)
    accounts.get(conn, account_id)
    if find_by_name(conn, wanted) is not None:
        raise Conflict(f"The domain {wanted} is here already.", code="domain_exists")
    moment = clock.to_micros(now)
    row = insert(tables.domains).values(
        account_id=account_id,
        name=wanted,
        approved_at=moment if approved else None,
        dns_status=dns_status,
        dns_token=secrets.token_hex(16),
        created_by=created_by,
        created_at=moment,
    )
    domain_id = DomainId(conn.execute(row.returning(_D.id)).scalar_one())
    body = {"domain": wanted, "approved": approved, "dns_status": dns_status}
    events.record(conn, account_id, "domain.added", body, now=now)
    return get(conn, account_id, domain_id)


def list_domains(conn: ReadConn, account_id: AccountId) -> list[Domain]:
    """The domains of an account by name."""
    rows = conn.execute(select(tables.domains).where(_D.account_id == account_id).order_by(_D.name)).mappings()
    return [_domain(row) for row in rows]


def list_all(conn: ReadConn) -> list[Domain]:
    """Every domain of the instance by name (for the operator)."""
    return [_domain(row) for row in conn.execute(select(tables.domains).order_by(_D.name)).mappings()]


def list_page(
    conn: ReadConn, domain_ids: Sequence[DomainId] | None, *, limit: int, offset: int = 0
) -> messages.Page[Domain]:
    """Some domains (None: all, for the operator) by name."""
    which = [] if domain_ids is None else [_D.id.in_(domain_ids)]
    total = conn.execute(select(func.count()).select_from(tables.domains).where(*which)).scalar_one()
    statement = select(tables.domains).where(*which).order_by(_D.name).limit(limit).offset(offset)
    return messages.Page(total, [_domain(row) for row in conn.execute(statement).mappings()])


def list_pending(conn: ReadConn) -> list[Domain]:
    """The domains of all accounts that wait for the operator, oldest first, with ``created_by``."""
    statement = select(tables.domains).where(_D.approved_at.is_(None)).order_by(_D.created_at, _D.id)
    return [_domain(row) for row in conn.execute(statement).mappings()]


def list_unproved(conn: ReadConn, limit: int) -> list[Domain]:
    """Domains whose DNS proof is open, those not asked for longest first (for the instance's checking job)."""
    asked = func.coalesce(_D.dns_checked_at, 0)
    statement = select(tables.domains).where(_D.dns_status == "pending").order_by(asked, _D.id).limit(limit)
    return [_domain(row) for row in conn.execute(statement).mappings()]


def list_proved(conn: ReadConn, before: datetime, limit: int) -> list[Domain]:
    """Domains that DNS proved and that were last looked at before then, the longest first (as ``list_unproved``)."""
    statement = select(tables.domains).where(_D.dns_status == "verified", _D.dns_checked_at < clock.to_micros(before))
    rows = conn.execute(statement.order_by(_D.dns_checked_at, _D.id).limit(limit)).mappings()
    return [_domain(row) for row in rows]


def get(conn: ReadConn, account_id: AccountId, domain_id: DomainId) -> Domain:
    """The domain; NotFound ``domain_not_found``."""
    statement = select(tables.domains).where(_D.account_id == account_id, _D.id == domain_id)
    row = conn.execute(statement).mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such domain.", code="domain_not_found")
    return _domain(row)


def find(conn: ReadConn, account_id: AccountId, name: str) -> Domain | None:
    """The account's domain of that name; nonsense finds nothing."""
    found = find_by_name(conn, name)
    return found if found is not None and found.account_id == account_id else None


def find_by_name(conn: ReadConn, name: str) -> Domain | None:
    """The domain of that name, whatever its account (for the operator, and to see whether a name is free)."""
    try:
        wanted = normalise_name(name)
    except Invalid:
        return None
    row = conn.execute(select(tables.domains).where(_D.name == wanted)).mappings().one_or_none()
    return None if row is None else _domain(row)


def approve(conn: WriteConn, account_id: AccountId, domain_id: DomainId, key: DkimKey | None, now: datetime) -> Domain:
    """Note the operator's consent and keep the domain's signing key with it.

    Errors: NotFound ``domain_not_found``, Conflict ``domain_already_active``. It proves nothing: the DNS status stays.
    """
    domain = get(conn, account_id, domain_id)
    if domain.is_approved:
        raise Conflict(f"The domain {domain.name} is active already.", code="domain_already_active")
    statement = update(tables.domains).where(_D.account_id == account_id, _D.id == domain_id)
    conn.execute(statement.values(approved_at=clock.to_micros(now)))
    if key is not None:
        add_key(conn, account_id, domain_id, key, now)
    events.record(conn, account_id, "domain.approved", {"domain": domain.name}, now=now)
    return get(conn, account_id, domain_id)


def add_key(conn: WriteConn, account_id: AccountId, domain_id: DomainId, key: DkimKey, now: datetime) -> None:
    """Keep a signing key; Conflict ``selector_exists``."""
    domain = get(conn, account_id, domain_id)
    k = tables.dkim_keys.c
    if conn.execute(select(k.id).where(k.domain_id == domain_id, k.selector == key.selector)).first() is not None:
        raise Conflict(f"{domain.name} has a key {key.selector} already.", code="selector_exists")
    conn.execute(
        insert(tables.dkim_keys).values(
            account_id=account_id,
            domain_id=domain_id,
            selector=key.selector,
            algorithm=key.algorithm,
            private_key=key.private_key,
            public_key=key.public_key,
            created_at=clock.to_micros(now),
        )
    )


def list_keys(conn: ReadConn, account_id: AccountId, domain_id: DomainId) -> list[DkimKey]:
    """The signing keys of a domain, newest first."""
    k = tables.dkim_keys.c
    statement = select(tables.dkim_keys).where(k.account_id == account_id, k.domain_id == domain_id)
    rows = conn.execute(statement.order_by(k.id.desc())).mappings()
    return [DkimKey(row["selector"], row["algorithm"], row["private_key"], row["public_key"]) for row in rows]


def count_keys(conn: ReadConn) -> int:
    """How many signing keys the instance has sealed (for its start)."""
    return int(conn.execute(select(func.count()).select_from(tables.dkim_keys)).scalar_one())


def forget_keys(conn: WriteConn) -> None:
    """Delete every signing key: the secret that seals them is lost (for the operator)."""
    conn.execute(delete(tables.dkim_keys))


def replace_key(
    conn: WriteConn, account_id: AccountId, domain_id: DomainId, selector: str, before: str, private_key: str
) -> bool:
    """Put a newly sealed private key in the place of ``before``; False when it changed meanwhile."""
    k = tables.dkim_keys.c
    mine = k.account_id == account_id, k.domain_id == domain_id, k.selector == selector, k.private_key == before
    return conn.execute(update(tables.dkim_keys).where(*mine).values(private_key=private_key)).rowcount == 1


def set_dns_status(
    conn: WriteConn, account_id: AccountId, domain_id: DomainId, status: DnsStatus, now: datetime
) -> Domain:
    """Note what DNS shows of the domain, or that the operator forces it; a repeat only moves the check's time.

    NotFound ``domain_not_found``.
    """
    before = get(conn, account_id, domain_id)
    statement = update(tables.domains).where(_D.account_id == account_id, _D.id == domain_id)
    values = {"dns_status": status, "dns_checked_at": clock.to_micros(now), "dns_missing_since": None}
    conn.execute(statement.values(**values))
    if before.dns_status != status:
        body = {"domain": before.name, "dns_status": status}
        events.record(conn, account_id, "domain.dns_status_set", body, now=now)
    return get(conn, account_id, domain_id)


def note_missing_proof(conn: WriteConn, account_id: AccountId, domain_id: DomainId, now: datetime) -> Domain:
    """Note that DNS answers without the proof of a domain proved before; its status stays.

    The first time records ``domain.proof_missing``. NotFound ``domain_not_found``.
    """
    before = get(conn, account_id, domain_id)
    moment = clock.to_micros(now)
    values = {"dns_checked_at": moment}
    if before.dns_missing_since is None:
        values["dns_missing_since"] = moment
        events.record(conn, account_id, "domain.proof_missing", {"domain": before.name}, now=now)
    conn.execute(update(tables.domains).where(_D.account_id == account_id, _D.id == domain_id).values(**values))
    return get(conn, account_id, domain_id)


def note_silence(conn: WriteConn, account_id: AccountId, domain_id: DomainId, now: datetime) -> None:
    """Note that DNS was asked and did not answer: only the check's time moves. NotFound ``domain_not_found``."""
    get(conn, account_id, domain_id)
    statement = update(tables.domains).where(_D.account_id == account_id, _D.id == domain_id)
    conn.execute(statement.values(dns_checked_at=clock.to_micros(now)))


def set_catch_all(
    conn: WriteConn, account_id: AccountId, domain_id: DomainId, mailbox_id: MailboxId | None, now: datetime
) -> Domain:
    """Send mail for unknown addresses of the domain to a mailbox of the account; None refuses such mail again."""
    domain = get(conn, account_id, domain_id)
    address = None if mailbox_id is None else mailboxes.get(conn, account_id, mailbox_id).address
    if domain.catch_all_mailbox_id == mailbox_id:
        return domain
    statement = update(tables.domains).where(_D.account_id == account_id, _D.id == domain_id)
    conn.execute(statement.values(catch_all_mailbox_id=mailbox_id))
    body: dict[str, Any] = {"domain": domain.name, "mailbox": address}
    events.record(conn, account_id, "domain.catch_all_set", body, mailbox_id=mailbox_id, now=now)
    return get(conn, account_id, domain_id)


def remove(conn: WriteConn, account_id: AccountId, domain_id: DomainId, now: datetime, force: bool = False) -> None:
    """Delete the domain with its keys, aliases, grants and mailboxes; with their messages when ``force``.

    The name is free from this commit on; ``core.removal`` deletes the messages. Errors: NotFound ``domain_not_found``,
    Conflict ``domain_not_empty`` (without ``force``, when a mailbox holds mail).
    """
    domain = get(conn, account_id, domain_id)
    m = tables.mailboxes.c
    full = select(m.address).where(m.account_id == account_id, m.domain_id == domain_id, m.messages > 0)
    kept = None if force else conn.execute(full.order_by(m.address).limit(1)).scalar_one_or_none()
    if kept is not None:
        raise Conflict(f"The domain {domain.name} has mail in {kept}.", code="domain_not_empty")
    mailboxes.remove_of_domain(conn, account_id, domain_id, now)
    for own in (tables.addresses, tables.retention_rules):
        conn.execute(delete(own).where(own.c.account_id == account_id, own.c.domain_id == domain_id))
    for table in (tables.permissions, tables.dkim_keys):  # grants over it may be another account's
        conn.execute(delete(table).where(table.c.domain_id == domain_id))
    conn.execute(delete(tables.domains).where(_D.account_id == account_id, _D.id == domain_id))
    events.record(conn, account_id, "domain.removed", {"domain": domain.name}, now=now)


def list_expired(conn: ReadConn, now: datetime, lifetime: timedelta, limit: int) -> list[Domain]:
    """Domains that nobody approved within ``lifetime``, the oldest first (for the instance's job)."""
    overdue = clock.to_micros(now - lifetime)
    statement = select(tables.domains).where(_D.approved_at.is_(None), _D.created_at <= overdue)
    rows = conn.execute(statement.order_by(_D.created_at, _D.id).limit(limit)).mappings()
    return [_domain(row) for row in rows]


def _invalid_name() -> Invalid:
    return Invalid("That is not a domain name.", code="invalid_domain", details={"domain": "not a domain name"})


def _domain(row: RowMapping) -> Domain:
    catch_all = row["catch_all_mailbox_id"]
    return Domain(
        id=DomainId(row["id"]),
        account_id=AccountId(row["account_id"]),
        name=row["name"],
        approved_at=clock.optional_from_micros(row["approved_at"]),
        dns_status=row["dns_status"],
        dns_token=row["dns_token"],
        dns_checked_at=clock.optional_from_micros(row["dns_checked_at"]),
        dns_missing_since=clock.optional_from_micros(row["dns_missing_since"]),
        catch_all_mailbox_id=None if catch_all is None else MailboxId(catch_all),
        created_by=row["created_by"],
        created_at=clock.from_micros(row["created_at"]),
    )
