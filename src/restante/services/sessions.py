"""Sessions: the tokens that a login gives, the permanent key of a user, and the password that ends sessions."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from restante.core import mailboxes, tokens
from restante.core.access import Principal
from restante.core.mailboxes import Mailbox
from restante.core.tokens import Token
from restante.errors import Conflict
from restante.ids import AccountId, MailboxId, TokenId
from restante.runtime import Runtime
from restante.schema.connections import WriteConn
from restante.services import authentication

DIALECT = "mail-api"
SESSION_NAME = "login"


@dataclass(frozen=True, slots=True)
class Session:
    """Who logged in, and a token that is shown once."""

    mailbox: Mailbox
    token: Token
    plain: str


async def login(rt: Runtime, address: str, password: str, peer: str) -> Session:
    """Make a session token of the Mail API for a mailbox's address and password.

    Errors as of ``authentication.login``.
    """
    principal = await authentication.login(rt, address, password, peer)
    assert principal.mailbox_id is not None, "a password is a mailbox's"
    now = rt.clock.now()
    expires_at = now + timedelta(hours=rt.config.mail_api.session_hours)
    return await rt.db.write(_start, principal.account_id, principal.mailbox_id, now, expires_at)


async def logout(rt: Runtime, token: Token) -> None:
    """End a session; Conflict ``not_a_session`` for a token that no login made."""
    if token.purpose != "session":
        raise Conflict("This token is no session: delete it under /tokens.", code="not_a_session")
    await rt.db.write(tokens.remove, token.account_id, token.id, rt.clock.now())


async def regenerate_key(rt: Runtime, principal: Principal, token: Token) -> tuple[Token, str]:
    """A new permanent key for whoever holds the token; the one before ends at once. Its plain form is shown once."""
    place = principal.account_id, principal.mailbox_id
    return await rt.db.write(tokens.replace_permanent, *place, DIALECT, token.kind, rt.clock.now())


async def set_password(rt: Runtime, mailbox: Mailbox, password: str, keep: TokenId | None = None) -> Mailbox:
    """Replace a mailbox's password and end its sessions but the one to keep. Errors: Invalid ``weak_password``."""
    password_hash = await authentication.hash_password(rt, password)
    return await rt.db.write(_set_password, mailbox.account_id, mailbox.id, password_hash, rt.clock.now(), keep)


def _start(
    conn: WriteConn, account_id: AccountId, mailbox_id: MailboxId, now: datetime, expires_at: datetime
) -> Session:
    token, plain = tokens.start_session(conn, account_id, mailbox_id, DIALECT, SESSION_NAME, now, expires_at)
    return Session(mailboxes.get(conn, account_id, mailbox_id), token, plain)


def _set_password(
    conn: WriteConn, account_id: AccountId, mailbox_id: MailboxId, password_hash: str, now: datetime,
    keep: TokenId | None,
) -> Mailbox:  # fmt: skip
    tokens.end_sessions(conn, account_id, mailbox_id, now, keep)
    return mailboxes.set_password(conn, account_id, mailbox_id, password_hash, now)
