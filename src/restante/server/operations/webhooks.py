"""Operations on webhooks."""

from typing import Any
from uuid import UUID

from restante.core import webhook_calls, webhooks
from restante.core.accounts import Account
from restante.core.webhook_calls import Call, Chosen
from restante.core.webhooks import NewWebhook, Webhook
from restante.errors import Invalid, NotFound
from restante.ids import EventNumber, MailboxId
from restante.runtime import Runtime
from restante.schema.connections import ReadConn
from restante.server.operations import naming
from restante.services import webhooks as service

MAX_LIMIT = 1000

Json = dict[str, Any]


def _webhook_json(webhook: Webhook) -> Json:
    return {
        "id": str(webhook.public_id),
        "url": webhook.url,
        "description": webhook.description,
        "types": list(webhook.types),
        "mailbox": webhook.mailbox,
        "is_ordered": webhook.is_ordered,
        "status": webhook.status,
        "cursor": webhook.event_number,
        "failures": webhook.failures,
        "failing_since": naming.moment(webhook.failing_since),
        "retry_at": naming.moment(webhook.retry_at),
        "created_at": naming.moment(webhook.created_at),
        "updated_at": naming.moment(webhook.updated_at),
    }


def _call_json(call: Call) -> Json:
    return {
        "call": call.number,
        "type": call.type,
        "status": call.status,
        "attempts": call.attempts,
        "created_at": naming.moment(call.created_at),
        "next_attempt_at": naming.moment(call.next_attempt_at),
        "finished_at": naming.moment(call.finished_at),
    }


def _place(conn: ReadConn, account: str | None, mailbox: str | None) -> tuple[Account, MailboxId | None]:
    owner = naming.account(conn, account)
    if mailbox is None:
        return owner, None
    found = naming.mailbox(conn, mailbox)
    if found.account_id != owner.id:
        raise NotFound(f"the account {owner.name} has no mailbox {mailbox}", code="mailbox_not_found")
    return owner, found.id


def _list(conn: ReadConn, account: str | None) -> list[Json]:
    return [_webhook_json(one) for one in webhooks.list_webhooks(conn, naming.account(conn, account).id)]


def _list_calls(
    conn: ReadConn, account: str | None, public_id: UUID, status: str | None, after: int, limit: int
) -> list[Json]:
    found = webhooks.get(conn, naming.account(conn, account).id, public_id)
    calls = webhook_calls.list_calls(conn, found.account_id, found.id, status, EventNumber(after), limit)
    return [_call_json(one) for one in calls]


async def webhook_add(
    rt: Runtime,
    url: str,
    types: list[str],
    account: str | None = None,
    mailbox: str | None = None,
    description: str = "",
    is_ordered: bool = False,
) -> Json:
    """Add a webhook of an account; the only answer that ever holds its secret."""
    owner, mailbox_id = await rt.db.read(_place, account, mailbox)
    new = NewWebhook(url, description, tuple(types), mailbox_id, is_ordered)
    made, secret = await service.create(rt, owner.id, new)
    return _webhook_json(made) | {"secret": secret}


async def webhook_list(rt: Runtime, account: str | None = None) -> Json:
    """The webhooks of an account."""
    return {"webhooks": await rt.db.read(_list, account)}


async def webhook_remove(rt: Runtime, webhook: str, account: str | None = None) -> Json:
    """Call it no more."""
    owner, _ = await rt.db.read(_place, account, None)
    await rt.db.write(webhooks.remove, owner.id, naming.public_id(webhook, "webhook"), rt.clock.now())
    return {"id": webhook, "removed": True}


async def webhook_calls_list(
    rt: Runtime, webhook: str, account: str | None = None, status: str | None = None, after: int = 0, limit: int = 50
) -> Json:
    """A webhook's calls behind the number ``after``, oldest first."""
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"at most {MAX_LIMIT} calls")
    found = await rt.db.read(_list_calls, account, naming.public_id(webhook, "webhook"), status, after, limit)
    cursor = found[-1]["call"] if found else after
    return {"calls": found, "cursor": cursor, "is_last": len(found) < limit}


async def webhook_redeliver(
    rt: Runtime, webhook: str, account: str | None = None, first: int | None = None, last: int | None = None
) -> Json:
    """Make calls again: those from ``first`` to ``last``, or with neither all that were given up."""
    if (first is None) != (last is None):
        raise Invalid("a range has a first and a last call")
    chosen = Chosen() if first is None or last is None else Chosen(EventNumber(first), EventNumber(last))
    owner, _ = await rt.db.read(_place, account, None)
    count = await rt.db.write(
        webhook_calls.call_again, owner.id, naming.public_id(webhook, "webhook"), chosen, rt.clock.now()
    )
    return {"calls": count}
