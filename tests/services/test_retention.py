"""The standing jobs of retention: what goes when, bit by bit, and that all stays sound."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from restante.clock import ManualClock
from restante.core import accounts, domains, folders, mailboxes, messages, trash
from restante.core.delivery import Delivered
from restante.core.jobs import Job
from restante.core.mailboxes import Mailbox
from restante.core.messages import Flag, MessageRow
from restante.core.retention import days, forecast, rules, runs
from restante.core.retention.forecast import Outlook
from restante.core.retention.rules import Limits, Scope
from restante.errors import Conflict, Unavailable
from restante.ids import AccountId, JobId, MessageId
from restante.jobs.handlers import HANDLERS
from restante.runtime import Runtime
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn
from restante.services import retention, storing, verification
from restante.storage.room import Room
from tests.makers import catch_up_index, eml, make_mailbox, make_message, refresh

JOB = Job(JobId(1), None, "periodic", {}, 1)
DAY = timedelta(days=1)
EVERYWHERE = Scope()


@pytest.fixture
def clock() -> ManualClock:
    """Noon: what happens minutes later is of the same day."""
    return ManualClock(datetime(2026, 5, 20, 12, tzinfo=UTC))


async def is_sound(rt: Runtime) -> bool:
    catch_up_index(rt)
    report = [item async for item in verification.verify(rt)][-1]
    return bool(report["ok"])


async def count(rt: Runtime, mailbox: Mailbox, folder: str) -> int:
    return (await rt.db.read(folders.get_folder, mailbox.account_id, mailbox.id, folder)).messages


async def trash_some(rt: Runtime, mailbox: Mailbox, number: int) -> None:
    place = await rt.db.read(folders.get_folder, mailbox.account_id, mailbox.id, "Trash")
    for at in range(number):
        made = await make_message(rt, mailbox, eml(f"m{at}"))
        ids = [made.message_id]
        await rt.db.write(
            messages.move, mailbox.account_id, mailbox.id, ids, place.id, now=rt.clock.now()
        )  # fmt: skip


async def test_trash_is_emptied_after_the_days_of_the_setting(
    rt: Runtime, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    monkeypatch.setattr(retention, "FOLDERS_AT_ONCE", 1)
    bob, eve = await make_mailbox(rt), await make_mailbox(rt, "eve@other.test")
    for mailbox in (bob, eve):
        await trash_some(rt, mailbox, 5)
    await make_message(rt, bob)
    clock.advance(29 * DAY)
    await trash_some(rt, bob, 1)
    await HANDLERS["purge-trash"](rt, JOB)
    assert await count(rt, bob, "Trash") == 6
    clock.advance(DAY + timedelta(seconds=1))
    await HANDLERS["purge-trash"](rt, JOB)
    assert [await count(rt, one, "Trash") for one in (bob, eve)] == [1, 0]
    assert (await refresh(rt, bob)).messages == 2
    assert await is_sound(rt)


async def test_a_suspended_accounts_mail_stays(rt: Runtime, clock: ManualClock) -> None:
    bob = await make_mailbox(rt)
    await trash_some(rt, bob, 2)
    await rt.db.write(accounts.suspend, bob.account_id, clock.now())
    clock.advance(31 * DAY)
    await retention.purge_trash(rt, JOB)
    assert await count(rt, bob, "Trash") == 2


# --- rules --------------------------------------------------------------------------------------------------------


async def set_limits(rt: Runtime, account_id: AccountId, scope: Scope = EVERYWHERE, **limits: int) -> None:
    await rt.db.write(rules.set_rule, account_id, scope, Limits(**limits), rt.clock.now())


async def put(rt: Runtime, mailbox: Mailbox, age: int, folder: str = "INBOX") -> Delivered:
    return await storing.store(
        rt, mailbox.account_id, mailbox.id, folder, eml(f"of {age} days"), received_at=rt.clock.now() - age * DAY
    )


async def test_a_dry_run_says_what_a_run_then_does(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BATCH", "CHANGES", "FOLDERS_AT_ONCE", "MAILBOXES_AT_ONCE"):
        monkeypatch.setattr(retention, name, 2)
    bob, eve = await make_mailbox(rt), await make_mailbox(rt, "eve@example.test")
    await set_limits(rt, bob.account_id, days=10)
    await set_limits(rt, bob.account_id, Scope(role="junk"), messages=1)
    for age in (1, 30, 5, 11, 40, 12):
        await put(rt, bob, age)
        await put(rt, eve, age, "Junk")
    dry = await retention.clean(rt, bob.account_id, is_dry=True)
    assert [(one.mailbox, one.role, one.messages) for one in dry] == [
        ("bob@example.test", "", 4), ("eve@example.test", "junk", 5),
    ]  # fmt: skip
    assert await count(rt, bob, "INBOX") == 6
    assert await retention.clean(rt, bob.account_id) == dry
    assert [await count(rt, bob, name) for name in ("INBOX", "Trash")] == [2, 4]
    assert [await count(rt, eve, name) for name in ("Junk", "Trash")] == [1, 5]
    assert await retention.clean(rt, bob.account_id) == []
    assert await is_sound(rt)


async def test_what_a_rule_took_comes_back_or_goes_for_good(rt: Runtime, clock: ManualClock) -> None:
    bob = await make_mailbox(rt)
    await set_limits(rt, bob.account_id, days=10)
    kept, gone = await put(rt, bob, 20), await put(rt, bob, 20)
    await HANDLERS["retain"](rt, JOB)
    await rt.db.write(trash.undelete, bob.account_id, UUID(kept.public_id), clock.now())
    await rt.db.write(
        messages.set_flags, bob.account_id, bob.id, [kept.message_id], add=Flag.FLAGGED, now=clock.now()
    )  # fmt: skip
    clock.advance(30 * DAY + timedelta(seconds=1))
    for kind in ("retain", "purge-trash"):
        await HANDLERS[kind](rt, JOB)
    assert (await refresh(rt, bob)).messages == 1
    assert await rt.db.read(messages.find_public, bob.account_id, UUID(gone.public_id)) is None
    assert await is_sound(rt)


async def test_one_run_at_a_time_and_the_job_comes_back(rt: Runtime, clock: ManualClock) -> None:
    bob, eve = await make_mailbox(rt), await make_mailbox(rt, "eve@other.test")
    other = await rt.db.write(accounts.create, "other", clock.now())
    ann = await rt.db.write(_settle_in, other.id, clock.now())
    for mailbox in (bob, eve, ann):
        await set_limits(rt, mailbox.account_id, days=10)
        await put(rt, mailbox, 20)
    await rt.db.write(runs.claim, bob.account_id, "another", clock.now())
    with pytest.raises(Conflict) as caught:
        await retention.run(rt, JOB)
    assert caught.value.code == "retention_running"
    assert [await count(rt, one, "INBOX") for one in (bob, eve, ann)] == [1, 1, 0], "the other account's"
    clock.advance(runs.LEASE)
    await retention.run(rt, JOB)
    assert [await count(rt, one, "INBOX") for one in (bob, eve)] == [0, 0]


def _settle_in(conn: WriteConn, account_id: AccountId, now: datetime) -> Mailbox:
    domains.add(conn, account_id, "third.test", now, dns_status="forced")
    return mailboxes.create(conn, account_id, "ann@third.test", now)


async def test_a_run_that_breaks_off_is_gone_on_with(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each possible number of writes the store is sound, and the next run ends where one run would have."""
    monkeypatch.setattr(retention, "BATCH", 2)
    monkeypatch.setattr(retention, "CHANGES", 3)
    bob = await make_mailbox(rt)
    await set_limits(rt, bob.account_id, days=10, messages=3)
    for age in (20, 1, 30, 2, 40, 3, 4, 15):
        await put(rt, bob, age)
    write, left = rt.db.write, 0

    async def failing(fn: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        if left == 0 and fn is not runs.release:
            raise Unavailable("the store is away")
        left -= 1
        return await write(fn, *args, **kwargs)

    monkeypatch.setattr(rt.db, "write", failing)
    for steps in range(40):
        left = steps
        try:
            await retention.clean(rt, bob.account_id)
            break
        except Unavailable:
            assert await count(rt, bob, "INBOX") + await count(rt, bob, "Trash") == 8
    assert [await count(rt, bob, name) for name in ("INBOX", "Trash")] == [3, 5]
    monkeypatch.setattr(rt.db, "write", write)
    assert await is_sound(rt)


@pytest.mark.parametrize("seed", range(6))
async def test_random_mail_against_the_plain_rule(
    rt: Runtime, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Whatever came, moved and changed: after a run no mail is over the limits that could go, and none went that
    need not."""
    chance = random.Random(seed)
    for name in ("BATCH", "CHANGES"):
        monkeypatch.setattr(retention, name, chance.randint(1, 5))
    monkeypatch.setattr(days, "ROWS", chance.randint(1, 5))
    monkeypatch.setattr(days, "SCANNED", chance.randint(1, 8))
    bob = await make_mailbox(rt)
    there = await rt.db.read(folders.list_folders, bob.account_id, bob.id)
    names = {one.id: one.name for one in there}
    places = {one.name: one.id for one in there}
    for _ in range(4):
        limit, most = chance.choice([0, 5, 20]), chance.choice([0, 4, 9])
        await set_limits(rt, bob.account_id, days=limit, messages=most)
        for _ in range(chance.randint(0, 8)):
            await put(rt, bob, chance.randint(0, 40), chance.choice(["INBOX", "Archive", "Junk", "Sent"]))
        for row in await rt.db.read(every, bob.account_id):
            args = rt, bob, row.id
            match chance.randint(0, 9):
                case 0:
                    await rt.db.write(messages.remove, bob.account_id, bob.id, [row.id], now=clock.now())
                case 1:
                    await revise(*args, folder_id=places[chance.choice(["INBOX", "Archive", "Trash"])])
                case 2:
                    await revise(*args, add=Flag.FLAGGED)
                case 3:
                    await revise(*args, remove=Flag.FLAGGED)
        clock.advance(timedelta(hours=chance.randint(0, 60)))
        before = await rt.db.read(every, bob.account_id)
        await retention.clean(rt, bob.account_id)
        after = {row.id: row for row in await rt.db.read(every, bob.account_id)}

        pool = [row for row in before if names[row.folder_id] not in ("Sent", "Drafts", "Trash")]
        free = sorted((row for row in pool if "\\Flagged" not in row.flags), key=lambda row: row.received_at)
        cut = days.day_of(clock.now() - limit * DAY) if limit else 0
        due = sum(days.day_of(row.received_at) < cut for row in free)
        due = max(due, min(len(free), len(pool) - most)) if most else due
        taken = [row for row in free if names[after[row.id].folder_id] == "Trash"]
        assert len(taken) == due
        if taken and len(taken) < len(free):
            kept = [row for row in free if row not in taken]
            assert max(days.day_of(row.received_at) for row in taken) <= min(
                days.day_of(row.received_at) for row in kept
            )
        untouched = [row for row in before if row not in taken]
        assert all(after[row.id] == row for row in untouched)


def every(conn: ReadConn, account_id: AccountId) -> list[MessageRow]:
    m = tables.messages.c
    ids = list(conn.execute(select(m.id).where(m.account_id == account_id).order_by(m.id)).scalars())
    return messages.by_ids(conn, account_id, ids)


async def revise(rt: Runtime, mailbox: Mailbox, message_id: MessageId, **changes: Any) -> None:
    await rt.db.write(messages.revise, mailbox.account_id, mailbox.id, message_id, now=rt.clock.now(), **changes)


# --- the forecast -------------------------------------------------------------------------------------------------


class SmallDisk(Room):
    """A disk with so much left."""

    def __init__(self, free: int) -> None:
        super().__init__(Path(), 0)
        self.free = free

    def free_bytes(self) -> int:
        return self.free


@pytest.fixture
def small(rt: Runtime) -> Runtime:
    """The runtime of a server whose disk has room for what the settings want free, and 1,000 bytes."""
    return replace(rt, room=SmallDisk(rt.config.storage.min_free_bytes + 1000))


async def grow(rt: Runtime, clock: ManualClock, mailbox: Mailbox) -> None:
    """A month in which five messages of 1,000 bytes and more came."""
    await rt.db.write(forecast.set_forecast, mailbox.account_id, True, clock.now())
    await retention.run(rt, JOB)
    clock.advance(30 * DAY)
    for age in (1, 5, 2, 4, 3):
        await storing.store(
            rt, mailbox.account_id, mailbox.id, "INBOX", eml(f"{age}", "x" * 800), received_at=clock.now() - age * DAY
        )


async def test_room_is_made_once_a_day_and_trash_counts_as_free(small: Runtime, clock: ManualClock) -> None:
    bob = await make_mailbox(small)
    await grow(small, clock, bob)
    if small.config.storage.database_url:
        assert await retention.clean(small, bob.account_id) == []
        return
    found = await retention.outlook(small, bob.account_id)
    assert found == Outlook((await refresh(small, bob)).used_bytes, 1000, (await refresh(small, bob)).used_bytes - 1000)
    (dry,) = await retention.clean(small, bob.account_id, is_dry=True)
    assert (dry.mailbox, dry.messages) == (None, 4)
    assert await count(small, bob, "Trash") == 0
    await HANDLERS["retain"](small, JOB)
    assert [await count(small, bob, name) for name in ("INBOX", "Trash")] == [1, 4]
    (left,) = [row for row in await small.db.read(every, bob.account_id) if row.subject == "1"]
    assert left.folder_id == (await small.db.read(folders.get_folder, bob.account_id, bob.id, "INBOX")).id
    clock.advance(DAY)
    await make_message(small, bob)
    await HANDLERS["retain"](small, JOB)
    assert await count(small, bob, "Trash") == 4, "what is in Trash will be free"
    assert await is_sound(small)


@pytest.mark.parametrize(
    ("storage", "days", "reason"),
    [
        ({"database": "postgresql://db.example/mail"}, 30, "storage_elsewhere"),
        ({"blobs": "s3"}, 30, "storage_elsewhere"),
        ({}, 0, "trash_never_emptied"),
        ({}, 30, "no_figures"),
    ],
)
async def test_what_cannot_be_known_is_said_and_nothing_is_done(
    small: Runtime, storage: dict[str, Any], days: int, reason: str
) -> None:
    bob = await make_mailbox(small)
    await make_message(small, bob)
    await small.db.write(forecast.set_forecast, bob.account_id, True, small.clock.now())
    config = replace(
        small.config,
        storage=replace(small.config.storage, **{"database": "sqlite"} | storage),
        retention=replace(small.config.retention, trash_days=days),
    )
    told = replace(small, config=config, room=SmallDisk(0))
    assert await retention.outlook(told, bob.account_id) == retention.Unknown(reason)
    assert await retention.clean(told, bob.account_id) == []
    assert await count(small, bob, "INBOX") == 1


async def test_making_room_that_breaks_off_takes_no_more_in_the_end(
    small: Runtime, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 1)
    bob = await make_mailbox(small)
    await grow(small, clock, bob)
    write, left = small.db.write, 3

    async def failing(fn: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= fn is runs.take_for_room
        if left == 0:
            raise Unavailable("the store is away")
        return await write(fn, *args, **kwargs)

    config = replace(small.config, storage=replace(small.config.storage, database="sqlite"))
    told = replace(small, config=config)
    monkeypatch.setattr(small.db, "write", failing)
    with pytest.raises(Unavailable):
        await retention.clean(told, bob.account_id)
    monkeypatch.setattr(small.db, "write", write)
    assert await count(small, bob, "Trash") == 2
    clock.advance(runs.LEASE)
    await retention.clean(told, bob.account_id)
    assert await count(small, bob, "Trash") == 4
