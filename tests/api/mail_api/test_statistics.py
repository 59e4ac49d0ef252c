"""Endpoints 9 and 10: shapes, arithmetic, periods, grouping, and who may see what."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import update

from restante import clock as clocks
from restante.clock import ManualClock
from restante.core import inbound, mailboxes, periods, permissions, statistics, submission
from restante.core.statistics import Delta
from restante.ids import AccountId
from restante.runtime import Runtime
from restante.schema import tables
from restante.schema.connections import WriteConn
from tests.api.mail_api.sample import Client, World, assert_refused, grant
from tests.core.conftest import CONTENT, SUMMARY, outgoing

NOW = datetime(2026, 11, 21, 15, 30, 20, 123456, tzinfo=UTC)
DELIVERY = "/api/v1/stats/delivery"
ZERO = {"total_sent": 0, "delivered": 0, "bounced": 0, "deferred": 0, "rejected": 0, "delivery_rate": 0.0}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


async def sent(rt: Runtime, account_id: AccountId, sender: str, at: datetime, **domains: tuple[int, ...]) -> None:
    changes = {f"{name}.test": Delta(*counts) for name, counts in domains.items()}
    await rt.db.write(statistics.record_outbound, account_id, sender, at, changes)


async def totals(client: Client, **query: str) -> dict[str, Any]:
    reply = await client.get(f"{DELIVERY}?" + "&".join(f"{name}={quote(value)}" for name, value in query.items()))
    assert reply.status == 200, reply.body
    summary: dict[str, Any] = reply.json()["summary"]
    return summary


async def test_the_documented_arithmetic(rt: Runtime, world: World, admin: Client) -> None:
    red = world.red.account.id
    await sent(rt, red, "ann@red.example", NOW - timedelta(hours=2), a=(172, 6, 2, 4))
    await sent(rt, red, "bob@red.example", NOW - timedelta(days=1), b=(158, 5, 2, 0))
    await sent(rt, red, "bob@red.example", NOW - timedelta(days=5), b=(850, 34, 16, 1))
    reply = await admin.get(DELIVERY)
    body = reply.json()
    assert list(body) == ["success", "period", "summary", "breakdown"]
    assert body["success"] is True
    assert body["period"] == {"start": "2026-11-14T00:00:00Z", "end": "2026-11-21T15:30:20Z"}
    assert list(body["summary"].items()) == [
        ("total_sent", 1250), ("delivered", 1180), ("bounced", 45), ("deferred", 20), ("rejected", 5),
        ("delivery_rate", 94.4),
    ]  # fmt: skip
    assert [list(row.items()) for row in body["breakdown"][:2]] == [
        [("date", "2026-11-21"), ("sent", 180), ("delivered", 172), ("bounced", 6), ("deferred", 2)],
        [("date", "2026-11-20"), ("sent", 165), ("delivered", 158), ("bounced", 5), ("deferred", 2)],
    ]
    assert [row["date"] for row in body["breakdown"]] == [f"2026-11-{day}" for day in range(21, 13, -1)]
    assert [row["sent"] for row in body["breakdown"]] == [180, 165, 0, 0, 0, 900, 0, 0]


async def test_grouped_by_hour_and_domain(rt: Runtime, world: World, admin: Client) -> None:
    red = world.red.account.id
    await sent(rt, red, "ann@red.example", NOW, a=(1, 0, 0, 0), b=(0, 2, 0, 0))
    await sent(rt, red, "ann@red.example", NOW - timedelta(hours=3), b=(0, 0, 1, 0))
    await sent(rt, red, "ann@red.example", NOW - timedelta(hours=4), c=(0, 0, 0, 9))
    hours = (await admin.get(f"{DELIVERY}?group_by=hour")).json()
    assert hours["breakdown"] == [
        {"hour": "2026-11-21T15:00:00Z", "sent": 3, "delivered": 1, "bounced": 2, "deferred": 0},
        {"hour": "2026-11-21T12:00:00Z", "sent": 1, "delivered": 0, "bounced": 0, "deferred": 1},
    ]
    domains = (await admin.get(f"{DELIVERY}?group_by=domain")).json()
    assert domains["breakdown"] == [
        {"domain": "b.test", "sent": 3, "delivered": 0, "bounced": 2, "deferred": 1},
        {"domain": "a.test", "sent": 1, "delivered": 1, "bounced": 0, "deferred": 0},
    ]
    assert hours["summary"] == domains["summary"] == {
        "total_sent": 13, "delivered": 1, "bounced": 2, "deferred": 1, "rejected": 9, "delivery_rate": 7.7,
    }  # fmt: skip


async def test_at_most_100_recipient_domains(rt: Runtime, world: World, admin: Client) -> None:
    many = {f"d{number}": (number + 1, 0, 0, 0) for number in range(120)}
    await sent(rt, world.red.account.id, "ann@red.example", NOW, **many)
    rows = (await admin.get(f"{DELIVERY}?group_by=domain")).json()["breakdown"]
    assert [row["sent"] for row in rows] == list(range(120, 20, -1))


async def test_periods(rt: Runtime, world: World, admin: Client) -> None:
    red = world.red.account.id
    for day in (1, 2, 3):
        for hour in (0, 23):
            at = datetime(2026, 3, day, hour, 59, 59, 999_999, tzinfo=UTC)
            await sent(rt, red, "ann@red.example", at, a=(1, 0, 0, 0))

    async def period(start: str, end: str) -> tuple[Any, int, int]:
        body = (await admin.get(f"{DELIVERY}?start_date={start}&end_date={end}")).json()
        return body["period"], body["summary"]["total_sent"], len(body["breakdown"])

    whole = {"start": "2026-03-02T00:00:00Z", "end": "2026-03-02T23:59:59Z"}
    assert await period("2026-03-02", "2026-03-02") == (whole, 2, 1)
    assert await period("2026-03-02T00:00:00", "2026-03-02T23:59:59Z") == (whole, 2, 1)
    assert await period("2026-03-02T01:00:00%2B01:00", "2026-03-03T00:59:59+01:00") == (whole, 2, 1)
    assert (await period("2026-03-01", "2026-03-03"))[1:] == (6, 3)
    assert (await period("2026-02-01", "2026-03-01"))[1:] == (2, 29)
    assert (await period("2025-03-03", "2026-03-03"))[1:] == (6, 366)
    only_end = (await admin.get(f"{DELIVERY}?end_date=2024-01-27")).json()["period"]
    assert only_end == {"start": "2024-01-20T00:00:00Z", "end": "2024-01-27T23:59:59Z"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("start_date=yesterday", "start_date"),
        ("end_date=2026-02-30", "end_date"),
        ("end_date=2026-01-01T25:00:00Z", "end_date"),
        ("end_date=9999-12-31", "end_date"),
        ("start_date=0001-01-01T00:00:00%2B23:59", "start_date"),
        ("start_date=1969-12-31&end_date=1970-01-02", "start_date"),
        ("start_date=" + "1" * 41, "start_date"),
        ("start_date=2026-11-22", "start_date"),
        ("start_date=2026-03-02&end_date=2026-03-01", "start_date"),
        ("start_date=2025-03-03&end_date=2026-03-04", "start_date"),
        ("group_by=week", "group_by"),
        ("sender=@red.example", "sender"),
        ("sender=no%20domain", "sender"),
        ("sender=ann@", "sender"),
        ("sender=%00", "sender"),
    ],
)
async def test_refused_queries(admin: Client, query: str, field: str) -> None:
    body = assert_refused(await admin.get(f"{DELIVERY}?{query}"), 422, "VALIDATION_ERROR")
    assert list(body["fields"]) == [field]
    if field not in ("group_by", "sender"):
        domain = await admin.get(f"/api/v1/stats/domain/red.example?{query}")
        assert list(assert_refused(domain, 422, "VALIDATION_ERROR")["fields"]) == [field]


async def test_a_user_sees_its_own_addresses(rt: Runtime, world: World, client: Client) -> None:
    red, blue, now = world.red, world.blue, rt.clock.now()
    await rt.db.write(mailboxes.add_alias, red.account.id, "alias@red.example", red.ann.id, now)
    await rt.db.write(mailboxes.add_alias, red.account.id, "mute@red.example", red.ann.id, now, False)
    for account, sender in (
        (red, "ann@red.example"), (red, "ann+tag@red.example"), (red, "alias@red.example"), (red, "bob@red.example"),
        (red, "mute@red.example"), (blue, "ann@blue.example"),
    ):  # fmt: skip
        await sent(rt, account.account.id, sender, NOW, a=(1, 0, 0, 0))
    assert (await totals(client))["total_sent"] == 3
    assert (await totals(client, sender="Ann@Red.Example"))["total_sent"] == 2
    assert (await totals(client, sender="ann+other@red.example"))["total_sent"] == 2
    assert (await totals(client, sender="alias@red.example"))["total_sent"] == 1
    foreign = ("bob@red.example", "nobody@red.example", "red.example", "ann@blue.example", "blue.example", "no.example")
    for sender in ("mute@red.example", *foreign):
        assert_refused(await client.get(f"{DELIVERY}?sender={sender}"), 403, "ACCESS_DENIED")


async def test_view_stats_opens_the_domain(rt: Runtime, world: World, client: Client) -> None:
    red, blue = world.red, world.blue
    await sent(rt, red.account.id, "bob@red.example", NOW, a=(1, 0, 0, 0))
    await sent(rt, blue.account.id, "ann@blue.example", NOW, a=(1, 0, 0, 0))
    for name in set(permissions.CATALOGUE) - {permissions.VIEW_STATS}:
        await rt.db.write(grant, red, name, rt.clock.now())
    assert_refused(await client.get(f"{DELIVERY}?sender=red.example"), 403, "ACCESS_DENIED")
    assert_refused(await client.get("/api/v1/stats/domain/red.example"), 403, "ACCESS_DENIED")
    await rt.db.write(grant, red, permissions.VIEW_STATS, rt.clock.now())
    assert (await totals(client, sender="red.example"))["total_sent"] == 1
    assert (await totals(client, sender="bob@red.example"))["total_sent"] == 1
    assert (await totals(client))["total_sent"] == 0
    assert (await client.get("/api/v1/stats/domain/RED.example")).json()["outbound"]["total"] == 1
    for path in (
        f"{DELIVERY}?sender=blue.example",
        f"{DELIVERY}?sender=ann@blue.example",
        "/api/v1/stats/domain/blue.example",
    ):
        assert_refused(await client.get(path), 403, "ACCESS_DENIED")


async def test_a_grant_over_another_accounts_domain(rt: Runtime, world: World, client: Client) -> None:
    red, blue = world.red, world.blue
    await sent(rt, blue.account.id, "ann@blue.example", NOW, a=(1, 0, 0, 0))
    await rt.db.write(
        permissions.grant_bulk, red.account.id, red.ann.id, blue.domain.id, [permissions.VIEW_STATS], NOW,
        blue.account.id,
    )  # fmt: skip
    assert (await totals(client, sender="blue.example"))["total_sent"] == 1
    assert (await client.get("/api/v1/stats/domain/blue.example")).json()["outbound"]["total"] == 1


async def test_the_operator_sees_all(rt: Runtime, world: World, admin: Client) -> None:
    await sent(rt, world.red.account.id, "ann@red.example", NOW, a=(1, 0, 0, 0))
    await sent(rt, world.blue.account.id, "ann@blue.example", NOW, a=(1, 1, 0, 0))
    assert (await totals(admin))["total_sent"] == 3
    assert (await totals(admin, sender="blue.example"))["total_sent"] == 2
    assert (await totals(admin, sender="ann@blue.example"))["delivery_rate"] == 50.0
    assert await totals(admin, sender="nowhere.example") == ZERO
    assert await totals(admin, sender="nobody@red.example") == ZERO
    assert_refused(await admin.get("/api/v1/stats/domain/nowhere.example"), 404, "DOMAIN_NOT_FOUND")


async def test_a_domain_in_both_directions(rt: Runtime, world: World, admin: Client) -> None:
    red = world.red.account.id
    await sent(rt, red, "ann@red.example", NOW, gmail=(280, 10, 10, 3), **{f"d{n}": (15, 0, 0, 0) for n in range(10)})
    hour = clocks.to_micros(NOW) // periods.HOUR * periods.HOUR
    came = [inbound.Arrivals("red.example", hour, f"s{n}.test", 20 + n) for n in range(12)]
    came.append(inbound.Arrivals("red.example", hour, "", 4))
    await rt.db.write(inbound.count, red, inbound.Uncounted(world.red.account.id, 0, 1, came))
    await rt.db.write(inbound.record_rejected, {("red.example", hour): 10, ("gone.example", hour): 5})
    body = (await admin.get("/api/v1/stats/domain/red.example?start_date=2026-11-21")).json()
    assert list(body) == ["success", "domain", "period", "outbound", "inbound"]
    assert (body["success"], body["domain"]) == (True, "red.example")
    assert body["period"] == {"start": "2026-11-21T00:00:00Z", "end": "2026-11-21T15:30:20Z"}
    tops = [{"domain": "gmail.test", "count": 300}, *({"domain": f"d{n}.test", "count": 15} for n in range(9))]
    assert list(body["outbound"].items()) == [
        ("total", 450), ("delivered", 430), ("bounced", 10), ("deferred", 10), ("top_recipients", tops),
    ]  # fmt: skip
    senders = [{"domain": f"s{n}.test", "count": 20 + n} for n in range(11, 1, -1)]
    assert list(body["inbound"].items()) == [
        ("total", 320), ("accepted", 310), ("rejected", 10), ("spam", 0), ("top_senders", senders),
    ]  # fmt: skip
    before = (await admin.get("/api/v1/stats/domain/red.example?end_date=2026-11-20")).json()
    assert before["outbound"] == {"total": 0, "delivered": 0, "bounced": 0, "deferred": 0, "top_recipients": []}
    assert before["inbound"] == {"total": 0, "accepted": 0, "rejected": 0, "spam": 0, "top_senders": []}
    assert date.fromisoformat(before["period"]["start"][:10]) == date(2026, 11, 13)


def _submit(conn: WriteConn, account_id: AccountId, sender: str, at: datetime, *outcomes: str) -> None:
    """A submission as rows and as counts: one recipient for each outcome, a transfer's status."""
    to = tuple(f"x{number}@far{number}.test" for number in range(len(outcomes)))
    made = submission.accept(conn, account_id, outgoing(sender, None, *to), CONTENT, SUMMARY, at)
    t, s = tables.transfers.c, tables.submissions.c
    for address, status in zip(to, outcomes, strict=True):
        mine = t.submission_id == made.id, t.address == address
        conn.execute(update(tables.transfers).where(*mine).values(status=status))
    counts = {name: outcomes.count(name) for name in ("deferred", "sent", "bounced")}
    is_final = counts["sent"] + counts["bounced"] == len(outcomes)
    status = submission.status_of(len(outcomes), counts["sent"], counts["bounced"])
    assert is_final == (status != "submitted")
    conn.execute(update(tables.submissions).where(s.id == made.id).values(status=status, **counts))
    names = {"sent": Delta(delivered=1), "bounced": Delta(bounced=1), "deferred": Delta(deferred=1)}
    changes = {f"far{n}.test": names[outcome] for n, outcome in enumerate(outcomes) if outcome in names}
    statistics.record_outbound(conn, account_id, sender, at, changes)


