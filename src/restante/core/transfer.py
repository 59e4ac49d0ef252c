"""Transfer: moving submissions to their recipients, one row of ``transfers`` each, by the Mail API's state machine.

What an attempt came to is written in one transaction with everything that follows from it: the recipient's row, the
delivery log, the submission's counters and status, statistics, events, the job's next turn, and the job that tells the
sender of a failure. A recipient that is ``sent`` or ``bounced`` is never tried again.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, insert, select, update

from restante import clock
from restante.core import deliveries, events, jobs, statistics, submission
from restante.core.events import NewEvent
from restante.core.jobs import Job
from restante.core.routing import RETURN_PREFIX
from restante.core.statistics import Delta
from restante.core.submission import Recipient, Submission
from restante.errors import NotFound
from restante.ids import AccountId, ContentId, MailboxId, SubmissionId, TransferId
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn
from restante.schema.prepared import Prepared, Row

REPORT_KIND = "transfer-report"  # of the jobs that tell a sender of a failure
PAUSES = (timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1))  # after the first attempts
LAST_PAUSE = timedelta(hours=4)  # after every later one
EXPIRED = "4.4.7"  # RFC 3463 §3.5: delivery time expired
CANCELLED = "5.7.0"

_s, _t, _d = tables.submissions.c, tables.transfers.c, tables.domains.c

OutcomeStatus = Literal["sent", "deferred", "bounced"]


class Waiting(NamedTuple):
    """A recipient whose turn it is."""

    id: TransferId
    address: str


@dataclass(frozen=True, slots=True)
class Work:
    """What one job has to move: the message and the due recipients of one domain.

    ``return_path`` is what goes into MAIL: with the return token where reports to the sender's domain come to us.
    """

    submission_id: SubmissionId
    domain: str
    is_local: bool
    return_path: str
    envelope_sender: str
    queue_id: str
    content_id: ContentId
    recipients: tuple[Waiting, ...]


class Outcome(NamedTuple):
    """What one attempt came to for one recipient."""

    transfer_id: TransferId
    status: OutcomeStatus
    dsn_code: str
    response: str
    remote_mta: str | None = None
    tls: str | None = None


class Failure(NamedTuple):
    """What a report says of one recipient; ``address`` "" when it does not say of whom."""

    address: str
    dsn_code: str
    text: str
    remote_mta: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """What a sender is told of: the submission, and the recipients that will not get it."""

    submission: Submission
    recipients: tuple[Recipient, ...]


_SUBMISSION = Prepared(
    select(_s.content_id, _s.queue_id, _s.envelope_sender, _s.sender_domain, _s.return_token).where(
        _s.account_id == bindparam("account"), _s.id == bindparam("submission")
    )
)
_DUE = Prepared(
    select(_t.id, _t.address)
    .where(
        _t.account_id == bindparam("account"),
        _t.submission_id == bindparam("submission"),
        _t.domain == bindparam("domain"),
        _t.next_attempt_at <= bindparam("now"),
        _t.is_held == 0,
    )
    .order_by(_t.id)
)
_LOCAL = Prepared(
    select(_d.name, _d.account_id).where(
        _d.name.in_((bindparam("sender_domain"), bindparam("domain"))),
        _d.approved_at.is_not(None),
        _d.dns_status != "pending",
    )
)
_ROW = (_t.id, _t.status, _t.attempts, _t.address, _t.domain, _t.last_attempt_at)
_ROWS = Prepared(
    select(*_ROW).where(_t.account_id == bindparam("account"), _t.submission_id == bindparam("submission"))
)
_ROWS_OF_DOMAIN = Prepared(
    select(*_ROW, _s.expires_at)
    .join_from(tables.transfers, tables.submissions, (_s.account_id == _t.account_id) & (_s.id == _t.submission_id))
    .where(
        _t.account_id == bindparam("account"),
        _t.submission_id == bindparam("submission"),
        _t.domain == bindparam("domain"),
    )
)
_NEXT = Prepared(
    select(_t.next_attempt_at)
    .where(
        _t.account_id == bindparam("account"),
        _t.submission_id == bindparam("submission"),
        _t.domain == bindparam("domain"),
        _t.next_attempt_at.is_not(None),
        _t.is_held == 0,
    )
    .order_by(_t.next_attempt_at)
    .limit(1)
)
_MOVE = Prepared(
    update(tables.transfers)
    .where(_t.account_id == bindparam("in_account"), _t.id == bindparam("transfer"))
    .values(
        status=bindparam("to_status"),
        dsn_code=bindparam("to_code"),
        smtp_response=bindparam("to_response"),
        remote_mta=bindparam("to_mta"),
        attempts=bindparam("to_attempts"),
        last_attempt_at=bindparam("to_last"),
        next_attempt_at=bindparam("to_next"),
        delivered_at=bindparam("to_delivered"),
    )
)
_LOG = Prepared(
    insert(tables.transfer_attempts).values(
        {column.name: bindparam(column.name) for column in tables.transfer_attempts.columns if column.name != "id"}
    )
)
_COUNT = Prepared(
    update(tables.submissions)
    .where(_s.account_id == bindparam("in_account"), _s.id == bindparam("submission"))
    .values(
        deferred=_s.deferred + bindparam("more_deferred"),
        sent=_s.sent + bindparam("more_sent"),
        bounced=_s.bounced + bindparam("more_bounced"),
    )
    .returning(
        _s.recipients,
        _s.sent,
        _s.bounced,
        _s.status,
        _s.sender,
        _s.submitted_at,
        _s.source,
        _s.mailbox_id,
        _s.public_id,
        _s.envelope_sender,
    )
)
_SET_STATUS = Prepared(
    update(tables.submissions)
    .where(_s.account_id == bindparam("in_account"), _s.id == bindparam("submission"))
    .values(status=bindparam("to_status"))
)


def load(conn: ReadConn, account_id: AccountId, submission_id: SubmissionId, domain: str, now: datetime) -> Work | None:
    """What is due of a submission for one domain; None when nothing is (or the submission is gone)."""
    key = {"account": account_id, "submission": submission_id}
    row = _SUBMISSION.row(conn, key)
    if row is None or row[0] is None:
        return None
    content_id, queue_id, envelope_sender, sender_domain, token = row
    due = _DUE.rows(conn, {**key, "domain": domain, "now": clock.to_micros(now)})
    if not due:
        return None
    owners: dict[str, int] = dict(_LOCAL.rows(conn, {"sender_domain": sender_domain, "domain": domain}))
    return_path = envelope_sender
    if envelope_sender and owners.get(sender_domain) == account_id:
        return_path = f"{RETURN_PREFIX}{token}@{sender_domain}"
    return Work(
        submission_id,
        domain,
        domain in owners,
        return_path,
        envelope_sender,
        queue_id or "",
        ContentId(content_id),
        tuple(Waiting(TransferId(each[0]), each[1]) for each in due),
    )


def record_attempts(
    conn: WriteConn,
    account_id: AccountId,
    submission_id: SubmissionId,
    domain: str,
    outcomes: Sequence[Outcome],
    now: datetime,
    job: Job | None = None,
) -> None:
    """Write what an attempt came to, with all that follows, and settle the job that made it.

    Temporary failures are tried again by ``PAUSES``; once the submission has expired they are final (``EXPIRED``).
    Recipients that became final meanwhile (cancelled, say) keep what they are. Records ``transfer.delivered``,
    ``transfer.deferred``, ``transfer.bounced``.
    """
    key = {"account": account_id, "submission": submission_id, "domain": domain}
    rows = {row[0]: row for row in _ROWS_OF_DOMAIN.rows(conn, key)}
    moves = []
    for outcome in outcomes:
        row = rows.get(outcome.transfer_id)
        if row is None or row[1] not in ("pending", "deferred"):
            continue
        next_at = None
        if outcome.status == "deferred":
            next_at = _next_attempt(row[2] + 1, clock.to_micros(now), row[6])
            if next_at is None:
                outcome = outcome._replace(status="bounced", dsn_code=EXPIRED)  # noqa: PLW2901 - too late to defer
        moves.append(_Move(row, outcome, next_at, row[2] + 1))
    _apply(conn, account_id, submission_id, moves, now)
    if job is not None:
        left = _NEXT.row(conn, key)
        jobs.settle(conn, job, None if left is None else clock.from_micros(left[0]))


def _next_attempt(attempts: int, now: int, expires_at: int) -> int | None:
    """When to try again after so many attempts, the last time when it expires; None: it has expired."""
    if now >= expires_at:
        return None
    pause = PAUSES[attempts - 1] if attempts <= len(PAUSES) else LAST_PAUSE
    return min(now + pause // clock.MICROSECOND, expires_at)


def deliver_local(
    conn: WriteConn,
    account_id: AccountId,
    submission_id: SubmissionId,
    domain: str,
    outcomes: Sequence[Outcome],
    now: datetime,
    job: Job,
    call: bytes,
) -> None:
    """Put a message into local mailboxes (``call`` is of ``deliveries.encode_call``) and record that, or neither.

    So a local recipient never gets it twice. Raises NotFound when a mailbox is gone.
    """
    deliveries.deliver_encoded(conn, call)
    record_attempts(conn, account_id, submission_id, domain, outcomes, now, job)


def record_report(
    conn: WriteConn, account_id: AccountId, submission_id: SubmissionId, failures: Sequence[Failure], now: datetime
) -> int:
    """Note failures that a report tells of: the one way from ``sent`` back. Returns how many recipients bounced by it.

    One that has no address counts when only one recipient can be meant. Addresses that were no recipients, and
    recipients that are bounced already, are passed over.
    """
    rows = [
        row for row in _ROWS.rows(conn, {"account": account_id, "submission": submission_id}) if row[1] != "bounced"
    ]
    by_address = {row[3].lower(): row for row in rows}
    moves = {}
    for failure in failures:
        row = by_address.get(failure.address.lower())
        if row is None and not failure.address and len(rows) == 1:
            row = rows[0]
        if row is not None:
            outcome = Outcome(row[0], "bounced", failure.dsn_code, failure.text, failure.remote_mta)
            moves[row[0]] = _Move(row, outcome, None, row[2])
    _apply(conn, account_id, submission_id, list(moves.values()), now, is_told=True)
    return len(moves)


def drop(
    conn: WriteConn,
    account_id: AccountId,
    submission_id: SubmissionId,
    now: datetime,
    reason: str = "cancelled before it was delivered",
) -> int:
    """Give up on every recipient that is not final yet; returns how many. Their sender is not told by mail.

    What is being handed over at this moment may still arrive. NotFound ``submission_not_found``.
    """
    submission.get(conn, account_id, submission_id)
    open_rows = [
        row
        for row in _ROWS.rows(conn, {"account": account_id, "submission": submission_id})
        if row[1] in ("pending", "deferred")
    ]
    moves = [_Move(row, Outcome(row[0], "bounced", CANCELLED, reason), None, row[2]) for row in open_rows]
    _apply(conn, account_id, submission_id, moves, now, is_told=True)
    return len(moves)


def hold(conn: WriteConn, account_id: AccountId, submission_id: SubmissionId) -> int:
    """Try no recipient until ``release``; returns how many wait now. NotFound ``submission_not_found``."""
    return len(_set_held(conn, account_id, submission_id, 1))


def release(conn: WriteConn, account_id: AccountId, submission_id: SubmissionId, now: datetime) -> int:
    """Let held recipients be tried again, each when its turn comes. NotFound ``submission_not_found``."""
    freed = _set_held(conn, account_id, submission_id, 0)
    for domain, due in _first_of_each(freed):
        run_at = clock.from_micros(due)
        submission.enqueue_transfer(conn, account_id, submission_id, domain, now=now, run_at=max(run_at, now))
    return len(freed)


def retry(conn: WriteConn, account_id: AccountId, submission_id: SubmissionId, now: datetime) -> int:
    """Let every recipient that is not final be tried at once, held or not. NotFound ``submission_not_found``."""
    submission.get(conn, account_id, submission_id)
    mine = _t.account_id == account_id, _t.submission_id == submission_id, _t.next_attempt_at.is_not(None)
    found = conn.execute(
        update(tables.transfers)
        .where(*mine)
        .values(next_attempt_at=clock.to_micros(now), is_held=0)
        .returning(_t.domain)
    ).all()
    domains = sorted({row.domain for row in found})
    for domain in domains:
        submission.enqueue_transfer(conn, account_id, submission_id, domain, now=now)
    jobs.hasten(conn, [submission.transfer_key(submission_id, domain) for domain in domains], now)
    return len(found)


def _set_held(conn: WriteConn, account_id: AccountId, submission_id: SubmissionId, held: int) -> list[tuple[str, int]]:
    """(domain, next attempt) of the recipients that this changed."""
    submission.get(conn, account_id, submission_id)
    mine = _t.account_id == account_id, _t.submission_id == submission_id, _t.next_attempt_at.is_not(None)
    found = conn.execute(
        update(tables.transfers)
        .where(*mine, _t.is_held != held)
        .values(is_held=held)
        .returning(_t.domain, _t.next_attempt_at)
    )
    return [(row.domain, row.next_attempt_at) for row in found]


def _first_of_each(found: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    first: dict[str, int] = {}
    for domain, due in found:
        first[domain] = min(due, first.get(domain, due))
    return sorted(first.items())


def failed(
    conn: ReadConn, account_id: AccountId, submission_id: SubmissionId, transfer_ids: Collection[TransferId]
) -> Failed:
    """A submission and those of its recipients, for the report to its sender. NotFound ``submission_not_found``."""
    found = submission.get(conn, account_id, submission_id)
    recipients = submission.list_recipients(conn, account_id, [submission_id])
    return Failed(found, tuple(each for each in recipients if each.id in set(transfer_ids)))


def store_report(conn: WriteConn, call: bytes, job: Job) -> None:
    """Put a report into its sender's mailbox (``call``: ``deliveries.encode_call``) and complete its job, or neither.

    Raises NotFound when the mailbox is gone.
    """
    deliveries.deliver_encoded(conn, call)
    jobs.settle(conn, job, None)


class _Move(NamedTuple):
    """A recipient's row (id, status, attempts, address, domain, last attempt) and what becomes of it."""

    row: Row
    outcome: Outcome
    next_at: int | None
    attempts: int


