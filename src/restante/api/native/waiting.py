"""Waiting for a message: one call instead of a polling loop, and never an old message taken for the new one."""

import asyncio
from typing import Annotated

import msgspec
from msgspec import Meta

from restante.api.native import auth, shapes
from restante.core import access, event_types, events, messages
from restante.core.mailboxes import Mailbox
from restante.core.messages import MessageRow
from restante.http import schemas
from restante.http.answers import Reply
from restante.http.calls import Call
from restante.ids import EventNumber, MessageId
from restante.schema.connections import ReadConn

SCOPE = "messages:read"
MAX_SECONDS = 120.0
LOOKED_AT = 100  # events of one read
RECEIVED = event_types.expand(["message.received"])

_Text = Annotated[str, Meta(max_length=1000)]


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """What to wait for. Texts are looked for anywhere in the field, whatever the case; all that are given must match.

    ``after``: the cursor of an earlier answer (of `/events` too): what came before it is never returned. Without it
    the wait begins now.
    """

    after: Annotated[int, Meta(ge=0, le=shapes.MAX_CURSOR)] | None = None
    sender: _Text = ""
    recipient: _Text = ""
    subject: _Text = ""
    timeout_seconds: Annotated[float, Meta(ge=0, le=MAX_SECONDS)] = 30.0


class Waited(msgspec.Struct):
    """The oldest message that matches, or null when none came in time. ``cursor``: wait on from here."""

    message: shapes.MessageItem | None
    cursor: int


async def wait(call: Call) -> Reply:
    """Wait until a message that matches is in the mailbox, and return it."""
    principal = await auth.require(call, SCOPE)
    wanted = await schemas.body(call, Wanted)
    mailbox = await call.rt.db.read(access.require_own_mailbox, principal, call.params["address"])
    newest, _ = await call.rt.db.read(events.bounds, mailbox.account_id)
    cursor = newest if wanted.after is None else EventNumber(wanted.after)
    deadline = asyncio.get_running_loop().time() + wanted.timeout_seconds
    with call.rt.signals.subscribe(mailbox.account_id) as changes:
        while True:
            found, cursor, is_last = await call.rt.db.read(_look, mailbox, cursor, wanted)
            if found is not None:
                return shapes.answer(Waited(shapes.message(found), int(cursor)))
            if is_last:
                try:
                    async with asyncio.timeout_at(deadline):
                        await changes.wait()
                except TimeoutError:
                    return shapes.answer(Waited(None, int(cursor)))


def _look(
    conn: ReadConn, mailbox: Mailbox, after: EventNumber, wanted: Wanted
) -> tuple[MessageRow | None, EventNumber, bool]:
    """The first message behind ``after`` that matches, the cursor behind it, and whether the log ends here."""
    page = events.list_after(conn, mailbox.account_id, after, LOOKED_AT, types=RECEIVED, mailbox_id=mailbox.id)
    numbers = {MessageId(event.body["message"]): event.number for event in page.events}
    rows = {row.id: row for row in messages.by_ids(conn, mailbox.account_id, list(numbers))}
    for message_id, number in numbers.items():
        row = rows.get(message_id)  # one that is deleted already is no answer
        if row is not None and _matches(row, wanted):
            return row, number, False
    return None, page.cursor, page.is_last


def _matches(row: MessageRow, wanted: Wanted) -> bool:
    pairs = (
        (wanted.sender, f"{row.from_.name} {row.from_.email} {row.envelope_sender}"),
        (wanted.recipient, row.envelope_recipient),
        (wanted.subject, row.subject),
    )
    return all(text.casefold() in field.casefold() for text, field in pairs)
