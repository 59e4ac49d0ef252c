"""The Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header): a request that shall have its effect once."""

import re

from restante.core.access import Principal
from restante.core.idempotency import MAX_KEY_CHARS, Once
from restante.http import schemas
from restante.http.calls import Call
from restante.http.problems import Refused

_KEY = re.compile(rf"[!-~]{{1,{MAX_KEY_CHARS}}}")


def read(call: Call, principal: Principal, dialect: str, operation: str, request_hash: bytes) -> Once | None:
    """The call's key, None without one. ``request_hash`` tells its body from others. Refuses a bad key with 422."""
    key = call.header(b"idempotency-key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise Refused(schemas.refusal([("Idempotency-Key", f"1 to {MAX_KEY_CHARS} visible ASCII characters.")]))
    return Once(principal.account_id, f"{dialect}/{principal.token_id}/{operation}", key, request_hash)
