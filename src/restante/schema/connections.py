"""Connection types: what a core function may do shows in its first parameter."""

from collections.abc import Callable, Sequence
from typing import Any, NewType, TypeVar

from sqlalchemy import Connection

ReadConn = Connection
WriteConn = NewType("WriteConn", Connection)
"""A connection inside a write transaction. Passing a ``ReadConn`` where one is wanted fails ``mypy --strict``."""

F = TypeVar("F", bound=Callable[..., Any])


def scanning(fn: F) -> F:
    """Mark a reading function that may take over a millisecond: ``Database.read`` runs it off the event loop."""
    fn.__dict__["is_scanning"] = True
    return fn


def single(fn: F) -> F:
    """Mark a reading function whose statements, mostly one, need not see the same moment.

    An engine may leave out the transaction around it.
    """
    fn.__dict__["is_single"] = True
    return fn


def is_single(fn: Callable[..., Any]) -> bool:
    """Whether ``fn`` was marked with ``single``."""
    return bool(getattr(fn, "is_single", False))


def is_scanning(fn: Callable[..., Any]) -> bool:
    """Whether ``fn`` was marked with ``scanning``."""
    return bool(getattr(fn, "is_scanning", False))


def concurrent(fn: F) -> F:
    """Mark a writing function that is right beside other writers without a snapshot of its own.

    It finds its rows by key and changes them by what the statement itself says (``count + 1``, ``SKIP LOCKED``), never
    by what it read before. PostgreSQL runs such functions READ COMMITTED, all others SERIALIZABLE; SQLite has one
    writer.
    """
    fn.__dict__["is_concurrent"] = True
    return fn


def is_concurrent(fn: Callable[..., Any]) -> bool:
    """Whether ``fn`` was marked with ``concurrent``."""
    return bool(getattr(fn, "is_concurrent", False))


Together = Callable[[Any, Sequence[tuple[Any, ...]]], list[Any]]


def together(many: Together) -> Callable[[F], F]:
    """Mark a ``concurrent`` or ``single`` function of which an engine may run several calls as one.

    ``many(conn, arguments)`` takes the positional arguments of each call and returns the value of each; a reading one
    returns an error in its place where a call would raise it. Where it raises, nothing of it counts: each call then
    runs by itself.
    """

    def mark(fn: F) -> F:
        fn.__dict__["together"] = many
        return fn

    return mark


def find_together(fn: Callable[..., Any]) -> Together | None:
    """What ``fn`` was marked with by ``together``."""
    found: Together | None = getattr(fn, "together", None)
    return found


def is_remote(conn: Connection) -> bool:
    """Whether each statement is a journey to a server: then one that does several things beats several small ones."""
    return conn.dialect.name != "sqlite"


def touch(conn: Connection, account_id: int) -> None:
    """Note that ``account_id`` changed: the engine publishes one signal for it after the commit."""
    conn.info.setdefault("touched", set()).add(int(account_id))
