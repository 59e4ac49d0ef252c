"""Statistics over a million recipients of a year: both endpoints, one request at a time, periods of every kind.

The store is filled by the product's own counting; the rows of submissions and recipients, which only a period that
cuts an hour or a day needs, are inserted beside it. Senders, recipient domains and sender domains are many, and
unequal as in real mail: the n-th has a share of 1/n.
"""

import asyncio
import logging
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvloop
from sqlalchemy import insert, select

from restante import clock
from restante.core import domains, inbound, routing, statistics
from restante.core.inbound import Arrivals, Uncounted
from restante.core.periods import HOUR
from restante.core.statistics import Delta
from restante.ids import AccountId
from restante.schema import tables
from restante.schema.connections import WriteConn
from restante.storage.signals import Signals
from restante.storage.writer import InProcessDatabase
from tools.bench import http_load
from tools.bench.reading import address, percentiles
from tools.bench.report import Options, Table, Target, say
from tools.server import Server, command

DAYS = 366
DOMAINS = 20
SENDERS = 500
RECIPIENT_DOMAINS = 3_000
SENDER_DOMAINS = 3_000
REQUESTS = 300  # of each kind
MOST_MILLISECONDS = 20.0
CHUNK = 2_000
COMPLETE = "complete"  # the file in a store that is whole; it holds the token
STATUSES = ("sent",) * 94 + ("bounced",) * 4 + ("deferred",) * 2
DELTAS = {"sent": Delta(delivered=1), "bounced": Delta(bounced=1), "deferred": Delta(deferred=1)}


def run(options: Options) -> list[Table]:
    """``options.messages`` recipients in each direction."""
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="restante-bench-", dir=options.directory) as folder:
        data_dir = (options.cache or Path(folder)) / f"statistics-{options.messages}-{now:%Y%m%d}"
        if not (data_dir / COMPLETE).exists():
            _build(data_dir, options.messages, now)
        token = (data_dir / COMPLETE).read_text("ascii")
        with Server(data_dir) as server:
            rows, targets = [], []
            for name, paths in _kinds(random.Random(3), now):
                requests = [http_load.request(path, token) for path in paths]
                latencies, _ = uvloop.run(http_load.get(address(server), requests, connections=1))
                shown = percentiles(latencies)
                rows.append((name, str(len(requests)), *shown))
                text = f"{name}: p95 {shown[1]} ms (wanted: under {MOST_MILLISECONDS:.0f})"
                targets.append(Target(text, float(shown[1]) < MOST_MILLISECONDS))
    note = (
        f"{options.messages:,} recipients in each direction over {DAYS} days: {SENDERS} senders in {DOMAINS} domains "
        f"of one account, {RECIPIENT_DOMAINS:,} recipient domains, {SENDER_DOMAINS:,} sender domains; an admin's "
        "token, one connection, no request twice."
    )
    return [Table("Statistics", ("", "requests", "p50 ms", "p95 ms", "p99 ms"), rows, targets, note)]


def _build(data_dir: Path, count: int, now: datetime) -> None:
    shutil.rmtree(data_dir, ignore_errors=True)
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    with Server(data_dir):
        made = command(data_dir, "token", "create", "--dialect", "mail-api", "--admin", "--rate-limit", "none")
    asyncio.run(_fill(data_dir, count, now))
    (data_dir / COMPLETE).write_text(made["token"], "ascii")


def _kinds(rng: random.Random, now: datetime) -> Iterator[tuple[str, list[str]]]:
    def paths(make: Callable[[], tuple[str, dict[str, str]]]) -> list[str]:
        made = (make() for _ in range(REQUESTS))
        return list(dict.fromkeys(f"/api/v1/stats/{path}?{urlencode(query)}" for path, query in made))

    def year() -> dict[str, str]:
        start = now - timedelta(days=rng.uniform(300, 365))
        return {"start_date": start.isoformat()}

    def any_period() -> dict[str, str]:
        start = now - timedelta(days=rng.uniform(1, 365))
        end = start + (now - start) * rng.random()
        if rng.random() < 0.5:
            return {"start_date": start.date().isoformat(), "end_date": end.date().isoformat()}
        return {"start_date": start.isoformat(), "end_date": end.isoformat()}

    def sender() -> dict[str, str]:
        place = rng.randrange(SENDERS)
        return rng.choice(({}, {"sender": _sender(place)}, {"sender": _domain(place)}))

    def grouped() -> dict[str, str]:
        return {"group_by": rng.choice(("day", "hour", "domain"))}

    yield "delivery, any period, sender and grouping", paths(lambda: ("delivery", any_period() | sender() | grouped()))
    yield "domain, any period", paths(lambda: (f"domain/{_domain(rng.randrange(DOMAINS))}", any_period()))

    def grouped_by(group: str) -> Callable[[], tuple[str, dict[str, str]]]:
        return lambda: ("delivery", year() | {"group_by": group})

    for group in ("day", "hour", "domain"):
        yield f"delivery, all senders, about a year by {group}", paths(grouped_by(group))
    yield "domain, the largest, about a year", paths(lambda: (f"domain/{_domain(0)}", year()))


