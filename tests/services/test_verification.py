"""Verification: a sound store is called sound, every kind of damage is found, and what can be rebuilt is."""

import os
import re
from typing import Any

import apsw
import psycopg
import pytest

from restante.core import domains, mailboxes
from restante.core import verification as core_verification
from restante.core.mailboxes import Mailbox
from restante.errors import Unavailable
from restante.runtime import Runtime
from restante.schema.fulltext import sqlite as fulltext
from restante.services import provisioning, storing, verification
from tests.makers import catch_up_index

MESSAGE = f"id & {fulltext.MESSAGE_MASK}"  # in the number of an index document


async def _verify(rt: Runtime, repair: bool = False) -> dict[str, Any]:
    last: dict[str, Any] = {}
    async for item in verification.verify(rt, repair):
        last = item
    return last


@pytest.fixture
async def mailbox(rt: Runtime) -> Mailbox:
    made = await provisioning.add_mailbox(rt, "alice@example.test")
    for n in range(5):
        raw = f"From: a@b.example\r\nSubject: number {n}\r\n\r\nbody {n}\r\n".encode()
        await storing.store(rt, made.account_id, made.id, "INBOX", raw)
    big = b"Subject: big\r\n\r\n" + bytes(range(256)) * 9000
    await storing.store(rt, made.account_id, made.id, "Sent", big + os.urandom(300_000))
    catch_up_index(rt)
    return made


def _damage(rt: Runtime, statement: str, file: str = "restante.db") -> None:
    """Change a file, or the rows of a PostgreSQL database, behind the server's back."""
    if rt.config.storage.database_url:
        with psycopg.connect(rt.config.storage.database_url) as server:
            server.execute("SET session_replication_role = replica")  # foreign keys are not looked at
            server.execute(re.sub(r"x'([0-9a-f]*)'", r"'\\x\1'::bytea", statement))
        return
    conn = apsw.Connection(str(rt.config.data_dir / file))
    try:
        conn.set_busy_timeout(10_000)
        conn.execute(statement)
    finally:
        conn.close()


async def test_a_sound_store(rt: Runtime, mailbox: Mailbox) -> None:
    report = await _verify(rt)
    assert report["problems"] == []
    assert (report["ok"], report["messages"], report["contents"], report["blobs"]) == (True, 6, 6, 1)


async def test_an_empty_store(rt: Runtime) -> None:
    assert (await _verify(rt))["ok"] is True


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE folders SET messages = messages + 1 WHERE name = 'INBOX'", "folder_counters"),
        ("UPDATE folders SET unseen = 0 WHERE name = 'INBOX'", "folder_counters"),
        ("UPDATE folders SET size_bytes = 1 WHERE name = 'INBOX'", "folder_counters"),
        ("UPDATE folders SET uid_next = 2 WHERE name = 'INBOX'", "folder_counters"),
        ("UPDATE mailboxes SET used_bytes = 0", "mailbox_counters"),
        ("UPDATE accounts SET used_bytes = 0", "account_counters"),
        ("UPDATE contents SET uses = 7 WHERE id = 1", "use_count"),
        ("UPDATE contents SET unused_at = 7 WHERE id = 1", "use_count"),
        ("UPDATE contents SET structure = x'00' WHERE id = 1", "structure"),
        ("UPDATE messages SET size_bytes = 1 WHERE id = 1", "message_size"),
    ],
)
async def test_what_is_derived_is_rebuilt(rt: Runtime, mailbox: Mailbox, statement: str, kind: str) -> None:
    _damage(rt, statement)
    found = await _verify(rt)
    assert found["ok"] is False
    assert kind in {problem["kind"] for problem in found["problems"]}
    repaired = await _verify(rt, repair=True)
    assert repaired["ok"] is True
    assert repaired["repaired_count"] >= 1
    catch_up_index(rt)
    assert (await _verify(rt))["problems"] == []


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE contents SET raw = x'28b52ffd00' WHERE id = 1", "bytes_missing"),
        (f"UPDATE contents SET sha256 = x'{'00' * 32}' WHERE id = 1", "bytes_changed"),
        (f"UPDATE contents SET blob_key = '1/{'0' * 64}', raw = NULL WHERE id = 1", "bytes_missing"),
        ("DELETE FROM contents WHERE id = 1", "content_missing"),
        ("UPDATE messages SET folder_id = 999 WHERE id = 1", "folder_missing"),
    ],
)
async def test_lost_bytes_are_named_and_stay(rt: Runtime, mailbox: Mailbox, statement: str, kind: str) -> None:
    _damage(rt, statement)
    found = await _verify(rt, repair=True)
    assert kind in {problem["kind"] for problem in found["problems"] if not problem["repaired"]}
    assert found["ok"] is False


