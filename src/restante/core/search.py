"""Searching a mailbox: hits newest first, each with a snippet of its text.

The query language is that of ``mail.words``; which messages match is the engine's business (``schema.fulltext``).
Snippets keep the letters as they were written: they come from the stored preview where the hit is in it, else from the
body decoded again, else (bytes outside the database) from the folded text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import zstandard
from sqlalchemy import bindparam, case, select

from restante.core import messages
from restante.core.messages import MessageRow, Page
from restante.core.recent import Recent
from restante.errors import Invalid
from restante.ids import AccountId, FolderId, MailboxId
from restante.mail import message, words
from restante.schema import fulltext, tables
from restante.schema.connections import ReadConn, scanning
from restante.schema.prepared import PreparedByIds

SNIPPET = 160  # characters at most, the cut marks included
BEFORE = 50  # of them in front of the hit
CUT = "..."
LIMIT_MAX = 1_000
OFFSET_MAX = 100_000
NEAR = 240  # characters on either side of a hit in which its snippet is looked for
READABLE_MAX = 64 * 1024  # characters of its text that are looked through
KEPT_CHARS = 1 << 20  # of texts in each of the two generations that a connection keeps

_c = tables.contents.c
_FOLDED = case((_c.raw.is_(None), _c.folded))  # where the bytes are elsewhere
_CONTENTS = PreparedByIds(
    select(_c.id, _c.size_bytes, _c.structure, _c.raw, _FOLDED).where(_c.account_id == bindparam("account")), _c.id
)


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that matches, and the part of its text that shows why."""

    row: MessageRow
    snippet: str


@dataclass(frozen=True, slots=True)
class Results(Page[Hit]):
    """A page of hits, and whether it had to leave any out, of ``total`` too.

    Older messages, where a query with punctuation has more candidates than may be looked at; those with longer words,
    where too many words contain one of the query.
    """

    is_complete: bool = True


@scanning
def search(
    conn: ReadConn,
    account_id: AccountId,
    mailbox_id: MailboxId,
    text: str,
    *,
    folder_id: FolderId | None,
    limit: int,
    offset: int = 0,
) -> Results:
    """Messages of the mailbox (or of one folder of it) with every word of ``text`` as a substring, newest first.

    ``total`` counts all hits. The index follows, mostly within a second. Raises Invalid for a query, limit or
    offset beyond its bounds.
    """
    if not 0 <= offset <= OFFSET_MAX or not 0 <= limit <= LIMIT_MAX:
        raise Invalid("The page is out of bounds.", code="invalid_page", details={"offset": f"at most {OFFSET_MAX}"})
    query = words.parse(text)
    scope = fulltext.Scope(account_id, mailbox_id, folder_id)
    found = fulltext.find(conn, scope, query, limit=limit, offset=offset)
    rows = messages.by_ids(conn, account_id, found.ids)
    if folder_id is not None:  # what was moved or removed a moment ago
        rows = [row for row in rows if row.folder_id == folder_id]
    pieces = [piece.text for piece in query.pieces]
    total = found.total - (len(found.ids) - len(rows))
    return Results(total, list(_hits(conn, account_id, rows, pieces)), found.is_complete)


def _hits(conn: ReadConn, account_id: AccountId, rows: Sequence[MessageRow], pieces: Sequence[str]) -> Iterator[Hit]:
    snippets = {row.id: excerpt(row.preview, pieces) for row in rows}
    missing = [row for row in rows if snippets[row.id] is None]
    texts = _texts(conn, account_id, missing)
    for row in missing:
        if row.content_id in texts:
            snippets[row.id] = excerpt(texts[row.content_id], pieces)
    for row in rows:
        yield Hit(row, snippets[row.id] or _cut(row.preview, 0))


