"""Notices: stored once however often their job runs, dropped when there is nobody left to tell."""

from dataclasses import replace

import pytest

from restante.core import folders, jobs, mailboxes, messages
from restante.core.jobs import Job
from restante.core.mailboxes import Mailbox
from restante.errors import Unavailable
from restante.jobs.handlers import HANDLERS
from restante.jobs.worker import LEASE, Worker
from restante.runtime import Runtime
from restante.services import notices, retrieval
from restante.storage.room import Room
from tests.makers import make_mailbox


async def _promise(rt: Runtime, mailbox: Mailbox, key: str = "k-1") -> Job:
    """A promised notice with the job as its first claim gives it."""
    await rt.db.write(notices.enqueue, mailbox, key, "Süße Grüße", "Body text.", rt.clock.now())
    (job,) = await rt.db.write(jobs.claim, "first", 9, LEASE, rt.clock.now())
    return job


async def _inbox(rt: Runtime, mailbox: Mailbox) -> list[messages.MessageRow]:
    folder = await rt.db.read(folders.get_folder, mailbox.account_id, mailbox.id, "INBOX")
    return await rt.db.read(messages.list_page, mailbox.account_id, folder.id, limit=10)


async def test_a_second_run_stores_nothing_more(rt: Runtime) -> None:
    bob = await make_mailbox(rt)
    job = await _promise(rt, bob)
    await notices.store(rt, job)
    await notices.store(rt, job._replace(attempts=2))  # the lease ran out, or the job's end was lost in a crash
    (row,) = await _inbox(rt, bob)
    assert (row.subject, row.message_id_header) == ("Süße Grüße", "<k-1@mail.example.test>")
    raw = await retrieval.raw(rt, bob.account_id, row.id)
    assert b"Auto-Submitted: auto-generated\r\n" in raw
    assert b"postmaster@mail.example.test" in raw


async def test_a_second_run_stores_what_the_first_could_not(rt: Runtime) -> None:
    bob = await make_mailbox(rt)
    job = await _promise(rt, bob)
    with pytest.raises(Unavailable):
        await notices.store(replace(rt, room=Room(rt.config.data_dir, 2**62)), job)
    assert await _inbox(rt, bob) == []
    await notices.store(rt, job._replace(attempts=2))
    assert len(await _inbox(rt, bob)) == 1


async def test_a_key_is_promised_once(rt: Runtime) -> None:
    bob = await make_mailbox(rt)
    for _ in range(2):
        await rt.db.write(notices.enqueue, bob, "k", "s", "t", rt.clock.now())
    await rt.db.write(notices.enqueue, bob, "other", "s", "t", rt.clock.now())
    await Worker(rt, HANDLERS).run_due()
    assert len(await _inbox(rt, bob)) == 2


async def test_nobody_left_to_tell(rt: Runtime) -> None:
    bob = await make_mailbox(rt)
    await rt.db.write(notices.enqueue, bob, "k", "s", "t", rt.clock.now())
    await rt.db.write(mailboxes.remove, bob.account_id, bob.id, rt.clock.now())
    worker = Worker(rt, HANDLERS)
    assert await worker.run_due()
    assert await rt.db.read(jobs.next_run_at) is None, "done with, not tried again"
