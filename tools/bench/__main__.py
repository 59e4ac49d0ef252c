"""``python -m tools.bench [NAME ...]``: run benchmarks, print tables, write the page when asked."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tools.bench import (
    emails,
    engines,
    ingest,
    memory,
    postfix,
    reading,
    report,
    sending,
    statistics,
    streams,
    webhooks,
)
from tools.bench.report import Options, Table

Bench = Callable[[Options], list[Table]]

ON_BOTH_ENGINES: dict[str, Bench] = {
    "ingest": engines.run_ingest,
    "reading": engines.run_reading,
}
BENCHES: dict[str, Bench] = {
    "ingest": ingest.run,
    "send": sending.run,
    "list": reading.run_list,
    "search": reading.run_search,
    "emails": emails.run,
    "statistics": statistics.run,
    "memory": memory.run,
    "webhooks": webhooks.run,
    "streams": streams.run,
}


def main(arguments: list[str]) -> int:
    """Exit status 1 when a promise is missed."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHES)} (all)")
    parser.add_argument(
        "--quick", action="store_true", help="short rounds and a small store: to try the benchmark itself"
    )
    parser.add_argument("--seconds", type=float, help="of a round of ingest (60)")
    parser.add_argument("--rounds", type=int, help="of ingest (3)")
    parser.add_argument(
        "--messages", type=int, help="in the store that is read from, or recipients in the statistics (1000000)"
    )
    parser.add_argument("--directory", type=Path, help="where files are made: a directory on the disk to measure")
    parser.add_argument("--cache", type=Path, help="where a built store is kept for the next run")
    parser.add_argument(
        "--engine", choices=("postgres",), help="SQLite and this one beside each other: ingest, reading"
    )
    parser.add_argument("--write", action="store_true", help="put the figures into docs/benchmarks.md")
    given = parser.parse_args(arguments)
    benches = ON_BOTH_ENGINES if given.engine else BENCHES
    unknown = [name for name in given.names if name not in benches]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]}; there are: {', '.join(benches)}")
    options = Options(seconds=5.0, rounds=2, messages=20_000) if given.quick else Options()
    if given.engine and not given.quick:
        options = replace(options, messages=100_000, seconds=20.0)
    wanted = ("seconds", "rounds", "messages", "directory", "cache")
    options = replace(options, **{name: getattr(given, name) for name in wanted if getattr(given, name) is not None})
    tables: list[Table] = []
    for name in given.names or benches:
        for table in benches[name](options):
            print(table.text(), flush=True)
            tables.append(table)
    if given.write:
        report.write_page(tables, " ".join(["./dev bench", *arguments]), engines.version() if given.engine else _peer())
    return 0 if all(target.is_kept for table in tables for target in table.targets) else 1


def _peer() -> str:
    try:
        return f"Postfix {postfix.version()}"
    except postfix.Missing:
        return "without Postfix"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
