"""A client without sockets, two tenants, sample messages."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from restante.core import accounts, domains, mailboxes, permissions, tokens
from restante.core.accounts import Account
from restante.core.domains import Domain
from restante.core.mailboxes import Mailbox
from restante.runtime import Runtime
from restante.schema.connections import WriteConn
from restante.services import storing

ANN = "/api/v1/mailbox/ann@red.example"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(slots=True)
class Client:
    """Calls the application without a socket."""

    app: Callable[..., Any]
    token: str | None = None
    peer: str = "203.0.113.9"
    sent: list[dict[str, Any]] = field(default_factory=list)

    def with_token(self, token: str | None) -> "Client":
        """The same application for another caller."""
        return Client(self.app, token, self.peer)

    async def call(
        self,
        method: str,
        target: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | list[bytes] = b"",
        data: Any = None,
    ) -> Reply:
        """One request; ``data`` is sent as JSON, a list of bytes as that many pieces."""
        given = dict(headers or {})
        if data is not None:
            body = json.dumps(data).encode()
            given.setdefault("content-type", "application/json")
        if self.token is not None:
            given.setdefault("x-mailapi-token", self.token)
        pieces = list(body) if isinstance(body, list) else [body]
        if not isinstance(body, list) and body:
            given.setdefault("content-length", str(len(body)))
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()],
            "client": (self.peer, 50_000),
            "server": ("127.0.0.1", 8025),
            "scheme": "http",
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            piece = pieces.pop(0) if pieces else b""
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        start = sent[0]
        found = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
        return Reply(start["status"], found, b"".join(message.get("body", b"") for message in sent[1:]))

    async def get(self, target: str, **more: Any) -> Reply:
        """GET."""
        return await self.call("GET", target, **more)

    async def post(self, target: str, **more: Any) -> Reply:
        """POST."""
        return await self.call("POST", target, **more)


@dataclass(frozen=True, slots=True)
class Tenant:
    """One account: a domain with two mailboxes, and a token for the first."""

    account: Account
    domain: Domain
    ann: Mailbox
    bob: Mailbox
    token: str


@dataclass(frozen=True, slots=True)
class World:
    """Two tenants and an operator."""

    red: Tenant
    blue: Tenant
    admin_token: str


def make_tenant(conn: WriteConn, name: str, now: datetime) -> Tenant:
    account = accounts.create(conn, name, now)
    domain = domains.add(conn, account.id, f"{name}.example", now, dns_status="forced")
    ann = mailboxes.create(conn, account.id, f"ann@{name}.example", now, name="Ann")
    bob = mailboxes.create(conn, account.id, f"bob@{name}.example", now, name="Bob")
    _, plain = tokens.create(conn, account.id, "mail-api", "user", f"{name} token", now, mailbox_id=ann.id)
    return Tenant(account, domain, ann, bob, plain)


def letter(
    subject: str = "Meeting tomorrow",
    body: str = "Let us discuss the agenda.",
    sender: str = "John Doe <john@x.example>",
) -> bytes:
    """A small message."""
    return (
        f"From: {sender}\r\nTo: Ann <ann@red.example>\r\nSubject: {subject}\r\n"
        "Date: Sat, 27 Jan 2024 11:30:00 +0100\r\nMessage-ID: <abc123@example.com>\r\nX-Priority: 1\r\n"
        f"Reply-To: john@x.example\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{body}\r\n"
    ).encode()


def rich_letter() -> bytes:
    """Text, HTML, an inline image and two attachments, one with a hostile name."""
    return (
        b"From: =?utf-8?Q?J=C3=B6rg?= <joerg@x.example>\r\nTo: Ann <ann@red.example>, list@red.example\r\n"
        b"Cc: Bob <bob@red.example>\r\nSubject: Invoice\r\nDate: Sat, 27 Jan 2024 10:30:00 +0000\r\n"
        b"X-Tag: one\r\nx-tag: two\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/mixed; boundary="mix"\r\n\r\n'
        b'--mix\r\nContent-Type: multipart/related; boundary="rel"\r\n\r\n'
        b'--rel\r\nContent-Type: multipart/alternative; boundary="alt"\r\n\r\n'
        b"--alt\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nPlain text\r\n"
        b"--alt\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>HTML text</p>\r\n--alt--\r\n"
        b"--rel\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <logo@x>\r\n"
        b"Content-Disposition: inline\r\n\r\niVBORw0KGgo=\r\n--rel--\r\n"
        b"--mix\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n"
        b"Content-Disposition: attachment; filename=agenda.pdf\r\n\r\nJVBERi0xLjQ=\r\n"
        b"--mix\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n"
        b"Content-Disposition: attachment; filename*=utf-8''%65v%22il%0D%0AX-Injected%3A%201%2F..%2F%C3%A9.html\r\n\r\n"
        b"PHNjcmlwdD4=\r\n--mix--\r\n"
    )


async def put(rt: Runtime, mailbox: Mailbox, raw: bytes, folder: str = "INBOX", **more: Any) -> Any:
    """Store a message."""
    return await storing.store(rt, mailbox.account_id, mailbox.id, folder, raw, **more)


def assert_refused(reply: Reply, status: int, code: str) -> dict[str, Any]:
    """The contract's envelope with that code; returns it."""
    body: dict[str, Any] = reply.json()
    assert (reply.status, body["error"]) == (status, code), body
    assert list(body)[:4] == ["success", "error", "message", "detail"]
    assert body["success"] is False
    assert body["message"] == body["detail"] != ""
    return body


def grant(conn: WriteConn, tenant: Tenant, permission: str, now: datetime) -> None:
    """Give Ann of a tenant a permission over its domain."""
    permissions.grant_bulk(conn, tenant.account.id, tenant.ann.id, tenant.domain.id, [permission], now)
