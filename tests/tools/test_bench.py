"""The benchmarks run and say what they should; their figures are for `./dev bench`, not for tests."""

from pathlib import Path

import pytest

from tools.bench import engines, ingest, memory, postfix, reading, report, statistics, streams, webhooks
from tools.bench.report import Options, Table, Target
from tools.postgres import Cluster


def postfix_is_missing() -> str:
    """Why there is no Postfix here, or nothing."""
    try:
        postfix.version()
    except postfix.Missing as missing:
        return str(missing)
    return ""


@pytest.mark.skipif(bool(postfix_is_missing()), reason=postfix_is_missing() or "-")
def test_ingest_is_measured_beside_postfix() -> None:
    tables = ingest.run(Options(seconds=0.5, rounds=1, most_per_second=4_000))
    assert [table.title for table in tables] == ["Ingest, 20 connections", "Ingest, 1 connection"]
    for table in tables:
        assert [row[0] for row in table.rows] == [
            "Restante, answered",
            "Restante, index caught up",
            "Postfix",
            "Postfix, nothing but its queue",
        ]
        assert all(float(row[3]) > 0 for row in table.rows), "no message was answered"
        assert all(row[-1] == "0" for row in table.rows), "something was not accepted"
        assert "restante.storage.writer" in table.note
        assert table.targets


def test_reading_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SEARCHES", 20)
    monkeypatch.setattr(reading, "WARM_UP_SECONDS", 0.2)
    options = Options(seconds=0.3, messages=1_000, cache=tmp_path)
    (lists,) = reading.run_list(options)
    assert len(lists.rows) == 2
    (searches,) = reading.run_search(options)
    assert len(searches.rows) == 6


def test_engines_are_measured_beside_each_other(
    postgres_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``postgres_cluster`` skips this where there is no PostgreSQL; the benchmark starts its own."""
    monkeypatch.setattr(reading, "SEARCHES", 10)
    options = Options(seconds=0.5, rounds=1, most_per_second=4_000, messages=500, cache=tmp_path)
    (taken,) = engines.run_ingest(options)
    assert [row[0].partition(",")[0] for row in taken.rows] == ["SQLite", "SQLite", "PostgreSQL", "PostgreSQL"]
    assert all(float(row[3]) > 0 for row in taken.rows), "no message was answered"
    assert all(row[-1] == "0" for row in taken.rows), "something was not accepted"
    lists, searches = engines.run_reading(options)
    assert (len(lists.rows), len(searches.rows)) == (4, 12)
    assert len(lists.targets) == 2
    assert len(searches.targets) == 6


def test_statistics_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REQUESTS", 4)
    (table,) = statistics.run(Options(messages=600, directory=tmp_path))
    assert len(table.rows) == len(table.targets) == 6
    assert all(float(row[2]) > 0 for row in table.rows)


def test_webhooks_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "BURST", 6_000)  # of which half a second has 60
    monkeypatch.setattr(webhooks, "PACE", 20)
    (table,) = webhooks.run(Options(seconds=0.5, directory=tmp_path))
    assert len(table.rows) == 4
    assert len(table.targets) == 3
    figures = [float(row[1].replace(",", "")) for row in table.rows]
    assert min(figures[0], figures[1], figures[3]) > 0
    assert figures[2] >= 0, "after a slow burst nothing is left to be called"


def test_streams_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "READERS", 50)
    monkeypatch.setattr(streams, "MAILS", 5)
    monkeypatch.setattr(streams, "IDLE", 300)
    fast, idle = streams.run(Options(seconds=0.5, directory=tmp_path))
    assert [len(table.targets) for table in (fast, idle)] == [1, 1]
    figures = [float(figure) for figure in fast.rows[0][1:]]  # 0.0 where a reader and the sender are woken together
    assert len(figures) == 4
    assert figures == sorted(figures)


def test_memory_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SETTLE_SECONDS", 0.1)
    (table,) = memory.run(Options())
    assert {row[0] for row in table.rows} >= {"restante", "restante.storage.writer", "all together"}
    assert float(table.rows[-1][1]) > 20


def test_the_page_keeps_what_was_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PAGE", tmp_path / "docs" / "benchmarks.md")
    one = Table("One", ("", "a"), [("x", "1")], [Target("kept", True)])
    two = Table("Two", ("", "a"), [("x", "2")], [Target("missed", False)])
    report.write_page([one, two], "./dev bench", "Postfix 3")
    report.write_page([Table("One", ("", "a"), [("x", "3")])], "./dev bench one", "Postfix 3")
    page = report.PAGE.read_text("utf-8")
    assert page.startswith("# Benchmarks\n")
    assert "| x | 3 |" in page
    assert "| x | 1 |" not in page
    assert "| x | 2 |" in page
    assert "**missed**: missed" in page
    assert "`./dev bench one`" in page
