"""Transfer: taking a submission's due recipients of one domain to where they are, in one job.

Local recipients get it by the same job: their mailbox and the record of it are one transaction. To another server a
message goes at least once: what that server took and we could not note (we were killed before its answer, or that never
came) goes again. Everything else that could repeat is kept out: its answer is noted at once and recorded from there if
this process ends first, the job's lease outlives the dialogue, and only recipients that are not final are taken up.
"""

import asyncio
import functools
import ssl
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import msgspec

from restante import log
from restante.config import Config, parse_server
from restante.core import contents, routing, transfer
from restante.core.contents import StoredContent
from restante.core.delivery import Target
from restante.core.jobs import Job
from restante.core.transfer import Outcome, Work
from restante.errors import (
    Forbidden,
    Invalid,
    NotFound,
    QuotaExceeded,
    RemoteUnavailable,
    RestanteError,
    Unavailable,
)
from restante.ids import AccountId, SubmissionId
from restante.mail import serialize
from restante.mail.structure import Buffer
from restante.net import dns, smtp_client
from restante.net.dns import Unroutable
from restante.net.egress import Egress
from restante.net.smtp_client import Endpoint, Login, Lost, Outgoing, Result, Session, Timeouts
from restante.runtime import Runtime
from restante.schema.connections import ReadConn
from restante.services import retrieval, storing

LONGEST_SECONDS = 3600.0  # of one attempt, whatever the peers do
RECORD_PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds between tries to note what is done already
SMARTHOST = "smarthost"  # the destination's name when everything goes there

NOTED_RESPONSE = 100  # characters of a response in a note

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Outcome])
_log = log.logger(__name__)


async def run(rt: Runtime, job: Job) -> bool:
    """Move what is due (the job's handler); the outcome's own transaction settles the job."""
    account_id = AccountId(job.payload["account"])
    submission_id, domain = SubmissionId(job.payload["submission"]), str(job.payload["domain"])
    found = await rt.db.read(_load, account_id, submission_id, domain, rt.clock.now())
    call: bytes | None = None
    outcomes: list[Outcome] = []
    if found is not None:
        work, stored = found
        try:
            raw = await retrieval.received_bytes(rt, stored)
            if work.is_local:
                call, outcomes = await _local(rt, work, raw)
            else:
                outcomes = _noted(rt, work) or await _handed_over(rt, work, raw)
        except Unavailable as error:  # of ours: the bytes cannot be read or stored now
            later = Result("deferred", "4.3.0", f"local trouble: {error.message}", rt.config.hostname)
            call, outcomes = None, _outcomes(work, [later] * len(work.recipients))
    await _record(rt, call, account_id, submission_id, domain, outcomes, job)
    if found is not None:
        rt.notes.remove(_note_key(found[0]))
    for outcome in outcomes:
        _log.info("transferred", submission=submission_id, status=outcome.status, dsn=outcome.dsn_code, domain=domain)
    return True


def _load(
    conn: ReadConn, account_id: AccountId, submission_id: SubmissionId, domain: str, now: datetime
) -> tuple[Work, StoredContent] | None:
    work = transfer.load(conn, account_id, submission_id, domain, now)
    return None if work is None else (work, contents.get(conn, account_id, work.content_id))


async def _record(
    rt: Runtime,
    call: bytes | None,
    account_id: AccountId,
    submission_id: SubmissionId,
    domain: str,
    outcomes: Sequence[Outcome],
    job: Job,
) -> None:
    """Note what is done. It is done already, so a store that fails for a moment is waited for. Raises Unavailable."""
    args = (account_id, submission_id, domain, outcomes, rt.clock.now(), job)
    for pause in (*RECORD_PAUSES, None):
        try:
            if call is None:
                await rt.db.write(transfer.record_attempts, *args)
            else:
                await rt.db.write(transfer.deliver_local, *args, call)
            return
        except Unavailable as error:
            if pause is None or call is not None or error.code == "storage_ended":  # this server is coming to its end
                raise
            _log.warning("outcome not noted yet", submission=submission_id, domain=domain)
            await asyncio.sleep(pause)


