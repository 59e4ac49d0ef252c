"""Operations on tokens."""

import dataclasses
from datetime import datetime, timedelta
from typing import Any

from restante.api.mailcare import auth as mailcare_auth
from restante.api.native import automations as native_automations
from restante.api.native import events as native_events
from restante.api.native import retention as native_retention
from restante.api.native import waiting as native_waiting
from restante.api.native import webhooks as native_webhooks
from restante.core import accounts, mailboxes, tokens
from restante.core.tokens import Token
from restante.errors import Invalid, NotFound
from restante.http.ownership import MAILCARE, NATIVE
from restante.runtime import Runtime
from restante.schema.connections import ReadConn, WriteConn
from restante.server.operations import naming

SCOPES = {
    MAILCARE: mailcare_auth.SCOPES,
    NATIVE: (
        native_events.SCOPE,
        native_waiting.SCOPE,
        native_webhooks.READ,
        native_webhooks.WRITE,
        native_retention.READ,
        native_retention.WRITE,
        native_automations.READ,
        native_automations.WRITE,
    ),
}
"""What tokens of a dialect can be held to."""

Json = dict[str, Any]


def _token_json(conn: ReadConn, token: Token) -> Json:
    mailbox_id = token.mailbox_id
    return {
        "id": token.id,
        "prefix": token.prefix,
        "dialect": token.dialect,
        "kind": token.kind,
        "account": accounts.get(conn, token.account_id).name,
        "mailbox": None if mailbox_id is None else mailboxes.get(conn, token.account_id, mailbox_id).address,
        "name": token.name,
        "scopes": None if token.scopes is None else list(token.scopes),
        "rate_limit": "none" if token.rate_limit == 0 else token.rate_limit,
        "is_active": token.is_active,
        "created_at": naming.moment(token.created_at),
        "last_used_at": naming.moment(token.last_used_at),
        "expires_at": naming.moment(token.expires_at),
    }


@dataclasses.dataclass(frozen=True, slots=True)
class _NewToken:
    dialect: str
    account: str | None
    mailbox: str | None
    name: str
    rate_limit: int | None
    days: int | None
    scopes: list[str] | None


def _create_token(conn: WriteConn, new: _NewToken, now: datetime) -> Json:
    mailbox = None if new.mailbox is None else naming.own_mailbox(conn, new.mailbox)
    account_id = naming.ensured_account(conn, new.account, now).id if mailbox is None else mailbox.account_id
    token, plain = tokens.create(
        conn,
        account_id,
        new.dialect,
        "admin" if mailbox is None and new.account is None else "user",
        new.name,
        now,
        mailbox_id=None if mailbox is None else mailbox.id,
        expires_at=None if new.days is None else now + timedelta(days=new.days),
        rate_limit=new.rate_limit,
        scopes=new.scopes,
    )
    return _token_json(conn, token) | {"token": plain}


def _list_tokens(conn: ReadConn, mailbox: str | None) -> list[Json]:
    if mailbox is None:
        return [_token_json(conn, token) for token in tokens.list_all(conn)]
    one = naming.own_mailbox(conn, mailbox)
    return [_token_json(conn, token) for token in tokens.list_tokens(conn, one.account_id, one.id)]


def _revoke_token(conn: WriteConn, token_id: int, now: datetime) -> Json:
    held = tokens.find_by_id(conn, token_id)
    if held is None:
        raise NotFound(f"there is no token {token_id}", code="token_not_found")
    return _token_json(conn, tokens.revoke(conn, held.token.account_id, held.token.id, now))


async def token_create(
    rt: Runtime,
    dialect: str,
    admin: bool = False,
    account: str | None = None,
    mailbox: str | None = None,
    name: str = "",
    rate_limit: int | None = None,
    days: int | None = None,
    scopes: list[str] | None = None,
) -> Json:
    """Make a token of the operator, of an account or of a mailbox's user; the only answer that ever holds it."""
    if (admin, account is not None, mailbox is not None).count(True) != 1:
        raise Invalid("a token is an administrator's, an account's or a mailbox's")
    if admin and dialect == NATIVE:
        raise Invalid("the native API has no administrator's tokens: name an account or a mailbox")
    if dialect == MAILCARE and account is None:
        raise Invalid("a token of the MailCare API is an account's: a team is a whole account")
    if scopes is not None and (unknown := set(scopes) - set(SCOPES.get(dialect, ()))):
        known = ", ".join(SCOPES.get(dialect, ())) or "none"
        raise Invalid(f"{dialect} has no scope {min(unknown)}; it has {known}")
    new = _NewToken(dialect, account, mailbox, name, rate_limit, days, scopes)
    return await rt.db.write(_create_token, new, rt.clock.now())


async def token_list(rt: Runtime, mailbox: str | None = None) -> Json:
    """The tokens of one mailbox or of all, without their secrets."""
    return {"tokens": await rt.db.read(_list_tokens, mailbox)}


async def token_revoke(rt: Runtime, token_id: int) -> Json:
    """Make a token useless."""
    return await rt.db.write(_revoke_token, token_id, rt.clock.now())
