"""Faults for a server's processes: power loss, a full or read-only disk, failing syncs, a jumping clock."""
