"""Large mail with an S3 store that fails: a retriable answer, nothing half made, and all is well when it is back."""

import asyncio
import functools
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import obstore
import pytest
from sqlalchemy import func, select

from restante.clock import ManualClock
from restante.config import Config
from restante.core import folders, jobs, messages
from restante.core.mailboxes import Mailbox
from restante.errors import Unavailable
from restante.ids import ContentId, JobId, MessageId
from restante.jobs.handlers import HANDLERS
from restante.mail import compose
from restante.mail.address import Address
from restante.net import certificates
from restante.runtime import Runtime
from restante.schema import tables
from restante.schema.connections import ReadConn
from restante.server import assemble
from restante.services import retrieval, storing, verification
from restante.smtp.port import Settings
from restante.smtp.server import Listener, serve
from tests.contract import s3_service
from tests.contract.pauses import BACK_SECONDS, Pauses
from tests.contract.proxy import Proxy, http
from tests.contract.s3_service import Service
from tests.makers import make_mailbox, make_message, refresh

ATTACHED = random.Random(1).randbytes(1_000_000)
OTHER = b"second attachment"

T = TypeVar("T")


@functools.cache
def large(subject: str = "large") -> bytes:
    """A message of about 1.4 MB with two attachments that do not compress into a row."""
    attachments = (
        compose.Part("one.bin", "application/octet-stream", ATTACHED),
        compose.Part("two.txt", "application/x-other", OTHER),
    )
    sender, to = Address("Ada", "ada@example.org"), Address("Bob", "bob@example.test")
    return compose.compose(compose.Draft(from_=sender, to=(to,), subject=subject, text="hi", attachments=attachments))


@dataclass(slots=True)
class Site:
    """A house whose blobs go to S3 by way of a proxy."""

    rt: Runtime
    bob: Mailbox
    proxy: Proxy
    service: Service
    bucket: str
    pauses: Pauses

    def objects(self) -> list[str]:
        return s3_service.paths(self.service.behind(self.bucket))


@pytest.fixture
async def site(
    rt: Runtime, moto: Service, bucket: str, proxy: Proxy, clock: ManualClock, tmp_path: Path, pauses: Pauses
) -> Site:
    storage = replace(rt.config.storage, inline_bytes=64 << 10)
    blobs = moto.blobs(bucket, clock, tmp_path, proxy.port)
    house = replace(rt, blobs=blobs, config=replace(rt.config, storage=storage))
    return Site(house, await make_mailbox(house), proxy, moto, bucket, pauses)


def count(conn: ReadConn) -> list[int]:
    """Rows of what a delivery writes."""
    written = tables.contents, tables.messages, tables.events, tables.index_queue
    return [conn.execute(select(func.count()).select_from(table)).scalar_one() for table in written]


def content_of(conn: ReadConn, mailbox: Mailbox, message_id: int) -> ContentId:
    return messages.trace(conn, mailbox.account_id, MessageId(message_id))[1]


FULL = http("507 Insufficient Storage", "InsufficientStorage")


def fail(site: Site, how: str) -> None:
    if how == "full":
        site.proxy.mode, site.proxy.answer, site.proxy.answer_if = "answer", FULL, b"PUT "
    elif how == "refuse":
        site.proxy.refuse()
    elif how == "reset":
        site.proxy.mode, site.proxy.cut_after = "reset", 200_000
    else:
        site.proxy.mode = how
    site.proxy.cut_all()


def mend(site: Site, how: str) -> None:
    if how == "refuse":
        site.proxy.listen_again()
    site.proxy.mode = "pass"
    site.proxy.cut_all()
    site.pauses.end()


async def when_back(site: Site, ask: Callable[[], Awaitable[T]]) -> T:
    """What is answered when the store is back; right after an outage a request may still be lost."""
    deadline = time.monotonic() + BACK_SECONDS
    while True:
        try:
            return await ask()
        except Unavailable as error:
            if error.code != "blob_store_away" or time.monotonic() > deadline:
                raise
        site.pauses.end()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("bucket_is_there", [True, False])
