"""Reception: taking a message for local recipients and answering for it.

When ``receive`` returns the message is durable in every recipient's mailbox; when it raises, in none.
"""

import functools
import re
from datetime import UTC, datetime
from typing import NamedTuple

from restante import ids, log
from restante.core.delivery import Delivered, Target
from restante.core.routing import Route
from restante.errors import Invalid, NotFound, TooLarge, Unavailable
from restante.mail import feedback, serialize
from restante.mail.message import Message
from restante.mail.structure import Buffer
from restante.runtime import Runtime
from restante.services import reports, storing

_log = log.logger(__name__)
PLAIN_MAX = 900  # characters of trace headers that need no folding (RFC 5322 §2.1.1)
_HOP = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE)
_DELIVERED_TO = re.compile(rb"^delivered-to[ \t]*:[ \t]*([^\r\n]{1,998})", re.IGNORECASE | re.MULTILINE)


class Envelope(NamedTuple):
    """Who it is from and for. ``sender`` is "" for the null reverse-path."""

    sender: str
    recipients: tuple[Route, ...]
    smtputf8: bool = False
    body: str = "7BIT"


class Source(NamedTuple):
    """Where a message came in; goes into its Received line (RFC 5321 §4.4, RFC 3848)."""

    peer: str
    helo: str
    protocol: str
    hostname: str
    tls: str | None = None
    login: str | None = None


class Receipt(NamedTuple):
    """Proof of a durable message; ``id`` stands in the Received lines and in the 250."""

    id: str
    delivered: tuple[Delivered, ...]


async def receive(rt: Runtime, envelope: Envelope, source: Source, raw: Buffer) -> Receipt:
    """Deliver a message to its local recipients; durable when it returns.

    Raises Invalid(code="loop"), TooLarge, Unavailable (nothing is stored: the peer keeps it).
    """
    limit = rt.config.smtp.limits.max_message_bytes
    if len(raw) > limit:
        raise TooLarge(f"the message is over {limit} bytes")
    now = rt.clock.now()
    receipt_id = ids.new_receipt_id()
    examined = await storing.examine_bounded(rt, raw, envelope.sender)
    _require_no_loop(rt, raw, examined.message, envelope)
    routes = list(dict.fromkeys(envelope.recipients))
    targets = [
        Target(
            route.account_id,
            route.mailbox_id,
            "INBOX",
            route.address,
            trace_headers(envelope, source, route, receipt_id, now),
        )
        for route in routes
        if route.mailbox_id is not None
    ]
    if any(route.submission_id is not None for route in routes):
        await reports.note(rt, routes, examined.message, raw)
    if feedback.is_report(examined.message):
        await reports.note_complaint(rt, routes, examined.message, raw)
    try:
        delivered = await storing.deliver(rt, raw, examined, targets, now) if targets else []
    except NotFound as error:  # removed since RCPT: on the next try RCPT says so, to that recipient alone
        raise Unavailable("a recipient's mailbox is gone", code="recipient_gone") from error
    _log.info("received", id=receipt_id, peer=source.peer, bytes=len(raw), recipients=len(targets))
    return Receipt(receipt_id, tuple(delivered))


def trace_headers(envelope: Envelope, source: Source, route: Route, receipt_id: str, now: datetime) -> bytes:
    """The lines put in front of the message for one recipient (RFC 5321 §4.4; Delivered-To as Postfix writes it)."""
    protocol = f"{source.protocol} ({source.tls})" if source.tls else source.protocol
    whence = f"from {source.helo} ([{source.peer}])"
    where = f"by {source.hostname} with {protocol} id {receipt_id}"
    whither = f"for <{route.address}>; {_date(int(now.timestamp()))}"
    sender, mailbox = f"<{envelope.sender}>", route.delivered_to
    plain = f"{whence}{where}{whither}{sender}{mailbox}"
    if plain.isascii() and plain.isprintable() and len(plain) < PLAIN_MAX:
        return (
            f"Return-Path: {sender}\r\nDelivered-To: {mailbox}\r\nReceived: {whence}\r\n\t{where}\r\n\t{whither}\r\n"
        ).encode("ascii")
    return (
        serialize.trace_header("Return-Path", sender)
        + serialize.trace_header("Delivered-To", mailbox)
        + serialize.trace_header("Received", f"{whence} {where} {whither}")
    )


@functools.lru_cache(maxsize=4)
def _date(seconds: int) -> str:
    return serialize.date(datetime.fromtimestamp(seconds, UTC))


def _require_no_loop(rt: Runtime, raw: Buffer, parsed: Message, envelope: Envelope) -> None:
    """Refuse what has been here before, or has travelled too far (RFC 5321 §6.3)."""
    block = raw[: parsed.root.body_start]
    lowered = block.lower()
    hops = len(_HOP.findall(block)) if lowered.count(b"received") > rt.config.smtp.limits.max_hops else 0
    if hops > rt.config.smtp.limits.max_hops:
        raise Invalid(f"the message loops: it has {hops} Received lines", code="loop")
    if b"delivered-to" not in lowered:
        return
    been = {found.strip().lower() for found in _DELIVERED_TO.findall(block)}
    for route in envelope.recipients:
        if route.delivered_to.encode().lower() in been:
            raise Invalid(f"the message loops: it was delivered to {route.delivered_to} before", code="loop")
