"""Automations: what an account has done about mail that comes in, and what came of it."""

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from restante.api.native import auth, resources, shapes
from restante.core import automation_runs, automations
from restante.core.access import Principal
from restante.core.automation_runs import Run
from restante.core.automations import MAX_TITLE, Automation, Conditions, NewAutomation, PayloadFormat
from restante.http import calls as http_calls
from restante.http import schemas
from restante.http.answers import Reply
from restante.ids import EventNumber
from restante.mail.patterns import MAX_CHARS
from restante.net.http import MAX_URL
from restante.schema.connections import ReadConn
from restante.services import automations as service
from restante.services.automations import MAX_TOKEN

READ = "automations:read"
WRITE = "automations:write"
MAX_BODY = 64 * 1024

_Title = Annotated[str, Meta(min_length=1, max_length=MAX_TITLE)]
_Pattern = (
    Annotated[
        str,
        Meta(
            max_length=MAX_CHARS,
            description="A regular expression in RE2's syntax, found anywhere, in any letter case. Null: any.",
        ),
    ]
    | None
)
_Url = Annotated[str, Meta(max_length=MAX_URL, description="Called for each message; not beside forward_to.")] | None
_Token = Annotated[str, Meta(max_length=MAX_TOKEN, description="Sent in clear as X-MailCare-Secret-Token.")] | None
_Address = Annotated[str, Meta(max_length=320, description="Messages are sent on to it; not beside url.")] | None


class NewAutomationItem(msgspec.Struct, forbid_unknown_fields=True):
    """An automation to be. A message must meet all conditions; ``deletes`` moves it into the Trash in the end."""

    title: _Title
    sender: _Pattern = None
    inbox: _Pattern = None
    subject: _Pattern = None
    has_attachments: bool = False
    url: _Url = None
    payload_format: PayloadFormat = "json"
    secret_token: _Token = None
    forward_to: _Address = None
    deletes: bool = False


class AutomationChange(msgspec.Struct, forbid_unknown_fields=True):
    """What shall be different; what is left out stays."""

    title: _Title | UnsetType = UNSET
    sender: _Pattern | UnsetType = UNSET
    inbox: _Pattern | UnsetType = UNSET
    subject: _Pattern | UnsetType = UNSET
    has_attachments: bool | UnsetType = UNSET
    url: _Url | UnsetType = UNSET
    payload_format: PayloadFormat | UnsetType = UNSET
    secret_token: _Token | UnsetType = UNSET
    forward_to: _Address | UnsetType = UNSET
    deletes: bool | UnsetType = UNSET


class AutomationItem(msgspec.Struct, rename={"id_": "id"}):
    """An automation. ``emails_received`` counts messages that met its conditions.

    ``in_error``: the newest attempt failed; ``last_error``: how one failed last; ``retry_at``: nothing is tried before
    then, as it failed ten times and more.
    """

    id_: str
    title: str
    sender: str | None
    inbox: str | None
    subject: str | None
    has_attachments: bool
    url: str | None
    payload_format: str
    has_secret_token: bool
    forward_to: str | None
    deletes: bool
    emails_received: int
    in_error: bool
    last_error: str | None
    retry_at: str | None
    created_at: str
    updated_at: str


class AutomationSecret(msgspec.Struct):
    """An automation and the secret that its calls are signed with, which is shown this once."""

    automation: AutomationItem
    secret: str


class AutomationList(msgspec.Struct):
    """All automations of the account, oldest first."""

    automations: list[AutomationItem]


class AutomationRemoved(msgspec.Struct, rename={"id_": "id"}):
    """It runs no more."""

    id_: str
    removed: bool = True


class RunQuery(msgspec.Struct):
    """Which runs."""

    status: Annotated[str, Meta(max_length=20, description="pending, done or failed.")] = ""
    after: Annotated[int, Meta(ge=0, le=shapes.MAX_CURSOR, description="The cursor: runs behind it.")] = 0
    limit: Annotated[int, Meta(ge=1, le=1000, description="Runs of a page.")] = 100


class RunItem(msgspec.Struct):
    """What an automation did for one message. ``run`` is the number of the event that told of it.

    ``http_status``, ``error`` and ``answer`` (its first KiB) are of the newest attempt.
    """

    run: int
    message: str
    status: str
    attempts: int
    http_status: int | None
    error: str | None
    answer: str
    created_at: str
    next_attempt_at: str | None
    finished_at: str | None


class RunList(msgspec.Struct):
    """A page, oldest first. Ask again with ``after=cursor`` until it ``is_last``."""

    runs: list[RunItem]
    cursor: int
    is_last: bool


