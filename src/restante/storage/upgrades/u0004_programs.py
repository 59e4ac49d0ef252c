"""Upgrade 4: complaints, retention, arrivals, automations; longer spans of statistics."""

from sqlalchemy import Connection, func, insert, literal_column, select, table, text

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
    tables.automations,
    tables.automation_cursors,
    tables.automation_runs,
    tables.usage_days,
)
SUMMED = 1536  # hours of the spans that the new, longest ones are summed from
LONGEST = 6144


def run(conn: Connection) -> None:
    """Add what abuse reports, retention, lists over a whole account and automations need, and the longest spans."""
    _add(conn, "transfers", "complained_at", "BIGINT")
    tables.metadata.create_all(conn, tables=NEW, checkfirst=False)
    add_longest_spans(conn)
    tables.keep_raw_as_it_is(tables.contents, conn)


def add_longest_spans(conn: Connection) -> None:
    """Sum the counters by domain up to the longest spans."""
    for counts in (tables.outbound_domains, tables.inbound_senders):
        begins_at = (counts.c.begins_at - counts.c.begins_at % literal_column(str(LONGEST * 3_600_000_000))).label(
            "begins_at"
        )
        keys = {column.name: column for column in counts.primary_key.columns}
        wanted = {**keys, "hours": literal_column(str(LONGEST)).label("hours"), "begins_at": begins_at}
        sums = [func.sum(column).label(column.name) for column in counts.columns if not column.primary_key]
        groups = [key for name, key in wanted.items() if name != "hours"]
        summed = select(*wanted.values(), *sums).where(counts.c.hours == SUMMED).group_by(*groups)
        conn.execute(insert(counts).from_select([*wanted, *(one.name for one in sums)], summed))


def _add(conn: Connection, name: str, column: str, definition: str) -> None:
    """Add a column, unless an earlier step has just made the table as it is today."""
    columns = conn.execute(select(literal_column("*")).select_from(table(name)).limit(0)).keys()
    if column not in list(columns):
        conn.execute(text(f"ALTER TABLE {name} ADD COLUMN {column} {definition}"))
