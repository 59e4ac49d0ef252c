"""Login, logout, the caller, the permanent key: the Auth endpoints beyond signup."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from restante.api.mail_api import auth, shapes
from restante.api.mail_api.shapes import Done, GrantItem
from restante.core import mailboxes, permissions, tokens
from restante.core.access import Principal
from restante.core.mailboxes import Mailbox
from restante.core.permissions import Grant
from restante.core.tokens import Token
from restante.http import clients, schemas
from restante.http.answers import Answer
from restante.http.calls import Call
from restante.http.ratelimit import Window
from restante.schema.connections import ReadConn
from restante.services import sessions as service

NO_STORE = ((b"cache-control", b"no-store"),)


class Login(Struct, frozen=True):
    """A mailbox's address and password."""

    email: shapes.Email
    password: shapes.Password


class LoggedIn(Struct, frozen=True):
    """A session token, shown once."""

    success: bool
    token: str
    token_type: str
    email: str
    name: str
    expires_at: datetime


class Me(Struct, frozen=True):
    """Whose token this is. ``email`` is null for an admin token without a mailbox; ``api_key_prefix`` begins the
    permanent key, null while there is none."""

    success: bool
    email: str | None
    name: str
    token_type: str
    domain: str | None
    permissions: list[GrantItem]
    api_key_prefix: str | None
    expires_at: datetime | None


class NewKey(Struct, frozen=True):
    """A permanent key, shown once."""

    success: bool
    token: Annotated[str, Meta(description="The key; it is kept nowhere in this form.")]
    token_prefix: str
    message: str


async def login(call: Call) -> Answer:
    """Get a session token (12 hours) for a mailbox's address and password. No token is needed."""
    _count(call)
    wanted = await schemas.body(call, Login)
    made = await service.login(call.rt, wanted.email, wanted.password, call.client)
    assert made.token.expires_at is not None, "a session token expires"
    expires_at = shapes.moment(made.token.expires_at)
    shown = LoggedIn(True, made.plain, made.token.kind, made.mailbox.address, made.mailbox.name, expires_at)
    return shapes.answer(shown, headers=NO_STORE)


async def logout(call: Call) -> Answer:
    """End the session whose token this call was made with. Other tokens are deleted under `/tokens`."""
    caller = await auth.require(call)
    await service.logout(call.rt, caller.token)
    return shapes.answer(Done(True, "Logged out"))


async def get_me(call: Call) -> Answer:
    """Show whose token this is and what it may do."""
    caller = await auth.require(call)
    mailbox, granted, key = await call.rt.db.read(read_me, caller.principal)
    token = caller.token
    me = Me(
        success=True,
        email=None if mailbox is None else mailbox.address,
        name=token.name if mailbox is None else mailbox.name,
        token_type=token.kind,
        domain=None if mailbox is None else mailbox.address.rpartition("@")[2],
        permissions=[shapes.grant_item(grant) for grant in granted],
        api_key_prefix=None if key is None else key.prefix,
        expires_at=None if token.expires_at is None else shapes.moment(token.expires_at),
    )
    return shapes.answer(me)


async def regenerate_key(call: Call) -> Answer:
    """Make a new permanent key. The one before stops working at once; the new one is shown here and never again."""
    caller = await auth.require(call)
    token, plain = await service.regenerate_key(call.rt, caller.principal, caller.token)
    message = "The new key works from now on; the one before does not."
    return shapes.answer(NewKey(True, plain, token.prefix, message), headers=NO_STORE)


def read_me(conn: ReadConn, principal: Principal) -> tuple[Mailbox | None, list[Grant], Token | None]:
    """The principal's mailbox, what its user was granted, and the permanent key."""
    account_id, mailbox_id = principal.account_id, principal.mailbox_id
    key = tokens.find_permanent(conn, account_id, mailbox_id, auth.DIALECT)
    if mailbox_id is None:
        return None, [], key
    granted = permissions.list_grants(conn, account_id, mailbox_id)
    return mailboxes.get(conn, account_id, mailbox_id), granted, key


def _count(call: Call) -> None:
    """Count a login, successful ones too; refuses with RATE_LIMITED. Failures are counted by the service besides."""
    limit = call.rt.config.limits.mail_api.logins_per_peer_per_minute
    if limit:
        key = f"{auth.DIALECT}/login/{clients.limit_key(call.client)}"
        verdict = call.limiter.take(key, (Window(limit, 60),))
        if not verdict.is_allowed:
            raise auth.too_many(verdict, "Too many logins from this address.")
