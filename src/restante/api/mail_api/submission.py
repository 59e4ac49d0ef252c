"""Endpoints 1 to 3: send a message, follow it, list what was sent."""

import asyncio
import binascii
import hashlib
import mimetypes
import re
from collections.abc import Awaitable
from datetime import time
from typing import NamedTuple
from uuid import UUID

from restante.api.mail_api import auth, mail_shapes, paging, shapes
from restante.core import submission, tracking
from restante.core.access import Principal
from restante.core.messages import Page
from restante.core.submission import Recipient, Submission
from restante.core.tracking import Query
from restante.errors import Invalid, NotFound, SendFailed
from restante.http import idempotency, schemas
from restante.http.answers import Answer
from restante.http.calls import Call
from restante.http.problems import Refused
from restante.ids import SubmissionId
from restante.mail import address as addresses
from restante.mail import compose, serialize
from restante.mail.address import Address
from restante.mail.compose import Draft, Part
from restante.schema.connections import ReadConn, scanning
from restante.services import submission as service
from restante.storage.spool import Buffer

MAX_RECIPIENTS = 100
MAX_TEXT_BYTES = 5 * 1024 * 1024
MAX_ATTACHED_BYTES = 25 * 1024 * 1024
_PIECE = 1024 * 1024  # of base64 decoded at one go, so that a thread gives others their turn; divides by 4
_SPACE = re.compile(r"[\r\n\t ]+")


class Outgoing(NamedTuple):
    """A request that is right in itself: what to send, to whom besides, and what tells its body from others."""

    draft: Draft
    bcc: tuple[Address, ...]
    request_hash: bytes


class SentPage(NamedTuple):
    """A page as read in one transaction, with the To recipients of its messages."""

    page: Page[Submission]
    to: dict[SubmissionId, list[str]]


async def send(call: Call) -> Answer:
    """Accept a message for sending. It is safe on disk when this answers 202; follow it by its ``message_id``.

    With an `Idempotency-Key` header a request that is repeated within 24 hours gets its first answer again.
    """
    caller = await auth.require(call)
    schemas.require_json(call)
    limit = call.rt.config.http.max_body_bytes
    if call.has_small_body():
        return await _submit(call, caller, read_request(await call.body(limit)))
    async with call.held_body(limit) as data:
        outgoing = await asyncio.get_running_loop().run_in_executor(call.rt.pool, read_request, data)
        return await _submit(call, caller, outgoing)


async def _submit(call: Call, caller: auth.Caller, outgoing: Outgoing) -> Answer:
    once = idempotency.read(call, caller.principal, auth.DIALECT, "send", outgoing.request_hash)
    return await accepted(service.send(call.rt, caller.principal, outgoing.draft, outgoing.bcc, once=once))


async def accepted(sending: Awaitable[Submission]) -> Answer:
    """The answer to what is being submitted: 202, or SEND_FAILED with the id of what tells of it."""
    try:
        done = await sending
    except SendFailed as error:
        failure = mail_shapes.SendFailure(False, "SEND_FAILED", error.message, error.message, error.submission)
        return shapes.answer(failure, status=500)
    assert done.queue_id is not None, "what is accepted has a queue id"
    shape = mail_shapes.Accepted(True, str(done.public_id), "submitted", done.queue_id, done.recipients)
    return shapes.answer(shape, status=202)


async def get_status(call: Call) -> Answer:
    """Tell where a message stands, recipient by recipient."""
    caller = await auth.require(call)
    found, recipients = await call.rt.db.read(read_status, caller.principal, call.params["message_id"])
    state = mail_shapes.MessageState(
        success=True,
        message_id=str(found.public_id),
        status=found.status,
        created_at=shapes.moment(found.created_at),
        submitted_at=shapes.optional_moment(found.submitted_at),
        recipients=[_recipient(recipient) for recipient in recipients],
    )
    return shapes.answer(state)


