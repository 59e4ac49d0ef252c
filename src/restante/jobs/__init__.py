"""Background work: the worker and what it can do."""