async def _handed_over(rt: Runtime, work: Work, raw: Buffer) -> list[Outcome]:
    """What became of each recipient at the other server; noted in the same moment, as nobody else knows of it yet."""
    outcomes = _outcomes(work, await _remote(rt, work, raw))
    if any(outcome.status == "sent" for outcome in outcomes):
        short = [outcome._replace(response=outcome.response[:NOTED_RESPONSE]) for outcome in outcomes]
        rt.notes.put(_note_key(work), _encoder.encode(short))
    return outcomes


def _noted(rt: Runtime, work: Work) -> list[Outcome]:
    """What came of handing this over before, when that was not recorded any more: this server was killed."""
    note = rt.notes.find(_note_key(work))
    due = {recipient.id for recipient in work.recipients}
    return [outcome for outcome in _decoder.decode(note) if outcome.transfer_id in due] if note else []


def _note_key(work: Work) -> str:
    return f"{work.queue_id} {work.domain}"


def _outcomes(work: Work, results: Sequence[Result]) -> list[Outcome]:
    return [Outcome(each.id, *result) for each, result in zip(work.recipients, results, strict=True)]


# --- mailboxes of this server -----------------------------------------------------------------------------------------


async def _local(rt: Runtime, work: Work, raw: Buffer) -> tuple[bytes | None, list[Outcome]]:
    """What ``delivery`` has to store, if anything, and what becomes of each recipient then. Raises Unavailable."""
    outcomes, targets = [], []
    for recipient in work.recipients:
        try:
            routes = await rt.db.read(routing.resolve, recipient.address, len(raw))
        except RestanteError as error:
            outcomes.append(Outcome(recipient.id, *_refusal(error, rt.config.hostname)))
            continue
        routes = tuple(route for route in routes if route.submission_id is None)
        if not routes:  # a return path: reports come to it from elsewhere
            outcomes.append(Outcome(recipient.id, "bounced", "5.1.1", "no such mailbox", rt.config.hostname))
            continue
        for route in routes:
            assert route.mailbox_id is not None, "only a return path has none"
            trace = _trace(rt, work, route.address, route.delivered_to)
            targets.append(Target(route.account_id, route.mailbox_id, "INBOX", route.address, trace))
        outcomes.append(Outcome(recipient.id, "sent", "2.0.0", "delivered to the mailbox", rt.config.hostname))
    if not targets:
        return None, outcomes
    examined = await storing.examine_bounded(rt, raw, work.envelope_sender)
    return await storing.encode(rt, raw, examined, targets, rt.clock.now()), outcomes


def _trace(rt: Runtime, work: Work, address: str, mailbox: str) -> bytes:
    """The lines in front of a message that never left this server (RFC 5321 §4.4)."""
    by = f"by {rt.config.hostname} id {work.queue_id} for <{address}>; {serialize.date(rt.clock.now())}"
    return (
        serialize.trace_header("Return-Path", f"<{work.envelope_sender}>")
        + serialize.trace_header("Delivered-To", mailbox)
        + serialize.trace_header("Received", by)
    )


def _refusal(error: RestanteError, hostname: str) -> Result:
    """Why a local mailbox does not take a message (as reception would answer RCPT)."""
    match error:
        case QuotaExceeded():
            return Result("deferred", "4.2.2", error.message, hostname)
        case NotFound():
            return Result("bounced", "5.1.1", error.message, hostname)
        case Forbidden():
            return Result("bounced", "5.2.1", error.message, hostname)
        case Invalid():
            return Result("bounced", "5.1.3", error.message, hostname)
        case _:
            return Result("deferred", "4.3.0", error.message, hostname)


# --- other servers ----------------------------------------------------------------------------------------------------


async def _remote(rt: Runtime, work: Work, raw: Buffer) -> list[Result]:
    """Hand the message to a server of the domain, or to the smarthost; a result per recipient."""
    mail = _outgoing(work, raw)
    destination = SMARTHOST if rt.config.transfer.smarthost else work.domain
    try:
        async with rt.connections.slot(destination), asyncio.timeout(LONGEST_SECONDS):
            session = rt.connections.take(destination)
            if session is not None:
                try:
                    return await _hand_over(rt, destination, session, mail)
                except Lost:  # it had been idle; the peer may close such a connection at any time
                    pass
            return await _over_new_connection(rt, destination, mail)
    except Lost as lost:
        result = lost.result
    except Unroutable as error:
        result = Result("bounced", error.code, error.text)
    except RemoteUnavailable as error:
        result = Result("deferred", "4.4.3", error.message)
    except TimeoutError:
        result = Result("deferred", "4.4.2", f"{destination} took longer than {LONGEST_SECONDS:g} s")
    except Invalid as error:
        result = Result("bounced", "5.1.3", error.message)
    return [result] * len(mail.recipients)


