"""Sending: mail that our user submits and we hand on, beside Postfix relaying the same to the same sink."""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import uvloop

from tools import smtp_load, smtp_sink
from tools.bench import postfix
from tools.bench.report import Options, Table, Target, say
from tools.mailgen import Generator, Mail
from tools.server import Server
from tools.smtp_sink import Counting

MAILS = 5_000  # of a round
CONNECTIONS = 20  # that submit
DOMAINS = 20  # of recipients
LEAST_RATIO = 0.8
LONGEST_SECONDS = 900.0

Submit = Callable[[list[Mail]], smtp_load.Load]


def run(options: Options) -> list[Table]:
    """``options.rounds`` rounds of 5,000 mails, from the first command to the last mail at the sink."""
    base = Path(tempfile.mkdtemp(prefix="restante-bench-", dir=options.directory))
    base.chmod(0o755)
    count = min(MAILS, options.messages)
    try:
        with smtp_sink.counting() as sink, ExitStack() as stack:
            settings = {
                "RESTANTE_TRANSFER_SMARTHOST": "{}:{}".format(*sink.address),
                "RESTANTE_TRANSFER_SMARTHOST_TLS": "none",
            }
            server = stack.enter_context(Server(base / "data", environment={**os.environ, **settings}))
            sides: dict[str, Submit] = {"restante": lambda mails: _submit(server, mails)}
            try:
                relay = f"relayhost = [{sink.address[0]}]:{sink.address[1]}\n"
                peer = stack.enter_context(postfix.running(base / "postfix", "relay", relay))
                sides["postfix"] = lambda mails: uvloop.run(
                    smtp_load.send(peer.address, mails, connections=CONNECTIONS, seconds=LONGEST_SECONDS)
                )
            except postfix.Missing as missing:
                say(f"no comparison: {missing}")
            return [_measure(options, count, sink, sides)]
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _submit(server: Server, mails: list[Mail]) -> smtp_load.Load:
    assert server.first_run is not None
    login = (server.first_run.mailbox, server.first_run.password)
    return uvloop.run(
        smtp_load.send(server.submission, mails, connections=CONNECTIONS, seconds=LONGEST_SECONDS, login=login)
    )


def _measure(options: Options, count: int, sink: Counting, sides: dict[str, Submit]) -> Table:
    rates: dict[str, list[float]] = {side: [] for side in sides}
    recipients = [f"box@d{number}.example.net" for number in range(DOMAINS)]
    for number in range(options.rounds):
        mails = Generator(number, run="send", recipients=recipients, sender="admin@example.test").take(count)
        names = list(sides)
        turn = number % len(names)
        for side in names[turn:] + names[:turn]:
            before = sink.count
            started = time.perf_counter()
            load = sides[side](mails)
            assert load.accepted == count, load
            submitted = time.perf_counter() - started
            sink.await_count(before + count, LONGEST_SECONDS)
            took = time.perf_counter() - started
            assert sink.count == before + count, "a mail came twice"
            rates[side].append(count / took)
            say(f"  {side:9} {count / took:7.0f}/s  (submitted in {submitted:.1f} s, all there after {took:.1f} s)")
    return _table(options, count, rates)


def _table(options: Options, count: int, rates: dict[str, list[float]]) -> Table:
    medians = {side: statistics.median(found) for side, found in rates.items()}
    rows = [(side, f"{medians[side]:,.0f}", f"{min(found):,.0f} to {max(found):,.0f}") for side, found in rates.items()]
    targets = []
    if "postfix" in medians:
        ratio = statistics.median(
            ours / theirs for ours, theirs in zip(rates["restante"], rates["postfix"], strict=True)
        )
        targets.append(Target(f"at least {LEAST_RATIO} times Postfix: {ratio:.2f}", ratio >= LEAST_RATIO))
    return Table(
        title="Sending: submitted, queued durably, handed on",
        columns=("", "mails/s, median", "all rounds"),
        rows=rows,
        targets=targets,
        note=f"{count:,} mails of 2 to 20 KB from {CONNECTIONS} connections, {options.rounds} rounds, to one sink.",
    )
