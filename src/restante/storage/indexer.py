"""The search index of a SQLite store: ``index.db``, written by this process alone, following the main file.

Reception commits a message together with a row in ``index_queue``; this process reads the queue beyond its watermark,
takes the text out of the stored bytes, folds it, cuts it into terms and writes text, document and watermark in one
transaction per batch, so that it resumes where it was after any crash. The watermark that it *reports* is one that a
power failure cannot take back: only queue rows up to that may be removed. When queue and watermark do not fit together
(a lost index, an older backup) everything is indexed again, with new mail first.

``python -m restante.storage.indexer --data-dir D``: bytes on standard input are nudges, its end is the order to exit;
each line on standard output is a watermark that is safe. Meanwhile it checkpoints the main file, merges the
index and sweeps words that no message has any more. It imports no SQLAlchemy: it is to stay small.
"""

import argparse
import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import zstandard

from restante.mail import words
from restante.pressure import GivingWay
from restante.schema.fulltext import sqlite as fulltext
from restante.storage import packing
from restante.storage.index_text import folded_text

MAIN = "restante.db"
INDEX = "index.db"
VERSION = f"6/{fulltext.unidata_version}"  # of the tables below, of words.py and of Python's character data

BATCH_ROWS = 1_000
BATCH_BYTES = 16 << 20  # of messages as received
KNOWN_TERMS = 60_000  # in each of the two generations of words known to be in the vocabulary
BATCH_SECONDS = 0.4  # at least so long between two batches: many small ones make many segments
CHECKPOINT_SECONDS = 0.5
REPORT_SECONDS = 0.5
IDLE_SECONDS = 2.0  # without nudges it looks by itself
REST_SECONDS = 10.0  # after its last work it gives memory back
MERGE_PAGES = 500
MERGE_SEGMENTS = 2  # of one level: as many are merged, or more
UNMERGED_BATCHES = 16  # without a moment to merge them; from then on each batch merges a step as well
BUSY_SEGMENTS = 8  # as MERGE_SEGMENTS, for these steps: pages are written anew a third as often
SWEEP_TERMS = 300
SWEEP_AFTER = 200  # removed messages
BUSY_MILLISECONDS = 10_000
CACHE_KIB = 16_384
CHECKPOINT_PAGES = 4_000  # in the index's WAL: about three batches, which write many of the pages again and again

Row = tuple[Any, ...]
_SOURCE = "m.account_id, m.folder_id, c.structure, c.raw, c.folded, c.size_bytes"  # the size last: see ``_read``
EXIT_RETRY = 1  # the disk is full or does not answer: start again later
EXIT_CORRUPT = 3  # the index was thrown away: start again

_TABLES = f"""
CREATE TABLE state (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE version (value TEXT NOT NULL);
CREATE TABLE texts (id INTEGER PRIMARY KEY, document INTEGER NOT NULL, folded BLOB NOT NULL);
CREATE TABLE terms (id INTEGER PRIMARY KEY, account_id INTEGER NOT NULL, size INTEGER NOT NULL, term TEXT NOT NULL,
                    UNIQUE (account_id, size, term));
CREATE VIRTUAL TABLE fts USING fts5(terms, content='', contentless_delete=1, detail=none,
                                    tokenize="ascii tokenchars '{fulltext.WORD_CHARACTERS}'");
CREATE VIRTUAL TABLE grams USING fts5(parts, content='', contentless_delete=1, detail=none,
                                      tokenize="ascii tokenchars '{fulltext.WORD_CHARACTERS}'");
INSERT INTO fts(fts, rank) VALUES ('automerge', 0), ('crisismerge', 400), ('hashsize', 16777216);
INSERT INTO grams(grams, rank) VALUES ('automerge', 0), ('crisismerge', 400), ('hashsize', 16777216);
INSERT INTO state VALUES ('watermark', 0), ('rebuilt', 0), ('removed', 0);
"""  # noqa: S608 - constants only


