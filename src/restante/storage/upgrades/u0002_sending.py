"""Upgrade 2: sending. New tables only."""

from sqlalchemy import Connection

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
    """Make the tables of submission, transfer and statistics."""
    tables.metadata.create_all(conn, tables=NEW, checkfirst=False)
