"""Access: who acts, and what that lets them touch.

Every edge turns its credential into one ``Principal``; ``require_*`` raise Forbidden or NotFound, and say no more to an
ordinary user than that: a foreign mailbox and a missing one look the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from sqlalchemy import bindparam, select

from restante.core import domains, mailboxes, permissions, tokens
from restante.errors import Forbidden, NotFound, Unauthenticated
from restante.ids import AccountId, DomainId, MailboxId, TokenId
from restante.mail import address as addresses
from restante.schema import tables
from restante.schema.connections import ReadConn, single
from restante.schema.prepared import Prepared

Kind = Literal["operator", "account", "user"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts: the operator of the instance, the owner of an account, or the user of one mailbox.

    ``rate_limit`` is the token's own (requests a minute; None: the dialect's; 0: none); ``scopes`` is what a token is
    held to (None: all that its kind may do).
    """

    account_id: AccountId
    mailbox_id: MailboxId | None
    token_id: TokenId | None
    kind: Kind
    address: str | None
    rate_limit: int | None
    scopes: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Presumed:
    """Who presented a token a moment ago, and does again: a guess, until a statement that has ``tokens.proof`` in it
    and these values finds anything."""

    principal: Principal
    proof: Mapping[str, Any]


class Named(Protocol):
    """A mailbox, as far as it matters whose it is."""

    @property
    def id(self) -> MailboxId: ...
    @property
    def account_id(self) -> AccountId: ...
    @property
    def domain_id(self) -> DomainId: ...


N = TypeVar("N", bound=Named)

OPERATOR = Principal(AccountId(0), None, None, "operator", None, None)
"""Whoever runs commands: no account, no mailbox, no token."""


@dataclass(frozen=True, slots=True)
class Sender:
    """An address that the principal may send as, in routing form.

    ``account_id`` is the account of its domain; ``mailbox_id`` the mailbox it leads to, None when it leads to none.
    """

    address: str
    domain: str
    account_id: AccountId
    mailbox_id: MailboxId | None


@single
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
    scopes = None if token.scopes is None else frozenset(token.scopes)
    return Principal(token.account_id, token.mailbox_id, token.id, kind, held.address, token.rate_limit, scopes), token


def of_mailbox(mailbox: mailboxes.Mailbox) -> Principal:
    """Who logged in with a mailbox's password: its user, or the operator when the mailbox has the admin role."""
    kind: Kind = "operator" if mailbox.role == "admin" else "user"
    return Principal(mailbox.account_id, mailbox.id, None, kind, mailbox.address, None)


def require_scope(principal: Principal, scope: str) -> None:
    """Let pass who is not held to scopes, or has this one; Forbidden ``scope_missing``."""
    if principal.scopes is not None and scope not in principal.scopes:
        raise Forbidden(f"The token lacks the scope {scope}.", code="scope_missing", details={"scope": scope})


def require_operator(principal: Principal) -> None:
    """Let only the operator pass; Forbidden ``access_denied``."""
    if principal.kind != "operator":
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
    return choose_mailbox(conn, principal, mailboxes.targets(conn, address), permission)


def choose_mailbox(
    conn: ReadConn, principal: Principal, named: Sequence[N], permission: str | None = permissions.VIEW_MAILBOX
) -> N:
    """As ``require_mailbox``, among the mailboxes that an address names, oldest first."""
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
        if permission is not None and is_granted(conn, principal, mailbox.domain_id, permission):
            return mailbox
    raise _denied()


def require_own_mailbox(conn: ReadConn, principal: Principal, address: str) -> mailboxes.Mailbox:
    """The mailbox of the principal's own account that an address or alias names; a user's is their own alone.

    Errors: NotFound ``mailbox_not_found``, whatever there is in other accounts.
    """
    for mailbox in mailboxes.targets(conn, address):
        if mailbox.account_id == principal.account_id and principal.mailbox_id in (None, mailbox.id):
            return mailbox
    raise NotFound("There is no such mailbox.", code="mailbox_not_found")


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
    if domain is not None and is_granted(conn, principal, domain.id, permission):
        return domain
    raise _denied()


@single
def require_sender(conn: ReadConn, principal: Principal, address: str) -> Sender:
    """The sender that an address is, if the principal may send as it.

    The operator sends as any address of an approved domain, an account's owner as any of its own domains, a user as
    their mailbox's address, its aliases that may send, either of them with a tag, an address that only their catch-all
    takes, and any address of a domain granted with ``send_mail``. A full or disabled mailbox does not matter here.
    Errors: Invalid; Forbidden ``domain_not_allowed`` (no such domain, not approved, its account suspended, or, for
    anyone but the operator, neither of their account nor granted), then ``sender_not_authorized``.
    """
    wanted = addresses.normalise(address)
    local, name = addresses.split(wanted)
    domain = _sending_domain(conn, name)
    has_grant = domain is not None and is_granted(conn, principal, domain.id, permissions.SEND_MAIL)
    is_own = domain is not None and domain.account_id == principal.account_id
    if domain is None or not (principal.kind == "operator" or is_own or has_grant):
        raise Forbidden(f"The domain {name} is not allowed for sending.", code="domain_not_allowed")
    base = f"{addresses.without_tag(local)}@{name}"
    named = _mailboxes_of(conn, domain, wanted, base)
    mailbox_id = principal.mailbox_id if principal.mailbox_id in named else next(iter(named), None)
    is_owner = principal.kind == "operator" or (principal.kind == "account" and is_own)
    if not is_owner and not has_grant and not named.get(principal.mailbox_id, False):
        raise Forbidden(f"This login may not send as {wanted}.", code="sender_not_authorized")
    return Sender(wanted, name, domain.account_id, mailbox_id)