async def list_automations(call: http_calls.Call) -> Reply:
    """Show the account's automations."""
    principal = await auth.require_account(call, READ)
    found = await call.rt.db.read(automations.list_automations, principal.account_id)
    return shapes.answer(AutomationList([item(one) for one in found]))


async def create(call: http_calls.Call) -> Reply:
    """Add an automation; it runs for mail that comes in from now on. The answer alone has its signing secret."""
    principal = await auth.require_account(call, WRITE)
    data = await schemas.read(call, MAX_BODY)
    wanted = schemas.parse(data, NewAutomationItem)
    new = NewAutomation(
        title=wanted.title,
        conditions=Conditions(wanted.sender, wanted.inbox, wanted.subject, wanted.has_attachments),
        url=wanted.url,
        payload_format=wanted.payload_format,
        forward_to=wanted.forward_to,
        deletes=wanted.deletes,
    )
    once = resources.once(call, principal, "automations/create", data)
    made, secret = await service.create(call.rt, principal.account_id, new, wanted.secret_token, once)
    return shapes.answer(AutomationSecret(item(made), secret), 201)


async def get(call: http_calls.Call) -> Reply:
    """Show an automation."""
    principal = await auth.require_account(call, READ)
    return shapes.answer(
        item(await call.rt.db.read(automations.get, principal.account_id, resources.public_id(call, "automation")))
    )


async def change(call: http_calls.Call) -> Reply:
    """Change an automation; runs that wait are done in the new way."""
    principal = await auth.require_account(call, WRITE)
    wanted = await schemas.body(call, AutomationChange)
    changes = {name: value for name, value in msgspec.structs.asdict(wanted).items() if value is not UNSET}
    return shapes.answer(
        item(await service.revise(call.rt, principal.account_id, resources.public_id(call, "automation"), changes))
    )


async def remove(call: http_calls.Call) -> Reply:
    """Remove an automation with its runs."""
    principal = await auth.require_account(call, WRITE)
    public_id = resources.public_id(call, "automation")
    await call.rt.db.write(automations.remove, principal.account_id, public_id, call.rt.clock.now())
    return shapes.answer(AutomationRemoved(str(public_id)))


async def rotate_secret(call: http_calls.Call) -> Reply:
    """Make a new signing secret."""
    principal = await auth.require_account(call, WRITE)
    public_id = resources.public_id(call, "automation")
    once = resources.once(call, principal, f"automations/rotate/{public_id}")
    changed, secret = await service.rotate_secret(call.rt, principal.account_id, public_id, once)
    return shapes.answer(AutomationSecret(item(changed), secret))


async def list_runs(call: http_calls.Call) -> Reply:
    """Show an automation's runs; with `status=failed` those that were given up."""
    principal = await auth.require_account(call, READ)
    query = schemas.query(call, RunQuery)
    found = await call.rt.db.read(_read_runs, principal, resources.public_id(call, "automation"), query)
    shown = [_run(one) for one in found]
    return shapes.answer(RunList(shown, shown[-1].run if shown else query.after, len(shown) < query.limit))


def _read_runs(conn: ReadConn, principal: Principal, public_id: UUID, query: RunQuery) -> list[Run]:
    found = automations.get(conn, principal.account_id, public_id)
    after, status = EventNumber(query.after), query.status or None
    return automation_runs.list_runs(conn, principal.account_id, found.id, status, after, query.limit)


def item(found: Automation) -> AutomationItem:
    """An automation as it is shown."""
    wanted = found.conditions
    return AutomationItem(
        id_=str(found.public_id),
        title=found.title,
        sender=wanted.sender,
        inbox=wanted.inbox,
        subject=wanted.subject,
        has_attachments=wanted.has_attachments,
        url=found.url,
        payload_format=found.payload_format,
        has_secret_token=found.secret_token is not None,
        forward_to=found.forward_to,
        deletes=found.deletes,
        emails_received=found.emails_received,
        in_error=found.in_error,
        last_error=found.last_error,
        retry_at=shapes.optional_moment(found.retry_at),
        created_at=shapes.moment(found.created_at),
        updated_at=shapes.moment(found.updated_at),
    )


def _run(found: Run) -> RunItem:
    return RunItem(
        run=int(found.number),
        message=str(found.message_id),
        status=found.status,
        attempts=found.attempts,
        http_status=found.http_status,
        error=found.error,
        answer=found.answer,
        created_at=shapes.moment(found.created_at),
        next_attempt_at=shapes.optional_moment(found.next_attempt_at),
        finished_at=shapes.optional_moment(found.finished_at),
    )
