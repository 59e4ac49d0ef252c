"""Functions that tests run through two writers at once; module-level, as a writer process demands."""

import contextlib
import os
import signal
import threading
from pathlib import Path

from sqlalchemy import insert, select, text, update

from restante.schema import tables
from restante.schema.connections import WriteConn, concurrent

_m = tables.meta.c
meeting = threading.Barrier(2)
"""Where two transactions wait for each other; broken once they have met."""


def put(conn: WriteConn, key: str, value: str = "0") -> str:
    conn.execute(insert(tables.meta).values(key=key, value=value))
    return key


@concurrent
def put_together(conn: WriteConn, key: str) -> str:
    return put(conn, key)


def count(conn: WriteConn, key: str) -> int:
    """Add one to a number, by reading and writing it."""
    number = int(conn.execute(select(_m.value).where(_m.key == key)).scalar_one()) + 1
    conn.execute(update(tables.meta).where(_m.key == key).values(value=str(number)))
    return number


@concurrent
def cross(conn: WriteConn, first: str, second: str) -> None:
    """Change two rows, and between them wait for another who changes them in the other order."""
    statement = update(tables.meta)
    conn.execute(statement.where(_m.key == first).values(value=_m.value + "x"))
    if not meeting.broken:
        with contextlib.suppress(threading.BrokenBarrierError):  # the other has met us and gone on
            meeting.wait(60)
        meeting.abort()
    conn.execute(statement.where(_m.key == second).values(value=_m.value + "x"))


def kill_the_server(conn: WriteConn, data: str) -> None:
    """PostgreSQL's immediate shutdown: SIGQUIT to its first process, which ends before this returns."""
    pid = int((Path(data) / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, signal.SIGQUIT)
    conn.execute(text("SELECT pg_sleep(30)"))


@concurrent
def kill_the_server_together(conn: WriteConn, data: str) -> None:
    kill_the_server(conn, data)


def lose_the_connection(conn: WriteConn, key: str) -> None:
    put(conn, key)
    conn.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


def lose_it_at_commit(conn: WriteConn) -> None:
    """From now on, the connection of who changes ``meta`` is gone when it commits."""
    conn.execute(
        text(
            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END$$"
        )
    )
    conn.execute(
        text(
            "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON meta DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION die()"
        )
    )


def fill_the_disk(conn: WriteConn) -> None:
    """From now on, every new row of ``meta`` finds the disk full, as PostgreSQL tells it."""
    body = "BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END"
    conn.execute(text(f"CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $${body}$$"))
    conn.execute(text("CREATE TRIGGER full_disk BEFORE INSERT ON meta EXECUTE FUNCTION full_disk()"))
