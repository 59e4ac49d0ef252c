"""Blocks: words and addresses of an account's arrivals, a thousand side by side under the numbers they are named by.

All that contain a text are found by looking through a few long strings. They are kept in memory; of addresses what is
before the ``@`` and, once for each block, what follows: that is less than half to look through.
"""

import secrets
import sys
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sized
from typing import Any, TypeVar

from sqlalchemy import bindparam, delete, insert, select

from restante.core.recent import Recent
from restante.mail.words import Where
from restante.schema import tables
from restante.schema.connections import ReadConn, WriteConn
from restante.schema.prepared import Prepared, PreparedByIds, Row

BLOCK = 1_024
KEPT_BYTES = 16 << 20  # of words, and of addresses, in each of the two generations that a process keeps

_b = tables.arrival_blocks.c
_OF_KIND = _b.account_id == bindparam("account"), _b.kind == bindparam("kind")
_VERSIONS = Prepared(select(_b.number, _b.version).where(*_OF_KIND).order_by(_b.number))
_FIND = PreparedByIds(select(_b.number, _b.texts).where(*_OF_KIND), _b.number)
_DELETE = Prepared(delete(tables.arrival_blocks).where(*_OF_KIND, _b.number == bindparam("at")))
_INSERT = Prepared(insert(tables.arrival_blocks))


def _pair(row: Row) -> tuple[int, Any]:
    return row[0], row[1]


def set_texts(conn: WriteConn, account_id: int, kind: str, texts: Mapping[int, str]) -> None:
    """Write texts into the blocks at their numbers; "" takes one out."""
    by_block: dict[int, dict[int, str]] = {}
    for one, text in texts.items():
        by_block.setdefault(one // BLOCK, {})[one % BLOCK] = text
    key = {"account": account_id, "kind": kind}
    found = dict(map(_pair, _FIND.rows(conn, key, list(by_block))))
    for number, changes in sorted(by_block.items()):
        lines = found[number].split(b"\n") if number in found else []
        lines += [b""] * (max(changes) + 1 - len(lines))
        for place, text in changes.items():
            lines[place] = text.encode()
        if number in found:
            _DELETE.run(conn, {**key, "at": number})
        if any(lines):
            row = {"account_id": account_id, "kind": kind, "number": number, "texts": b"\n".join(lines)}
            _INSERT.run(conn, {**row, "version": secrets.randbits(63)})


def words(conn: ReadConn, account_id: int, text: str, where: Where) -> Iterator[int]:
    """The numbers of all words that satisfy a condition."""
    part = _Part(text.encode(), starts=where in (Where.EQUAL, Where.STARTS), ends=where in (Where.EQUAL, Where.ENDS))
    for number, block in _blocks(conn, account_id, "word", _words, _Lines):
        for line in part.lines(block):
            yield number * BLOCK + line


def addresses(conn: ReadConn, account_id: int, role: str, text: str) -> Iterator[int]:
    """The numbers of all inboxes' or senders' addresses that contain a text."""
    part = _AddressPart(text.encode())
    for number, block in _blocks(conn, account_id, role, _addresses, _Addresses):
        for line in part.lines(block):
            yield number * BLOCK + line


_NUMBERS = [number.to_bytes(2, sys.byteorder) for number in range(BLOCK)]


class _Lines:
    """Lines of text, each between two breaks; of each byte, in which line it is (a break: before which)."""

    __slots__ = ("line_of", "text")

    def __init__(self, lines: Collection[bytes]) -> None:
        self.text = b"\n%b\n" % b"\n".join(lines)
        numbers = [number * (len(line) + 1) for number, line in zip(_NUMBERS, lines, strict=False)]
        self.line_of = array("H", b"".join(numbers))

    def __len__(self) -> int:
        """The bytes of it."""
        return len(self.text) + len(self.line_of) * self.line_of.itemsize


class _Part:
    """A part of a line that is looked for: anywhere in it, or where the line starts or ends."""

    def __init__(self, text: bytes, *, starts: bool = False, ends: bool = False) -> None:
        self._text = b"\n" * starts + text + b"\n" * ends

    def lines(self, block: _Lines) -> list[int]:
        """Which lines have it, in order."""
        text, part, line_of = block.text, self._text, block.line_of
        found: list[int] = []
        place = text.find(part)
        while place >= 0:
            line = line_of[place]
            if found and found[-1] == line:  # a line may be nothing but hits
                place = text.find(b"\n", place)
            else:
                found.append(line)
            place = text.find(part, place + 1)
        return found


class _Addresses:
    """A block of addresses: what is before the last ``@`` of each, and once each of what follows, with the ``@``."""

    __slots__ = ("has_quoted", "rest_of", "rests", "users")

    def __init__(self, lines: Collection[bytes]) -> None:
        split = [line.rpartition(b"@") for line in lines]
        rests = [sign + domain if sign else b"" for _, sign, domain in split]
        numbers = {rest: number for number, rest in enumerate(dict.fromkeys(rests))}
        self.rest_of = array("H", [numbers[rest] for rest in rests])
        self.rests = _Lines(numbers)
        self.users = _Lines([user if sign else whole for user, sign, whole in split])
        self.has_quoted = b"@" in self.users.text

    def __len__(self) -> int:
        """The bytes of it."""
        return len(self.users) + len(self.rests) + len(self.rest_of) * self.rest_of.itemsize


class _AddressPart:
    """A part of an address that is looked for: it may lie on either side of the ``@``, or on both."""

    def __init__(self, text: bytes) -> None:
        user, sign, domain = text.rpartition(b"@")
        self._whole = _Part(text)
        self._is_parted = bool(sign)
        self._user = _Part(user, ends=True) if user else None
        self._rest = _Part(sign + domain, starts=True) if sign else self._whole

    def lines(self, block: _Addresses) -> list[int]:
        """Which addresses of a block have it."""
        found = self._whole.lines(block.users) if block.has_quoted or not self._is_parted else []
        rests = set(self._rest.lines(block.rests))
        if not rests:
            return found
        users = range(len(block.rest_of)) if self._user is None else self._user.lines(block.users)
        return sorted({*found, *(line for line in users if block.rest_of[line] in rests)})


Block = TypeVar("Block", bound=Sized)

_words: Recent[_Lines] = Recent(KEPT_BYTES)  # by version: each search looks through all blocks
_addresses: Recent[_Addresses] = Recent(KEPT_BYTES)


def _blocks(
    conn: ReadConn, account_id: int, kind: str, kept: Recent[Block], read: Callable[[list[bytes]], Block]
) -> Iterator[tuple[int, Block]]:
    """All blocks of a kind with their numbers, in order."""
    key = {"account": account_id, "kind": kind}
    versions = dict(map(_pair, _VERSIONS.rows(conn, key)))
    found = {number: block for number, version in versions.items() if (block := kept.get(version)) is not None}
    for number, texts in _FIND.rows(conn, key, [one for one in versions if one not in found]):
        found[number] = read(texts.split(b"\n"))
        kept.put(versions[number], found[number])
    return ((number, found[number]) for number in versions)
