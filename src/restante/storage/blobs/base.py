"""What a blob store is: its verbs over immutable, content-addressed bytes."""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

Buffer = bytes | mmap.mmap


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A stored blob as ``list_all`` shows it."""

    key: str
    size_bytes: int
    stored_at: datetime  # when it was last put; aware UTC


@dataclass(frozen=True, slots=True)
class Window:
    """Some bytes of a blob: ``raw[start:end]``. There may be others around them."""

    raw: Buffer
    start: int
    end: int


class BlobStore(Protocol):
    """A blob is put under ``{account id}/{sha256 hex}``: equal bytes of one account may share one. All calls may block.

    A key names the same bytes for ever. A row that names a put blob is committed within the grace time of contents;
    until then, and as long as a row names it, nobody deletes it.
    """

    def check(self) -> None:
        """Raise Unavailable, with one line for people, when the store cannot be used as it is set."""
        ...

    def put(self, key: str, data: Buffer) -> str:
        """Store ``data``, durable when it returns; gives the key for the row, which may say more than the one given.

        Putting a key again renews it for ``delete``. Raises Unavailable when the store does not take it: then nothing
        can be read under the key, or the whole of it.
        """
        ...

    def open(self, key: str) -> Buffer:
        """The bytes, without reading them all where that is possible. Raises NotFound, Unavailable."""
        ...

    def open_range(self, key: str, start: int, end: int) -> Window:
        """The bytes from ``start`` up to ``end``, fewer where the blob ends before. Raises NotFound, Unavailable."""
        ...

    def delete(self, key: str, *, unless_put_since: datetime) -> bool:
        """Remove it, unless it may have been put after that moment; False when it stays or was not there.

        Raises Unavailable. A blob that stays is taken by a later sweep, if nothing names it.
        """
        ...

    def list_all(self) -> Iterator[BlobInfo]:
        """Every blob, in no order. Raises Unavailable."""
        ...
