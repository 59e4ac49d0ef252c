"""A team's automations: what is done about mail that comes in. Fields are the contract's, the rest is the core's."""

from typing import Annotated, Any
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from restante.api.mailcare import auth, errors
from restante.api.mailcare.auth import Caller
from restante.api.mailcare.emails import DONE, UUID_FORM
from restante.core import automations
from restante.core.automations import FORMATS, Automation, Conditions, NewAutomation, PayloadFormat
from restante.errors import Invalid, NotFound
from restante.http import schemas
from restante.http.answers import Answer
from restante.http.calls import MAX_QUERY_FIELDS, SMALL_BODY_BYTES, Call
from restante.http.problems import Refused
from restante.runtime import Runtime
from restante.services import automations as running
from restante.services import email_form

FORM = "application/x-www-form-urlencoded"
TRUTHS = {None: False, False: False, True: True, "0": False, "1": True, "false": False, "true": True}  # and 0 and 1

# What the core calls the fields that have another name here.
_NAMED = {"url": "action_url", "forward_to": "action_email", "secret_token": "action_secret_token"}

_Pattern = Annotated[str | None, Meta(description="A regular expression that matches anywhere, in any case.")]


class AutomationRequest(Struct, frozen=True):
    """An automation as it shall be; what is left out is null or false. It calls, or it forwards."""

    title: Annotated[str, Meta(min_length=1, max_length=automations.MAX_TITLE, examples=["Save pdf invoices"])]
    sender: _Pattern = None
    inbox: _Pattern = None
    subject: _Pattern = None
    has_attachments: bool = False
    action_url: Annotated[str | None, Meta(examples=["https://example.com/webhooks/save-pdf-invoices"])] = None
    action_secret_token: str | None = None
    action_delete_email: bool = False
    payload_format: PayloadFormat = "json"
    action_email: str | None = None
    post_raw: bool = False


class AutomationItem(Struct, frozen=True):
    """An automation, and how many emails it was for. ``in_error``: its newest attempt failed."""

    id: str
    title: str
    sender: str | None
    inbox: str | None
    subject: str | None
    has_attachments: bool
    action_url: str | None
    action_secret_token: str | None
    payload_format: PayloadFormat
    action_delete_email: bool
    emails_received: int
    created_at: str
    updated_at: str
    action_email: str | None
    post_raw: bool
    in_error: bool


class AutomationDocument(Struct, frozen=True):
    """One automation."""

    data: AutomationItem


class AutomationList(Struct, frozen=True):
    """All of them, oldest first."""

    data: list[AutomationItem]


async def list_automations(call: Call) -> Answer:
    """List the automations."""
    caller = await auth.require(call, auth.AUTOMATION_VIEW)
    found = await call.rt.db.read(automations.list_automations, caller.account_id)
    return Answer(msgspec.json.encode(AutomationList([_item(call.rt, one) for one in found])))


async def create(call: Call) -> Answer:
    """Add an automation. It is for emails that come in from now on."""
    caller = await auth.require(call, auth.AUTOMATION_CREATE)
    new, token = await _read(call, caller)
    try:
        made, _ = await running.create(call.rt, caller.account_id, new, token)
    except Invalid as error:
        raise _named(error) from None
    return _shown(call, caller, made, 201)


async def change(call: Call) -> Answer:
    """Give an automation other properties, all of them."""
    caller = await auth.require(call, auth.AUTOMATION_UPDATE)
    public_id = _public_id(call)
    new, token = await _read(call, caller)
    try:
        changed = await running.change(call.rt, caller.account_id, public_id, new, token)
    except Invalid as error:
        raise _named(error) from None
    except NotFound:
        raise errors.missing("Automation", call.params["id"]) from None
    return _shown(call, caller, changed, 200)


async def remove(call: Call) -> Answer:
    """Delete an automation."""
    caller = await auth.require(call, auth.AUTOMATION_DELETE)
    public_id = _public_id(call)
    try:
        await call.rt.db.write(automations.remove, caller.account_id, public_id, call.rt.clock.now())
    except NotFound:
        raise errors.missing("Automation", call.params["id"]) from None
    return DONE


