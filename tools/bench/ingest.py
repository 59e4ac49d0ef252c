"""Ingest: the same distinct messages to us and to Postfix, in alternating rounds of one run."""

import os
import shutil
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import uvloop

from tools import smtp_load
from tools.bench import postfix
from tools.bench.report import Options, Table, Target, say
from tools.mailgen import Generator, Mail
from tools.server import Server

CATCH_UP_SECONDS = 120.0


@dataclass(slots=True)
class Rounds:
    """What one server did, a figure a round."""

    rates: list[float] = field(default_factory=list)
    rates_caught_up: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[dict[str, float]] = field(default_factory=list)  # process -> us a message, indexed
    refused: int = 0

    def take(self, load: smtp_load.Load, lag: float) -> None:
        """Add a round; ``lag`` is how long the index took to catch up after the last answer."""
        latencies = sorted(load.latencies)
        self.rates.append(load.rate)
        self.rates_caught_up.append(load.accepted / (load.seconds + lag))
        self.lags.append(lag)
        self.p50.append(latencies[len(latencies) // 2] * 1000)
        self.p99.append(latencies[len(latencies) * 99 // 100] * 1000)
        self.refused += sum(load.refused.values()) + load.lost_connections


COLUMNS = ("", "messages/s", "range", "p50 ms", "p99 ms", "not accepted")
PEERS = {"plain": "Postfix", "lean": "Postfix, nothing but its queue"}


def run(options: Options) -> list[Table]:
    """20 connections and 1 connection, ``options.rounds`` rounds each of ``options.seconds``."""
    base = Path(tempfile.mkdtemp(prefix="restante-bench-", dir=options.directory))
    base.chmod(0o755)
    try:
        # As many messages on one connection as a round has.
        environment = os.environ | {"RESTANTE_SMTP_LIMITS_MAX_MESSAGES": "1000000"}
        with Server(base / "data", environment=environment) as server, ExitStack() as stack:
            peers: dict[str, postfix.Postfix] = {}
            try:
                for kind in PEERS:
                    peers[kind] = stack.enter_context(postfix.running(base / kind, kind))
            except postfix.Missing as missing:
                say(f"no comparison: {missing}")
            return [_measure(options, server, peers, count) for count in (20, 1)]
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _measure(options: Options, server: Server, peers: dict[str, postfix.Postfix], connections: int) -> Table:
    ours, theirs = Rounds(), {kind: Rounds() for kind in peers}
    seconds = options.seconds if connections > 1 else min(options.seconds, 20.0)
    for number in range(options.rounds):
        mails = Generator(number, run=f"c{connections}r").take(int(seconds * options.most_per_second))
        sides = ["restante", *peers]
        turn = number % len(sides)
        for side in sides[turn:] + sides[:turn]:
            if side == "restante":
                _us(server, mails, connections, seconds, ours)
            else:
                _them(side, peers[side], mails, connections, seconds, theirs[side])
    return _table(options, connections, seconds, ours, theirs)


def _us(server: Server, mails: list[Mail], connections: int, seconds: float, ours: Rounds) -> None:
    before = server.cpu_seconds()
    load = uvloop.run(smtp_load.send(server.smtp, mails, connections=connections, seconds=seconds))
    ours.take(load, await_index(server.data_dir))
    spent = {name: used - before.get(name, 0.0) for name, used in server.cpu_seconds().items()}
    ours.cpu.append({name: used * 1e6 / max(load.accepted, 1) for name, used in spent.items()})
    say(f"  restante  {connections:>2} connections  {load.rate:7.0f}/s  index behind {ours.lags[-1]:.2f} s")


def _them(
    kind: str, peer: postfix.Postfix, mails: list[Mail], connections: int, seconds: float, theirs: Rounds
) -> None:
    load = uvloop.run(smtp_load.send(peer.address, mails, connections=connections, seconds=seconds))
    queued = peer.queued()
    assert queued == load.accepted, f"Postfix acknowledged {load.accepted} and queued {queued}"
    peer.forget()
    theirs.take(load, 0.0)
    say(f"  postfix   {connections:>2} connections  {load.rate:7.0f}/s  ({kind})")


def await_index(data_dir: Path) -> float:
    """Wait until the search index has everything; returns how many seconds that took."""
    started = time.perf_counter()
    main = apsw.Connection(str(data_dir / "restante.db"), flags=apsw.SQLITE_OPEN_READONLY)
    index = apsw.Connection(str(data_dir / "index.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        while _watermark(index) < _last_queued(main):
            if time.perf_counter() - started > CATCH_UP_SECONDS:
                raise TimeoutError("the index does not catch up")
            time.sleep(0.01)
    finally:
        main.close()
        index.close()
    return time.perf_counter() - started


def _last_queued(main: apsw.Connection) -> int:
    return int(main.execute("select coalesce(max(seq), 0) from sqlite_sequence where name = 'index_queue'").get)


def _watermark(index: apsw.Connection) -> int:
    return int(index.execute("select value from state where key = 'watermark'").get)


def _table(options: Options, connections: int, seconds: float, ours: Rounds, theirs: dict[str, Rounds]) -> Table:
    rows = [row("Restante, answered", ours, ours.rates), row("Restante, index caught up", ours, ours.rates_caught_up)]
    rows += [row(PEERS[kind], rounds, rounds.rates) for kind, rounds in theirs.items()]
    promises = [("answered", 2.0, ours.rates), ("with the index caught up", 1.5, ours.rates_caught_up)]
    if connections == 1:
        promises = [("answered", 1.2, ours.rates)]
    targets = []
    for what, least, rates in promises if theirs else []:
        ratio, lean = (
            statistics.median(a / b for a, b in zip(rates, theirs[kind].rates, strict=True)) for kind in PEERS
        )
        pairs = f"medians of {options.rounds} pairs"
        text = f"{what}: {ratio:.2f} times Postfix (wanted: {least}), {lean:.2f} times its bare queue; {pairs}"
        targets.append(Target(text, ratio >= least))
    lag = statistics.median(ours.lags)
    note = f"{options.rounds} rounds of {seconds:.0f} s each; after the last answer the index was {lag:.2f} s behind. "
    note += f"CPU a message: {_cpu(ours)}."
    plural = "s" if connections > 1 else ""
    return Table(f"Ingest, {connections} connection{plural}", COLUMNS, rows, targets, note)


def _cpu(ours: Rounds) -> str:
    """The median of the rounds by process: steadier than a rate where other programs run too."""
    medians = {name: statistics.median(one.get(name, 0.0) for one in ours.cpu) for name in ours.cpu[-1]}
    return ", ".join(f"{name} {used:.0f} us" for name, used in sorted(medians.items()))


def row(name: str, rounds: Rounds, rates: list[float]) -> tuple[str, ...]:
    """A row of a table with ``COLUMNS``."""
    return (
        name,
        f"{statistics.median(rates):,.0f}",
        f"{min(rates):,.0f} to {max(rates):,.0f}",
        f"{statistics.median(rounds.p50):.1f}",
        f"{statistics.median(rounds.p99):.1f}",
        str(rounds.refused),
    )
