"""The Mail API dialect: one organisation's mail platform under ``/api/v1`` with ``X-MAILAPI-TOKEN``."""
