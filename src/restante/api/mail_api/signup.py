"""Endpoint 12: a stranger brings a domain. The one call without a token, so it is counted by peer and by domain."""

from restante.api.mail_api import auth, shapes
from restante.errors import Invalid
from restante.http import clients, schemas
from restante.http.answers import Answer
from restante.http.calls import Call
from restante.http.ratelimit import Window
from restante.mail import address
from restante.services import signup as service

HOUR = 3600


async def signup(call: Call) -> Answer:
    """Create an account with a domain that waits for the operator's approval. No token is needed."""
    limits = call.rt.config.limits.mail_api
    _count(call, f"peer/{clients.limit_key(call.client)}", limits.signups_per_peer_per_hour)
    wanted = await schemas.body(call, shapes.Signup)
    _count(call, f"domain/{_one_spelling(wanted.domain)}", limits.signups_per_domain_per_hour)
    made = await service.signup(call.rt, wanted.domain, wanted.email, wanted.password, wanted.name)
    assert made.token.expires_at is not None, "a session token expires"
    answer = shapes.SignedUp(
        success=True,
        token=made.plain,
        token_type=made.token.kind,
        email=made.mailbox.address,
        name=made.mailbox.name,
        domain=made.domain.name,
        domain_status="pending",
        expires_at=shapes.moment(made.token.expires_at),
        message=f"Account created! Your domain '{made.domain.name}' is pending admin approval.",
    )
    return shapes.answer(answer, status=201, headers=((b"cache-control", b"no-store"),))


def _one_spelling(domain: str) -> str:
    """A domain as it is stored; what is none stays as it is, to be refused by the service."""
    try:
        return address.normalise_domain(domain)
    except Invalid:
        return domain


def _count(call: Call, key: str, limit: int) -> None:
    """Count a signup, refused ones too; refuses with RATE_LIMITED."""
    if limit:
        verdict = call.limiter.take(f"{auth.DIALECT}/signup/{key}", (Window(limit, HOUR),))
        if not verdict.is_allowed:
            raise auth.too_many(verdict, "Too many signups.")
