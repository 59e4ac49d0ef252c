"""What Restante knows and does, without transport: ``verb(conn, account_id, ...)``, one transaction, values out."""