async def list_sent(call: Call) -> Answer:
    """List what was sent through the API, newest first: everything for an admin, the own for a user."""
    caller = await auth.require(call)
    asked = schemas.query(call, mail_shapes.SentQuery)
    found = await call.rt.db.read(read_sent, caller.principal, _query(caller.principal, asked))
    items = [
        mail_shapes.SentItem(
            message_id=str(sent.public_id),
            from_=sent.sender,
            to=found.to.get(sent.id, []),
            subject=sent.subject,
            status=sent.status,
            created_at=shapes.moment(sent.created_at),
            submitted_at=shapes.optional_moment(sent.submitted_at),
        )
        for sent in found.page.items
    ]
    return shapes.answer(mail_shapes.SentList(True, found.page.total, items))


def read_status(conn: ReadConn, principal: Principal, message_id: str) -> tuple[Submission, list[Recipient]]:
    """A submission that the principal may follow, and its recipients. Errors: Forbidden, NotFound."""
    found = tracking.require(conn, principal, public_id(message_id))
    return found, submission.list_recipients(conn, found.account_id, [found.id])


@scanning
def read_sent(conn: ReadConn, principal: Principal, query: Query) -> SentPage:
    """A page of what the principal sent; of every account for the operator."""
    account_id = None if principal.kind == "operator" else principal.account_id
    page = tracking.list_page(conn, account_id, query)
    to: dict[SubmissionId, list[str]] = {}
    for account in {sent.account_id for sent in page.items}:
        mine = [sent.id for sent in page.items if sent.account_id == account]
        for recipient in submission.list_recipients(conn, account, mine, "to"):
            to.setdefault(recipient.submission_id, []).append(recipient.address)
    return SentPage(page, to)


def public_id(text: str) -> UUID:
    """The id in a path; NotFound ``submission_not_found`` for what is none."""
    try:
        found = UUID(text)
    except ValueError:
        found = None
    if found is None or str(found) != text.lower():
        raise NotFound("There is no such message.", code="submission_not_found")
    return found


def read_request(data: Buffer) -> Outgoing:
    """A request's body, checked whole: refuses with every wrong field at once."""
    wanted = schemas.parse(data, mail_shapes.SendRequest)
    check = _Check()
    draft = Draft(
        from_=check.address("from", wanted.from_),
        to=check.addresses("to", wanted.to),
        cc=check.addresses("cc", wanted.cc),
        reply_to=check.addresses("reply_to", wanted.reply_to),
        subject=wanted.subject or "",
        text=wanted.body.text,
        html=wanted.body.html,
        attachments=check.attachments(wanted.attachments or []),
        headers=check.headers(wanted.headers or {}),
    )
    bcc = check.addresses("bcc", wanted.bcc)
    check.body(wanted.body)
    check.recipients((*draft.to, *draft.cc, *bcc), is_to_given=bool(wanted.to))
    if check.complaints:
        raise Refused(schemas.refusal(check.complaints))
    return Outgoing(draft, bcc, hashlib.sha256(data).digest())


