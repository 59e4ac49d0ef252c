"""The SMTP client: one connection to another server, and messages handed over on it (RFC 5321, 2920, 3207, 4954).

Nothing here knows queues or tables: a message goes in, a ``Result`` for each recipient comes out. ``Lost`` says that
the session ended before the server had the whole message, so that another host may be tried without a second copy.
"""

import asyncio
import base64
import contextlib
import os
import ssl
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, NoReturn, cast

from restante.errors import Invalid
from restante.mail.structure import Buffer
from restante.wire import smtp
from restante.wire.smtp import Reply

Status = Literal["sent", "deferred", "bounced"]
TlsMode = Literal["opportunistic", "required", "implicit", "none"]

MAX_PIPELINED = 100  # recipients in one transaction: a server must take so many (RFC 5321 §4.5.3.1.8)
MAX_RESPONSE = 1000  # characters kept of what a server answered
MAX_EARLY_REPLIES = 2 * MAX_PIPELINED + 10  # replies that wait to be read; more is flooding
LAST_WORD_SECONDS = 2.0  # for the answer to a whole message when this server is ending
HIGH_WATER = 256 * 1024  # bytes that may wait to be sent


class Result(NamedTuple):
    """What became of one recipient. ``response`` is what the server said, or what kept us from asking it."""

    status: Status
    dsn_code: str
    response: str
    remote_mta: str | None = None
    tls: str | None = None


class Endpoint(NamedTuple):
    """One address of one host."""

    host: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Login:
    """For a smarthost that wants one."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait in each step (RFC 5321 §4.5.3.2)."""

    connect: float = 30.0
    greeting: float = 300.0
    command: float = 300.0
    data_start: float = 120.0
    data_block: float = 180.0
    data_end: float = 600.0

    def scaled(self, command: float) -> "Timeouts":
        """All of them longer or shorter, so that a command has ``command`` seconds."""
        factor = command / self.command
        return Timeouts(
            self.connect * factor,
            self.greeting * factor,
            self.command * factor,
            self.data_start * factor,
            self.data_block * factor,
            self.data_end * factor,
        )


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message for some recipients at one host. ``raw`` has CRLF line ends; "" is the null sender."""

    sender: str
    recipients: tuple[str, ...]
    raw: Buffer
    is_8bit: bool = False
    needs_smtputf8: bool = False


class Lost(Exception):
    """The session is over and the server has not taken the message; ``result`` is what that means for it."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.response)
        self.result = result


class TlsFailed(Lost):
    """The handshake after STARTTLS came to nothing."""


def result_of(reply: Reply, host: str, tls: str | None = None) -> Result:
    """A final reply as a result: 2xx sent, 5xx bounced, anything else deferred; the code when no enhanced one came."""
    status: Status = "sent" if reply.code < 300 else "bounced" if reply.code >= 500 else "deferred"
    code = reply.enhanced or {"sent": "2.0.0", "bounced": "5.0.0", "deferred": "4.0.0"}[status]
    text = " ".join(part for part in (str(reply.code), reply.enhanced, reply.text.replace("\n", " ")) if part)
    return Result(status, code, text[:MAX_RESPONSE], host, tls)