async def test_cut_hours_are_counted_from_rows(rt: Runtime, world: World, admin: Client) -> None:
    """On every engine: a period that begins and ends inside an hour and a day."""
    at = NOW.replace(hour=10, minute=0, second=0, microsecond=0)
    for minute, outcomes in (
        (10, ("sent",)),
        (20, ("sent", "bounced", "pending")),
        (30, ("deferred",)),
        (50, ("sent",)),
    ):
        await rt.db.write(_submit, world.red.account.id, "ann+x@red.example", at + timedelta(minutes=minute), *outcomes)
    query = "start_date=2026-11-21T10:20:00Z&end_date=2026-11-21T10:30:00Z"
    for sender in ("", "&sender=red.example", "&sender=ann@red.example"):
        for group, rows in (("hour", 1), ("day", 1), ("domain", 2)):
            body = (await admin.get(f"{DELIVERY}?{query}{sender}&group_by={group}")).json()
            counted = {
                "total_sent": 3,
                "delivered": 1,
                "bounced": 1,
                "deferred": 1,
                "rejected": 0,
                "delivery_rate": 33.3,
            }
            assert body["summary"] == counted
            assert len(body["breakdown"]) == rows
            assert sum(row["sent"] for row in body["breakdown"]) == 3
    nobody = await totals(
        admin, start_date="2026-11-21T10:20:00Z", end_date="2026-11-21T10:30:00Z", sender="blue.example"
    )
    assert nobody == ZERO


