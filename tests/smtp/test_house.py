"""Sessions over the real house: who may send to whom on which port, and real programs as clients."""

import asyncio
import re
import shutil
import smtplib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from restante.core import accounts, domains, folders, mailboxes, messages
from restante.core.mailboxes import Mailbox
from restante.net import certificates
from restante.runtime import Runtime
from restante.schema.connections import ReadConn
from restante.services import authentication, retrieval
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
        while (line := await asyncio.wait_for(self._reader.readline(), 20))[3:4] == b"-":
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


@pytest.mark.parametrize("login", [None, "ann@red.test", "eve@blue.test"])
async def test_only_our_own_mailboxes_take_mail(site: Site, login: str | None) -> None:
    """The relay matrix: the answer to a recipient depends on neither the login nor the sender."""
    client = await connect(site.submission if login else site.reception, login)
    for sender in (login,) if login else ("", "x@elsewhere.test", "ann@red.test", "ceo@peer.test"):
        assert (await client.say(f"MAIL FROM:<{sender}> SIZE=1000")).startswith("250 ")
        for recipient, expected in RECIPIENTS.items():
            answer = await client.say(f"RCPT TO:<{recipient}>")
            assert answer.startswith(expected), recipient
            if expected.startswith("5"):  # refusals are counted
                await client.quit()
                client = await connect(site.submission if login else site.reception, login)
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
        ("ann@red.test", "eve@blue.test", "553 5.7.1"),
        ("ann@red.test", "x@elsewhere.test", "553 5.7.1"),
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


async def test_smtplib_over_tls(site: Site) -> None:
    message = b"Subject: x\r\n\r\none\r\n.\r\n..two\r\n" + b"long " * 500 + b"\r\n"

    def send() -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP("127.0.0.1", site.submission.port, timeout=20) as client:
            client.starttls(context=ssl._create_unverified_context())
            client.login("ann@red.test", PASSWORD)
            return client.sendmail("ann@red.test", ["sales@red.test"], message)

    assert await asyncio.to_thread(send) == {}
    raw = await _received(site)
    assert raw.endswith(b"\r\n" + message)
    assert b"with ESMTPSA (TLSv1." in re.sub(rb"\r\n[ \t]+", b" ", raw)
    assert raw.startswith(b"Return-Path: <ann@red.test>\r\nDelivered-To: ann@red.test\r\nReceived: from ")


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


async def test_a_message_that_was_here_before_is_a_loop(site: Site) -> None:
    client = await connect(site.reception)
    await client.say("MAIL FROM:<x@elsewhere.test>")
    await client.say("RCPT TO:<ann@red.test>")
    assert (await client.say("DATA")).startswith("354 ")
    assert (await client.say("Delivered-To: ann@red.test\r\n\r\nx\r\n.")).startswith("554 5.4.6")
    await client.quit()


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
