"""One mail transaction: from MAIL to the answer after the message (RFC 5321 §3.3)."""

from restante import errors
from restante.core.routing import Route
from restante.smtp.backend import Envelope
from restante.smtp.port import Port
from restante.storage.spool import Buffer, Spool
from restante.wire import smtp

DRAIN_BYTES = 16 * 1024 * 1024  # how much of a refused message is read away before the connection is cut


class Transaction:
    """The envelope, then the message as it arrives; ``fault`` is why it will be refused once it is all here."""

    __slots__ = ("_checker", "_port", "_spool", "addresses", "fault", "mail", "routes", "size_bytes", "started_at")

    def __init__(self, port: Port, mail: smtp.Mail) -> None:
        self._port = port
        self._spool: Spool | None = None
        self._checker = smtp.NewlineChecker()
        self.mail = mail
        self.routes: list[Route] = []
        self.addresses: list[str] = []
        self.fault: errors.RestanteError | None = None
        self.size_bytes = 0
        self.started_at = 0.0

    @property
    def is_receiving(self) -> bool:
        """Whether the message has begun to arrive."""
        return self._spool is not None

    def start(self, now: float) -> None:
        """The message begins."""
        self.started_at = now
        self._port.begin_message()
        self._spool = self._port.new_spool()

    def check(self, data: bytes) -> None:
        """Look at the bytes of a BDAT chunk for bare CR and LF; then ``take`` them."""
        self._checker.feed(data)
        if self._checker.bare_newline:
            self.refuse_newlines()

    def take(self, data: bytes) -> bool:
        """Keep the next bytes of the message; False: it is so far over the limit that reading on is no use."""
        assert self._spool is not None
        self.size_bytes += len(data)
        limit = self._port.limits.max_message_bytes
        if self.fault is None:
            if self.size_bytes > limit:
                self._refuse(errors.TooLarge("the message is larger than allowed"))
            else:
                try:
                    self._spool.write(data)
                except errors.Unavailable as error:
                    self._refuse(error)
        return self.size_bytes <= limit + DRAIN_BYTES

    def refuse_newlines(self) -> None:
        """A bare CR or LF was seen."""
        if self.fault is None:
            self._refuse(errors.Invalid("the message has a bare CR or LF", code="bare_newline"))

    def finish(self) -> Buffer | None:
        """The message, complete; None if it is to be refused for ``fault``."""
        assert self._spool is not None
        self._checker.finish()
        if self._checker.bare_newline:
            self.refuse_newlines()
        if self.fault is None:
            try:
                return self._spool.finish()
            except errors.Unavailable as error:
                self._refuse(error)
        return None

    def envelope(self) -> Envelope:
        """Who sends to whom."""
        return Envelope(self.mail.sender, tuple(self.routes), self.mail.smtputf8, self.mail.body)

    def close(self) -> None:
        """Forget the message; may be called more than once."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None
            self._port.end_message()

    def _refuse(self, error: errors.RestanteError) -> None:
        assert self._spool is not None
        self.fault = error
        self._spool.close()