def _apply(
    conn: WriteConn,
    account_id: AccountId,
    submission_id: SubmissionId,
    moves: Sequence[_Move],
    now: datetime,
    *,
    is_told: bool = False,
) -> None:
    """Write the moves and everything that follows; ``is_told``: the sender knows of the failures, or caused them."""
    if not moves:
        return
    micros = clock.to_micros(now)
    _MOVE.many(conn, [_row_values(account_id, move, micros) for move in moves])
    _LOG.many(conn, [_log_values(account_id, submission_id, move.outcome, micros) for move in moves])
    total = {"deferred": 0, "sent": 0, "bounced": 0}
    changes: dict[str, Delta] = {}
    for move in moves:
        before, after, domain = move.row[1], move.outcome.status, move.row[4]
        if before in total:
            total[before] -= 1
        total[after] += 1
        delta = Delta(
            delivered=(after == "sent") - (before == "sent"),
            bounced=int(after == "bounced"),
            deferred=(after == "deferred") - (before == "deferred"),
        )
        changes[domain] = Delta(*map(sum, zip(changes.get(domain, Delta()), delta, strict=True)))
    counted = _COUNT.row(
        conn,
        {
            "in_account": account_id,
            "submission": submission_id,
            "more_deferred": total["deferred"],
            "more_sent": total["sent"],
            "more_bounced": total["bounced"],
        },
    )
    if counted is None:
        raise NotFound("There is no such submission.", code="submission_not_found")
    recipients, sent, bounced, status, sender, submitted_at, source, mailbox_id, public_id, reverse_path = counted
    new_status = submission.status_of(recipients, sent, bounced)
    if new_status != status:
        _SET_STATUS.run(conn, {"in_account": account_id, "submission": submission_id, "to_status": new_status})
    if source != "system" and submitted_at is not None:
        statistics.record_outbound(conn, account_id, sender, clock.from_micros(submitted_at), changes)
    events.record_all(
        conn,
        account_id,
        [_fact(submission_id, str(UUID(bytes=public_id)), move, new_status, mailbox_id) for move in moves],
        now=now,
    )
    lost = [move.outcome.transfer_id for move in moves if move.outcome.status == "bounced"]
    if lost and not is_told and reverse_path and mailbox_id is not None:
        payload = {"account": account_id, "submission": submission_id, "transfers": lost}
        jobs.enqueue(conn, account_id, REPORT_KIND, payload, now=now)


