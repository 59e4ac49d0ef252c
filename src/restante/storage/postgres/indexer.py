"""The search index of a PostgreSQL store: tables in the same database, written by a process beside each server.

Reception commits a message together with a row in ``index_queue``; this process takes rows out of it, takes the text
out of the stored bytes, folds it, cuts it into terms and writes text, document and vocabulary, all in one transaction
for each batch: after any crash the rows are still there or the work is done. Several nodes may run one each: a batch
locks the rows of its accounts in ``search_accounts`` and leaves out what another has locked, so that at any time one
indexes for an account. The queue is taken by what is there, never by numbers: those of a sequence commit out of order.

The tables belong to the index alone, not to the schema and its upgrades. Whoever finds them missing or of another
version makes them anew, and then every message is indexed again: new mail first, then the newest.

``python -m restante.storage.postgres.indexer``: the first line of standard input is the database's address, further
bytes are nudges, its end is the order to exit. It imports no SQLAlchemy: it is to stay small.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import psycopg
import zstandard

from restante.mail import words
from restante.pressure import GivingWay
from restante.schema.columns import Blobs, Numbers, Texts, Vectors
from restante.schema.fulltext import postgres
from restante.schema.fulltext.plan import unidata_version
from restante.storage import packing
from restante.storage.index_text import folded_text
from restante.storage.postgres import arrays

VERSION = f"1/{unidata_version}"  # of the tables below, of words.py and of Python's character data

BATCH_ROWS = 500
BATCH_BYTES = 16 << 20  # of messages as received
KNOWN_TERMS = 120_000  # words known to be in the vocabulary
TERMS_BYTES = 1_000_000  # of all terms of a message: a tsvector holds 1 MiB
BATCH_SECONDS = 0.3  # at least so long between two batches: the more are written together, the less each costs
IDLE_SECONDS = 2.0  # without nudges it looks by itself: other nodes queue too
SWEEP_TERMS = 300
SWEEP_AFTER = 200  # removed messages
ANALYZED_FIRST = 1_000  # messages after which the planner's figures are taken, and again each time they are doubled
ANALYZED_LAST = 100_000  # autovacuum, which looks once a minute, is soon enough for what is larger
EXIT_RETRY = 1  # the database does not answer: start again later

Key = tuple[int, int]  # account, message

_LOCK = 0x52657374_616E7465  # "Restante": one node at a time makes the tables
_NAMES = ("search_version", "search_accounts", "search_documents", "search_terms")
_TABLES = """
CREATE TABLE search_version (value text NOT NULL);
CREATE TABLE search_accounts (
    account_id bigint PRIMARY KEY,
    unreached bigint NOT NULL DEFAULT 0,  -- messages up to this id are still to be indexed, backwards from it
    removed bigint NOT NULL DEFAULT 0,    -- messages taken out since the last sweep began
    epoch bigint NOT NULL                 -- counted up when words are forgotten: what was known before is void
        DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
    sweep_size integer,                   -- the last word that the sweep has looked at; null: none is under way
    sweep_term text COLLATE "C"
);
CREATE INDEX search_accounts_unreached ON search_accounts (account_id) WHERE unreached > 0;
CREATE INDEX search_accounts_removed ON search_accounts (account_id) WHERE removed > 0 OR sweep_size IS NOT NULL;
CREATE TABLE search_documents (
    account_id bigint NOT NULL,
    message_id bigint NOT NULL,
    mailbox_id bigint NOT NULL,
    folder_id bigint NOT NULL,
    is_cut smallint NOT NULL,             -- 1: there are more terms than a tsvector holds
    terms tsvector NOT NULL,
    folded bytea NOT NULL,                -- zstd
    PRIMARY KEY (account_id, message_id)
) WITH (toast_tuple_target = 128, fillfactor = 90);
ALTER TABLE search_documents ALTER terms SET STATISTICS 0, ALTER folded SET STATISTICS 0,
    ALTER folded SET STORAGE EXTERNAL;
