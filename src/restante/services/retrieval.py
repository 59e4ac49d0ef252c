"""Retrieval: from rows back to bytes."""

import asyncio
import functools
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import msgspec
import zstandard

from restante.core import contents, messages
from restante.core.contents import StoredContent
from restante.errors import NotFound, Unavailable
from restante.ids import AccountId, ContentId, MessageId
from restante.mail import message
from restante.mail.message import Attachment, Message
from restante.mail.structure import Buffer
from restante.runtime import Runtime

P = ParamSpec("P")
T = TypeVar("T")

OFF_LOOP_BYTES = 1 << 20  # larger rows are decompressed in a thread


@dataclass(frozen=True, slots=True)
class Content:
    """A message's received bytes with the structure found in them at reception."""

    message: Message
    raw: Buffer


@dataclass(frozen=True, slots=True)
class Piece:
    """An attachment with bytes that its offsets point into: the whole message, or just its own encoded body."""

    attachment: Attachment
    raw: Buffer

    def decoded(self) -> Iterator[bytes]:
        """Its bytes as the sender attached them, in chunks."""
        return message.decoded(self.attachment, self.raw)


_local = threading.local()


def _decompressor() -> zstandard.ZstdDecompressor:
    """This thread's own: making one costs as much as a small message."""
    found: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if found is None:
        found = _local.decompressor = zstandard.ZstdDecompressor()
    return found


def unpack(stored: StoredContent) -> bytes:
    """The received bytes of a content kept in its row. Raises Unavailable when they are damaged."""
    assert stored.raw is not None
    try:
        raw = _decompressor().decompress(stored.raw, max_output_size=stored.size_bytes)
    except zstandard.ZstdError as error:
        raise Unavailable("the stored bytes are damaged; run `restante verify`", code="content_damaged") from error
    if len(raw) != stored.size_bytes:
        raise Unavailable("the stored bytes are damaged; run `restante verify`", code="content_damaged")
    return raw


def is_intact(stored: StoredContent, raw: Buffer) -> bool:
    """Whether the bytes are those that were received."""
    return len(raw) == stored.size_bytes and hashlib.sha256(raw).digest() == stored.sha256


async def received_bytes(rt: Runtime, stored: StoredContent) -> Buffer:
    """The received bytes, from the row or from the blob store. Raises Unavailable."""
    if stored.blob_key is not None:
        return await _from_store(rt, rt.blobs.open, stored.blob_key)
    if stored.size_bytes > OFF_LOOP_BYTES:
        return await asyncio.get_running_loop().run_in_executor(rt.pool, unpack, stored)
    return unpack(stored)


async def content(rt: Runtime, account_id: AccountId, content_id: ContentId) -> Content:
    """A message's bytes and structure. Raises NotFound, Unavailable."""
    stored = await rt.db.read(contents.get, account_id, content_id)
    return Content(message.load(stored.structure), await received_bytes(rt, stored))


async def attachment(rt: Runtime, account_id: AccountId, content_id: ContentId, index: int) -> Piece:
    """One attachment's bytes; of a blob only these are read.

    Raises NotFound(code="attachment_not_found"), Unavailable.
    """
    stored = await rt.db.read(contents.get, account_id, content_id)
    found = message.load(stored.structure).attachments
    if index >= len(found):
        raise NotFound(f"There is no attachment {index}.", code="attachment_not_found")
    one = found[index]
    if stored.blob_key is None:
        return Piece(one, await received_bytes(rt, stored))
    window = await _from_store(rt, rt.blobs.open_range, stored.blob_key, one.start, one.end)
    if window.end - window.start != one.end - one.start:
        raise Unavailable("the stored bytes are damaged; run `restante verify`", code="content_damaged")
    return Piece(msgspec.structs.replace(one, start=window.start, end=window.end), window.raw)


async def _from_store(rt: Runtime, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a call of the blob store gives. A blob that a row names has to be there, so its absence is Unavailable."""
    try:
        return await asyncio.get_running_loop().run_in_executor(rt.pool, functools.partial(read, *args, **kwargs))
    except NotFound as error:
        raise Unavailable("the stored bytes are gone; run `restante verify`", code="content_missing") from error


async def raw(rt: Runtime, account_id: AccountId, message_id: MessageId) -> bytes:
    """A message as its recipient sees it: the trace headers, then the received bytes. Raises NotFound, Unavailable."""
    trace, content_id = await rt.db.read(messages.trace, account_id, message_id)
    stored = await rt.db.read(contents.get, account_id, content_id)
    return trace + (await received_bytes(rt, stored))[:]
