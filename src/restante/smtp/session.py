"""One SMTP connection: one state machine for reception and submission (RFC 5321, 2920, 3030, 3207, 4954, 6531).

Bytes are scanned in the buffer they came in. A step reads one command line, or one piece of a message; a command that
has to ask the backend makes the session busy, and nothing behind it is looked at until its answer is written: replies
keep the order of the commands. While it is busy, or while the peer does not read, nothing more is read from the socket.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from restante import errors, log
from restante.core.access import Principal
from restante.smtp.backend import Source
from restante.smtp.errors import reply_for
from restante.smtp.port import HANDSHAKE_TIMEOUT_SECONDS, Port, count, is_loopback
from restante.smtp.transaction import DRAIN_BYTES, Transaction
from restante.storage.spool import Buffer
from restante.wire import sasl, smtp
from restante.wire.smtp import ProtocolError, Reply

_log = log.logger(__name__)

_OK = smtp.reply(250, "2.0.0", "Ok")
_SENDER_OK = smtp.reply(250, "2.1.0", "Sender ok")
_RECIPIENT_OK = smtp.reply(250, "2.1.5", "Recipient ok")
_GO_AHEAD = smtp.reply(354, "", "End the message with <CR><LF>.<CR><LF>")
_CANNOT_VERIFY = smtp.reply(252, "2.0.0", "Cannot verify, but will take mail and try")
_HELP = smtp.reply(214, "2.0.0", "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY STARTTLS AUTH", "See RFC 5321")
_BYE = Reply(221, "2.0.0", "Bye")
_TIMEOUT = Reply(421, "4.4.2", "Waited too long, closing the connection")
_SHUTDOWN = Reply(421, "4.3.2", "Shutting down, try again later")
_TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors, closing the connection")
_TOO_LARGE = Reply(552, "5.3.4", "The message is larger than allowed")
_NO_TRANSACTION = Reply(503, "5.5.1", "Say MAIL first")
_NO_RECIPIENT = Reply(554, "5.5.1", "No recipient was accepted")
_IN_MESSAGE = Reply(503, "5.5.1", "A message is being sent with BDAT")

_WEB_VERBS = frozenset(
    {b"GET", b"POST", b"PUT", b"HEAD", b"CONNECT", b"OPTIONS", b"DELETE", b"PATCH", b"TRACE", b"HOST:"}
)
MAX_SKIPPED = 64 * 1024


class Session(asyncio.Protocol):
    """The server's side of one connection."""

    __slots__ = (
        "_auth_failures",
        "_born",
        "_buffer",
        "_busy",
        "_chunk_fault",
        "_chunk_last",
        "_chunk_left",
        "_closed_at",
        "_decoder",
        "_eof",
        "_errors",
        "_exchange",
        "_extensions",
        "_helo",
        "_idle_commands",
        "_is_esmtp",
        "_login",
        "_messages",
        "_out",
        "_peer",
        "_port",
        "_position",
        "_principal",
        "_read_paused",
        "_running",
        "_skipped",
        "_step",
        "_task",
        "_tls",
        "_touched",
        "_transaction",
        "_transport",
        "_write_paused",
    )

    def __init__(self, port: Port) -> None:
        self._port = port
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)  # set before anything else is called
        self._peer = ""
        self._tls: str | None = None
        self._buffer = b""
        self._position = 0
        self._out: list[bytes] = []
        self._step: Callable[[], bool] = self._step_command
        self._task: object = None  # the loop itself holds tasks only weakly
        self._busy = self._running = self._eof = self._read_paused = self._write_paused = False
        self._closed_at: float | None = None
        self._born = self._touched = port.loop.time()
        self._errors = self._auth_failures = self._idle_commands = self._messages = self._skipped = 0
        self._principal: Principal | None = None
        self._login: str | None = None
        self._exchange: sasl.Exchange | None = None
        self._helo = ""
        self._is_esmtp = False
        self._extensions: frozenset[str] = frozenset()
        self._transaction: Transaction | None = None
        self._decoder = smtp.DataDecoder()
        self._chunk_left = 0
        self._chunk_last = False
        self._chunk_fault: Reply | None = None

    # --- the transport's side ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._peer = _peer(transport)
        refusal = self._port.admit(self, self._peer)
        if refusal is not None:
            self._hang_up(refusal)
        else:
            self._transport.write(self._port.greeting)

    def data_received(self, data: bytes) -> None:
        if self._closed_at is not None:
            return
        self._touched = self._port.loop.time()
        self._port.counters.bytes_received += len(data)
        self._buffer = self._buffer[self._position :] + data if self._buffer else data
        self._position = 0
        if self._busy or self._write_paused:
            self._pause_reading()
        else:
            self._run()

    def eof_received(self) -> bool:
        self._eof = True
        if not self._busy:
            self._run()
        # A half-closed peer still gets its answers; TLS has no half-open connections.
        return self._tls is None and self._closed_at is None

    def pause_writing(self) -> None:
        self._write_paused = True
        self._pause_reading()

    def resume_writing(self) -> None:
        self._write_paused = False
        if not self._busy:
            self._run()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed_at = self._port.loop.time()
        self._buffer = b""
        self._port.leave(self, self._peer)
        if not self._busy:  # otherwise the work under way still needs the bytes, and is let finish
            self._end_transaction()

    def check(self, now: float) -> None:
        """Apply the time limits; called about once a second by the listener."""
        if self._closed_at is not None:
            if now - self._closed_at > self._port.settings.linger_seconds:
                self._transport.abort()
            return
        if self._busy:
            return
        limits, transaction = self._port.limits, self._transaction
        if transaction is None or not transaction.is_receiving:
            if self._port.draining:
                self._hang_up(_SHUTDOWN)
            elif (
                now - self._touched > limits.command_timeout_seconds
                or now - self._born > limits.session_timeout_seconds
            ):
                self._hang_up(_TIMEOUT)
            return
        spent = now - transaction.started_at
        is_slow = (
            spent > self._port.settings.data_grace_seconds
            and transaction.size_bytes < spent * self._port.settings.min_data_rate
        )
        if (
            is_slow
            or now - self._touched > limits.data_timeout_seconds
            or now - self._born > limits.session_timeout_seconds
        ):
            self._hang_up(_TIMEOUT)

    def abort(self) -> None:
        """Cut the connection now."""
        self._transport.abort()

    # --- the machine ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._running:
            return  # a command answered without waiting: the loop below goes on with the next
        self._running = True
        try:
            while not (self._busy or self._write_paused) and self._position < len(self._buffer):
                if not self._step():
                    break
        except Exception:  # noqa: BLE001 - one broken session must not take the others along
            _log.exception("smtp_session_failed", peer=self._peer)
            self._hang_up(reply_for(RuntimeError(), "message"))
        finally:
            self._running = False
        self._flush()
        if self._busy or self._write_paused or self._closed_at is not None:
            return
        if self._position >= len(self._buffer):
            self._buffer, self._position = b"", 0
        if self._eof:
            self._close()
        elif self._port.draining and (self._transaction is None or not self._transaction.is_receiving):
            self._hang_up(_SHUTDOWN)
        elif self._read_paused:
            self._read_paused = False
            self._transport.resume_reading()

    def _begin(self, work: Awaitable[None]) -> None:
        """Wait for the backend; the session is busy until the work is done."""
        self._busy = True
        self._task = self._port.loop.create_task(self._work(work))

    async def _work(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception:  # noqa: BLE001 - see _run
            _log.exception("smtp_session_failed", peer=self._peer)
            self._hang_up(reply_for(RuntimeError(), "message"))
        finally:
            self._busy = False
            self._task = None
            self._touched = self._port.loop.time()
        if self._closed_at is None:
            self._run()
        else:
            self._end_transaction()

    def _flush(self) -> None:
        if self._out:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._transport.write(data)

    def _pause_reading(self) -> None:
        if not self._read_paused and self._closed_at is None:
            self._read_paused = True
            self._transport.pause_reading()

    def _hang_up(self, reply: Reply) -> None:
        """Say why and close. Whatever the peer has sent besides is dropped."""
        if self._closed_at is None:
            self._out.append(reply.encode())
            self._flush()
            self._close()

    def _close(self) -> None:
        self._closed_at = self._port.loop.time()
        self._buffer, self._position = b"", 0
        self._transport.close()
        if not self._busy:
            self._end_transaction()

    def _refuse(self, reply: Reply) -> None:
        """Answer with an error; too many of them end the connection."""
        self._errors += 1
        if self._errors > self._port.limits.max_errors:
            self._hang_up(_TOO_MANY_ERRORS)
        else:
            self._out.append(reply.encode())

    # --- command lines ----------------------------------------------------------------------------------------------

    def _read_line(self) -> bytes | None:
        """The next line without its end; None: it is not all here, or it was refused."""
        start = self._position
        end = self._buffer.find(b"\n", start, start + smtp.MAX_COMMAND_LINE)
        if end < 0:
            if len(self._buffer) - start >= smtp.MAX_COMMAND_LINE:
                self._skipped = 0
                self._exchange = None
                self._step = self._step_skip
            elif self._buffer.startswith(b"\x16\x03", start):  # a TLS client hello: it waits for TLS, not for a line
                self._hang_up(Reply(554, "5.5.1", "Use STARTTLS"))
            return None
        self._position = end + 1
        line = self._buffer[start:end]
        if not line.endswith(b"\r") or line.find(b"\r", 0, -1) >= 0:
            self._exchange = None
            self._step = self._step_command
            self._refuse(Reply(500, "5.5.2", "End lines with CR LF"))
            return None
        return line[:-1]

    def _step_skip(self) -> bool:
        """Drop the rest of a line that is too long, then answer it."""
        end = self._buffer.find(b"\n", self._position)
        stop = len(self._buffer) if end < 0 else end + 1
        self._skipped += stop - self._position
        self._position = stop
        if self._skipped > MAX_SKIPPED:
            self._hang_up(Reply(421, "4.7.0", "The line is too long"))
        elif end >= 0:
            self._step = self._step_command
            self._refuse(Reply(500, "5.5.2", "The line is too long"))
        return True

    def _step_command(self) -> bool:
        before, step = self._position, self._step
        line = self._read_line()
        if line is None:
            return self._position != before or self._step != step
        verb, rest = smtp.split_command(line)
        command = _COMMANDS.get(verb)
        try:
            if command is not None:
                command(self, rest)
            elif verb in _WEB_VERBS:  # a browser was talked into speaking to us: what follows is not its user's
                self._hang_up(Reply(554, "5.5.1", "This is a mail server"))
            else:
                self._refuse(Reply(500, "5.5.1", "Unknown command"))
        except ProtocolError as error:
            self._refuse(error.reply)
        return True

    def _count_idle(self) -> bool:
        """Count a command that brings no mail nearer; False (and hung up) when there were too many."""
        self._idle_commands += 1
        if self._idle_commands > self._port.settings.max_idle_commands:
            self._hang_up(Reply(421, "4.7.0", "Too many commands without a message"))
            return False
        return True

    def _ehlo(self, rest: bytes) -> None:
        self._greet(rest, is_esmtp=True)

    def _helo_command(self, rest: bytes) -> None:
        self._greet(rest, is_esmtp=False)

    def _greet(self, rest: bytes, *, is_esmtp: bool) -> None:
        if not self._count_idle():
            return
        self._helo = smtp.parse_helo(rest)
        self._is_esmtp = is_esmtp
        self._end_transaction()
        if is_esmtp:
            self._extensions = self._port.extensions(is_private=self._is_private())
            self._out.append(self._port.ehlo(has_tls=self._tls is not None, is_private=self._is_private()))
        else:
            self._extensions = frozenset()
            self._out.append(smtp.reply(250, "", self._port.settings.hostname))

    def _is_private(self) -> bool:
        return self._tls is not None or is_loopback(self._peer)

    def _noop(self, rest: bytes) -> None:
        if self._count_idle():
            self._out.append(_OK)

    def _rset(self, rest: bytes) -> None:
        _require_nothing(rest)
        if self._count_idle():
            self._end_transaction()
            self._out.append(_OK)

    def _help(self, rest: bytes) -> None:
        if self._count_idle():
            self._out.append(_HELP)

    def _vrfy(self, rest: bytes) -> None:
        if not rest:
            raise ProtocolError(501, "5.5.4", "Say what to verify")
        if self._count_idle():
            self._out.append(_CANNOT_VERIFY)

    def _expn(self, rest: bytes) -> None:
        self._refuse(Reply(502, "5.5.1", "Lists are not shown here"))

    def _quit(self, rest: bytes) -> None:
        _require_nothing(rest)
        self._hang_up(_BYE)

    # --- TLS and logins ---------------------------------------------------------------------------------------------

    def _starttls(self, rest: bytes) -> None:
        _require_nothing(rest)
        if self._port.tls is None:
            raise ProtocolError(502, "5.5.1", "TLS is not offered here")
        if self._tls is not None:
            raise ProtocolError(503, "5.5.1", "TLS is on already")
        self._out.append(smtp.reply(220, "2.0.0", "Start TLS now"))
        self._flush()
        # RFC 3207 §5: what came in the clear behind the command was put there by someone else.
        self._buffer, self._position = b"", 0
        self._begin(self._start_tls(self._port.tls))

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(
                self._transport, self, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_TIMEOUT_SECONDS
            )
        except (OSError, asyncio.IncompleteReadError) as error:
            _log.info("smtp_tls_failed", peer=self._peer, reason=type(error).__name__)
            transport = None
        if transport is None:
            self._transport.abort()
            self.connection_lost(None)
            return
        self._transport = transport
        self._port.counters.tls_handshakes += 1
        details = transport.get_extra_info("ssl_object")
        self._tls = f"{details.version()} {details.cipher()[0]}"
        self._buffer, self._position = b"", 0
        self._read_paused = False
        # RFC 3207 §4.2: whatever the client said before is forgotten.
        self._end_transaction()
        self._helo, self._is_esmtp, self._extensions = "", False, frozenset()
        self._principal = self._login = None

    def _auth(self, rest: bytes) -> None:
        if not self._port.policy.requires_login:
            raise ProtocolError(503, "5.5.1", "Logins are not taken on this port")
        if not self._is_esmtp:
            raise ProtocolError(503, "5.5.1", "Say EHLO first")
        if self._principal is not None or self._transaction is not None:
            raise ProtocolError(503, "5.5.1", "Not now")
        if not self._is_private():
            raise ProtocolError(538, "5.7.11", "Start TLS first")
        mechanism, _, initial = rest.partition(b" ")
        try:
            self._exchange = sasl.start(mechanism.decode("ascii", "replace"))
        except errors.Invalid:
            raise ProtocolError(504, "5.5.4", "Mechanisms are " + " and ".join(sasl.MECHANISMS)) from None
        self._continue_auth(initial.strip() or None)

    def _step_auth(self) -> bool:
        before, step = self._position, self._step
        line = self._read_line()
        if line is None:
            return self._position != before or self._step != step
        self._step = self._step_command
        if line == b"*":  # RFC 4954 §4: the client gives up
            self._exchange = None
            self._refuse(Reply(501, "5.7.0", "Authentication was cancelled"))
        else:
            self._continue_auth(line)
        return True

    def _continue_auth(self, response: bytes | None) -> None:
        assert self._exchange is not None
        try:
            answer = self._exchange.step(None if response is None else sasl.decode(response))
        except errors.Invalid as error:
            self._exchange = None
            self._refuse(reply_for(error, "login"))
            return
        if isinstance(answer, sasl.Credentials):
            self._exchange = None
            self._begin(self._check_login(answer))
        else:
            self._step = self._step_auth
            self._out.append(b"334 " + sasl.encode(answer) + b"\r\n")

    async def _check_login(self, credentials: sasl.Credentials) -> None:
        try:
            principal = await self._port.backend.login(credentials.username, credentials.password, self._peer)
        except Exception as error:  # noqa: BLE001 - the map decides
            self._report(error)
            self._port.counters.logins_refused += 1
            self._auth_failures += 1
            if self._auth_failures >= self._port.limits.max_auth_failures:
                self._out.append(reply_for(error, "login").encode())
                self._hang_up(Reply(421, "4.7.0", "Too many failed logins, closing the connection"))
            else:
                self._refuse(reply_for(error, "login"))
        else:
            self._port.counters.logins_accepted += 1
            self._principal = principal
            self._login = principal.address or credentials.username
            self._out.append(smtp.reply(235, "2.7.0", "Logged in"))

    # --- the envelope -----------------------------------------------------------------------------------------------

    def _mail(self, rest: bytes) -> None:
        if not self._helo:
            raise ProtocolError(503, "5.5.1", "Say EHLO first")
        if self._transaction is not None:
            raise ProtocolError(503, "5.5.1", "There is a sender already")
        mail = smtp.parse_mail(rest, self._extensions)
        if self._port.policy.requires_login and self._principal is None:
            raise ProtocolError(530, "5.7.0", "Authentication required")
        if mail.size_bytes > self._port.limits.max_message_bytes:
            raise ProtocolError(*_TOO_LARGE)
        if self._messages >= self._port.limits.max_messages:
            self._hang_up(Reply(421, "4.7.0", "Too many messages on one connection, open another"))
        elif self._port.policy.requires_login:
            self._begin(self._check_sender(mail))
        else:
            self._open(mail)

    async def _check_sender(self, mail: smtp.Mail) -> None:
        try:
            await self._port.policy.check_sender(self._port.backend, self._principal, mail.sender)
        except Exception as error:  # noqa: BLE001 - the map decides
            self._report(error)
            self._refuse(reply_for(error, "sender"))
        else:
            self._open(mail)

    def _open(self, mail: smtp.Mail) -> None:
        self._transaction = Transaction(self._port, mail)
        self._out.append(_SENDER_OK)

    def _rcpt(self, rest: bytes) -> None:
        transaction = self._transaction
        if transaction is None:
            raise ProtocolError(*_NO_TRANSACTION)
        if transaction.is_receiving:
            raise ProtocolError(*_IN_MESSAGE)
        if transaction.recipients >= self._port.limits.max_recipients:
            # RFC 5321 §4.5.3.1.10: the client sends the rest in another transaction; this is no misbehaviour.
            self._out.append(smtp.reply(452, "4.5.3", "Too many recipients"))
            return
        rcpt = smtp.parse_rcpt(rest, _NO_EXTENSIONS, smtputf8=transaction.mail.smtputf8)
        address = rcpt.recipient
        if "@" not in address:
            address = f"{address}@{self._port.settings.hostname}"
        self._begin(self._route(transaction, address))

    async def _route(self, transaction: Transaction, address: str) -> None:
        counters = self._port.counters
        try:
            routes = await self._port.backend.route(address, transaction.mail.size_bytes)
        except Exception as error:  # noqa: BLE001 - the map decides
            self._report(error)
            reply = reply_for(error, "recipient")
            count(counters.recipients_refused, reply)
            self._refuse(reply)
        else:
            counters.recipients_accepted += 1
            transaction.routes += routes
            transaction.recipients += 1
            self._out.append(_RECIPIENT_OK)

    # --- the message ------------------------------------------------------------------------------------------------

    def _data(self, rest: bytes) -> None:
        _require_nothing(rest)
        transaction = self._transaction
        if transaction is None:
            raise ProtocolError(*_NO_TRANSACTION)
        if transaction.is_receiving:
            raise ProtocolError(*_IN_MESSAGE)
        if not transaction.recipients:
            raise ProtocolError(*_NO_RECIPIENT)
        transaction.start(self._port.loop.time())
        self._decoder = smtp.DataDecoder()
        self._step = self._step_data
        self._out.append(_GO_AHEAD)

    def _step_data(self) -> bool:
        transaction, decoder = self._transaction, self._decoder
        assert transaction is not None
        data = self._buffer[self._position :]
        body, self._buffer = decoder.feed(data)
        self._position = 0
        if decoder.bare_newline:
            transaction.refuse_newlines()
        if not transaction.take(body):
            self._hang_up(_TOO_LARGE)
        elif decoder.finished:
            self._step = self._step_command
            self._complete(transaction)
        return True

    def _bdat(self, rest: bytes) -> None:
        try:
            size, is_last = smtp.parse_bdat(rest)
        except ProtocolError as error:
            self._hang_up(error.reply)  # where the chunk ends is unknown: what follows must not be read as commands
            return
        transaction = self._transaction
        self._chunk_fault = None
        self._chunk_left, self._chunk_last = size, is_last
        if transaction is None:
            self._chunk_fault = _NO_TRANSACTION
        elif not transaction.recipients:
            self._chunk_fault = _NO_RECIPIENT
        elif size + transaction.size_bytes > self._port.limits.max_message_bytes:
            self._chunk_fault = _TOO_LARGE
        elif not transaction.is_receiving:
            transaction.start(self._port.loop.time())
        if self._chunk_fault is not None and size > DRAIN_BYTES:
            self._hang_up(self._chunk_fault)
        elif size:
            self._step = self._step_bdat
        elif is_last or self._count_idle():
            self._end_chunk()

    def _step_bdat(self) -> bool:
        data = self._buffer[self._position : self._position + self._chunk_left]
        self._position += len(data)
        self._chunk_left -= len(data)
        if self._chunk_fault is None:
            assert self._transaction is not None
            self._transaction.check(data)
            self._transaction.take(data)
        if not self._chunk_left:
            self._step = self._step_command
            self._end_chunk()
        return True

    def _end_chunk(self) -> None:
        transaction = self._transaction
        if self._chunk_fault is not None:
            self._end_transaction()
            self._refuse(self._chunk_fault)
            return
        assert transaction is not None
        if self._chunk_last or transaction.fault is not None:
            self._complete(transaction)
        else:
            self._out.append(smtp.reply(250, "2.0.0", "Chunk ok"))

    def _complete(self, transaction: Transaction) -> None:
        """The message is all here: keep it, or refuse it."""
        raw = transaction.finish()
        if raw is None:
            assert transaction.fault is not None
            reply = reply_for(transaction.fault, "message")
            count(self._port.counters.messages_refused, reply)
            self._end_transaction()
            self._refuse(reply)
        else:
            self._begin(self._receive(transaction, raw))

    async def _receive(self, transaction: Transaction, raw: Buffer) -> None:
        source = self._source(transaction)
        try:
            receipt = await self._port.backend.receive(transaction.envelope(), source, raw)
        except Exception as error:  # noqa: BLE001 - the map decides
            self._report(error)
            reply = reply_for(error, "message")
            count(self._port.counters.messages_refused, reply)
            self._refuse(reply)
        else:
            self._port.counters.messages_accepted += 1
            self._messages += 1
            self._errors = self._idle_commands = 0
            self._out.append(smtp.reply(250, "2.0.0", f"Kept as {receipt.id}"))
        finally:
            del raw
            self._end_transaction()

    def _source(self, transaction: Transaction) -> Source:
        # RFC 3848 and RFC 6531 §4.3: ESMTP, then S for TLS and A for a login.
        protocol = "UTF8SMTP" if transaction.mail.smtputf8 else "ESMTP" if self._is_esmtp else "SMTP"
        if self._is_esmtp:
            protocol += ("S" if self._tls is not None else "") + ("A" if self._principal is not None else "")
        return Source(self._peer, self._helo, protocol, self._port.settings.hostname, self._tls, self._login)

    def _end_transaction(self) -> None:
        if self._transaction is not None:
            self._transaction.close()
            self._transaction = None

    def _report(self, error: Exception) -> None:
        if not isinstance(error, errors.RestanteError):
            _log.exception("smtp_backend_failed", peer=self._peer)


_NO_EXTENSIONS: frozenset[str] = frozenset()

_COMMANDS: Mapping[bytes, Callable[[Session, bytes], None]] = {
    b"EHLO": Session._ehlo,
    b"HELO": Session._helo_command,
    b"MAIL": Session._mail,
    b"RCPT": Session._rcpt,
    b"DATA": Session._data,
    b"BDAT": Session._bdat,
    b"RSET": Session._rset,
    b"NOOP": Session._noop,
    b"QUIT": Session._quit,
    b"VRFY": Session._vrfy,
    b"EXPN": Session._expn,
    b"HELP": Session._help,
    b"STARTTLS": Session._starttls,
    b"AUTH": Session._auth,
}


def _require_nothing(rest: bytes) -> None:
    if rest:
        raise ProtocolError(501, "5.5.4", "No argument is expected")


def _peer(transport: asyncio.BaseTransport) -> str:
    """The peer's IP address: IPv4 in its own form, no zone."""
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple) or not name:
        return "unknown"
    return str(name[0]).removeprefix("::ffff:").partition("%")[0]
