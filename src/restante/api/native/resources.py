"""What things with an id of their own have in common: the id in a path, and requests that count once."""

import hashlib
from uuid import UUID

from restante.core.access import Principal
from restante.core.idempotency import Once
from restante.errors import NotFound
from restante.http import idempotency
from restante.http.calls import Call
from restante.http.ownership import NATIVE


def public_id(call: Call, what: str) -> UUID:
    """The id in the path; what is none is that of nothing: NotFound ``WHAT_not_found``."""
    try:
        return UUID(call.params["id"])
    except ValueError:
        raise NotFound(f"There is no such {what}.", code=f"{what}_not_found") from None


def once(call: Call, principal: Principal, operation: str, data: bytes = b"") -> Once | None:
    """The caller's Idempotency-Key for this operation with this body, if there is one."""
    return idempotency.read(call, principal, NATIVE, operation, hashlib.sha256(data).digest())
