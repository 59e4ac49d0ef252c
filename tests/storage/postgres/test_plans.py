"""PostgreSQL's plans for what runs often: each statement names the account, none walks over other tenants' rows.

The statements are those that the core functions really send, noted as they go by.
"""

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from restante import ids
from restante.core import (
    access,
    accounts,
    contents,
    deliveries,
    domains,
    events,
    folders,
    listing,
    mailboxes,
    messages,
    places,
    routing,
    tokens,
)
from restante.core.access import Presumed, Principal
from restante.core.contents import NewContent
from restante.core.delivery import Delivered, Summary, Target
from restante.core.messages import Flag
from restante.ids import EventNumber
from restante.schema import distribution, tables
from restante.schema.connections import WriteConn, find_together
from restante.storage.postgres import connection

NOW = datetime(2026, 11, 21, tzinfo=UTC)
SPREAD = {name for name, table in tables.metadata.tables.items() if distribution.is_distributed(table)}


SUMMARY = Summary("s", "", "a@b.example", "[]", None, None, 0, 1, "p", "a@b.example")
CONTENT = NewContent(3, b"x" * 32, b"", b"raw", None, None)


class Noted(psycopg.Cursor[tuple[Any, ...]]):
    """Keeps every statement with its values."""

    seen: list[tuple[Any, Any]] = []  # noqa: RUF012 - emptied by each test

    def execute(self, query: Any, params: Any = None, **more: Any) -> "Noted":
        self.seen.append((query, params))
        super().execute(query, params, **more)
        return self


class World:
    """One mailbox with a message, on a connection whose statements are noted."""

    def __init__(self, url: str) -> None:
        self._opened = connection.open_engine(url, connection.WRITING).connect()
        self.raw = connection.raw_of(self._opened)
        self.raw.execute("BEGIN")
        self.conn = WriteConn(self._opened)
        self.account = accounts.create(self.conn, "default", NOW).id
        domains.add(self.conn, self.account, "example.test", NOW, dns_status="forced")
        self.mailbox = mailboxes.create(self.conn, self.account, "bob@example.test", NOW).id
        self.trash = folders.get_folder(self.conn, self.account, self.mailbox, "Trash").id
        self.message = self.deliver()

        token, plain = tokens.create(self.conn, self.account, "mail-api", "user", "", NOW, self.mailbox)
        principal, _ = access.authenticate_token(self.conn, "mail-api", plain, NOW)
        proof = tokens.proof_values(token, principal.address, ids.token_hash(plain), NOW)
        self.presumed = Presumed(principal, proof)

    def find_page(self, who: Principal | Presumed) -> None:
        _, items = listing.find_page(self.conn, who, "bob@example.test", "INBOX", lambda *_: None, limit=50)
        assert len(items) == 1

    def call(self) -> bytes:
        """A delivery."""
        target = Target(self.account, self.mailbox, "INBOX", "bob@example.test", b"")
        return deliveries.encode_call([(self.account, CONTENT)], SUMMARY, [target], NOW)

    def deliver(self) -> Delivered:
        return deliveries.decode_answer(deliveries.deliver_encoded(self.conn, self.call()))[0]

    def deliver_together(self) -> None:
        many = find_together(deliveries.deliver_encoded)
        assert many is not None
        many(self.conn, [(self.call(),)] * 3)

    def resolve_together(self) -> None:
        many = find_together(routing.resolve)
        assert many is not None
        assert len(many(self.conn, [("bob+tag@example.test", 1), ("bob@example.test",)])) == 2

    def plans(self, work: Callable[["World"], object]) -> list[tuple[str, Any]]:
        """What ``work`` sends, with the plan that a full database would give it."""
        Noted.seen.clear()
        self.raw.cursor_factory = Noted
        self.conn.info.pop("cursor", None)  # which prepared statements keep
        work(self)
        self.raw.cursor_factory = psycopg.Cursor
        found = []
        self.raw.execute("SET LOCAL enable_seqscan = off")  # as if the tables were large
        for query, params in list(Noted.seen):
            row = self.raw.execute("EXPLAIN (FORMAT JSON) " + query, params).fetchone()
            assert row is not None
            plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
            found.append((str(query), plan[0]["Plan"]))
        return found

    def close(self) -> None:
        connection.close(self._opened)


