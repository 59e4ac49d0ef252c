"""Forwarding: a received message sent on from the address that it came to, as a message of its own.

It keeps the subject, the bodies and the attachments, and says that no person sent it (RFC 3834 §5), so that no absent
one answers. It cannot run in circles: each address that forwards leaves its name in ``X-Loop``, forwards nothing that
bears it, and nothing that reports of failed delivery (the null sender).
"""

import asyncio

from restante.core.access import Principal
from restante.core.idempotency import Once
from restante.core.messages import MessageRow
from restante.errors import Conflict, Invalid
from restante.ids import AccountId
from restante.mail import address as addresses
from restante.mail import message, serialize
from restante.mail.address import Address
from restante.mail.compose import Draft, Part
from restante.mail.message import Attachment
from restante.runtime import Runtime
from restante.services import retrieval, submission
from restante.services.retrieval import Content

LOOP = "X-Loop"
MAX_HOPS = 10

_OCTET_STREAM = "application/octet-stream"


async def forward(rt: Runtime, account_id: AccountId, row: MessageRow, to: str, once: Once) -> None:
    """Send a message of the account on, once for ``once``; it is durable, on its way, when this returns.

    Errors: Conflict ``forwarding_loop``, ``null_sender``; NotFound; Unavailable; those of ``submission.send``.
    """
    if not row.envelope_sender:
        raise Conflict("What reports of failed delivery is not forwarded.", code="null_sender")
    content = await retrieval.content(rt, account_id, row.content_id)
    draft = await asyncio.get_running_loop().run_in_executor(rt.pool, _draft, row, content, to)
    owner = Principal(account_id, None, None, "account", None, None)
    await submission.send(rt, owner, draft, origin="automation", once=once, has_copy=False)


def _draft(row: MessageRow, content: Content, to: str) -> Draft:
    inbox = addresses.normalise(row.envelope_recipient)
    passed = [value for name, value in message.headers(content.raw) if name.lower() == LOOP.lower()]
    if len(passed) >= MAX_HOPS or inbox in (value.strip().lower() for value in passed):
        raise Conflict(f"{inbox} has forwarded this already.", code="forwarding_loop")
    loops = [serialize.clean(value)[: serialize.ADDRESS_LIMIT] for value in passed]
    return Draft(
        from_=Address("", inbox),
        to=(Address("", to),),
        reply_to=_answers_to(row.from_),
        subject=row.subject,
        text=message.text(content.message, content.raw),
        html=message.html(content.message, content.raw),
        attachments=tuple(_part(one, content) for one in content.message.attachments),
        extra=(("Auto-Submitted", "auto-generated"), *((LOOP, value) for value in (*loops, inbox))),
    )


def _answers_to(author: Address) -> tuple[Address, ...]:
    """Who wrote it, if that can stand in a header."""
    try:
        serialize.address(author.email, "reply_to")
    except Invalid:
        return ()
    return (author,)


def _part(one: Attachment, content: Content) -> Part:
    """An attachment with its bytes; what of its description cannot be written is left out."""
    content_type, content_id = one.content_type, one.content_id
    try:
        serialize.media_type(content_type, "")
    except Invalid:
        content_type = _OCTET_STREAM
    try:
        content_id = content_id and serialize.identifier(content_id, "")
    except Invalid:
        content_id = None
    is_inline = one.disposition == "inline" or (content_id is not None and one.disposition != "attachment")
    return Part(one.filename, content_type, b"".join(message.decoded(one, content.raw)), content_id or None, is_inline)