async def test_a_lost_blob_file(rt: Runtime, mailbox: Mailbox) -> None:
    (blob,) = [path for path in (rt.config.data_dir / "blobs").rglob("*") if path.is_file()]
    data = blob.read_bytes()
    blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert {one["kind"] for one in (await _verify(rt))["problems"]} == {"bytes_changed"}
    blob.unlink()
    assert {one["kind"] for one in (await _verify(rt))["problems"]} == {"bytes_missing"}


async def test_an_orphan_blob_is_no_problem(rt: Runtime, mailbox: Mailbox) -> None:
    rt.blobs.put(f"{mailbox.account_id}/{'a' * 64}", b"x")
    report = await _verify(rt)
    assert (report["ok"], report["unreferenced_blobs"]) == (True, 1)


@pytest.mark.sqlite
async def test_the_index_is_compared(rt: Runtime, mailbox: Mailbox) -> None:
    _damage(rt, f"DELETE FROM fts_docsize WHERE {MESSAGE} IN (2, 3)", "index.db")
    _damage(rt, "INSERT INTO texts VALUES (77, 77, x'00')", "index.db")
    _damage(rt, "INSERT INTO fts_docsize (id, sz, origin) VALUES (77, x'00', 1)", "index.db")
    found = await _verify(rt)
    assert sorted(one["kind"] for one in found["problems"]) == ["index_extra", "index_missing", "index_missing"]


@pytest.mark.sqlite
async def test_missing_documents_are_made_again(rt: Runtime, mailbox: Mailbox) -> None:
    _damage(rt, f"DELETE FROM fts_docsize WHERE {MESSAGE} = 2", "index.db")
    assert (await _verify(rt, repair=True))["repaired_count"] == 1
    catch_up_index(rt)
    assert (await _verify(rt))["problems"] == []


async def test_waiting_messages_count_as_indexed(rt: Runtime, mailbox: Mailbox) -> None:
    await storing.store(rt, mailbox.account_id, mailbox.id, "INBOX", b"Subject: later\r\n\r\n")
    assert (await _verify(rt))["ok"] is True


async def test_removed_mail_leaves_a_sound_store(rt: Runtime, mailbox: Mailbox) -> None:
    domain = await rt.db.read(domains.get, mailbox.account_id, mailbox.domain_id)
    assert domain.is_local
    await rt.db.write(mailboxes.remove, mailbox.account_id, mailbox.id, rt.clock.now(), True)
    assert (await _verify(rt))["problems"] == []


@pytest.mark.sqlite
async def test_an_index_about_to_be_made_anew_is_not_compared(rt: Runtime, mailbox: Mailbox) -> None:
    _damage(rt, "DELETE FROM index_queue")
    assert (await _verify(rt))["ok"] is True
    _damage(rt, "UPDATE state SET value = 0 WHERE key = 'watermark'", "index.db")
    _damage(rt, "DELETE FROM fts_docsize", "index.db")
    assert (await _verify(rt))["ok"] is True


async def test_a_damaged_database_is_reported(rt: Runtime, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise Unavailable("the database is damaged", code="storage_damaged")

    monkeypatch.setattr(core_verification, "check_messages", broken)
    report = await _verify(rt)
    assert not report["ok"]
    assert [problem["kind"] for problem in report["problems"]] == ["database_damaged"]
    assert report["contents"] == 6
