"""The one error tree. It knows no transport: each edge maps it in one file of its own.

::

    RestanteError(code, message, details)
    ├── Invalid             the caller's data is wrong; details = field -> reason
    ├── Unauthenticated     no credential, or one that does not hold
    ├── Forbidden           a good credential without the right
    ├── NotFound            no such thing, or another tenant's
    ├── Conflict            it exists already, or changed meanwhile
    ├── LimitExceeded       more than this caller may have
    │   ├── QuotaExceeded   stored bytes or objects
    │   ├── RateLimited     retry_after_seconds
    │   └── TooLarge        one object is over its bound
    └── Unavailable         temporary; the same call may succeed later
        ├── RemoteUnavailable(host)
        └── SendFailed(submission)

``code`` is a stable lower-case word that programs may test; ``message`` is safe to show; causes are
chained with ``from``. All of them survive pickling (the writer is another process).
"""

from collections.abc import Mapping


class RestanteError(Exception):
    """Root of every expected failure."""

    default_code = "error"

    def __init__(self, message: str, *, code: str | None = None, details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.details: dict[str, str] = dict(details or {})

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class Invalid(RestanteError):
    """The caller's data is wrong; ``details`` maps a field to its reason."""

    default_code = "invalid"


class Unauthenticated(RestanteError):
    """No credential, or one that does not hold."""

    default_code = "unauthenticated"


class Forbidden(RestanteError):
    """The credential is good, the right is missing."""

    default_code = "forbidden"


class NotFound(RestanteError):
    """There is no such thing, or it belongs to another tenant."""

    default_code = "not_found"


class Conflict(RestanteError):
    """It exists already, or it changed meanwhile."""

    default_code = "conflict"


class LimitExceeded(RestanteError):
    """More than this caller may have."""

    default_code = "limit_exceeded"


class QuotaExceeded(LimitExceeded):
    """Stored bytes or objects are over the quota."""

    default_code = "quota_exceeded"


class RateLimited(LimitExceeded):
    """Too many calls; ``retry_after_seconds`` says when the next one may come."""

    default_code = "rate_limited"

    def __init__(self, message: str, *, retry_after_seconds: int, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_seconds = retry_after_seconds


class TooLarge(LimitExceeded):
    """One object is over its bound."""

    default_code = "too_large"


class Unavailable(RestanteError):
    """Temporary: the same call may succeed later."""

    default_code = "unavailable"


class RemoteUnavailable(Unavailable):
    """Another host did not answer as it should."""

    default_code = "remote_unavailable"

    def __init__(self, message: str, *, host: str, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.host = host


class SendFailed(Unavailable):
    """Our own trouble kept a message out of the queue; ``submission`` (a UUID) names the trace that was kept of it."""

    default_code = "send_failed"

    def __init__(self, message: str, *, submission: str) -> None:
        super().__init__(message)
        self.submission = submission


def _rebuild(kind: type[RestanteError], args: tuple[object, ...], state: dict[str, object]) -> RestanteError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


def walk(root: type[RestanteError] = RestanteError) -> list[type[RestanteError]]:
    """Every class of the tree, root first."""
    found = [root]
    for child in root.__subclasses__():
        found += walk(child)
    return found


__all__ = [
    "Conflict",
    "Forbidden",
    "Invalid",
    "LimitExceeded",
    "NotFound",
    "QuotaExceeded",
    "RateLimited",
    "RemoteUnavailable",
    "RestanteError",
    "SendFailed",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "walk",
]
