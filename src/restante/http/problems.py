"""A refusal before a dialect has put it into its own words.

The front makes problems for what happens outside handlers (no such route, too large, a crash); each dialect's
``errors`` file renders them, and maps the error tree to them where its contract has codes of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from restante import errors
from restante.http.answers import Headers


@dataclass(frozen=True, slots=True)
class Problem:
    """An HTTP status, a stable lower-case code, a text for people; ``fields`` maps a bad field to its reasons."""

    status: int
    code: str
    message: str
    fields: Mapping[str, list[str]] = field(default_factory=dict)
    headers: Headers = ()


class Refused(Exception):
    """Raised by HTTP mechanics and handlers to answer with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


RETRY_SECONDS = 5  # said with whatever is only unavailable for the moment

STATUS: tuple[tuple[type[errors.RestanteError], int], ...] = (
    (errors.RateLimited, 429),
    (errors.QuotaExceeded, 507),
    (errors.TooLarge, 413),
    (errors.LimitExceeded, 422),
    (errors.Invalid, 422),
    (errors.Unauthenticated, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.RemoteUnavailable, 502),
    (errors.Unavailable, 503),
    (errors.RestanteError, 500),
)
"""The error tree's ordinary statuses, most special class first."""


# Codes whose texts name hosts, paths and keys of this installation: they are for the log.
INTERNAL = frozenset(
    ("unavailable", "storage_unavailable", "storage_unsuitable", "blob_store_refused", "secret_key_missing")
)
AWAY = "This is not possible at the moment; try again."


def from_error(error: errors.RestanteError) -> Problem:
    """The ordinary rendering of an expected failure."""
    status = next(status for kind, status in STATUS if isinstance(error, kind))
    headers: Headers = ()
    if isinstance(error, errors.RateLimited):
        headers = ((b"retry-after", b"%d" % max(1, error.retry_after_seconds)),)
    elif isinstance(error, errors.Unavailable):
        headers = ((b"retry-after", b"%d" % RETRY_SECONDS),)
    fields = {name: [reason] for name, reason in error.details.items()}
    message = AWAY if error.code in INTERNAL else error.message
    return Problem(status, error.code, message, fields, headers)


def not_found(path: str) -> Problem:
    """No route has this path."""
    return Problem(404, "not_found", f"There is nothing at {path[:200]}.")


def method_not_allowed(method: str, allowed: Mapping[str, object]) -> Problem:
    """The path exists for other methods (RFC 9110 §15.5.6)."""
    names = ", ".join(allow(allowed))
    message = f"{method[:20]} is not allowed here; allowed: {names}."
    return Problem(405, "method_not_allowed", message, headers=((b"allow", names.encode()),))


def too_large(limit_bytes: int) -> Problem:
    """The body is over its bound; the connection ends, so that the rest is not read (RFC 9110 §15.5.14)."""
    message = f"The request body is larger than {limit_bytes} bytes."
    return Problem(413, "payload_too_large", message, headers=((b"connection", b"close"),))


def internal() -> Problem:
    """Something failed that should not; the log has it under the request's id."""
    return Problem(500, "internal_error", "Something went wrong on this side. The request id finds it in the log.")


def allow(methods: Mapping[str, object]) -> list[str]:
    """The methods of an Allow header, with those that the server answers by itself."""
    named = {*methods, "OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    return sorted(named)
