"""Webhooks: places of an account that are called when something happens. Their calls are ``core.webhook_calls``'s.

Nothing is done for a webhook when an event is recorded: its row remembers up to which event (``event_number``) the log
has become calls.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, func, insert, select, true, update

from restante import clock
from restante.core import event_types, events, idempotency
from restante.core.idempotency import Once
from restante.errors import Conflict, Invalid, LimitExceeded, NotFound
from restante.ids import AccountId, EventNumber, MailboxId, WebhookId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn

Status = Literal["active", "disabled", "broken"]

MAX_WEBHOOKS = 50  # of an account
MAX_TYPES = 50
MAX_DESCRIPTION = 200
LOST = ""  # in the place of a sealed secret that nothing opens any more
BOTH_SIGN = timedelta(hours=24)  # after a rotation

_w = tables.webhooks.c


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A webhook to be. ``types`` are patterns; ``mailbox_id`` None: events of every mailbox and of none."""

    url: str
    description: str
    types: tuple[str, ...]
    mailbox_id: MailboxId | None
    is_ordered: bool
    status: Status = "active"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook. Secrets are sealed; ``failures`` counts since the last success; ``retry_at``: no call before then."""

    id: WebhookId
    account_id: AccountId
    public_id: UUID
    url: str
    description: str
    types: tuple[str, ...]
    mailbox_id: MailboxId | None
    mailbox: str | None
    is_ordered: bool
    secret: str
    previous_secret: str | None
    previous_until: datetime | None
    status: Status
    event_number: EventNumber
    failures: int
    failing_since: datetime | None
    retry_at: datetime | None
    created_at: datetime
    updated_at: datetime


def secret_purpose(public_id: UUID) -> str:
    """What the vault binds a signing secret to: it opens for this webhook only."""
    return f"webhook:{public_id}"


def create(
    conn: WriteConn, account_id: AccountId, public_id: UUID, new: NewWebhook, secret: str, now: datetime,
    once: Once | None = None,
) -> Webhook:  # fmt: skip
    """Add a webhook; it is called about what happens from now on. Records ``webhook.created``.

    A request made before under the same key (``once``) gives that webhook again. Errors: Invalid, NotFound
    ``account_not_found``, LimitExceeded ``too_many_webhooks``, Conflict ``idempotency_conflict``.
    """
    _require_sound(new)
    if once is not None:
        first = idempotency.take(conn, account_id, once, public_id.bytes, now)
        if first != public_id.bytes:
            return get(conn, account_id, UUID(bytes=first))
    newest, _ = events.bounds(conn, account_id)
    here = select(func.count()).select_from(tables.webhooks).where(_w.account_id == account_id, _w.status != "removed")
    if conn.execute(here).scalar_one() >= MAX_WEBHOOKS:
        raise LimitExceeded(f"An account has {MAX_WEBHOOKS} webhooks at most.", code="too_many_webhooks")
    micros = clock.to_micros(now)
    values = _values(new) | {
        "account_id": account_id,
        "public_id": str(public_id),
        "secret": secret,
        "event_number": newest,
        "created_at": micros,
        "updated_at": micros,
    }
    conn.execute(insert(tables.webhooks).values(values))
    _tell(conn, account_id, "webhook.created", public_id, new, now)
    return get(conn, account_id, public_id)


def change(conn: WriteConn, account_id: AccountId, public_id: UUID, new: NewWebhook, now: datetime) -> Webhook:
    """Give a webhook other properties. One that becomes active again is called about all that happened meanwhile.

    Records ``webhook.updated``. Errors: Invalid, NotFound ``webhook_not_found``, Conflict ``webhook_secret_lost``.
    """
    _require_sound(new)
    found = get(conn, account_id, public_id)
    if new.status == "active" and found.secret == LOST:
        raise Conflict("Its secret is lost: rotate it first.", code="webhook_secret_lost")
    values = _values(new) | {"updated_at": clock.to_micros(now)}
    if new.status == "active" and (found.status != "active" or found.url != new.url):
        values |= {"failures": 0, "failing_since": None, "retry_at": None}
    conn.execute(update(tables.webhooks).where(_w.account_id == account_id, _w.id == found.id).values(values))
    _tell(conn, account_id, "webhook.updated", public_id, new, now)
    return get(conn, account_id, public_id)


def remove(conn: WriteConn, account_id: AccountId, public_id: UUID, now: datetime) -> None:
    """Call it no more; its calls are deleted bit by bit. Records ``webhook.removed``.

    NotFound ``webhook_not_found``.
    """
    found = get(conn, account_id, public_id)
    values = {"status": "removed", "updated_at": clock.to_micros(now)}
    conn.execute(update(tables.webhooks).where(_w.account_id == account_id, _w.id == found.id).values(values))
    events.record(conn, account_id, "webhook.removed", {"webhook": str(public_id)}, now=now)


def rotate_secret(
    conn: WriteConn, account_id: AccountId, public_id: UUID, secret: str, now: datetime, once: Once | None = None
) -> Webhook:
    """Sign with another secret, and for a day with the one before too. Records ``webhook.secret_rotated``.

    A request made before under the same key changes nothing more. Errors: NotFound ``webhook_not_found``, Conflict
    ``idempotency_conflict``.
    """
    found = get(conn, account_id, public_id)
    if once is not None:
        mine = secret.encode()
        if idempotency.take(conn, account_id, once, mine, now) != mine:
            return found
    values = {
        "secret": secret,
        "previous_secret": None if found.secret == LOST else found.secret,
        "previous_until": clock.to_micros(now + BOTH_SIGN),
        "updated_at": clock.to_micros(now),
    }
    conn.execute(update(tables.webhooks).where(_w.account_id == account_id, _w.id == found.id).values(values))
    events.record(conn, account_id, "webhook.secret_rotated", {"webhook": str(public_id)}, now=now)
    return get(conn, account_id, public_id)


def get(conn: ReadConn, account_id: AccountId, public_id: UUID) -> Webhook:
    """A webhook of the account; NotFound ``webhook_not_found``."""
    found = find(conn, account_id, _w.public_id == str(public_id))
    if found is None:
        raise NotFound("There is no such webhook.", code="webhook_not_found")
    return found


def find(conn: ReadConn, account_id: AccountId, condition: ColumnElement[bool]) -> Webhook | None:
    """The account's webhook that meets an SQL condition, if there is one."""
    rows = _select(conn, account_id, condition)
    return rows[0] if rows else None