class _SendingDomain(NamedTuple):
    """What decides about a sender's domain."""

    id: DomainId
    account_id: AccountId
    catch_all_mailbox_id: MailboxId | None


_d, _a, _at = tables.domains.c, tables.addresses.c, tables.accounts.c
_SENDING_DOMAIN = Prepared(
    select(_d.id, _d.account_id, _d.catch_all_mailbox_id)
    .join_from(tables.domains, tables.accounts, _at.id == _d.account_id)
    .where(_d.name == bindparam("name"), _d.approved_at.is_not(None), _at.status == "active")
)
_LEADS_TO = Prepared(
    select(_a.address, _a.mailbox_id, _a.may_send)
    .where(_a.account_id == bindparam("account"), _a.address.in_((bindparam("exact"), bindparam("base"))))
    .order_by(_a.mailbox_id)
)


def _sending_domain(conn: ReadConn, name: str) -> _SendingDomain | None:
    """An approved domain of an active account."""
    row = _SENDING_DOMAIN.row(conn, {"name": name})
    return None if row is None else _SendingDomain(*row)


def _mailboxes_of(conn: ReadConn, domain: _SendingDomain, wanted: str, base: str) -> dict[MailboxId | None, bool]:
    """The mailboxes that an address leads to (itself, without its tag, the catch-all), and whether each sends as it."""
    rows = _LEADS_TO.rows(conn, {"account": domain.account_id, "exact": wanted, "base": base})
    for address in (wanted, base):
        found: dict[MailboxId | None, bool] = {
            MailboxId(mailbox_id): bool(may_send) for named, mailbox_id, may_send in rows if named == address
        }
        if found:
            return found
    catch_all = domain.catch_all_mailbox_id
    return {} if catch_all is None else {catch_all: True}


def require_user(conn: ReadConn, principal: Principal, address: str) -> mailboxes.Mailbox:
    """The mailbox of exactly that address (an alias is no user), if the principal may administer it.

    The operator may all; others need ``manage_users`` over its domain, which reaches nobody who may more than a user:
    it includes setting passwords. The account's own token reaches its members too.
    Errors: NotFound ``user_not_found`` for the operator; Forbidden ``access_denied`` for everyone else.
    """
    found = mailboxes.find_exact(conn, address)
    if principal.kind == "operator":
        if found is None:
            raise NotFound("There is no such user.", code="user_not_found")
        return found
    if found is None or found.role == "admin":
        raise _denied()
    is_owner = principal.kind == "account" and found.account_id == principal.account_id
    if is_owner:
        return found
    if found.role == "user" and is_granted(conn, principal, found.domain_id, permissions.MANAGE_USERS):
        return found
    raise _denied()


def list_domain_ids(conn: ReadConn, principal: Principal, permission: str) -> list[DomainId] | None:
    """The domains that the principal holds ``permission`` over; None: all. Forbidden ``access_denied`` for none."""
    if principal.kind == "operator":
        return None
    found: list[DomainId] = []
    if principal.kind == "account":
        found = [domain.id for domain in domains.list_domains(conn, principal.account_id)]
    elif principal.mailbox_id is not None:
        found = permissions.list_domain_ids(conn, principal.account_id, principal.mailbox_id, permission)
    if not found:
        raise _denied()
    return found


def require_token(conn: ReadConn, principal: Principal, dialect: str, token_id: int) -> tokens.Held:
    """A dialect's token, if the principal may see it: the operator all, an owner the account's, a user their own.

    NotFound ``token_not_found``, also for a foreign one.
    """
    held = tokens.find_by_id(conn, token_id, dialect)
    if held is not None:
        is_mine = held.token.account_id == principal.account_id and (
            principal.kind == "account" or held.token.mailbox_id == principal.mailbox_id
        )
        if is_mine or principal.kind == "operator":
            return held
    raise NotFound("There is no such token.", code="token_not_found")


def is_granted(conn: ReadConn, principal: Principal, domain_id: DomainId, permission: str) -> bool:
    """Whether a user was granted the permission over a domain; what operators and owners hold is no grant."""
    if principal.kind != "user" or principal.mailbox_id is None:
        return False
    return permissions.has(conn, principal.account_id, principal.mailbox_id, domain_id, permission)


def _denied() -> Forbidden:
    return Forbidden("Access denied.", code="access_denied")
