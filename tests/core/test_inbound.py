"""Counting recipients of mail from outside."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random

from restante import clock
from restante.core import events, inbound, periods
from restante.core.inbound import Arrivals, Inbound, Uncounted
from restante.schema.connections import WriteConn
from tests.core.conftest import Tenant

AT = datetime(2026, 11, 21, 12, 34, 56, tzinfo=UTC)
MESSAGE = {"message": 1, "id": "x", "folder": 1, "uid": 1, "size_bytes": 1}


def receive(conn: WriteConn, tenant: Tenant, at: datetime, sender: str = "Eve@Out.test", recipient: str = "") -> None:
    body = {**MESSAGE, "sender": sender, "recipient": recipient or tenant.mailbox.address}
    events.record(conn, tenant.account.id, "message.received", body, now=at)


def count_all(conn: WriteConn, limit: int = 100) -> int:
    batches = 0
    while (found := inbound.find_uncounted(conn, limit)) is not None:
        assert inbound.count(conn, found.account_id, found)
        assert not inbound.count(conn, found.account_id, found)
        batches += 1
    return batches


def test_inbound_follows_the_event_log(conn: WriteConn, red: Tenant, blue: Tenant) -> None:
    for _ in range(7):
        receive(conn, red, AT)
    receive(conn, red, AT, sender="", recipient="ann+x@red.example")
    receive(conn, red, AT - timedelta(days=2), sender="x@other.test")
    imported = {**MESSAGE, "sender": "", "recipient": ""}
    events.record(conn, red.account.id, "message.received", imported, now=AT)
    receive(conn, blue, AT)
    assert count_all(conn, 3) > 4
    assert count_all(conn) == 0
    within = periods.through(AT - timedelta(days=1), AT, AT)
    for tenant, accepted in ((red, 8), (blue, 1)):
        name = tenant.domain.name
        assert inbound.total(conn, tenant.account.id, name, within) == Inbound(accepted)
        assert inbound.top_senders(conn, tenant.account.id, name, within, 9) == [("out.test", min(accepted, 7))]
    assert inbound.total(conn, blue.account.id, "red.example", within) == Inbound()
    assert not inbound.top_senders(conn, blue.account.id, "red.example", within, 9)
    receive(conn, red, AT)
    assert count_all(conn) == 1
    assert inbound.total(conn, red.account.id, "red.example", within) == Inbound(9)
    longer = periods.through(AT - timedelta(days=90), AT, AT)
    assert inbound.top_senders(conn, red.account.id, "red.example", longer, 9) == [
        ("out.test", 8),
        ("other.test", 1),
    ]
    assert inbound.top_senders(conn, red.account.id, "red.example", longer, 1) == [("out.test", 8)]


def test_what_else_happened_is_passed_in_one_piece(conn: WriteConn, red: Tenant) -> None:
    stored = {"message": 1, "id": "x", "folder": 1, "uid": 1}
    for _ in range(20):
        events.record(conn, red.account.id, "message.stored", stored, now=AT)
    receive(conn, red, AT)
    receive(conn, red, AT)
    first = inbound.find_uncounted(conn, 1)
    assert first is not None
    assert inbound.count(conn, red.account.id, first)
    second = inbound.find_uncounted(conn, 2)
    assert second is not None
    assert [one.recipients for one in first.arrivals + second.arrivals] == [1, 1]
    assert first.until == second.until - 1


def test_refusals_belong_to_the_domains_account(conn: WriteConn, red: Tenant, blue: Tenant) -> None:
    hour = clock.to_micros(AT) // periods.HOUR * periods.HOUR
    inbound.record_rejected(conn, {("red.example", hour): 2, ("gone.example", hour): 5})
    inbound.record_rejected(conn, {("red.example", hour): 1})
    within = periods.through(AT, AT, AT)
    assert inbound.total(conn, red.account.id, "red.example", within) == Inbound(rejected=3)
    assert inbound.total(conn, blue.account.id, "red.example", within) == Inbound()


def test_any_period_is_exact_to_the_hour(conn: WriteConn, red: Tenant) -> None:
    random, start = Random(11), datetime(2024, 12, 20, tzinfo=UTC)
    begin = clock.to_micros(start)
    came = [(begin + random.randrange(9_000) * periods.HOUR, f"s{random.randrange(4)}.test") for _ in range(400)]
    counted = [Arrivals(red.domain.name, hour, sender, 1) for hour, sender in came]
    assert inbound.count(conn, red.account.id, Uncounted(red.account.id, 0, 1, counted))
    for _ in range(80):
        first = start + timedelta(hours=8_000 * random.random())
        last = first + timedelta(hours=random.choice([1, 20, 300, 9_000]) * random.random())
        within = periods.through(first, last, start + timedelta(days=900))
        since, until = first.replace(minute=0, second=0, microsecond=0), last.replace(minute=59, second=59)
        wanted = Counter(name for hour, name in came if since <= clock.from_micros(hour) <= until)
        found = inbound.top_senders(conn, red.account.id, red.domain.name, within, 9)
        assert dict(found) == wanted
        assert found == sorted(found, key=lambda one: (-one[1], one[0]))
        assert inbound.total(conn, red.account.id, red.domain.name, within) == Inbound(wanted.total())
