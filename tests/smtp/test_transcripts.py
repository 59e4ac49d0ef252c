"""Whole conversations with the real listener on a free port: ``C:`` is sent, ``S:`` is expected (as a prefix)."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from restante import clock
from restante.core.routing import Route
from restante.net import certificates
from restante.services.reception import Envelope, Receipt, Source
from restante.smtp.reception import Reception
from restante.smtp.server import Listener, listen
from restante.smtp.submission import Submission
from restante.storage.spool import Buffer
from tests.smtp.dialogue import MemoryBackend, settings

Open = Callable[..., Awaitable[Listener]]


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
async def opened(tmp_path: Path, backend: MemoryBackend) -> AsyncIterator[Open]:
    listeners = []

    async def start(*, submission: bool = False, tls: ssl.SSLContext | None = None, **limits: int) -> Listener:
        policy = Submission() if submission else Reception()
        listener = await listen(settings(tmp_path, **limits), policy, backend, "127.0.0.1", 0, tls=tls)
        listeners.append(listener)
        return listener

    yield start
    for listener in listeners:
        await listener.close(0)


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    return certificates.server_context(*certificates.ensure(tmp_path, "mx.example.test", clock.now()))


async def play(port: int, script: str) -> None:
    """Run a transcript. Consecutive ``C:`` lines go out in one segment; ``S: EOF`` is the closed connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    pending = b""
    for number, line in enumerate(script.strip().splitlines(), 1):
        kind, _, text = line.strip().partition(": ") if ": " in line else (line.strip().rstrip(":"), "", "")
        if kind == "C":
            pending += text.encode("utf-8").decode("unicode_escape").encode("latin-1") + b"\r\n"
            continue
        if pending:
            writer.write(pending)
            pending = b""
        got = await asyncio.wait_for(reader.readline(), 60)
        expected = b"" if text == "EOF" else text.encode()
        place = f"line {number}: {line} {got!r}"
        assert got.startswith(expected), place
        assert bool(got) == bool(expected), place
    writer.close()
    await writer.wait_closed()


async def test_a_message_is_received(opened: Open, backend: MemoryBackend) -> None:
    listener = await opened()
    await play(
        listener.port,
        """
        S: 220 mx.example.test ESMTP Restante
        C: EHLO client.test
        S: 250-mx.example.test
        S: 250-PIPELINING
        S: 250-SIZE 52428800
        S: 250-8BITMIME
        S: 250-SMTPUTF8
        S: 250-CHUNKING
        S: 250-ENHANCEDSTATUSCODES
        S: 250 HELP
        C: MAIL FROM:<bob@peer.test> SIZE=100 BODY=8BITMIME
        S: 250 2.1.0
        C: RCPT TO:<alice+tag@example.test>
        S: 250 2.1.5
        C: DATA
        S: 354 End the message
        C: Subject: hi
        C:
        C: ..dot
        C: .
        S: 250 2.0.0 Kept as receipt1
        C: QUIT
        S: 221 2.0.0
        S: EOF
        """,
    )
    envelope, source, raw = backend.messages[0]
    assert raw == b"Subject: hi\r\n\r\n.dot\r\n"
    assert (envelope.sender, envelope.body, envelope.smtputf8) == ("bob@peer.test", "8BITMIME", False)
    assert [route.mailbox_id for route in envelope.recipients] == [1]
    assert (source.peer, source.helo, source.protocol, source.tls) == ("127.0.0.1", "client.test", "ESMTP", None)
    assert listener.counters.messages_accepted == 1


