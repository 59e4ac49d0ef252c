"""What came in is counted from the event log by the standing job; refusals are stored together."""

from datetime import UTC, datetime

import pytest

from restante.core import inbound, periods, routing
from restante.core.inbound import Inbound
from restante.core.jobs import Job
from restante.core.mailboxes import Mailbox
from restante.errors import Unavailable
from restante.ids import JobId
from restante.runtime import Runtime
from restante.services import reception
from restante.services import statistics as service
from restante.services.reception import Envelope, Source
from restante.services.statistics import Refusals
from restante.storage.database import Database
from tests.makers import eml, make_mailbox, make_message

JOB = Job(JobId(1), None, "count-arrivals", {}, 1)
SOURCE = Source("192.0.2.1", "out.test", "ESMTP", "mail.example.test")


async def test_mail_from_outside_counts_and_imports_do_not(rt: Runtime) -> None:
    mailbox = await make_mailbox(rt)
    await make_message(rt, mailbox)
    routes = await rt.db.read(routing.resolve, mailbox.address)
    for sender in ("eve@out.test", "eve@out.test", ""):
        await reception.receive(rt, Envelope(sender, routes), SOURCE, eml())
    for _ in range(2):
        await service.count_arrivals(rt, JOB)
    within = periods.through(datetime(2026, 1, 1, tzinfo=UTC), rt.clock.now(), rt.clock.now())
    place = mailbox.account_id, "example.test", within
    assert await rt.db.read(inbound.total, *place) == Inbound(accepted=3)
    assert await rt.db.read(inbound.top_senders, *place, 9) == [("out.test", 2)]


async def counted(rt: Runtime, mailbox: Mailbox) -> Inbound:
    within = periods.through(rt.clock.now(), rt.clock.now(), rt.clock.now())
    return await rt.db.read(inbound.total, mailbox.account_id, "example.test", within)


async def test_refusals_are_stored_together(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = await make_mailbox(rt)
    taken = [{"example.test": 3, "gone.test": 1, **{f"d{n}.test": 1 for n in range(1000)}}, {"example.test": 2}]
    refusals = Refusals(rt, lambda: [taken.pop()] if taken else [])
    write = type(rt.db).write
    calls: list[object] = []

    async def fail(self: Database, fn: object, *args: object, **_: object) -> None:
        calls.append(fn)
        raise Unavailable("storage is away")

    monkeypatch.setattr(type(rt.db), "write", fail)
    await refusals.store()
    assert len(calls) == 1
    monkeypatch.setattr(type(rt.db), "write", write)
    assert await counted(rt, mailbox) == Inbound()
    await refusals.store()
    assert await counted(rt, mailbox) == Inbound(rejected=5)
    monkeypatch.setattr(type(rt.db), "write", fail)
    await refusals.store()
    assert len(calls) == 1, "nothing was refused since, so nothing is written"
