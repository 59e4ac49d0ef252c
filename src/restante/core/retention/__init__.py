"""Retention: rules that say how long mail is kept and how much of it, and what takes the rest to Trash."""

from restante.schema import tables

TABLES = (tables.retention_rules, tables.retention_accounts, tables.retention_cursors, tables.usage_days)
"""What goes with an account; ``retention_days`` goes with its mailboxes."""
