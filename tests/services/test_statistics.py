"""What came in is counted from the event log by the standing job."""

from datetime import UTC, datetime

from restante.core import routing, statistics
from restante.core.jobs import Job
from restante.core.statistics import Inbound
from restante.ids import JobId
from restante.runtime import Runtime
from restante.services import reception
from restante.services import statistics as service
from restante.services.reception import Envelope, Source
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
    within = statistics.period(datetime(2026, 1, 1, tzinfo=UTC), rt.clock.now(), rt.clock.now())
    place = mailbox.account_id, "example.test", within
    assert await rt.db.read(statistics.inbound_total, *place) == Inbound(accepted=3)
    assert await rt.db.read(statistics.inbound_senders, *place, 9) == [("out.test", 2)]