class WaitingBackend(MemoryBackend):
    """Looks addresses up when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def route(self, address: str, size_bytes: int) -> tuple[Route, ...]:
        self.asked.set()
        await self.go.wait()
        return await super().route(address, size_bytes)


async def test_answers_before_one_that_waits_go_out_with_it(tmp_path: Path) -> None:
    """RFC 2920 §3.2: they are one unit; each segment of its own would cost both sides a wake-up."""
    backend = WaitingBackend()
    listener = await listen(settings(tmp_path), Reception(), backend, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"HELO c\r\n")
    await reader.readline()
    await reader.readline()
    writer.write(b"MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n")
    await asyncio.wait_for(backend.asked.wait(), 60)
    backend.go.set()
    together = await asyncio.wait_for(reader.read(4096), 60)
    assert [line[:3] for line in together.splitlines()] == [b"250", b"250", b"354"]
    writer.close()
    await listener.close(0)


async def test_pipelined_commands_are_answered_in_order(opened: Open, backend: MemoryBackend) -> None:
    listener = await opened()
    await play(
        listener.port,
        """
        S: 220
        C: HELO c
        C: MAIL FROM:<>
        C: RCPT TO:<nobody@example.test>
        C: RCPT TO:<full@example.test>
        C: RCPT TO:<x@inactive.test>
        C: RCPT TO:<x@elsewhere.test>
        C: RCPT TO:<disabled@example.test>
        C: RCPT TO:<broken@example.test>
        C: RCPT TO:<bug@example.test>
        C: RCPT TO:<postmaster>
        C: RCPT TO:<@relay.test,@b.test:"bob"@example.test>
        C: DATA
        C: one
        C: .
        C: MAIL FROM:<second@peer.test>
        C: RCPT TO:<bob@example.test>
        C: DATA
        C: two
        C: .
        C: QUIT
        S: 250 mx.example.test
        S: 250 2.1.0
        S: 550 5.1.1
        S: 452 4.2.2
        S: 550 5.7.1
        S: 550 5.7.1 relaying denied
        S: 550 5.2.1
        S: 451 4.3.0
        S: 451 4.3.0 Temporary local problem
        S: 250 2.1.5
        S: 250 2.1.5
        S: 354
        S: 250 2.0.0 Kept as receipt1
        S: 250 2.1.0
        S: 250 2.1.5
        S: 354
        S: 250 2.0.0 Kept as receipt2
        S: 221
        S: EOF
        """,
    )
    assert [m[2] for m in backend.messages] == [b"one\r\n", b"two\r\n"]
    assert backend.messages[0][1].protocol == "SMTP"
    assert listener.counters.recipients_refused["550 5.7.1"] == 2


async def test_the_order_of_commands_is_kept_to(opened: Open) -> None:
    listener = await opened()
    await play(
        listener.port,
        """
        S: 220
        C: MAIL FROM:<a@b.test>
        S: 503 5.5.1
        C: RCPT TO:<alice@example.test>
        S: 503 5.5.1
        C: DATA
        S: 503 5.5.1
        C: EHLO
        S: 501 5.5.4
        C: HELO c
        S: 250
        C: MAIL FROM:<a@b.test> SIZE=1
        S: 555 5.5.4
        C: MAIL FROM:<a@b.test>
        S: 250
        C: MAIL FROM:<a@b.test>
        S: 503
        C: DATA
        S: 554 5.5.1
        C: RSET
        S: 250
        C: DATA
        S: 503
        C: VRFY alice
        S: 252
        C: EXPN list
        S: 502
        C: HELP
        S: 214-
        S: 214
        C: NOOP anything
        S: 250
        C: WHAT
        S: 500 5.5.1
        C: STARTTLS
        S: 502
        C: AUTH PLAIN
        S: 503
        C: QUIT now
        S: 501
        C: QUIT
        S: 221
        S: EOF
        """,
    )


async def test_chunks(opened: Open, backend: MemoryBackend) -> None:
    listener = await opened()
    await play(
        listener.port,
        """
        S: 220
        C: BDAT 3
        C: xEHLO c
        S: 503
        S: 500
        C: EHLO c
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250 HELP
        C: MAIL FROM:<a@b.test>
        C: RCPT TO:<alice@example.test>
        C: BDAT 7
        C: 12345
        C: BDAT 0
        C: BDAT 5 LAST
        C: .ab
        S: 250
        S: 250
        S: 250 2.0.0 Chunk
        S: 250 2.0.0 Chunk
        S: 250 2.0.0 Kept as receipt1
        C: MAIL FROM:<a@b.test>
        C: RCPT TO:<alice@example.test>
        C: BDAT 3
        C: z
        C: DATA
        C: RCPT TO:<bob@example.test>
        C: RSET
        S: 250
        S: 250
        S: 250
        S: 503 5.5.1
        S: 503 5.5.1
        S: 250
        C: MAIL FROM:<a@b.test>
        C: RCPT TO:<alice@example.test>
        C: BDAT 3
        C: z
        C: BDAT 0 LAST
        S: 250
        S: 250
        S: 250
        S: 250 2.0.0 Kept as receipt2
        C: MAIL FROM:<a@b.test>
        C: RCPT TO:<alice@example.test>
        C: BDAT 99999999
        S: 250
        S: 250
        S: 552 5.3.4
        S: EOF
        """,
    )
    assert [m[2] for m in backend.messages] == [b"12345\r\n.ab\r\n", b"z\r\n"]


async def test_a_chunk_whose_size_cannot_be_read_ends_the_connection(opened: Open) -> None:
    await play((await opened()).port, "S: 220\nC: BDAT all\nC: MAIL FROM:<a@b.test>\nS: 501\nS: EOF")


async def test_utf8_addresses(opened: Open, backend: MemoryBackend) -> None:
    listener = await opened()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(
        "EHLO c\r\nMAIL FROM:<jürgen@peer.test>\r\nMAIL FROM:<jürgen@peer.test> SMTPUTF8\r\n"
        "RCPT TO:<josé@example.test>\r\nDATA\r\nx\r\n.\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<josé@example.test>\r\n"
        "RSET\r\nMAIL FROM:<\udcff@peer.test> SMTPUTF8\r\nQUIT\r\n".encode("utf-8", "surrogateescape")
    )
    codes = [line[:9] for line in (await reader.read(-1)).split(b"\r\n") if line[3:4] == b" "][2:]
    writer.close()
    expected = "553 5.6.7|250 2.1.0|250 2.1.5|354 End t|250 2.0.0|250 2.1.0|553 5.6.7|250 2.0.0|501 5.5.2|221 2.0.0"
    assert b"|".join(codes).decode() == expected
    assert backend.messages[0][0].sender == "jürgen@peer.test"
    assert backend.messages[0][0].smtputf8
    assert backend.messages[0][1].protocol == "UTF8SMTP"


async def test_a_browser_is_turned_away(opened: Open, backend: MemoryBackend) -> None:
    script = "S: 220\nC: POST / HTTP/1.1\nC: EHLO c\nC: MAIL FROM:<a@b.test>\nS: 554\nS: EOF"
    await play((await opened()).port, script)


async def test_submission_needs_a_login_and_its_own_sender(opened: Open, backend: MemoryBackend) -> None:
    listener = await opened(submission=True)
    await play(
        listener.port,
        """
        S: 220
        C: EHLO c
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-AUTH PLAIN LOGIN
        S: 250 HELP
        C: MAIL FROM:<alice@example.test>
        S: 530 5.7.0
        C: AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=
        S: 235 2.7.0
        C: AUTH PLAIN
        S: 503
        C: MAIL FROM:<bob@example.test>
        S: 553 5.7.1
        C: MAIL FROM:<nobody@example.test>
        S: 553 5.7.1
        C: MAIL FROM:<x@elsewhere.test>
        S: 553 5.7.1
        C: MAIL FROM:<sales@example.test> AUTH=<>
        S: 250 2.1.0
        C: RCPT TO:<x@[127.0.0.1]>
        S: 553 5.1.3
        C: RCPT TO:<x@elsewhere.test>
        S: 250 2.1.5
        C: RCPT TO:<bob@example.test>
        S: 250 2.1.5
        C: DATA
        S: 354
        C: x
        C: .
        S: 250 2.0.0
        C: MAIL FROM:<>
        S: 250
        C: QUIT
        S: 221
        S: EOF
        """,
    )
    assert backend.submitted == [("sales@example.test", ("x@elsewhere.test", "bob@example.test"))]
    assert backend.messages[0][1].login == "alice@example.test"
    assert backend.messages[0][1].protocol == "ESMTPA"


async def test_login_in_steps_and_failures(opened: Open) -> None:
    listener = await opened(submission=True)
    await play(
        listener.port,
        """
        S: 220
        C: AUTH PLAIN
        S: 503
        C: HELO c
        S: 250
        C: AUTH PLAIN
        S: 503
        C: EHLO c
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250 HELP
        C: AUTH CRAM-MD5
        S: 504 5.5.4
        C: AUTH PLAIN !!!
        S: 501 5.5.2
        C: AUTH PLAIN =
        S: 501 5.5.2
        C: AUTH LOGIN
        S: 334 VXNlcm5hbWU6
        C: *
        S: 501 5.7.0
        C: AUTH LOGIN bGltaXRlZA==
        S: 334 UGFzc3dvcmQ6
        C: eA==
        S: 454 4.7.0
        C: AUTH PLAIN
        S: 334
        C: AGFsaWNlAHdyb25n
        S: 535 5.7.8
        C: AUTH PLAIN AGFsaWNlAHdyb25n
        S: 535 5.7.8
        S: 421 4.7.0
        S: EOF
        """,
    )
    assert listener.counters.logins_refused == 3


async def upgrade(port: int, tail: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """EHLO, STARTTLS (with ``tail`` in the same segment) and the handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()
    writer.write(b"EHLO plain\r\n")
    while (await reader.readline())[3:4] == b"-":
        pass
    writer.write(b"STARTTLS\r\n" + tail)
    assert (await reader.readline()).startswith(b"220 2.0.0 ")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    await writer.start_tls(context)
    return reader, writer


