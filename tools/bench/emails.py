"""MailCare's list of a million mails: every filter by how much it lets pass, one request at a time, each total checked.

The store is that of the other benchmarks, its mail spread over many inboxes. What each filter must find is counted by
looking at every mail.
"""

import asyncio
import http.client
import json
import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
from sqlalchemy import select, update

from restante.core import accounts, arrivals, routing
from restante.ids import AccountId
from restante.mail import subjects
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn
from restante.storage import sqlite
from restante.storage.signals import Signals
from restante.storage.writer import InProcessDatabase
from tools.bench import store
from tools.bench.reading import address, percentiles
from tools.bench.report import Options, Table, Target, say
from tools.server import Server, command

INBOXES = 5_000
REQUESTS = 100  # of each kind
DRAWN = 4_000  # texts of which those are taken that have the wanted number of hits
SAMPLED = 5_000  # mails from which the hits of a text are guessed before all are looked at
PER_PAGE = 25
DEEP = 1_000
FEW_HITS, FEW_MILLISECONDS, MANY_MILLISECONDS, STATISTICS_MILLISECONDS = 20_000, 20.0, 300.0, 5.0
LEVELS = ((0, 20), (20, 1_000), (1_000, FEW_HITS), (FEW_HITS, 10**9))
STEP = 500


class Mail(NamedTuple):
    """What filters look at; ``searched`` is all of it that a search does."""

    searched: str
    subject: str
    inbox: str
    sender: str
    received_at: int


@dataclass(frozen=True, slots=True)
class Kind:
    """Requests of one kind: query and the total that is right; page 1 unless the query says another."""

    name: str
    asked: list[tuple[dict[str, str], int]]
    most_milliseconds: float


@dataclass(frozen=True, slots=True)
class Counted:
    """What is asked of a store, and how much is in it."""

    mails: int
    senders: int
    kinds: list[Kind]


def run(options: Options) -> list[Table]:
    """Lists by filter, and the statistics."""
    data_dir = store.open_store(options)
    account_id, team = asyncio.run(_prepare(data_dir))
    counted = _counted(data_dir, account_id)
    rows, targets = [], []
    with Server(data_dir) as server:
        made = command(
            data_dir, *["token", "create", "--dialect", "mailcare", "--account", "default", "--rate-limit", "none"]
        )
        client = _Client(address(server), made["token"], f"/api/teams/{team}")
        client.get("/emails", {})
        for kind in counted.kinds:
            latencies = [client.timed("/emails", query, total) for query, total in kind.asked]
            rows.append((kind.name, str(len(latencies)), *percentiles(latencies)))
            targets.append(_target(kind.name, latencies, kind.most_milliseconds))
        client.get("/statistics", {})
        latencies = [client.timed("/statistics", {}, None) for _ in range(200)]
        rows.append(("statistics", str(len(latencies)), *percentiles(latencies)))
        targets.append(_target("statistics", latencies, STATISTICS_MILLISECONDS))
    note = (
        f"`GET /emails` through HTTP, {PER_PAGE} mails a page, one connection: {counted.mails:,} mails, each with a"
        f" subject of its own, to {INBOXES:,} inboxes from {counted.senders:,} senders. No filter is asked twice"
        " but where it says so, so nothing was counted before. Every total was compared with a look at all mails."
    )
    columns = ("", "requests", "p50 ms", "p95 ms", "p99 ms")
    return [Table("MailCare's list of emails", columns, rows, targets, note)]


def _target(name: str, latencies: list[float], most: float) -> Target:
    p95 = float(percentiles(latencies)[1])
    return Target(f"{name}: p95 {p95} ms (wanted: under {most:.0f})", p95 < most)