def find_active(conn: ReadConn, account_id: AccountId, webhook_id: WebhookId) -> Webhook | None:
    """A webhook that may be called."""
    found = find(conn, account_id, _w.id == webhook_id)
    return found if found is not None and found.status == "active" else None


def list_webhooks(conn: ReadConn, account_id: AccountId) -> list[Webhook]:
    """Those of an account, oldest first."""
    return _select(conn, account_id, true())


def list_sealed(conn: ReadConn, account_id: AccountId) -> list[tuple[WebhookId, UUID, str, str | None]]:
    """Each webhook's sealed secrets: the present one and the one before."""
    every = list_webhooks(conn, account_id)
    return [(one.id, one.public_id, one.secret, one.previous_secret) for one in every if one.secret != LOST]


def is_any_active(conn: ReadConn) -> bool:
    """Whether any account of the instance has a webhook to be called (for its courier)."""
    return conn.execute(select(_w.id).where(_w.status == "active").limit(1)).first() is not None


def count_sealed(conn: ReadConn) -> int:
    """How many webhooks of the instance have a sealed secret (for its start)."""
    sealed = select(func.count()).select_from(tables.webhooks).where(_w.secret != LOST, _w.status != "removed")
    return int(conn.execute(sealed).scalar_one())


def forget_secrets(conn: WriteConn) -> None:
    """Disable every webhook until it has another secret: what seals them is lost (for the operator)."""
    there = update(tables.webhooks).where(_w.status != "removed")
    conn.execute(there.values(secret=LOST, previous_secret=None, previous_until=None, status="disabled"))