async def test_starttls_drops_what_was_sent_in_the_clear(
    opened: Open, backend: MemoryBackend, tls: ssl.SSLContext
) -> None:
    listener = await opened(submission=True, tls=tls)
    injected = b"EHLO evil\r\nAUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=\r\nMAIL FROM:<alice@example.test>\r\n"
    reader, writer = await upgrade(listener.port, injected)
    writer.write(b"MAIL FROM:<alice@example.test>\r\nNOOP\r\nSTARTTLS\r\nEHLO tls\r\n")
    lines = [await reader.readline() for _ in range(12)]
    assert lines[0].startswith(b"503 5.5.1 Say EHLO")  # the EHLO before TLS is forgotten
    assert lines[1].startswith(b"250 ")
    assert lines[2].startswith(b"503 ")
    assert b"STARTTLS" not in b"".join(lines[3:])
    assert lines[-2:] == [b"250-AUTH PLAIN LOGIN\r\n", b"250 HELP\r\n"]
    writer.write(b"AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=\r\n")
    assert (await reader.readline()).startswith(b"235 ")
    writer.write(b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n")
    assert [(await reader.readline())[:3] for _ in range(5)] == [b"250", b"250", b"354", b"250", b"221"]
    assert await reader.read() == b""
    writer.close()
    source = backend.messages[0][1]
    assert source.protocol == "ESMTPSA"
    assert source.tls is not None
    assert source.tls.startswith("TLSv1.")
    assert len(backend.messages) == 1


async def test_a_failed_handshake_frees_the_connection(opened: Open, tls: ssl.SSLContext) -> None:
    listener = await opened(tls=tls)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    await reader.readline()
    writer.write(b"STARTTLS\r\n")
    assert (await reader.readline()).startswith(b"220 ")
    writer.write(b"EHLO this is no handshake\r\n")
    assert b"250" not in await reader.read()
    writer.close()
    assert listener.counters.connections_open == 0


async def test_connections_are_limited(opened: Open) -> None:
    listener = await opened(max_connections=1)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    assert (await reader.readline()).startswith(b"220 ")
    await play(listener.port, "S: 421 4.7.0\nS: EOF")
    writer.write(b"QUIT\r\n")
    assert (await reader.read()).startswith(b"221 ")
    writer.close()
    await play(listener.port, "S: 220\nC: QUIT\nS: 221\nS: EOF")
    assert listener.counters.connections_refused == 1


async def test_closing_lets_a_message_finish(opened: Open, backend: MemoryBackend) -> None:
    listener = await opened()
    idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", listener.port)
    await idle_reader.readline()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    await reader.readline()
    writer.write(b"HELO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nhalf")
    for _ in range(4):
        await reader.readline()
    closing = asyncio.create_task(listener.close(60))
    assert (await idle_reader.read()).startswith(b"421 4.3.2 ")
    writer.write(b" and half\r\n.\r\nMAIL FROM:<next@b.test>\r\n")
    replies = await reader.read()
    assert replies.startswith(b"250 2.0.0 Kept as receipt1\r\n")
    assert replies.endswith(b"421 4.3.2 Shutting down, try again later\r\n")
    await closing
    assert [m[2] for m in backend.messages] == [b"half and half\r\n"]
    idle_writer.close()
    writer.close()
    with pytest.raises(OSError):  # noqa: PT011 - refused or reset, as the system likes
        await asyncio.open_connection("127.0.0.1", listener.port if listener._server.sockets else 1)


async def test_a_half_closed_peer_gets_its_answers(opened: Open, backend: MemoryBackend) -> None:
    listener = await opened()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"HELO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n")
    writer.write_eof()
    assert b"250 2.0.0 Kept as receipt1\r\n221 " in await reader.read()
    writer.close()
    assert len(backend.messages) == 1


