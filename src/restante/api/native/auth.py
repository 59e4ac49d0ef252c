"""Who calls: the bearer token, its scope, and its rate limit.

The limit's headers are those of draft-ietf-httpapi-ratelimit-headers-10.
"""

from restante.core import access
from restante.core.access import Principal
from restante.errors import Forbidden, Unauthenticated
from restante.http import clients
from restante.http.calls import Call
from restante.http.ownership import NATIVE
from restante.http.problems import Problem, Refused
from restante.http.ratelimit import Verdict, Window
from restante.services import authentication

_CHALLENGE = ((b"www-authenticate", b'Bearer realm="restante"'),)


async def require(call: Call, scope: str) -> Principal:
    """Authenticate, count the call, look at the token's scopes.

    Refuses with 401 ``no_token``, ``invalid_token``, ``token_expired``, 429 ``rate_limited``, 403 ``scope_missing``.
    """
    scheme, _, plain = (call.header(b"authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or not plain.strip():
        raise Refused(Problem(401, "no_token", "Send your token as Authorization: Bearer.", headers=_CHALLENGE))
    try:
        principal, token = await call.rt.db.read(access.authenticate_token, NATIVE, plain.strip(), call.rt.clock.now())
    except Unauthenticated as error:
        _count_failure(call)
        raise Refused(Problem(401, error.code, error.message, headers=_CHALLENGE)) from None
    _count(call, principal)
    await authentication.note_use(call.rt, token)
    access.require_scope(principal, scope)
    return principal


async def require_account(call: Call, scope: str) -> Principal:
    """As ``require``, for what is the account's: a mailbox's token has no part in it (403 ``access_denied``)."""
    principal = await require(call, scope)
    if principal.mailbox_id is not None:
        raise Forbidden("This needs a token of the account.", code="access_denied")
    return principal


def _count(call: Call, principal: Principal) -> None:
    limit = call.rt.config.limits.native.requests_per_minute
    if principal.rate_limit is not None:
        limit = principal.rate_limit
    if not limit:
        return
    verdict = call.limiter.take(f"{NATIVE}/token/{principal.token_id}", (Window(limit, 60),))
    wait = min(60, max(0, verdict.reset_at - int(call.rt.clock.now().timestamp())))
    call.extra += [
        (b"ratelimit-policy", b'"minute";q=%d;w=60' % limit),
        (b"ratelimit", b'"minute";r=%d;t=%d' % (verdict.remaining, wait)),
    ]
    if not verdict.is_allowed:
        raise _too_many(verdict, "Too many requests with this token.")


def _count_failure(call: Call) -> None:
    limit = call.rt.config.limits.native.failed_auth_per_minute
    if limit:
        verdict = call.limiter.take(f"{NATIVE}/failed/{clients.limit_key(call.client)}", (Window(limit, 60),))
        if not verdict.is_allowed:
            raise _too_many(verdict, "Too many failed authentications from this address.")


def _too_many(verdict: Verdict, message: str) -> Refused:
    wait = verdict.retry_after_seconds
    return Refused(
        Problem(429, "rate_limited", f"{message} Try again in {wait} s.", headers=((b"retry-after", b"%d" % wait),))
    )
