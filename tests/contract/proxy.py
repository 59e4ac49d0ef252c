"""A TCP proxy that misbehaves on demand: refuses, stalls, resets in the middle, answers by itself."""

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator

CHUNK = 1 << 16
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")

Rewrite = Callable[[bytes], bytes]


class Proxy:
    """Between one client and a service on this machine. Change the attributes at any time.

    ``mode``: "pass"; "stall" (takes connections and says nothing); "reset" (cuts the connection when more than
    ``cut_after`` bytes went in the direction ``cut``, at most ``resets`` times); "answer" (``answer`` to every request
    with ``answer_if`` in its head, nobody is asked). ``heads`` are the heads of the requests seen.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.mode = "pass"
        self.cut = "up"
        self.cut_after = 0
        self.resets = 1 << 30
        self.answer = b""
        self.answer_if: bytes = b""
        self.rewrite: Rewrite | None = None
        self.heads: list[bytes] = []
        self.sent_down = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._held = socket.socket()  # the port is nobody else's while nobody listens on it
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self.port: int = self._held.getsockname()[1]
        self._listen()

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._accepting = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._accepting.start()

    def refuse(self) -> None:
        """Nobody listens any more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(60)
        self.cut_all()

    def listen_again(self) -> None:
        """Back on the same port."""
        self._listen()

    def cut_all(self) -> None:
        """End every connection that is open, so that the next request makes a new one."""
        with self._lock:
            for one in self._open:
                _cut(one)

    def close(self) -> None:
        """The end of it all."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._held.close()
        self.cut_all()

    def _accept(self, listener: socket.socket) -> None:
        with listener, contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One connection. Only this thread closes its sockets: a number that is free is taken by somebody else."""
        with self._owned(client):
            if self.mode == "stall":
                _swallow(client)
                return
            with self._owned(socket.create_connection(("127.0.0.1", self._target_port))) as server:
                down = threading.Thread(target=self._down, args=(server, client), daemon=True)
                down.start()
                with contextlib.suppress(OSError):
                    self._up(client, server)
                down.join()

    @contextlib.contextmanager
    def _owned(self, one: socket.socket) -> Iterator[socket.socket]:
        with self._lock:
            self._open.add(one)
        try:
            yield one
        finally:
            with self._lock:
                self._open.discard(one)
                one.close()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        seen = 0
        while data := client.recv(CHUNK):
            if b" HTTP/1.1\r\n" in data[:4096]:
                self.heads.append(data[: data.find(b"\r\n\r\n")])
                if self.mode == "stall":
                    _swallow(client)
                    break
                if self.mode == "answer" and self.answer_if in data:
                    self._drain(client, data)
                    client.sendall(self.answer)
                    client.shutdown(socket.SHUT_WR)
                    break
            seen += len(data)
            if self._cuts("up", seen):
                _cut(client)
                break
            server.sendall(self.rewrite(data) if self.rewrite else data)
        _cut(server)

    def _drain(self, client: socket.socket, data: bytes) -> None:
        """Read the rest of a request's body: an answer in the middle of it would look like a reset."""
        head = data.find(b"\r\n\r\n")
        found = _LENGTH.search(data[:head])
        missing = int(found[1]) - (len(data) - head - 4) if found else 0
        while missing > 0 and (more := client.recv(CHUNK)):
            missing -= len(more)

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        seen = 0
        with contextlib.suppress(OSError):
            while data := server.recv(CHUNK):
                seen += len(data)
                self.sent_down += len(data)
                if self._cuts("down", seen):
                    _cut(client)
                    return
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)

    def _cuts(self, direction: str, seen: int) -> bool:
        with self._lock:
            if self.mode != "reset" or self.cut != direction or seen <= self.cut_after or self.resets <= 0:
                return False
            self.resets -= 1
            return True


def http(status: str, code: str) -> bytes:
    """An S3 error as an HTTP response that ends its connection."""
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message/></Error>'.encode()
    fields = "Content-Type: application/xml", f"Content-Length: {len(body)}", "Connection: close", "", ""
    return "\r\n".join((f"HTTP/1.1 {status}", *fields)).encode() + body


def _cut(one: socket.socket) -> None:
    """Wake whoever reads from it; when it is closed, its peer sees a reset."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.shutdown(socket.SHUT_RD)


def _swallow(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while one.recv(CHUNK):
            pass
