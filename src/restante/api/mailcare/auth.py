"""Who calls, and for which team: a token at the hosted base, a member's address and password at the older one.

A team is an account; its id is the account's public one. Order: credential, rate limit, team, permission.
"""

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from restante.api.mailcare import errors
from restante.core import access, accounts, mailboxes
from restante.core.access import Principal
from restante.core.tokens import Token
from restante.errors import Forbidden, RateLimited, Unauthenticated
from restante.http import clients
from restante.http.calls import Call
from restante.http.ownership import MAILCARE
from restante.http.problems import Problem, Refused
from restante.http.ratelimit import Verdict, Window
from restante.ids import AccountId
from restante.schema.connections import ReadConn
from restante.services import authentication

EMAIL_VIEW = "email:view"
EMAIL_DELETE = "email:delete"
EMAIL_FAVORITE = "email:favorite"
STATISTIC_VIEW = "statistic:view"
AUTOMATION_VIEW = "automation:view"
AUTOMATION_CREATE = "automation:create"
AUTOMATION_UPDATE = "automation:update"
AUTOMATION_DELETE = "automation:delete"
SCOPES = (
    EMAIL_VIEW, EMAIL_DELETE, EMAIL_FAVORITE, STATISTIC_VIEW,
    AUTOMATION_VIEW, AUTOMATION_CREATE, AUTOMATION_UPDATE, AUTOMATION_DELETE,
)  # fmt: skip
"""The permissions of tokens."""

_CHALLENGE = ((b"www-authenticate", b"Basic"),)


@dataclass(frozen=True, slots=True)
class Caller:
    """A team and how it is asked: ``is_hosted`` at ``/api/teams/ID``, else at the older ``/api``."""

    account_id: AccountId
    is_hosted: bool


async def require(call: Call, scope: str) -> Caller:
    """Authenticate, count the call, look at team and permission. Refuses with 401, 429, 404 (team), 403."""
    if "team" in call.params:
        return await _holder(call, call.params["team"], scope)
    return await _member(call)


async def _holder(call: Call, team: str, scope: str) -> Caller:
    """Who holds a token of the account."""
    scheme, _, plain = (call.header(b"authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or not plain.strip():
        raise Unauthenticated("no bearer token")
    try:
        principal, token, team_id = await call.rt.db.read(find_holder, plain.strip(), call.rt.clock.now())
    except Unauthenticated:
        _count_failure(call)
        raise
    limit = call.rt.config.limits.mailcare.requests_per_minute
    _count(call, f"token/{token.id}", limit if principal.rate_limit is None else principal.rate_limit)
    await authentication.note_use(call.rt, token)
    if team.lower() != str(team_id):
        raise errors.missing("Team", team)
    access.require_scope(principal, scope)
    return Caller(principal.account_id, True)


async def _member(call: Call) -> Caller:
    """Who logs in with a mailbox's address and password, and is a member of its account's team."""
    given = _basic(call.header(b"authorization") or "")
    if given is None:
        raise _wrong_credentials()
    try:
        principal = await authentication.login(call.rt, *given, call.client)
    except Unauthenticated:
        raise _wrong_credentials() from None
    except RateLimited as error:
        raise _too_many(call, error.retry_after_seconds) from None
    _require_own_pages(call)
    _count(call, f"member/{principal.mailbox_id}", call.rt.config.limits.mailcare.member_requests_per_minute)
    await _require_member(call, principal)
    return Caller(principal.account_id, False)


def find_holder(conn: ReadConn, plain: str, now: datetime) -> tuple[Principal, Token, UUID]:
    """Whose token it is, and the id of their team. Errors: Unauthenticated, also for a token of one mailbox."""
    principal, token = access.authenticate_token(conn, MAILCARE, plain, now)
    if principal.kind != "account":
        raise Unauthenticated("The token is not known.", code="invalid_token")
    return principal, token, accounts.get_public_id(conn, principal.account_id)


async def _require_member(call: Call, principal: Principal) -> None:
    if principal.kind == "operator" or principal.mailbox_id is None:
        return
    mailbox = await call.rt.db.read(mailboxes.get, principal.account_id, principal.mailbox_id)
    if mailbox.role != "member":
        raise Forbidden("This user is no member of the account's team.", code="access_denied")


def _require_own_pages(call: Call) -> None:
    """Refuse what another site's page sends: a browser adds the password that it remembers by itself.

    Such a request names its page's origin, unless it only reads (Fetch §3.2); programs name none.
    """
    origin = call.header(b"origin")
    if origin is not None and origin.partition("://")[2] != call.origin().partition("://")[2].partition("/")[0]:
        raise Forbidden("The request comes from another site's page.", code="foreign_origin")


def _basic(header: str) -> tuple[str, str] | None:
    """Name and password of a Basic credential (RFC 7617), in UTF-8 or else Latin-1."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        data = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    name, colon, password = text.partition(":")
    return (name, password) if colon else None


def _wrong_credentials() -> Refused:
    return Refused(Problem(401, "invalid_credentials", "Invalid credentials.", headers=_CHALLENGE))


def _count(call: Call, key: str, limit: int) -> None:
    if not limit:
        return
    verdict = call.limiter.take(f"{MAILCARE}/{key}", (Window(limit, 60),))
    call.extra += [
        (b"x-ratelimit-limit", b"%d" % limit),
        (b"x-ratelimit-remaining", b"%d" % verdict.remaining),
    ]
    _require_room(call, verdict)


def _count_failure(call: Call) -> None:
    limit = call.rt.config.limits.mailcare.failed_auth_per_minute
    if limit:
        key = f"{MAILCARE}/failed/{clients.limit_key(call.client)}"
        _require_room(call, call.limiter.take(key, (Window(limit, 60),)))


def _require_room(call: Call, verdict: Verdict) -> None:
    if not verdict.is_allowed:
        raise _too_many(call, verdict.retry_after_seconds)


def _too_many(call: Call, wait_seconds: int) -> Refused:
    reset_at = int(call.rt.clock.now().timestamp()) + wait_seconds
    headers = ((b"retry-after", b"%d" % wait_seconds), (b"x-ratelimit-reset", b"%d" % reset_at))
    return Refused(Problem(429, "rate_limited", errors.TOO_MANY, headers=headers))
