"""A store with nothing but what the search index reads: texts in messages, and the queue."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import apsw
import sqlalchemy
import zstandard
from sqlalchemy import Connection, Table, delete, insert, select, update

from restante.mail import words
from restante.schema import fulltext, tables
from restante.schema.fulltext import Found, Scope
from restante.storage import indexer, sqlite, upgrades
from restante.storage.indexer import Indexer
from restante.storage.postgres import indexer as postgres_indexer


@dataclass(frozen=True, slots=True)
class Document:
    """What a stored text is in the eyes of search."""

    id: int
    account_id: int
    mailbox_id: int
    folder_id: int
    folded: str


class Texts(ABC):
    """Writes one commit a call; ``documents`` is what a search may find."""

    reader: Connection

    def __init__(self) -> None:
        self.documents: dict[int, Document] = {}

    @abstractmethod
    def transaction(self) -> Any:
        """A context with a connection in it, which is committed at its end."""

    @abstractmethod
    def index(self) -> int:
        """Index all there is; returns the number of messages looked at."""

    @abstractmethod
    def damage(self, message_id: int) -> None:
        """Spoil the text that the index keeps of a message."""

    @abstractmethod
    def close(self) -> None:
        """Let the store go."""

    def add(self, *texts: str, account: int = 1, mailbox: int = 1, folder: int = 1) -> list[int]:
        with self.transaction() as conn:
            return [self._add(conn, text, account, mailbox, folder) for text in texts]

    def _add(self, conn: Connection, text: str, account: int, mailbox: int, folder: int) -> int:
        folded = words.fold(text)
        content_id = _insert(
            conn,
            tables.contents,
            account_id=account,
            uses=1,
            created_at=0,
            size_bytes=0,
            sha256=b"",
            structure=b"",
            folded=zstandard.compress(folded.encode()),
        )
        message_id = _insert(
            conn,
            tables.messages,
            account_id=account,
            mailbox_id=mailbox,
            folder_id=_folder(conn, account, mailbox, folder),
            uid=content_id,
            modseq=1,
            content_id=content_id,
            public_id=content_id.to_bytes(16, "big"),
            flags=0,
            keywords="",
            size_bytes=0,
            received_at=0,
            attachments=0,
            thread_key=0,
            envelope_sender="",
            envelope_recipient="",
            from_name="",
            from_email="",
            recipients="[]",
            subject="",
            preview="",
            trace=b"",
        )
        _insert(conn, tables.index_queue, account_id=account, message_id=message_id)
        self.documents[message_id] = Document(message_id, account, mailbox, folder, folded)
        return message_id

    def remove(self, *message_ids: int) -> None:
        with self.transaction() as conn:
            for message_id in message_ids:
                conn.execute(delete(tables.messages).where(tables.messages.c.id == message_id))
                account_id = self.documents.pop(message_id).account_id
                _insert(conn, tables.index_queue, account_id=account_id, message_id=message_id)

    def move(self, message_id: int, folder: int) -> None:
        old = self.documents[message_id]
        self.documents[message_id] = replace(old, folder_id=folder)
        m = tables.messages
        with self.transaction() as conn:
            folder_id = _folder(conn, old.account_id, old.mailbox_id, folder)
            conn.execute(update(m).where(m.c.id == message_id).values(folder_id=folder_id))
            _insert(conn, tables.index_queue, account_id=old.account_id, message_id=message_id)

    def find(
        self, text: str, *, account: int = 1, mailbox: int | None = 1, folder: int | None = None, limit: int = 100_000
    ) -> Found:
        query = words.parse(text)
        folder_id = None if folder is None else _folder_id(account, mailbox or 0, folder)
        return fulltext.find(self.reader, Scope(account, mailbox, folder_id), query, limit=limit)

    def ids(self, text: str, **scope: Any) -> list[int]:
        found = self.find(text, **scope)
        assert found.total == len(found.ids)
        return found.ids

    def expected(self, text: str, *, account: int = 1, mailbox: int | None = 1, folder: int | None = None) -> list[int]:
        """What a plain look through all texts finds."""
        pieces = words.fold(text).split()
        return sorted(
            [
                one.id
                for one in self.documents.values()
                if one.account_id == account
                and mailbox in (None, one.mailbox_id)
                and folder in (None, one.folder_id)
                and pieces
                and all(piece in one.folded for piece in pieces)
            ],
            reverse=True,
        )


def _folder_id(account: int, mailbox: int, number: int) -> int:
    return account * 10_000 + mailbox * 100 + number


def _folder(conn: Connection, account: int, mailbox: int, number: int) -> int:
    """The id of a mailbox's folder of that number, which is made on first use."""
    folder_id = _folder_id(account, mailbox, number)
    f = tables.folders
    if conn.execute(select(f.c.id).where(f.c.id == folder_id)).first() is None:
        values = {"id": folder_id, "account_id": account, "mailbox_id": mailbox, "name": str(number)}
        _insert(conn, f, **values, uid_validity=1, uid_next=1, modseq=1, messages=1, created_at=0)
    return folder_id


def _insert(conn: Connection, table: Table, **values: Any) -> int:
    return int(conn.execute(insert(table).returning(table.c.id), values).scalar_one())


class Store(Texts):
    """On SQLite."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__()
        self.data_dir = data_dir
        self._conn = sqlite.open_writer(sqlite.main_path(data_dir))
        self.raw = sqlite.raw(self._conn)
        self.raw.execute("PRAGMA foreign_keys=OFF").fetchall()
        with self.raw:
            upgrades.apply(self._conn)
        indexer.prepare(data_dir)
        self.reader = sqlite.open_reader(data_dir)

    def close(self) -> None:
        self.reader.close()
        self._conn.close()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        self.raw.execute("BEGIN IMMEDIATE")
        yield self._conn
        self.raw.execute("COMMIT")

    def prune(self, up_to: int) -> None:
        self.raw.execute("DELETE FROM index_queue WHERE id <= ?", (up_to,))

    def index(self) -> int:
        return indexer.catch_up(self.data_dir)

    def indexer(self) -> Indexer:
        return Indexer(self.data_dir)

    def damage(self, message_id: int) -> None:
        broken = apsw.Connection(str(self.data_dir / indexer.INDEX))
        broken.execute("UPDATE texts SET folded = x'00' WHERE id = ?", (message_id,))
        broken.close()


class PostgresStore(Texts):
    """On PostgreSQL, in a database that has the tables."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self._engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
        postgres_indexer.prepare(url)
        self.reader = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        self.reader.close()
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with self._engine.begin() as conn:
            conn.exec_driver_sql("SET LOCAL session_replication_role = replica")  # no foreign keys
            yield conn

    def clear(self) -> None:
        """Begin again with nothing in it."""
        with self.transaction() as conn:
            conn.exec_driver_sql("TRUNCATE messages, contents, index_queue CASCADE")
        self.outdate_index()
        self.documents.clear()

    def outdate_index(self) -> None:
        """Have the index made anew, as one of an older version is."""
        with self.transaction() as conn:
            conn.exec_driver_sql("UPDATE search_version SET value = 'older'")
        postgres_indexer.prepare(self.url)

    def index(self) -> int:
        return postgres_indexer.catch_up(self.url)

    def indexer(self) -> postgres_indexer.Indexer:
        return postgres_indexer.Indexer(self.url)

    def damage(self, message_id: int) -> None:
        with self.transaction() as conn:
            conn.exec_driver_sql("UPDATE search_documents SET folded = '\\x00' WHERE message_id = %s", (message_id,))
