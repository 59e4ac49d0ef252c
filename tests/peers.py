"""Mail servers that behave as a test says: well, badly, or not at all."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

Answer = bytes | None | Callable[[bytes], bytes | None]
"""What a peer says to a command: bytes, a function of the command's line, or None: it closes the connection."""

HANG = b"HANG"  # an answer that never comes
DEAF = b"DEAF"  # for MESSAGE: it is not even read
EXTENSIONS = ("PIPELINING", "SIZE 10000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


@dataclass
class Peer:
    """One server on a loopback port. ``answers`` by verb (and ``GREETING``, ``MESSAGE``) override the good ones.

    ``messages`` are what it answered with 2xx: (MAIL line, RCPT lines, bytes as sent, dots still doubled).
    """

    answers: dict[str, Answer] = field(default_factory=dict)
    extensions: tuple[str, ...] = EXTENSIONS
    name: str = "peer.example"
    lines: list[bytes] = field(default_factory=list)
    messages: list[tuple[bytes, list[bytes], bytes]] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    connections: int = 0
    address: tuple[str, int] = ("127.0.0.1", 0)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def _answer(self, verb: str, line: bytes, default: bytes) -> bytes | None:
        found = self.answers.get(verb, default)
        return found(line) if callable(found) else found

    async def _say(self, writer: asyncio.StreamWriter, answer: bytes | None) -> bool:
        if answer == HANG:
            await asyncio.Event().wait()
        if answer is None:
            return False
        writer.write(answer)
        await writer.drain()
        return True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        ehlo = "".join(f"250-{line}\r\n" for line in (f"{self.name} hello", *self.extensions[:-1]))
        good: Mapping[str, bytes] = {
            "EHLO": f"{ehlo}250 {self.extensions[-1] if self.extensions else 'HELP'}\r\n".encode(),
            "HELO": f"250 {self.name}\r\n".encode(),
            "DATA": b"354 go on\r\n",
            "QUIT": b"221 2.0.0 bye\r\n",
        }
        sender, recipients = b"", list[bytes]()
        if not await self._say(writer, self._answer("GREETING", b"", f"220 {self.name} ESMTP\r\n".encode())):
            return
        while line := await reader.readline():
            self.lines.append(line)
            verb = line[:4].strip().upper().decode("ascii", "replace")
            answer = self._answer(verb, line, good.get(verb, b"250 2.1.0 ok\r\n"))
            if not await self._say(writer, answer) or verb == "QUIT":
                return
            if verb == "STAR" and self.tls is not None:
                await writer.start_tls(self.tls)
            elif verb == "STAR" and answer is not None and answer.startswith(b"2"):
                await reader.read(1)  # the hello of TLS is no line: it may have no end of one
                writer.write(b"500 5.5.1 what?\r\n")
            if verb in ("MAIL", "RSET", "EHLO"):
                sender, recipients = line, []
            elif verb == "RCPT" and answer is not None and answer.startswith(b"2"):
                recipients.append(line)
            elif verb == "DATA" and answer is not None and answer.startswith(b"354"):
                if self.answers.get("MESSAGE") == DEAF:
                    await asyncio.Event().wait()
                message = await reader.readuntil(b".\r\n")
                while message != b".\r\n" and not message.endswith(b"\r\n.\r\n"):
                    message += await reader.readuntil(b".\r\n")
                default = b"250 2.0.0 queued as 1\r\n" if recipients else b"554 5.5.1 no recipients\r\n"
                answer = self._answer("MESSAGE", message, default)
                if answer is not None and answer.startswith(b"2") and answer.endswith(b"\r\n"):
                    self.messages.append((sender, recipients, message[:-3]))
                if not await self._say(writer, answer):
                    return

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # the end of the test cancels what still runs: not an error that asyncio should log
            with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    @contextlib.asynccontextmanager
    async def running(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator["Peer"]:
        """Listen for the time of the context."""
        server = await asyncio.start_server(self._connected, host, port)
        self.address = server.sockets[0].getsockname()[:2]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
