"""Retention: rules that say how long mail is kept and how much of it, and what takes the rest to Trash."""
