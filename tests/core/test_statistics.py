"""Counting outbound recipients."""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random

from sqlalchemy import delete, insert, select

from restante import clock
from restante.core import inbound, periods, statistics
from restante.core.inbound import Arrivals, Inbound, Uncounted
from restante.core.statistics import Delta
from restante.schema import tables
from restante.schema.connections import WriteConn
from restante.storage.upgrades import u0004_programs
from tests.core.conftest import Tenant

AT = datetime(2026, 11, 21, 12, 34, 56, tzinfo=UTC)


def by_sender(conn: WriteConn, account_id: int) -> dict[str, Delta]:
    h = tables.outbound_hours.c
    found = conn.execute(
        select(h.sender, h.delivered, h.bounced, h.deferred, h.rejected).where(h.account_id == account_id)
    )
    return {row.sender: Delta(*row[1:]) for row in found}


def test_counts_by_account_domain_and_address(conn: WriteConn, red: Tenant, blue: Tenant) -> None:
    account = red.account.id
    statistics.record_outbound(conn, account, "ann+news@red.example", AT, {"a.test": Delta(deferred=2, rejected=1)})
    statistics.record_outbound(
        conn, account, "ann@red.example", AT, {"a.test": Delta(deferred=-1, delivered=1), "b.test": Delta(bounced=1)}
    )
    wanted = Delta(delivered=1, bounced=1, deferred=1, rejected=1)
    assert by_sender(conn, account) == {"": wanted, "red.example": wanted, "ann@red.example": wanted}
    assert by_sender(conn, statistics.INSTANCE) == {"": wanted}
    assert not by_sender(conn, blue.account.id)
    d = tables.outbound_domains.c
    rows = conn.execute(
        select(d.hours, d.domain, d.delivered, d.bounced, d.deferred)
        .where(d.account_id == account, d.sender == "ann@red.example")
        .order_by(d.hours, d.domain)
    )
    assert [tuple(row) for row in rows] == [
        (hours, *counts) for hours in periods.SPANS for counts in (("a.test", 1, 0, 1), ("b.test", 0, 1, 0))
    ]


def test_no_changes_write_nothing(conn: WriteConn, red: Tenant) -> None:
    statistics.record_outbound(conn, red.account.id, "ann@red.example", AT, {})
    assert not by_sender(conn, red.account.id)


def test_an_upgrade_adds_the_longest_spans(conn: WriteConn, red: Tenant, blue: Tenant) -> None:
    for tenant, days, number in ((red, 0, 0), (red, 100, 1), (red, 400, 2), (blue, 1, 0)):
        at, domain = AT - timedelta(days=days), tenant.domain.name
        statistics.record_outbound(
            conn, tenant.account.id, f"ann@{domain}", at, {"a.test": Delta(1), "b.test": Delta(2)}
        )
        hour = clock.to_micros(at) // periods.HOUR * periods.HOUR
        arrived = [Arrivals(domain, hour, "out.test", 1), Arrivals(domain, hour, "other.test", 2)]
        assert inbound.count(conn, tenant.account.id, Uncounted(tenant.account.id, number, number + 1, arrived))
    both = (tables.outbound_domains, tables.inbound_senders)
    longest = [
        select(table).where(table.c.hours == periods.SPANS[-1]).order_by(*table.primary_key.columns) for table in both
    ]
    before = [conn.execute(each).all() for each in longest]
    for table in both:
        conn.execute(delete(table).where(table.c.hours == periods.SPANS[-1]))
    u0004_programs.add_longest_spans(conn)
    assert [conn.execute(each).all() for each in longest] == before
    assert all(len(rows) > 4 for rows in before)


ALL = (statistics.ALL_SENDERS,)
NOTHING = (0, *Delta())
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
STATUS = {"sent": "delivered", "bounced": "bounced", "deferred": "deferred"}


def submit(conn: WriteConn, tenant: Tenant, sender: str, at: datetime, recipients: Mapping[str, Sequence[str]]) -> None:
    """A submission with recipients (domain -> statuses), as rows and as counts."""
    number = len(conn.execute(select(tables.submissions.c.id)).all())
    submission_id = conn.execute(
        insert(tables.submissions)
        .values(
            account_id=tenant.account.id,
            public_id=uuid.uuid4().bytes,
            source="api",
            status="submitted",
            sender=sender,
            sender_domain=sender.partition("@")[2],
            envelope_sender=sender,
            return_token=str(number),
            subject="",
            message_id_header=f"<{number}@x>",
            size_bytes=1,
            recipients=1,
            created_at=clock.to_micros(at),
            submitted_at=clock.to_micros(at),
            expires_at=clock.to_micros(at),
        )
        .returning(tables.submissions.c.id)
    ).scalar_one()
    for domain, statuses in recipients.items():
        for status in statuses:
            conn.execute(
                insert(tables.transfers).values(
                    account_id=tenant.account.id,
                    submission_id=submission_id,
                    kind="to",
                    address=f"x@{domain}",
                    domain=domain,
                    status=status,
                )
            )
        counts = Counter(STATUS[status] for status in statuses if status in STATUS)
        statistics.record_outbound(conn, tenant.account.id, sender, at, {domain: Delta(**counts)})