async def test_a_large_message_goes_through_a_file(opened: Open, backend: MemoryBackend, tmp_path: Path) -> None:
    listener = await opened()
    body = b"".join(b".%07d and some text that fills the line\r\n" % i for i in range(100_000))
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"HELO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n")
    writer.write(body.replace(b"\r\n.", b"\r\n..").replace(b".", b"..", 1) + b".\r\nQUIT\r\n")
    assert b"250 2.0.0 Kept as receipt1\r\n221 " in await reader.read()
    writer.close()
    assert backend.messages[0][2] == body
    assert not any(files for _, _, files in os.walk(tmp_path))  # the file has no name


async def test_the_listener_keeps_the_time(opened: Open) -> None:
    listener = await opened(command_timeout_seconds=1)
    await play(listener.port, "S: 220\nS: 421 4.4.2\nS: EOF")
    assert listener.counters.connections_open == 0


async def test_a_flood_of_recipients_in_one_segment_is_answered_in_order(opened: Open) -> None:
    listener = await opened(max_recipients=1000)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"HELO c\r\nMAIL FROM:<a@b.test>\r\n" + b"RCPT TO:<alice@example.test>\r\n" * 5000 + b"QUIT\r\n")
    replies = (await reader.read()).splitlines()
    writer.close()
    assert [line[:9] for line in replies[3:-1]] == [b"250 2.1.5"] * 1000 + [b"452 4.5.3"] * 4000
    assert replies[-1].startswith(b"221 ")