async def test_queue_summary_and_senders(rt: Runtime, world: World, client: Client, admin: Client) -> None:
    red, blue = world.red.account.id, world.blue.account.id
    first = NOW - timedelta(days=3)
    await rt.db.write(_submit, red, "ann@red.example", first, "pending", "deferred", "sent")
    await rt.db.write(_submit, red, "ann@red.example", NOW - timedelta(hours=1), "pending", "pending")
    await rt.db.write(_submit, red, "bob@red.example", NOW - timedelta(days=20), "sent", "bounced")
    await rt.db.write(_submit, blue, "ann@blue.example", NOW, "deferred", "sent")
    empty = {"messages": 0, "pending": 0, "deferred": 0, "oldest_submitted_at": None}
    own = {"messages": 2, "pending": 3, "deferred": 1, "oldest_submitted_at": "2026-11-18T15:30:20Z"}
    everybody = own | {"messages": 3, "deferred": 2}
    assert (await client.get("/api/v1/stats/queue")).json() == {"success": True, "queue": own}
    assert (await admin.get("/api/v1/stats/queue")).json() == {"success": True, "queue": everybody}
    assert (await admin.get("/api/v1/stats/queue?sender=bob@red.example")).json()["queue"] == empty
    assert_refused(await client.get("/api/v1/stats/queue?sender=bob@red.example"), 403, "ACCESS_DENIED")

    body = (await admin.get("/api/v1/stats/summary")).json()
    assert list(body) == ["success", "today", "last_7_days", "last_30_days", "queue"]
    assert [body[name]["total_sent"] for name in list(body)[1:4]] == [2, 4, 6]
    assert body["last_30_days"]["delivery_rate"] == 50.0
    assert body["queue"] == everybody
    mine = (await client.get("/api/v1/stats/summary")).json()
    assert [mine[name]["total_sent"] for name in list(body)[1:4]] == [0, 2, 2]
    assert_refused(await client.get("/api/v1/stats/summary?sender=blue.example"), 403, "ACCESS_DENIED")

    senders = "/api/v1/stats/senders?start_date=2026-10-25"
    assert [row["sender"] for row in (await admin.get(senders)).json()["senders"]] == [
        "ann@blue.example", "ann@red.example", "bob@red.example",
    ]  # fmt: skip
    assert (await admin.get(f"{senders}&domain=blue.example&limit=1")).json()["senders"] == [
        {"sender": "ann@blue.example", "sent": 2, "delivered": 1, "bounced": 0, "deferred": 1}
    ]
    assert_refused(await client.get(senders), 403, "ACCESS_DENIED")
    assert_refused(await admin.get("/api/v1/stats/senders?start_date=2026-10-01"), 422, "VALIDATION_ERROR")