class _Wire(asyncio.Protocol):
    """Bytes to replies and back, with flow control; no opinion about what is said."""

    def __init__(self) -> None:
        self._parser = smtp.ReplyParser()
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._fault: str | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.transport.set_write_buffer_limits(high=HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        try:
            self._replies.extend(self._parser.feed(data))
            if len(self._replies) > MAX_EARLY_REPLIES:
                raise smtp.ReplyError("more replies than commands")
        except smtp.ReplyError as error:
            self.break_off(str(error))
        self._wake()

    def eof_received(self) -> None:
        self.break_off("the server closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        self.break_off(f"the connection broke: {exc}" if exc else "the server closed the connection")

    def pause_writing(self) -> None:
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def break_off(self, reason: str) -> None:
        """End the connection; whoever waits is told the first reason."""
        self._fault = self._fault or reason
        if self.transport is not None:
            self.transport.abort()
        self.resume_writing()
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    @property
    def is_open(self) -> bool:
        """Whether commands may be sent; a reply that nobody asked for (421 of a server that goes) closes too."""
        return self._fault is None and self._parser.is_empty and not self._replies

    def write(self, data: bytes) -> None:
        if self.transport is None or self._fault is not None:
            raise ConnectionError(self._fault or "not connected")
        self.transport.write(data)

    async def drain(self, seconds: float) -> None:
        """Wait until there is room for more. Raises TimeoutError, ConnectionError."""
        if self._room is not None:
            async with asyncio.timeout(seconds):
                await self._room
        if self._fault is not None:
            raise ConnectionError(self._fault)

    async def reply(self, seconds: float) -> Reply:
        """The next reply. Raises TimeoutError, ConnectionError."""
        if not self._replies:
            async with asyncio.timeout(seconds):
                while not self._replies:
                    if self._fault is not None:
                        raise ConnectionError(self._fault)
                    self._waiter = asyncio.get_running_loop().create_future()
                    await self._waiter
        return self._replies.popleft()

    async def start_tls(self, context: ssl.SSLContext, name: str, seconds: float) -> None:
        """The handshake. What came in clear after the reply to STARTTLS is an attack (RFC 3207 §5): ConnectionError."""
        if not self.is_open:
            raise ConnectionError("the server sent more before TLS began")
        assert self.transport is not None
        loop = asyncio.get_running_loop()
        found = await loop.start_tls(
            self.transport, self, context, server_hostname=name, ssl_handshake_timeout=max(seconds, 0.01)
        )
        if found is None:
            raise ConnectionError("the connection closed in the TLS handshake")
        self.transport = found
        found.set_write_buffer_limits(high=HIGH_WATER)


class Session:
    """A connection that has said hello; made by ``connect``. Use one message at a time."""

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts) -> None:
        self.endpoint = endpoint
        self.offered: dict[str, str] = {}
        self.peer_name = ""
        self.tls: str | None = None
        self.messages = 0
        self._timeouts = timeouts
        self._wire = _Wire()

    @property
    def is_open(self) -> bool:
        """Whether another message may be sent."""
        return self._wire.is_open

    async def open(self, tls: TlsMode, context: ssl.SSLContext | None, hello: str) -> None:
        """Connect and say hello, with TLS as asked for. Raises Lost."""
        loop = asyncio.get_running_loop()
        _, address, port = self.endpoint
        with self._losing("connect", self._timeouts.connect):
            async with asyncio.timeout(self._timeouts.connect):
                implicit = context if tls == "implicit" else None
                name = self.endpoint.host if implicit else None
                await loop.create_connection(lambda: self._wire, address, port, ssl=implicit, server_hostname=name)
        if tls == "implicit":
            self._note_tls()
        greeting = await self._reply("greeting", self._timeouts.greeting)
        if greeting.code != 220:
            self._give_up(greeting)
        await self._hello(hello)
        if tls in ("opportunistic", "required") and "STARTTLS" in self.offered:
            assert context is not None
            await self._start_tls(context, hello, is_required=tls == "required")
        elif tls == "required":
            self._fail("5.7.10", "the server does not offer TLS, which is required here", "deferred")

    async def _hello(self, hello: str) -> None:
        """EHLO, then HELO for servers of before 1995 (RFC 5321 §3.2)."""
        reply = await self._ask(smtp.command("EHLO", hello))
        if reply.code == 250:
            self.offered = smtp.parse_ehlo(reply)
        elif reply.code // 100 == 5:
            self.offered = {}
            reply = await self._ask(smtp.command("HELO", hello))
        if reply.code != 250:
            self._give_up(reply)
        self.peer_name = reply.text.split("\n")[0].split(" ")[0].lower().rstrip(".")

    async def _start_tls(self, context: ssl.SSLContext, hello: str, *, is_required: bool) -> None:
        reply = await self._ask(smtp.command("STARTTLS"))
        if reply.code != 220:
            if is_required:
                self._give_up(reply)
            return  # a server that offers what it has not: go on in clear
        try:
            with self._losing("STARTTLS", self._timeouts.command):
                await self._wire.start_tls(context, self.endpoint.host, self._timeouts.command)
        except Lost as lost:
            raise TlsFailed(lost.result) from lost
        self._note_tls()
        await self._hello(hello)  # what was offered before is forgotten (RFC 3207 §4.2)

    def _note_tls(self) -> None:
        assert self._wire.transport is not None
        cipher = self._wire.transport.get_extra_info("cipher")
        self.tls = f"{cipher[1]} {cipher[0]}" if cipher else "TLS"

    async def log_in(self, login: Login) -> None:
        """AUTH with PLAIN or LOGIN (RFC 4954). Raises Lost; a refused login defers: the operator may correct it."""
        mechanisms = self.offered.get("AUTH", "").upper().split()
        if "PLAIN" in mechanisms:
            secret = _base64(f"\0{login.username}\0{login.password}")
            reply = await self._ask(smtp.command("AUTH", "PLAIN", secret))
        elif "LOGIN" in mechanisms:
            reply = await self._ask(smtp.command("AUTH", "LOGIN"))
            for word in (login.username, login.password):
                if reply.code != 334:
                    break
                reply = await self._ask(smtp.command(_base64(word)))
        else:
            self._fail("4.7.0", "the server offers no login that we know")
        if reply.code != 235:
            self._fail("4.7.0", f"the login was refused: {reply.code} {reply.text}")

    async def send(self, mail: Outgoing) -> list[Result]:
        """Hand the message over; a result per recipient, in their order.

        Raises Lost as long as the server cannot have the message; after the final dot an answer that does not come
        is a deferral (RFC 5321 §4.5.3.2.6: such a message may arrive twice).
        """
        refusal = self._refusal(mail)
        if refusal is not None:
            return [refusal] * len(mail.recipients)
        self.messages += 1
        results: list[Result] = []
        for at in range(0, len(mail.recipients), MAX_PIPELINED):
            some = mail.recipients[at : at + MAX_PIPELINED]
            try:
                results += await self._transaction(mail, some)
            except Lost as lost:
                if not results:
                    raise
                left = len(mail.recipients) - at
                return results + [lost.result._replace(status="deferred")] * left
        return results

    def _refusal(self, mail: Outgoing) -> Result | None:
        """Why this server cannot take the message at all: known without asking."""
        limit = self.offered.get("SIZE", "")
        if limit.isascii() and limit.isdigit() and 0 < int(limit[:20]) < len(mail.raw):
            return self._result("bounced", "5.3.4", f"the server takes messages up to {limit[:20]} bytes")
        addresses = (mail.sender, *mail.recipients)
        if "SMTPUTF8" not in self.offered and not all(address.isascii() for address in addresses):
            return self._result("bounced", "5.6.7", "the server does not take addresses beyond ASCII (SMTPUTF8)")
        if mail.is_8bit and "8BITMIME" not in self.offered:  # RFC 6152 §3: convert, or treat as a permanent error
            return self._result("bounced", "5.6.3", "the server does not take 8-bit messages (8BITMIME)")
        return None

    def _mail_command(self, mail: Outgoing) -> bytes:
        parameters = []
        if "SIZE" in self.offered:
            parameters.append(f"SIZE={len(mail.raw)}")
        if mail.is_8bit:
            parameters.append("BODY=8BITMIME")
        if mail.needs_smtputf8 and "SMTPUTF8" in self.offered:
            parameters.append("SMTPUTF8")
        return smtp.mail_command(mail.sender, *parameters)

    async def _transaction(self, mail: Outgoing, recipients: tuple[str, ...]) -> list[Result]:
        """MAIL, RCPT, DATA and the message. RFC 2920 §3.1: together in one segment when the server offers that."""
        commands = [self._mail_command(mail), *(smtp.rcpt_command(each) for each in recipients)]
        timeout = self._timeouts.command
        if "PIPELINING" in self.offered:
            self._write(b"".join((*commands, b"DATA\r\n")))
            first, *rest = [await self._reply("MAIL", timeout) for _ in commands]
            data = await self._reply("DATA", self._timeouts.data_start)
            if not _is_taken(first):  # RCPT then fails for no reason of its own
                rest = [first] * len(recipients)
        else:
            first = await self._ask(commands[0])
            rest = [await self._ask(each) if _is_taken(first) else first for each in commands[1:]]
            if not any(_is_taken(each) for each in rest):
                await self._reset()
                return [self._judge(each) for each in rest]
            data = await self._ask(b"DATA\r\n", self._timeouts.data_start)
        if data.code // 100 == 3 and not any(_is_taken(each) for each in rest):
            self._write(b".\r\n")  # RFC 2920 §3.1: the server waits for a message, so it gets an empty one to refuse
            await self._reply("DATA", timeout)
        elif data.code // 100 == 3:
            data = await self._message(mail.raw)
        elif data.code < 400:
            self._fail("4.5.0", f"the server answered DATA with {data.code}")
        if not (_is_taken(data) and all(_is_taken(each) for each in rest)):
            await self._reset()
        return [self._judge(data if _is_taken(each) else each) for each in rest]

    async def _message(self, raw: Buffer) -> Reply:
        """The bytes and the final answer. Once the dot is on its way, silence is an answer too: 4.4.2."""
        try:
            for chunk in smtp.encode_data(raw):
                self._write(chunk)
                with self._losing("the message", self._timeouts.data_block):
                    await self._wire.drain(self._timeouts.data_block)
        except Invalid as error:
            self._wire.break_off(error.message)
            return Reply(554, "5.6.0", error.message)
        try:
            return await self._final_reply()
        except (TimeoutError, ConnectionError) as error:
            reason = str(error) or "no answer"
            self._wire.break_off(reason)
            return Reply(451, "4.4.2", f"after the whole message: {reason}; it may arrive twice")

    async def _final_reply(self) -> Reply:
        """The answer to the final dot. Whoever is cancelled here waits a moment more: the server has the message."""
        try:
            return await self._wire.reply(self._timeouts.data_end)
        except asyncio.CancelledError:
            return await self._wire.reply(min(LAST_WORD_SECONDS, self._timeouts.data_end))

    async def _reset(self) -> None:
        """Leave nothing of this transaction to the next; a connection that cannot is closed."""
        with contextlib.suppress(Lost):
            reply = await self._ask(smtp.command("RSET"))
            if reply.code != 250:
                self._wire.break_off("RSET was refused")

    async def quit(self) -> None:
        """Say goodbye and close; never raises for what the peer does."""
        with contextlib.suppress(ConnectionError, TimeoutError, smtp.ReplyError):
            if self._wire.is_open:
                self._wire.write(b"QUIT\r\n")
                await self._wire.reply(min(5.0, self._timeouts.command))
        self._wire.break_off("closed")

    def abort(self) -> None:
        """Close at once."""
        self._wire.break_off("closed")

    async def _ask(self, line: bytes, seconds: float | None = None) -> Reply:
        self._write(line)
        stage = line.split(b" ")[0].strip().decode("ascii", "replace")
        reply = await self._reply(stage if len(stage) < 10 else "AUTH", seconds or self._timeouts.command)
        if reply.code == 421:
            self._give_up(reply)
        return reply

    def _write(self, data: bytes) -> None:
        with self._losing("sending", 0):
            self._wire.write(data)

    async def _reply(self, stage: str, seconds: float) -> Reply:
        with self._losing(stage, seconds):
            reply = await self._wire.reply(seconds)
        if reply.code == 421:  # RFC 5321 §3.8: the server closes
            self._give_up(reply)
        return reply

    @contextlib.contextmanager
    def _losing(self, stage: str, seconds: float) -> Iterator[None]:
        """Turn what goes wrong with the connection into Lost."""
        try:
            yield
        except TimeoutError:
            self._fail("4.4.2", f"{stage}: no answer within {seconds:g} s")
        except (OSError, ssl.SSLError) as error:
            self._fail("4.4.1" if stage == "connect" else "4.4.2", f"{stage}: {_reason(error)}")

    def _fail(self, code: str, text: str, status: Status = "deferred") -> NoReturn:
        self._wire.break_off(text)
        raise Lost(self._result(status, code, text))

    def _give_up(self, reply: Reply) -> NoReturn:
        """The server wants no message from us on this connection, and said so."""
        self._wire.break_off("refused")
        raise Lost(self._judge(reply))

    def _judge(self, reply: Reply) -> Result:
        return result_of(reply, self.endpoint.host, self.tls)

    def _result(self, status: Status, code: str, text: str) -> Result:
        where = f"{self.endpoint.host}[{self.endpoint.address}]:{self.endpoint.port}"
        return Result(status, code, f"{where}: {text}"[:MAX_RESPONSE], self.endpoint.host, self.tls)


async def connect(
    endpoint: Endpoint,
    hello: str,
    timeouts: Timeouts,
    *,
    tls: TlsMode = "opportunistic",
    context: ssl.SSLContext | None = None,
    login: Login | None = None,
) -> Session:
    """A session that is ready for messages. Raises Lost.

    With ``opportunistic`` a failed handshake leads to a new connection in clear: RFC 3207 gives no protection against
    somebody in between anyway, and mail that waits for a broken certificate helps nobody.
    """
    session = Session(endpoint, timeouts)
    try:
        try:
            await session.open(tls, context, hello)
        except TlsFailed:
            if tls != "opportunistic":
                raise
            session = Session(endpoint, timeouts)
            await session.open("none", None, hello)
        if login is not None:
            await session.log_in(login)
    except BaseException:
        session.abort()
        raise
    return session


def opportunistic_context() -> ssl.SSLContext:
    """TLS that asks for no proof of identity (RFC 7435): better than clear text, and no reason to keep mail back."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _is_taken(reply: Reply) -> bool:
    return reply.code // 100 == 2  # RFC 5321 §4.3.2: the first digit decides


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
