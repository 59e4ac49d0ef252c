"""A large store made fast: the product's own examination and delivery, many messages a transaction.

Rows, counters, events and index are as reception makes them; only SMTP and the commit for each group are left out.
The store is kept under a name made of what shapes its rows, so that the next run finds it. Tables of an older version
are upgraded by the server that opens them, and an index of another version is made anew.
"""

import asyncio
import hashlib
import logging
import multiprocessing
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from restante.core import delivery, mailboxes, routing
from restante.core.contents import NewContent
from restante.core.delivery import Summary, Target
from restante.ids import AccountId, MailboxId
from restante.schema.connections import WriteConn
from restante.services import storing
from restante.storage import indexer
from restante.storage.signals import Signals
from restante.storage.writer import InProcessDatabase
from tools import corpus
from tools.bench.report import Options, say
from tools.mailgen import Generator
from tools.server import Server, command

MAILBOXES = 40
CHUNK = 250
INLINE_BYTES = 128 * 1024
FORM = 2  # of this module's own choices: counted up with them
SOURCE = Path(__file__).resolve().parents[2] / "src" / "restante"
SHAPED_BY = (
    "core/contents.py",
    "core/delivery.py",
    "services/storing.py",
    "storage/packing.py",
    "schema/tables.py",
    "schema/fulltext/sqlite.py",
    "storage/indexer.py",
    "mail/words.py",
    "mail/message.py",
)

Examined = tuple[NewContent, Summary, str, bytes, int]


def open_store(options: Options) -> Path:
    """A data directory with ``options.messages`` messages, indexed; built when there is none from before."""
    base = options.cache or Path(tempfile.gettempdir()) / "restante-bench-stores"
    data_dir = base / f"{options.messages}-{_version()}"
    if (data_dir / "complete").exists():
        indexer.catch_up(data_dir)
        _read_once(data_dir)
        return data_dir
    shutil.rmtree(data_dir, ignore_errors=True)
    base.mkdir(parents=True, exist_ok=True)
    with Server(data_dir) as server:
        assert server.first_run is not None
        token = command(data_dir, *["token", "create", "--dialect", "mail-api", "--admin", "--rate-limit", "none"])[
            "token"
        ]
    asyncio.run(fill(data_dir, options.messages))
    started = time.monotonic()
    count = indexer.catch_up(data_dir)
    say(f"indexed and merged after {time.monotonic() - started:.0f} s more, {count:,} messages")
    (data_dir / "complete").write_text(token, "ascii")
    return data_dir


def _read_once(data_dir: Path) -> None:
    """Bring the files into memory, where they are when the store was made a moment ago."""
    for name in (indexer.MAIN, indexer.INDEX):
        with (data_dir / name).open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass


def token(data_dir: Path) -> str:
    """The store's admin token, without a rate limit."""
    return (data_dir / "complete").read_text("ascii")


def addresses() -> list[str]:
    """The store's mailboxes; the first ones hold most of the mail."""
    return [_address(number) for number in range(MAILBOXES)]


def any_address(rng: random.Random) -> str:
    """A mailbox, one with more mail more often."""
    return _address(_owner(rng.random()))


def _owner(place: float) -> int:
    """The mailbox that the message at ``place`` (0 to 1) goes to: almost a third of all to the first one."""
    return int(MAILBOXES * place**3)


def _address(number: int) -> str:
    return "admin@example.test" if number == 0 else f"box{number}@example.test"


def _version() -> str:
    digest = hashlib.sha256(str((FORM, MAILBOXES, corpus.available())).encode())
    for name in SHAPED_BY:
        digest.update((SOURCE / name).read_bytes())
    return digest.hexdigest()[:12]


async def fill(data_dir: Path, count: int, url: str = "") -> None:
    """Put messages into a store that has had its first run; the index is left behind."""
    logging.getLogger("restante").setLevel(logging.ERROR)  # transactions of this size are slow, as they say
    db = InProcessDatabase(data_dir, Signals(), url)
    started = time.monotonic()
    first = datetime.now(UTC) - timedelta(seconds=count)
    done = 0
    try:
        ids = await db.write(_add_mailboxes, first)
        for chunk in _examined_chunks(count):
            targets = [ids[number] for *_, number in chunk]
            await db.write(_deliver_many, chunk, targets, first + timedelta(seconds=done))
            done += len(chunk)
            if done % 50_000 < CHUNK:
                say(f"  {done:,} of {count:,} messages, {done / (time.monotonic() - started):,.0f}/s")
    finally:
        await db.close()


def _add_mailboxes(conn: WriteConn, now: datetime) -> list[tuple[int, int]]:
    """Make the mailboxes that the first run did not; (account, mailbox) of each in the order of ``addresses``."""
    (route,) = routing.resolve(conn, _address(0))
    assert route.mailbox_id is not None
    made = [mailboxes.create(conn, route.account_id, address, now) for address in addresses()[1:]]
    return [(int(route.account_id), int(route.mailbox_id)), *((int(one.account_id), int(one.id)) for one in made)]


def _examined_chunks(count: int) -> Iterator[list[Examined]]:
    """In order of arrival, examined by other processes (the last core is left to the writer)."""
    numbers = range(0, count, CHUNK)
    with multiprocessing.get_context("spawn").Pool(max(1, (os.cpu_count() or 2) - 1)) as pool:
        yield from pool.imap(_examine_chunk, ((number, min(CHUNK, count - number)) for number in numbers))


def _examine_chunk(work: tuple[int, int]) -> list[Examined]:
    start, size = work
    generator = Generator(start, run="s", sizes=(800, 6_000))
    made = []
    for place in range(size):
        mail = generator.next()
        raw = mail.raw
        seen = storing.examine(raw, mail.sender, INLINE_BYTES)
        content = NewContent(
            size_bytes=seen.size_bytes,
            sha256=seen.sha256,
            structure=seen.structure,
            raw=seen.raw,
            blob_key=None,
            folded=seen.folded,
        )
        number = _owner((start + place) * 0.6180339887 % 1.0)
        trace = f"Return-Path: <{mail.sender}>\r\nDelivered-To: {_address(number)}\r\n".encode()
        made.append((content, seen.summary, mail.recipient, trace, number))
    return made


def _deliver_many(conn: WriteConn, chunk: list[Examined], owners: list[tuple[int, int]], received_at: datetime) -> None:
    for place, ((content, summary, recipient, trace, _), (account, mailbox)) in enumerate(
        zip(chunk, owners, strict=True)
    ):
        account_id = AccountId(account)
        target = Target(account_id, MailboxId(mailbox), "INBOX", recipient, trace)
        moment = received_at + timedelta(seconds=place)
        delivery.deliver(conn, [(account_id, content)], summary, [target], moment)