class _Client:
    """One connection to one team."""

    def __init__(self, place: tuple[str, int], token: str, base: str) -> None:
        self._connection = http.client.HTTPConnection(*place, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._base = base

    def get(self, path: str, query: dict[str, str]) -> tuple[Any, float]:
        """The answer and how long it took; whatever is not ready yet is asked for again."""
        while True:
            started = time.perf_counter()
            self._connection.request("GET", f"{self._base}{path}?{urlencode(query)}", headers=self._headers)
            answer = self._connection.getresponse()
            body = answer.read()
            took = time.perf_counter() - started
            if answer.status == 200:
                return json.loads(body), took
            if answer.status != 503:
                raise AssertionError(f"{answer.status} {body[:200]!r} for {query}")
            time.sleep(1)

    def timed(self, path: str, query: dict[str, str], total: int | None) -> float:
        """How long the answer took, whose total must be right."""
        found, took = self.get(path, query)
        if total is not None and found["meta"]["total"] != total:
            raise AssertionError(f"{query}: {found['meta']['total']} instead of {total}")
        return took


def _counted(data_dir: Path, account_id: AccountId) -> Counted:
    """What is asked, with the right totals, which are counted once for each store."""
    kept = data_dir / f"emails-{REQUESTS}.json"
    if not kept.exists():
        mails = _read(data_dir, account_id)
        senders = len({mail.sender for mail in mails})
        kept.write_bytes(msgspec.json.encode(Counted(len(mails), senders, list(_kinds(mails)))))
    return msgspec.json.decode(kept.read_bytes(), type=Counted)


def _kinds(mails: list[Mail]) -> Iterator[Kind]:
    rng = random.Random(4)
    everything = len(mails)
    deep = {"page": str(DEEP)}
    yield Kind("all, page 1", [({}, everything)] * REQUESTS, FEW_MILLISECONDS)
    yield Kind(f"all, page {DEEP:,}", [(deep, everything)] * REQUESTS, FEW_MILLISECONDS)
    yield from _by_inbox(mails, rng)
    for parameter, texts in _drawn(mails, rng).items():
        for (_, most), asked in _by_level(mails, parameter, texts, rng).items():
            if not asked:
                continue
            is_few = most <= FEW_HITS
            name = f"{parameter}, {f'up to {most:,}' if is_few else f'over {FEW_HITS:,}'} hits"
            yield Kind(name, asked, FEW_MILLISECONDS if is_few else MANY_MILLISECONDS)
            if not is_few:
                again = [(query | deep, total) for query, total in asked if total > DEEP * PER_PAGE]
                yield Kind(f"{name}, page {DEEP:,} after that", again, MANY_MILLISECONDS)


def _by_inbox(mails: list[Mail], rng: random.Random) -> Iterator[Kind]:
    sizes: dict[str, list[int]] = {}
    for mail in mails:
        sizes.setdefault(mail.inbox, []).append(mail.received_at)
    chosen = [*sorted(sizes, key=lambda one: -len(sizes[one]))[:10], *rng.sample(sorted(sizes), REQUESTS - 10)]
    yield Kind("inbox", [({"inbox": one}, len(sizes[one])) for one in chosen], FEW_MILLISECONDS)
    asked = []
    for one in chosen:
        second = rng.choice(sizes[one]) // 1_000_000
        since = datetime.fromtimestamp(second, UTC).isoformat()
        asked.append(({"inbox": one, "since": since}, sum(at > second * 1_000_000 for at in sizes[one])))
    yield Kind("inbox and since", asked, FEW_MILLISECONDS)


Test = Callable[[Mail], bool]
Texts = dict[str, Test]


def _drawn(mails: list[Mail], rng: random.Random) -> dict[str, Texts]:
    """Patterns and searches as people write them: words out of subjects, parts of words, of addresses."""
    patterns: Texts = {}
    searches: Texts = {}
    for text in ("*e*", "*s1*", "*in*", "*your*"):
        patterns[text] = _whole(text)
    for text in ("example", "marco", "lists.example.net", "re", "an", "e"):
        searches[text] = _part(text)
    for _ in range(DRAWN):
        mail = rng.choice(mails)
        words = [word for word in mail.subject.split(" ") if word.isalnum()]
        if not words:
            continue
        place = rng.randrange(len(words))
        pair = " ".join(words[place : place + 2])
        text = rng.choice((f"*{words[place]}*", f"{words[0]}*", f"*{pair}*", f"{words[0]}*{words[-1]}*"))
        patterns[text] = _whole(text)
        word = rng.choice((words[place], words[place], mail.sender.partition("@")[0], mail.inbox))
        start = rng.randrange(max(1, len(word) - 3))
        part = word[start : start + rng.randrange(3, 7)] if rng.random() < 0.7 else word
        searches[part] = _part(part)
    return {"subject": patterns, "search": searches}


def _whole(text: str) -> Test:
    first, *middle, last = text.split("*")

    def test(mail: Mail) -> bool:
        subject = mail.subject
        if not (subject.startswith(first) and subject.endswith(last) and len(first) + len(last) <= len(subject)):
            return False
        place = len(first)
        for piece in middle:
            place = subject.find(piece, place, len(subject) - len(last)) + len(piece)
            if place < len(piece):
                return False
        return True

    return test


def _part(text: str) -> Test:
    return lambda mail: text in mail.searched


Asked = list[tuple[dict[str, str], int]]


def _by_level(mails: list[Mail], parameter: str, texts: Texts, rng: random.Random) -> dict[tuple[int, int], Asked]:
    """The texts by how many mails they match, ``REQUESTS`` of each level where there are so many."""
    levels: dict[tuple[int, int], Asked] = {level: [] for level in LEVELS}
    sample = rng.sample(mails, min(len(mails), SAMPLED))
    for text, test in texts.items():
        guess = sum(map(test, sample)) * len(mails) // len(sample)
        error = 2 * len(mails) // len(sample)
        wanted = [one for one in LEVELS if one[0] <= 2 * guess + error and guess <= 2 * one[1] + error]
        if all(len(levels[level]) >= REQUESTS for level in wanted):
            continue
        total = sum(map(test, mails))
        level = next(level for level in LEVELS if total <= level[1])
        if len(levels[level]) < REQUESTS:
            levels[level].append(({parameter: text}, total))
    return levels


async def _prepare(data_dir: Path) -> tuple[AccountId, str]:
    """Spread the store's mail over inboxes, once, and make its arrivals; returns the account and its public id."""
    logging.getLogger("restante").setLevel(logging.ERROR)  # transactions of this size are slow, as they say
    db = InProcessDatabase(data_dir, Signals())
    try:
        (route,) = await db.read(routing.resolve, store.addresses()[0])
        account = await db.read(accounts.get, route.account_id)
        mark = data_dir / "inboxes"
        if not mark.exists():
            last = 0
            while (following := await db.write(_rename, account.id, last)) is not None:
                last = following
            mark.touch()
        started, done = time.monotonic(), 0
        while (piece := await db.read(arrivals.survey, account.id, STEP)) is not None:
            await db.write(arrivals.advance, account.id, piece, STEP)
            done += STEP
            if done % 50_000 == 0:
                say(f"  {done:,} arrivals, {done / (time.monotonic() - started):,.0f}/s")
        return account.id, account.public_id
    finally:
        await db.close()


def _rename(conn: WriteConn, account_id: AccountId, after: int) -> int | None:
    """Give the next messages recipients, some of which have many; returns the last id, None when there are no more."""
    m = tables.messages.c
    some = select(m.id).where(m.account_id == account_id, m.id > after).order_by(m.id).limit(10 * STEP)
    ids = list(conn.execute(some).scalars())
    for message_id in ids:
        number = int(INBOXES * random.Random(message_id).random() ** 3)
        renamed = update(tables.messages).where(m.id == message_id)
        conn.execute(renamed.values(envelope_recipient=f"box{number}@example.test"))
    return ids[-1] if ids else None


def _read(data_dir: Path, account_id: AccountId) -> list[Mail]:
    conn = sqlite.open_reader(data_dir)
    mails: list[Mail] = []
    last = 0
    while rows := _mails(conn, account_id, last):
        last = rows[-1][0]
        mails += [_mail(*row[1:]) for row in rows]
    conn.close()
    return mails


def _mail(subject: str, inbox: str, sender: str, received_at: int) -> Mail:
    folded = subjects.fold(subject)
    return Mail(f"{folded}\n{inbox}\n{sender}", folded, inbox, sender, received_at)


def _mails(conn: ReadConn, account_id: AccountId, after: int) -> list[Any]:
    m = tables.messages.c
    columns = m.id, m.subject, m.envelope_recipient, m.from_email, m.received_at
    some = select(*columns).where(m.account_id == account_id, m.id > after).order_by(m.id).limit(10 * STEP)
    return list(conn.execute(some))
