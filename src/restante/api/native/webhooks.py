"""Webhooks: an account's endpoints, their calls and every attempt, calling again."""

import re
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from restante.api.native import auth, resources, shapes
from restante.core import access, webhook_calls, webhooks
from restante.core.access import Principal
from restante.core.webhook_calls import Attempt, Call, Chosen
from restante.core.webhooks import MAX_DESCRIPTION, MAX_TYPES, NewWebhook, Webhook
from restante.errors import Invalid, NotFound
from restante.http import calls as http_calls
from restante.http import schemas
from restante.http.answers import Reply
from restante.ids import EventNumber, MailboxId
from restante.net.http import MAX_URL
from restante.schema.connections import ReadConn
from restante.services import webhooks as service

READ = "webhooks:read"
WRITE = "webhooks:write"
MAX_BODY = 64 * 1024
ATTEMPTS = 100  # of one call that are shown
_NUMBER = re.compile(r"[0-9]{1,18}")

_Url = Annotated[str, Meta(max_length=MAX_URL, description="http or https; public, or allowed by the operator.")]
_Description = Annotated[str, Meta(max_length=MAX_DESCRIPTION)]
_Types = Annotated[
    list[Annotated[str, Meta(max_length=100)]],
    Meta(min_length=1, max_length=MAX_TYPES, description="Types or families of events: message.received, transfer.*"),
]
_Mailbox = Annotated[str, Meta(max_length=320, description="Only events about this mailbox.")] | None
_Number = Annotated[int, Meta(ge=1, le=shapes.MAX_CURSOR)]


class NewWebhookItem(msgspec.Struct, forbid_unknown_fields=True):
    """A webhook to be. ``is_ordered``: one call at a time, in the order of the events; else up to 20 at once."""

    url: _Url
    types: _Types
    description: _Description = ""
    mailbox: _Mailbox = None
    is_ordered: bool = False


class WebhookChange(msgspec.Struct, forbid_unknown_fields=True):
    """What shall be different; what is left out stays. ``status`` active also lets a broken one be called again."""

    url: _Url | UnsetType = UNSET
    types: _Types | UnsetType = UNSET
    description: _Description | UnsetType = UNSET
    mailbox: _Mailbox | UnsetType = UNSET
    is_ordered: bool | UnsetType = UNSET
    status: Literal["active", "disabled"] | UnsetType = UNSET


class WebhookItem(msgspec.Struct, rename={"id_": "id"}):
    """A webhook. ``status``: active, disabled, or broken (it answered nothing good for five days, or 410).

    ``cursor``: events up to this number have become calls; ``failures``: in a row; ``retry_at``: it is not called
    before then, as it failed ten times and more.
    """

    id_: str
    url: str
    description: str
    types: list[str]
    mailbox: str | None
    is_ordered: bool
    status: str
    cursor: int
    failures: int
    failing_since: str | None
    retry_at: str | None
    created_at: str
    updated_at: str


class WebhookSecret(msgspec.Struct):
    """A webhook and the secret that its calls are signed with, which is shown this once."""

    webhook: WebhookItem
    secret: str


class WebhookList(msgspec.Struct):
    """All webhooks of the account, oldest first."""

    webhooks: list[WebhookItem]


class Removed(msgspec.Struct, rename={"id_": "id"}):
    """It is called no more."""

    id_: str
    removed: bool = True


class Tested(msgspec.Struct):
    """A call about nothing is on its way; ``call`` finds it in the list of calls."""

    call: int


class Again(msgspec.Struct, forbid_unknown_fields=True, rename={"from_": "from"}):
    """Which calls to make again: one, those from one number to another, or (``dead``) all that were given up."""

    call: _Number | None = None
    from_: _Number | None = None
    to: _Number | None = None
    dead: bool = False


class Redelivered(msgspec.Struct):
    """How many calls are made again: 10,000 at most by one request."""

    calls: int


class CallQuery(msgspec.Struct, frozen=True):
    """Which calls."""

    status: Annotated[str, Meta(max_length=20, description="pending, delivered or dead.")] = ""
    after: Annotated[int, Meta(ge=0, le=shapes.MAX_CURSOR, description="The cursor: calls behind it.")] = 0
    limit: Annotated[int, Meta(ge=1, le=1000, description="Calls of a page.")] = 100


