"""Automations over a real log and real receivers: what runs, what is sent, retries, forwarding, the Trash."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

import pytest
from sqlalchemy import func, select

from restante.clock import ManualClock
from restante.core import (
    automation_courier,
    automation_runs,
    automations,
    events,
    folders,
    messages,
    removal,
    submission,
    tracking,
)
from restante.core.automation_runs import Run
from restante.core.automations import Automation, Conditions, NewAutomation
from restante.core.delivery import Delivered
from restante.core.mailboxes import Mailbox
from restante.errors import Conflict
from restante.ids import AccountId, EventNumber
from restante.jobs import automations as jobs
from restante.jobs import courier as couriers
from restante.jobs.automations import Courier, Follower
from restante.jobs.handlers import HANDLERS
from restante.jobs.turns import Turns
from restante.jobs.worker import Worker
from restante.mail import message
from restante.net import http
from restante.runtime import Runtime
from restante.schema import tables
from restante.schema.connections import ReadConn
from restante.server.operations import instance
from restante.services import automations as service
from restante.services import retrieval
from tests.makers import RETURN_PATH, arrive, eml, make_mailbox, make_message
from tests.receiver import Told, receiving

START = EventNumber(0)
PLAIN = NewAutomation("Every mail", payload_format="raw")


class Engine(NamedTuple):
    """What makes automations run."""

    follower: Follower
    courier: Courier

    async def run_due(self) -> None:
        """Do all that can be done now."""
        await self.follower.run_due()
        await self.courier.run_due()


@pytest.fixture
async def bob(near: Runtime) -> Mailbox:
    return await make_mailbox(near)


@pytest.fixture
async def engine(near: Runtime) -> AsyncIterator[Engine]:
    made = Engine(Follower(near, Turns(near.pressure)), Courier(near, Turns(near.pressure)))
    yield made
    await made.courier.close()


async def add(rt: Runtime, bob: Mailbox, new: NewAutomation = PLAIN, token: str | None = None) -> Automation:
    made, _ = await service.create(rt, bob.account_id, new, token)
    return made


async def state(rt: Runtime, made: Automation) -> Automation:
    return await rt.db.read(automations.get, made.account_id, made.public_id)


async def runs(rt: Runtime, made: Automation) -> list[Run]:
    return await rt.db.read(automation_runs.list_runs, made.account_id, made.id, None, START, 1000)


async def told(rt: Runtime, account_id: AccountId, family: str = "automation.") -> list[str]:
    page = await rt.db.read(events.list_after, account_id, START, 5000)
    return [event.type for event in page.events if event.type.startswith(family)]


async def folder_of(rt: Runtime, bob: Mailbox, stored: Delivered) -> str:
    row = await rt.db.read(messages.get, bob.account_id, stored.message_id)
    listed = await rt.db.read(folders.list_folders, bob.account_id, bob.id)
    return next(one.name for one in listed if one.id == row.folder_id)


async def count(rt: Runtime, name: str) -> int:
    return await rt.db.read(_count, name)


def _count(conn: ReadConn, name: str) -> int:
    return int(conn.execute(select(func.count()).select_from(tables.metadata.tables[name])).scalar_one())


# --- calls ------------------------------------------------------------------------------------------------------------


async def test_the_headers_and_the_raw_body(near: Runtime, bob: Mailbox, engine: Engine) -> None:
    conditions = Conditions(sender="@example", subject="^hel+o$")
    async with receiving() as receiver:
        new = replace(PLAIN, url=receiver.url, conditions=conditions)
        made, secret = await service.create(near, bob.account_id, new, "s3cret")
        stored = await arrive(near, bob)
        await engine.run_due()
        (got,) = receiver.told
    got.verify(secret)
    assert got.body == RETURN_PATH + eml()
    assert {name: value for name, value in got.headers.items() if name.startswith("x-")} == {
        "x-mailcare-title": "Every mail",
        "x-mailcare-sender": "HIT",
        "x-mailcare-subject": "HIT",
        "x-mailcare-secret-token": "s3cret",
    }
    assert got.headers["accept"] == "application/vnd.mailcare.v1+json"
    assert got.headers["content-type"] == "message/rfc2822"
    assert got.headers["webhook-id"] == f"msg_{made.public_id.hex}_{stored.public_id.replace('-', '')}"
    (run,) = await runs(near, made)
    assert (run.status, run.attempts, run.http_status, run.error, run.answer) == ("done", 1, 200, None, "hello")
    assert str(run.message_id) == stored.public_id
    found = await state(near, made)
    assert (found.emails_received, found.in_error, found.last_error) == (1, False, None)
    assert await told(near, bob.account_id) == ["automation.created", "automation.ran"]


EMAIL = [
    *("id", "sender", "inbox", "carbon_copies", "subject", "created_at", "read", "favorite", "has_html", "has_text"),
    *("size_in_bytes", "attachments"),
]


async def test_the_email_as_json(near: Runtime, bob: Mailbox, engine: Engine) -> None:
    async with receiving() as receiver:
        new = replace(PLAIN, url=receiver.url, payload_format="json")
        made, secret = await service.create(near, bob.account_id, new, None)
        first = await arrive(near, bob, WITH_FILE)
        await engine.follower.run_due()
        marked = [first.message_id]
        await near.db.write(
            messages.set_flags, bob.account_id, bob.id, marked, add=messages.Flag.SEEN, now=near.clock.now()
        )
        await engine.run_due()
        await arrive(near, bob)
        await engine.run_due()
    got, second = receiver.told
    got.verify(secret)
    assert got.headers["content-type"] == "application/json"
    assert "x-mailcare-secret-token" not in got.headers
    assert list(got.data) == ["data"]
    email = got.data["data"]
    assert list(email) == EMAIL
    assert (email["id"], email["subject"], email["read"]) == (first.public_id, "Grüße", None)
    assert [email[who]["email"] for who in ("sender", "inbox")] == ["ada@example.org", bob.address]
    assert (email["has_html"], email["has_text"], email["favorite"]) == (True, True, False)
    assert email["size_in_bytes"] == len(RETURN_PATH + WITH_FILE)
    assert [one["file_name"] for one in email["attachments"]] == ["a.bin"]
    assert second.data["data"]["subject"] == "hello"
    assert [run.status for run in await runs(near, made)] == ["done", "done"]


async def test_the_email_as_json_with_bodies(near: Runtime, bob: Mailbox, engine: Engine) -> None:
    async with receiving() as receiver:
        await add(near, bob, replace(PLAIN, url=receiver.url, payload_format="json_with_bodies"))
        await arrive(near, bob, WITH_FILE)
        await arrive(near, bob)
        await engine.run_due()
    found = {told.data["data"]["subject"]: told.data["data"] for told in receiver.told}
    assert list(found["Grüße"]) == [*EMAIL, "html", "text"]
    assert (found["Grüße"]["html"], found["Grüße"]["text"]) == ("<p>as html</p>", "as text")
    assert (found["hello"]["html"], found["hello"]["text"]) == (None, "It works.\n")


async def test_what_went_to_the_trash_is_not_shown(near: Runtime, bob: Mailbox, engine: Engine) -> None:
    async with receiving() as receiver:
        made = await add(near, bob, replace(PLAIN, url=receiver.url, payload_format="json"))
        stored = await arrive(near, bob)
        await engine.follower.run_due()
        trash = await near.db.read(folders.get_folder, bob.account_id, bob.id, "Trash")
        now = near.clock.now()
        await near.db.write(messages.move, bob.account_id, bob.id, [stored.message_id], trash.id, now=now)
        await engine.run_due()
        assert receiver.told == []
    assert [(run.status, run.error) for run in await runs(near, made)] == [("failed", "message_gone")]


@pytest.mark.parametrize(
    ("title", "sent"),
    [
        ("Bad\r\nX-Evil: yes", "Bad X-Evil: yes"),
        ("Zahlung fällig", "Zahlung =?utf-8?q?f=C3=A4llig?="),
        ("件名" * 100, None),
    ],
)
async def test_a_title_is_made_safe_for_a_header(
    near: Runtime, bob: Mailbox, engine: Engine, title: str, sent: str | None
) -> None:
    async with receiving() as receiver:
        await add(near, bob, replace(PLAIN, title=title, url=receiver.url))
        await arrive(near, bob)
        await engine.run_due()
        (got,) = receiver.told
    value = got.headers["x-mailcare-title"]
    assert value.isascii()
    assert "x-evil" not in got.headers
    if sent is not None:
        assert value == sent


@pytest.mark.parametrize(
    ("conditions", "hits"),
    [
        (Conditions(), True),
        (Conditions(sender="ADA@"), True),
        (Conditions(sender="^ada$"), False),
        (Conditions(inbox="bob"), True),
        (Conditions(inbox="alice"), False),
        (Conditions(subject="^HELLO$", sender="ada", inbox="@example.test$"), True),
        (Conditions(subject="hello", sender="nobody"), False),
        (Conditions(has_attachments=True), False),
    ],
)
async def test_all_conditions_must_match(
    near: Runtime, bob: Mailbox, engine: Engine, conditions: Conditions, hits: bool
) -> None:
    made = await add(near, bob, replace(PLAIN, conditions=conditions))
    await arrive(near, bob)
    await engine.run_due()
    assert (await state(near, made)).emails_received == hits
    assert [run.status for run in await runs(near, made)] == ["done"] * hits


async def test_attachments_are_a_condition(near: Runtime, bob: Mailbox, engine: Engine) -> None:
    async with receiving() as receiver:
        new = replace(PLAIN, url=receiver.url, conditions=Conditions(has_attachments=True))
        await add(near, bob, new)
        await arrive(near, bob, WITH_FILE)
        await engine.run_due()
    assert receiver.told[0].headers["x-mailcare-has-attachments"] == "HIT"


async def test_only_mail_that_came_in_and_only_since_then(near: Runtime, bob: Mailbox, engine: Engine) -> None:
    await arrive(near, bob)
    first = await add(near, bob)
    await make_message(near, bob)  # put there by its owner
    await arrive(near, bob)
    second = await add(near, bob)
    await arrive(near, bob)
    await engine.run_due()
    await engine.run_due()
    assert (await state(near, first)).emails_received == 2
    assert (await state(near, second)).emails_received == 1


async def test_what_was_while_there_was_none_stays_unseen(near: Runtime, bob: Mailbox, engine: Engine) -> None:
    first = await add(near, bob)
    await near.db.write(automations.remove, bob.account_id, first.public_id, near.clock.now())
    await arrive(near, bob)
    second = await add(near, bob)
    await engine.run_due()
    assert (await state(near, second)).emails_received == 0


async def test_a_long_log_is_run_whole(near: Runtime, bob: Mailbox, engine: Engine) -> None:
    async with receiving() as receiver:
        calling = await add(near, bob, replace(PLAIN, url=receiver.url))
        counting = [await add(near, bob) for _ in range(3)]
        for _ in range(30):
            await arrive(near, bob)
        for _ in range(3):
            noise = [events.NewEvent("mailbox.quota_set", {"quota_bytes": number}) for number in range(400)]
            await near.db.write(events.record_all, bob.account_id, noise, now=near.clock.now())
        for _ in range(30):
            await arrive(near, bob)
        await engine.run_due()
    assert len(receiver.told) == len({one.headers["webhook-id"] for one in receiver.told}) == 60
    assert [(await state(near, one)).emails_received for one in (calling, *counting)] == [60] * 4


async def test_few_runs_at_a_time_are_opened_in_one_write(
    near: Runtime, bob: Mailbox, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(automation_runs, "OPENED", 2)
    made = [await add(near, bob) for _ in range(3)]
    for _ in range(5):
        await arrive(near, bob)
    await engine.run_due()
    assert [(await state(near, one)).emails_received for one in made] == [5, 5, 5]


async def test_two_servers_open_each_run_once(near: Runtime, bob: Mailbox) -> None:
    made = await add(near, bob)
    await arrive(near, bob)
    fresh = await near.db.read(automation_runs.find_fresh, bob.account_id, START)
    assert fresh is not None
    assert await near.db.write(automation_runs.open_runs, bob.account_id, fresh, near.clock.now())
    assert not await near.db.write(automation_runs.open_runs, bob.account_id, fresh, near.clock.now())
    assert (await state(near, made)).emails_received == 1


async def test_two_servers_at_the_same_time(near: Runtime, bob: Mailbox) -> None:
    made = [await add(near, bob) for _ in range(2)]
    for _ in range(5):
        for _ in range(10):
            await arrive(near, bob)
        await asyncio.gather(*(Follower(near, Turns(near.pressure)).run_due() for _ in range(4)))
    assert [(await state(near, one)).emails_received for one in made] == [50, 50]
    assert [len(await runs(near, one)) for one in made] == [50, 50]


# --- failures ---------------------------------------------------------------------------------------------------------


async def test_one_that_fails_holds_no_other(near: Runtime, bob: Mailbox, engine: Engine, clock: ManualClock) -> None:
    is_up = False
    async with receiving(lambda _: 200 if is_up else 500) as bad, receiving() as good:
        failing = await add(near, bob, replace(PLAIN, url=bad.url))
        working = await add(near, bob, replace(PLAIN, url=good.url))
        await arrive(near, bob)
        await engine.run_due()
        assert len(good.told) == 1
        (run,) = await runs(near, failing)
        assert (run.status, run.attempts, run.http_status) == ("pending", 1, 500)
        found = await state(near, failing)
        assert (found.in_error, found.last_error) == (True, "HTTP 500")
        assert not (await state(near, working)).in_error
        await engine.run_due()
        assert len(bad.told) == 1, "it is not due yet"
        is_up = True
        clock.advance(timedelta(seconds=7))
        await engine.run_due()
    first, second = (one.headers["webhook-id"] for one in bad.told)
    assert first == second
    assert [run.status for run in await runs(near, failing)] == ["done"]
    found = await state(near, failing)
    assert (found.in_error, found.last_error, found.emails_received) == (False, "HTTP 500", 1)


async def test_a_run_is_given_up_after_more_than_a_day(
    near: Runtime, bob: Mailbox, engine: Engine, clock: ManualClock
) -> None:
    async with receiving(lambda _: 404) as receiver:
        made = await add(near, bob, replace(PLAIN, url=receiver.url, deletes=True))
        stored = await arrive(near, bob)
        began = clock.now()
        await engine.run_due()
        while (await runs(near, made))[0].status == "pending":
            clock.advance(timedelta(minutes=40))
            await engine.run_due()
    assert timedelta(hours=24) < clock.now() - began < timedelta(hours=32)
    (run,) = await runs(near, made)
    assert (run.status, run.http_status, run.next_attempt_at) == ("failed", 404, None)
    assert (await told(near, bob.account_id))[-1] == "automation.failed"
    assert await folder_of(near, bob, stored) == "INBOX", "what was not done is not followed by deletion"


async def test_a_dead_place_is_left_alone(near: Runtime, bob: Mailbox, engine: Engine, clock: ManualClock) -> None:
    async with receiving(lambda _: 500) as receiver:
        made = await add(near, bob, replace(PLAIN, url=receiver.url))
        for _ in range(50):
            await arrive(near, bob)
        await engine.run_due()
        first = len(receiver.told)
        assert first < 50, "it pauses after ten failures and what was under way"
        assert (await state(near, made)).retry_at is not None
        clock.advance(timedelta(hours=1, minutes=1))
        await engine.run_due()
        assert len(receiver.told) == first + 1, "one a pause"


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest/", "http://127.0.0.1:9/"])
async def test_what_may_not_be_called_is_not(rt: Runtime, url: str) -> None:
    bob = await make_mailbox(rt)
    engine = Engine(Follower(rt, Turns(rt.pressure)), Courier(rt, Turns(rt.pressure)))  # whose operator allows nothing
    made = await add(rt, bob, replace(PLAIN, url=url))
    await arrive(rt, bob)
    await engine.run_due()
    await engine.courier.close()
    assert [run.error for run in await runs(rt, made)] == ["egress_refused"]


async def test_one_that_never_answers_is_left(
    near: Runtime, bob: Mailbox, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "TIMEOUT_SECONDS", 0.2)
    is_over = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await is_over.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    made = await add(near, bob, replace(PLAIN, url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"))
    await arrive(near, bob)
    await asyncio.wait_for(engine.run_due(), 60)
    is_over.set()
    server.close()
    assert [(run.status, run.error) for run in await runs(near, made)] == [("pending", "timeout")]


async def test_a_redirect_is_not_followed(near: Runtime, bob: Mailbox, engine: Engine) -> None:
    async with receiving(lambda _: 302) as receiver:
        made = await add(near, bob, replace(PLAIN, url=receiver.url))
        await arrive(near, bob)
        await engine.run_due()
    assert [(run.status, run.http_status) for run in await runs(near, made)] == [("pending", 302)]


async def test_an_answer_without_end_is_cut(near: Runtime, bob: Mailbox, engine: Engine) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5368709120\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    made = await add(near, bob, replace(PLAIN, url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"))
    await arrive(near, bob)
    await asyncio.wait_for(engine.run_due(), 60)
    server.close()
    (run,) = await runs(near, made)
    assert (run.status, run.answer) == ("done", "x" * 1024)


async def test_a_large_message_goes_whole(near: Runtime, bob: Mailbox, engine: Engine) -> None:
    raw = eml(text="A line of words that goes on.\r\n" * 100_000)
    async with receiving() as receiver:
        await add(near, bob, replace(PLAIN, url=receiver.url))
        await arrive(near, bob, raw)
        await engine.run_due()
        assert receiver.told[0].body == RETURN_PATH + raw


async def test_a_message_that_is_gone_ends_its_run(near: Runtime, bob: Mailbox, engine: Engine) -> None:
    async with receiving() as receiver:
        made = await add(near, bob, replace(PLAIN, url=receiver.url))
        stored = await arrive(near, bob)
        await engine.follower.run_due()
        await near.db.write(messages.remove, bob.account_id, bob.id, [stored.message_id], now=near.clock.now())
        await engine.run_due()
        assert receiver.told == []
    assert [(run.status, run.error) for run in await runs(near, made)] == [("failed", "message_gone")]


async def test_a_lost_secret_sends_nothing(near: Runtime, bob: Mailbox, engine: Engine, clock: ManualClock) -> None:
    async with receiving() as receiver:
        made = await add(near, bob, replace(PLAIN, url=receiver.url), "token")
        assert await near.db.read(automations.count_sealed) == 1
        await near.db.write(automations.forget_secrets)
        assert await near.db.read(automations.count_sealed) == 0
        await arrive(near, bob)
        await engine.run_due()
        assert receiver.told == []
        assert [run.error for run in await runs(near, made)] == ["secret_lost"]
        with pytest.raises(Conflict):
            await service.revise(near, bob.account_id, made.public_id, {"title": "x"})
        await service.change(near, bob.account_id, made.public_id, replace(PLAIN, url=receiver.url), "other")
        _, secret = await service.rotate_secret(near, bob.account_id, made.public_id)
        clock.advance(timedelta(seconds=7))
        await engine.run_due()
        receiver.told[0].verify(secret)
        assert receiver.told[0].headers["x-mailcare-secret-token"] == "other"


async def test_a_new_instance_secret_seals_them_anew(near: Runtime, bob: Mailbox, engine: Engine) -> None:
    async with receiving() as receiver:
        made, secret = await service.create(near, bob.account_id, replace(PLAIN, url=receiver.url), "token")
        assert (await instance.secret_rotate(near))["resealed"] == 2
        await arrive(near, bob)
        await engine.run_due()
        receiver.told[0].verify(secret)
        assert service.find_token(near, await state(near, made)) == "token"


# --- the Trash --------------------------------------------------------------------------------------------------------


async def test_deletion_comes_after_all_others(near: Runtime, bob: Mailbox, engine: Engine, clock: ManualClock) -> None:
    is_up = False
    async with receiving(lambda _: 200 if is_up else 503) as receiver:
        await add(near, bob, replace(PLAIN, deletes=True))
        await add(near, bob, replace(PLAIN, url=receiver.url))
        stored = await arrive(near, bob)
        await engine.run_due()
        assert await folder_of(near, bob, stored) == "INBOX"
        is_up = True
        clock.advance(timedelta(seconds=7))
        await engine.run_due()
        assert receiver.told[-1].body == RETURN_PATH + eml()
    assert await folder_of(near, bob, stored) == "Trash"
    assert await told(near, bob.account_id, "message.moved") == ["message.moved"]


async def test_deletion_alone(near: Runtime, bob: Mailbox, engine: Engine) -> None:
    await add(near, bob, replace(PLAIN, deletes=True, conditions=Conditions(subject="spam")))
    kept, gone = await arrive(near, bob), await arrive(near, bob, eml("Spam!"))
    await engine.run_due()
    assert [await folder_of(near, bob, one) for one in (kept, gone)] == ["INBOX", "Trash"]


async def test_a_removed_automation_holds_no_message(near: Runtime, bob: Mailbox, engine: Engine) -> None:
    async with receiving(lambda _: 500) as receiver:
        await add(near, bob, replace(PLAIN, deletes=True))
        failing = await add(near, bob, replace(PLAIN, url=receiver.url))
        stored = await arrive(near, bob)
        await engine.run_due()
        await near.db.write(automations.remove, bob.account_id, failing.public_id, near.clock.now())
        await engine.run_due()
        assert len(receiver.told) == 1
    now = near.clock.now()
    while await near.db.write(automation_runs.prune, bob.account_id, now - timedelta(days=1), 100, now):
        pass
    assert await folder_of(near, bob, stored) == "Trash"
    assert await count(near, "automations") == 1
    assert await count(near, "automation_runs") == 1


# --- forwarding -------------------------------------------------------------------------------------------------------

WITH_FILE = """\
From: Ada <ada@example.org>
To: bob@example.test
Subject: Grüße
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b"

