"""Signup: a stranger brings a domain; it gets an account of its own and waits for the operator's consent."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from restante import ids
from restante.core import accounts, domains, mailboxes, permissions, tokens
from restante.core.domains import Domain
from restante.core.mailboxes import Mailbox
from restante.errors import Conflict, Forbidden, Invalid
from restante.mail import address as addresses
from restante.runtime import Runtime
from restante.schema.connections import ReadConn, WriteConn
from restante.services import authentication, notices

MAX_NAME_CHARS = 255
TOKEN_NAME = "signup"  # noqa: S105 - a name

# Names that no registry gives out (RFC 6761, 6762, 7686, 9476, and ICANN's reservation of .internal).
_UNREGISTRABLE = frozenset({"localhost", "local", "invalid", "onion", "arpa", "internal", "alt"})


@dataclass(frozen=True, slots=True)
class SignedUp:
    """A new user with a session token, which is shown once."""

    mailbox: Mailbox
    domain: Domain
    token: tokens.Token
    plain: str


@dataclass(frozen=True, slots=True)
class _Request:
    domain: str
    email: str
    name: str


@dataclass(frozen=True, slots=True)
class _Operator:
    """Whom to tell ("": the administrators) and what the settings say."""

    notify: str
    pending_days: int


async def signup(rt: Runtime, domain: str, email: str, password: str, name: str | None = None) -> SignedUp:
    """Make an account with a pending domain, an active mailbox, ``manage_domains`` and a session token, or nothing.

    The operator is told by mail (a job of the same transaction). How often a peer or a domain may try is the edge's to
    count. Errors, in this order: Forbidden ``signup_disabled``, Invalid ``invalid_domain``, ``email_domain_mismatch``,
    ``invalid_address``, ``weak_password``, ``invalid`` (name), Conflict ``domain_exists``.
    """
    if not rt.config.mail_api.signup_enabled:
        raise Forbidden("Signup is switched off on this server.", code="signup_disabled")
    request = _checked(domain, email, password, name)
    await rt.db.read(_require_free, request.domain)
    password_hash = await authentication.hash_password(rt, password)
    now = rt.clock.now()
    expires_at = now + timedelta(hours=rt.config.mail_api.session_hours)
    operator = _Operator(rt.config.mail_api.notify_address, rt.config.mail_api.pending_domain_days)
    return await rt.db.write(_create, request, password_hash, operator, now, expires_at)


def registrable(name: str) -> str:
    """A domain name that somebody could have registered, in stored form; Invalid ``invalid_domain``."""
    found = domains.normalise_name(name)
    labels = found.split(".")
    if len(labels) < 2 or labels[-1] in _UNREGISTRABLE or len(labels[-1]) < 2:
        message = "The domain must be a registered name such as example.com."
        raise Invalid(message, code="invalid_domain", details={"domain": message})
    return found


def _checked(domain: str, email: str, password: str, name: str | None) -> _Request:
    wanted = registrable(domain)
    part = email.strip().rpartition("@")[2]
    try:
        is_inside = "@" in email and domains.normalise_name(part) == wanted
    except Invalid:
        is_inside = False
    if not is_inside:
        message = f"The address must end with @{wanted}."
        raise Invalid(message, code="email_domain_mismatch", details={"email": message})
    address = addresses.normalise(email)
    authentication.require_strong(password)
    shown = addresses.split(address)[0] if name is None else name.strip()
    if not 0 < len(shown) <= MAX_NAME_CHARS or not shown.isprintable():
        raise Invalid("A name has 1 to 255 printable characters.", details={"name": "1 to 255 printable characters"})
    return _Request(wanted, address, shown)


def _require_free(conn: ReadConn, domain: str) -> None:
    if domains.find_by_name(conn, domain) is not None:
        raise Conflict(f"The domain {domain} is here already.", code="domain_exists")


def _create(
    conn: WriteConn, request: _Request, password_hash: str, operator: _Operator, now: datetime, expires_at: datetime
) -> SignedUp:
    is_taken = accounts.find(conn, request.domain) is not None  # the operator names accounts as they like
    account_name = f"{request.domain} {ids.new_uuid().hex[-8:]}" if is_taken else request.domain
    account = accounts.create(conn, account_name, now)
    domain = domains.add(conn, account.id, request.domain, now, created_by=request.email, approved=False)
    mailbox = mailboxes.create(conn, account.id, request.email, now, name=request.name, password_hash=password_hash)
    permissions.grant_bulk(conn, account.id, mailbox.id, domain.id, [permissions.MANAGE_DOMAINS], now)
    token, plain = tokens.start_session(conn, account.id, mailbox.id, "mail-api", TOKEN_NAME, now, expires_at)
    made = SignedUp(mailbox, domain, token, plain)
    _tell_operator(conn, made, operator, now)
    return made


def _tell_operator(conn: WriteConn, made: SignedUp, operator: _Operator, now: datetime) -> None:
    """Promise a notice to the address of the settings, without one to the administrators."""
    told = mailboxes.targets(conn, operator.notify) if operator.notify else mailboxes.list_admins(conn)
    text = (
        f"{made.mailbox.name} <{made.mailbox.address}> signed up with the domain {made.domain.name}.\n\n"
        "It waits for your approval:\n\n"
        f"    restante domain approve {made.domain.name}\n\n"
        f"Without it the domain is dropped after {operator.pending_days} days.\n"
    )
    for mailbox in told:
        key = f"signup-{made.domain.id}-{mailbox.id}"
        notices.enqueue(conn, mailbox, key, f"New domain to approve: {made.domain.name}", text, now)