class _Check:
    """Collects what is wrong with a request; what a method returns counts only when nothing is."""

    def __init__(self) -> None:
        self.complaints: list[schemas.Complaint] = []

    def address(self, place: str, text: str) -> Address:
        """One address, as it may stand in a header and in an envelope."""
        try:
            found = addresses.parse_one(text)
            serialize.address(found.email, place)
        except Invalid as error:
            self.complaints.append((place, next(iter(error.details.values()), error.message)))
            return Address("", "")
        if found.email.endswith("]"):
            self.complaints.append((place, "Mail is not sent to an address in brackets."))
        return found

    def addresses(self, place: str, given: list[str] | str | None) -> tuple[Address, ...]:
        """A list of addresses, or one."""
        if isinstance(given, str):
            return (self.address(place, given),)
        return tuple([self.address(f"{place}[{number}]", text) for number, text in enumerate(given or [])])

    def recipients(self, given: tuple[Address, ...], *, is_to_given: bool) -> None:
        """How many different ones there are."""
        if not is_to_given:
            self.complaints.append(("to", "At least one recipient is needed."))
        if not self.complaints and len({addresses.normalise(one.email) for one in given}) > MAX_RECIPIENTS:
            self.complaints.append(("to", f"At most {MAX_RECIPIENTS} different recipients in to, cc and bcc together."))

    def body(self, given: mail_shapes.SendBody) -> None:
        """Text or HTML, within bounds."""
        if given.text is None and given.html is None:
            self.complaints.append(("body", "It needs text or html."))
        size = sum(len((part or "").encode("utf-8", "surrogatepass")) for part in (given.text, given.html))
        if size > MAX_TEXT_BYTES:
            self.complaints.append(("body", f"text and html have {size} bytes; at most {MAX_TEXT_BYTES} are sent."))

    def headers(self, given: dict[str, str]) -> tuple[tuple[str, str], ...]:
        """Headers of the user's own."""
        for name, value in given.items():
            place = f"headers[{name[:100]!r}]"
            try:
                serialize.raw_header(name, value, place)
                if compose.is_forbidden(name):
                    self.complaints.append((place, "This header is not yours to set."))
            except Invalid as error:
                self.complaints.append((place, next(iter(error.details.values()), error.message)))
        return tuple(given.items())

    def attachments(self, given: list[mail_shapes.SendAttachment]) -> tuple[Part, ...]:
        """Files, decoded."""
        found = [self._attachment(f"attachments[{number}]", one) for number, one in enumerate(given)]
        size = sum(len(part.content) for part in found)
        if size > MAX_ATTACHED_BYTES:
            reason = f"Together they have {size} bytes; at most {MAX_ATTACHED_BYTES} are sent."
            self.complaints.append(("attachments", reason))
        return tuple(found)

    def _attachment(self, place: str, given: mail_shapes.SendAttachment) -> Part:
        kind = given.content_type or _guessed(given.filename)
        try:
            serialize.media_type(kind, place)
        except Invalid:
            self.complaints.append((f"{place}.content_type", "Not a content type."))
        content = b""
        try:
            content = decode_base64(given.content)
        except ValueError:
            self.complaints.append((f"{place}.content", "Not base64."))
        return Part(given.filename, kind, content)


def decode_base64(text: str) -> bytes:
    """The bytes of RFC 4648 §4 base64; line ends and spaces in it do not matter. ValueError for everything else."""
    if not text.isascii():
        raise ValueError("not ASCII")
    encoded = _SPACE.sub("", text).encode()
    found = []
    for start in range(0, len(encoded), _PIECE):
        piece = encoded[start : start + _PIECE]
        if b"=" in piece and start + _PIECE < len(encoded):
            raise ValueError("padding before the end")
        found.append(binascii.a2b_base64(piece, strict_mode=True))
    return b"".join(found)


def _guessed(filename: str) -> str:
    kind, encoding = mimetypes.guess_type(filename)
    return kind if kind and not encoding else "application/octet-stream"


def _query(principal: Principal, asked: mail_shapes.SentQuery) -> Query:
    def address(field: str, text: str | None) -> str | None:
        try:
            return None if text is None else addresses.normalise(text)
        except Invalid as error:
            raise paging.wrong(field, error.message) from error

    return Query(
        source="api",
        mailbox_id=principal.mailbox_id if principal.kind == "user" else None,
        status=asked.status,
        sender=address("from", asked.from_),
        recipient=address("to", asked.to),
        since=paging.moment("start_date", asked.start_date, time()) if asked.start_date else None,
        until=paging.moment("end_date", asked.end_date, time(23, 59, 59, 999_999)) if asked.end_date else None,
        limit=asked.limit,
        offset=asked.offset,
    )


def _recipient(recipient: Recipient) -> mail_shapes.RecipientState:
    return mail_shapes.RecipientState(
        email=recipient.address,
        type=recipient.kind,
        status=recipient.status,
        dsn_code=recipient.dsn_code,
        delivered_at=shapes.optional_moment(recipient.delivered_at),
        smtp_response=recipient.smtp_response,
        remote_mta=recipient.remote_mta,
        attempts=recipient.attempts,
        last_attempt_at=shapes.optional_moment(recipient.last_attempt_at),
    )