def test_any_period_is_exact(conn: WriteConn, red: Tenant, blue: Tenant) -> None:
    """Random mail over two years, and random periods down to the microsecond, compared with counting by hand."""
    random = Random(7)
    start = datetime(2024, 12, 20, tzinfo=UTC)
    sent: list[tuple[str, datetime, str, str]] = []
    for _ in range(400):
        tenant = random.choice([red, red, red, blue])
        sender = random.choice(["ann", "ann+tag", "bob", "a_n"]) + f"@{tenant.domain.name}"
        at = start + timedelta(microseconds=random.randrange(420 * 86_400 * 10**6))
        domain = f"d{random.randrange(4)}.test"
        status = random.choice(["sent", "sent", "bounced", "deferred", "pending"])
        submit(conn, tenant, sender, at, {domain: [status]})
        sent.append((sender, at, domain, status))
    ann, bob, tricky = {"ann@red.example", "ann+tag@red.example"}, {"bob@red.example"}, {"a_n@red.example"}
    everyone = {one[0] for one in sent}
    scopes = {
        (red.account.id, ALL): ann | bob | tricky,
        (statistics.INSTANCE, ALL): everyone,
        (red.account.id, ("red.example",)): ann | bob | tricky,
        (red.account.id, ("ann@red.example", "bob@red.example")): ann | bob,
        (red.account.id, ("a_n@red.example",)): tricky,
        (red.account.id, ("ann@blue.example",)): set[str](),
    }
    for number in range(60):
        first = start + timedelta(microseconds=random.randrange(400 * 86_400 * 10**6))
        if number % 3 == 0:
            first = first.replace(hour=0, minute=0, second=0, microsecond=0)
        length = random.choice([30 * MINUTE, timedelta(hours=5), timedelta(days=3), timedelta(days=40), timedelta(366)])
        last = first + length * random.random()
        within = periods.through(first, last, start + timedelta(days=900))
        for scope, senders in scopes.items():
            until = last.replace(microsecond=0) + SECOND
            mine = [one for one in sent if one[0] in senders and first <= one[1] < until and one[3] in STATUS]
            wanted = Counter((domain, STATUS[status]) for _, _, domain, status in mine)
            domains = statistics.outbound_by_domain(conn, *scope, within, 100)
            found = {(domain, name): n for domain, delta in domains for name, n in delta._asdict().items() if n}
            assert found == wanted, (scope, first, last)
            assert [sum(delta) for _, delta in domains] == sorted((sum(delta) for _, delta in domains), reverse=True)
            days = statistics.outbound_by_time(conn, *scope, within, periods.DAY)
            assert {clock.from_micros(at).date(): sum(counts) for at, *counts in days} == Counter(
                one[1].date() for one in mine
            )
            assert days == sorted(days, reverse=True)
            hours = statistics.outbound_by_time(conn, *scope, within, periods.HOUR)
            assert hours == sorted(hours, reverse=True)
            assert {at - at % periods.DAY for at, *_ in hours} == {at for at, *_ in days}
            all_in_one = statistics.outbound_total(conn, *scope, within)
            for slots in (hours, days):
                assert statistics.total(Delta(*counts) for _, *counts in [NOTHING, *slots]) == all_in_one


def test_a_period_that_is_not_over(conn: WriteConn, red: Tenant) -> None:
    """Nothing behind the present is cut off, so no rows are looked at: the counter alone answers."""
    statistics.record_outbound(conn, red.account.id, "ann@red.example", AT, {"a.test": Delta(delivered=1)})
    within = periods.through(AT.replace(minute=0, second=0), AT, AT)
    assert statistics.outbound_by_time(conn, red.account.id, ALL, within, periods.HOUR) == [
        (clock.to_micros(AT.replace(minute=0, second=0)), *Delta(delivered=1))
    ]


def test_refused_recipients_count_in_every_period_that_touches_their_hour(conn: WriteConn, red: Tenant) -> None:
    statistics.record_outbound(conn, red.account.id, "ann@red.example", AT, {"a.test": Delta(rejected=3)})
    hour = AT.replace(minute=0, second=0)
    later = AT + timedelta(days=3)
    for start, end, count in (
        (hour, hour + MINUTE, 3),
        (hour + 50 * MINUTE, hour + 70 * MINUTE, 3),
        (hour - MINUTE, hour + 120 * MINUTE, 3),
        (hour + 60 * MINUTE, hour + 120 * MINUTE, 0),
        (hour - 9 * MINUTE, hour - MINUTE, 0),
    ):
        within = periods.through(start, end, later)
        found = statistics.outbound_by_time(conn, red.account.id, ALL, within, periods.DAY)
        assert [slot[4] for slot in found] == [count] * bool(count)
        assert statistics.outbound_total(conn, red.account.id, ALL, within) == Delta(rejected=count)
        assert not statistics.outbound_by_domain(conn, red.account.id, ALL, within, 9)


def test_purging_takes_one_accounts_counters_bit_by_bit(conn: WriteConn, red: Tenant, blue: Tenant) -> None:
    for tenant in (red, blue):
        sender = f"ann@{tenant.domain.name}"
        statistics.record_outbound(conn, tenant.account.id, sender, AT, {"a.test": Delta(1), "b.test": Delta(1)})
        arrived = Arrivals(tenant.domain.name, clock.to_micros(AT) // periods.HOUR * periods.HOUR, "out.test", 1)
        assert inbound.count(conn, tenant.account.id, Uncounted(tenant.account.id, 0, 1, [arrived]))
    before = by_sender(conn, blue.account.id)
    batches = 0
    while statistics.purge(conn, red.account.id, 2):
        batches += 1
    assert batches > 5
    assert not by_sender(conn, red.account.id)
    assert by_sender(conn, blue.account.id) == before
    within = periods.through(AT.replace(hour=0, minute=0, second=0), AT, AT)
    assert len(statistics.outbound_by_domain(conn, blue.account.id, ALL, within, 9)) == 2
    assert not statistics.outbound_by_domain(conn, red.account.id, ALL, within, 9)
    assert inbound.total(conn, red.account.id, "red.example", within) == Inbound()
