"""What a blob store is: four verbs over immutable, content-addressed bytes."""

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


class BlobStore(Protocol):
    """Keys are ``{account id}/{sha256 hex}``: equal bytes of one account are one blob. All calls may block."""

    def put(self, key: str, data: Buffer) -> None:
        """Store ``data``; durable when it returns. Putting a key again only renews its ``stored_at``.

        Raises Unavailable when the store does not take it.
        """
        ...

    def open(self, key: str) -> Buffer:
        """The bytes, without reading them all where that is possible. Raises NotFound, Unavailable."""
        ...

    def delete(self, key: str, *, unless_put_since: datetime) -> bool:
        """Remove it, unless it was put after that moment; False when it stays or was not there."""
        ...

    def list_all(self) -> Iterator[BlobInfo]:
        """Every blob, in no order."""
        ...