def _shown(call: Call, caller: Caller, automation: Automation, status: int) -> Answer:
    """The automation; at the older base nothing, as its clients know it."""
    if not caller.is_hosted:
        return DONE
    return Answer(msgspec.json.encode(AutomationDocument(_item(call.rt, automation))), status)


def _item(rt: Runtime, automation: Automation) -> AutomationItem:
    wanted = automation.conditions
    return AutomationItem(
        id=str(automation.public_id),
        title=automation.title,
        sender=wanted.sender,
        inbox=wanted.inbox,
        subject=wanted.subject,
        has_attachments=wanted.has_attachments,
        action_url=automation.url,
        action_secret_token=running.find_token(rt, automation),
        payload_format=automation.payload_format,
        action_delete_email=automation.deletes,
        emails_received=automation.emails_received,
        created_at=email_form.moment(automation.created_at),
        updated_at=email_form.moment(automation.updated_at),
        action_email=automation.forward_to,
        post_raw=automation.payload_format == "raw",
        in_error=automation.in_error,
    )


def _public_id(call: Call) -> UUID:
    wanted = call.params["id"]
    if not UUID_FORM.fullmatch(wanted):
        raise errors.missing("Automation", wanted)
    return UUID(wanted)


async def _read(call: Call, caller: Caller) -> tuple[NewAutomation, str | None]:
    """The automation that a body describes, and its secret token. Refuses with 400, 413, 415, 422."""
    fields = _Fields(await _body(call))
    title = fields.text("title")
    conditions = Conditions(
        fields.text("sender"), fields.text("inbox"), fields.text("subject"), fields.truth("has_attachments")
    )
    url, forward_to = fields.text("action_url"), fields.text("action_email")
    token, deletes = fields.text("action_secret_token"), fields.truth("action_delete_email")
    payload_format: Any = fields.text("payload_format") or ("raw" if fields.truth("post_raw") else "json")
    wrong = fields.wrong
    if title is None and not any(name == "title" for name, _ in wrong):
        wrong.append(("title", "The title field is required."))
    if url is not None and forward_to is not None:
        wrong.append(("action_email", "The action email must be empty."))
    if url is None and forward_to is None and not caller.is_hosted:
        wrong.append(("action_url", "The action url field is required when action email is not present."))
    if payload_format not in FORMATS:
        wrong.append(("payload_format", "The selected payload format is invalid."))
    if wrong or title is None:
        raise Refused(schemas.refusal(wrong))
    return NewAutomation(title, conditions, url, payload_format, None, forward_to, deletes), token


class _Fields:
    """The fields of a body; what is wrong with them is gathered."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given
        self.wrong: list[schemas.Complaint] = []

    def text(self, name: str) -> str | None:
        """A text; an empty one is none."""
        value = self._given.get(name)
        if value is not None and not isinstance(value, str):
            self.wrong.append((name, f"The {_words(name)} must be a string."))
            return None
        if value and "\0" in value:  # no engine keeps it
            self.wrong.append((name, f"The {_words(name)} format is invalid."))
            return None
        return (value or "").strip() or None

    def truth(self, name: str) -> bool:
        """A truth value in any of the framework's forms."""
        value = self._given.get(name)
        if isinstance(value, list | dict) or (value or None) not in TRUTHS:
            self.wrong.append((name, f"The {_words(name)} field must be true or false."))
            return False
        return TRUTHS[value or None]


def _words(name: str) -> str:
    return name.replace("_", " ")


async def _body(call: Call) -> dict[str, Any]:
    """The fields of a body in JSON or of a form; what is neither an object nor a form has none."""
    media = (call.header(b"content-type") or "").partition(";")[0].strip().lower()
    if media == FORM:
        text = (await call.body()).decode("utf-8", "replace")
        try:
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS))
        except ValueError:
            raise Refused(schemas.refusal([("body", f"More than {MAX_QUERY_FIELDS} fields.")])) from None
    data = await schemas.read(call, SMALL_BODY_BYTES)
    given: Any = schemas.decode(data) if data else None
    return given if isinstance(given, dict) else {}


def _named(error: Invalid) -> Invalid:
    """The same with the fields' names of this API."""
    details = {_NAMED.get(name, name): reason for name, reason in error.details.items()}
    return Invalid(error.message, code=error.code, details=details)
