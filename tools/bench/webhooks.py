"""Webhooks and automations: what they cost a burst of mail, how fast they are told, how late at a steady pace.

Three webhooks are told of every mail, and each of ten automations is for a tenth of them: four calls a mail.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop

from tools import smtp_load
from tools.bench.report import Options, Table, Target, say
from tools.mailgen import Generator, Mail
from tools.server import Server, command

WEBHOOKS = 3
AUTOMATIONS = 10  # each for senders whose address has another last digit
CALLS = WEBHOOKS + 1  # about one mail
BURST = 20_000  # mails, in 50 seconds or more; in less, in proportion
PACE = 200  # mails a second
CONNECTIONS = 20
DRAIN_SECONDS = 300.0
LEAST_SHARE, LEAST_DRAIN, MOST_LAG = 0.8, 1_000, 1.0


@contextmanager
def sinking() -> Iterator[str]:
    """A place to call, in a process of its own; its URL."""
    process = subprocess.Popen([sys.executable, "-m", "tools.webhook_sink"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
    finally:
        process.kill()
        process.communicate()


def run(options: Options) -> list[Table]:
    """A burst without them, the same with them, then a steady pace."""
    base = Path(tempfile.mkdtemp(prefix="restante-bench-", dir=options.directory))
    count = min(BURST, int(BURST * options.seconds / 50))
    environment = {**os.environ, "RESTANTE_EGRESS_ALLOW": "127.0.0.0/8"}
    try:
        with Server(base / "plain") as server:
            _burst(server, count // 10, "warm")
            without = _burst(server, count, "w")
        say(f"  without {without.rate:7.0f} mails/s")
        with sinking() as url, Server(base / "data", environment=environment) as server:
            _burst(server, count // 10, "warm")
            _add(base / "data", url)
            load = _burst(server, count, "x")
            told = _ask(url)["count"]
            say(f"  with them {load.rate:7.0f} mails/s; {told} calls made meanwhile")
            began, used = time.perf_counter(), server.cpu_seconds()
            _await(url, CALLS * load.accepted)
            drained = CALLS * load.accepted - told
            drain = drained / (time.perf_counter() - began)
            cost = _cpu_each(used, server.cpu_seconds(), drained)
            say(f"  drained at {drain:7.0f} calls/s; CPU a call: {cost}")
            steady = uvloop.run(_steady(server, min(options.seconds, 30.0)))
            lags = sorted(_await(url, CALLS * (load.accepted + steady)))
        return [_table(count, without.rate, load.rate, drain, lags[len(lags) * 95 // 100], cost)]
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _burst(server: Server, count: int, run: str) -> smtp_load.Load:
    mails = Generator(1, run=run).take(count)
    return uvloop.run(smtp_load.send(server.smtp, mails, connections=CONNECTIONS))


async def _steady(server: Server, seconds: float) -> int:
    """``PACE`` mails a second, ten times a second some; how many were accepted."""
    mails: list[Mail] = Generator(2, run="s").take(int(PACE * seconds))
    loop = asyncio.get_running_loop()
    began, step, accepted = loop.time(), PACE // 10, 0
    for number in range(0, len(mails), step):
        await asyncio.sleep(max(0.0, began + number / PACE - loop.time()))
        accepted += (await smtp_load.send(server.smtp, mails[number : number + step], connections=4)).accepted
    return accepted


def _cpu_each(before: dict[str, float], after: dict[str, float], count: int) -> str:
    """What each process spent on one of so many, in microseconds of CPU."""
    spent = {name: 1e6 * (used - before.get(name, 0.0)) / max(count, 1) for name, used in sorted(after.items())}
    return ", ".join(f"{name} {used:.0f} us" for name, used in spent.items())


def _add(data_dir: Path, url: str) -> None:
    for _ in range(WEBHOOKS):
        command(data_dir, "webhook", "add", url, "--type", "message.received")
    for digit in range(AUTOMATIONS):
        form = ("json", "raw")[digit % 2]
        command(data_dir, "automation", "add", f"{digit}", "--sender", f"{digit}@", "--url", url, "--format", form)


def _ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


def _await(url: str, count: int) -> list[float]:
    """Wait for so many calls in all; how late those were that came meanwhile, in seconds."""
    end, lags = time.monotonic() + DRAIN_SECONDS, list[float]()
    while True:
        found = _ask(url)
        lags += found["lags"]
        if found["count"] >= count:
            return lags
        if time.monotonic() > end:
            raise TimeoutError(f"{found['count']} of {count} calls were made")
        time.sleep(0.05)


def _table(count: int, without: float, rate: float, drain: float, lag: float, cost: str) -> Table:
    return Table(
        title=f"{WEBHOOKS} webhooks told of every mail, {AUTOMATIONS} automations each of a tenth",
        columns=("", "figure"),
        rows=[
            ("mails/s without them", f"{without:,.0f}"),
            ("mails/s with them", f"{rate:,.0f}"),
            ("calls/s after the burst", f"{drain:,.0f}"),
            (f"ms from event to call, p95, at {PACE} mails/s", f"{lag * 1000:,.0f}"),
        ],
        targets=[
            Target(f"at least {LEAST_SHARE} of the rate without: {rate / without:.2f}", rate >= LEAST_SHARE * without),
            Target(f"at least {LEAST_DRAIN:,} calls/s: {drain:,.0f}", drain >= LEAST_DRAIN),
            Target(f"p95 under {MOST_LAG:.0f} s at {PACE} mails/s: {lag * 1000:,.0f} ms", lag < MOST_LAG),
        ],
        note=f"A burst of {count:,} mails over {CONNECTIONS} connections; the places called answer at once. CPU a call "
        f"after the burst: {cost}.",
    )