def replace_secrets(
    conn: WriteConn, account_id: AccountId, webhook_id: WebhookId, old: Sequence[str | None], new: Sequence[str | None]
) -> int:
    """Put the secrets in place sealed anew, if ``old`` are there still; returns how many changed."""
    mine = _w.account_id == account_id, _w.id == webhook_id, _w.secret == old[0]
    same = _w.previous_secret.is_(None) if old[1] is None else _w.previous_secret == old[1]
    values = {"secret": new[0], "previous_secret": new[1]}
    done = conn.execute(update(tables.webhooks).where(*mine, same).values(values)).rowcount
    return done * sum(1 for before, after in zip(old, new, strict=True) if before != after)


def remove_of_mailbox(conn: WriteConn, account_id: AccountId, mailbox_ids: Sequence[MailboxId], now: datetime) -> None:
    """Remove the webhooks that were for these mailboxes alone."""
    rows = conn.execute(
        select(_w.public_id).where(_w.account_id == account_id, _w.mailbox_id.in_(mailbox_ids), _w.status != "removed")
    )
    for public_id in list(rows.scalars()):
        remove(conn, account_id, UUID(public_id), now)


def _select(conn: ReadConn, account_id: AccountId, condition: ColumnElement[bool]) -> list[Webhook]:
    b = tables.mailboxes.c
    statement = (
        select(tables.webhooks, b.address)
        .outerjoin(tables.mailboxes, (b.account_id == _w.account_id) & (b.id == _w.mailbox_id))
        .where(_w.account_id == account_id, _w.status != "removed", condition)
        .order_by(_w.id)
    )
    return [_webhook(row) for row in conn.execute(statement)]


def _require_sound(new: NewWebhook) -> None:
    if not 1 <= len(new.types) <= MAX_TYPES:
        raise Invalid("Which events?", details={"types": f"1 to {MAX_TYPES} types or families"})
    event_types.expand(new.types)
    if len(new.description) > MAX_DESCRIPTION or not new.description.isprintable():
        raise Invalid(
            "The description cannot be kept.", details={"description": f"one line of {MAX_DESCRIPTION} characters"}
        )


def _values(new: NewWebhook) -> dict[str, Any]:
    return {
        "url": new.url,
        "description": new.description,
        "types": " ".join(dict.fromkeys(new.types)),
        "mailbox_id": new.mailbox_id,
        "is_ordered": int(new.is_ordered),
        "status": new.status,
    }


def _tell(conn: WriteConn, account_id: AccountId, type_: str, public_id: UUID, new: NewWebhook, now: datetime) -> None:
    body = {"webhook": str(public_id), "url": new.url, "status": new.status}
    events.record(conn, account_id, type_, body, mailbox_id=new.mailbox_id, now=now)


def _webhook(row: Any) -> Webhook:
    return Webhook(
        id=WebhookId(row.id),
        account_id=AccountId(row.account_id),
        public_id=UUID(row.public_id),
        url=row.url,
        description=row.description,
        types=tuple(row.types.split(" ")),
        mailbox_id=row.mailbox_id,
        mailbox=row.address,
        is_ordered=bool(row.is_ordered),
        secret=row.secret,
        previous_secret=row.previous_secret,
        previous_until=clock.optional_from_micros(row.previous_until),
        status=row.status,
        event_number=EventNumber(row.event_number),
        failures=row.failures,
        failing_since=clock.optional_from_micros(row.failing_since),
        retry_at=clock.optional_from_micros(row.retry_at),
        created_at=clock.from_micros(row.created_at),
        updated_at=clock.from_micros(row.updated_at),
    )
