"""Automations: what an account has done about mail that comes in. Their runs are ``core.automation_runs``'s.

Nothing is done for them when a message is delivered: a cursor of the account remembers up to which event of its log
received messages have become runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from types import SimpleNamespace
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import bindparam, func, insert, select, update

from restante import clock
from restante.core import events, idempotency
from restante.core.idempotency import Once
from restante.errors import Invalid, LimitExceeded, NotFound
from restante.ids import AccountId, AutomationId, EventNumber
from restante.mail import patterns, serialize
from restante.schema import counters, tables
from restante.schema.connections import ReadConn, WriteConn
from restante.schema.prepared import Prepared, Row

PayloadFormat = Literal["json", "raw", "json_with_bodies"]

FORMATS: tuple[PayloadFormat, ...] = ("json", "raw", "json_with_bodies")
MAX_AUTOMATIONS = 50  # of an account
MAX_TITLE = 255  # characters
LOST = ""  # in the place of a sealed secret that nothing opens any more

_a, _x = tables.automations.c, tables.automation_cursors.c
_ACTIVE = _a.status == "active"
_NAMES = tables.automations.columns.keys()
_OF_ACCOUNT = select(tables.automations).where(_a.account_id == bindparam("account"), _ACTIVE)
_ALL = Prepared(_OF_ACCOUNT.order_by(_a.id))
_BY_ID = Prepared(_OF_ACCOUNT.where(_a.id == bindparam("automation")))
_BY_PUBLIC_ID = Prepared(_OF_ACCOUNT.where(_a.public_id == bindparam("public_id")))


@dataclass(frozen=True, slots=True)
class Conditions:
    """Which messages. All that is set must match; ``has_attachments``: only those that have some.

    Patterns (``mail.patterns``; None: any) are for the address of From, the envelope's recipient, and the subject.
    """

    sender: str | None = None
    inbox: str | None = None
    subject: str | None = None
    has_attachments: bool = False

    def match(self, sender: str, inbox: str, subject: str, attachments: int) -> bool:
        """Whether a message is one of them."""
        return (
            (not self.has_attachments or attachments > 0)
            and (self.sender is None or patterns.matches(self.sender, sender))
            and (self.inbox is None or patterns.matches(self.inbox, inbox))
            and (self.subject is None or patterns.matches(self.subject, subject))
        )


@dataclass(frozen=True, slots=True)
class NewAutomation:
    """An automation to be: calls ``url``, or forwards to ``forward_to``, or neither; then ``deletes`` the message.

    ``secret_token`` is sealed.
    """

    title: str
    conditions: Conditions = Conditions()
    url: str | None = None
    payload_format: PayloadFormat = "json"
    secret_token: str | None = None
    forward_to: str | None = None
    deletes: bool = False


@dataclass(frozen=True, slots=True)
class Automation:
    """An automation. Secrets are sealed; ``in_error``: the newest attempt failed; ``retry_at``: no attempt before then.

    ``since_number``: events up to here were before it.
    """

    id: AutomationId
    account_id: AccountId
    public_id: UUID
    title: str
    conditions: Conditions
    url: str | None
    payload_format: PayloadFormat
    secret_token: str | None
    signing_secret: str
    forward_to: str | None
    deletes: bool
    since_number: EventNumber
    emails_received: int
    in_error: bool
    last_error: str | None
    failures: int
    retry_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @property
    def has_action(self) -> bool:
        """Whether a run of it does anything that can fail."""
        return self.url is not None or self.forward_to is not None


def secret_purpose(public_id: UUID) -> str:
    """What the vault binds its secrets to: they open for this automation only."""
    return f"automation:{public_id}"


def require_sound(new: NewAutomation) -> None:
    """Let pass what can be an automation (no transaction is needed); Invalid naming the field."""
    if not serialize.clean(new.title) or len(new.title) > MAX_TITLE:
        raise Invalid("An automation needs a title.", details={"title": f"1 to {MAX_TITLE} characters"})
    for field in ("sender", "inbox", "subject"):
        pattern = getattr(new.conditions, field)
        if pattern is not None:
            patterns.require(pattern, field)
    if new.payload_format not in FORMATS:
        raise Invalid("There is no such form.", details={"payload_format": ", ".join(FORMATS)})
    if new.url is not None and new.forward_to is not None:
        raise Invalid("It calls or it forwards.", details={"forward_to": "not beside url"})


def create(
    conn: WriteConn, account_id: AccountId, public_id: UUID, new: NewAutomation, signing_secret: str, now: datetime,
    once: Once | None = None,
) -> Automation:  # fmt: skip
    """Add an automation; it runs for mail that comes in from now on. Records ``automation.created``.

    ``new`` is sound (``require_sound``). A request made before under the same key (``once``) gives that automation
    again. Errors: NotFound ``account_not_found``, LimitExceeded ``too_many_automations``, Conflict
    ``idempotency_conflict``.
    """
    if once is not None:
        first = idempotency.take(conn, account_id, once, public_id.bytes, now)
        if first != public_id.bytes:
            return get(conn, account_id, UUID(bytes=first))
    newest, _ = events.bounds(conn, account_id)
    count = len(list_automations(conn, account_id))
    if count >= MAX_AUTOMATIONS:
        raise LimitExceeded(f"An account has {MAX_AUTOMATIONS} automations at most.", code="too_many_automations")
    if count == 0:
        _begin(conn, account_id, newest)
    micros = clock.to_micros(now)
    values = _values(new) | {
        "account_id": account_id,
        "public_id": str(public_id),
        "signing_secret": signing_secret,
        "status": "active",
        "since_number": newest,
        "created_at": micros,
        "updated_at": micros,
    }
    conn.execute(insert(tables.automations).values(values))
    _tell(conn, account_id, "automation.created", public_id, new.title, now)
    return get(conn, account_id, public_id)


def change(conn: WriteConn, account_id: AccountId, public_id: UUID, new: NewAutomation, now: datetime) -> Automation:
    """Give an automation other properties, all of them. Records ``automation.updated``.

    ``new`` is sound. Runs that wait are done in the new way. NotFound ``automation_not_found``.
    """
    found = get(conn, account_id, public_id)
    values = _values(new) | {"updated_at": clock.to_micros(now), "failures": 0, "retry_at": None}
    conn.execute(update(tables.automations).where(_a.account_id == account_id, _a.id == found.id).values(values))
    _tell(conn, account_id, "automation.updated", public_id, new.title, now)
    return get(conn, account_id, public_id)


def remove(conn: WriteConn, account_id: AccountId, public_id: UUID, now: datetime) -> None:
    """Run it no more; its runs are deleted bit by bit. Records ``automation.deleted``.

    NotFound ``automation_not_found``.
    """
    found = get(conn, account_id, public_id)
    values = {"status": "removed", "updated_at": clock.to_micros(now)}
    conn.execute(update(tables.automations).where(_a.account_id == account_id, _a.id == found.id).values(values))
    _tell(conn, account_id, "automation.deleted", public_id, found.title, now)


def set_signing_secret(
    conn: WriteConn, account_id: AccountId, public_id: UUID, secret: str, now: datetime, once: Once | None = None
) -> Automation:
    """Sign with another secret from now on. Records ``automation.updated``.

    A request made before under the same key changes nothing more. Errors: NotFound ``automation_not_found``, Conflict
    ``idempotency_conflict``.
    """
    found = get(conn, account_id, public_id)
    if once is not None:
        mine = secret.encode()
        if idempotency.take(conn, account_id, once, mine, now) != mine:
            return found
    values = {"signing_secret": secret, "updated_at": clock.to_micros(now)}
    conn.execute(update(tables.automations).where(_a.account_id == account_id, _a.id == found.id).values(values))
    _tell(conn, account_id, "automation.updated", public_id, found.title, now)
    return get(conn, account_id, public_id)


def get(conn: ReadConn, account_id: AccountId, public_id: UUID) -> Automation:
    """An automation of the account; NotFound ``automation_not_found``."""
    row = _BY_PUBLIC_ID.row(conn, {"account": account_id, "public_id": str(public_id)})
    if row is None:
        raise NotFound("There is no such automation.", code="automation_not_found")
    return _automation(row)


def find(conn: ReadConn, account_id: AccountId, automation_id: AutomationId) -> Automation | None:
    """The account's automation of that number, unless it is removed."""
    row = _BY_ID.row(conn, {"account": account_id, "automation": automation_id})
    return None if row is None else _automation(row)


