"""Upgrade 2: sending: new tables, the lanes of jobs, and what a token is for."""

from sqlalchemy import Connection, text

from restante.schema import tables

NEW = (
    tables.submissions,
    tables.transfers,
    tables.transfer_attempts,
    tables.idempotency_keys,
    tables.outbound_hours,
    tables.outbound_domains,
    tables.inbound_hours,
    tables.inbound_senders,
    tables.inbound_cursors,
)


def run(conn: Connection) -> None:
    """Make the tables of submission, transfer and statistics, the lane of jobs and the purpose of tokens."""
    conn.execute(text("ALTER TABLE jobs ADD COLUMN lane TEXT"))
    tables.metadata.create_all(conn, tables=NEW, checkfirst=False)
    conn.execute(text("ALTER TABLE tokens ADD COLUMN purpose TEXT DEFAULT 'program' NOT NULL"))
    conn.execute(text("CREATE INDEX ix_tokens_mailbox_id ON tokens (mailbox_id)"))
