"""Operations on the event log."""

import asyncio
from typing import Any

from restante.core import event_types, events
from restante.core.events import Event
from restante.errors import Invalid
from restante.ids import AccountId, EventNumber, MailboxId
from restante.runtime import Runtime
from restante.schema.connections import ReadConn
from restante.server.operations import naming

MAX_LIMIT = 1000
MAX_WAIT_SECONDS = 60.0

Json = dict[str, Any]


def _event_json(event: Event) -> Json:
    return {
        "id": event.number,
        "type": event.type,
        "version": event.version,
        "created_at": naming.moment(event.created_at),
        "mailbox": event.mailbox,
        "data": dict(event.body),
    }


def _scope(conn: ReadConn, account: str | None, mailbox: str | None) -> tuple[AccountId, MailboxId | None]:
    if mailbox is None:
        return naming.account(conn, account).id, None
    found = naming.mailbox(conn, mailbox)
    return found.account_id, found.id


async def event_list(
    rt: Runtime,
    account: str | None = None,
    mailbox: str | None = None,
    types: list[str] | None = None,
    after: int | None = None,
    limit: int = 50,
    wait_seconds: float = 0.0,
) -> Json:
    """Events of an account behind ``after`` (default: the last ``limit``), or those that happen while it waits."""
    if not 1 <= limit <= MAX_LIMIT or not 0 <= wait_seconds <= MAX_WAIT_SECONDS:
        raise Invalid(f"at most {MAX_LIMIT} events, at most {MAX_WAIT_SECONDS:.0f} seconds")
    wanted = None if not types else event_types.expand(types)
    account_id, mailbox_id = await rt.db.read(_scope, account, mailbox)
    newest, pruned = await rt.db.read(events.bounds, account_id)
    cursor = EventNumber(max(pruned, newest - limit) if after is None else after)
    deadline = asyncio.get_running_loop().time() + wait_seconds
    with rt.signals.subscribe(account_id) as changes:
        while True:
            page = await rt.db.read(events.list_after, account_id, cursor, limit, types=wanted, mailbox_id=mailbox_id)
            cursor = page.cursor
            if page.events or (page.is_last and asyncio.get_running_loop().time() >= deadline):
                shown = [_event_json(event) for event in page.events]
                return {"events": shown, "cursor": cursor, "is_last": page.is_last}
            if page.is_last:
                try:
                    async with asyncio.timeout_at(deadline):
                        await changes.wait()
                except TimeoutError:
                    continue
