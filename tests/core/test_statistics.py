"""Counting outbound recipients."""

from datetime import UTC, datetime

from sqlalchemy import select

from restante.core import statistics
from restante.core.statistics import Delta
from restante.schema import tables
from restante.schema.connections import WriteConn
from tests.core.conftest import Tenant

AT = datetime(2026, 11, 21, 12, 34, 56, tzinfo=UTC)


def hours(conn: WriteConn, account_id: int) -> dict[str, Delta]:
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
    assert hours(conn, account) == {"": wanted, "red.example": wanted, "ann@red.example": wanted}
    assert hours(conn, statistics.INSTANCE) == {"": wanted}
    assert not hours(conn, blue.account.id)
    d = tables.outbound_domains.c
    rows = conn.execute(
        select(d.span, d.begins_at, d.domain, d.delivered, d.bounced, d.deferred)
        .where(d.account_id == account, d.sender == "ann@red.example")
        .order_by(d.span, d.domain)
    )
    day, month = 1_795_219_200_000_000, 1_793_491_200_000_000
    assert [tuple(row) for row in rows] == [
        ("day", day, "a.test", 1, 0, 1),
        ("day", day, "b.test", 0, 1, 0),
        ("month", month, "a.test", 1, 0, 1),
        ("month", month, "b.test", 0, 1, 0),
    ]


def test_no_changes_write_nothing(conn: WriteConn, red: Tenant) -> None:
    statistics.record_outbound(conn, red.account.id, "ann@red.example", AT, {})
    assert not hours(conn, red.account.id)
