"""The commands of one SMTP session, reception and submission alike (RFC 5321, 3030, 3207, 4954, 6531)."""

import asyncio
import ssl
from collections.abc import Callable, Mapping

from restante import errors, log
from restante.core.access import Principal
from restante.smtp.backend import Source
from restante.smtp.connection import Connection
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
_TOO_LARGE = Reply(552, "5.3.4", "The message is larger than allowed")
_NO_TRANSACTION = Reply(503, "5.5.1", "Say MAIL first")
_OURS = frozenset({"mailbox_not_found", "mailbox_disabled"})  # why an address of a domain of ours is refused
_NO_RECIPIENT = Reply(554, "5.5.1", "No recipient was accepted")
_IN_MESSAGE = Reply(503, "5.5.1", "A message is being sent with BDAT")

_WEB_VERBS = frozenset(
    {b"GET", b"POST", b"PUT", b"HEAD", b"CONNECT", b"OPTIONS", b"DELETE", b"PATCH", b"TRACE", b"HOST:"}
)


class Session(Connection):
    """The commands of one connection."""

    __slots__ = (
        "_auth_failures",
        "_chunk_fault",
        "_chunk_last",
        "_chunk_left",
        "_decoder",
        "_exchange",
        "_extensions",
        "_helo",
        "_idle_commands",
        "_is_esmtp",
        "_login",
        "_messages",
        "_principal",
    )

    def __init__(self, port: Port) -> None:
        super().__init__(port)
        self._auth_failures = self._idle_commands = self._messages = 0
        self._principal: Principal | None = None
        self._login: str | None = None
        self._exchange: sasl.Exchange | None = None
        self._helo = ""
        self._is_esmtp = False
        self._extensions: frozenset[str] = frozenset()
        self._decoder = smtp.DataDecoder()
        self._chunk_left = 0
        self._chunk_last = False
        self._chunk_fault: Reply | None = None

    # --- commands ---------------------------------------------------------------------------------------------------

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
        # RFC 3207 §5: what came in the clear behind the command was put there by someone else. Nothing more of that is
        # read: whatever arrives from here on has come through TLS (it may do so before start_tls returns).
        self._buffer, self._position = b"", 0
        self._pause_reading()
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
        self._read_paused = False  # start_tls reads on by itself
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
            _log.info("smtp_login_refused", peer=self._peer, username=credentials.username)
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
        if len(transaction.addresses) >= self._port.limits.max_recipients:
            # RFC 5321 §4.5.3.1.10: the client sends the rest in another transaction; this is no misbehaviour.
            self._out.append(smtp.reply(452, "4.5.3", "Too many recipients"))
            return
        rcpt = smtp.parse_rcpt(rest, _NO_EXTENSIONS, smtputf8=transaction.mail.smtputf8)
        address = rcpt.recipient
        if "@" not in address:
            address = f"{address}@{self._port.settings.hostname}"
        self._begin_at_once(self._route(transaction, address))

    async def _route(self, transaction: Transaction, address: str) -> None:
        counters = self._port.counters
        try:
            routes = await self._port.policy.route(self._port.backend, address, transaction.mail.size_bytes)
        except Exception as error:  # noqa: BLE001 - the map decides
            self._report(error)
            reply = reply_for(error, "recipient")
            count(counters.recipients_refused, reply)
            if isinstance(error, errors.RestanteError) and error.code in _OURS:
                self._port.count_refused(reply, [address])
            _log.info(
                "smtp_recipient_refused", peer=self._peer, recipient=address, reply=f"{reply.code} {reply.enhanced}"
            )
            self._refuse(reply)
        else:
            counters.recipients_accepted += 1
            transaction.routes += routes
            transaction.addresses.append(address)
            self._out.append(_RECIPIENT_OK)

    # --- the message ------------------------------------------------------------------------------------------------

    def _data(self, rest: bytes) -> None:
        _require_nothing(rest)
        transaction = self._transaction
        if transaction is None:
            raise ProtocolError(*_NO_TRANSACTION)
        if transaction.is_receiving:
            raise ProtocolError(*_IN_MESSAGE)
        if not transaction.addresses:
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
            self._note_refused(transaction, _TOO_LARGE)
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
        elif not transaction.addresses:
            self._chunk_fault = _NO_RECIPIENT
        elif size + transaction.size_bytes > self._port.limits.max_message_bytes:
            self._chunk_fault = _TOO_LARGE
        elif not transaction.is_receiving:
            transaction.start(self._port.loop.time())
        if transaction is not None and self._chunk_fault is _TOO_LARGE:
            self._note_refused(transaction, _TOO_LARGE)
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
            self._note_refused(transaction, reply)
            self._end_transaction()
            if self._decoder.bare_newline:
                # The peer and we may differ about where lines end: what follows might be a stranger's commands.
                self._hang_up(reply)
            else:
                self._refuse(reply)
        else:
            self._begin_at_once(self._receive(transaction, raw))

    async def _receive(self, transaction: Transaction, raw: Buffer) -> None:
        source = self._source(transaction)
        try:
            receipt = await self._port.policy.keep(self._port.backend, self._principal, transaction, source, raw)
        except Exception as error:  # noqa: BLE001 - the map decides
            self._report(error)
            reply = reply_for(error, "message")
            self._note_refused(transaction, reply)
            self._refuse(reply)
        else:
            self._port.counters.messages_accepted += 1
            self._messages += 1
            self._errors = self._idle_commands = 0
            self._out.append(f"250 2.0.0 Kept as {receipt.id}\r\n".encode())
        finally:
            del raw
            self._end_transaction()

    def _note_refused(self, transaction: Transaction, reply: Reply) -> None:
        count(self._port.counters.messages_refused, reply)
        self._port.count_refused(reply, [route.address for route in transaction.routes])

    def _source(self, transaction: Transaction) -> Source:
        # RFC 3848 and RFC 6531 §4.3: ESMTP, then S for TLS and A for a login.
        protocol = "UTF8SMTP" if transaction.mail.smtputf8 else "ESMTP" if self._is_esmtp else "SMTP"
        if self._is_esmtp:
            protocol += ("S" if self._tls is not None else "") + ("A" if self._principal is not None else "")
        return Source(self._peer, self._helo, protocol, self._port.settings.hostname, self._tls, self._login)

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
