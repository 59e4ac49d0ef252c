"""A writing connection on a store of its own, and two tenants in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from restante import ids
from restante.core import accounts, domains, mailboxes, submission
from restante.core.access import Principal
from restante.core.accounts import Account
from restante.core.contents import NewContent
from restante.core.delivery import Summary
from restante.core.domains import Domain
from restante.core.mailboxes import Mailbox
from restante.core.submission import NewRecipient, NewSubmission
from restante.schema.connections import WriteConn
from restante.storage import sqlite, upgrades
from restante.storage.postgres import connection

SUMMARY = Summary(
    subject="s",
    from_name="",
    from_email="",
    recipients="[]",
    message_id_header=None,
    sent_at=None,
    attachments=0,
    thread_key=1,
    preview="",
    envelope_sender="",
)
CONTENT = NewContent(10, b"hash", b"structure", b"raw", None, None)


def outgoing(
    sender: str, principal: Principal | None = None, *to: str, source: submission.Source = "api"
) -> NewSubmission:
    """A message of ``sender`` to ``to`` (default: one recipient elsewhere), ready to be accepted."""
    public_id = ids.new_uuid()
    recipients = tuple(NewRecipient("to", address) for address in to or ("eve@far.example",))
    token = public_id.hex
    return NewSubmission(
        public_id, token[:15], token, source, principal, sender, sender, recipients, "s", f"<{token}@x>", 10
    )


@dataclass(frozen=True, slots=True)
class Tenant:
    """An account with a local domain and one mailbox, ``ann@<domain>``."""

    account: Account
    domain: Domain
    mailbox: Mailbox


@pytest.fixture
def now() -> datetime:
    """When everything happens unless a test says otherwise."""
    return datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture
def conn(tmp_path: Path, database_url: str) -> Iterator[WriteConn]:
    """A connection inside one write transaction, which is never committed."""
    if database_url:
        server = connection.open_engine(database_url, connection.WRITING).connect()
        connection.raw_of(server).execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
        yield WriteConn(server)
        connection.close(server)
        return
    opened = sqlite.open_writer(tmp_path / sqlite.MAIN)
    raw = sqlite.raw(opened)
    raw.execute("BEGIN IMMEDIATE")
    upgrades.apply(opened)
    yield WriteConn(opened)
    raw.execute("ROLLBACK")
    opened.close()


def make_tenant(conn: WriteConn, name: str, now: datetime) -> Tenant:
    """A tenant whose domain is forced local."""
    account = accounts.create(conn, name, now)
    domain = domains.add(conn, account.id, f"{name}.example", now, dns_status="forced")
    return Tenant(account, domain, mailboxes.create(conn, account.id, f"ann@{name}.example", now, name="Ann"))


@pytest.fixture
def red(conn: WriteConn, now: datetime) -> Tenant:
    """One tenant, ``red.example``."""
    return make_tenant(conn, "red", now)


@pytest.fixture
def blue(conn: WriteConn, now: datetime) -> Tenant:
    """Another tenant, ``blue.example``."""
    return make_tenant(conn, "blue", now)
