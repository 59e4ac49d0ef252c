"""Access: who acts, and what that lets them touch.

Every edge turns its credential into one ``Principal``; ``require_*`` raise Forbidden or NotFound, and say no more to an
ordinary user than that: a foreign mailbox and a missing one look the same.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from restante.core import domains, mailboxes, permissions, tokens
from restante.errors import Forbidden, NotFound, Unauthenticated
from restante.ids import AccountId, DomainId, MailboxId, TokenId
from restante.schema.connections import ReadConn

Kind = Literal["operator", "account", "user"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts: the operator of the instance, the owner of an account, or the user of one mailbox.

    ``rate_limit`` is the token's own (requests a minute; None: the dialect's; 0: none).
    """

    account_id: AccountId
    mailbox_id: MailboxId | None
    token_id: TokenId | None
    kind: Kind
    address: str | None
    rate_limit: int | None


def authenticate_token(conn: ReadConn, dialect: str, plain: str, now: datetime) -> tuple[Principal, tokens.Token]:
    """Who presents a dialect's token.

    Errors: Unauthenticated ``invalid_token`` (unknown, or another dialect's) or ``token_expired`` (revoked, expired,
    its account suspended, its mailbox disabled).
    """
    held = tokens.find_held(conn, dialect, plain)
    if held is None:
        raise Unauthenticated("The token is not known.", code="invalid_token")
    token = held.token
    if not held.is_sound or not token.is_usable(now):
        raise Unauthenticated("The token is expired or inactive.", code="token_expired")
    kind: Kind = "operator" if token.kind == "admin" else "account" if token.mailbox_id is None else "user"
    return Principal(token.account_id, token.mailbox_id, token.id, kind, held.address, token.rate_limit), token


def of_mailbox(mailbox: mailboxes.Mailbox) -> Principal:
    """Who logged in with a mailbox's password: its user, or the operator when the mailbox has the admin role."""
    kind: Kind = "operator" if mailbox.role == "admin" else "user"
    return Principal(mailbox.account_id, mailbox.id, None, kind, mailbox.address, None)


def require_operator(principal: Principal) -> None:
    """Let only the operator pass; Forbidden ``access_denied``."""
    if principal.kind != "operator":
        raise _denied()


def require_account(principal: Principal, account_id: AccountId) -> None:
    """Let the operator and the owner of the account pass; Forbidden ``access_denied``."""
    if principal.kind == "operator" or (principal.kind == "account" and principal.account_id == account_id):
        return
    raise _denied()


def require_mailbox(
    conn: ReadConn,
    principal: Principal,
    address: str,
    permission: str | None = permissions.VIEW_MAILBOX,
) -> mailboxes.Mailbox:
    """The mailbox that an address or alias names, if the principal may use it.

    The operator may use all, an account's owner its own, a user their own and (with ``permission``, read only) those of
    domains granted to them. Errors: NotFound ``mailbox_not_found`` for the operator; Forbidden ``access_denied`` for
    everyone else, missing or foreign. Continue with the account of the mailbox, which may differ from the principal's.
    """
    named = mailboxes.targets(conn, address)
    if principal.kind == "operator":
        if not named:
            raise NotFound("There is no such mailbox.", code="mailbox_not_found")
        return named[0]
    for mailbox in named:
        if mailbox.account_id == principal.account_id and principal.kind == "account":
            return mailbox
        if mailbox.id == principal.mailbox_id:
            return mailbox
    for mailbox in named:
        if permission is not None and _is_granted(conn, principal, mailbox.domain_id, permission):
            return mailbox
    raise _denied()


def require_domain(conn: ReadConn, principal: Principal, name: str, permission: str) -> domains.Domain:
    """The domain of that name, if the principal holds ``permission`` over it.

    Errors: NotFound ``domain_not_found`` for the operator; Forbidden ``access_denied`` for everyone else.
    """
    domain = domains.find_by_name(conn, name)
    if principal.kind == "operator":
        if domain is None:
            raise NotFound("There is no such domain.", code="domain_not_found")
        return domain
    if domain is not None and principal.kind == "account" and domain.account_id == principal.account_id:
        return domain
    if domain is not None and _is_granted(conn, principal, domain.id, permission):
        return domain
    raise _denied()


def _is_granted(conn: ReadConn, principal: Principal, domain_id: DomainId, permission: str) -> bool:
    if principal.kind != "user" or principal.mailbox_id is None:
        return False
    return permissions.has(conn, principal.account_id, principal.mailbox_id, domain_id, permission)


def _denied() -> Forbidden:
    return Forbidden("Access denied.", code="access_denied")
