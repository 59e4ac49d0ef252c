"""Load a real server, end it at a random moment, and hold what it acknowledged against what is there afterwards."""

import base64
import hashlib
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import uvloop

from tools import server as live
from tools import smtp_load
from tools.mailgen import Generator, Mail

CONNECTIONS = 20
LOAD_SECONDS = 120.0
LARGE_BYTES = 300_000  # of bytes that cannot be compressed: kept beside the database
FIRST_LINE = b"Received: from relay"  # how every generated message begins, and no trace header of ours


class Ledger:
    """What was sent and what was answered 250, by the hash of the bytes."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._generator = Generator(seed, run="crash")
        self.sent: dict[bytes, str] = {}
        self.acknowledged: dict[bytes, str] = {}

    def mails(self) -> Iterator[Mail]:
        """An endless supply; one message in thirty is large."""
        while True:
            mail = self._generator.next()
            if self._rng.random() < 1 / 30:
                mail = replace(mail, pieces=(*mail.pieces, base64.encodebytes(self._rng.randbytes(LARGE_BYTES))))
                mail = replace(mail, pieces=(mail.raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),))
            self.sent[_digest(mail.raw)] = mail.key
            yield mail

    def accept(self, mail: Mail, _answer: bytes) -> None:
        """Note a 250."""
        self.acknowledged[_digest(mail.raw)] = mail.key

    def compare(self, data_dir: Path, mailbox: str) -> int:
        """Fail unless every acknowledged message is there once, as sent, and nothing else; the number there is."""
        out = data_dir.with_name("exported")
        shutil.rmtree(out, ignore_errors=True)
        live.command(data_dir, "export", mailbox, str(out))
        found: Counter[bytes] = Counter()
        for path in out.rglob("*.eml"):
            stored = path.read_bytes()
            assert stored.startswith(b"Return-Path: <"), stored[:200]
            found[_digest(stored[stored.index(FIRST_LINE) :])] += 1
        missing = [key for digest, key in self.acknowledged.items() if digest not in found]
        assert not missing, f"{len(missing)} acknowledged messages are gone: {missing[:5]}"
        strangers = [digest for digest in found if digest not in self.sent]
        assert not strangers, f"{len(strangers)} messages that nobody sent like this"
        twice = [self.sent[digest] for digest, count in found.items() if count > 1]
        assert not twice, f"there more than once: {twice[:5]}"
        return len(found)


def load(
    server: live.Server, ledger: Ledger, meanwhile: Callable[[], None], *, then_seconds: float = LOAD_SECONDS
) -> smtp_load.Load:
    """Send from 20 connections in a thread while ``meanwhile`` runs, and until the server ends, or ``then_seconds``
    after that.
    """
    results: list[smtp_load.Load] = []
    end = [float("inf")]

    def mails() -> Iterator[Mail]:
        for mail in ledger.mails():
            if time.monotonic() > end[0]:
                return
            yield mail

    def work() -> None:
        sending = smtp_load.send(
            server.smtp, mails(), connections=CONNECTIONS, seconds=LOAD_SECONDS, on_accept=ledger.accept
        )
        results.append(uvloop.run(sending))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        meanwhile()
    finally:
        end[0] = time.monotonic() + then_seconds
        thread.join(timeout=LOAD_SECONDS + 60)
    assert results, "the load did not end"
    return results[0]


def await_acknowledged(ledger: Ledger, count: int, seconds: float = LOAD_SECONDS) -> None:
    """Wait until ``count`` messages were acknowledged in all."""
    end = time.monotonic() + seconds
    while len(ledger.acknowledged) < count:
        assert time.monotonic() < end, f"only {len(ledger.acknowledged)} messages were acknowledged, not {count}"
        time.sleep(0.002)


def verify(data_dir: Path) -> None:
    """Fail unless ``restante verify`` finds nothing."""
    report = live.command(data_dir, "verify")
    assert report["ok"], report["problems"]
    assert report["problem_count"] == 0, report["problems"]


def _digest(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest()
