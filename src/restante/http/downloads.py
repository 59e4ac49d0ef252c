"""Attachment names and types as response headers (RFC 6266, RFC 8187), whatever the sender put into them."""

import asyncio
import re
from collections.abc import AsyncIterator
from urllib.parse import quote

from restante.http.answers import Stream
from restante.services.retrieval import Piece

MAX_NAME_CHARS = 200
DOWNLOAD_HEADERS = ((b"content-security-policy", b"sandbox; default-src 'none'"),)
_RESTRICTED = r"[A-Za-z0-9!#$&^_.+-]{1,100}"
_MEDIA_TYPE = re.compile(f"{_RESTRICTED}/{_RESTRICTED}")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029/\\\ud800-\udfff]")


def attached(piece: Piece) -> Stream:
    """An attachment's decoded bytes under its own type and name, to be saved and never shown by a browser."""
    attachment = piece.attachment
    name = (b"content-disposition", disposition(attachment.filename, attachment.index))
    kind = media_type(attachment.content_type)
    return Stream(_chunks(piece), attachment.size_bytes, kind, (name, *DOWNLOAD_HEADERS))


async def _chunks(piece: Piece) -> AsyncIterator[bytes]:
    for chunk in piece.decoded():
        yield chunk
        await asyncio.sleep(0)  # others get their turn between two pieces


def media_type(declared: str) -> bytes:
    """The declared type if it is one that can be sent, else ``application/octet-stream``."""
    found = _MEDIA_TYPE.fullmatch(declared)
    return declared.lower().encode() if found else b"application/octet-stream"


def safe_name(filename: str | None, index: int) -> str:
    """A name that can be saved as it is: no path, no control character, never empty, at most 200 characters."""
    name = _UNSAFE.sub("_", filename or "").strip(" .")
    if not name:
        return f"attachment-{index}"
    if len(name) > MAX_NAME_CHARS:
        stem, dot, ending = name.rpartition(".")
        keep = dot + ending if stem and len(ending) <= 20 else ""
        name = name[: MAX_NAME_CHARS - len(keep)] + keep
    return name


def disposition(filename: str | None, index: int) -> bytes:
    """``attachment; filename*=UTF-8''...; filename="..."``, in this order.

    The contract's own Python sample takes what follows the last ``filename=`` and strips the quotes, so the plain form
    is last, and has no quote, no backslash, nothing that is not ASCII and no further ``filename=`` in it.
    """
    name = safe_name(filename, index)
    plain = "".join(letter if " " <= letter <= "~" and letter not in "\"\\'%;" else "_" for letter in name)
    plain = re.sub(r"(?i)(filename\*?)=", r"\1_", plain)
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}; filename=\"{plain}\"".encode("ascii")
