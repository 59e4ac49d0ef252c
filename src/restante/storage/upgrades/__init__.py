"""Numbered changes of the schema. A new database gets the newest tables at once; an older one is brought up in steps.

An upgrade is a module ``u0002_what_it_does`` with ``run(conn)``; it is listed in ``UPGRADES`` and never edited after it
has landed. ``tests/upgrades`` opens a data directory of every landed version.
"""

from collections.abc import Callable

from sqlalchemy import Connection, insert, inspect, select, update

from restante import ids
from restante.errors import Conflict
from restante.schema import tables
from restante.storage.upgrades import u0002_sending, u0003_events, u0004_programs

FIRST = 1
UPGRADES: dict[int, Callable[[Connection], None]] = {2: u0002_sending.run, 3: u0003_events.run, 4: u0004_programs.run}
"""Version -> the step that leads to it from the version before."""

CURRENT = max(UPGRADES, default=FIRST)


def apply(conn: Connection) -> int:
    """Create the tables or bring them to ``CURRENT``, in the caller's transaction; returns the version found before.

    Raises Conflict(code="newer_schema") for data written by a newer Restante.
    """
    if not inspect(conn).has_table(tables.meta.name):
        tables.metadata.create_all(conn, checkfirst=False)
        conn.execute(
            insert(tables.meta),
            [
                {"key": "schema_version", "value": str(CURRENT)},
                {"key": "instance_id", "value": str(ids.new_uuid())},
            ],
        )
        return 0
    found = int(conn.execute(select(tables.meta.c.value).where(tables.meta.c.key == "schema_version")).scalar_one())
    if found > CURRENT:
        raise Conflict(
            f"this data was written by a newer Restante (schema {found}; this one knows {CURRENT}): use that program",
            code="newer_schema",
        )
    for version in range(found + 1, CURRENT + 1):
        UPGRADES[version](conn)
        conn.execute(update(tables.meta).where(tables.meta.c.key == "schema_version").values(value=str(version)))
    return found
