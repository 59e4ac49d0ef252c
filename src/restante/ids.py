"""Identifiers: typed database ids, time-ordered UUIDs, random tokens."""

import base64
import hashlib
import os
import secrets
import string
import struct
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import NewType

AccountId = NewType("AccountId", int)
DomainId = NewType("DomainId", int)
MailboxId = NewType("MailboxId", int)
FolderId = NewType("FolderId", int)
ContentId = NewType("ContentId", int)
MessageId = NewType("MessageId", int)  # our row's number; the header's value is called message_id_header
TokenId = NewType("TokenId", int)
SubmissionId = NewType("SubmissionId", int)
TransferId = NewType("TransferId", int)
JobId = NewType("JobId", int)
WebhookId = NewType("WebhookId", int)
AutomationId = NewType("AutomationId", int)
Uid = NewType("Uid", int)
ModSeq = NewType("ModSeq", int)
EventNumber = NewType("EventNumber", int)

_ALPHANUMERIC = string.ascii_letters + string.digits

TOKEN_BYTES = 32  # 256 random bits, 43 url-safe characters

_TAILS = 512  # taken from the system at once

_uuid_lock = threading.Lock()
_uuid_last = 0
_uuid_tails: Iterator[tuple[int]] = iter(())


def _forget_tails() -> None:
    global _uuid_tails  # noqa: PLW0603 - see _uuid_number
    _uuid_tails = iter(())


os.register_at_fork(after_in_child=_forget_tails)


def _uuid_number() -> int:
    """The number of a version 7 UUID, strictly increasing within this process (RFC 9562 §5.7, method 3 of §6.2)."""
    global _uuid_last, _uuid_tails  # noqa: PLW0603 - the one counter that makes them monotonic, and a block of randomness
    with _uuid_lock:
        stamp = time.time_ns() * 4096 // 1_000_000  # milliseconds with 12 bits of fraction
        stamp = max(stamp, _uuid_last + 1)
        _uuid_last = stamp
        tail = next(_uuid_tails, None)
        if tail is None:
            _uuid_tails = struct.iter_unpack("!Q", os.urandom(8 * _TAILS))
            tail = next(_uuid_tails)
    milliseconds, fraction = stamp >> 12 & ((1 << 48) - 1), stamp & 0xFFF
    return milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | tail[0] >> 2


def new_uuid() -> uuid.UUID:
    """A version 7 UUID, greater than all that this process made before."""
    return uuid.UUID(int=_uuid_number())


def new_uuid_bytes() -> bytes:
    """The 16 bytes of one, where many are made: a ``UUID`` around them takes as long again."""
    return _uuid_number().to_bytes(16, "big")


def uuid_text(value: bytes) -> str:
    """The usual form of a UUID's 16 bytes (RFC 9562 §4)."""
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def new_receipt_id() -> str:
    """The 32 digits of a version 7 UUID, for a message that was received."""
    return f"{_uuid_number():032x}"


def first_uuid(moment: datetime) -> uuid.UUID:
    """What every id that ``new_uuid`` makes at that moment or later is greater than."""
    return uuid.UUID(int=int(moment.timestamp() * 1000) << 80)


def new_token() -> str:
    """A random credential of 43 url-safe characters (RFC 4648 §5)."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def new_native_token() -> str:
    """A credential of the native API: its prefix lets scanners for leaked secrets know it."""
    return f"rst_{new_token()}"


def new_mailcare_token() -> str:
    """A credential of the MailCare API as its clients know them: a number, a bar, 40 letters and digits (238 bits)."""
    return f"{secrets.randbelow(900_000) + 100_000}|{''.join(secrets.choice(_ALPHANUMERIC) for _ in range(40))}"


def token_hash(token: str) -> bytes:
    """What is kept of a random token: its SHA-256 (a slow hash adds nothing to 256 random bits)."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" * 8  # a letter for each byte, all as likely: 5 random bits


def new_queue_id() -> str:
    """What a message is called in SMTP replies, logs and Received lines: 15 letters and digits."""
    return os.urandom(15).translate(_LETTERS).decode("ascii")


def new_return_token() -> str:
    """The part of a return path that only the servers on a message's way know: 24 lower-case letters and digits."""
    return os.urandom(24).translate(_LETTERS).decode("ascii").lower()


def new_webhook_secret() -> str:
    """A signing secret as Standard Webhooks writes it: 256 random bits in base64 behind ``whsec_``."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(TOKEN_BYTES)).decode()


def new_password(length: int = 16) -> str:
    """A password for people to copy: letters and digits that look unlike each other."""
    alphabet = "abcdefghijkmnpqrstuvwxyz23456789"
    return "".join(secrets.choice(alphabet) for _ in range(length))
