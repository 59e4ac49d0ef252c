"""Sessions over the real house: who may send to whom on which port, and real programs as clients."""

import asyncio
import re
import shutil
import smtplib
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest

from restante.core import accounts, domains, folders, mailboxes, messages, tracking
from restante.core import submission as core
from restante.core.mailboxes import Mailbox
from restante.core.submission import Recipient, Submission
from restante.core.tracking import Query
from restante.net import certificates
from restante.runtime import Runtime
from restante.schema.connections import ReadConn
from restante.services import authentication, intake, retrieval, storing
from restante.services.intake import Incoming
from restante.services.storing import Examined
from restante.smtp.port import Settings
from restante.smtp.server import Listener, serve
from restante.smtp.transaction import DRAIN_BYTES
from restante.wire import sasl

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])  # what the server runs on

PASSWORD = "correct horse"


@dataclass(slots=True)
class Site:
    """Two tenants: red.test (ann, bob, alias sales and quiet) and blue.test (eve, catch-all); peer.test is a claim."""

    rt: Runtime
    ann: Mailbox
    reception: Listener
    submission: Listener


@pytest.fixture
async def site(rt: Runtime) -> AsyncIterator[Site]:
    now = rt.clock.now()
    secret = await authentication.hash_password(rt, PASSWORD)
    write = rt.db.write
    red = await write(accounts.create, "red", now)
    await write(domains.add, red.id, "red.test", now, None, True, "forced")
    ann = await write(mailboxes.create, red.id, "ann@red.test", now, "", "user", secret)
    await write(mailboxes.create, red.id, "bob@red.test", now)
    full = await write(mailboxes.create, red.id, "full@red.test", now, "", "user", secret, 1)
    assert full.quota_bytes == 1
    off = await write(mailboxes.create, red.id, "off@red.test", now, "", "user", secret)
    await write(mailboxes.disable, red.id, off.id, now)
    await write(mailboxes.add_alias, red.id, "sales@red.test", ann.id, now)
    await write(mailboxes.add_alias, red.id, "quiet@red.test", ann.id, now, False)
    blue = await write(accounts.create, "blue", now)
    home = await write(domains.add, blue.id, "blue.test", now, None, True, "forced")
    eve = await write(mailboxes.create, blue.id, "eve@blue.test", now, "", "user", secret)
    await write(domains.set_catch_all, blue.id, home.id, eve.id, now)
    await write(domains.add, blue.id, "peer.test", now)  # a tenant adds a peer's domain: nothing proves it
    await write(mailboxes.create, blue.id, "ceo@peer.test", now)
    await write(domains.add, blue.id, "waiting.test", now, None, False, "verified")
    settings = Settings("mail.example.test", rt.config.data_dir / "spool")
    tls = certificates.server_context(*certificates.ensure(rt.config.data_dir, "mail.example.test", now))
    reception = await serve(rt, settings, mode="reception", tls=tls)
    submission = await serve(rt, settings, mode="submission", tls=tls)
    yield Site(rt, ann, reception, submission)
    await reception.close(0)
    await submission.close(0)