class CallItem(msgspec.Struct):
    """The call about one event. ``call`` is the event's number, ``type`` null when the log has it no more."""

    call: int
    type: str | None
    status: str
    attempts: int
    created_at: str
    next_attempt_at: str | None
    finished_at: str | None


class CallList(msgspec.Struct):
    """A page, oldest first. Ask again with ``after=cursor`` until it ``is_last``."""

    calls: list[CallItem]
    cursor: int
    is_last: bool


class AttemptItem(msgspec.Struct):
    """One attempt. ``status`` is HTTP's; ``error`` says why there was none; ``answer``: the first KiB of the body."""

    attempt: int
    attempted_at: str
    duration_ms: int
    status: int | None
    error: str | None
    answer: str


class CallDetails(msgspec.Struct):
    """A call and its attempts, the newest first, 100 at most."""

    call: CallItem
    attempts: list[AttemptItem]


async def list_webhooks(call: http_calls.Call) -> Reply:
    """Show the account's webhooks."""
    principal = await auth.require_account(call, READ)
    found = await call.rt.db.read(webhooks.list_webhooks, principal.account_id)
    return shapes.answer(WebhookList([item(one) for one in found]))


async def create(call: http_calls.Call) -> Reply:
    """Add a webhook; it is called about what happens from now on. The answer alone has its secret."""
    principal = await auth.require_account(call, WRITE)
    data = await schemas.read(call, MAX_BODY)
    wanted = schemas.parse(data, NewWebhookItem)
    new = NewWebhook(
        wanted.url,
        wanted.description,
        tuple(wanted.types),
        await _mailbox_id(call, principal, wanted.mailbox),
        wanted.is_ordered,
    )
    made, secret = await service.create(
        call.rt, principal.account_id, new, resources.once(call, principal, "webhooks/create", data)
    )
    return shapes.answer(WebhookSecret(item(made), secret), 201)


async def get(call: http_calls.Call) -> Reply:
    """Show a webhook."""
    principal = await auth.require_account(call, READ)
    return shapes.answer(
        item(await call.rt.db.read(webhooks.get, principal.account_id, resources.public_id(call, "webhook")))
    )


async def change(call: http_calls.Call) -> Reply:
    """Change a webhook. One that becomes active again is called about all that happened meanwhile and is kept."""
    principal = await auth.require_account(call, WRITE)
    wanted = await schemas.body(call, WebhookChange)
    found = await call.rt.db.read(webhooks.get, principal.account_id, resources.public_id(call, "webhook"))
    mailbox_id = found.mailbox_id
    if wanted.mailbox is not UNSET:
        mailbox_id = await _mailbox_id(call, principal, wanted.mailbox)
    new = NewWebhook(
        found.url if wanted.url is UNSET else wanted.url,
        found.description if wanted.description is UNSET else wanted.description,
        found.types if wanted.types is UNSET else tuple(wanted.types),
        mailbox_id,
        found.is_ordered if wanted.is_ordered is UNSET else wanted.is_ordered,
        found.status if wanted.status is UNSET else wanted.status,
    )
    return shapes.answer(item(await service.change(call.rt, principal.account_id, found.public_id, new)))


async def remove(call: http_calls.Call) -> Reply:
    """Remove a webhook with its calls."""
    principal = await auth.require_account(call, WRITE)
    public_id = resources.public_id(call, "webhook")
    await call.rt.db.write(webhooks.remove, principal.account_id, public_id, call.rt.clock.now())
    return shapes.answer(Removed(str(public_id)))


async def rotate_secret(call: http_calls.Call) -> Reply:
    """Make a new secret; for 24 hours calls are signed with the one before too."""
    principal = await auth.require_account(call, WRITE)
    public_id = resources.public_id(call, "webhook")
    once = resources.once(call, principal, f"webhooks/rotate/{public_id}")
    changed, secret = await service.rotate_secret(call.rt, principal.account_id, public_id, once)
    return shapes.answer(WebhookSecret(item(changed), secret))


async def ping(call: http_calls.Call) -> Reply:
    """Call the webhook once with an event `webhook.tested`."""
    principal = await auth.require_account(call, WRITE)
    public_id = resources.public_id(call, "webhook")
    once = resources.once(call, principal, f"webhooks/test/{public_id}")
    number = await call.rt.db.write(webhook_calls.ping, principal.account_id, public_id, call.rt.clock.now(), once)
    return shapes.answer(Tested(int(number)), 202)