def list_automations(conn: ReadConn, account_id: AccountId) -> list[Automation]:
    """Those of an account, oldest first."""
    return [_automation(row) for row in _ALL.rows(conn, {"account": account_id})]


def list_sealed(conn: ReadConn, account_id: AccountId) -> list[tuple[AutomationId, UUID, str, str | None]]:
    """Each automation's sealed secrets: what signs, and the token."""
    every = list_automations(conn, account_id)
    return [(one.id, one.public_id, one.signing_secret, one.secret_token) for one in every]


def is_any_active(conn: ReadConn) -> bool:
    """Whether any account of the instance has an automation (for the process that runs them)."""
    return conn.execute(select(_a.id).where(_ACTIVE).limit(1)).first() is not None


def count_sealed(conn: ReadConn) -> int:
    """How many automations of the instance have a sealed secret (for its start)."""
    sealed = select(func.count()).select_from(tables.automations).where(_a.signing_secret != LOST, _ACTIVE)
    return int(conn.execute(sealed).scalar_one())


def forget_secrets(conn: WriteConn) -> None:
    """Give up the secrets of every automation: what seals them is lost (for the operator)."""
    conn.execute(update(tables.automations).values(signing_secret=LOST))
    conn.execute(update(tables.automations).where(_a.secret_token.is_not(None)).values(secret_token=LOST))


