"""The HTTP application: any target, headers and body, sent to a real store without a socket.

An input is a request as it would be typed: ``METHOD TARGET``, header lines, an empty line, the body. ``USER`` and
``ADMIN`` in a header's value stand for credentials that hold.
"""

import asyncio
import json
import random
import re
import shutil
import tempfile
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from restante.clock import SystemClock
from restante.config import Config
from restante.core import tokens
from restante.net.connections import Connections
from restante.runtime import Runtime
from restante.server import asgi
from restante.server.metrics import Metrics
from restante.services import storing
from restante.storage import indexer
from restante.storage.blobs.files import FileBlobs
from restante.storage.notes import Notes
from restante.storage.room import Room
from restante.storage.signals import Signals
from restante.storage.writer import InProcessDatabase
from restante.vault import Vault
from tests.api.mail_api.sample import letter, make_tenant, put, rich_letter
from tests.fakes import FakePressure, FakeResolver

BOX = "/api/v1/mailbox/ann@red.example"
_NO_TOKEN_CHARACTER = re.compile(rb"[^!#$%&'*+.^_`|~0-9A-Za-z-]")
_NOT_IN_A_TARGET = re.compile(r"[\x00-\x20\x7f-\xff]")
_NOT_IN_A_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Api:
    """No request is answered 5xx, none breaks the form of an answer, none changes a message."""

    name = "api"
    largest_bytes = 1_500

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._directory = Path(tempfile.mkdtemp(prefix="restante-fuzz-"))
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._loop.run_until_complete(self._open())
        self._kept = self._loop.run_until_complete(self._read_back())

    async def _open(self) -> None:
        data_dir = self._directory / "data"
        data_dir.mkdir(mode=0o700)
        config = replace(Config(), data_dir=data_dir, hostname="mail.example.test")
        signals = Signals()
        db = InProcessDatabase(data_dir, signals)
        indexer.prepare(data_dir)
        pool = ThreadPoolExecutor(1)
        self._stack.callback(pool.shutdown)
        self._stack.push_async_callback(db.close)
        self._rt = Runtime(
            config=config,
            db=db,
            blobs=FileBlobs(data_dir / "blobs"),
            clock=SystemClock(),
            resolver=FakeResolver({}),
            vault=Vault.load(data_dir),
            signals=signals,
            pool=pool,
            room=Room(data_dir, 0),
            connections=Connections(10, 10),
            notes=Notes(data_dir / "notes"),
            pressure=FakePressure(),
            intake=storing.new_intake(config.storage.inline_bytes),
        )
        now = self._rt.clock.now()
        red = await db.write(make_tenant, "red", now)
        blue = await db.write(make_tenant, "blue", now)
        _, self._admin = await db.write(tokens.create, red.account.id, "mail-api", "admin", "fuzz", now, None, None, 0)
        _, self._user = await db.write(
            tokens.create, red.account.id, "mail-api", "user", "fuzz", now, red.ann.id, None, 0
        )
        for raw in (letter(), rich_letter(), letter("Second", "Zweite Nachricht")):
            await put(self._rt, red.ann, raw)
        await put(self._rt, blue.ann, letter("Secret of blue", "nobody else may read this canary"))
        indexer.catch_up(data_dir)
        self._app = asgi.build(self._rt, Metrics(self._rt))

    def seeds(self) -> list[bytes]:
        """One request for each route."""
        user, admin = b"x-mailapi-token: USER\n\n", b"x-mailapi-token: ADMIN\n\n"
        box = BOX.encode()
        signup = b'{"email":"a@new.example","password":"correct horse battery","domain":"new.example"}'
        grant = b'{"user_email":"bob@red.example","domain":"red.example","permissions":["view_mailbox"]}'
        json_type = b"content-type: application/json\n"
        return [
            *(
                b"GET " + box + rest + b"\n" + user
                for rest in (b"/folders", b"/messages?limit=2&offset=1", b"/messages/1")
            ),
            *(b"GET " + box + rest + b"\n" + user for rest in (b"/messages/2/attachment/0", b"/search?q=agenda")),
            b"GET /api/v1/tokens/me\n" + user,
            b"GET /api/v1/domains/pending\n" + admin,
            b"POST /api/v1/domains/red.example/approve\n" + admin,
            b"POST /api/v1/auth/signup\n" + json_type + b"\n" + signup,
            b"POST /api/v1/permissions/bulk\n" + json_type + admin + grant,
            *(
                b"GET " + path + b"\n\n"
                for path in (b"/", b"/health", b"/openapi/mail-api.json", b"/docs", b"/metrics")
            ),
        ]

    def run(self, data: bytes) -> Hashable:
        """One request; status, route and shape of the answer describe it."""
        head, _, body = data.replace(b"\r\n", b"\n").partition(b"\n\n")
        first, *lines = head.split(b"\n")
        method, _, target = first.partition(b" ")
        status, headers, answer = self._loop.run_until_complete(self._call(method, target, lines, body))
        assert status < 500 or status == 501, f"{status}: {answer[:300]!r}"
        assert headers[b"x-request-id"]
        assert not any(b"\r" in value or b"\n" in value for value in headers.values()), "a line break in a header"
        if headers.get(b"content-type", b"").startswith(b"application/json") and answer:
            shown = json.loads(answer)
            assert status < 400 or "error" in shown, "a refusal without its code"
        assert b"canary" not in answer or b"ADMIN" in data, "another tenant's message"
        return method[:8], status, headers.get(b"content-type"), len(answer).bit_length()

    async def _call(
        self, method: bytes, target: bytes, lines: list[bytes], body: bytes
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        path, _, query = _NOT_IN_A_TARGET.sub("", target.decode("latin-1")).partition("?")
        pieces = [body[: len(body) // 2], body[len(body) // 2 :]] if self._rng.random() < 0.2 else [body]
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": _NO_TOKEN_CHARACTER.sub(b"", method).decode().upper() or "GET",
            "path": unquote("/" + path.lstrip("/")),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [*self._headers(lines), (b"content-length", str(len(body)).encode())],
            "client": (f"203.0.{self._rng.randrange(256)}.{self._rng.randrange(256)}", 50_000),
            "server": ("127.0.0.1", 8025),
            "scheme": "http",
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            piece = pieces.pop(0) if pieces else b""
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, receive, send)  # type: ignore[arg-type]
        return sent[0]["status"], dict(sent[0]["headers"]), b"".join(part.get("body", b"") for part in sent[1:])

    def _headers(self, lines: list[bytes]) -> list[tuple[bytes, bytes]]:
        found = []
        for line in lines[:50]:
            name, colon, value = line.partition(b":")
            name = _NO_TOKEN_CHARACTER.sub(b"", name).lower()
            if not colon or not name or name in (b"content-length", b"transfer-encoding"):
                continue  # what the HTTP parser below decides
            value = _NOT_IN_A_VALUE.sub(b"", value.strip())
            found.append((name, value.replace(b"USER", self._user.encode()).replace(b"ADMIN", self._admin.encode())))
        return found

    async def _read_back(self) -> list[bytes]:
        lines = [b"x-mailapi-token: ADMIN"]
        paths = [f"{BOX}/messages", *(f"{BOX}/messages/{uid}" for uid in (1, 2, 3)), f"{BOX}/messages/2/attachment/1"]
        paths += ["/api/v1/mailbox/ann@blue.example/messages/1"]
        return [(await self._call(b"GET", path.encode(), lines, b""))[2] for path in paths]

    def check(self) -> None:
        """Every message reads as it did at first."""
        assert self._loop.run_until_complete(self._read_back()) == self._kept

    def close(self) -> None:
        """Close the store and remove it."""
        self._loop.run_until_complete(self._stack.aclose())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
        shutil.rmtree(self._directory, ignore_errors=True)
