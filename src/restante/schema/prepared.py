"""Prepared statements for the hot paths: SQLAlchemy writes the text once per engine, the driver runs it.

A Core ``execute`` costs 20 us a row, the driver 3. Values go in and come out as the driver has them, so only
columns of plain type (integers, text, bytes) may be used in them.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, BigInteger, BindParameter, ColumnElement, Connection, Select, any_, bindparam
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.elements import ClauseElement

from restante.schema.columns import Numbers
from restante.schema.connections import is_remote

Row = tuple[Any, ...]

WIDTH = 50  # ids in one statement: a page of most lists


class Prepared:
    """One statement, compiled on first use for each engine."""

    def __init__(self, statement: ClauseElement) -> None:
        assert isinstance(statement, Executable)
        self.statement: Any = statement
        self._compiled: dict[str, _Compiled] = {}

    def _compile(self, conn: Connection) -> "_Compiled":
        compiled = self.statement.compile(dialect=conn.dialect, compile_kwargs={"render_postcompile": True})
        binds = getattr(compiled, "binds", {})
        # What the statement itself has for a value: the 1 of "count + 1".
        constants = {name: bind.value for name, bind in binds.items() if not bind.required}
        found = str(compiled), _arranger(getattr(compiled, "positiontup", None), constants)
        self._compiled[conn.dialect.name] = found
        return found

    def rows(self, conn: Connection, values: Mapping[str, Any]) -> list[Row]:
        """Run it and return all rows."""
        text, arrange = self._compiled.get(conn.dialect.name) or self._compile(conn)
        cursor = _cursor(conn)
        try:
            cursor.execute(text, arrange(values))
            rows: list[Row] = cursor.fetchall()
        except BaseException:
            _let_go(conn)
            raise
        return rows

    def column(self, conn: Connection, values: Mapping[str, Any]) -> list[Any]:
        """Run it and return the values of all rows of its only column, which has no nulls."""
        text, arrange = self._compiled.get(conn.dialect.name) or self._compile(conn)
        cursor = _cursor(conn)
        try:
            cursor.execute(text, arrange(values))
            found: list[Any] = cursor.fetchcolumn() if hasattr(cursor, "fetchcolumn") else _first(cursor.fetchall())
        except BaseException:
            _let_go(conn)
            raise
        return found

    def row(self, conn: Connection, values: Mapping[str, Any]) -> Row | None:
        """Run it and return the first row or None."""
        rows = self.rows(conn, values)
        return rows[0] if rows else None

    def run(self, conn: Connection, values: Mapping[str, Any]) -> int:
        """Run a statement without a result; returns the number of rows it changed."""
        text, arrange = self._compiled.get(conn.dialect.name) or self._compile(conn)
        cursor = _cursor(conn)
        cursor.execute(text, arrange(values))
        changed: int = cursor.rowcount
        return changed

    def many(self, conn: Connection, values: Iterable[Mapping[str, Any]]) -> None:
        """Run it once per item in one call to the driver."""
        text, arrange = self._compiled.get(conn.dialect.name) or self._compile(conn)
        items = [arrange(item) for item in values]
        cursor = _cursor(conn)
        if len(items) == 1:  # drivers do more for many
            cursor.execute(text, items[0])
        else:
            cursor.executemany(text, items)

    def insert(self, conn: Connection, values: Iterable[Mapping[str, Any]]) -> range:
        """Insert a row per item and return their ids, without RETURNING, which costs SQLite two fifths of an insertion.

        Only on SQLite, for a plain INSERT (no conflict clause, no trigger) into a table that gives ids itself: within
        one transaction each is then the largest plus one.
        """
        assert not is_remote(conn)
        text, arrange = self._compiled.get(conn.dialect.name) or self._compile(conn)
        items = [arrange(item) for item in values]
        cursor = _cursor(conn)
        cursor.executemany(text, items)
        after: int = cursor.lastrowid + 1
        return range(after - len(items), after)


def _cursor(conn: Connection) -> Any:
    """The driver's own, one for all: the pool's face in front of it costs as much as the rest, a new one a fifth.

    What PostgreSQL's knows of types costs as much to make as a short statement. All rows are taken out of it at once.
    """
    cursor = conn.info.get("cursor")
    if cursor is None:
        cursor = conn.info["cursor"] = conn.connection.dbapi_connection.cursor()  # type: ignore[union-attr]
    return cursor


def _let_go(conn: Connection) -> None:
    """Close the cursor: what is left in it when a value cannot be read would keep a read transaction open."""
    cursor = conn.info.pop("cursor", None)
    if cursor is not None:
        cursor.close()


def _first(rows: list[Row]) -> list[Any]:
    return [row[0] for row in rows]


class PreparedByIds:
    """A prepared statement for rows whose ``column`` is one of any number of ids.

    Its text is always the same, so that neither SQLAlchemy nor the engine begins anew for each number of ids: a remote
    engine takes them all in one array, SQLite ``width`` at a time.
    """

    def __init__(self, statement: Select[Any], column: ColumnElement[int], width: int = WIDTH) -> None:
        self._names = [f"id{place}" for place in range(width)]
        wanted: list[BindParameter[int]] = [bindparam(name) for name in self._names]
        self._some = Prepared(statement.where(column.in_(wanted)))
        self._all = Prepared(statement.where(column == any_(bindparam("ids", type_=ARRAY(BigInteger)))))

    def rows(self, conn: Connection, values: Mapping[str, Any], ids: Sequence[int]) -> list[Row]:
        """All rows, in no order."""
        return self._gather(Prepared.rows, conn, values, ids)

    def column(self, conn: Connection, values: Mapping[str, Any], ids: Sequence[int]) -> list[Any]:
        """The values of all rows of the only column, which has no nulls, in no order."""
        return self._gather(Prepared.column, conn, values, ids)

    def _gather(
        self,
        read: Callable[[Prepared, Connection, Mapping[str, Any]], list[Any]],
        conn: Connection,
        values: Mapping[str, Any],
        ids: Sequence[int],
    ) -> list[Any]:
        if is_remote(conn):
            return read(self._all, conn, {**values, "ids": Numbers(ids)}) if ids else []
        found: list[Any] = []
        for some in self._chunks(ids):
            found += read(self._some, conn, {**values, **some})
        return found

    def _chunks(self, ids: Sequence[int]) -> Iterator[dict[str, int]]:
        """The ids as parameters, the last one again where there are fewer than a statement takes."""
        width = len(self._names)
        for start in range(0, len(ids), width):
            some = list(ids[start : start + width])
            some += some[-1:] * (width - len(some))
            yield dict(zip(self._names, some, strict=True))


_Compiled = tuple[str, Callable[[Mapping[str, Any]], Any]]


def _arranger(names: Sequence[str] | None, constants: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Any]:
    """What makes the driver's parameters of values by name: a tuple where it counts them, else a mapping."""
    if names is None:
        return (lambda values: {**constants, **values}) if constants else lambda values: values
    if len(names) < 2:
        return lambda values: tuple([{**constants, **values}[name] for name in names])
    pick = operator.itemgetter(*names)
    return (lambda values: pick({**constants, **values})) if constants else pick
