"""SQLite's plans for the statements that matter: each looks up what it needs, none walks an account."""

from pathlib import Path

import pytest
from sqlalchemy import delete, select

from restante.schema import tables
from restante.storage import sqlite
from restante.storage.sqlite import GroupCommit

m, c = tables.messages.c, tables.contents.c
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