CREATE INDEX search_documents_terms ON search_documents USING gin (terms);
CREATE INDEX search_documents_cut ON search_documents (account_id) WHERE is_cut = 1;
CREATE TABLE search_terms (
    account_id bigint NOT NULL,
    size integer NOT NULL,                -- characters
    term text COLLATE "C" NOT NULL,
    grams tsvector NOT NULL,
    PRIMARY KEY (account_id, size, term)
);
ALTER TABLE search_terms ALTER grams SET STATISTICS 0;
CREATE INDEX search_terms_grams ON search_terms USING gin (grams);
"""
_INDEXES = ("search_documents_terms", "search_terms_grams")

_NEXT = "SELECT account_id, id, message_id FROM index_queue WHERE account_id > %s ORDER BY account_id, id LIMIT %s"
_PAIRS = "unnest(%s::bigint[], %s::bigint[]) AS w(account_id, id)"
_SIZES = f"SELECT w.account_id, w.id, m.size_bytes FROM {_PAIRS} JOIN messages m USING (account_id, id)"  # noqa: S608
_SOURCES = (
    "SELECT m.account_id, m.id, m.mailbox_id, m.folder_id, c.structure, c.raw, c.folded, c.size_bytes"  # noqa: S608
    f" FROM {_PAIRS} JOIN messages m USING (account_id, id)"
    " JOIN contents c ON c.account_id = m.account_id AND c.id = m.content_id"
)
_KEPT = (
    "SELECT d.account_id, d.message_id, d.folded"  # noqa: S608
    f" FROM {_PAIRS} JOIN search_documents d ON d.account_id = w.account_id AND d.message_id = w.id"
)
_PUT = (
    "INSERT INTO search_documents (account_id, message_id, mailbox_id, folder_id, is_cut, terms, folded)"
    " SELECT * FROM unnest(%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (account_id, message_id) DO UPDATE"
    " SET mailbox_id = excluded.mailbox_id, folder_id = excluded.folder_id, is_cut = excluded.is_cut,"
    " terms = excluded.terms, folded = excluded.folded"
)
_UNKNOWN = (
    "SELECT n.term FROM unnest(string_to_array(%s, ' ')) AS n(term) LEFT JOIN search_terms t"
    ' ON t.account_id = %s AND t.size = length(n.term) AND t.term = n.term COLLATE "C" WHERE t.term IS NULL'
)
_LEARN = (
    "INSERT INTO search_terms (account_id, size, term, grams) SELECT %s, length(term), term, grams"
    " FROM unnest(%s, %s) AS n(term, grams) ON CONFLICT DO NOTHING"
)
UNUSED = (  # a look-up for each word: as a plain NOT EXISTS the planner may well compare every word with every row
    "SELECT w.n FROM unnest(%s::int[], %s::text[]) AS w(n, term) WHERE NOT (SELECT EXISTS (SELECT"
    " FROM search_documents d WHERE d.account_id = %s AND d.terms @@ w.term::tsquery))"
)


class Source(NamedTuple):
    """What goes into the index of one message."""

    account_id: int
    message_id: int
    mailbox_id: int
    folder_id: int
    folded: bytes  # in UTF-8


class Document(NamedTuple):
    """A row of ``search_documents``."""

    account_id: int
    message_id: int
    mailbox_id: int
    folder_id: int
    is_cut: int
    terms: bytes
    folded: bytes


def connect(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection whose commits are not waited for: what is lost with a commit is still in the queue."""
    conn = psycopg.connect(url, autocommit=True, options="-c synchronous_commit=off -c jit=off")
    arrays.register(conn)
    return conn


def prepare(url: str) -> None:
    """Make the index's tables, so that readers find them; outdated ones are emptied."""
    with connect(url) as conn, conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        there = conn.execute("SELECT to_regclass('search_version') IS NOT NULL").fetchall() == [(True,)]
        if there and conn.execute("SELECT value FROM search_version").fetchall() == [(VERSION,)]:
            return
        _make_anew(conn)


def _make_anew(conn: psycopg.Connection[Any]) -> None:
    conn.execute(f"DROP TABLE IF EXISTS {', '.join(_NAMES)}".encode())
    conn.execute(_TABLES)
    conn.execute("INSERT INTO search_version VALUES (%s)", (VERSION,))
    conn.execute(
        "INSERT INTO search_accounts (account_id, unreached)"
        " SELECT account_id, max(id) FROM messages GROUP BY account_id"
    )