class Client:
    """A bare client: one command, one reply."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> str:
        while (line := await asyncio.wait_for(self._reader.readline(), 60))[3:4] == b"-":
            pass
        return line.decode().rstrip()

    async def say(self, text: str) -> str:
        self._writer.write(text.encode() + b"\r\n")
        return await self.read()

    async def quit(self) -> None:
        assert (await self.say("QUIT")).startswith("221 ")
        await self.close()

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def connect(listener: Listener, login: str | None = None) -> Client:
    client = Client(*await asyncio.open_connection("127.0.0.1", listener.port))
    assert (await client.read()).startswith("220 ")
    assert (await client.say("EHLO client.test")).startswith("250 ")
    if login is not None:
        credentials = sasl.encode(f"\0{login}\0{PASSWORD}".encode()).decode()
        assert (await client.say(f"AUTH PLAIN {credentials}")).startswith("235 ")
    return client


RECIPIENTS = {
    "ann@red.test": "250 2.1.5",
    "ANN+tag@Red.Test": "250 2.1.5",
    "sales@red.test": "250 2.1.5",
    "quiet@red.test": "250 2.1.5",
    "nobody@red.test": "550 5.1.1",
    "full@red.test": "452 4.2.2",
    "off@red.test": "550 5.2.1",
    "anything@blue.test": "250 2.1.5",
    "ceo@peer.test": "550 5.7.1",
    "x@waiting.test": "550 5.7.1",
    "x@elsewhere.test": "550 5.7.1 relaying denied",
    "x%elsewhere.test@red.test": "550 5.1.1",
    '"x@elsewhere.test"@red.test': "550 5.1.1",
    "ann@sub.red.test": "550 5.7.1",
    "ann@[127.0.0.1]": "55",
    "postmaster@elsewhere.test": "550 5.7.1",
}


async def test_only_our_own_mailboxes_take_mail(site: Site) -> None:
    """The relay matrix: the answer to a recipient does not depend on the sender."""
    client = await connect(site.reception)
    for sender in ("", "x@elsewhere.test", "ann@red.test", "ceo@peer.test"):
        assert (await client.say(f"MAIL FROM:<{sender}> SIZE=1000")).startswith("250 ")
        for recipient, expected in RECIPIENTS.items():
            answer = await client.say(f"RCPT TO:<{recipient}>")
            assert answer.startswith(expected), recipient
            if expected.startswith("5"):  # refusals are counted
                await client.quit()
                client = await connect(site.reception)
                assert (await client.say(f"MAIL FROM:<{sender}> SIZE=1000")).startswith("250 ")
        assert (await client.say("RSET")).startswith("250 ")
    await client.quit()


async def test_a_bare_postmaster_is_the_operator(site: Site) -> None:
    """RFC 5321 §4.5.1: the one address without a domain, whatever domains there are."""
    client = await connect(site.reception)
    assert (await client.say("MAIL FROM:<x@elsewhere.test>")).startswith("250 ")
    assert (await client.say("RCPT TO:<Postmaster>")).startswith("550 5.1.1")
    await site.rt.db.write(mailboxes.set_role, site.ann.account_id, site.ann.id, "admin", site.rt.clock.now())
    for address in ("Postmaster", "postmaster@mail.example.test", "postmaster@blue.test", "postmaster@red.test"):
        assert (await client.say(f"RCPT TO:<{address}>")).startswith("250 2.1.5"), address
    await client.quit()


@pytest.mark.parametrize(
    ("login", "sender", "expected"),
    [
        (None, "ann@red.test", "530 5.7.0"),
        (None, "", "530 5.7.0"),
        ("ann@red.test", "ann@red.test", "250 2.1.0"),
        ("ann@red.test", "Ann+Shop@RED.test", "250 2.1.0"),
        ("ann@red.test", "sales@red.test", "250 2.1.0"),
        ("ann@red.test", "sales+x@red.test", "250 2.1.0"),
        ("ann@red.test", "quiet@red.test", "553 5.7.1"),
        ("ann@red.test", "quiet+x@red.test", "553 5.7.1"),
        ("ann@red.test", "", "250 2.1.0"),
        ("ann@red.test", "bob@red.test", "553 5.7.1"),
        ("ann@red.test", "nobody@red.test", "553 5.7.1"),
        ("ann@red.test", "eve@blue.test", "550 5.7.1"),
        ("ann@red.test", "x@elsewhere.test", "550 5.7.1"),
        ("eve@blue.test", "anything@blue.test", "250 2.1.0"),
        ("eve@blue.test", "ceo@peer.test", "553 5.7.1"),
        ("full@red.test", "full@red.test", "250 2.1.0"),
    ],
)
async def test_senders_are_addresses_of_the_login(site: Site, login: str | None, sender: str, expected: str) -> None:
    client = await connect(site.submission, login)
    assert (await client.say(f"MAIL FROM:<{sender}>")).startswith(expected)
    await client.quit()


async def test_logins_that_do_not_hold(site: Site) -> None:
    for login, password in (("ann@red.test", "wrong"), ("nobody@red.test", PASSWORD), ("off@red.test", PASSWORD)):
        client = await connect(site.submission)
        answer = await client.say("AUTH PLAIN")
        assert answer.startswith("334")
        answer = await client.say(sasl.encode(f"\0{login}\0{password}".encode()).decode())
        assert answer == "535 5.7.8 The credentials do not hold"
        await client.quit()


def _newest(conn: ReadConn, box: Mailbox) -> messages.MessageRow:
    folder = folders.find_folder(conn, box.account_id, box.id, "INBOX")
    assert folder is not None
    return messages.list_page(conn, box.account_id, folder.id, limit=1)[0]


async def _received(site: Site) -> bytes:
    row = await site.rt.db.read(_newest, site.ann)
    return await retrieval.raw(site.rt, site.ann.account_id, row.id)


async def submitted(site: Site) -> tuple[Submission, list[Recipient], bytes]:
    """The newest submission of red, its recipients and its bytes."""
    account_id = site.ann.account_id
    page = await site.rt.db.read(tracking.list_page, account_id, Query(source="smtp"))
    newest = page.items[0]
    assert newest.content_id is not None
    content = await retrieval.content(site.rt, account_id, newest.content_id)
    return newest, await site.rt.db.read(core.list_recipients, account_id, [newest.id]), bytes(content.raw)


async def test_smtplib_over_tls(site: Site) -> None:
    message = b"Subject: x\r\n\r\none\r\n.\r\n..two\r\n" + b"long " * 500 + b"\r\n"

    def send() -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP("127.0.0.1", site.submission.port, timeout=60) as client:
            client.starttls(context=ssl._create_unverified_context())
            client.login("ann@red.test", PASSWORD)
            return client.sendmail("ann@red.test", ["sales@red.test"], message)

    assert await asyncio.to_thread(send) == {}
    _, _, raw = await submitted(site)
    assert raw.endswith(b"\r\n" + message)
    assert b"with ESMTPSA (TLSv1." in re.sub(rb"\r\n[ \t]+", b" ", raw)
    assert raw.startswith(b"Received: from ")


async def say_message(client: Client, sender: str, recipients: tuple[str, ...], message: str) -> str:
    assert (await client.say(f"MAIL FROM:<{sender}>")).startswith("250 ")
    for recipient in recipients:
        assert (await client.say(f"RCPT TO:<{recipient}>")).startswith("250 ")
    assert (await client.say("DATA")).startswith("354 ")
    return await client.say(message.replace("\n", "\r\n") + "\r\n.")


async def test_a_submitted_message_becomes_rows_and_a_copy(site: Site) -> None:
    client = await connect(site.submission, "ann@red.test")
    message = (
        "Return-Path: <x@y>\nBcc: secret@elsewhere.test,\n more@elsewhere.test\nFrom: Sales <sales@red.test>\n"
        "To: X <x@elsewhere.test>\nCc: bob@red.test\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nX-Bcc: stays\n\n"
        "Bcc: stays too"
    )
    recipients = ("x@Elsewhere.test", "bob@red.test", "Secret@elsewhere.test", "X@elsewhere.test")
    answer = await say_message(client, "ann@red.test", recipients, message)
    newest, rows, raw = await submitted(site)
    assert answer == f"250 2.0.0 Kept as {newest.queue_id}"
    assert (newest.source, newest.status, newest.sender, newest.envelope_sender) == (
        "smtp", "submitted", "sales@red.test", "ann@red.test",
    )  # fmt: skip
    assert newest.subject == "Grüße"
    assert [(row.kind, row.address) for row in rows] == [
        ("to", "x@elsewhere.test"), ("cc", "bob@red.test"), ("bcc", "Secret@elsewhere.test"),
    ]  # fmt: skip
    header, _, body = raw.partition(b"\r\n\r\n")
    names = [line.partition(b":")[0] for line in header.split(b"\r\n") if not line.startswith((b" ", b"\t"))]
    assert names == [b"Received", b"Date", b"Message-ID", b"From", b"To", b"Cc", b"Subject", b"X-Bcc"]
    assert f"Message-ID: <{newest.public_id}@red.test>".encode() in header
    assert newest.message_id_header == f"<{newest.public_id}@red.test>"
    assert str(newest.queue_id).encode() in header
    assert body == b"Bcc: stays too\r\n"
    folder = await site.rt.db.read(folders.get_folder, site.ann.account_id, site.ann.id, "Sent")
    (copy,) = await site.rt.db.read(messages.list_page, site.ann.account_id, folder.id, limit=9)
    assert (copy.subject, copy.flags) == ("Grüße", ("\\Seen",))
    await client.quit()


async def test_what_is_there_stays(site: Site) -> None:
    client = await connect(site.submission, "ann@red.test")
    header = "From: ann@red.test\nDate: Sat, 21 Nov 2026 10:00:00 +0000\nMessage-ID: <mine@red.test>\n"
    assert (await say_message(client, "", ("x@elsewhere.test",), header + "\ntext")).startswith("250 ")
    newest, _, raw = await submitted(site)
    assert (newest.envelope_sender, newest.sender) == ("", "ann@red.test")
    assert newest.message_id_header == "<mine@red.test>"
    assert raw.endswith(header.replace("\n", "\r\n").encode() + b"\r\ntext\r\n")
    assert raw.lower().count(b"\r\nmessage-id:") == 1
    await client.quit()


async def test_a_message_without_a_header_gets_one(site: Site) -> None:
    client = await connect(site.submission, "ann@red.test")
    assert (await say_message(client, "ann@red.test", ("x@elsewhere.test",), "no header at all")).startswith("250 ")
    _, _, raw = await submitted(site)
    header, _, body = raw.partition(b"\r\n\r\n")
    assert b"\r\nFrom: ann@red.test\r\n" in header
    assert body == b"no header at all\r\n"
    await client.quit()


@pytest.mark.parametrize(
    ("sender", "header", "expected"),
    [
        ("ann@red.test", "From: bob@red.test", "553 5.7.1"),
        ("ann@red.test", "From: ann@red.test, bob@red.test", "553 5.7.1"),
        ("ann@red.test", "From: x@elsewhere.test", "550 5.7.1"),
        ("ann@red.test", "From: eve@blue.test", "550 5.7.1"),
        ("ann@red.test", "From: ann@red.test\nFrom: x@elsewhere.test", "550 5.6.0"),
        ("ann@red.test", "From : x@elsewhere.test", "550 5.7.1"),
        ("ann@red.test", "From: nobody", "550 5.6.0"),
        ("ann@red.test", "From:", "550 5.6.0"),
        ("ann@red.test", "From: " + ", ".join(f"a{number}@red.test" for number in range(11)), "550 5.6.0"),
        ("", "Subject: who?", "550 5.6.0"),
    ],
)
async def test_from_is_an_address_of_the_login_too(site: Site, sender: str, header: str, expected: str) -> None:
    client = await connect(site.submission, "ann@red.test")
    assert (await say_message(client, sender, ("x@elsewhere.test",), header + "\n\ntext")).startswith(expected)
    page = await site.rt.db.read(tracking.list_page, site.ann.account_id, Query())
    assert page.total == 0
    await client.quit()


async def test_a_domain_that_lost_its_approval_sends_no_more(site: Site) -> None:
    client = await connect(site.submission, "ann@red.test")
    assert (await client.say("MAIL FROM:<ann@red.test>")).startswith("250 ")
    assert (await client.say("RCPT TO:<x@elsewhere.test>")).startswith("250 ")
    await site.rt.db.write(accounts.suspend, site.ann.account_id, site.rt.clock.now())
    assert (await client.say("DATA")).startswith("354 ")
    assert (await client.say("From: ann@red.test\r\n\r\nx\r\n.")).startswith("550 5.7.1")
    await client.quit()


@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is not installed")
@pytest.mark.parametrize("options", [[], ["--pipeline"], ["--tls"], ["--tls", "--pipeline"]])
async def test_swaks(site: Site, options: list[str]) -> None:
    arguments = ["--server", f"127.0.0.1:{site.reception.port}", "--from", "x@elsewhere.test", "--to", "ann@red.test"]
    process = await asyncio.create_subprocess_exec(
        "swaks", *arguments, *options, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    assert b"250 2.0.0 Kept as " in output
    assert b"This is a test mailing" in await _received(site)


@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is not installed")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_swaks_logs_in(site: Site, mechanism: str) -> None:
    arguments = ["--server", f"127.0.0.1:{site.submission.port}", "--from", "ann@red.test", "--to", "bob@red.test"]
    arguments += ["--tls", "--auth", mechanism, "--auth-user", "ann@red.test", "--auth-password", PASSWORD]
    process = await asyncio.create_subprocess_exec(
        "swaks", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()


async def test_an_address_of_ours_that_leads_nowhere_is_refused_at_once(site: Site) -> None:
    """What is full or switched off may be otherwise later, and other servers' addresses are not ours to know."""
    client = await connect(site.submission, "ann@red.test")
    await client.say("MAIL FROM:<ann@red.test>")
    for recipient, reply in (
        ("nobody@red.test", "550 5.1.1"),
        ("ann+tag@red.test", "250 "),
        ("anything@blue.test", "250 "),
        ("x@elsewhere.test", "250 "),
    ):
        assert (await client.say(f"RCPT TO:<{recipient}>")).startswith(reply), recipient
    await client.quit()


