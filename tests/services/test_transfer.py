"""Transfer from the job to the other server and back to the rows, with DNS from a table and servers on loopback."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from restante.clock import ManualClock
from restante.config import Config
from restante.core import events, jobs, messages, submission, transfer
from restante.core.mailboxes import Mailbox
from restante.core.submission import Recipient, Submission
from restante.errors import Unavailable
from restante.ids import EventNumber, TransferId
from restante.jobs.handlers import HANDLERS
from restante.jobs.worker import Worker
from restante.net import connections, smtp_client
from restante.runtime import Runtime
from restante.services import retrieval
from restante.storage.notes import Notes
from tests.fakes import FakeResolver
from tests.makers import eml, make_mailbox, make_submission
from tests.peers import HANG, Peer


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """The server for far.example, mx.far.example at 127.0.0.1."""
    async with Peer(name="mx.far.example").running() as found:
        yield found


@pytest.fixture
def config(config: Config, peer: Peer) -> Config:
    """Mail may go to loopback, at the peer's port."""
    settings = replace(config.transfer, port=peer.address[1])
    return replace(config, transfer=settings, egress=replace(config.egress, allow=("127.0.0.0/8",)))


@pytest.fixture
def resolver(resolver: FakeResolver) -> FakeResolver:
    resolver.zone |= {("far.example", "MX"): ["10 mx.far.example"], ("mx.far.example", "A"): ["127.0.0.1"]}
    return resolver


@pytest.fixture
async def ann(rt: Runtime) -> AsyncIterator[Mailbox]:
    yield await make_mailbox(rt, "ann@example.test")
    await rt.connections.close()


async def work(rt: Runtime) -> None:
    """Run all jobs that are due."""
    worker = Worker(rt, HANDLERS)
    while await worker.run_due():
        pass


async def recipients(rt: Runtime, sent: Submission) -> list[Recipient]:
    return await rt.db.read(submission.list_recipients, sent.account_id, [sent.id])


async def state(rt: Runtime, sent: Submission) -> tuple[str, list[tuple[str, str | None]]]:
    """The submission's status, and status and code of each recipient."""
    found = await rt.db.read(submission.get, sent.account_id, sent.id)
    return found.status, [(each.status, each.dsn_code) for each in await recipients(rt, sent)]


async def recorded(rt: Runtime, mailbox: Mailbox) -> list[tuple[str, Any]]:
    found = await rt.db.read(events.list_after, mailbox.account_id, EventNumber(0), 100)
    return [(each.type, each.body) for each in found.events if each.type.startswith("transfer.")]


async def inbox(rt: Runtime, mailbox: Mailbox) -> list[bytes]:
    listed = await rt.db.read(messages.list_page, mailbox.account_id, await _inbox(rt, mailbox), limit=50)
    return [await retrieval.raw(rt, mailbox.account_id, row.id) for row in listed]


async def _inbox(rt: Runtime, mailbox: Mailbox) -> Any:
    from restante.core import folders

    return (await rt.db.read(folders.get_folder, mailbox.account_id, mailbox.id, "INBOX")).id


async def test_a_mail_leaves(rt: Runtime, ann: Mailbox, peer: Peer) -> None:
    sent = await make_submission(rt, ann)
    await work(rt)
    assert await state(rt, sent) == ("sent", [("sent", "2.0.0")])
    (recipient,) = await recipients(rt, sent)
    assert (recipient.attempts, recipient.remote_mta) == (1, "mx.far.example")
    assert recipient.smtp_response == "250 2.0.0 queued as 1"
    assert recipient.delivered_at == recipient.last_attempt_at == rt.clock.now()
    assert recipient.next_attempt_at is None
    ((sender, to, raw),) = peer.messages
    assert sender.startswith(f"MAIL FROM:<bounce+{sent.return_token}@example.test>".encode())
    assert to == [b"RCPT TO:<eve@far.example>\r\n"]
    assert raw == eml(sender=ann.address)
    ((kind, body),) = await recorded(rt, ann)
    assert (kind, body["recipient"], body["status"]) == ("transfer.delivered", "eve@far.example", "sent")
    assert await rt.db.read(jobs.next_run_at) is None


