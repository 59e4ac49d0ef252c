"""Prepared statements on the driver's own cursor."""

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from sqlalchemy import column, func, select, table

from restante.schema.connections import ReadConn, single
from restante.schema.prepared import Prepared
from restante.storage import sqlite

_NAMES = table("names", column("name"))
_ALL = Prepared(select(_NAMES.c.name))


@single
def _list(conn: ReadConn) -> list[tuple[str]]:
    return _ALL.rows(conn, {})


@single
def _list_column(conn: ReadConn) -> list[str]:
    return _ALL.column(conn, {})


def _count(conn: ReadConn) -> int:
    count: int = conn.execute(select(func.count()).select_from(_NAMES)).scalar_one()
    return count


@pytest.mark.parametrize("read", [_list, _list_column])
def test_a_value_that_cannot_be_read_holds_no_transaction_open(
    tmp_path: Path, read: Callable[[ReadConn], object]
) -> None:
    writer = apsw.Connection(str(tmp_path / "restante.db"))
    writer.execute("PRAGMA journal_mode=WAL; CREATE TABLE names (name TEXT)").fetchall()
    writer.execute("INSERT INTO names VALUES ('ann'), (CAST(x'ff' AS TEXT)), ('bob'), ('eve')")
    reader = sqlite.Reader(tmp_path)
    try:
        with pytest.raises(UnicodeDecodeError):
            reader.run(read, (), {})
        writer.execute("DELETE FROM names WHERE name > 'x'")
        assert reader.run(_count, (), {}) == 3
        assert reader.run(_list, (), {}) == [("ann",), ("bob",), ("eve",)]
        writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        reader.close()
        writer.close()