async def test_the_settings_choose_the_store(
    moto: Service, bucket: str, config: Config, bucket_is_there: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A server whose bucket is missing says so once, and runs."""
    settings = moto.settings(bucket if bucket_is_there else "missing")
    chosen = replace(config, storage=replace(config.storage, blobs="s3", s3=settings, inline_bytes=1000))
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(assemble.run_server(chosen, lambda _: ready.set_result(None)))
    await asyncio.wait_for(ready, 120)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(running, 120) == 0
    assert ("the blob store cannot be used" in caplog.text) is not bucket_is_there


OUTAGES = ["refuse", "stall", "reset", "full"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", OUTAGES)
async def test_storing_fails_whole_and_works_again(site: Site, how: str) -> None:
    before = await site.rt.db.read(count)
    fail(site, how)
    with pytest.raises(Unavailable) as error:
        await make_message(site.rt, site.bob, large())
    assert error.value.code == ("storage_full" if how == "full" else "blob_store_away")
    await make_message(site.rt, site.bob)  # small mail needs no blob
    mend(site, how)
    assert site.objects() == []
    made = await when_back(site, lambda: make_message(site.rt, site.bob, large()))
    assert await site.rt.db.read(count) == [number + 2 for number in before]
    found = await when_back(site, lambda: retrieval.raw(site.rt, site.bob.account_id, made.message_id))
    assert found == large()
    assert (await refresh(site.rt, site.bob)).messages == 2
    assert len(site.objects()) == 1


@pytest.fixture
async def reception(site: Site) -> AsyncIterator[Listener]:
    settings = Settings("mail.example.test", site.rt.config.data_dir / "spool")
    now = site.rt.clock.now()
    tls = certificates.server_context(*certificates.ensure(site.rt.config.data_dir, "mail.example.test", now))
    listener = await serve(site.rt, settings, mode="reception", tls=tls)
    yield listener
    await listener.close(0)


async def transfer(listener: Listener, raw: bytes) -> str:
    """Hand one message over by SMTP; the reply to its last byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    replies = []
    for line in (b"", b"EHLO client.test", b"MAIL FROM:<ada@example.org>", b"RCPT TO:<bob@example.test>", b"DATA"):
        if line:
            writer.write(line + b"\r\n")
        while (reply := await asyncio.wait_for(reader.readline(), 60))[3:4] == b"-":
            pass
        replies.append(reply[:3])
    assert replies == [b"220", b"250", b"250", b"250", b"354"]
    writer.write(raw.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    last = await asyncio.wait_for(reader.readline(), 120)
    writer.close()
    await writer.wait_closed()
    return last.decode().rstrip()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", OUTAGES)
async def test_smtp_says_try_later_and_takes_it_when_it_comes_again(site: Site, reception: Listener, how: str) -> None:
    before = await site.rt.db.read(count)
    fail(site, how)
    assert (await transfer(reception, large())).startswith("452 4.3.1 " if how == "full" else "451 4.3.0 ")
    assert await site.rt.db.read(count) == before
    assert (await transfer(reception, b"Subject: small\r\n\r\nhi\r\n")).startswith("250 ")
    mend(site, how)
    assert site.objects() == []

    async def sent() -> None:
        answer = await transfer(reception, large())
        if answer.startswith("451 4.3.0 "):
            raise Unavailable("try later", code="blob_store_away")
        assert answer.startswith("250 ")

    await when_back(site, sent)
    assert await site.rt.db.read(count) == [number + 2 for number in before]


async def test_of_an_attachment_only_its_bytes_are_read(site: Site) -> None:
    made = await make_message(site.rt, site.bob, large())
    account = site.bob.account_id
    content = await site.rt.db.read(content_of, site.bob, made.message_id)
    before = site.proxy.sent_down
    piece = await retrieval.attachment(site.rt, account, content, 1)
    assert b"".join(piece.decoded()) == OTHER
    assert site.proxy.sent_down - before < 20_000
    piece = await retrieval.attachment(site.rt, account, content, 0)
    assert (piece.attachment.filename, b"".join(piece.decoded())) == ("one.bin", ATTACHED)


async def test_a_blob_that_is_gone_or_cut_is_unavailable(site: Site) -> None:
    made = await make_message(site.rt, site.bob, large())
    account = site.bob.account_id
    content = await site.rt.db.read(content_of, site.bob, made.message_id)
    (path,) = site.objects()
    behind = site.service.behind(site.bucket)
    obstore.put(behind, path, b"cut")
    with pytest.raises(Unavailable) as error:
        await retrieval.attachment(site.rt, account, content, 0)
    assert error.value.code == "content_damaged"
    obstore.delete(behind, path)
    for ask in (
        retrieval.attachment(site.rt, account, content, 0),
        retrieval.content(site.rt, account, content),
        retrieval.raw(site.rt, account, made.message_id),
    ):
        with pytest.raises(Unavailable) as error:
            await ask
        assert error.value.code == "content_missing"
    again = await storing.store(site.rt, account, site.bob.id, "INBOX", large())  # who has the bytes can mend it
    for message_id in (made.message_id, again.message_id):
        assert await retrieval.raw(site.rt, account, message_id) == large()


async def sweep(rt: Runtime, kind: str) -> None:
    await HANDLERS[kind](rt, jobs.Job(JobId(1), None, kind, {}, 1))


async def test_bytes_that_nobody_names_go_when_their_day_is_over(site: Site, clock: ManualClock) -> None:
    kept = await make_message(site.rt, site.bob, large("kept"))
    gone = await make_message(site.rt, site.bob, large("gone"))
    site.rt.blobs.put(f"{site.bob.account_id}/{'0' * 64}", b"of a node that died before its row")
    assert len(site.objects()) == 3
    account, box = site.bob.account_id, site.bob.id
    await site.rt.db.write(messages.remove, account, box, [gone.message_id], now=clock.now())
    clock.advance(timedelta(minutes=2) + timedelta(seconds=site.rt.config.storage.content_grace_seconds))
    await sweep(site.rt, "sweep-contents")
    clock.advance(timedelta(days=2))
    await sweep(site.rt, "sweep-blobs")
    (left,) = site.objects()
    assert await retrieval.raw(site.rt, account, kept.message_id) == large("kept")
    assert len(await site.rt.db.read(folders.list_folders, account, box)) > 0
    assert left.endswith(f".{clock.now() - timedelta(days=2, hours=1, minutes=2):%Y%m%d}")


async def test_verify_reads_the_bucket(site: Site) -> None:
    await make_message(site.rt, site.bob, large())
    orphan = site.rt.blobs.put(f"{site.bob.account_id}/{'0' * 64}", b"nobody's")
    (reported,) = [one async for one in verification.verify(site.rt) if "ok" in one]
    assert (reported["blobs"], reported["unreferenced_blobs"]) == (2, 1)
    (path,) = [one for one in site.objects() if one != orphan]
    obstore.delete(site.service.behind(site.bucket), path)
    (reported,) = [one async for one in verification.verify(site.rt) if "ok" in one]
    assert "bytes_missing" in [one["kind"] for one in reported["problems"]]