async def test_the_schedule_and_the_end_of_it(rt: Runtime, ann: Mailbox, peer: Peer, clock: ManualClock) -> None:
    peer.answers["RCPT"] = b"451 4.7.1 come back\r\n"
    began = clock.now()
    sent = await make_submission(rt, ann)
    tried = []
    while (due := await rt.db.read(jobs.next_run_at)) is not None:
        clock.advance(due - clock.now())
        before = len(peer.lines)
        await work(rt)
        if len(peer.lines) > before:
            tried.append(clock.now() - began)
    assert tried[:6] == [timedelta(minutes=each) for each in (0, 5, 20, 80, 320, 560)]
    assert {later - earlier for earlier, later in pairwise(tried[4:-1])} == {timedelta(hours=4)}
    assert tried[-1] == timedelta(days=5)
    assert await state(rt, sent) == ("bounced", [("bounced", "4.4.7")])
    (recipient,) = await recipients(rt, sent)
    assert recipient.smtp_response == "451 4.7.1 come back"
    assert recipient.attempts == len(tried)


async def test_each_recipient_has_its_own_fate(rt: Runtime, ann: Mailbox, peer: Peer, clock: ManualClock) -> None:
    peer.answers["RCPT"] = lambda line: {b"n": b"550 5.1.1 no\r\n", b"l": b"450 later\r\n"}.get(
        line[9:10], b"250 ok\r\n"
    )
    sent = await make_submission(rt, ann, "no@far.example", "late@far.example", "yes@far.example", "bob@example.test")
    bob = await make_mailbox(rt, "bob@example.test")
    await work(rt)
    assert await state(rt, sent) == (
        "submitted",
        [("bounced", "5.1.1"), ("deferred", "4.0.0"), ("sent", "2.0.0"), ("sent", "2.0.0")],
    )
    assert len(await inbox(rt, bob)) == 1
    peer.answers.clear()
    clock.advance(timedelta(minutes=5))
    await work(rt)
    assert (await state(rt, sent))[0] == "partial"
    assert [to for _, to, _ in peer.messages] == [
        [b"RCPT TO:<yes@far.example>\r\n"],
        [b"RCPT TO:<late@far.example>\r\n"],
    ]


async def test_local_recipients_get_it_with_trace_headers(rt: Runtime, ann: Mailbox) -> None:
    bob = await make_mailbox(rt, "bob@example.test")
    sent = await make_submission(rt, ann, "bob+tag@example.test", "nobody@example.test")
    await work(rt)
    assert await state(rt, sent) == ("partial", [("sent", "2.0.0"), ("bounced", "5.1.1")])
    (raw,) = await inbox(rt, bob)
    lines = raw.split(b"\r\n")
    assert lines[:2] == [b"Return-Path: <ann@example.test>", b"Delivered-To: bob@example.test"]
    assert lines[2].startswith(b"Received: by mail.example.test id ")
    assert raw.endswith(eml(sender=ann.address))


async def test_a_local_mailbox_that_is_full_for_now(rt: Runtime, ann: Mailbox, clock: ManualClock) -> None:
    from restante.core import mailboxes

    bob = await make_mailbox(rt, "bob@example.test")
    await rt.db.write(mailboxes.set_quota, bob.account_id, bob.id, 1, clock.now())
    sent = await make_submission(rt, ann, "bob@example.test")
    await work(rt)
    assert await state(rt, sent) == ("submitted", [("deferred", "4.2.2")])
    await rt.db.write(mailboxes.set_quota, bob.account_id, bob.id, None, clock.now())
    clock.advance(timedelta(minutes=5))
    await work(rt)
    assert await state(rt, sent) == ("sent", [("sent", "2.0.0")])
    assert len(await inbox(rt, bob)) == 1


@pytest.mark.parametrize(
    ("zone", "status", "code"),
    [
        ({("far.example", "MX"): ["0 ."]}, "bounced", "5.1.10"),
        ({("far.example", "MX"): []}, "bounced", "5.1.2"),
        ({("far.example", "MX"): None}, "deferred", "4.4.3"),
        ({("mx.far.example", "A"): []}, "bounced", "5.4.4"),
        ({("mx.far.example", "A"): None}, "deferred", "4.4.3"),
        ({("mx.far.example", "A"): ["10.0.0.1", "169.254.169.254", "::1"]}, "bounced", "5.4.4"),
        ({("far.example", "MX"): ["10 mail.example.test"]}, "bounced", "5.4.6"),
        ({("far.example", "MX"): ["10 gone.example", "20 mx.far.example"]}, "sent", "2.0.0"),
        ({("far.example", "MX"): ["10 off.example", "20 mx.far.example"]}, "sent", "2.0.0"),
        ({("far.example", "MX"): ["10 mx.far.example", "20 mail.example.test", "30 gone.example"]}, "sent", "2.0.0"),
        ({("far.example", "MX"): [], ("far.example", "A"): ["127.0.0.1"]}, "sent", "2.0.0"),
    ],
)
async def test_where_dns_leads(
    rt: Runtime, ann: Mailbox, resolver: FakeResolver, zone: Any, status: str, code: str
) -> None:
    resolver.zone |= {("off.example", "A"): ["127.0.0.9"], **zone}
    sent = await make_submission(rt, ann)
    await work(rt)
    assert (await state(rt, sent))[1] == [(status, code)]