def _texts(conn: ReadConn, account_id: AccountId, rows: Sequence[MessageRow]) -> dict[int, str]:
    """The text of each message, by content; whoever searches, searches again, and mostly in new mail."""
    kept: Recent[str] = conn.info.setdefault("texts", Recent(KEPT_CHARS))
    texts: dict[int, str] = {row.content_id: text for row in rows if (text := kept.get(row.content_id)) is not None}
    previews = {row.content_id: row.preview for row in rows if row.content_id not in texts}
    unzip = zstandard.ZstdDecompressor()
    for found in _CONTENTS.rows(conn, {"account": account_id}, list(previews)):
        content_id, size_bytes, structure, packed, folded = found
        if packed is not None:
            raw = unzip.decompress(packed, max_output_size=size_bytes)
            text = "\n".join(message.readable(message.load(structure), raw, READABLE_MAX))
        else:
            text = _body(fulltext.unfold(unzip, folded or b""), previews[content_id])
        texts[content_id] = text
        if len(text) <= READABLE_MAX:
            kept.put(content_id, text)
    return texts


def _body(folded: str, preview: str) -> str:
    """The folded text from where the body begins: behind subject, addresses and file names."""
    return folded[max(folded.find(words.fold(preview)[:40]), 0) :]


def excerpt(text: str, pieces: Sequence[str]) -> str | None:
    """At most ``SNIPPET`` characters of ``text`` around the first of ``pieces`` in it; None when none is there."""
    lowered = text.lower()
    place = _first(lowered, pieces)
    if place is None or len(lowered) != len(text):
        return _full_excerpt(text, pieces)
    return _near(text, place) or _full_excerpt(text, pieces)


def _first(folded: str, pieces: Sequence[str]) -> int | None:
    """The place of the first of ``pieces``."""
    return min([place for piece in pieces if (place := folded.find(piece)) >= 0], default=None)


def _near(text: str, place: int) -> str | None:
    """The excerpt around ``place``, made of its surroundings alone; None when these are mostly white space."""
    after = " ".join(text[place : place + NEAR].split())
    is_long = len(after) >= SNIPPET  # then no more than ``BEFORE`` stands in front of the hit
    start = max(place - (2 * BEFORE if is_long else NEAR), 0)
    before = " ".join(text[start:place].split())
    if (start and len(before) < (BEFORE if is_long else SNIPPET)) or (place + NEAR < len(text) and not is_long):
        return None
    gap = " " if before and text[place - 1].isspace() else ""
    return _cut(before + gap + after, len(before) + len(gap))


def _full_excerpt(text: str, pieces: Sequence[str]) -> str | None:
    if _first(words.fold_letters(text), pieces) is None:
        return None
    plain = " ".join(text.split())
    folded = words.fold(plain)
    place = _first(folded, pieces)
    if place is None:
        return None
    return _cut(plain, place if len(folded) == len(plain) else _place_in(plain, folded, place))


def _place_in(plain: str, folded: str, place: int) -> int:
    """About where in ``plain`` the character at ``place`` of its folded form is: in the word of the same number."""
    start = folded.rfind(" ", 0, place) + 1
    number = folded.count(" ", 0, place)
    at = 0
    for _ in range(number):
        following = plain.find(" ", at) + 1
        if not following:
            break
        at = following
    return min(at + place - start, len(plain) - 1)


def _cut(text: str, place: int) -> str:
    """``text`` cut to ``SNIPPET`` characters so that ``place`` is in it, at word limits where there are any near."""
    if len(text) <= SNIPPET:
        return text
    start = max(min(place - BEFORE, len(text) - SNIPPET + len(CUT)), 0)
    if start:
        space = text.find(" ", start, place)
        start = space + 1 if space >= 0 else start
    room = SNIPPET - (len(CUT) if start else 0)
    if len(text) - start <= room:
        return CUT + text[start:]
    end = start + room - len(CUT)
    space = text.rfind(" ", max(place, end - BEFORE) + 1, end + 1)
    if space > place:
        end = space
    return (CUT if start else "") + text[start:end].rstrip() + CUT


__all__ = ["Hit", "excerpt", "search"]
