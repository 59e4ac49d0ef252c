"""One SMTP connection below its commands: bytes in order, one thing at a time, time limits, an orderly end.

Bytes are scanned in the buffer they came in. A step reads one command line, or one piece of a message; a command that
has to ask the backend makes the connection busy, and nothing behind it is looked at until its answer is written:
replies keep the order of the commands. While it is busy, or while the peer does not read, nothing more is read from the
socket.
"""

import asyncio
import types
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Generator
from typing import Any, cast

from restante import log
from restante.smtp.errors import UNEXPECTED
from restante.smtp.port import Port
from restante.smtp.transaction import Transaction
from restante.wire import smtp
from restante.wire.smtp import Reply

_log = log.logger(__name__)

MAX_SKIPPED = 64 * 1024  # bytes of a line that is too long, before the connection is cut
_TIMEOUT = Reply(421, "4.4.2", "Waited too long, closing the connection")
_SHUTDOWN = Reply(421, "4.3.2", "Shutting down, try again later")
_TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors, closing the connection")


class Connection(asyncio.Protocol):
    """The server's side of one connection; ``Session`` adds the commands."""

    __slots__ = (
        "_born",
        "_buffer",
        "_busy",
        "_closed_at",
        "_eof",
        "_errors",
        "_out",
        "_peer",
        "_port",
        "_position",
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
        self._tls: str | None = None  # version and cipher
        self._buffer = b""
        self._position = 0
        self._out: list[bytes] = []
        self._step: Callable[[], bool] = self._step_command
        self._task: object = None  # the loop itself holds tasks only weakly
        self._busy = self._running = self._eof = self._read_paused = self._write_paused = False
        self._closed_at: float | None = None
        self._born = self._touched = port.loop.time()
        self._errors = self._skipped = 0
        self._transaction: Transaction | None = None

    @abstractmethod
    def _step_command(self) -> bool:
        """Read and answer one command; False: more bytes are needed."""

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
            self._hang_up(UNEXPECTED)
        finally:
            self._running = False
        if self._busy:
            return  # what is answered before goes out with this one's answer, in one segment (RFC 2920 §3.2)
        self._flush()
        if self._write_paused or self._closed_at is not None:
            return
        if self._position >= len(self._buffer):
            self._buffer, self._position = b"", 0
        if self._eof:
            self._close()
        elif self._port.draining and (self._transaction is None or not self._transaction.is_receiving):
            self._hang_up(_SHUTDOWN)
        elif self._read_paused and not self._transport.is_closing():
            self._read_paused = False
            self._transport.resume_reading()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for the backend; the session is busy until the work is done."""
        self._busy = True
        self._task = self._port.loop.create_task(self._work(work))

    def _begin_at_once(self, work: Coroutine[Any, Any, None]) -> None:
        """As ``_begin``, but the work starts now, outside a task, as Python 3.12's eager tasks do.

        What needs no waiting (most look-ups) is then answered together with its neighbours in one segment.
        """
        self._busy = True
        doing = self._work(work)
        try:
            waited_for = doing.send(None)
        except StopIteration:
            return
        self._task = self._port.loop.create_task(_rest_of(doing, waited_for))

    async def _work(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # noqa: BLE001 - see _run
            _log.exception("smtp_session_failed", peer=self._peer)
            self._hang_up(UNEXPECTED)
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
        if not self._read_paused and not self._transport.is_closing():
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
        """Answer with an error; too many of the peer's own (5xx) end the connection."""
        self._errors += reply.code >= 500
        if self._errors > self._port.limits.max_errors:
            self._hang_up(_TOO_MANY_ERRORS)
        else:
            self._out.append(reply.encode())

    def _end_transaction(self) -> None:
        if self._transaction is not None:
            self._transaction.close()
            self._transaction = None

    # --- command lines ----------------------------------------------------------------------------------------------

    def _read_line(self) -> bytes | None:
        """The next line without its end; None: it is not all here, or it was refused."""
        start = self._position
        end = self._buffer.find(b"\n", start, start + smtp.MAX_COMMAND_LINE)
        if end < 0:
            if len(self._buffer) - start >= smtp.MAX_COMMAND_LINE:
                self._skipped = 0
                self._step = self._step_skip
            elif self._buffer.startswith(b"\x16\x03", start):  # a TLS client hello: it waits for TLS, not for a line
                self._hang_up(Reply(554, "5.5.1", "Use STARTTLS"))
            return None
        self._position = end + 1
        line = self._buffer[start:end]
        if not line.endswith(b"\r") or line.find(b"\r", 0, -1) >= 0:
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


async def _rest_of(doing: Coroutine[Any, Any, None], waited_for: Any) -> None:
    await _go_on(doing, waited_for)  # a task of Python 3.12 takes no bare generator


@types.coroutine
def _go_on(doing: Coroutine[Any, Any, None], waited_for: Any) -> Generator[Any, Any, None]:
    """The rest of a coroutine that was started by hand and waits for a future."""
    while True:
        failure: BaseException | None = None
        try:
            answer = yield waited_for
        except BaseException as error:  # noqa: BLE001 - it belongs inside the coroutine
            failure = error
        try:
            waited_for = doing.send(answer) if failure is None else doing.throw(failure)
        except StopIteration:
            return


def _peer(transport: asyncio.BaseTransport) -> str:
    """The peer's IP address: IPv4 in its own form, no zone."""
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple) or not name:
        return "unknown"
    return str(name[0]).removeprefix("::ffff:").partition("%")[0]
