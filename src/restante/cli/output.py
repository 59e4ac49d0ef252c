"""What commands print: one JSON document, or aligned text for people."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from restante.log import escape

MAX_CELL = 60
_STEERING = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")  # json leaves these as they are


def as_json(value: Any) -> None:
    """Print one JSON document on one line; what could steer a terminal in it is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    print(_STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], empty: str) -> None:
    """Print rows as aligned columns under their names; ``empty`` when there are none."""
    cells = [[cell(row.get(name)) for name in columns] for row in rows]
    if not cells:
        print(empty)
        return
    heads = [name.upper().replace("_", " ") for name in columns]
    widths = [max(len(line[n]) for line in [heads, *cells]) for n in range(len(columns))]
    for line in [heads, *cells]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def fields(value: Mapping[str, Any]) -> None:
    """Print one thing, a field a line."""
    width = max((len(name) for name in value), default=0)
    for name, item in value.items():
        print(f"{name.replace('_', ' ').ljust(width)}  {cell(item, limit=None)}")


def cell(value: Any, limit: int | None = MAX_CELL) -> str:
    """A value as people read it; nothing in it can steer a terminal."""
    match value:
        case None:
            text = "-"
        case True:
            text = "yes"
        case False:
            text = "no"
        case list():
            text = ", ".join(cell(item, None) for item in value) or "-"
        case {"email": str(email), "name": str(name)}:
            text = f"{name} <{email}>" if name else email
        case _:
            text = str(value)
    text = escape(text)
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"


def size(number: int | None) -> str:
    """Bytes for people: ``1.5 MiB``."""
    if number is None:
        return "no limit"
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{int(value)} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


class Progress:
    """A bar on standard error when that is a terminal, else silence."""

    def __init__(self, what: str, *, quiet: bool = False) -> None:
        self._what = what
        self._on = sys.stderr.isatty() and not quiet
        self._shown = ""

    def show(self, done: int, total: int | None, note: str = "") -> None:
        """Draw it anew; without ``total`` only the count."""
        if not self._on:
            return
        if total:
            share = min(done / total, 1.0)
            bar = "#" * int(share * 30)
            text = f"{self._what} [{bar:30}] {share:4.0%} {note}"
        else:
            text = f"{self._what} {done} {note}"
        if text != self._shown:
            sys.stderr.write(f"\r\x1b[K{escape(text)[:100]}")
            sys.stderr.flush()
            self._shown = text

    def end(self) -> None:
        """Take it away."""
        if self._on and self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
