"""The corpus of real mail through a real server: in by SMTP, out as raw bytes and through the Mail API.

What the mail parser makes of each message is compared field by field in ``tests/mail``; here the same values have to
come out at the other end, and the bytes have to be those that went in.
"""

import hashlib
import json
import re
import smtplib
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from restante.mail import message
from tests.mail import corpus
from tools import server as live
from tools.server import Server

LARGEST_BYTES = 25_000_000
_LINE_END = re.compile(rb"\r\n|\r|\n")
_TRACE = re.compile(
    rb"Return-Path: <[^\r\n]*>\r\nDelivered-To: [^\r\n]+\r\nReceived: from [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)+"
)

pytestmark = pytest.mark.skipif(not corpus.available(), reason="the corpus is not beside the repository")


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message that went in: as it went over the wire, and where it is now."""

    path: str
    wire: bytes
    stored: bytes
    uid: int


@dataclass(frozen=True, slots=True)
class Post:
    """A server that has taken the whole corpus."""

    server: Server
    mailbox: str
    token: str
    delivered: tuple[Delivered, ...]

    def get(self, rest: str) -> bytes:
        """The body of a GET below the mailbox."""
        url = f"{self.server.http}/api/v1/mailbox/{self.mailbox}/{rest}"
        request = urllib.request.Request(url, headers={"X-MAILAPI-TOKEN": self.token})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())


def on_the_wire(raw: bytes) -> bytes:
    """As an SMTP client has to send it: every line end is CRLF, the last line has one too (RFC 5321 §2.3.8)."""
    data = _LINE_END.sub(b"\r\n", raw)
    return data if data.endswith(b"\r\n") else data + b"\r\n"


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    base = tmp_path_factory.mktemp("corpus")
    samples = corpus.messages()
    with Server(base / "data") as server:
        assert server.first_run is not None
        token = live.command(
            base / "data", *["token", "create", "--dialect", "mail-api", "--admin", "--rate-limit", "none"]
        )["token"]
        wires = [on_the_wire(sample.raw) for sample in samples]
        client = smtplib.SMTP(*server.smtp, timeout=60)
        client.ehlo("corpus.example.net")
        for sample, wire in zip(samples, wires, strict=True):
            assert len(wire) < LARGEST_BYTES
            send(client, sample.path, wire)
        client.quit()
        live.command(base / "data", "export", server.first_run.mailbox, str(base / "out"))
        stored = {int(path.stem): path.read_bytes() for path in (base / "out" / "INBOX").glob("*.eml")}
        assert sorted(stored) == list(range(1, len(samples) + 1))
        delivered = tuple(
            Delivered(sample.path, wire, stored[uid], uid)
            for uid, (sample, wire) in enumerate(zip(samples, wires, strict=True), 1)
        )
        yield Post(server, server.first_run.mailbox, token, delivered)


def send(client: smtplib.SMTP, path: str, wire: bytes) -> None:
    """One message, byte for byte: ``smtplib.sendmail`` would change line ends once more."""
    client.docmd("MAIL", "FROM:<corpus@example.net> BODY=8BITMIME")
    client.docmd("RCPT", "TO:<corpus@example.test>")
    code, answer = client.docmd("DATA")
    assert code == 354, f"{path}: {answer!r}"
    client.send(re.sub(rb"(?m)^\.", b"..", wire) + b".\r\n")
    code, answer = client.getreply()
    assert code == 250, f"{path}: {code} {answer!r}"


def test_every_message_is_kept_byte_for_byte(post: Post) -> None:
    """What was sent stands unchanged behind our trace headers."""
    for one in post.delivered:
        assert one.stored.endswith(one.wire), f"{one.path}: other bytes"
        trace = one.stored[: len(one.stored) - len(one.wire)]
        assert _TRACE.fullmatch(trace), f"{one.path}: {trace!r}"


def test_every_message_reads_back_through_the_api(post: Post) -> None:
    """Subject, addresses, texts and attachments are those that the parser reads from the bytes that were sent."""
    for one in post.delivered:
        shown = json.loads(post.get(f"messages/{one.uid}"))
        parsed = message.parse(one.wire)
        assert shown["subject"] == parsed.subject, one.path
        assert shown["from"] == first(parsed.from_), one.path
        assert shown["to"] == [person(address) for address in parsed.to], one.path
        assert shown["cc"] == [person(address) for address in parsed.cc], one.path
        assert shown["message_id"] == parsed.message_id, one.path
        assert shown["body"] == {"text": message.text(parsed, one.wire), "html": message.html(parsed, one.wire)}, (
            one.path
        )
        assert len(shown["attachments"]) == len(parsed.attachments), one.path
        for row, attachment in zip(shown["attachments"], parsed.attachments, strict=True):
            data = post.get(f"messages/{one.uid}/attachment/{row['index']}")
            wanted = b"".join(message.decoded(attachment, one.wire))
            assert row["size"] == len(wanted) == len(data), f"{one.path} {row}"
            assert hashlib.sha256(data).digest() == hashlib.sha256(wanted).digest(), f"{one.path} {row}"
            if attachment.filename:
                assert row["filename"], f"{one.path} {row}"


def test_every_message_is_found(post: Post) -> None:
    """A long word of the subject finds the message, once the index has it, and the list has each message once."""
    listed: list[int] = []
    while len(listed) < len(post.delivered):
        page = json.loads(post.get(f"messages?limit=200&offset={len(listed)}"))
        assert page["total"] == len(post.delivered)
        listed += [row["uid"] for row in page["messages"]]
    assert listed == list(range(len(post.delivered), 0, -1))
    for one in post.delivered[::10]:
        words = [word for word in re.findall(r"\w+", message.parse(one.wire).subject) if len(word) > 4]
        if words:
            end = time.monotonic() + 60
            while one.uid not in (found := search(post, words[0])) and len(found) < 100:
                assert time.monotonic() < end, f"{one.path}: {words[0]}"
                time.sleep(0.1)


def search(post: Post, word: str) -> list[int]:
    """The uids of the first messages that a word finds."""
    return [row["uid"] for row in json.loads(post.get(f"search?q={urllib.parse.quote(word)}&limit=100"))["messages"]]


def person(address: Any) -> dict[str, str]:
    """An address as the Mail API shows it."""
    return {"name": address.name, "email": address.email}


def first(addresses: tuple[Any, ...]) -> dict[str, str]:
    """The first one; empty when there is none."""
    return person(addresses[0]) if addresses else {"name": "", "email": ""}


def test_the_whole_store_verifies(post: Post) -> None:
    """Beside the running server."""
    report = live.command(Path(post.server.data_dir), "verify")
    assert report["ok"], report["problems"]
    assert report["messages"] == len(post.delivered)
