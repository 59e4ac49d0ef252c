"""Rows that are made unless they are there: counters that are added to, and insertions that the first one wins.

The statements are the same on every engine; only where SQLAlchemy has them differs.
"""

import abc
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from restante.schema.prepared import Prepared


def insert(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that can have an ON CONFLICT clause; ``dialect`` is the connection's."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


class _Insertion(abc.ABC):
    """Rows with all columns of a table, written by a statement that is prepared once for each engine."""

    def __init__(self, table: Table) -> None:
        self._prepared: dict[str, Prepared] = {}
        self._table = table

    def add(self, conn: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add these rows.

        In the order given: transactions that meet must not lock the same rows in different orders.
        """
        name = conn.dialect.name
        found = self._prepared.get(name)
        if found is None:
            found = self._prepared[name] = Prepared(self._statement(name))
        found.many(conn, rows)

    @abc.abstractmethod
    def _statement(self, dialect: str) -> sqlite.Insert | postgresql.Insert:
        """What is to be prepared."""


class Counter(_Insertion):
    """Adds the rows' figures, which may be negative, to what their keys have counted so far."""

    def _statement(self, dialect: str) -> sqlite.Insert | postgresql.Insert:
        new = insert(dialect, self._table)
        keys = list(self._table.primary_key.columns)
        added = {c.name: c + new.excluded[c.name] for c in self._table.columns if not c.primary_key}
        return new.on_conflict_do_update(index_elements=keys, set_=added)


class Missing(_Insertion):
    """Adds the rows whose keys are not there yet; the others stay as they are."""

    def _statement(self, dialect: str) -> sqlite.Insert | postgresql.Insert:
        return insert(dialect, self._table).on_conflict_do_nothing()
