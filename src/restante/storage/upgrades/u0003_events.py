"""Upgrade 3: events are pruned and call webhooks, tokens have scopes."""

from sqlalchemy import Connection, text

from restante.schema import tables

NEW = (tables.webhooks, tables.webhook_calls, tables.webhook_attempts)


def run(conn: Connection) -> None:
    """Add what readers of events, webhooks and scoped tokens need."""
    conn.execute(text("ALTER TABLE accounts ADD COLUMN events_pruned BIGINT DEFAULT 0 NOT NULL"))
    conn.execute(text("ALTER TABLE tokens ADD COLUMN scopes TEXT"))
    tables.metadata.create_all(conn, tables=NEW, checkfirst=False)
