"""Whole servers that send to each other: names from a real name server, mail over real connections, real processes."""

import asyncio
import contextlib
import json
import os
import socket
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from restante import config as settings
from restante.core import submission, transfer
from restante.server import assemble
from tests.flows import names
from tools.bench import postfix
from tools.server import Server, command

ZONE = """\
a MX 10 mx.a
mx.a A 127.0.0.2
b MX 10 mx.b
b MX 20 nowhere.b
mx.b A 127.0.0.3
alias CNAME b
null MX 0 .
dark MX 10 mx.dark
"""
SECONDS = 120.0


@dataclass(slots=True)
class Site:
    """One server at an address of its own; ``token`` is its operator's."""

    name: str
    host: str
    port: int
    data_dir: Path
    environment: dict[str, str]
    token: str = ""
    server: Server | None = None

    def start(self) -> None:
        flags = ("--smtp", f"{self.host}:{self.port}", "--hostname", f"mx.{self.name}.test")
        self.server = Server(self.data_dir, flags=flags, environment={**os.environ, **self.environment})
        if self.server.first_run is not None:
            self.token = self.server.first_run.token

    def stop(self) -> None:
        if self.server is not None:
            assert self.server.stop() == 0
            self.server = None

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        assert self.server is not None
        data = None if body is None else json.dumps(body).encode()
        headers = {"X-MAILAPI-TOKEN": self.token, "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.server.http}/api/v1{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def send(self, *to: str) -> str:
        """Send from ann; the message's id."""
        body = {"from": f"ann@{self.name}.test", "to": list(to), "subject": "hello", "body": {"text": "It works."}}
        return str(self.ask("POST", "/mail/send", body)["message_id"])

    def await_status(self, message_id: str, *wanted: str) -> dict[str, Any]:
        """The recipients by address, once the message has one of those states."""
        end = time.monotonic() + SECONDS
        while (found := self.ask("GET", f"/mail/{message_id}/status"))["status"] not in wanted:
            assert time.monotonic() < end, found
            time.sleep(0.05)
        return {each["email"]: each for each in found["recipients"]}

    def inbox(self, mailbox: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.ask("GET", f"/mailbox/{mailbox}@{self.name}.test/messages")["messages"]
        return listed

    def await_inbox(self, mailbox: str, subject: str, count: int) -> None:
        """Return once the INBOX has so many messages of that subject."""
        end = time.monotonic() + SECONDS
        while len([row for row in self.inbox(mailbox) if row["subject"] == subject]) != count:
            assert time.monotonic() < end, self.inbox(mailbox)
            time.sleep(0.05)


@contextlib.contextmanager
def one_port(*hosts: str) -> Iterator[int]:
    """A port at all of these addresses that nobody is given meanwhile: bound, but for servers to listen on."""
    port = 0
    with contextlib.ExitStack() as held:
        for host in hosts:
            each = held.enter_context(socket.socket())
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind((host, port))
            port = each.getsockname()[1]
        yield port


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[tuple[Site, Site]]:
    """a.test and b.test, each with a mailbox ``ann``; b.test is not started yet."""
    with one_port("127.0.0.2", "127.0.0.3") as port, names.serving(tmp_path / "names", ZONE) as resolver:
        environment = {
            "RESTANTE_DNS_SERVERS": resolver,
            "RESTANTE_EGRESS_ALLOW": "127.0.0.0/8",
            "RESTANTE_TRANSFER_PORT": str(port),
        }
        made = tuple(
            Site(name, host, port, tmp_path / name, environment)
            for name, host in (("a", "127.0.0.2"), ("b", "127.0.0.3"))
        )
        a, b = made
        try:
            for site in made:
                site.start()
                command(site.data_dir, "mailbox", "add", f"ann@{site.name}.test")
            yield a, b
        finally:
            for site in made:
                site.stop()


def test_sent_bounced_and_partial(sites: tuple[Site, Site]) -> None:
    a, b = sites
    sent = a.await_status(a.send("ann@b.test"), "sent", "partial", "bounced")
    assert sent["ann@b.test"]["dsn_code"].startswith("2.")
    assert [row["subject"] for row in b.inbox("ann")] == ["hello"]
    bounced = a.await_status(a.send("nobody@b.test"), "sent", "partial", "bounced")
    assert (bounced["nobody@b.test"]["status"], bounced["nobody@b.test"]["dsn_code"]) == ("bounced", "5.1.1")
    mixed = a.await_status(
        a.send("ann@b.test", "nobody@b.test", "x@null.test", "x@missing.test", "ann@a.test", "ann@alias.test"),
        "sent", "partial", "bounced",
    )  # fmt: skip
    assert {email: each["dsn_code"] for email, each in mixed.items() if each["status"] == "bounced"} == {
        "nobody@b.test": "5.1.1",
        "x@null.test": "5.1.10",
        "x@missing.test": "5.1.2",
        "ann@alias.test": "5.7.1",
    }
    assert {email for email, each in mixed.items() if each["status"] == "sent"} == {"ann@b.test", "ann@a.test"}
    a.await_inbox("ann", "Undelivered mail returned to sender", 5)  # one for each domain of each message


def test_deferred_then_sent(sites: tuple[Site, Site]) -> None:
    a, b = sites
    b.stop()
    message_id = a.send("ann@b.test")
    end = time.monotonic() + SECONDS
    while a.await_status(message_id, "submitted")["ann@b.test"]["status"] != "deferred":
        assert time.monotonic() < end
        time.sleep(0.05)
    a.stop()  # it lies there, whether the server runs or not
    asyncio.run(_retry(a, message_id))
    b.start()
    a.start()
    found = a.await_status(message_id, "sent", "bounced")
    assert (found["ann@b.test"]["status"], found["ann@b.test"]["attempts"]) == ("sent", 2)
    assert len(b.inbox("ann")) == 1


async def _retry(site: Site, message_id: str) -> None:
    """What ``restante queue retry`` does."""
    found = replace(settings.load(environ={}), data_dir=site.data_dir)
    async with assemble.open_runtime(found) as rt:
        sent = await rt.db.read(submission.get_by_public_id, None, UUID(message_id))
        await rt.db.write(transfer.retry, sent.account_id, sent.id, rt.clock.now())


def test_postfix_takes_it_and_reports_later(sites: tuple[Site, Site]) -> None:
    """Postfix stands in b.test's place and hands on to it: what b.test refuses comes back as a report."""
    a, b = sites
    b.stop()
    front = b.port
    b.port = 0
    b.start()
    assert b.server is not None
    host, behind = b.server.smtp
    lines = (
        f"relayhost = [{a.host}]:{a.port}\n"
        f"transport_maps = inline:{{ {{b.test = smtp:[{host}]:{behind}}} }}\n"
    )  # fmt: skip
    base = Path(tempfile.mkdtemp(prefix="restante-postfix-"))  # where the user postfix may go
    base.chmod(0o755)
    with postfix.running(base / "it", "relay", lines, (b.host, front)):
        message_id = a.send("ann@b.test", "nobody@b.test")
        found = a.await_status(message_id, "partial")
    base.rmdir()
    assert {email: each["status"] for email, each in found.items()} == {
        "ann@b.test": "sent",
        "nobody@b.test": "bounced",
    }
    bounced = found["nobody@b.test"]
    assert bounced["dsn_code"] == "5.1.1"
    assert "550 5.1.1 No such mailbox here" in bounced["smtp_response"]
    assert bounced["attempts"] == 1
    assert [row["subject"] for row in b.inbox("ann")] == ["hello"]
    a.await_inbox("ann", "Undelivered Mail Returned to Sender", 1)
