"""Many rows in one statement, for engines where each statement is a journey: a parameter is a whole column of values.

The values are PostgreSQL's ``unnest`` of arrays; the driver packs these lists in binary (``storage.postgres.arrays``).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Insert, LargeBinary, Table, bindparam, func, insert, select
from sqlalchemy.types import String

from restante.schema.columns import Blobs, Numbers, Texts

Values = dict[str, Numbers | Texts | Blobs]


class Rows:
    """A table of given rows to select from; ``c`` are its columns."""

    def __init__(self, name: str, columns: Iterable[Column[Any]]) -> None:
        self._kinds = {column.name: _kind(column) for column in columns}
        self._name = name
        unnest = func.unnest(*[bindparam(f"{name}_{column}") for column in self._kinds])
        self.table = unnest.table_valued(*self._kinds).render_derived(name=name)
        self.c = self.table.c

    def values(self, rows: Sequence[Mapping[str, Any]]) -> Values:
        """The parameters that make it of these rows; what else the rows have is left out."""
        return {f"{self._name}_{name}": kind([row[name] for row in rows]) for name, kind in self._kinds.items()}

    def insert_into(self, table: Table) -> Insert:
        """Adds all of them to a table with these columns."""
        return insert(table).from_select(list(self._kinds), select(*self.c))


def _kind(column: Column[Any]) -> type[Numbers | Texts | Blobs]:
    if isinstance(column.type, LargeBinary):
        return Blobs
    return Texts if isinstance(column.type, String) else Numbers