def _open(path: Path, flags: int = apsw.SQLITE_OPEN_READWRITE) -> apsw.Connection:
    conn = apsw.Connection(str(path), flags=flags | apsw.SQLITE_OPEN_NOMUTEX)
    conn.set_busy_timeout(BUSY_MILLISECONDS)
    return conn


def _open_index(data_dir: Path) -> apsw.Connection:
    """The index, made if it is not there; thrown away first if it is broken."""
    path = data_dir / INDEX
    with contextlib.suppress(apsw.NotADBError, apsw.CorruptError):
        return _open_tables(path)
    discard(data_dir)
    return _open_tables(path)


def _open_tables(path: Path) -> apsw.Connection:
    conn = _open(path, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
    pragmas = ("journal_mode=WAL", "synchronous=NORMAL", f"cache_size=-{CACHE_KIB}", "journal_size_limit=33554432")
    for pragma in pragmas:
        conn.execute(f"PRAGMA {pragma}").fetchall()
    conn.wal_autocheckpoint(CHECKPOINT_PAGES)
    with _transaction(conn):
        known = conn.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'fts\\_%' ESCAPE '\\'"
            " AND name NOT LIKE 'grams\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        ).fetchall()
        version = conn.execute("SELECT value FROM version").fetchone() if ("version",) in known else None
        if version != (VERSION,):
            for (name,) in known:
                conn.execute(f'DROP TABLE "{name}"')
            conn.execute(_TABLES)
            conn.execute("INSERT INTO version VALUES (?)", (VERSION,))
    return conn


@contextlib.contextmanager
def _transaction(conn: apsw.Connection) -> Iterator[None]:
    conn.execute("BEGIN IMMEDIATE")
    try:
        yield
        conn.execute("COMMIT")
    finally:
        if conn.in_transaction:
            conn.execute("ROLLBACK")


def prepare(data_dir: Path) -> None:
    """Make ``index.db`` with its tables, so that readers can attach it; a broken or outdated one is emptied."""
    _open_index(data_dir).close(True)


def discard(data_dir: Path) -> None:
    """Remove the index; the next ``prepare`` and ``catch_up`` make it anew from the messages."""
    for suffix in ("", "-wal", "-shm"):
        (data_dir / (INDEX + suffix)).unlink(missing_ok=True)


class Source(NamedTuple):
    """What goes into the index of one message."""

    message_id: int
    account_id: int
    document: int
    folded: bytes  # in UTF-8


class Indexer:
    """Brings the index of one data directory up to date. One at a time may be open."""

    def __init__(self, data_dir: Path) -> None:
        self._index = _open_index(data_dir)
        self._main = _open(data_dir / MAIN)
        self._wal = data_dir / (INDEX + "-wal")
        self._main.execute("PRAGMA query_only=ON").fetchall()
        self._unzip = zstandard.ZstdDecompressor()
        self._zip = packing.new_packer()
        self._known: dict[int, set[bytes]] = {}
        self._known_before: dict[int, set[bytes]] = {}
        self._sweep_at: int | None = None
        self._unmerged = 0  # batches since all was merged
        self._least_segments: int | None = None  # as FTS5 was told last
        self.has_more = False  # the last batch ended at its bounds, not at the queue's end
        self.watermark = self._state("watermark")
        self._rebuilt = self._state("rebuilt")
        self._removed = self._state("removed")
        self._check_continuity()

    def close(self) -> None:
        """Let the files go."""
        self._index.close(True)
        self._main.close(True)

    def _state(self, key: str) -> int:
        return int(self._index.execute("SELECT value FROM state WHERE key = ?", (key,)).get)

    def _set_state(self, key: str, value: int) -> None:
        self._index.execute("UPDATE state SET value = ? WHERE key = ?", (value, key))

    def _last_queued(self) -> int:
        row = self._main.execute("SELECT seq FROM sqlite_sequence WHERE name = 'index_queue'").fetchone()
        return int(row[0]) if row else 0

    def _check_continuity(self) -> None:
        """Start over when rows behind the watermark are missing in the queue, or when the watermark is ahead of it."""
        self._main.execute("BEGIN")
        try:
            last = self._last_queued()
            row = self._main.execute("SELECT min(id) FROM index_queue WHERE id > ?", (self.watermark,)).fetchone()
        finally:
            self._main.execute("COMMIT")
        is_gone = last > self.watermark and row != (self.watermark + 1,)
        if is_gone or last < self.watermark:
            self.rebuild()

    def rebuild(self) -> None:
        """Empty the index and begin again; ``step`` then does the work, new messages first."""
        last = self._last_queued()
        has_messages = self._main.execute("SELECT max(id) FROM messages").fetchone()
        with _transaction(self._index):
            self._index.execute("INSERT INTO fts(fts) VALUES ('delete-all')")
            self._index.execute("INSERT INTO grams(grams) VALUES ('delete-all')")
            self._index.execute("DELETE FROM terms")
            self._index.execute("DELETE FROM texts")
            self._set_state("watermark", last)
            # Messages up to this number are indexed backwards from it: newest first.
            self._set_state("rebuilt", int(has_messages[0] or 0) if has_messages else 0)
        self.watermark = last
        self._rebuilt = self._state("rebuilt")
        self._forget()

    def _forget(self) -> None:
        self._known, self._known_before, self._sweep_at = {}, {}, None

    @property
    def is_rebuilding(self) -> bool:
        """Whether older messages are still to be indexed again."""
        return self._rebuilt > 0

    @property
    def is_behind(self) -> bool:
        """Whether the next batch can follow at once."""
        return self.has_more or self.is_rebuilding

    def catch_up(self) -> int:
        """Index all there is to index now and merge the index; returns the number of messages looked at."""
        done = 0
        while count := self.step():
            done += count
        while self._merge(MERGE_SEGMENTS):
            pass
        return done

    def step(self) -> int:
        """Index one batch, from the queue or, when that is empty, of a rebuild; returns the number of messages.

        Under load that leaves no moment for ``tidy`` it merges as well: a search looks into each segment.
        """
        count = self._follow() or self._rebuild_some()
        if count:
            self._unmerged += 1
            if self._unmerged > UNMERGED_BATCHES:
                self._merge(BUSY_SEGMENTS)
        return count

    def _follow(self) -> int:
        rows, self.has_more = self._read(
            f"SELECT q.id, q.message_id, {_SOURCE} FROM index_queue q LEFT JOIN messages m ON m.id = q.message_id"  # noqa: S608
            " LEFT JOIN contents c ON c.id = m.content_id WHERE q.id > ? ORDER BY q.id LIMIT ?",
            self.watermark,
        )
        if not rows:
            return 0
        found = {row[1]: None if row[2] is None else row[2:] for row in rows}
        watermark = rows[-1][0]
        with self._batch():
            self._write(found)
            self._set_state("watermark", watermark)
        self.watermark = watermark
        return len(found)

    def _rebuild_some(self) -> int:
        if not self.is_rebuilding:
            return 0
        rows, _ = self._read(
            f"SELECT m.id, {_SOURCE} FROM messages m JOIN contents c ON c.id = m.content_id"  # noqa: S608
            " WHERE m.id <= ? ORDER BY m.id DESC LIMIT ?",
            self._rebuilt,
        )
        rebuilt = max(rows[-1][0] - 1, 0) if rows else 0
        with self._batch():
            self._write({row[0]: row[1:] for row in rows})
            self._set_state("rebuilt", rebuilt)
        self._rebuilt = rebuilt
        return len(rows)

    def _read(self, sql: str, start: int) -> tuple[list[Row], bool]:
        """The rows of a batch, and whether its bounds ended it; at once, for an open read holds checkpoints back."""
        rows: list[Row] = []
        size = 0
        cursor = self._main.execute(sql, (start, BATCH_ROWS))
        for row in cursor:
            rows.append(row)
            size += row[-1] or 0
            if size > BATCH_BYTES:
                break
        cursor.close(True)
        return rows, len(rows) == BATCH_ROWS or size > BATCH_BYTES

    def _source(self, message_id: int, account_id: int, folder_id: int, *content: Any) -> Source:
        document = fulltext.document_id(folder_id, message_id)
        return Source(message_id, account_id, document, folded_text(self._unzip, *content))

    @contextlib.contextmanager
    def _batch(self) -> Iterator[None]:
        """A transaction; what was known to be in the vocabulary is forgotten when it fails."""
        try:
            with _transaction(self._index):
                yield
        except BaseException:
            self._known, self._known_before = {}, {}
            raise

    def _write(self, found: Mapping[int, Row | None]) -> None:
        """Put documents in place (a value) or take them out (None); the caller commits."""
        # One stage after the other: what each needs, above all the known words, stays in the cache of the processor.
        sources = [self._source(message_id, *row) for message_id, row in found.items() if row is not None]
        texts = [(source.message_id, source.document, self._zip.compress(source.folded)) for source in sources]
        documents: list[tuple[int, bytes]] = []
        fresh: dict[int, set[bytes]] = {}
        for source in sources:
            known = self._known.setdefault(source.account_id, set())
            cut = words.cut(source.folded, known)
            known |= cut.unknown
            fresh.setdefault(source.account_id, set()).update(cut.unknown)
            account = fulltext.account_term(source.account_id).encode()
            documents.append((source.document, b" ".join([account, cut.text, *cut.others])))
        for account_id, unknown in fresh.items():
            self._learn(account_id, unknown)
        documents.sort()  # FTS5 begins a new segment at each step back
        sql = "SELECT document FROM texts WHERE id IN (SELECT value FROM json_each(?))"
        before: Iterable[Any] = self._index.execute(sql, (json.dumps(list(found)),))
        self._index.executemany("DELETE FROM fts WHERE rowid = ?", list(before))
        self._index.executemany("INSERT INTO fts(rowid, terms) VALUES (?, ?)", documents)
        self._index.executemany("INSERT OR REPLACE INTO texts VALUES (?, ?, ?)", texts)
        gone = [(message_id,) for message_id, row in found.items() if row is None]
        if gone:
            self._index.executemany("DELETE FROM texts WHERE id = ?", gone)
            self._removed += len(gone)
            self._set_state("removed", self._removed)

    def _learn(self, account_id: int, terms: set[bytes]) -> None:
        """Enter words that were not in ``_known`` into the vocabulary of their account."""
        unknown = terms - self._known_before.get(account_id, frozenset())
        if sum(map(len, self._known.values())) > KNOWN_TERMS:
            self._known_before, self._known = self._known, {}
        rows = sorted([(account_id, len(term), term) for term in map(bytes.decode, unknown)])
        last = self._index.execute("SELECT max(id) FROM terms").get or 0
        insert = "INSERT INTO terms (account_id, size, term) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        self._index.executemany(insert, rows)
        # RETURNING would cost as much as the insertion does.
        new: Iterable[Any] = self._index.execute("SELECT id, term FROM terms WHERE id > ?", (last,)).fetchall()
        grams = [(number, fulltext.gram_terms(account_id, term)) for number, term in new]
        self._index.executemany("INSERT INTO grams (rowid, parts) VALUES (?, ?)", grams)

    def tidy(self) -> bool:
        """One bounded step of merging or sweeping, for idle moments; returns whether there is more to do."""
        return self._merge(MERGE_SEGMENTS) or self.sweep()

    def _merge(self, least: int) -> bool:
        """Merge segments, at most about ``MERGE_PAGES`` pages of each index; returns whether there is more to merge.

        FTS5 takes the level with the most segments, ``least`` or more, and all segments of it: the rarer this is called
        and the more it takes, the less often a page is written anew.
        """
        if least != self._least_segments:
            with _transaction(self._index):
                self._index.execute("INSERT INTO fts(fts, rank) VALUES ('usermerge', ?)", (least,))
                self._index.execute("INSERT INTO grams(grams, rank) VALUES ('usermerge', ?)", (least,))
            self._least_segments = least
        before = self._index.total_changes()
        with _transaction(self._index):
            self._index.execute("INSERT INTO fts(fts, rank) VALUES ('merge', ?)", (MERGE_PAGES,))
            self._index.execute("INSERT INTO grams(grams, rank) VALUES ('merge', ?)", (MERGE_PAGES,))
        if self._index.total_changes() - before > 2:  # each statement counts for one, and its work comes on top
            return True
        self._unmerged = 0
        return False

    def sweep(self, after: int = SWEEP_AFTER) -> bool:
        """Look at some words, if at least ``after`` messages were removed, and forget those that no message has.

        Returns whether there is more to look at.
        """
        if self._sweep_at is None:
            if self._removed < max(after, 1) or self.is_rebuilding:
                return False
            self._sweep_at = 0
            self._removed = 0
        rows: Iterable[Any] = self._index.execute(
            "SELECT id, account_id, term FROM terms WHERE id > ? ORDER BY id LIMIT ?", (self._sweep_at, SWEEP_TERMS)
        )
        found: list[tuple[int, int, str]] = list(rows)
        unused = [row for row in found if not self._is_used(row[1], row[2])]
        gone = [(row[0],) for row in unused]
        with _transaction(self._index):
            self._index.executemany("DELETE FROM terms WHERE id = ?", gone)
            self._index.executemany("DELETE FROM grams WHERE rowid = ?", gone)
            if len(found) < SWEEP_TERMS:
                self._set_state("removed", self._removed)
        for _, account_id, term in unused:
            for known in (self._known, self._known_before):
                known.get(account_id, set()).discard(term.encode())
        self._sweep_at = found[-1][0] if len(found) == SWEEP_TERMS else None
        return self._sweep_at is not None

    def _is_used(self, account_id: int, term: str) -> bool:
        match = f"{fulltext.quote(term)} AND {fulltext.quote(fulltext.account_term(account_id))}"
        return self._index.execute("SELECT 1 FROM fts WHERE fts MATCH ? LIMIT 1", (match,)).fetchone() is not None

    def differences(self) -> tuple[list[int], list[int]]:
        """Messages that the index lacks, and documents whose message is gone (both at most 1,000); for ``verify``."""
        self._main.execute("ATTACH ? AS search", (self._index.filename,))
        try:
            document = f"folder_id << {fulltext.MESSAGE_BITS} | id"
            missing: Iterable[Any] = self._main.execute(
                f"SELECT id FROM messages WHERE {document} NOT IN (SELECT id FROM search.fts_docsize) LIMIT 1000"  # noqa: S608
            ).fetchall()
            extra: Iterable[Any] = self._main.execute(
                f"SELECT id & {fulltext.MESSAGE_MASK} FROM search.fts_docsize"  # noqa: S608 - constants only
                f" WHERE id NOT IN (SELECT {document} FROM messages) LIMIT 1000"
            ).fetchall()
        finally:
            self._main.execute("DETACH search")
        return [row[0] for row in missing], [row[0] for row in extra]

    def secure(self) -> int:
        """Make what was indexed safe from power failure; returns the watermark that may be reported."""
        watermark = self.watermark
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(self._wal, os.O_RDONLY)
            try:
                os.fdatasync(fd)
            finally:
                os.close(fd)
        return watermark

    def rest(self) -> None:
        """Give back the memory that only speeds up the next batches."""
        self._known, self._known_before = {}, {}
        for conn in (self._index, self._main):
            conn.execute("PRAGMA shrink_memory").fetchall()
        with contextlib.suppress(AttributeError, OSError):  # a C library without it
            ctypes.CDLL(None).malloc_trim(0)

    def checkpoint_main(self) -> None:
        """Move what readers allow of the main file's WAL into it, so that the writer never has to.

        SQLite does not wait here: while another connection is at it (the writer, on a long WAL), it is left to that.
        """
        with contextlib.suppress(apsw.BusyError):
            self._main.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)