async def test_inbound_by_day_and_hour(rt: Runtime, world: World, client: Client, admin: Client) -> None:
    hour = clocks.to_micros(NOW) // periods.HOUR * periods.HOUR
    for tenant, count in ((world.red, 3), (world.blue, 5)):
        came = [inbound.Arrivals(tenant.domain.name, hour - ago * periods.HOUR, "out.test", count) for ago in (0, 20)]
        await rt.db.write(inbound.count, tenant.account.id, inbound.Uncounted(tenant.account.id, 0, 1, came))
    await rt.db.write(inbound.record_rejected, {("red.example", hour): 2})
    path = "/api/v1/stats/inbound?start_date=2026-11-19"
    everything = (await admin.get(path)).json()
    assert list(everything) == ["success", "domain", "period", "summary", "breakdown"]
    assert everything["domain"] is None
    assert everything["summary"] == {"total": 18, "accepted": 16, "rejected": 2, "spam": 0}
    assert everything["breakdown"] == [
        {"date": "2026-11-21", "total": 10, "accepted": 8, "rejected": 2, "spam": 0},
        {"date": "2026-11-20", "total": 8, "accepted": 8, "rejected": 0, "spam": 0},
        {"date": "2026-11-19", "total": 0, "accepted": 0, "rejected": 0, "spam": 0},
    ]
    red = (await admin.get(f"{path}&domain=Red.example&group_by=hour")).json()
    assert (red["domain"], red["summary"]["total"]) == ("red.example", 8)
    assert [(row["hour"], row["total"]) for row in red["breakdown"]] == [
        ("2026-11-21T15:00:00Z", 5),
        ("2026-11-20T19:00:00Z", 3),
    ]
    for query in ("", "&domain=red.example", "&domain=nowhere.example"):
        assert_refused(await client.get(path + query), 403, "ACCESS_DENIED")
    await rt.db.write(grant, world.red, permissions.VIEW_STATS, NOW)
    assert (await client.get(f"{path}&domain=red.example")).json()["summary"]["accepted"] == 6
    assert_refused(await client.get(f"{path}&domain=blue.example"), 403, "ACCESS_DENIED")
    assert_refused(await admin.get(f"{path}&domain=nowhere.example"), 404, "DOMAIN_NOT_FOUND")


