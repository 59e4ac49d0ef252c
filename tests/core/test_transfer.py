"""What attempts and reports do to rows, counters, jobs and events, without a network."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select

from restante.core import access, domains, jobs, submission, transfer
from restante.core.jobs import Job
from restante.core.submission import Recipient, Submission
from restante.core.transfer import Failure, Outcome, OutcomeStatus
from restante.errors import NotFound
from restante.schema import tables
from restante.schema.connections import WriteConn
from tests.core.conftest import CONTENT, SUMMARY, Tenant, outgoing

LEASE = timedelta(minutes=5)
PLENTY = 100


def accept(conn: WriteConn, tenant: Tenant, now: datetime, *to: str) -> Submission:
    new = outgoing(tenant.mailbox.address, access.of_mailbox(tenant.mailbox), *to)
    return submission.accept(conn, tenant.account.id, new, CONTENT, SUMMARY, now)


def claim(conn: WriteConn, now: datetime) -> list[Job]:
    return jobs.claim(conn, "me", PLENTY, LEASE, now)


def recipients(conn: WriteConn, sent: Submission) -> list[Recipient]:
    return submission.list_recipients(conn, sent.account_id, [sent.id])


def record(
    conn: WriteConn,
    sent: Submission,
    job: Job | None,
    now: datetime,
    *statuses: OutcomeStatus,
    domain: str = "far.example",
) -> Submission:
    due = [each for each in recipients(conn, sent) if each.domain == domain]
    outcomes = [
        Outcome(each.id, status, {"sent": "2.0.0", "deferred": "4.0.0", "bounced": "5.1.1"}[status], "said", "mx")
        for each, status in zip(due, statuses, strict=True)
    ]
    transfer.record_attempts(conn, sent.account_id, sent.id, domain, outcomes, now, job)
    return submission.get(conn, sent.account_id, sent.id)


def counted(conn: WriteConn, tenant: Tenant) -> tuple[int, int, int]:
    """(delivered, bounced, deferred) of the account."""
    h = tables.outbound_hours.c
    row = conn.execute(
        select(func.sum(h.delivered), func.sum(h.bounced), func.sum(h.deferred)).where(
            h.account_id == tenant.account.id, h.sender == ""
        )
    ).one()
    return row[0], row[1], row[2]


def kinds(conn: WriteConn) -> Sequence[str]:
    return conn.execute(select(tables.jobs.c.kind).order_by(tables.jobs.c.id)).scalars().all()


def test_the_machine_from_pending_to_its_end(conn: WriteConn, red: Tenant, now: datetime) -> None:
    sent = accept(conn, red, now, "a@far.example", "b@far.example", "c@far.example")
    (job,) = claim(conn, now)
    found = record(conn, sent, job, now, "sent", "deferred", "bounced")
    assert (found.status, found.sent, found.deferred, found.bounced) == ("submitted", 1, 1, 1)
    assert counted(conn, red) == (1, 1, 1)
    assert claim(conn, now + timedelta(minutes=4, seconds=59))[0].kind == transfer.REPORT_KIND
    (job,) = claim(conn, now + timedelta(minutes=5))
    work = transfer.load(conn, red.account.id, sent.id, "far.example", now + timedelta(minutes=5))
    assert work is not None
    assert [each.address for each in work.recipients] == ["b@far.example"]
    later = Outcome(work.recipients[0].id, "sent", "2.0.0", "said", "mx")
    transfer.record_attempts(conn, red.account.id, sent.id, "far.example", [later], now, job)
    assert submission.get(conn, red.account.id, sent.id).status == "partial"
    assert counted(conn, red) == (2, 1, 0)
    assert submission.TRANSFER_KIND not in kinds(conn)
    a = tables.transfer_attempts.c
    log = conn.execute(select(a.status).where(a.submission_id == sent.id).order_by(a.id)).scalars().all()
    assert log == ["sent", "deferred", "bounced", "sent"]


def test_what_is_final_stays(conn: WriteConn, red: Tenant, now: datetime) -> None:
    sent = accept(conn, red, now)
    (job,) = claim(conn, now)
    assert record(conn, sent, job, now, "sent").status == "sent"
    assert record(conn, sent, None, now, "bounced").status == "sent"
    assert record(conn, sent, None, now, "deferred").status == "sent"
    assert counted(conn, red) == (1, 0, 0)
    assert transfer.load(conn, red.account.id, sent.id, "far.example", now + timedelta(days=1)) is None


def test_a_late_report_is_the_one_way_back(conn: WriteConn, red: Tenant, now: datetime) -> None:
    sent = accept(conn, red, now, "a@far.example", "B@far.example")
    (job,) = claim(conn, now)
    record(conn, sent, job, now, "sent", "sent")
    mine = red.account.id, sent.id
    stranger = Failure("x@far.example", "5.1.1", "no")
    assert transfer.record_report(conn, *mine, [stranger, Failure("", "5.0.0", "somebody")], now) == 0
    assert transfer.record_report(conn, *mine, [Failure("b@FAR.example", "5.2.1", "no more")], now) == 1
    found = submission.get(conn, *mine)
    assert (found.status, found.sent, found.bounced) == ("partial", 1, 1)
    bounced = recipients(conn, sent)[1]
    assert (bounced.status, bounced.dsn_code, bounced.smtp_response) == ("bounced", "5.2.1", "no more")
    assert (bounced.attempts, bounced.delivered_at) == (1, None)
    assert transfer.record_report(conn, *mine, [Failure("b@far.example", "5.2.1", "again")], now) == 0
    assert transfer.record_report(conn, *mine, [Failure("", "5.0.0", "the only one left")], now) == 1
    assert submission.get(conn, *mine).status == "bounced"
    assert counted(conn, red) == (0, 2, 0)
    assert transfer.REPORT_KIND not in kinds(conn), "the report itself lies in the INBOX"


def test_a_report_ends_retries(conn: WriteConn, red: Tenant, now: datetime) -> None:
    sent = accept(conn, red, now)
    (job,) = claim(conn, now)
    record(conn, sent, job, now, "deferred")
    failure = Failure("eve@far.example", "5.1.1", "no")
    assert transfer.record_report(conn, red.account.id, sent.id, [failure], now) == 1
    assert submission.get(conn, red.account.id, sent.id).status == "bounced"
    assert counted(conn, red) == (0, 1, 0)
    (job,) = claim(conn, now + timedelta(hours=1))
    record(conn, sent, job, now, "sent")
    assert submission.get(conn, red.account.id, sent.id).status == "bounced"
    assert kinds(conn) == []


def test_retry_leaves_a_running_job_alone(conn: WriteConn, red: Tenant, now: datetime) -> None:
    sent = accept(conn, red, now)
    (job,) = claim(conn, now)
    assert transfer.retry(conn, red.account.id, sent.id, now) == 1
    assert claim(conn, now) == [], "a worker has it: a second one would send it twice"
    record(conn, sent, job, now, "deferred")
    assert claim(conn, now) == []
    assert transfer.retry(conn, red.account.id, sent.id, now) == 1
    assert len(claim(conn, now)) == 1


def test_hold_and_release(conn: WriteConn, red: Tenant, now: datetime) -> None:
    sent = accept(conn, red, now, "a@far.example", "b@near.example")
    mine = red.account.id, sent.id
    assert transfer.hold(conn, *mine) == 2
    assert transfer.hold(conn, *mine) == 0
    for job in claim(conn, now):
        assert transfer.load(conn, *mine, job.payload["domain"], now) is None
        transfer.record_attempts(conn, *mine, job.payload["domain"], [], now, job)
    assert kinds(conn) == []
    assert transfer.release(conn, *mine, now + timedelta(hours=1)) == 2
    assert [job.payload["domain"] for job in claim(conn, now + timedelta(hours=1))] == ["far.example", "near.example"]
    assert transfer.drop(conn, *mine, now) == 2
    assert transfer.drop(conn, *mine, now) == 0
    found = recipients(conn, sent)
    assert {(each.status, each.dsn_code, each.attempts, each.last_attempt_at) for each in found} == {
        ("bounced", transfer.CANCELLED, 0, None)
    }


def test_the_return_path_needs_a_domain_that_is_ours(conn: WriteConn, red: Tenant, now: datetime) -> None:
    sent = accept(conn, red, now)
    work = transfer.load(conn, red.account.id, sent.id, "far.example", now)
    assert work is not None
    assert work.return_path == f"bounce+{sent.return_token}@red.example"
    domains.set_dns_status(conn, red.account.id, red.domain.id, "pending", now)
    work = transfer.load(conn, red.account.id, sent.id, "far.example", now)
    assert work is not None
    assert work.return_path == work.envelope_sender == "ann@red.example"


def test_other_tenants_see_nothing(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    sent = accept(conn, red, now)
    me = blue.account.id
    for verb in (transfer.release, transfer.retry, transfer.drop):
        with pytest.raises(NotFound):
            verb(conn, me, sent.id, now)
    with pytest.raises(NotFound):
        transfer.hold(conn, me, sent.id)
    with pytest.raises(NotFound):
        transfer.failed(conn, me, sent.id, [recipients(conn, sent)[0].id])
    assert transfer.load(conn, me, sent.id, "far.example", now) is None
    assert transfer.record_report(conn, me, sent.id, [Failure("eve@far.example", "5.1.1", "no")], now) == 0
    stolen = Outcome(recipients(conn, sent)[0].id, "bounced", "5.0.0", "x")
    transfer.record_attempts(conn, me, sent.id, "far.example", [stolen], now)
    assert submission.get(conn, red.account.id, sent.id).status == "submitted"
