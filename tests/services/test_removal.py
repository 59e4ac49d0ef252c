"""The standing jobs of removal: expiry by setting, and purging in short transactions, resumed where it stopped."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from restante.clock import ManualClock
from restante.core import accounts, domains, mailboxes
from restante.core import removal as core
from restante.core.jobs import Job
from restante.ids import JobId
from restante.jobs.handlers import HANDLERS
from restante.runtime import Runtime
from restante.schema import tables
from restante.schema.connections import ReadConn
from restante.services import removal, signup, verification
from tests.makers import catch_up_index, eml, make_mailbox, make_message, refresh

JOB = Job(JobId(1), None, "periodic", {}, 1)
PASSWORD = "longenough"


def _count(conn: ReadConn, name: str) -> int:
    return int(conn.execute(select(func.count()).select_from(tables.metadata.tables[name])).scalar_one())


async def _is_sound(rt: Runtime) -> bool:
    catch_up_index(rt)
    report = [item async for item in verification.verify(rt)][-1]
    return bool(report["ok"])


async def test_unapproved_signups_expire_by_setting(rt: Runtime, clock: ManualClock) -> None:
    made = await signup.signup(rt, "new.example", "ann@new.example", PASSWORD)
    clock.advance(timedelta(days=rt.config.mail_api.pending_domain_days) - timedelta(seconds=1))
    await removal.expire_unapproved(rt, JOB)
    assert await rt.db.read(domains.find_by_name, "new.example") is not None
    clock.advance(timedelta(seconds=1))
    await removal.expire_unapproved(rt, JOB)
    assert await rt.db.read(domains.find_by_name, "new.example") is None
    assert await rt.db.read(accounts.list_accounts) == []

    second = await signup.signup(rt, "new.example", "ann@new.example", PASSWORD)
    assert second.mailbox.account_id != made.mailbox.account_id
    assert (await rt.db.read(accounts.get, second.mailbox.account_id)).name == "new.example"
    await removal.purge(rt, JOB)
    assert await rt.db.read(_count, "accounts") == await rt.db.read(_count, "mailboxes") == 1


async def test_purge_stops_and_goes_on(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "BATCH", 2)
    monkeypatch.setattr(removal, "BATCHES_A_RUN", 2)
    bob, eve = await make_mailbox(rt), await make_mailbox(rt, "eve@example.test")
    for number in range(7):
        await make_message(rt, bob, eml(f"m{number}"))
    await make_message(rt, eve)
    await rt.db.write(mailboxes.remove, bob.account_id, bob.id, rt.clock.now(), True)
    await removal.purge(rt, JOB)
    assert await rt.db.read(_count, "messages") == 4
    assert await _is_sound(rt)
    runs = 0
    while await rt.db.read(core.list_mailboxes, 1):
        await removal.purge(rt, JOB)
        runs += 1
    assert 2 <= runs <= 8
    assert await rt.db.read(_count, "messages") == 1
    assert (await refresh(rt, eve)).messages == 1
    assert await _is_sound(rt)


async def test_account_goes_when_its_bytes_are_swept(rt: Runtime, clock: ManualClock) -> None:
    bob = await make_mailbox(rt)
    await make_message(rt, bob)
    await make_message(rt, bob, eml("large") + bytes(range(32, 127)) * 20_000)
    await rt.db.write(core.remove_account, bob.account_id, clock.now())
    await removal.purge(rt, JOB)
    assert await rt.db.read(_count, "mailboxes") == 0
    assert await rt.db.read(_count, "accounts") == 1
    clock.advance(timedelta(seconds=rt.config.storage.content_grace_seconds + 3600))
    await HANDLERS["sweep-contents"](rt, JOB)
    await removal.purge(rt, JOB)
    for name in ("accounts", "contents", "events", "folders"):
        assert await rt.db.read(_count, name) == 0, name
    assert list(rt.blobs.list_all()) == []