def _domain(place: int) -> str:
    return f"d{place % DOMAINS}.example.test"


def _sender(place: int) -> str:
    return f"s{place}@{_domain(place)}"


async def _fill(data_dir: Path, count: int, now: datetime) -> None:
    logging.getLogger("restante").setLevel(logging.ERROR)  # transactions of this size are slow, as they say
    db = InProcessDatabase(data_dir, Signals())
    try:
        account_id = await db.write(_add_domains, now)
        for done in range(0, count, CHUNK):
            size = min(CHUNK, count - done)
            times = now - timedelta(days=DAYS * (1 - done / count)), timedelta(days=DAYS * size / count)
            await db.write(_send, account_id, done, size, *times)
            await db.write(_receive, account_id, done, size, *times)
            if done % 100_000 == 0:
                say(f"  {done:,} of {count:,} recipients")
    finally:
        await db.close()


def _add_domains(conn: WriteConn, now: datetime) -> AccountId:
    (route,) = routing.resolve(conn, "admin@example.test")
    for place in range(DOMAINS):
        domains.add(conn, route.account_id, _domain(place), now, dns_status="forced")
    return route.account_id


def _send(conn: WriteConn, account_id: AccountId, done: int, count: int, since: datetime, span: timedelta) -> None:
    """Messages of one to three recipients within ``span``: rows and counts."""
    rng = random.Random(done)
    senders = _shares(rng, SENDERS, count)
    recipient_domains = _shares(rng, RECIPIENT_DOMAINS, count)
    submissions: list[dict[str, Any]] = []
    transfers: list[dict[str, Any]] = []
    while len(transfers) < count:
        number, sender = done + len(transfers) + 1, _sender(next(senders))
        at = since + span * (len(transfers) / count)
        submissions.append(_submission(account_id, number, sender, clock.to_micros(at)))
        changes: dict[str, Delta] = {}
        for _ in range(min(rng.choice((1, 1, 1, 2, 3)), count - len(transfers))):
            domain, status = f"r{next(recipient_domains)}.test", rng.choice(STATUSES)
            row = {"account_id": account_id, "submission_id": number, "kind": "to", "address": f"x@{domain}"}
            transfers.append({**row, "domain": domain, "status": status})
            changes[domain] = statistics.total([changes.get(domain, Delta()), DELTAS[status]])
        statistics.record_outbound(conn, account_id, sender, at, changes)
    conn.execute(insert(tables.submissions), submissions)
    conn.execute(insert(tables.transfers), transfers)


def _submission(account_id: AccountId, number: int, sender: str, at: int) -> dict[str, Any]:
    return {
        "id": number,
        "account_id": account_id,
        "public_id": number.to_bytes(16),
        "source": "api",
        "status": "sent",
        "queue_id": None,
        "sender": sender,
        "sender_domain": sender.partition("@")[2],
        "envelope_sender": sender,
        "return_token": str(number),
        "subject": "",
        "message_id_header": f"<{number}@bench>",
        "size_bytes": 1,
        "recipients": 1,
        "created_at": at,
        "submitted_at": at,
        "expires_at": at,
    }


def _receive(conn: WriteConn, account_id: AccountId, done: int, count: int, since: datetime, span: timedelta) -> None:
    rng = random.Random(-done)
    senders = _shares(rng, SENDER_DOMAINS, count)
    places = _shares(rng, DOMAINS, count)
    came: Counter[tuple[str, int, str]] = Counter()
    for _ in range(count):
        at = clock.to_micros(since + span * rng.random())
        came[_domain(next(places)), at // HOUR * HOUR, f"o{next(senders)}.test"] += 1
    counted = [Arrivals(*key, recipients) for key, recipients in came.items()]
    c = tables.inbound_cursors.c
    before = conn.execute(select(c.event_number).where(c.account_id == account_id)).scalar_one_or_none() or 0
    assert inbound.count(conn, account_id, Uncounted(account_id, before, before + count, counted))


def _shares(rng: random.Random, of: int, count: int) -> Iterator[int]:
    """Numbers below ``of``, the n-th with a share of 1/n."""
    weights = list(accumulate(1 / (place + 1) for place in range(of)))
    return iter(rng.choices(range(of), cum_weights=weights, k=count))