async def test_a_peer_that_leaves_during_delivery_loses_nothing(
    opened: Open, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = await opened()
    arrived, go = asyncio.Event(), asyncio.Event()
    plain = backend.receive

    async def slow(envelope: Envelope, source: Source, raw: Buffer) -> Receipt:
        arrived.set()
        await go.wait()
        return await plain(envelope, source, raw)

    monkeypatch.setattr(backend, "receive", slow)
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"HELO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nx\r\n.\r\nNOOP\r\n")
    await arrived.wait()
    writer.transport.abort()
    go.set()
    while listener.counters.connections_open:  # noqa: ASYNC110 - nobody tells when a peer is gone
        await asyncio.sleep(0.01)
    assert [m[2] for m in backend.messages] == [b"x\r\n"]


async def test_a_flooding_peer_is_not_read_while_a_message_is_stored(
    opened: Open, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = await opened()
    arrived, go = asyncio.Event(), asyncio.Event()
    plain = backend.receive

    async def slow(envelope: Envelope, source: Source, raw: Buffer) -> Receipt:
        arrived.set()
        await go.wait()
        return await plain(envelope, source, raw)

    monkeypatch.setattr(backend, "receive", slow)
    envelope = b"HELO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@example.test>\r\n"
    flood = envelope + b"DATA\r\nx\r\n.\r\nNOOP " + b"x" * 64_000_000 + b"\r\n"
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", listener.port)) as peer:
        peer.setblocking(False)
        # not a stream: that would drop the last answers when sending fails, as it does once the server has hung up
        sending = asyncio.create_task(loop.sock_sendall(peer, flood))
        await arrived.wait()
        await asyncio.sleep(0.3)
        held = listener.counters.bytes_received
        assert held < 2_000_000  # the rest waits in the peer's own memory
        go.set()
        said = b""
        while b"\r\n421 " not in said and (more := await loop.sock_recv(peer, 65536)):
            said += more
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    lines = said.split(b"\r\n")
    assert lines[5].startswith(b"250 2.0.0 Kept as receipt1")
    assert lines[6].startswith(b"421 ")
