"""The standing jobs of retention: what goes when, bit by bit, and that all stays sound."""

from datetime import timedelta

import pytest

from restante.clock import ManualClock
from restante.core import accounts, folders, messages
from restante.core.jobs import Job
from restante.core.mailboxes import Mailbox
from restante.ids import JobId
from restante.jobs.handlers import HANDLERS
from restante.runtime import Runtime
from restante.services import retention, verification
from tests.makers import catch_up_index, eml, make_mailbox, make_message, refresh

JOB = Job(JobId(1), None, "periodic", {}, 1)
DAY = timedelta(days=1)


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