async def test_a_users_own_figures(rt: Runtime, world: World, client: Client, admin: Client) -> None:
    red = world.red
    await rt.db.write(mailboxes.add_alias, red.account.id, "alias@red.example", red.ann.id, NOW)
    await sent(rt, red.account.id, "ann@red.example", NOW, a=(3, 1, 0, 0))
    await sent(rt, red.account.id, "alias@red.example", NOW, a=(1, 0, 0, 0))
    await sent(rt, red.account.id, "bob@red.example", NOW, a=(7, 0, 0, 0))
    body = (await client.get("/api/v1/stats/user/Ann@red.example")).json()
    assert list(body) == ["success", "email", "period", "outbound", "mailbox"]
    assert (body["email"], body["outbound"]["total_sent"], body["outbound"]["delivery_rate"]) == (
        "ann@red.example",
        5,
        80,
    )
    assert body["mailbox"] == {"messages": 0, "size": 0, "quota": None}
    for other in ("bob@red.example", "ann@blue.example", "nobody@red.example"):
        assert_refused(await client.get(f"/api/v1/stats/user/{other}"), 403, "ACCESS_DENIED")
    await rt.db.write(grant, red, permissions.VIEW_STATS, NOW)
    assert (await client.get("/api/v1/stats/user/bob@red.example")).json()["outbound"]["delivered"] == 7
    assert_refused(await admin.get("/api/v1/stats/user/nobody@red.example"), 404, "MAILBOX_NOT_FOUND")