async def redeliver(call: http_calls.Call) -> Reply:
    """Make calls again that are delivered or were given up."""
    principal = await auth.require_account(call, WRITE)
    public_id = resources.public_id(call, "webhook")
    data = await schemas.read(call, MAX_BODY)
    chosen = _chosen(schemas.parse(data, Again))
    once = resources.once(call, principal, f"webhooks/redeliver/{public_id}", data)
    now = call.rt.clock.now()
    count = await call.rt.db.write(webhook_calls.call_again, principal.account_id, public_id, chosen, now, once)
    return shapes.answer(Redelivered(count), 202)


async def list_calls(call: http_calls.Call) -> Reply:
    """Show a webhook's calls; with `status=dead` those that were given up."""
    principal = await auth.require_account(call, READ)
    query = schemas.query(call, CallQuery)
    found = await call.rt.db.read(_read_calls, principal, resources.public_id(call, "webhook"), query)
    shown = [_call(one) for one in found]
    cursor = shown[-1].call if shown else query.after
    return shapes.answer(CallList(shown, cursor, len(shown) < query.limit))


async def get_call(call: http_calls.Call) -> Reply:
    """Show one call with its attempts."""
    principal = await auth.require_account(call, READ)
    if not _NUMBER.fullmatch(call.params["call"]):
        raise NotFound("There is no such call.", code="call_not_found")
    number = EventNumber(int(call.params["call"]))
    found, attempts = await call.rt.db.read(_read_call, principal, resources.public_id(call, "webhook"), number)
    return shapes.answer(CallDetails(_call(found), [_attempt(one) for one in attempts]))


def _read_calls(conn: ReadConn, principal: Principal, public_id: UUID, query: CallQuery) -> list[Call]:
    webhook = webhooks.get(conn, principal.account_id, public_id)
    after, status = EventNumber(query.after), query.status or None
    return webhook_calls.list_calls(conn, principal.account_id, webhook.id, status, after, query.limit)


def _read_call(
    conn: ReadConn, principal: Principal, public_id: UUID, number: EventNumber
) -> tuple[Call, list[Attempt]]:
    account_id = principal.account_id
    webhook = webhooks.get(conn, account_id, public_id)
    found = webhook_calls.get_call(conn, account_id, webhook.id, number)
    return found, webhook_calls.list_attempts(conn, account_id, webhook.id, number, ATTEMPTS)


async def _mailbox_id(call: http_calls.Call, principal: Principal, address: str | None) -> MailboxId | None:
    if address is None:
        return None
    return (await call.rt.db.read(access.require_own_mailbox, principal, address)).id


def _chosen(wanted: Again) -> Chosen:
    if [wanted.call is not None, wanted.from_ is not None or wanted.to is not None, wanted.dead].count(True) != 1:
        raise Invalid("Which calls?", details={"call": "one of call, from with to, and dead"})
    if wanted.call is not None:
        return Chosen(EventNumber(wanted.call), EventNumber(wanted.call))
    if wanted.dead:
        return Chosen()
    if wanted.from_ is None or wanted.to is None or wanted.to < wanted.from_:
        raise Invalid("This is no range.", details={"from": "the first call", "to": "the last call, not before it"})
    return Chosen(EventNumber(wanted.from_), EventNumber(wanted.to))


def item(webhook: Webhook) -> WebhookItem:
    """A webhook as it is shown."""
    return WebhookItem(
        id_=str(webhook.public_id),
        url=webhook.url,
        description=webhook.description,
        types=list(webhook.types),
        mailbox=webhook.mailbox,
        is_ordered=webhook.is_ordered,
        status=webhook.status,
        cursor=int(webhook.event_number),
        failures=webhook.failures,
        failing_since=shapes.optional_moment(webhook.failing_since),
        retry_at=shapes.optional_moment(webhook.retry_at),
        created_at=shapes.moment(webhook.created_at),
        updated_at=shapes.moment(webhook.updated_at),
    )


def _call(found: Call) -> CallItem:
    return CallItem(
        call=int(found.number),
        type=found.type,
        status=found.status,
        attempts=found.attempts,
        created_at=shapes.moment(found.created_at),
        next_attempt_at=shapes.optional_moment(found.next_attempt_at),
        finished_at=shapes.optional_moment(found.finished_at),
    )


def _attempt(found: Attempt) -> AttemptItem:
    at = shapes.moment(found.attempted_at)
    return AttemptItem(found.attempt, at, found.duration_ms, found.status, found.error, found.answer)