def _outgoing(work: Work, raw: Buffer) -> Outgoing:
    addresses = (work.return_path, *(each.address for each in work.recipients))
    is_8bit = not all(raw[at : at + (1 << 20)].isascii() for at in range(0, len(raw), 1 << 20))
    end = raw.find(b"\r\n\r\n") if is_8bit else 0
    needs_smtputf8 = not all(each.isascii() for each in addresses) or not raw[: max(end, 0)].isascii()
    return Outgoing(addresses[0], addresses[1:], raw, is_8bit, needs_smtputf8)


async def _hand_over(rt: Runtime, destination: str, session: Session, mail: Outgoing) -> list[Result]:
    """Send on an open session and keep it for the next message. Raises Lost."""
    try:
        results = await session.send(mail)
    except BaseException:
        session.abort()
        raise
    rt.connections.keep(destination, session)
    return results


async def _over_new_connection(rt: Runtime, destination: str, mail: Outgoing) -> list[Result]:
    """Try the destination's hosts in their order until one has answered for the message.

    Raises Lost (of the last host that was tried), Unroutable, RemoteUnavailable.
    """
    settings = rt.config.transfer
    timeouts = Timeouts().scaled(settings.timeout_seconds)
    is_smarthost = destination == SMARTHOST
    mode: smtp_client.TlsMode = settings.smarthost_tls if is_smarthost else "opportunistic"  # type: ignore[assignment]
    login = None
    if is_smarthost and settings.smarthost_username:
        login = Login(settings.smarthost_username, settings.smarthost_password)
    lost: Lost | None = None
    endpoints = _smarthost(rt) if is_smarthost else _endpoints(rt, destination)
    async for endpoint in endpoints:
        try:
            session = await smtp_client.connect(
                endpoint, rt.config.hostname, timeouts, tls=mode, context=_context(mode), login=login
            )
            _require_other(rt.config, session)
            return await _hand_over(rt, destination, session, mail)
        except Lost as failure:
            lost = failure
    assert lost is not None
    raise lost


async def _endpoints(rt: Runtime, domain: str) -> AsyncIterator[Endpoint]:
    """Where mail for a domain may be handed over, best first.

    Raises, when there is nothing at all, what kept the last host out: Unroutable, or RemoteUnavailable.
    """
    trouble: Unroutable | RemoteUnavailable | None = None
    is_any = False
    egress = Egress(rt.config.egress.allow)
    for host in await dns.mail_hosts(rt.resolver, domain, rt.config.hostname):
        try:
            addresses = await dns.host_addresses(rt.resolver, host, egress)
        except RemoteUnavailable as error:
            trouble = error
        except Unroutable as error:
            code = "5.1.2" if host == domain else error.code
            trouble = trouble or Unroutable(code, error.text)
        else:
            for address in addresses:
                is_any = True
                yield Endpoint(host, address, rt.config.transfer.port)
    if trouble is not None and not is_any:
        raise trouble


async def _smarthost(rt: Runtime) -> AsyncIterator[Endpoint]:
    """The operator's own choice: any address is allowed. Raises RemoteUnavailable."""
    host, port = parse_server(rt.config.transfer.smarthost)
    addresses = (host,) if dns.is_address(host) else await rt.resolver.addresses(host)
    if not addresses:
        raise RemoteUnavailable(f"the smarthost {host} has no address", host=host, code="dns_failed")
    for address in addresses:
        yield Endpoint(host, address, port)


def _require_other(config: Config, session: Session) -> None:
    """Raise Unroutable when the peer is this very server: the message would go round in circles."""
    if session.peer_name == config.hostname.lower() != "localhost":
        session.abort()
        raise Unroutable("5.4.6", f"mail for this domain comes back to this server ({config.hostname})")


@functools.lru_cache(maxsize=2)
def _context(mode: smtp_client.TlsMode) -> ssl.SSLContext | None:
    match mode:
        case "none":
            return None
        case "opportunistic":
            return smtp_client.opportunistic_context()
        case _:
            return ssl.create_default_context()
