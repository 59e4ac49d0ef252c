"""Rules of retention: limits for the mail of an account, a domain or a mailbox, and which of them hold for a mailbox.

Every limit is of each mailbox by itself. The nearest scope that sets it wins, limit by limit. Folders that a rule names
by their role follow such rules alone, each folder by itself; a rule that names none is about all other folders
together, without Sent, Drafts and Trash.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, delete, func, insert, or_, select

from restante import clock
from restante.core import events
from restante.core.messages import TRASH
from restante.errors import Invalid, LimitExceeded, NotFound
from restante.ids import AccountId, DomainId, MailboxId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn

MAX_RULES = 1000  # of an account
MAX_DAYS = 36_500
MAX_NUMBER = 2**62
ROLES = ("inbox", "sent", "drafts", "junk", "archive")
SPARED = ("sent", "drafts", TRASH)  # by rules that name no folder
OTHERS = ""  # in the place of a role: all folders that are not spared and that no rule names

_r, _b, _d, _f = tables.retention_rules.c, tables.mailboxes.c, tables.domains.c, tables.folders.c


class Scope(NamedTuple):
    """Whose mail: a mailbox's, a domain's mailboxes', or (neither) the account's; in one folder or in the others."""

    domain_id: DomainId | None = None
    mailbox_id: MailboxId | None = None
    role: str = OTHERS


class Limits(NamedTuple):
    """What is kept: mail of so many days, so many messages, so many bytes. None: nothing is said; 0: no limit."""

    days: int | None = None
    messages: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """The limits of one scope; ``domain`` and ``mailbox`` are its names."""

    scope: Scope
    domain: str | None
    mailbox: str | None
    limits: Limits
    updated_at: datetime


class Bound(NamedTuple):
    """The limits that hold for a folder of a mailbox, or for the ``OTHERS`` together: all but those of ``besides``."""

    role: str
    besides: tuple[str, ...]
    limits: Limits

    def is_about(self) -> ColumnElement[bool]:
        """Whether a folder is one of them, as SQL."""
        return _f.role == self.role if self.role else or_(_f.role.is_(None), _f.role.not_in(self.besides))


class Cover(NamedTuple):
    """Which mailboxes of an account have rules: all, or those of some domains and some more; and which roles."""

    is_whole: bool
    domain_ids: tuple[DomainId, ...]
    mailbox_ids: tuple[MailboxId, ...]
    roles: tuple[str, ...]

    def holds(self) -> ColumnElement[bool]:
        """Whether a mailbox in service is among them, as SQL."""
        some = or_(_b.domain_id.in_(self.domain_ids), _b.id.in_(self.mailbox_ids))
        return _b.status != "removed" if self.is_whole else (_b.status != "removed") & some


def set_rule(conn: WriteConn, account_id: AccountId, scope: Scope, limits: Limits, now: datetime) -> Rule:
    """Give a scope these limits, in the place of those it had. Records ``retention.rule_set``.

    Errors: Invalid, NotFound ``domain_not_found`` or ``mailbox_not_found``, LimitExceeded ``too_many_rules``.
    """
    _require_sound(scope, limits)
    events.bounds(conn, account_id)  # NotFound account_not_found
    names = _names(conn, account_id, scope)
    conn.execute(delete(tables.retention_rules).where(*_at(account_id, scope)))
    count = select(func.count()).select_from(tables.retention_rules).where(_r.account_id == account_id)
    if conn.execute(count).scalar_one() >= MAX_RULES:
        raise LimitExceeded(f"An account has {MAX_RULES} rules at most.", code="too_many_rules")
    micros = clock.to_micros(now)
    key = {
        "account_id": account_id,
        "domain_id": scope.domain_id or 0,
        "mailbox_id": scope.mailbox_id or 0,
        "role": scope.role,
    }
    conn.execute(insert(tables.retention_rules).values(key | limits._asdict() | {"updated_at": micros}))
    events.record(
        conn, account_id, "retention.rule_set", names | limits._asdict(), now=now, mailbox_id=scope.mailbox_id
    )
    return Rule(scope, names["domain"], names["mailbox"], limits, clock.from_micros(micros))


def remove_rule(conn: WriteConn, account_id: AccountId, scope: Scope, now: datetime) -> None:
    """Take the rule of a scope away. Records ``retention.rule_removed``. NotFound ``rule_not_found``."""
    if conn.execute(delete(tables.retention_rules).where(*_at(account_id, scope))).rowcount == 0:
        raise NotFound("There is no such rule.", code="rule_not_found")
    names = _names(conn, account_id, scope)
    events.record(conn, account_id, "retention.rule_removed", names, now=now, mailbox_id=scope.mailbox_id)


def list_rules(conn: ReadConn, account_id: AccountId) -> list[Rule]:
    """The rules of an account: the widest scope first."""
    joined = tables.retention_rules.outerjoin(
        tables.domains, (_d.account_id == _r.account_id) & (_d.id == _r.domain_id)
    )
    joined = joined.outerjoin(tables.mailboxes, (_b.account_id == _r.account_id) & (_b.id == _r.mailbox_id))
    rows = conn.execute(
        select(tables.retention_rules, _d.name.label("domain"), _b.address.label("mailbox"))
        .select_from(joined)
        .where(_r.account_id == account_id)
        .order_by(_r.mailbox_id, _r.domain_id, _r.role)
    )
    return [
        Rule(
            Scope(DomainId(row.domain_id) or None, MailboxId(row.mailbox_id) or None, row.role),
            row.domain,
            row.mailbox,
            Limits(row.days, row.messages, row.bytes),
            clock.from_micros(row.updated_at),
        )
        for row in rows
    ]


def cover(conn: ReadConn, account_id: AccountId) -> Cover | None:
    """Which mailboxes the rules of an account are about; None when it has none."""
    rows = conn.execute(select(_r.domain_id, _r.mailbox_id, _r.role).where(_r.account_id == account_id)).all()
    if not rows:
        return None
    return Cover(
        any(row.domain_id == row.mailbox_id == 0 for row in rows),
        tuple(DomainId(row.domain_id) for row in rows if row.domain_id),
        tuple(MailboxId(row.mailbox_id) for row in rows if row.mailbox_id),
        tuple(row.role for row in rows),
    )


def bounds(conn: ReadConn, account_id: AccountId, mailbox_id: MailboxId) -> list[Bound]:
    """What holds for a mailbox: for each folder that rules name, and for the others."""
    own = select(_b.domain_id).where(_b.account_id == account_id, _b.id == mailbox_id)
    domain_id = conn.execute(own).scalar()
    if domain_id is None:
        return []
    rows = conn.execute(
        select(tables.retention_rules)
        .where(_r.account_id == account_id, _r.domain_id.in_((0, domain_id)), _r.mailbox_id.in_((0, mailbox_id)))
        .order_by(_r.mailbox_id.desc(), _r.domain_id.desc())  # the nearest scope first
    )
    found: dict[str, Limits] = {}
    for row in rows:
        nearer = found.get(row.role, Limits())
        wider = Limits(row.days, row.messages, row.bytes)
        found[row.role] = Limits(*[far if near is None else near for near, far in zip(nearer, wider, strict=True)])
    besides = tuple(dict.fromkeys((*SPARED, *filter(None, found))))
    return [Bound(role, besides, limits) for role, limits in found.items()]


def _require_sound(scope: Scope, limits: Limits) -> None:
    if scope.role != OTHERS and scope.role not in ROLES:
        allowed = ", ".join(ROLES)
        raise Invalid("A rule cannot be about that folder.", details={"folder": f"one of {allowed}"})
    if scope.domain_id is not None and scope.mailbox_id is not None:
        raise Invalid("A rule has one scope.", details={"mailbox": "not beside a domain"})
    if limits == Limits():
        raise Invalid("A rule sets a limit.", details={"days": "days, messages or bytes"})
    for name, value, most in zip(Limits._fields, limits, (MAX_DAYS, MAX_NUMBER, MAX_NUMBER), strict=True):
        if value is not None and not 0 <= value <= most:
            raise Invalid("That is no limit.", details={name: f"0 to {most}"})


def _names(conn: ReadConn, account_id: AccountId, scope: Scope) -> dict[str, Any]:
    """The scope as events name it. Raises NotFound for what is not the account's."""
    domain = mailbox = None
    if scope.domain_id is not None:
        domain = conn.execute(select(_d.name).where(_d.account_id == account_id, _d.id == scope.domain_id)).scalar()
        if domain is None:
            raise NotFound("There is no such domain.", code="domain_not_found")
    if scope.mailbox_id is not None:
        mine = _b.account_id == account_id, _b.id == scope.mailbox_id
        mailbox = conn.execute(select(_b.address).where(*mine)).scalar()
        if mailbox is None:
            raise NotFound("There is no such mailbox.", code="mailbox_not_found")
    return {"domain": domain, "mailbox": mailbox, "folder": scope.role or None}


def _at(account_id: AccountId, scope: Scope) -> tuple[ColumnElement[bool], ...]:
    place = _r.domain_id == (scope.domain_id or 0), _r.mailbox_id == (scope.mailbox_id or 0)
    return _r.account_id == account_id, *place, _r.role == scope.role
