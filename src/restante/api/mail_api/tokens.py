"""Tokens: the one of the call itself (endpoint 11), and their administration.

An admin token sees and makes all tokens of this API, a user token those of its own mailbox. A foreign token and a
missing one look the same.
"""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from restante.api.mail_api import auth, paging, shapes
from restante.api.mail_api.auth import DIALECT, Caller
from restante.api.mail_api.shapes import Done
from restante.core import access, tokens
from restante.core.access import Principal
from restante.core.mailboxes import Mailbox
from restante.core.messages import Page
from restante.core.tokens import Held, Token
from restante.errors import Forbidden
from restante.http import schemas
from restante.http.answers import Answer
from restante.http.calls import Call
from restante.schema.connections import ReadConn

NO_STORE = ((b"cache-control", b"no-store"),)

Expiry = Annotated[datetime, Meta(tz=True, description="ISO 8601 with its zone; null: never.")]
RateLimit = Annotated[
    int, Meta(ge=0, le=1_000_000_000, description="Requests a minute; 0: no limit. Admin only.", examples=[600])
]
TokenName = Annotated[str, Meta(max_length=200, examples=["newsletter"])]


class TokenQuery(Struct, frozen=True):
    """A page of tokens; ``email`` (admin only) is whose."""

    email: shapes.Email | None = None
    limit: shapes.Limit = 50
    offset: shapes.Offset = 0


class TokenItem(Struct, frozen=True):
    """A token without its secret. ``rate_limit`` null: the ordinary limits."""

    id: int
    token_prefix: str
    token_type: str
    email: str | None
    name: str
    is_active: bool
    rate_limit: int | None
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None


class TokenList(Struct, frozen=True):
    """Tokens, oldest first."""

    success: bool
    total: int
    tokens: list[TokenItem]


class TokenAnswer(Struct, frozen=True):
    """One token."""

    success: bool
    token: TokenItem


class NewToken(Struct, frozen=True):
    """A token to make: with ``email`` one of that mailbox's user, without it (admin only) an admin token."""

    name: TokenName = ""
    email: shapes.Email | None = None
    expires_at: Expiry | None = None
    rate_limit: RateLimit | None = None


class MadeToken(Struct, frozen=True):
    """The token that was made; ``token`` is shown once."""

    success: bool
    token: str
    info: TokenItem


class TokenChanges(Struct, frozen=True):
    """What to change; what is left out stays."""

    name: TokenName | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET
    expires_at: Expiry | UnsetType | None = UNSET
    rate_limit: RateLimit | UnsetType | None = UNSET


async def get_me(call: Call) -> Answer:
    """Show the token that this call was made with. This answer alone has no ``success``."""
    caller = await auth.require(call)
    token = caller.token
    info = shapes.TokenInfo(
        id=token.id,
        token_prefix=token.prefix,
        token_type=token.kind,
        email=None if token.kind == "admin" else caller.principal.address,
        name=token.name,
        is_active=token.is_active,
        created_at=shapes.moment(token.created_at),
        last_used_at=shapes.moment(token.last_used_at or call.rt.clock.now()),
        expires_at=None if token.expires_at is None else shapes.moment(token.expires_at),
    )
    return shapes.answer(info)


async def list_tokens(call: Call) -> Answer:
    """List tokens without their secrets: an admin all or those of one mailbox, a user their own."""
    caller = await auth.require(call)
    query = schemas.query(call, TokenQuery)
    page = await call.rt.db.read(read_page, caller.principal, query)
    return shapes.answer(TokenList(True, page.total, [_item(held.token, held.address) for held in page.items]))