class Indexer:
    """Brings the index up to date, one batch at a time; any number of them may be at work."""

    def __init__(self, url: str) -> None:
        self._conn = connect(url)
        self._unzip = zstandard.ZstdDecompressor()
        self._zip = packing.new_packer()
        self._known: dict[int, tuple[int, set[bytes]]] = {}  # account: epoch, words
        self._after = -1  # the last account that was served
        self.has_more = False  # the last batch ended at its bounds, not at the queue's end
        self._has_pending = True  # whether the GIN indexes have entries that are not in their place yet
        self._until_analysis = ANALYZED_FIRST  # documents to be written before the planner's figures are looked at

    def close(self) -> None:
        """Let the connection go."""
        self._conn.close()

    def catch_up(self) -> int:
        """Index all there is to index now; returns the number of messages looked at."""
        done = 0
        while count := self.step():
            done += count
        return done

    def step(self) -> int:
        """Index one batch, from the queue or, when that is empty, of a rebuild; returns the number of messages."""
        try:
            count = self._follow() or self._rebuild_some()
        except BaseException:
            self._known = {}  # what was learned in this transaction is not
            raise
        if self._until_analysis <= 0:
            self._analyze()
        return count

    def _analyze(self) -> None:
        """Take the planner's figures anew: plans that were made for a few messages are slow when there are many."""
        if self._estimate() < ANALYZED_LAST:
            self._conn.execute("ANALYZE contents, messages, events, search_documents, search_terms")
        self._until_analysis = max(self._estimate(), ANALYZED_FIRST)

    def _estimate(self) -> int:
        """How many messages the planner takes for granted."""
        return int(self._rows("SELECT reltuples::bigint FROM pg_class WHERE oid = 'search_documents'::regclass")[0][0])

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._conn.execute(query.encode(), values, binary=True).fetchall()  # as text, bytes are twice as many

    def _follow(self) -> int:
        """One batch of the queue. Accounts take turns: each batch begins behind the last one's last account."""
        with self._conn.transaction():
            rows = self._rows(_NEXT, (self._after, BATCH_ROWS)) or self._rows(_NEXT, (-1, BATCH_ROWS))
            self._after = rows[-1][0] if rows else -1
            epochs = self._lock({row[0] for row in rows})
            keys = self._affordable([(account, message) for account, _, message in rows if account in epochs])
            chosen = [(account, number) for account, number, message in rows if (account, message) in keys]
            self.has_more = len(rows) == BATCH_ROWS or len(chosen) < len(rows)
            taken = self._rows(
                f"DELETE FROM index_queue q USING {_PAIRS} WHERE q.account_id = w.account_id AND q.id = w.id"  # noqa: S608
                " RETURNING q.account_id, q.message_id",
                _columns(chosen),
            )
            self._write(set(taken), epochs)
        return len(taken)

    def _lock(self, accounts: Iterable[int]) -> dict[int, int]:
        """Lock those accounts that no other indexer has; returns the epoch of each."""
        wanted = sorted(accounts)
        if not wanted:
            return {}
        add = "INSERT INTO search_accounts (account_id) SELECT unnest(%s::bigint[]) ON CONFLICT DO NOTHING"
        self._conn.execute(add, (wanted,))
        lock = "SELECT account_id, epoch FROM search_accounts WHERE account_id = ANY(%s) FOR UPDATE SKIP LOCKED"
        return dict(self._rows(lock, (wanted,)))

    def _affordable(self, keys: Sequence[Key]) -> set[Key]:
        """The first of ``keys`` that make ``BATCH_BYTES``, one at least."""
        sizes = {(account, message): size for account, message, size in self._rows(_SIZES, _columns(keys))}
        chosen: set[Key] = set()
        total = 0
        for key in keys:
            chosen.add(key)
            total += sizes.get(key, 0)
            if total > BATCH_BYTES:
                break
        return chosen

    def _rebuild_some(self) -> int:
        with self._conn.transaction():
            found = self._rows(
                "SELECT account_id, unreached, epoch FROM search_accounts WHERE unreached > 0"
                " ORDER BY account_id LIMIT 1 FOR UPDATE SKIP LOCKED"
            )
            if not found:
                return 0
            account, unreached, epoch = found[0]
            query = "SELECT id FROM messages WHERE account_id = %s AND id <= %s ORDER BY id DESC LIMIT %s"
            keys = [(account, row[0]) for row in self._rows(query, (account, unreached, BATCH_ROWS))]
            chosen = self._affordable(keys)
            self._write(chosen, {account: epoch})
            left = min(message for _, message in chosen) - 1 if chosen else 0
            self._conn.execute("UPDATE search_accounts SET unreached = %s WHERE account_id = %s", (left, account))
        return len(chosen) or 1

    def _write(self, keys: set[Key], epochs: dict[int, int]) -> None:
        """Make the documents of messages anew, or take them out where there is no such message any more."""
        if not keys:
            return
        sources = [
            Source(account, message, mailbox, folder, folded_text(self._unzip, *content))
            for account, message, mailbox, folder, *content in self._rows(_SOURCES, _columns(keys))
        ]
        kept = {(account, message): folded for account, message, folded in self._rows(_KEPT, _columns(keys))}
        moved: list[tuple[int, int, int]] = []
        documents: list[Document] = []
        fresh: dict[int, set[bytes]] = {}
        zips = [self._zip.compress(source.folded) for source in sources]  # apart: words stay in the processor's cache
        for source, zipped in zip(sources, zips, strict=True):
            if kept.get((source.account_id, source.message_id)) == zipped:
                moved.append((source.folder_id, source.account_id, source.message_id))
                continue
            cut = words.cut(source.folded, self._known_of(source.account_id, epochs[source.account_id]))
            fresh.setdefault(source.account_id, set()).update(cut.unknown)
            documents.append(_document(source, {*cut.runs, *cut.others}, zipped))
        for account, terms in fresh.items():
            self._learn(account, terms, epochs[account])
        if documents:
            *numbers, vectors, texts = zip(*documents, strict=True)
            self._conn.execute(_PUT, (*map(Numbers, numbers), Vectors(vectors), Blobs(texts)))
            self._has_pending = True
            self._until_analysis -= len(documents)
        if moved:
            move = "UPDATE search_documents SET folder_id = %s WHERE account_id = %s AND message_id = %s"
            self._conn.cursor().executemany(move, moved)
        self._take_out(sorted(keys - {(source.account_id, source.message_id) for source in sources}))

    def _known_of(self, account_id: int, epoch: int) -> set[bytes]:
        """The words of an account that are known to be in its vocabulary, unless some were forgotten since."""
        before, known = self._known.get(account_id, (None, set()))
        if before != epoch:
            known = set()
            self._known[account_id] = epoch, known
        return known

    def _learn(self, account_id: int, terms: set[bytes], epoch: int) -> None:
        """Enter words that were not in ``_known`` into the vocabulary of their account."""
        unknown = sorted(map(bytes.decode, terms))
        if not unknown:
            return
        if sum(len(words_) for _, words_ in self._known.values()) > KNOWN_TERMS:
            self._known = {}
        new = [row[0] for row in self._rows(_UNKNOWN, (" ".join(unknown), account_id))]
        if new:
            grams = [postgres.vector(account_id, {gram.encode() for gram in postgres.gram_terms(term)}) for term in new]
            self._conn.execute(_LEARN, (account_id, Texts(new), Vectors(grams)))
        self._known_of(account_id, epoch).update(terms)

    def _take_out(self, gone: Sequence[Key]) -> None:
        if not gone:
            return
        removed = self._rows(
            f"DELETE FROM search_documents d USING {_PAIRS} WHERE d.account_id = w.account_id AND d.message_id = w.id"  # noqa: S608
            " RETURNING d.account_id",
            _columns(gone),
        )
        self._conn.execute(
            "UPDATE search_accounts s SET removed = removed + n.count FROM (SELECT account_id, count(*) AS count"
            " FROM unnest(%s::bigint[]) AS r(account_id) GROUP BY account_id) n WHERE s.account_id = n.account_id",
            ([account for (account,) in removed],),
        )

    def tidy(self) -> bool:
        """One bounded step of house-keeping, for idle moments; returns whether there is more to do."""
        if self._has_pending:
            self._has_pending = False
            for name in _INDEXES:
                self._conn.execute("SELECT gin_clean_pending_list(%s::regclass)", (name,))
            return True
        return self.sweep()

    def sweep(self, after: int = SWEEP_AFTER) -> bool:
        """Look at some words of an account and forget those that no message has; returns whether there is more.

        Accounts are swept that lost ``after`` messages, or their last one.
        """
        with self._conn.transaction():
            found = self._rows(
                "SELECT account_id, coalesce(sweep_size, 0), coalesce(sweep_term, '') FROM search_accounts s"
                " WHERE unreached = 0 AND (removed > 0 OR sweep_size IS NOT NULL) AND (sweep_size IS NOT NULL"
                " OR removed >= %s OR NOT EXISTS (SELECT FROM search_documents d WHERE d.account_id = s.account_id))"
                " ORDER BY account_id LIMIT 1 FOR UPDATE SKIP LOCKED",
                (max(after, 1),),
            )
            if not found:
                return False
            account, size, term = found[0]
            if not size:
                self._conn.execute("UPDATE search_accounts SET removed = 0 WHERE account_id = %s", (account,))
            seen = self._rows(
                "SELECT size, term FROM search_terms WHERE account_id = %s AND (size, term) > (%s, %s)"
                " ORDER BY size, term LIMIT %s",
                (account, size, term, SWEEP_TERMS),
            )
            gone = self._unused(account, [term for _, term in seen])
            self._conn.execute(
                "DELETE FROM search_terms t USING unnest(%s::int[], %s::text[]) AS g(size, term)"
                ' WHERE t.account_id = %s AND t.size = g.size AND t.term = g.term COLLATE "C"',
                ([len(term) for term in gone], gone, account),
            )
            place = seen[-1] if len(seen) == SWEEP_TERMS else (None, None)
            self._conn.execute(
                "UPDATE search_accounts SET sweep_size = %s, sweep_term = %s, epoch = epoch + %s WHERE account_id = %s",
                (*place, int(bool(gone)), account),
            )
        return True

    def _unused(self, account_id: int, terms: Sequence[str]) -> list[str]:
        """Those of ``terms`` that no document of the account has."""
        quoted = [postgres.quote(account_id, term) for term in terms]
        return [terms[row[0]] for row in self._rows(UNUSED, (list(range(len(terms))), quoted, account_id))]


