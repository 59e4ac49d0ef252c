"""Prepared statements for the hot paths: SQLAlchemy writes the text once per engine, the driver runs it.

A Core ``execute`` costs 20 us a row, the driver 3. Values go in and come out as the driver has them, so only
columns of plain type (integers, text, bytes) may be used in them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.elements import ClauseElement

Row = tuple[Any, ...]


class Prepared:
    """One statement, compiled on first use for each engine."""

    def __init__(self, statement: ClauseElement) -> None:
        assert isinstance(statement, Executable)
        self._statement = statement
        self._compiled: dict[str, tuple[str, Sequence[str] | None]] = {}
        self._constants: dict[str, Any] = {}  # what the statement itself has for a value: the 1 of "count + 1"

    def _text(self, conn: Connection) -> tuple[str, Sequence[str] | None]:
        key = conn.dialect.name
        found = self._compiled.get(key)
        if found is None:
            compiled = self._statement.compile(dialect=conn.dialect, compile_kwargs={"render_postcompile": True})
            found = str(compiled), getattr(compiled, "positiontup", None)
            self._compiled[key] = found
            binds = getattr(compiled, "binds", {})
            self._constants = {name: bind.value for name, bind in binds.items() if not bind.required}
        return found

    def _arrange(self, names: Sequence[str] | None, values: Mapping[str, Any]) -> Any:
        if self._constants:
            values = {**self._constants, **values}
        return values if names is None else tuple([values[name] for name in names])

    def rows(self, conn: Connection, values: Mapping[str, Any]) -> list[Row]:
        """Run it and return all rows."""
        text, names = self._text(conn)
        cursor = conn.connection.cursor()
        try:
            cursor.execute(text, self._arrange(names, values))
            return list(cursor.fetchall())
        finally:
            cursor.close()

    def row(self, conn: Connection, values: Mapping[str, Any]) -> Row | None:
        """Run it and return the first row or None."""
        rows = self.rows(conn, values)
        return rows[0] if rows else None

    def run(self, conn: Connection, values: Mapping[str, Any]) -> int:
        """Run a statement without a result; returns the number of rows it changed."""
        text, names = self._text(conn)
        cursor = conn.connection.cursor()
        try:
            cursor.execute(text, self._arrange(names, values))
            return cursor.rowcount
        finally:
            cursor.close()

    def many(self, conn: Connection, values: Iterable[Mapping[str, Any]]) -> None:
        """Run it once per item in one call to the driver."""
        text, names = self._text(conn)
        cursor = conn.connection.cursor()
        try:
            cursor.executemany(text, [self._arrange(names, item) for item in values])
        finally:
            cursor.close()