async def test_a_server_that_is_ourselves(rt: Runtime, ann: Mailbox, peer: Peer) -> None:
    peer.name = rt.config.hostname
    sent = await make_submission(rt, ann)
    await work(rt)
    assert await state(rt, sent) == ("bounced", [("bounced", "5.4.6")])


@pytest.mark.parametrize("stage", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "MESSAGE"])
@pytest.mark.parametrize("answer", [None, HANG, b"\xff\x00\xfe\r\n", b"250-" + b"x" * 100_000])
async def test_a_server_that_fails_at_each_step(
    rt: Runtime, ann: Mailbox, peer: Peer, clock: ManualClock, stage: str, answer: bytes | None
) -> None:
    peer.answers[stage] = answer
    sent = await make_submission(rt, ann)
    hasty = replace(rt.config, transfer=replace(rt.config.transfer, timeout_seconds=1))
    await work(replace(rt, config=hasty))
    assert (await state(rt, sent))[1][0][0] == "deferred"
    peer.answers.clear()
    clock.advance(timedelta(minutes=5))
    await work(rt)
    assert await state(rt, sent) == ("sent", [("sent", "2.0.0")])
    assert len(peer.messages) == 1


async def test_one_connection_for_several_messages(
    rt: Runtime, ann: Mailbox, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", 3600.0)
    for _ in range(20):
        await make_submission(rt, ann)
    await work(rt)
    assert len(peer.messages) == 20
    assert peer.connections <= 10
    await make_submission(rt, ann)
    before = peer.connections
    await work(rt)
    assert (len(peer.messages), peer.connections) == (21, before)


async def test_the_smarthost_gets_everything(rt: Runtime, ann: Mailbox, peer: Peer, resolver: FakeResolver) -> None:
    resolver.zone = {}
    settings = replace(rt.config.transfer, smarthost=f"127.0.0.1:{peer.address[1]}", smarthost_tls="none")
    rt = replace(rt, config=replace(rt.config, transfer=settings, egress=replace(rt.config.egress, allow=())))
    sent = await make_submission(rt, ann, "a@one.example", "b@two.example")
    await work(rt)
    assert (await state(rt, sent))[0] == "sent"


async def test_a_null_sender_stays_null(rt: Runtime, ann: Mailbox, peer: Peer) -> None:
    await make_submission(rt, ann, sender="")
    await work(rt)
    assert peer.messages[0][0].startswith(b"MAIL FROM:<> ")


async def test_what_is_dropped_or_held_is_not_sent(rt: Runtime, ann: Mailbox, peer: Peer, clock: ManualClock) -> None:
    dropped, held = await make_submission(rt, ann), await make_submission(rt, ann)
    assert await rt.db.write(transfer.drop, ann.account_id, dropped.id, clock.now()) == 1
    assert await rt.db.write(transfer.hold, ann.account_id, held.id) == 1
    await work(rt)
    assert not peer.messages
    assert await state(rt, dropped) == ("bounced", [("bounced", "5.7.0")])
    assert await state(rt, held) == ("submitted", [("pending", None)])
    assert await rt.db.write(transfer.release, ann.account_id, held.id, clock.now()) == 1
    await work(rt)
    assert await state(rt, held) == ("sent", [("sent", "2.0.0")])


async def test_retry_makes_it_due_at_once(rt: Runtime, ann: Mailbox, peer: Peer, clock: ManualClock) -> None:
    peer.answers["RCPT"] = b"451 later\r\n"
    sent = await make_submission(rt, ann)
    await work(rt)
    peer.answers.clear()
    assert await rt.db.write(transfer.retry, ann.account_id, sent.id, clock.now()) == 1
    await work(rt)
    assert await state(rt, sent) == ("sent", [("sent", "2.0.0")])


async def test_the_sender_is_told_once(rt: Runtime, ann: Mailbox, peer: Peer) -> None:
    peer.answers["RCPT"] = b"550-5.1.1 who\r\n550 5.1.1 is that?\r\n"
    sent = await make_submission(rt, ann, "no@far.example", "nobody@far.example")
    await work(rt)
    assert (await state(rt, sent))[0] == "bounced"
    (raw,) = await inbox(rt, ann)
    assert raw.startswith(b"Return-Path: <>\r\nDelivered-To: ann@example.test\r\n")
    assert raw.count(b"Action: failed") == 2
    assert b"Diagnostic-Code: smtp; 550 5.1.1 who is that?\r\n" in raw
    assert b"Message-ID: <m1@example.org>" in raw
    assert b"It works." not in raw


async def test_nobody_is_told_of_a_report_or_of_what_was_cancelled(
    rt: Runtime, ann: Mailbox, peer: Peer, clock: ManualClock
) -> None:
    peer.answers["RCPT"] = b"550 no\r\n"
    await make_submission(rt, ann, sender="")
    dropped = await make_submission(rt, ann)
    await rt.db.write(transfer.drop, ann.account_id, dropped.id, clock.now())
    await work(rt)
    assert await inbox(rt, ann) == []


async def test_what_was_taken_but_not_recorded_is_not_sent_again(
    rt: Runtime, ann: Mailbox, peer: Peer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store goes away between the peer's 250 and our commit, and this process with it; the next one knows."""
    peer.answers["RCPT"] = lambda line: b"451 4.2.1 later\r\n" if b"slow" in line else b"250 ok\r\n"
    sent = await make_submission(rt, ann, "bob@far.example", "slow@far.example")
    write = type(rt.db).write

    async def ended(self: Any, fn: Any, *args: Any, **kwargs: Any) -> Any:
        if fn is transfer.record_attempts:
            raise Unavailable("the writer has ended", code="storage_ended")
        return await write(self, fn, *args, **kwargs)

    monkeypatch.setattr(type(rt.db), "write", ended)
    await work(rt)
    assert len(peer.messages) == 1
    assert await state(rt, sent) == ("submitted", [("pending", None), ("pending", None)])
    monkeypatch.setattr(type(rt.db), "write", write)
    clock.advance(timedelta(minutes=10))  # the lease of the first is over
    peer.answers["RCPT"] = b"250 ok\r\n"
    later = replace(rt, notes=Notes(rt.config.data_dir / "notes"))
    await work(later)
    assert len(peer.messages) == 1
    assert await state(rt, sent) == ("submitted", [("sent", "2.0.0"), ("deferred", "4.2.1")])
    clock.advance(timedelta(minutes=6))
    await work(later)
    assert len(peer.messages) == 2
    assert await state(rt, sent) == ("sent", [("sent", "2.0.0"), ("sent", "2.0.0")])
    later.notes.close()


async def test_a_note_of_other_mail_means_nothing(rt: Runtime, ann: Mailbox, peer: Peer) -> None:
    """Numbers of rows come again in a store that was restored; queue ids do not."""
    sent = await make_submission(rt, ann, "bob@far.example")
    found = await recipients(rt, sent)
    outcomes = [transfer.Outcome(found[0].id, "sent", "2.0.0", "ok")]
    rt.notes.put("anotherqueueid0 far.example", msgspec.msgpack.encode(outcomes))
    rt.notes.put(
        f"{sent.queue_id} far.example", msgspec.msgpack.encode([outcomes[0]._replace(transfer_id=TransferId(99))])
    )
    await work(rt)
    assert len(peer.messages) == 1
    assert rt.notes.find(f"{sent.queue_id} far.example") is None


async def test_the_end_of_this_server_waits_for_the_answer_to_a_whole_message(
    rt: Runtime, ann: Mailbox, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that is cancelled before the final dot leaves nothing; behind it, the answer is still taken and kept."""
    monkeypatch.setattr(smtp_client, "LAST_WORD_SECONDS", 60.0)
    for verb, count, wanted in (("DATA", 0, ("submitted", "pending")), ("MESSAGE", 1, ("sent", "sent"))):
        sent = await make_submission(rt, ann, "bob@far.example")
        running = asyncio.create_task(Worker(rt, HANDLERS).run_due())

        def end(_line: bytes, running: asyncio.Task[bool] = running) -> bytes:
            running.cancel()
            return b"250 2.0.0 ok\r\n"

        peer.answers = {verb: end}
        with pytest.raises(asyncio.CancelledError):
            await running
        assert len(peer.messages) == count
        status, [(recipient, _)] = await state(rt, sent)
        assert (status, recipient) == wanted