HOT: dict[str, Callable[[World], object]] = {
    "delivery": lambda w: w.deliver(),
    "deliveries": lambda w: w.deliver_together(),
    "routes": lambda w: w.resolve_together(),
    "route": lambda w: routing.resolve(w.conn, "bob+tag@example.test"),
    "login": lambda w: mailboxes.find_login(w.conn, "bob@example.test"),
    "mailbox by address": lambda w: mailboxes.targets(w.conn, "bob@example.test"),
    "mailbox": lambda w: mailboxes.get(w.conn, w.account, w.mailbox),
    "folders": lambda w: folders.list_folders(w.conn, w.account, w.mailbox),
    "folder": lambda w: folders.find_folder(w.conn, w.account, w.mailbox, "INBOX"),
    "page": lambda w: messages.list_page(w.conn, w.account, w.message.folder_id, limit=50),
    "page of an address": lambda w: w.find_page(access.OPERATOR),
    "page of an address, token and all": lambda w: w.find_page(w.presumed),
    "folders of an address": lambda w: places.find_folders(w.conn, access.OPERATOR, "bob@example.test"),
    "folders of an address, token and all": lambda w: places.find_folders(w.conn, w.presumed, "bob@example.test"),
    "message by uid": lambda w: messages.find(w.conn, w.account, w.message.folder_id, 1),
    "message": lambda w: messages.get(w.conn, w.account, w.message.message_id),
    "message by public id": lambda w: messages.get_public(w.conn, w.account, uuid.UUID(w.message.public_id)),
    "messages": lambda w: messages.by_ids(w.conn, w.account, [1, 2, 3]),
    "bytes": lambda w: contents.get(w.conn, w.account, messages.trace(w.conn, w.account, w.message.message_id)[1]),
    "events": lambda w: events.list_after(w.conn, w.account, EventNumber(0), 100),
    "flags": lambda w: messages.set_flags(
        w.conn, w.account, w.mailbox, [w.message.message_id], add=Flag.SEEN, now=NOW
    ),
    "move": lambda w: messages.move(w.conn, w.account, w.mailbox, [w.message.message_id], w.trash, now=NOW),
    "removal": lambda w: messages.remove(w.conn, w.account, w.mailbox, [w.message.message_id], now=NOW),
}  # fmt: skip


def _scans(plan: Any) -> Iterator[Any]:
    """The nodes that read tables."""
    if plan.get("Relation Name") and plan["Node Type"] != "ModifyTable":
        yield plan
    for child in plan.get("Plans", ()):
        yield from _scans(child)


def _condition(plan: Any) -> str:
    """By what an index is entered."""
    own = str(plan.get("Index Cond", ""))
    return own + "".join(_condition(child) for child in plan.get("Plans", ()) if "Bitmap" in child["Node Type"])


@pytest.mark.parametrize("name", HOT)
def test_hot_statements_enter_an_index_by_the_account(postgres_url: str, name: str) -> None:
    world = World(postgres_url)
    looked_at = 0
    for query, plan in world.plans(HOT[name]):
        for scan in _scans(plan):
            table = scan["Relation Name"]
            if table not in SPREAD:
                continue
            looked_at += 1
            key = "id" if table == "accounts" else "account_id"
            assert key in _condition(scan), f"{query}\n{json.dumps(scan, indent=1)}"
    assert looked_at > 0
    world.close()


def test_compressed_bytes_are_stored_as_they_are(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as conn:
        kind = conn.execute(
            "SELECT attstorage FROM pg_attribute WHERE attrelid = 'contents'::regclass AND attname = 'raw'"
        ).fetchone()
    assert kind == ("e",)
