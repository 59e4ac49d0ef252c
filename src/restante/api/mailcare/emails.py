"""A team's emails: the list, one of them in any of its forms, its attachments, what is done with it."""

import asyncio
import re
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import msgspec

from restante.api.mailcare import auth, errors, paging, queries, representations
from restante.api.mailcare.auth import Caller
from restante.api.mailcare.representations import Form
from restante.core import arrivals, folders, messages
from restante.core.arrivals import Arrival, ArrivalPage, Filter
from restante.core.messages import NO_FLAGS, Flag
from restante.errors import NotFound
from restante.http.answers import HTML, Answer, Stream
from restante.http.calls import Call
from restante.http.downloads import DOWNLOAD_HEADERS, attached
from restante.http.problems import Problem, Refused
from restante.mail import message as mail
from restante.services import arrivals as following
from restante.services import email_form, retrieval
from restante.services.retrieval import Content

OFF_LOOP_BYTES = 256 * 1024  # bodies of larger messages are decoded in a thread
OFF_LOOP_ITEMS = 100  # pages of more emails and attachments are made in a thread
DONE = Answer(content_type=HTML)  # nothing to read, as clients know it
_VARY = ((b"vary", b"Accept"),)
UUID_FORM = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


async def list_emails(call: Call) -> Answer:
    """List emails, newest first. None of them is marked as read."""
    caller = await auth.require(call, auth.EMAIL_VIEW)
    wanted = queries.read(call)
    found = await following.list_page(call.rt, caller.account_id, wanted.filter, page=wanted.page, limit=wanted.limit)
    if not found.total and not caller.is_hosted:
        await _require_known(call, caller, wanted.filter)
    if sum(1 + one.attachments for one in found.arrivals) <= OFF_LOOP_ITEMS:
        return _listed(call, found, wanted)
    return await asyncio.get_running_loop().run_in_executor(call.rt.pool, _listed, call, found, wanted)


def _listed(call: Call, found: ArrivalPage, wanted: queries.Wanted) -> Answer:
    shown = [email_form.show(one) for one in found.arrivals]
    page = paging.build(call, shown, page=wanted.page, limit=wanted.limit, total=found.total)
    return Answer(msgspec.json.encode(page))


async def _require_known(call: Call, caller: Caller, wanted: Filter) -> None:
    """The older base answers 404 for an address that no mail came to, or from."""
    for model, address, knows in (
        ("Inbox", wanted.inbox, arrivals.knows_inbox),
        ("Sender", wanted.sender, arrivals.knows_sender),
    ):
        if address is not None and not await call.rt.db.read(knows, caller.account_id, address):
            raise errors.missing(model)


async def get_email(call: Call) -> Answer:
    """Show an email in the form that `Accept` asks for. As JSON it is marked as read."""
    caller = await auth.require(call, auth.EMAIL_VIEW)
    found = await _find(call, caller)
    form = representations.choose(call.header(b"accept"), has_html=found.has_html, has_text=found.has_text)
    if form is None:
        raise Refused(Problem(406, "not_acceptable", errors.NOT_ACCEPTABLE))
    if form in (Form.JSON, Form.VERSIONED):
        shown = found if call.is_head else await _read(call, caller, found)
        return Answer(email_form.encode(email_form.show(shown)), content_type=form.content_type, headers=_VARY)
    body = await _bytes(call, caller, found, form)
    return Answer(body, content_type=form.content_type, headers=(*_VARY, *DOWNLOAD_HEADERS))


async def _read(call: Call, caller: Caller, found: Arrival) -> Arrival:
    """Mark it as read, if it is not; returns it as it is then."""
    if found.read_at is not None:
        return found
    now = call.rt.clock.now()
    await _flag(call, caller, found, now, add=Flag.SEEN)
    return replace(found, read_at=now)


async def _bytes(call: Call, caller: Caller, found: Arrival, form: Form) -> bytes:
    if form is Form.RAW:
        return await retrieval.raw(call.rt, caller.account_id, found.message_id)
    _, content_id = await call.rt.db.read(messages.trace, caller.account_id, found.message_id)
    content = await retrieval.content(call.rt, caller.account_id, content_id)
    if found.size_bytes <= OFF_LOOP_BYTES:
        return _body(content, form)
    return await asyncio.get_running_loop().run_in_executor(call.rt.pool, _body, content, form)


def _body(content: Content, form: Form) -> bytes:
    decode = mail.html if form is Form.HTML else mail.text
    return (decode(content.message, content.raw) or "").encode("utf-8", "replace")


async def get_attachment(call: Call) -> Stream:
    """Download an attachment: its decoded bytes with its own Content-Type."""
    caller = await auth.require(call, auth.EMAIL_VIEW)
    found = await _find(call, caller)
    wanted = call.params["attachment"]
    index = email_form.find_attachment(found.id, found.attachments, wanted.lower())
    if index is None:
        raise errors.missing("Attachment", wanted)
    _, content_id = await call.rt.db.read(messages.trace, caller.account_id, found.message_id)
    return attached(await retrieval.attachment(call.rt, caller.account_id, content_id, index))


async def delete_email(call: Call) -> Answer:
    """Delete an email: it goes into the Trash of its mailbox, and is there again when it is moved out of it."""
    caller = await auth.require(call, auth.EMAIL_DELETE)
    found = await _find(call, caller)
    trash = await call.rt.db.read(folders.get_folder, caller.account_id, found.mailbox_id, "Trash")
    await call.rt.db.write(
        messages.move, caller.account_id, found.mailbox_id, [found.message_id], trash.id, now=call.rt.clock.now()
    )
    return DONE


async def add_favorite(call: Call) -> Answer:
    """Mark an email as a favorite: favorites are not deleted by themselves."""
    caller = await auth.require(call, auth.EMAIL_FAVORITE)
    await _flag(call, caller, await _find(call, caller), call.rt.clock.now(), add=Flag.FLAGGED)
    return DONE


async def remove_favorite(call: Call) -> Answer:
    """Take an email out of the favorites."""
    caller = await auth.require(call, auth.EMAIL_FAVORITE)
    await _flag(call, caller, await _find(call, caller), call.rt.clock.now(), remove=Flag.FLAGGED)
    return DONE


async def _find(call: Call, caller: Caller) -> Arrival:
    """The email that the path names. Refuses with 404, a deleted one and another team's too."""
    wanted = call.params["id"]
    if not UUID_FORM.fullmatch(wanted):
        raise errors.missing("Email", wanted)
    await following.ready(call.rt, caller.account_id)
    try:
        return await call.rt.db.read(arrivals.find, caller.account_id, UUID(wanted))
    except NotFound:
        raise errors.missing("Email", wanted) from None


async def _flag(
    call: Call, caller: Caller, found: Arrival, now: datetime, *, add: Flag = NO_FLAGS, remove: Flag = NO_FLAGS
) -> None:
    await call.rt.db.write(
        messages.set_flags, caller.account_id, found.mailbox_id, [found.message_id], add=add, remove=remove, now=now
    )
