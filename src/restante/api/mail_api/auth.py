"""Who calls: the token header, its rate limits, and the headers that tell of them.

Order (contract §2.3): token, rate limit, then the handler's validation, access and existence.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from restante.core import access
from restante.core.access import Presumed, Principal
from restante.core.tokens import Token
from restante.errors import Forbidden, NotFound, Unauthenticated
from restante.http import clients, ratelimit
from restante.http.calls import Call
from restante.http.problems import Problem, Refused
from restante.http.ratelimit import Verdict, Window
from restante.schema.connections import ReadConn
from restante.services import authentication

DIALECT = "mail-api"
HEADER = b"x-mailapi-token"

Q = TypeVar("Q")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Caller:
    """The principal and the token that says so."""

    principal: Principal
    token: Token


async def require(call: Call) -> Caller:
    """Authenticate and count the call. Refuses with NO_API_TOKEN, INVALID_TOKEN, TOKEN_EXPIRED or RATE_LIMITED."""
    return await _authenticated(call, _plain(call), is_counted=False)


async def read(
    call: Call, fn: Callable[[ReadConn, Principal | Presumed, str, Q], T], parse: Callable[[Call], Q]
) -> tuple[Q, T]:
    """What ``parse`` makes of the request, and what ``fn`` then reads in the mailbox that its path names.

    Where the token was seen a moment ago the statement that reads proves it too. Whatever is wrong then is told by
    doing all in order, with the token first. Refuses as ``require``, ``parse`` and ``fn`` do.
    """
    plain = _plain(call)
    presumed = authentication.presume(call.rt, DIALECT, plain)
    is_counted = presumed is not None and _is_counted(call, presumed.principal)
    if presumed is not None and is_counted:
        with contextlib.suppress(Refused, Forbidden, NotFound):
            query = parse(call)
            return query, await call.rt.db.read(fn, presumed, call.params["email"], query)
    caller = await _authenticated(call, plain, is_counted=is_counted)
    query = parse(call)
    return query, await call.rt.db.read(fn, caller.principal, call.params["email"], query)


def _plain(call: Call) -> str:
    plain = (call.header(HEADER) or "").strip()
    if not plain:
        raise Refused(Problem(401, "no_api_token", "Send your API token in the X-MAILAPI-TOKEN header."))
    return plain


async def _authenticated(call: Call, plain: str, *, is_counted: bool) -> Caller:
    try:
        principal, token = await call.rt.db.read(access.authenticate_token, DIALECT, plain, call.rt.clock.now())
    except Unauthenticated:
        call.extra.clear()  # what a presumption has said
        _count_failure(call)
        raise
    if not is_counted:
        _count(call, principal)
    await authentication.note_use(call.rt, token)
    authentication.remember(call.rt, principal, token, plain)
    return Caller(principal, token)


@lru_cache(maxsize=256)
def windows(rate_limit: int | None, per_minute: int, per_hour: int) -> tuple[Window, ...]:
    """The windows of a token: its own requests a minute, or the dialect's; 0 is no limit."""
    if rate_limit is not None:
        return (Window(rate_limit, 60),) if rate_limit else ()
    return tuple(Window(limit, seconds) for limit, seconds in ((per_minute, 60), (per_hour, 3600)) if limit)


@lru_cache(maxsize=256)
def _policy(limits: tuple[Window, ...]) -> tuple[bytes, bytes]:
    return b"x-ratelimit-policy", ratelimit.policy(limits).encode()


def _count(call: Call, principal: Principal) -> None:
    verdict = _taken(call, principal)
    if verdict is not None and not verdict.is_allowed:
        raise too_many(verdict, "Too many requests with this token.")


def _is_counted(call: Call, principal: Principal) -> bool:
    """Whether there was room for the call; where not, nothing was counted."""
    verdict = _taken(call, principal)
    return verdict is None or verdict.is_allowed


def _taken(call: Call, principal: Principal) -> Verdict | None:
    """What the limiter says to one more call, which the answer's headers tell; None without a limit."""
    settings = call.rt.config.limits.mail_api
    limits = windows(principal.rate_limit, settings.requests_per_minute, settings.requests_per_hour)
    if not limits:
        return None
    verdict = call.limiter.take(f"{DIALECT}/token/{principal.token_id}", limits)
    call.extra = [
        (b"x-ratelimit-limit", b"%d" % verdict.limit),
        (b"x-ratelimit-remaining", b"%d" % verdict.remaining),
        (b"x-ratelimit-reset", b"%d" % verdict.reset_at),
        _policy(limits),
    ]
    return verdict


def _count_failure(call: Call) -> None:
    limit = call.rt.config.limits.mail_api.failed_auth_per_minute
    if limit:
        key = f"{DIALECT}/failed/{clients.limit_key(call.client)}"
        verdict = call.limiter.take(key, (Window(limit, 60),))
        if not verdict.is_allowed:
            raise too_many(verdict, "Too many failed authentications from this address.")


def too_many(verdict: Verdict, message: str) -> Refused:
    """429 with its Retry-After."""
    wait = verdict.retry_after_seconds
    headers = ((b"retry-after", b"%d" % wait),)
    return Refused(Problem(429, "rate_limited", f"{message} Try again in {wait} s.", headers=headers))
