"""Upgrade 4: what programs are told and do: complaints, retention, arrivals."""

from sqlalchemy import Connection, literal_column, select, table, text

from restante.schema import tables

NEW = (
    tables.trashed,
    tables.arrival_cursors,
    tables.arrivals,
    tables.correspondents,
    tables.arrival_subjects,
    tables.arrival_words,
    tables.arrival_postings,
    tables.arrival_blocks,
    tables.arrival_days,
    tables.retention_rules,
    tables.retention_accounts,
    tables.retention_cursors,
    tables.retention_days,
)


def run(conn: Connection) -> None:
    """Add what abuse reports, retention and lists over a whole account need."""
    _add(conn, "transfers", "complained_at", "BIGINT")
    tables.metadata.create_all(conn, tables=NEW, checkfirst=False)


def _add(conn: Connection, name: str, column: str, definition: str) -> None:
    """Add a column, unless an earlier step has just made the table as it is today."""
    columns = conn.execute(select(literal_column("*")).select_from(table(name)).limit(0)).keys()
    if column not in list(columns):
        conn.execute(text(f"ALTER TABLE {name} ADD COLUMN {column} {definition}"))