def _document(source: Source, terms: set[bytes], zipped: bytes) -> Document:
    account_id = source.account_id
    mailbox = postgres.mailbox_term(source.mailbox_id).encode()
    vector = postgres.vector(account_id, {mailbox, *terms})
    is_cut = len(vector) > TERMS_BYTES
    if is_cut:
        vector = postgres.vector(account_id, {mailbox})
    return Document(account_id, source.message_id, source.mailbox_id, source.folder_id, int(is_cut), vector, zipped)


def _columns(keys: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    pairs = list(keys)
    return [one for one, _ in pairs], [other for _, other in pairs]


def catch_up(url: str) -> int:
    """Index in this process all there is to index; returns the number of messages."""
    indexer = Indexer(url)
    try:
        return indexer.catch_up()
    finally:
        indexer.close()


def follow(indexer: Indexer, nudges: int) -> None:
    """Index until the file ``nudges`` ends, at once after each byte in it; what is queued then waits for another."""
    wait = 0.0
    way = GivingWay()
    while _listen(nudges, wait):
        started = time.monotonic()
        if way.run(indexer.step, is_in_time=not indexer.has_more):
            wait = max(0.0, started + BATCH_SECONDS - time.monotonic())
            time.sleep(wait)
            wait = 0.0
        else:
            wait = 0.0 if indexer.tidy() else IDLE_SECONDS


def _listen(nudges: int, seconds: float) -> bool:
    """Wait for a nudge; returns False at the end of input."""
    ready, _, _ = select.select([nudges], [], [], seconds)
    return not ready or bool(os.read(nudges, 65536))


def main() -> int:
    """Run the process; returns its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group: the server ends us by closing our input
        signal.signal(number, signal.SIG_IGN)
    url = _first_line(sys.stdin.fileno())
    try:
        indexer = Indexer(url)
        try:
            follow(indexer, sys.stdin.fileno())
        finally:
            indexer.close()
    except psycopg.OperationalError as error:
        sys.stderr.write(f"search index not written: {str(error).strip()}\n")
        return EXIT_RETRY
    return 0


def _first_line(file: int) -> str:
    """Read byte by byte: what follows is for ``select``."""
    line = b""
    while (byte := os.read(file, 1)) not in (b"", b"\n"):
        line += byte
    return line.decode()


if __name__ == "__main__":
    sys.exit(main())
