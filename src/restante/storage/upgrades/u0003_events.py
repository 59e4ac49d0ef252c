"""Upgrade 3: events are pruned, tokens have scopes."""

from sqlalchemy import Connection, text


def run(conn: Connection) -> None:
    """Add what readers of events and scoped tokens need."""
    conn.execute(text("ALTER TABLE accounts ADD COLUMN events_pruned BIGINT DEFAULT 0 NOT NULL"))
    conn.execute(text("ALTER TABLE tokens ADD COLUMN scopes TEXT"))
