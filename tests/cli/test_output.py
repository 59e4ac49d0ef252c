"""What people read: sizes, tables, a progress bar only on a terminal."""

import io
import json
import sys

import pytest

from restante.cli import output


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3.0 TiB"), (None, "no limit")],
)
def test_sizes(number: int | None, text: str) -> None:
    assert output.size(number) == text


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, object]] = [
        {"a": 1, "b_c": None},
        {"a": "long\x1b text", "b_c": [True, {"name": "N", "email": "e@x"}]},
    ]
    output.table(rows, ("a", "b_c"), "nothing")
    assert capsys.readouterr().out == "A              B C\n1              -\nlong\\x1b text  yes, N <e@x>\n"
    output.table([], ("a",), "nothing")
    assert capsys.readouterr().out == "nothing\n"


def test_long_cells_are_cut() -> None:
    assert len(output.cell("x" * 1000)) == output.MAX_CELL
    assert len(output.cell("x" * 500, None)) == 500


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, terminal = io.StringIO(), _Terminal()
    for stream in (pipe, terminal):
        monkeypatch.setattr(sys, "stderr", stream)
        progress = output.Progress("working")
        progress.show(1, 2, "half\x07")
        progress.show(7, None)
        progress.end()
    assert pipe.getvalue() == ""
    shown = terminal.getvalue()
    assert "working [###############               ]  50% half\\x07" in shown
    assert "working 7" in shown
    assert shown.endswith("\r\x1b[K")
    silent = _Terminal()
    monkeypatch.setattr(sys, "stderr", silent)
    output.Progress("quiet", quiet=True).show(1, 2)
    assert silent.getvalue() == ""


def test_json_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"subject": "\x1b[2J\x9b31m\u202eevil\u2066\x7f", "name": "Zoë 中"}
    output.as_json(value)
    printed = capsys.readouterr().out
    assert "Zoë 中" in printed
    assert printed.rstrip("\n").replace("Zoë 中", "").isascii()
    assert printed.rstrip("\n").isprintable()
    assert json.loads(printed) == value