def replace_secrets(
    conn: WriteConn,
    account_id: AccountId,
    automation_id: AutomationId,
    old: Sequence[str | None],
    new: Sequence[str | None],
) -> int:
    """Put the secrets in place sealed anew, if ``old`` are there still; returns how many changed."""
    mine = _a.account_id == account_id, _a.id == automation_id, _a.signing_secret == old[0]
    same = _a.secret_token.is_(None) if old[1] is None else _a.secret_token == old[1]
    values = {"signing_secret": new[0], "secret_token": new[1]}
    done = conn.execute(update(tables.automations).where(*mine, same).values(values)).rowcount
    return done * sum(1 for before, after in zip(old, new, strict=True) if before != after)


def find_cursor(conn: ReadConn, account_id: AccountId) -> EventNumber | None:
    """Up to which event the log has become runs; None: nobody asks."""
    if not list_automations(conn, account_id):
        return None
    found = conn.execute(select(_x.event_number).where(_x.account_id == account_id)).scalar_one()
    return EventNumber(found)


def _begin(conn: WriteConn, account_id: AccountId, newest: EventNumber) -> None:
    """Nothing that was before the first automation is looked at."""
    row = {"account_id": account_id, "event_number": newest}
    new = counters.insert(conn.dialect.name, tables.automation_cursors).values(row)
    conn.execute(new.on_conflict_do_update(index_elements=[_x.account_id], set_={"event_number": newest}))


def _values(new: NewAutomation) -> dict[str, Any]:
    wanted = new.conditions
    return {
        "title": serialize.clean(new.title),
        "sender": wanted.sender or None,
        "inbox": wanted.inbox or None,
        "subject": wanted.subject or None,
        "has_attachments": int(wanted.has_attachments),
        "url": new.url,
        "payload_format": new.payload_format,
        "secret_token": new.secret_token,
        "forward_to": new.forward_to,
        "deletes": int(new.deletes),
    }


def _tell(conn: WriteConn, account_id: AccountId, type_: str, public_id: UUID, title: str, now: datetime) -> None:
    body = {"automation": str(public_id), "title": serialize.clean(title)}
    events.record(conn, account_id, type_, body, now=now)


def _automation(values: Row) -> Automation:
    row = SimpleNamespace(**dict(zip(_NAMES, values, strict=True)))
    return Automation(
        id=AutomationId(row.id),
        account_id=AccountId(row.account_id),
        public_id=UUID(row.public_id),
        title=row.title,
        conditions=Conditions(row.sender, row.inbox, row.subject, bool(row.has_attachments)),
        url=row.url,
        payload_format=row.payload_format,
        secret_token=row.secret_token,
        signing_secret=row.signing_secret,
        forward_to=row.forward_to,
        deletes=bool(row.deletes),
        since_number=EventNumber(row.since_number),
        emails_received=row.emails_received,
        in_error=bool(row.in_error),
        last_error=row.last_error,
        failures=row.failures,
        retry_at=clock.optional_from_micros(row.retry_at),
        created_at=clock.from_micros(row.created_at),
        updated_at=clock.from_micros(row.updated_at),
    )
