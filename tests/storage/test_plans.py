"""SQLite's plans for the statements that matter: each looks up what it needs, none walks an account."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, event, func, select

from restante.core import trash
from restante.core.retention import days, rules, runs
from restante.core.retention.days import Position
from restante.core.retention.rules import Bound, Cover, Limits
from restante.ids import AccountId, DomainId, FolderId, MailboxId
from restante.schema import tables
from restante.schema.connections import ReadConn
from restante.storage import sqlite
from restante.storage.sqlite import GroupCommit

m, c = tables.messages.c, tables.contents.c
a, w, k = tables.arrivals.c, tables.arrival_words.c, tables.correspondents.c
LISTED = a.account_id == 1, a.deleted_at.is_(None)
STATEMENTS = {
    "ids of an account": (select(m.subject).where(m.account_id == 1, m.id.in_([1, 2, 3])), "USING INTEGER PRIMARY KEY"),
    "ids of a mailbox": (
        select(m.subject).where(m.account_id == 1, m.mailbox_id == 1, m.id.in_([1, 2])), "USING INTEGER PRIMARY KEY",
    ),
    "deleting ids": (delete(tables.messages).where(m.account_id == 1, m.id.in_([1, 2])), "USING INTEGER PRIMARY KEY"),
    "contents by id": (select(c.raw).where(c.account_id == 1, c.id.in_([1, 2])), "USING INTEGER PRIMARY KEY"),
    "a page of a folder": (
        select(m.subject).where(m.account_id == 1, m.folder_id == 1, m.uid < 9).order_by(m.uid.desc()).limit(50),
        "(account_id=? AND folder_id=? AND uid<?)",
    ),
    "by public id": (
        select(m.id).where(m.account_id == 1, m.public_id == b"x"), "(account_id=? AND public_id=?)",
    ),
    "changes of a folder": (
        select(m.uid).where(m.account_id == 1, m.folder_id == 1, m.modseq > 5),
        "(account_id=? AND folder_id=? AND modseq>?)",
    ),
    "messages of a content": (
        select(m.id).where(m.account_id == 1, m.content_id == 7), "(account_id=? AND content_id=?)",
    ),
    "unused contents": (select(c.id).where(c.unused_at < 5), "ix_contents_unused"),
    "arrivals by place": (
        select(a.message_id).where(*LISTED, a.place.in_([1, 2])), "ix_arrivals_listed (account_id=? AND place=?)",
    ),
    "arrivals since": (
        select(func.count()).where(*LISTED, a.place > 5),
        "COVERING INDEX ix_arrivals_listed (account_id=? AND place>?)",
    ),
    "a page of an inbox": (
        select(a.place).where(*LISTED, a.inbox_id == 1, a.sender_id + 0 == 2).order_by(a.place.desc()).limit(25),
        "COVERING INDEX ix_arrivals_inbox (account_id=? AND inbox_id=?)",
    ),
    "a page of the unread": (
        select(a.place).where(*LISTED, a.read_at.is_(None)).order_by(a.place.desc()).limit(25),
        "COVERING INDEX ix_arrivals_unread (account_id=?)",
    ),
    "words by hash": (
        select(w.text).where(w.account_id == 1, w.hash.in_(range(50))), "(account_id=? AND hash=?)",
    ),
    "correspondents by hash": (
        select(k.address).where(k.account_id == 1, k.hash.in_(range(50))), "(account_id=? AND hash=?)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STATEMENTS)
def test_plans(tmp_path: Path, name: str) -> None:
    statement, wanted = STATEMENTS[name]
    commits = GroupCommit(sqlite.main_path(tmp_path))
    conn = sqlite.open_reader(tmp_path)
    text = str(statement.compile(dialect=conn.dialect, compile_kwargs={"literal_binds": True}))
    plan = [row[3] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
    assert len(plan) == 1, plan
    assert wanted in plan[0]
    conn.close()
    commits.close()


NOW = datetime(2026, 11, 21, tzinfo=UTC)


def a_run_with_nothing_to_do(conn: ReadConn) -> None:
    """What the standing jobs of retention ask hour after hour."""
    account_id, mailbox_id = AccountId(1), MailboxId(1)
    for cover in (Cover(True, (), (), ("",)), Cover(False, (DomainId(1),), (MailboxId(1),), ("", "junk"))):
        days.list_stale(conn, account_id, cover, FolderId(0), 9)
        runs.list_due(conn, account_id, cover, MailboxId(0), 9, NOW)
    rules.cover(conn, account_id)
    rules.bounds(conn, account_id, mailbox_id)
    for bound in (Bound("", ("sent",), Limits(1, 1, 1)), Bound("junk", (), Limits(1, 1, 1))):
        runs.measure(conn, account_id, mailbox_id, bound, NOW)
        days.first_day(conn, account_id, mailbox_id, bound)
        days.list_oldest(conn, account_id, mailbox_id, bound, Position(1, 1, 1, 1), 9, 5)
        days.list_oldest(conn, account_id, None, bound, Position(1, 1, 1, 1), 9)
    trash.list_waiting(conn, account_id, NOW, FolderId(0), 9)
    trash.find_unnoted(conn, account_id, FolderId(1))


def test_retention_with_nothing_to_do_reads_indexes_alone(tmp_path: Path) -> None:
    commits = GroupCommit(sqlite.main_path(tmp_path))
    conn = sqlite.open_reader(tmp_path)
    asked: list[tuple[str, Any]] = []

    @event.listens_for(conn, "before_cursor_execute")
    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    a_run_with_nothing_to_do(conn)
    plans = {
        statement: [row[3] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        for statement, parameters in list(asked)
    }
    assert len(plans) >= 10
    for statement, plan in plans.items():
        print(statement, plan)
        for line in plan:
            assert not line.startswith("SCAN"), (statement, plan)
            assert "rowid>" not in line, (statement, plan)
            assert "SEARCH messages" not in line or "COVERING INDEX" in line, (statement, plan)
    conn.close()
    commits.close()
