"""What a benchmark takes and gives: options, tables of text, and the page ``docs/benchmarks.md``."""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured. ``directory`` holds all files, on the disk that is to be measured."""

    seconds: float = 60.0  # of a round
    rounds: int = 3
    messages: int = 1_000_000  # in the store that is read from
    most_per_second: int = 6_000  # how many messages are made ready for a second of a round
    directory: Path | None = None
    cache: Path | None = None  # where a built store is kept for the next run


@dataclass(frozen=True, slots=True)
class Target:
    """A promise and what was measured for it."""

    text: str
    is_kept: bool


@dataclass(frozen=True, slots=True)
class Table:
    """One result: the rows are what was measured, the targets what was promised about it."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    targets: list[Target] = field(default_factory=list)
    note: str = ""

    def markdown(self) -> str:
        """The table as it stands on the page."""
        lines = [f"### {self.title}", ""]
        if self.note:
            lines += [self.note, ""]
        lines += [_row(self.columns), _row(["---", *["---:"] * (len(self.columns) - 1)])]
        lines += [_row(row) for row in self.rows]
        lines += ["", *(f"- {'kept' if target.is_kept else '**missed**'}: {target.text}" for target in self.targets)]
        return "\n".join(lines).rstrip() + "\n"

    def text(self) -> str:
        """The table for a terminal."""
        widths = [max(len(row[place]) for row in (self.columns, *self.rows)) for place in range(len(self.columns))]
        lines = [self.title]
        for row in (self.columns, *self.rows):
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
            lines.append("  " + "  ".join(cells))
        lines += [f"  {'ok    ' if target.is_kept else 'MISSED'}  {target.text}" for target in self.targets]
        return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def machine(command: str, peer: str) -> str:
    """Where and with what the figures were measured."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("apsw", "uvloop", "zstandard", "msgspec"))
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    built = " of the system" if sys.base_prefix == "/usr" else ""
    return (
        f"Command `{command}` on {date}: {os.cpu_count()} cores ({_processor()}), {_memory_gib():.0f} GiB, Linux "
        f"{platform.release()}, CPython {platform.python_version()}{built}, {versions}, {peer}; commit {_commit()}."
    )


def write_page(tables: Sequence[Table], command: str, peer: str) -> None:
    """Replace the measured part of ``docs/benchmarks.md`` that has the same titles; keep the rest."""
    sections = _sections(PAGE.read_text("utf-8")) if PAGE.exists() else {}
    where = machine(command, peer)
    for table in tables:
        sections[table.title] = f"{table.markdown()}\n{where}\n"
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(_HEAD + "\n" + "\n".join(sections.values()), "utf-8")


_HEAD = """\
# Benchmarks

Measured by `./dev bench --write`, which wrote this page. Everything runs on one machine, the generator and the peer
on the same cores as the server, so ratios say more than figures. Messages are made from the text of a corpus of real
mail, each of them different, 2 to 20 KB, half of them under 7 KB, a sixth with an attachment; both servers get the
same bytes, three steps a message (RFC 2920 pipelining), and only answers of 250 are counted. Both keep a message on
disk (fsync) before they answer. Restante then has parsed it, compressed it, logged a line and put it into a mailbox;
it indexes meanwhile. "Postfix" does its duties as Debian ships it, with logs and its queue manager, told to defer
delivery; "nothing but its queue" is the same program with all of that off (`tools/bench/postfix.py`). Rounds alternate;
figures are medians of the rounds.
"""


def _sections(page: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in page.split("\n### ")[1:]:
        title, _, _ = part.partition("\n")
        found[title] = "### " + part.rstrip("\n") + "\n"
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _commit() -> str:
    shown = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return shown.stdout.strip() or "unknown"
