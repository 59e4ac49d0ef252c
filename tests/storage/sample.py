"""Functions that tests run through ``Database``; module-level, as the writer process demands."""

import os
import signal
from typing import Any

from sqlalchemy import insert, select

from restante.errors import Conflict
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn, touch


def put(conn: WriteConn, key: str, value: str = "") -> str:
    conn.execute(insert(tables.meta).values(key=key, value=value))
    return key


def put_and_fail(conn: WriteConn, key: str) -> None:
    put(conn, key)
    raise Conflict("as asked", code="asked", details={"key": key})


def put_and_touch(conn: WriteConn, key: str, account_id: int) -> None:
    put(conn, key)
    touch(conn, account_id)


def touch_and_fail(conn: WriteConn, account_id: int) -> None:
    touch(conn, account_id)
    raise Conflict("as asked")


def bug(conn: WriteConn) -> None:
    raise ZeroDivisionError("a bug")


def unpicklable(conn: WriteConn) -> Any:
    return lambda: None


def die(conn: WriteConn, key: str) -> None:
    put(conn, key)
    os.kill(os.getpid(), signal.SIGKILL)


def keys(conn: ReadConn) -> set[str]:
    return set(conn.execute(select(tables.meta.c.key)).scalars())


def nothing(conn: ReadConn) -> object:
    return conn.execute(select(tables.meta.c.key).where(tables.meta.c.key == "no such")).first()


def write_in_read(conn: ReadConn) -> None:
    conn.execute(insert(tables.meta).values(key="x", value="y"))


def endless(conn: ReadConn) -> None:
    conn.exec_driver_sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")
