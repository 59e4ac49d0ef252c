"""A store with nothing but what the search index reads: texts in messages, and the queue."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard
from sqlalchemy import Connection

from restante.mail import words
from restante.schema import fulltext
from restante.schema.fulltext import Found, Scope
from restante.storage import indexer, sqlite, upgrades
from restante.storage.indexer import Indexer


@dataclass(frozen=True, slots=True)
class Document:
    """What a stored text is in the eyes of search."""

    id: int
    account_id: int
    mailbox_id: int
    folder_id: int
    folded: str


class Store:
    """Writes the main file, one commit a call; ``documents`` is what a search may find."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.documents: dict[int, Document] = {}
        self._conn = sqlite.open_writer(sqlite.main_path(data_dir))
        self.raw = sqlite.raw(self._conn)
        self.raw.execute("PRAGMA foreign_keys=OFF").fetchall()
        with self.raw:
            upgrades.apply(self._conn)
        indexer.prepare(data_dir)
        self.reader: Connection = sqlite.open_reader(data_dir)

    def close(self) -> None:
        self.reader.close()
        self._conn.close()

    def _insert(self, table: str, **values: Any) -> int:
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        self.raw.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))
        return self.raw.last_insert_rowid()

    def add(self, *texts: str, account: int = 1, mailbox: int = 1, folder: int = 1) -> list[int]:
        self.raw.execute("BEGIN IMMEDIATE")
        added = [self._add(text, account, mailbox, folder) for text in texts]
        self.raw.execute("COMMIT")
        return added

    def _add(self, text: str, account: int, mailbox: int, folder: int) -> int:
        folded = words.fold(text)
        content_id = self._insert(
            "contents",
            account_id=account,
            uses=1,
            created_at=0,
            size_bytes=0,
            sha256=b"",
            structure=b"",
            folded=zstandard.compress(folded.encode()),
        )
        message_id = self._insert(
            "messages",
            account_id=account,
            mailbox_id=mailbox,
            folder_id=folder,
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
        self._insert("index_queue", account_id=account, message_id=message_id)
        self.documents[message_id] = Document(message_id, account, mailbox, folder, folded)
        return message_id

    def remove(self, *message_ids: int) -> None:
        with self.raw:
            for message_id in message_ids:
                self.raw.execute("DELETE FROM messages WHERE id = ?", (message_id,))
                self._insert("index_queue", account_id=self.documents.pop(message_id).account_id, message_id=message_id)

    def move(self, message_id: int, folder: int) -> None:
        old = self.documents[message_id]
        self.documents[message_id] = Document(old.id, old.account_id, old.mailbox_id, folder, old.folded)
        self.raw.execute("BEGIN IMMEDIATE")
        self.raw.execute("UPDATE messages SET folder_id = ? WHERE id = ?", (folder, message_id))
        self._insert("index_queue", account_id=old.account_id, message_id=message_id)
        self.raw.execute("COMMIT")

    def prune(self, up_to: int) -> None:
        self.raw.execute("DELETE FROM index_queue WHERE id <= ?", (up_to,))

    def index(self) -> int:
        return indexer.catch_up(self.data_dir)

    def indexer(self) -> Indexer:
        return Indexer(self.data_dir)

    def find(
        self, text: str, *, account: int = 1, mailbox: int | None = 1, folder: int | None = None, limit: int = 100_000
    ) -> Found:
        query = words.parse(text)
        return fulltext.find(self.reader, Scope(account, mailbox, folder), query, limit=limit)

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
