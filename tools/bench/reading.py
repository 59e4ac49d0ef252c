"""Reading from a store of a million mails: pages of a list on one core, searches one at a time."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import uvloop

from tools import mailgen
from tools.bench import http_load, store
from tools.bench.report import Options, Table, Target
from tools.server import Server

WARM_UP_SECONDS = 2.0
LEAST_RATE = 2_500
RESTED = "The server had come to rest after its start, and the store's files had been read once."
SEARCHES = 400


def run_list(options: Options) -> list[Table]:
    """Lists of 50 through the Mail API, the server's processes bound to one core."""
    data_dir = store.open_store(options)
    token = store.token(data_dir)
    rows, targets = [], []
    seconds = min(options.seconds, 10.0)
    with Server(data_dir) as server, _pinned(server) as cores:
        server.await_rest()
        for name, paths in list_paths().items():
            requests = [http_load.request(path, token) for path in paths]
            place = address(server)
            uvloop.run(http_load.get(place, requests, connections=32, seconds=WARM_UP_SECONDS))
            latencies, spent = uvloop.run(http_load.get(place, requests, connections=32, seconds=seconds))
            rate = len(latencies) / spent
            rows.append((name, f"{rate:,.0f}", *percentiles(latencies)))
            targets.append(
                Target(f"{name}: {rate:,.0f} lists a second on one core (wanted: 2,500)", rate >= LEAST_RATE)
            )
    note = f"{options.messages:,} messages in {store.MAILBOXES} mailboxes, 32 connections. {cores} {RESTED}"
    return [Table("List of 50 messages", ("", "requests/s", "p50 ms", "p95 ms", "p99 ms"), rows, targets, note)]


def list_paths() -> dict[str, list[str]]:
    """What is asked for, by kind."""
    boxes, rng = store.addresses(), random.Random(1)
    first = [_list(boxes[0], 0)]
    mixed = [_list(store.any_address(rng), rng.choice((0, 0, 50, rng.randrange(1_000)))) for _ in range(500)]
    return {"first page of the largest mailbox": first, "any mailbox, up to row 1,000": mixed}


def run_search(options: Options) -> list[Table]:
    """Searches through the Mail API, one at a time, none repeated in a mailbox."""
    data_dir = store.open_store(options)
    token = store.token(data_dir)
    rows, targets = [], []
    with Server(data_dir) as server:
        server.await_rest()
        for name, paths in search_paths().items():
            most = 10.0 if name.startswith("one word") else 20.0
            requests = [http_load.request(path, token) for path in paths]
            latencies, _ = uvloop.run(http_load.get(address(server), requests, connections=1))
            shown = percentiles(latencies)
            rows.append((name, str(len(requests)), *shown))
            targets.append(Target(f"{name}: p95 {shown[1]} ms (wanted: {most:.0f})", float(shown[1]) < most))
    note = (
        f"{options.messages:,} messages in {store.MAILBOXES} mailboxes, three tenths of them in the largest; each"
        " search is made once, over one connection: the newest 50 hits with snippets, and their exact number. Half of"
        " the words (of four letters and more) are drawn as often as they stand in the mail, half from the vocabulary,"
        " where most are rare; substrings are four to six letters of such words; mailboxes are drawn by their size."
        f" {RESTED}"
    )
    return [Table("Search", ("", "searches", "p50 ms", "p95 ms", "p99 ms"), rows, targets, note)]


def search_paths() -> dict[str, list[str]]:
    """What is asked for, by kind, no search twice in a mailbox.

    Half of the words (of four letters and more) are drawn as often as they stand in the text of the mail, so that the
    common ones are among them, half from the vocabulary, where most are rare; substrings are four to six letters out of
    such words. Mailboxes are drawn by their size.
    """
    rng = random.Random(2)
    kinds = {
        "one word": [_one_word(rng) for _ in range(SEARCHES)],
        "three words": [_three_words(rng) for _ in range(SEARCHES)],
        "substring": [_substring(rng) for _ in range(SEARCHES)],
    }
    drawn = [store.any_address(rng) for _ in range(SEARCHES)]
    return {
        f"{name}, {where}": [
            f"/api/v1/mailbox/{rng.choice(among)}/search?q={quote(text)}" for text in dict.fromkeys(words)
        ]
        for where, among in (("largest mailbox", store.addresses()[:1]), ("any mailbox", drawn))
        for name, words in kinds.items()
    }


def _list(box: str, offset: int) -> str:
    return f"/api/v1/mailbox/{box}/messages?limit=50&offset={offset}"


def _one_word(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return rng.choice(mailgen.invented_words())
    return rng.choice(rng.choice(mailgen.paragraphs()).words)


def _three_words(rng: random.Random) -> str:
    words = rng.choice(mailgen.paragraphs()).words
    return " ".join(rng.choice(words) for _ in range(3))


def _substring(rng: random.Random) -> str:
    word = (
        rng.choice(mailgen.invented_words())
        if rng.random() < 0.5
        else rng.choice(rng.choice(mailgen.paragraphs()).words)
    )
    length = min(len(word), rng.randrange(4, 7))
    start = rng.randrange(len(word) - length + 1)
    return word[start : start + length]


def percentiles(latencies: list[float]) -> tuple[str, str, str]:
    """p50, p95 and p99 in milliseconds."""
    ordered = sorted(latencies)
    middle, high, highest = (ordered[min(len(ordered) - 1, len(ordered) * part // 100)] * 1000 for part in (50, 95, 99))
    return f"{middle:.2f}", f"{high:.2f}", f"{highest:.2f}"


def address(server: Server) -> tuple[str, int]:
    """Where a server answers HTTP."""
    parts = urlsplit(server.http)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


@contextmanager
def _pinned(server: Server) -> Iterator[str]:
    """Bind the server to one core and ourselves to the others for a while; says so for the note."""
    cores = os.sched_getaffinity(0)
    first, others = min(cores), cores - {min(cores)}
    for pid in server.pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                os.sched_setaffinity(int(task.name), {first})
    if not others:
        yield "The client ran on the server's core."
        return
    os.sched_setaffinity(0, others)
    try:
        yield "All server processes bound to one core, the client to another."
    finally:
        os.sched_setaffinity(0, cores)
