"""Provisioning: what a server makes for itself at the first run, and what an operator's one command makes at once."""

from dataclasses import dataclass
from datetime import datetime

from restante import ids
from restante.core import accounts, domains, mailboxes, tokens
from restante.core.accounts import Account
from restante.core.domains import Domain
from restante.core.mailboxes import Mailbox
from restante.mail import address as addresses
from restante.runtime import Runtime
from restante.schema.connections import ReadConn, WriteConn
from restante.services import authentication

DEFAULT_ACCOUNT = "default"
FIRST_DOMAIN = "example.test"
FIRST_MAILBOX = "admin@example.test"
FIRST_TOKEN = "first run"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True)
class FirstRun:
    """What the first run made; password and token are shown once and kept nowhere."""

    account: Account
    domain: Domain
    mailbox: Mailbox
    password: str
    token: str


async def first_run(rt: Runtime) -> FirstRun | None:
    """Fill an empty instance: account, forced domain, administrator with a catch-all, Mail API admin token.

    All in one transaction. None when there is any account already.
    """
    if not await rt.db.read(is_empty):
        return None
    password = ids.new_password()
    password_hash = await authentication.hash_password(rt, password)
    made = await rt.db.write(_fill, password_hash, rt.clock.now())
    return None if made is None else FirstRun(*made[:3], password=password, token=made[3])


async def add_mailbox(
    rt: Runtime, address: str, password: str | None = None, name: str = "", quota_bytes: int | None = None
) -> Mailbox:
    """Add a mailbox by the operator's command, with what it needs: the account ``default``, a forced domain.

    A domain that is there already stays as it is, in its own account. Errors: Invalid, Conflict ``address_exists``.
    """
    password_hash = None if password is None else await authentication.hash_password(rt, password)
    return await rt.db.write(_add_mailbox, address, password_hash, name, quota_bytes, rt.clock.now())


def is_empty(conn: ReadConn) -> bool:
    """Whether the instance has no account yet."""
    return not accounts.list_accounts(conn)


def _fill(conn: WriteConn, password_hash: str, now: datetime) -> tuple[Account, Domain, Mailbox, str] | None:
    if not is_empty(conn):
        return None
    account = accounts.create(conn, DEFAULT_ACCOUNT, now)
    domain = domains.add(conn, account.id, FIRST_DOMAIN, now, dns_status="forced")
    mailbox = mailboxes.create(
        conn, account.id, FIRST_MAILBOX, now, name="Administrator", role="admin", password_hash=password_hash
    )
    domain = domains.set_catch_all(conn, account.id, domain.id, mailbox.id, now)
    _, plain = tokens.create(conn, account.id, "mail-api", "admin", FIRST_TOKEN, now)
    return account, domain, mailbox, plain


def _add_mailbox(
    conn: WriteConn, address: str, password_hash: str | None, name: str, quota_bytes: int | None, now: datetime
) -> Mailbox:
    wanted = addresses.normalise(address)
    domain = domains.find_by_name(conn, addresses.split(wanted)[1])
    if domain is None:
        account = accounts.find(conn, DEFAULT_ACCOUNT) or accounts.create(conn, DEFAULT_ACCOUNT, now)
        domain = domains.add(conn, account.id, addresses.split(wanted)[1], now, dns_status="forced")
    return mailboxes.create(
        conn, domain.account_id, wanted, now, name=name, password_hash=password_hash, quota_bytes=quota_bytes
    )
