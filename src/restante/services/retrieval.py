"""Retrieval: from rows back to bytes."""

import asyncio
import hashlib
from dataclasses import dataclass

import zstandard

from restante.core import contents, messages
from restante.core.contents import StoredContent
from restante.errors import NotFound, Unavailable
from restante.ids import AccountId, ContentId, MessageId
from restante.mail import message
from restante.mail.message import Message
from restante.mail.structure import Buffer
from restante.runtime import Runtime

OFF_LOOP_BYTES = 1 << 20  # larger rows are decompressed in a thread


@dataclass(frozen=True, slots=True)
class Content:
    """A message's received bytes with the structure found in them at reception."""

    message: Message
    raw: Buffer


def unpack(stored: StoredContent) -> bytes:
    """The received bytes of a content kept in its row. Raises Unavailable when they are damaged."""
    assert stored.raw is not None
    try:
        raw = zstandard.ZstdDecompressor().decompress(stored.raw, max_output_size=stored.size_bytes)
    except zstandard.ZstdError as error:
        raise Unavailable("the stored bytes are damaged; run `restante verify`", code="content_damaged") from error
    if len(raw) != stored.size_bytes:
        raise Unavailable("the stored bytes are damaged; run `restante verify`", code="content_damaged")
    return raw


def is_intact(stored: StoredContent, raw: Buffer) -> bool:
    """Whether the bytes are those that were received."""
    return len(raw) == stored.size_bytes and hashlib.sha256(raw).digest() == stored.sha256


async def received_bytes(rt: Runtime, stored: StoredContent) -> Buffer:
    """The received bytes, from the row or from the blob store. Raises Unavailable when they are damaged."""
    loop = asyncio.get_running_loop()
    if stored.blob_key is not None:
        try:
            return await loop.run_in_executor(rt.pool, rt.blobs.open, stored.blob_key)
        except NotFound as error:  # the row is there, so this is damage, and no answer to "is there such a message"
            raise Unavailable("the stored bytes are gone; run `restante verify`", code="content_damaged") from error
    if stored.size_bytes > OFF_LOOP_BYTES:
        return await loop.run_in_executor(rt.pool, unpack, stored)
    return unpack(stored)


async def content(rt: Runtime, account_id: AccountId, content_id: ContentId) -> Content:
    """A message's bytes and structure. Raises NotFound, Unavailable."""
    stored = await rt.db.read(contents.get, account_id, content_id)
    return Content(message.load(stored.structure), await received_bytes(rt, stored))


async def raw(rt: Runtime, account_id: AccountId, message_id: MessageId) -> bytes:
    """A message as its recipient sees it: the trace headers, then the received bytes. Raises NotFound, Unavailable."""
    trace, content_id = await rt.db.read(messages.trace, account_id, message_id)
    stored = await rt.db.read(contents.get, account_id, content_id)
    return trace + (await received_bytes(rt, stored))[:]