async def test_a_message_that_was_here_before_is_a_loop(site: Site) -> None:
    client = await connect(site.reception)
    await client.say("MAIL FROM:<x@elsewhere.test>")
    await client.say("RCPT TO:<ann@red.test>")
    assert (await client.say("DATA")).startswith("354 ")
    assert (await client.say("Delivered-To: ann@red.test\r\n\r\nx\r\n.")).startswith("554 5.4.6")
    await client.quit()


async def test_what_several_peers_send_at_a_time_is_examined_together(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From DATA to the answer a message is expected; one whose peer goes away no longer is."""
    monkeypatch.setattr(intake, "WAIT_SECONDS", 3600.0)
    seen: list[int] = []

    def examine(messages: Sequence[Incoming]) -> list[Examined]:
        seen.append(len(messages))
        return storing.examine_all(4096, messages)

    monkeypatch.setattr(site.rt.intake, "_examine", examine)
    gone, *clients = [await connect(site.reception) for _ in range(5)]
    for client in (gone, *clients):
        for line in ("MAIL FROM:<x@elsewhere.test>", "RCPT TO:<ann@red.test>"):
            assert (await client.say(line)).startswith("250 ")
        assert (await client.say("DATA")).startswith("354 ")
    assert site.rt.intake._expected == 5
    await gone.close()
    async with asyncio.timeout(60):
        while site.rt.intake._expected == 5:  # noqa: ASYNC110 - nothing tells when it falls
            await asyncio.sleep(0.01)
    answers = await asyncio.gather(*(client.say("Subject: x\r\n\r\ntext\r\n.") for client in clients))
    assert all(answer.startswith("250 ") for answer in answers)
    assert (seen[0], sum(seen)) == (2, 4)
    for client in clients:
        await client.quit()
    assert site.rt.intake._expected == 0


async def test_refusals_count_for_domains_of_ours(site: Site) -> None:
    """Unknown and disabled addresses, and messages refused for good; no strangers, no temporary refusals, no logins."""
    for recipient in RECIPIENTS:
        for listener, login in ((site.reception, None), (site.submission, "ann@red.test")):
            client = await connect(listener, login)
            await client.say("MAIL FROM:<ann@red.test>")
            await client.say(f"RCPT TO:<{recipient}>")
            await client.quit()
    assert site.reception.take_refused() == {"red.test": 4}
    assert site.reception.take_refused() == {}
    client = await connect(site.reception)
    for body in ("Delivered-To: ann@red.test\r\n\r\nx\r\n.", "Subject: bare\n\r\n\r\nx\r\n."):
        await client.say("MAIL FROM:<x@elsewhere.test>")
        await client.say("RCPT TO:<ann@red.test>")
        await client.say("RCPT TO:<anything@blue.test>")
        assert (await client.say("DATA")).startswith("354 ")
        assert (await client.say(body)).startswith("5")
    await client.close()
    assert site.reception.take_refused() == {"red.test": 2, "blue.test": 2}
    assert site.submission.take_refused() == {}


async def test_messages_that_are_too_large_count_as_refused(site: Site) -> None:
    limit = Settings("mail.example.test", site.rt.config.data_dir).limits.max_message_bytes
    client = await connect(site.reception)
    await client.say("MAIL FROM:<x@elsewhere.test>")
    await client.say("RCPT TO:<ann@red.test>")
    assert (await client.say(f"BDAT {limit + DRAIN_BYTES + 1} LAST")).startswith("552 ")
    await client.close()
    assert site.reception.take_refused() == {"red.test": 1}