class Process:
    """The loop around an ``Indexer`` that standard input steers."""

    def __init__(self, indexer: Indexer, nudges: int, progress: int) -> None:
        self._indexer, self._nudges, self._progress = indexer, nudges, progress
        self._checkpoint_at = self._report_at = self._batch_at = 0.0
        self._rest_at: float | None = None
        self._reported = -1
        self._is_active = True
        self._way = GivingWay()

    def run(self) -> None:
        """Follow the queue until standard input ends; what is queued then waits for the next start."""
        self._report()
        wait = 0.0
        while self._listen(wait):
            now = time.monotonic()
            is_in_time = not self._indexer.has_more
            worked = now >= self._batch_at and self._way.run(self._indexer.step, is_in_time=is_in_time) > 0
            if worked:
                self._is_active = True
                self._batch_at = now if self._indexer.is_behind else now + BATCH_SECONDS
                self._rest_at = now + REST_SECONDS
            self._keep_house(now)
            if worked:
                wait = max(0.0, self._batch_at - time.monotonic())
            elif self._indexer.tidy():
                wait = 0.0
            else:
                wait = CHECKPOINT_SECONDS if self._is_active else IDLE_SECONDS
                if self._rest_at is not None and now >= self._rest_at:
                    self._rest_at = None
                    self._indexer.rest()

    def _listen(self, seconds: float) -> bool:
        """Wait for a nudge; returns False at the end of input."""
        ready, _, _ = select.select([self._nudges], [], [], seconds)
        if not ready:
            return True
        if not os.read(self._nudges, 65536):
            return False
        self._is_active = True
        time.sleep(max(0.0, min(BATCH_SECONDS, self._batch_at - time.monotonic())))
        return True

    def _keep_house(self, now: float) -> None:
        if not self._is_active:
            return
        if now >= self._report_at:
            self._report_at = now + REPORT_SECONDS
            self._report()
        if now >= self._checkpoint_at:
            self._checkpoint_at = now + CHECKPOINT_SECONDS
            self._indexer.checkpoint_main()

    def _report(self) -> None:
        if self._indexer.watermark == self._reported:
            self._is_active = False
            return
        self._reported = self._indexer.secure()
        os.write(self._progress, b"%d\n" % self._reported)


def catch_up(data_dir: Path) -> int:
    """Index in this process all there is to index; returns the number of messages. No other indexer may run."""
    indexer = Indexer(data_dir)
    try:
        return indexer.catch_up()
    finally:
        indexer.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the process; returns its exit code."""
    parser = argparse.ArgumentParser(description="Keeps the search index of a data directory up to date.")
    parser.add_argument("--data-dir", type=Path, required=True)
    data_dir: Path = parser.parse_args(arguments).data_dir
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group: the server ends us by closing our input
        signal.signal(number, signal.SIG_IGN)
    indexer = Indexer(data_dir)
    try:
        Process(indexer, sys.stdin.fileno(), sys.stdout.fileno()).run()
    except (apsw.CorruptError, apsw.NotADBError) as error:
        sys.stderr.write(f"search index thrown away: {error}\n")
        discard(data_dir)
        return EXIT_CORRUPT
    except (apsw.FullError, apsw.IOError, apsw.BusyError) as error:
        sys.stderr.write(f"search index not written: {error}\n")
        return EXIT_RETRY
    except BrokenPipeError:
        return 0  # the server is gone
    finally:
        indexer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