def _row_values(account_id: int, move: _Move, micros: int) -> dict[str, object]:
    outcome = move.outcome
    return {
        "in_account": account_id,
        "transfer": outcome.transfer_id,
        "to_status": outcome.status,
        "to_code": outcome.dsn_code,
        "to_response": outcome.response,
        "to_mta": outcome.remote_mta,
        "to_attempts": move.attempts,
        "to_last": micros if move.attempts > move.row[2] else move.row[5],
        "to_next": move.next_at,
        "to_delivered": micros if outcome.status == "sent" else None,
    }


def _log_values(account_id: int, submission_id: int, outcome: Outcome, micros: int) -> dict[str, object]:
    return {
        "account_id": account_id,
        "submission_id": submission_id,
        "transfer_id": outcome.transfer_id,
        "attempted_at": micros,
        "status": outcome.status,
        "dsn_code": outcome.dsn_code,
        "smtp_response": outcome.response,
        "remote_mta": outcome.remote_mta,
        "tls": outcome.tls,
    }


_EVENTS = {"sent": "transfer.delivered", "deferred": "transfer.deferred", "bounced": "transfer.bounced"}


def _fact(submission_id: int, public_id: str, move: _Move, status: str, mailbox_id: MailboxId | None) -> NewEvent:
    outcome = move.outcome
    body = {
        "submission": submission_id,
        "id": public_id,
        "transfer": outcome.transfer_id,
        "recipient": move.row[3],
        "dsn_code": outcome.dsn_code,
        "response": outcome.response,
        "remote_mta": outcome.remote_mta,
        "attempts": move.attempts,
        "status": status,
    }
    return NewEvent(_EVENTS[outcome.status], body, mailbox_id)