async def create_token(call: Call) -> Answer:
    """Make a token. Its secret is in this answer and never shown again. A user makes tokens of their own mailbox."""
    caller = await auth.require(call)
    wanted = await schemas.body(call, NewToken)
    _require_limit_right(caller, wanted.rate_limit)
    holder = await call.rt.db.read(read_holder, caller.principal, wanted.email)
    account_id = caller.principal.account_id if holder is None else holder.account_id
    token, plain = await call.rt.db.write(
        tokens.create, account_id, DIALECT, "admin" if holder is None else "user", wanted.name, call.rt.clock.now(),
        None if holder is None else holder.id, wanted.expires_at, wanted.rate_limit,
    )  # fmt: skip
    info = _item(token, None if holder is None else holder.address)
    return shapes.answer(MadeToken(True, plain, info), status=201, headers=NO_STORE)


async def get_token(call: Call) -> Answer:
    """Show a token without its secret."""
    caller = await auth.require(call)
    held = await call.rt.db.read(read_token, caller.principal, call.params["id"])
    return shapes.answer(TokenAnswer(True, _item(held.token, held.address)))


async def update_token(call: Call) -> Answer:
    """Rename a token, switch it off and on again, or change when it expires."""
    caller = await auth.require(call)
    changes = await schemas.body(call, TokenChanges)
    if changes.rate_limit is not UNSET:
        _require_limit_right(caller, changes.rate_limit or 0)
    held = await call.rt.db.read(read_token, caller.principal, call.params["id"])
    token = held.token
    changed = await call.rt.db.write(
        tokens.update_properties, token.account_id, token.id, call.rt.clock.now(),
        name=token.name if changes.name is UNSET else changes.name,
        is_active=token.is_active if changes.is_active is UNSET else changes.is_active,
        expires_at=token.expires_at if changes.expires_at is UNSET else changes.expires_at,
        rate_limit=token.rate_limit if changes.rate_limit is UNSET else changes.rate_limit,
    )  # fmt: skip
    return shapes.answer(TokenAnswer(True, _item(changed, held.address)))


async def delete_token(call: Call) -> Answer:
    """Delete a token. It stops working at once."""
    caller = await auth.require(call)
    held = await call.rt.db.read(read_token, caller.principal, call.params["id"])
    await call.rt.db.write(tokens.remove, held.token.account_id, held.token.id, call.rt.clock.now())
    return shapes.answer(Done(True, f"Token {held.token.prefix} has been deleted"))


def read_page(conn: ReadConn, principal: Principal, query: TokenQuery) -> Page[Held]:
    """The tokens that the principal sees. Errors: Forbidden, NotFound (an admin's unknown ``email``)."""
    if query.email is None and principal.kind == "operator":
        return tokens.list_page(conn, None, None, DIALECT, limit=query.limit, offset=query.offset)
    mailbox = _own(conn, principal, query.email)
    place = mailbox.account_id, mailbox.id
    return tokens.list_page(conn, *place, DIALECT, limit=query.limit, offset=query.offset)


def read_holder(conn: ReadConn, principal: Principal, email: str | None) -> Mailbox | None:
    """Whose a new token is; None: an admin's. Errors: Forbidden, NotFound."""
    return None if email is None and principal.kind == "operator" else _own(conn, principal, email)


def read_token(conn: ReadConn, principal: Principal, text: str) -> Held:
    """The token that a path names, if the principal sees it; NotFound ``token_not_found``."""
    return access.require_token(conn, principal, DIALECT, paging.number(text) or 0)


def _own(conn: ReadConn, principal: Principal, email: str | None) -> Mailbox:
    return access.require_mailbox(conn, principal, principal.address or "" if email is None else email, None)


def _require_limit_right(caller: Caller, rate_limit: int | None) -> None:
    if rate_limit is not None and caller.principal.kind != "operator":
        raise Forbidden("Only an admin sets rate limits.", code="access_denied")


def _item(token: Token, address: str | None) -> TokenItem:
    return TokenItem(
        id=token.id,
        token_prefix=token.prefix,
        token_type=token.kind,
        email=address,
        name=token.name,
        is_active=token.is_active,
        rate_limit=token.rate_limit,
        created_at=shapes.moment(token.created_at),
        last_used_at=None if token.last_used_at is None else shapes.moment(token.last_used_at),
        expires_at=None if token.expires_at is None else shapes.moment(token.expires_at),
    )