--b
Content-Type: multipart/alternative; boundary="c"

--c
Content-Type: text/plain; charset=utf-8

as text
--c
Content-Type: text/html

<p>as html</p>
--c--
--b
Content-Type: application/x-thing; name*=broken
Content-Disposition: attachment; filename="a.bin"
Content-Transfer-Encoding: base64
Content-ID: <not an id at all>

AAEC
--b--
""".replace("\n", "\r\n").encode()


async def forwarded(rt: Runtime, bob: Mailbox) -> list[submission.Submission]:
    page = await rt.db.read(tracking.list_page, bob.account_id, tracking.Query(source="automation"))
    return page.items


async def test_a_message_is_sent_on_as_it_is(near: Runtime, bob: Mailbox, engine: Engine) -> None:
    made = await add(near, bob, replace(PLAIN, forward_to="Carol@far.example"))
    await arrive(near, bob, WITH_FILE)
    await engine.run_due()
    (sent,) = await forwarded(near, bob)
    assert (sent.sender, sent.envelope_sender) == (bob.address, bob.address)
    assert sent.content_id is not None
    content = await retrieval.content(near, bob.account_id, sent.content_id)
    parsed = content.message
    assert [one.email for one in parsed.from_] == [bob.address]
    assert [one.email for one in parsed.to] == ["Carol@far.example"]
    assert [one.email for one in parsed.reply_to] == ["ada@example.org"]
    assert parsed.subject == "Grüße"
    assert message.text(parsed, content.raw) == "as text\n"
    assert message.html(parsed, content.raw) == "<p>as html</p>\n"
    (file,) = parsed.attachments
    assert (file.filename, b"".join(message.decoded(file, content.raw))) == ("a.bin", b"\0\1\2")
    named = dict(message.headers(content.raw))
    assert (named["X-Loop"], named["Auto-Submitted"]) == (bob.address, "auto-generated")
    assert [run.status for run in await runs(near, made)] == ["done"]
    sent_folder = await near.db.read(folders.get_folder, bob.account_id, bob.id, "Sent")
    assert sent_folder.messages == 0


async def test_a_repeated_run_sends_once(
    near: Runtime, bob: Mailbox, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await add(near, bob, replace(PLAIN, forward_to="carol@far.example"))
    await arrive(near, bob)
    await engine.follower.run_due()
    with monkeypatch.context() as broken:
        broken.setattr(jobs._Lane, "_record", _forget)
        broken.setattr(couriers, "FAILED_SECONDS", 0.0)
        await engine.courier.run_due()
    assert [run.status for run in await runs(near, made)] == ["pending"], "what it did was not recorded"
    await engine.run_due()
    assert [run.status for run in await runs(near, made)] == ["done"]
    assert len(await forwarded(near, bob)) == 1


async def _forget(_lane: object, _results: object) -> None:
    raise RuntimeError("killed")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n",
        b"X-Loop:\r\nX-Loop: \xff\xfe\r\nFrom: <>\r\nSubject: =?utf-8?q?=00=0D=0AX-Evil:_1?=\r\n\r\n\x00\xff",
        b"From: a@b\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: message/rfc822\r\n\r\n",
        b'From: "a\\\r\n" <a b@c>\r\nContent-Type: image/\xff; name="\r\n x"\r\nContent-ID: <\x01>\r\n\r\nx',
    ],
)
async def test_what_is_hardly_a_message_is_sent_on(near: Runtime, bob: Mailbox, engine: Engine, raw: bytes) -> None:
    made = await add(near, bob, replace(PLAIN, forward_to="carol@far.example"))
    await arrive(near, bob, raw)
    await engine.run_due()
    assert [(run.status, run.error) for run in await runs(near, made)] == [("done", None)]
    (sent,) = await forwarded(near, bob)
    assert sent.content_id is not None
    content = await retrieval.content(near, bob.account_id, sent.content_id)
    names = [name for name, _ in message.headers(content.raw)]
    assert "X-Evil" not in names
    assert names.count("From") == 1


@pytest.mark.parametrize(
    ("raw", "sender", "error"),
    [
        (b"X-Loop: BOB@example.test\r\n" + eml(), "ada@example.org", "forwarding_loop"),
        (b"X-Loop: x@y.example\r\n" * 10 + eml(), "ada@example.org", "forwarding_loop"),
        (eml(), "", "null_sender"),
    ],
)
async def test_nothing_goes_round_in_circles(
    near: Runtime, bob: Mailbox, engine: Engine, raw: bytes, sender: str, error: str
) -> None:
    made = await add(near, bob, replace(PLAIN, forward_to="carol@far.example"))
    await arrive(near, bob, raw, sender=sender)
    await engine.run_due()
    assert [(run.status, run.error) for run in await runs(near, made)] == [("failed", error)]
    assert await forwarded(near, bob) == []


async def test_two_that_forward_to_each_other_stop(near: Runtime, bob: Mailbox, engine: Engine) -> None:
    eve = await make_mailbox(near, "eve@example.test")
    to_eve = replace(PLAIN, conditions=Conditions(inbox="^bob@"), forward_to=eve.address)
    to_bob = replace(PLAIN, conditions=Conditions(inbox="^eve@"), forward_to=bob.address)
    made = [await add(near, bob, to_eve), await add(near, bob, to_bob)]
    await arrive(near, bob)
    worker = Worker(near, HANDLERS)
    for _ in range(10):
        await engine.run_due()
        while await worker.run_due():
            pass
    ended = [run.error for one in made for run in await runs(near, one)]
    assert sorted(ended, key=str) == [None, None, "forwarding_loop"]


async def test_what_may_not_be_sent_is_given_up(near: Runtime, bob: Mailbox, engine: Engine) -> None:
    made = await add(near, bob, replace(PLAIN, forward_to="carol@far.example"))
    await arrive(near, bob, to="bob@elsewhere.example")
    await engine.run_due()
    assert [(run.status, run.error) for run in await runs(near, made)] == [("failed", "domain_not_allowed")]


# --- the running parts, leases, pruning -------------------------------------------------------------------------------


async def test_the_running_parts_wake_for_mail(near: Runtime, bob: Mailbox) -> None:
    done = asyncio.Event()

    def answer(_: Told) -> int:
        done.set()
        return 200

    async with receiving(answer) as receiver:
        await add(near, bob, replace(PLAIN, url=receiver.url))
        running = [
            asyncio.create_task(part.run())
            for part in (Follower(near, Turns(near.pressure)), Courier(near, Turns(near.pressure)))
        ]
        for _ in range(3):
            done.clear()
            await arrive(near, bob)
            await asyncio.wait_for(done.wait(), 60)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    assert len(receiver.told) == 3


async def test_a_lease_keeps_others_away(near: Runtime, bob: Mailbox, engine: Engine, clock: ManualClock) -> None:
    async with receiving() as receiver:
        made = await add(near, bob, replace(PLAIN, url=receiver.url))
        await arrive(near, bob)
        place = bob.account_id, made.id
        assert await near.db.write(automation_courier.claim, *place, "another", timedelta(seconds=60), clock.now())
        await engine.run_due()
        assert receiver.told == []
        clock.advance(timedelta(seconds=61))
        await engine.run_due()
        assert len(receiver.told) == 1


async def test_the_log_waits_for_automations(near: Runtime, bob: Mailbox, engine: Engine, clock: ManualClock) -> None:
    near = replace(near, config=replace(near.config, events=replace(near.config.events, keep_days=1)))
    made = await add(near, bob)
    await arrive(near, bob)
    clock.advance(timedelta(days=2))
    worker = Worker(near, HANDLERS, {"prune-events": timedelta(hours=1)})
    await worker._plan()
    await worker.run_due()
    await engine.run_due()
    assert (await state(near, made)).emails_received == 1
    clock.advance(timedelta(days=2))
    await worker.run_due()
    assert await runs(near, made) == []
    assert (await state(near, made)).emails_received == 1, "what it counted stays"


async def test_an_account_takes_its_automations_along(near: Runtime, bob: Mailbox, engine: Engine) -> None:
    await add(near, bob, replace(PLAIN, deletes=True))
    for _ in range(5):
        await arrive(near, bob)
    await engine.run_due()
    await near.db.write(removal.remove_account, bob.account_id, near.clock.now())
    assert await near.db.read(automations.list_automations, bob.account_id) == []
    while await near.db.write(automation_runs.purge, bob.account_id, 2, near.clock.now()):
        pass
    for name in ("automations", "automation_runs", "automation_cursors"):
        assert await count(near, name) == 0
