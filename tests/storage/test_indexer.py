"""The index follows the main file, whatever happens to its process."""

import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from restante import pressure
from restante.storage import indexer, sqlite
from restante.storage.indexer import Indexer
from tests.storage.index_store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    yield opened
    opened.close()


class Child:
    """The real process."""

    def __init__(self, data_dir: Path) -> None:
        command = [sys.executable, "-m", "restante.storage.indexer", "--data-dir", str(data_dir)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def nudge(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    def wait_for(self, watermark: int) -> int:
        """Read progress until at least ``watermark`` is reported."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + 120
        seen, buffer = -1, b""
        while seen < watermark:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no progress after {seen}"
            data = os.read(self.process.stdout.fileno(), 4096)
            assert data, "the process ended"
            *lines, buffer = (buffer + data).split(b"\n")
            seen = max([seen, *[int(line) for line in lines]])
        return seen

    def end(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        code = self.process.wait(60)
        self.process.stdout.close()
        return code

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def test_it_follows_adds_and_removals(store: Store) -> None:
    ids = store.add("red apple", "green apple", "pear")
    assert store.index() == 3
    assert store.index() == 0
    assert store.ids("apple") == [ids[1], ids[0]]
    store.remove(ids[1])
    assert store.index() == 1
    assert store.ids("apple") == [ids[0]]
    assert store.ids("green") == []


def test_it_goes_on_after_a_rest(store: Store) -> None:
    store.add("red apple")
    follower = store.indexer()
    follower.catch_up()
    follower.rest()
    store.add("green apple")
    follower.catch_up()
    follower.close()
    assert store.ids("appl") == [2, 1]
    assert vocabulary(store) == {(1, "red"), (1, "green"), (1, "apple")}


def test_added_and_removed_in_one_batch(store: Store) -> None:
    ids = store.add("apple", "apple pie")
    store.remove(ids[0])
    assert store.index() == 2
    assert store.ids("apple") == [ids[1]]


def test_a_message_queued_again_is_indexed_anew(store: Store) -> None:
    (one,) = store.add("apple")
    store.index()
    store.raw.execute("UPDATE contents SET folded = (SELECT folded FROM contents WHERE id = ?)", store.add("pear"))
    store.raw.execute("INSERT INTO index_queue (account_id, message_id) VALUES (1, ?)", (one,))
    store.index()
    assert store.ids("apple") == []
    assert one in store.ids("pear")


def test_batches_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer, "BATCH_ROWS", 4)
    store.add(*[f"apple {n}" for n in range(10)])
    follower = store.indexer()
    assert [follower.step() for _ in range(4)] == [4, 4, 2, 0]
    monkeypatch.setattr(indexer, "BATCH_BYTES", 1)
    store.raw.execute("UPDATE contents SET size_bytes = 2")
    store.add("one", "two")
    store.raw.execute("UPDATE contents SET size_bytes = 2")
    assert [follower.step() for _ in range(3)] == [1, 1, 0]
    follower.close()


def test_a_lost_index_is_made_again_newest_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = store.add(*[f"apple {n}" for n in range(10)])
    store.index()
    store.prune(10)
    store.reader.close()
    indexer.discard(store.data_dir)
    monkeypatch.setattr(indexer, "BATCH_ROWS", 3)
    follower = store.indexer()
    assert follower.is_rebuilding
    assert follower.step() == 3
    assert follower.differences() == (ids[:7], [])
    follower.close()
    late = store.add("a late apple")
    follower = store.indexer()
    assert follower.step() == 1
    assert follower.differences() == (ids[:7], [])
    assert follower.catch_up() == 7
    assert not follower.is_rebuilding
    assert follower.differences() == ([], [])
    follower.close()
    store.reader = sqlite.open_reader(store.data_dir)
    assert store.ids("apple") == [*late, *ids[::-1]]


def test_another_version_is_made_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add("apple")
    store.index()
    monkeypatch.setattr(indexer, "VERSION", "other")
    assert store.index() == 1
    assert store.ids("apple") == [1]
    assert store.index() == 0


def test_a_broken_index_is_made_again(store: Store) -> None:
    store.add("apple")
    store.index()
    store.reader.close()
    for suffix in ("-wal", "-shm"):
        (store.data_dir / (indexer.INDEX + suffix)).unlink(missing_ok=True)
    (store.data_dir / indexer.INDEX).write_bytes(b"this is no database" * 1000)
    indexer.prepare(store.data_dir)
    assert store.index() == 1


def test_a_watermark_from_the_future_is_not_believed(store: Store) -> None:
    store.add("apple", "pear")
    store.index()
    # An older copy of the main file came back: the queue stands before the watermark.
    store.raw.execute("DELETE FROM index_queue; DELETE FROM messages WHERE id = 2")
    store.raw.execute("UPDATE sqlite_sequence SET seq = 1 WHERE name = 'index_queue'")
    assert store.index() == 1
    follower = store.indexer()
    assert follower.differences() == ([], [])
    follower.close()


def test_rows_missing_from_the_queue_are_noticed(store: Store) -> None:
    store.add("apple")
    store.index()
    store.add("pear", "plum")
    store.prune(2)
    assert store.index() == 3
    assert store.ids("p") == [3, 2, 1]


def test_pruned_rows_up_to_the_watermark_change_nothing(store: Store) -> None:
    store.add("apple", "pear")
    store.index()
    store.prune(2)
    assert store.index() == 0
    store.add("plum")
    assert store.index() == 1


def test_unused_words_are_swept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer, "SWEEP_TERMS", 2)
    ids = store.add("apple tree", "banana split tree", "cherry")
    store.add("banana", account=2, mailbox=2)
    store.index()
    store.remove(ids[1], ids[2])
    follower = store.indexer()
    follower.catch_up()
    assert not follower.sweep(3)
    assert follower.sweep(2)
    while follower.sweep(1):
        pass
    assert vocabulary(store) == {(1, "apple"), (1, "tree"), (2, "banana")}
    assert not follower.sweep(1)
    store.add("cherry")  # the indexer remembers no word that it swept
    follower.catch_up()
    follower.close()
    assert store.ids("erry") == [5]


def vocabulary(store: Store) -> set[tuple[int, str]]:
    conn = apsw.Connection(str(store.data_dir / indexer.INDEX))
    try:
        return {(row[0], row[1]) for row in conn.execute("SELECT account_id, term FROM terms").fetchall()}  # type: ignore[misc]
    finally:
        conn.close()


def test_words_forgotten_by_the_cache_are_not_entered_twice(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer, "KNOWN_TERMS", 3)
    monkeypatch.setattr(indexer, "BATCH_ROWS", 1)
    for _ in range(3):
        store.add("alpha beta", "gamma delta", "epsilon zeta", "eta theta", account=1)
        store.add("alpha beta gamma", account=2, mailbox=2)
    store.index()
    assert store.ids("alph") == store.expected("alph")
    assert store.ids("eta") == store.expected("eta")
    assert len(vocabulary(store)) == 11


def test_tidying_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer, "BATCH_ROWS", 5)
    store.add(*[f"apple {n} pie{n}" for n in range(200)])
    follower = store.indexer()
    follower.catch_up()
    steps = 0
    while follower.tidy():
        steps += 1
        assert steps < 1000
    follower.close()
    assert store.ids("apple") == store.expected("apple")
    assert store.ids("pie7") == store.expected("pie7")


def segments(store: Store, table: str) -> int:
    """Segments that a search in ``table`` looks into (FTS5 keeps each one's number in the high bits of its pages)."""
    conn = apsw.Connection(str(store.data_dir / indexer.INDEX))
    try:
        return int(conn.execute(f"SELECT count(DISTINCT id >> 37 & 65535) FROM {table}_data WHERE id >= 1 << 37").get)
    finally:
        conn.close()


def test_catching_up_leaves_the_index_merged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer, "BATCH_ROWS", 5)
    monkeypatch.setattr(indexer, "UNMERGED_BATCHES", 1000)
    store.add(*[f"apple {n} pie{n}" for n in range(400)])
    follower = store.indexer()
    while follower.step():
        pass
    follower.close()
    assert (segments(store, "fts"), segments(store, "grams")) == (80, 80)
    assert store.index() == 0
    assert (segments(store, "fts"), segments(store, "grams")) == (1, 1)
    assert store.ids("apple") == store.expected("apple")


def test_a_batch_is_one_segment_in_whatever_order_it_comes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer, "BATCH_ROWS", 20)
    monkeypatch.setattr(indexer, "UNMERGED_BATCHES", 1000)
    ids = store.add(*[f"apple {n} pie{n}" for n in range(100)])
    store.index()
    store.reader.close()
    indexer.discard(store.data_dir)
    follower = store.indexer()
    while follower.step():  # newest first
        pass
    assert segments(store, "fts") == 5
    for message_id in ids[::-2][:20]:
        store.move(message_id, 2)
    while follower.step():
        pass
    assert segments(store, "fts") == 6
    follower.close()
    store.reader = sqlite.open_reader(store.data_dir)
    assert store.ids("apple", folder=2) == store.expected("apple", folder=2)


@pytest.mark.parametrize(("busy", "bound"), [(2, 4), (4, 12)])
def test_segments_stay_few_without_an_idle_moment(
    store: Store, monkeypatch: pytest.MonkeyPatch, busy: int, bound: int
) -> None:
    monkeypatch.setattr(indexer, "BUSY_SEGMENTS", busy)
    monkeypatch.setattr(indexer, "BATCH_ROWS", 2)
    monkeypatch.setattr(indexer, "UNMERGED_BATCHES", 4)
    store.add(*[f"apple {n} pie{n}" for n in range(300)])
    follower = store.indexer()
    most = 0
    while follower.step():
        most = max(most, segments(store, "fts"), segments(store, "grams"))
    follower.close()
    assert 1 < most <= bound
    assert store.ids("pie7") == store.expected("pie7")


def run_until_idle(follower: Indexer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's own loop, whose input ends when it finds nothing to do."""
    nudges, order = os.pipe()
    progress, report = os.pipe()
    monkeypatch.setattr(follower, "tidy", lambda: os.close(order))
    indexer.Process(follower, nudges, report).run()
    for fd in (nudges, progress, report):
        os.close(fd)


def test_the_process_leaves_a_busy_checkpoint_to_who_is_at_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add("apple")
    reader, other = (apsw.Connection(str(sqlite.main_path(store.data_dir))) for _ in range(2))
    for conn in (reader, other):
        conn.execute("SELECT * FROM messages").fetchall()
    reader.execute("BEGIN; SELECT * FROM messages").fetchall()
    store.add("pear")
    follower = store.indexer()
    ended = []

    def wait(_times: int) -> bool:  # while the other one checkpoints and waits for the reader
        run_until_idle(follower, monkeypatch)
        ended.append("of itself")
        return False

    other.set_busy_handler(wait)
    with pytest.raises(apsw.BusyError):
        other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_FULL)
    assert ended == ["of itself"]
    assert store.ids("pear") == [2]
    for conn in (reader, other):
        conn.close()
    follower.close()


def test_the_process_gives_way_until_it_is_late(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    monkeypatch.setattr(pressure, "LATE_SECONDS", 0.0)
    monkeypatch.setattr(indexer, "BATCH_ROWS", 4)
    store.add(*[f"apple {n}" for n in range(6)])
    follower = store.indexer()
    step, usual, seen = follower.step, os.nice(0), []

    def noted() -> int:
        seen.append(os.nice(0) - usual)
        return step()

    monkeypatch.setattr(follower, "step", noted)
    run_until_idle(follower, monkeypatch)
    nice = min(pressure.NICENESS, 19 - usual)
    assert seen == [nice, 0, nice], "the first batch left some over, the second none, the third found none"
    follower.close()


def test_a_full_batch_is_followed_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer, "BATCH_ROWS", 4)
    monkeypatch.setattr(indexer, "BATCH_SECONDS", 3600.0)
    store.add(*[f"apple {n}" for n in range(8)])
    follower = store.indexer()
    run_until_idle(follower, monkeypatch)
    assert follower.watermark == 8
    assert not follower.is_behind
    follower.close()


def test_the_process_follows_nudges_and_ends_with_its_input(store: Store) -> None:
    store.add("apple")
    child = Child(store.data_dir)
    child.wait_for(1)
    store.add("apple pie")
    for number in (signal.SIGTERM, signal.SIGINT):  # a stop that goes to the whole group: the server will end it
        child.process.send_signal(number)
    child.nudge()
    child.wait_for(2)
    assert store.ids("apple") == [2, 1]
    child.process.send_signal(signal.SIGINT)  # Ctrl-C reaches the whole group; the server decides
    store.remove(1)
    child.nudge()
    child.wait_for(3)
    assert store.ids("apple") == [2]
    assert child.end() == 0


def test_it_resumes_after_being_killed_at_any_moment(store: Store) -> None:
    chance = random.Random(5)
    number = 0
    for _ in range(8):
        child = Child(store.data_dir)
        child.wait_for(0)
        until = time.monotonic() + chance.uniform(0.0, 0.5)
        while time.monotonic() < until:
            store.add(*[f"apple number{number + n} in round" for n in range(20)])
            number += 20
            if chance.random() < 0.3:
                store.remove(chance.choice(list(store.documents)))
            child.nudge()
        child.kill()
    store.index()
    follower = store.indexer()
    assert follower.differences() == ([], [])
    follower.close()
    for text in ("apple", f"number{number // 2}", f"umber{number // 3}", f"number{number - 1}"):
        assert store.ids(text) == store.expected(text)


def test_killed_in_the_middle_of_a_rebuild(store: Store) -> None:
    store.add(*[f"apple number{n}" for n in range(3000)])
    store.prune(3000)
    store.reader.close()
    indexer.discard(store.data_dir)
    for pause in (0.3, 0.4, 0.5):
        child = Child(store.data_dir)
        time.sleep(pause)
        child.kill()
    store.index()
    follower = store.indexer()
    assert follower.differences() == ([], [])
    follower.close()


def test_the_process_imports_little() -> None:
    names = "('sqlalchemy', 'asyncio', 'fastapi')"
    code = f"import sys, restante.storage.indexer; print([m for m in {names} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_batch_that_fails_leaves_all_as_it_was(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add("apple", "pear")
    follower = store.indexer()

    def fail(self: Indexer, account_id: int, terms: set[bytes]) -> None:
        raise apsw.FullError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Indexer, "_learn", fail)
        with pytest.raises(apsw.FullError):
            follower.step()
    assert follower.step() == 2
    assert follower.differences() == ([], [])
    follower.close()
    assert store.ids("p") == [2, 1]
