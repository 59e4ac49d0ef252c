"""One read on PostgreSQL: run, with its errors in the terms of callers."""

import logging
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from restante.errors import RestanteError
from restante.storage.database import Timed
from restante.storage.postgres import connection

Outcome = tuple[Any, BaseException | None]
"""A value, or the error for the caller."""

_log = logging.getLogger(__name__)


class Unfinished(Exception):
    """The answer was not there in the time given to the event loop; the statement goes on in the server."""


def run(conn: Connection, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
    """Run ``fn``. Raises Unfinished, and the driver's error when the connection broke."""
    try:
        with Timed("read", fn):
            return fn(conn, *args, **kwargs), None
    except RestanteError as error:
        return None, error
    except Unfinished:
        raise
    except Exception as error:
        if connection.raw_of(conn).closed and connection.original(error) is not None:
            raise
        if connection.is_trouble(error):
            _log.warning("read failed: %s: %s", type(error).__name__, error)
            return None, connection.unavailable(error)
        return None, connection.refusal(error) or error
