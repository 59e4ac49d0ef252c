"""A client of the MailCare API without sockets, and mail for it."""

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from restante.core import routing
from restante.runtime import Runtime
from restante.services import reception
from restante.services.reception import Envelope, Source
from tests.api.mail_api.sample import Client, Reply
from tests.makers import eml

REFUSED = {
    401: {"message": "Unauthenticated."},
    403: {"message": "This action is unauthorized."},
    429: {"message": "Too Many Attempts."},
}

SOURCE = Source("192.0.2.7", "client.example", "ESMTP", "mail.example.test")


async def receive(rt: Runtime, *recipients: str, raw: bytes | None = None, subject: str = "hello") -> None:
    """Take a message from outside."""
    routes = tuple([route for one in recipients for route in await rt.db.read(routing.resolve, one)])
    await reception.receive(rt, Envelope("eve@other.example", routes), SOURCE, raw or eml(subject))


def bearer(token: str) -> str:
    """The Authorization of a token."""
    return f"Bearer {token}"


def basic(name: str, password: str) -> str:
    """The Authorization of name and password."""
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls one of the two bases as somebody."""

    app: Callable[..., Any]
    base: str
    headers: dict[str, str]

    async def call(self, method: str, target: str, *, headers: dict[str, str] | None = None, **more: Any) -> Reply:
        """One request; the path is behind the base."""
        given = self.headers | (headers or {})
        return await Client(self.app).call(method, self.base + target, headers=given, **more)

    async def get(self, target: str, **more: Any) -> Reply:
        """GET."""
        return await self.call("GET", target, **more)

    async def found(self, query: str = "") -> list[str]:
        """The subjects of a list."""
        reply = await self.get(f"/emails?{query}")
        assert reply.status == 200, reply.body
        return [email["subject"] for email in reply.json()["data"]]

    async def newest(self) -> dict[str, Any]:
        """The newest email as the list shows it."""
        email: dict[str, Any] = (await self.get("/emails?limit=1")).json()["data"][0]
        return email

    def at(self, base: str) -> "Caller":
        """The same caller elsewhere."""
        return replace(self, base=base)
