"""What search sees of a text: folding, the words of the index, and the query language.

Every engine is fed by this one module, so every engine gives the same answers. A query is a list of pieces separated
by white space; a message is a hit when its folded text contains **each** piece as a substring. How an index finds out:

* A *word* is a longest run of word characters (letters, digits, ``_``, marks). The words of an account form its
  vocabulary; a piece that is one run of word characters lies in a message exactly when a word there contains it, so the
  vocabulary (through the trigrams of its entries) answers it exactly.
* Scripts written without spaces (Han, Kana, Hangul, Thai, ...) and symbols such as emoji are indexed as single
  characters and pairs; one or two of them are answered exactly.
* An e-mail address is in the vocabulary as a whole too, so that a part of one is answered exactly.
* Runs over ``LONG_WORD`` characters (tracking links, keys) would swell the vocabulary: their parts of one
  to three characters are indexed instead.

Everything else (``foo-bar``, four Han characters, half a key) yields *candidates*: each part of the piece is
looked up, and the piece is then sought in the folded text of what was found (``Piece.is_exact`` is false). Several
exact pieces need no such look: each is a condition of its own.

All work is linear in the text, and bounded: folding by ``FOLDED_MAX``, words of one text by ``VOCABULARY_MAX``,
queries by ``QUERY_MAX`` and ``PIECES_MAX``.
"""

import enum
import re
import unicodedata
from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import filterfalse
from typing import NamedTuple

from restante.errors import Invalid

FOLDED_MAX = 384 * 1024  # characters kept of a folded text
LONG_WORD = 40  # a longer run is indexed by its trigrams
LONG_ADDRESS = 80  # a longer address is not in the vocabulary; LONG_ADDRESS_TERM marks the text
VOCABULARY_MAX = 12_000  # different words of one text that are indexed: a long novel has as many
GRAMS_MAX = 6_000  # different trigrams of long runs of one text that are indexed
QUERY_MAX = 1_000  # characters
PIECES_MAX = 20
CONDITIONS_MAX = 24  # parts of one piece that are looked up; the rest is left to the look at the text

SCOPE_MARK = "#"  # never part of a word: `#m12` is a mailbox, `#a3` an account
LONG_MARK = "%"  # never part of a word: `%abc` is a trigram of a long run
LONG_ADDRESS_TERM = "%@"  # the text has an address over LONG_ADDRESS

# Scripts without spaces, and symbols that people search for one by one: indexed by characters and pairs.
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2190-\u2bff\u2e80-\u9fff\ua000-\ua4cf\ua960-\ua97f\ua9e0-\ua9ff"
    r"\uaa60-\uaa7f\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U0001b000-\U0001b2ff\U0001f000-\U0001faff"
    r"\U00020000-\U0003ffff"
)
# Marks that stand inside words (``\w`` has letters and digits only), as coarse ranges: a superset is harmless, because
# a text and a query are cut by the same rule.
_MARKS = (
    r"\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u0670\u06d6-\u06ed\u0711-\u07f3\u07fd\u0816-\u0dff\u0e31-\u0fc6"
    r"\u102b-\u109d\u135d-\u135f\u1712-\u17dd\u180b-\u193b\u1a17-\u1dff\u20d0-\u20f0\u2cef-\u2cf1\u2d7f\u2de0-\u2dff\u302a-\u302f\u3099\u309a"
    r"\ua66f-\ua69f\ua6f0\ua6f1\ua802-\uabed\ufb1e\ufe20-\ufe2f\U000101fd-\U000116b7\U0001171d-\U00011ef6\U00016af0-\U00016ff1"
    r"\U0001bc9d\U0001bc9e\U0001cf00-\U0001cf46\U0001d165-\U0001d244\U0001da00-\U0001e94a"
)
_RUNS = re.compile(rf"[\w{_MARKS}{_UNSPACED}]+")
_ASCII_PUNCTUATION = bytes([i if chr(i).isalnum() or i >= 0x80 or chr(i) == "_" else 0x20 for i in range(256)])
_BY_SCRIPT = re.compile(rf"([{_UNSPACED}]+)")
_HAS_UNSPACED = re.compile(rf"[{_UNSPACED}]")
# The short way to cut a text: marks of typography (never in a word) become spaces; a run that then has no UTF-8 byte of
# ``_STRANGE`` is ASCII and Latin and Cyrillic letters.
_TYPOGRAPHY = re.compile(
    "[\u00a1-\u00a9\u00ab-\u00b1\u00b6\u00b7\u00bb\u00bf\u00d7\u00f7\u2010-\u2023\u2039\u203a\u20ac]"
)
_TYPOGRAPHY_FIRST = (b"\xc2", b"\xc3", b"\xe2")  # the first bytes of them in UTF-8
_STRANGE = bytes([i for i in range(0xC0, 0x100) if i not in (*range(0xC3, 0xCA), 0xD0, 0xD1)])
_ASCII = bytes(range(0x80))
_ADDRESS_RUNS = re.compile(rf"(?:(?![{_UNSPACED}])[\w{_MARKS}@.+\-])+")
_ASCII_ADDRESS_RUNS = re.compile(rb"[a-z0-9_@.+\-]+")

# Characters that show nothing (UAX #31 §2.3) and NUL: left out. Lone surrogates, which no encoding can carry: replaced.
_INVISIBLE_CHARACTERS = (
    "\x00\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff"
)
_INVISIBLE = re.compile(f"[{_INVISIBLE_CHARACTERS}]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_UNWANTED = re.compile(f"[{_INVISIBLE_CHARACTERS}\ud800-\udfff]")
_CHUNK = 256
# A text of nothing but these (ASCII, Latin, Greek and Cyrillic letters, typographic marks) is folded by ``casefold``
# alone: none of them, nor what it casefolds to, is changed by NFKC or joins a neighbour.
_UNCOMMON = re.compile(
    "[^\x01-\x7f\u00a1-\u00a7\u00a9\u00ab\u00ac\u00ae\u00b0\u00b1\u00b6\u00b7\u00bb\u00bf-\u012f\u0131\u0134-\u013e\u0141-\u0148"
    "\u014a-\u017e\u0391-\u03a1\u03a3-\u03a9\u03b1-\u03c9\u0400-\u0481\u048a-\u0525\u2010\u2012-\u2016\u2018-\u2023\u2030\u2039\u203a\u20ac]"
)


def fold(text: str) -> str:
    """The form in which texts are compared: NFKC, casefolded, nothing invisible, white space as single spaces.

    Folding a folded text changes nothing. At most ``FOLDED_MAX`` characters come back (UAX #15, Unicode §3.13).
    """
    return " ".join(fold_letters(text).split())


def fold_letters(text: str) -> str:
    """As ``fold``, but white space may stay as it is, which an index need not care about: no piece has any."""
    text = text[:FOLDED_MAX]
    if text.isascii():
        return text.replace("\x00", "").lower()
    if not _UNCOMMON.search(text):
        return text.casefold()[:FOLDED_MAX]
    if _UNWANTED.search(text):
        text = _SURROGATES.sub("\ufffd", _INVISIBLE.sub("", text))
    if max(map(len, text.split()), default=0) <= _CHUNK:
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    else:
        text = _normalise(_normalise(text).casefold()[:FOLDED_MAX])
    return " ".join(text[:FOLDED_MAX].split())


def _normalise(text: str) -> str:
    """NFKC in linear time: sorting a run of combining marks is quadratic in its length, so long runs go in chunks."""
    chunks: list[str] = []
    for piece in text.split():
        start = 0
        while start < len(piece):
            end = start + _CHUNK
            while end < len(piece) and end < start + 2 * _CHUNK and unicodedata.combining(piece[end]):
                end += 1  # do not part a letter from its marks
            chunks.append(unicodedata.normalize("NFKC", piece[start:end]))
            start = end
        chunks.append(" ")
    return "".join(chunks)


@dataclass(frozen=True, slots=True)
class Terms:
    """Index terms of one text: ``vocabulary`` entries can be found by a part of them, ``others`` only as they are."""

    vocabulary: set[str]
    others: set[str]


def words(folded: str) -> set[str]:
    """All index terms of a folded text."""
    found = terms(folded)
    return found.vocabulary | found.others


def terms(folded: str) -> Terms:
    """The index terms of a folded text by kind; the first ``VOCABULARY_MAX`` words of it count."""
    found = cut(folded.encode("utf-8", "replace"))
    others = {*found.runs, *found.others} - found.unknown
    return Terms({entry.decode() for entry in found.unknown}, {term.decode() for term in others})


class Cut(NamedTuple):
    """The index terms of a folded text, in UTF-8."""

    text: bytes  # the words as they follow each other, with white space between them
    runs: list[bytes]  # the same one by one; some may repeat
    others: set[bytes]  # its further terms
    unknown: set[bytes]  # the entries for the vocabulary among them that were not known


def cut(folded: bytes, known: AbstractSet[bytes] = frozenset()) -> Cut:
    """The index terms of a folded text in UTF-8; what is ``known`` to be in the vocabulary is not looked at again."""
    text = _spaced(folded)
    runs = text.split()
    unknown = set(filterfalse(known.__contains__, runs))
    entries, others = addresses(folded)
    odd = _odd(unknown)
    if odd or len(runs) > VOCABULARY_MAX:
        chosen = dict.fromkeys(runs if len(runs) > VOCABULARY_MAX else filter(odd.__contains__, runs))
        grams: set[str] = set()
        parts = _bounded(_split_scripts(map(bytes.decode, chosen), grams), grams)
        runs = [*filterfalse(chosen.__contains__, runs), *map(str.encode, parts)]
        text = b" ".join(runs)
        unknown = set(filterfalse(known.__contains__, runs))
        others.update(map(str.encode, grams))
    unknown.update(filterfalse(known.__contains__, entries))
    return Cut(text, runs, entries | others, unknown)


def _spaced(folded: bytes) -> bytes:
    """A folded text in UTF-8 with spaces for ASCII punctuation and marks of typography."""
    if any(first in folded for first in _TYPOGRAPHY_FIRST):
        for mark in set(_TYPOGRAPHY.findall(folded.translate(None, _ASCII).decode())):
            folded = folded.replace(mark.encode(), b" ")
    # Cutting at ASCII punctuation by a byte table and a split is three times as fast as one regular expression.
    return folded.translate(_ASCII_PUNCTUATION)


def _odd(runs: Collection[bytes]) -> set[bytes]:
    """Those of ``runs`` that are perhaps no words as they stand: too long, or of a script without spaces."""
    letters = b"".join(runs)
    if len(letters) == len(letters.translate(None, _STRANGE)) and max(map(len, runs), default=0) <= LONG_WORD:
        return set()
    return {run for run in runs if len(run.decode()) > LONG_WORD or len(run) != len(run.translate(None, _STRANGE))}


def _bounded(runs: dict[str, None], others: set[str]) -> list[str]:
    """The first ``VOCABULARY_MAX`` of ``runs``; the parts of long ones go to ``others``."""
    grams: dict[str, None] = {}
    for run in [run for run in runs if len(run) > LONG_WORD]:
        del runs[run]
        if len(grams) < GRAMS_MAX:
            grams.update(dict.fromkeys(_long_grams(run[:GRAMS_MAX])))
    others.update(list(grams)[:GRAMS_MAX])
    return list(runs)[:VOCABULARY_MAX]


def _split_scripts(chunks: Iterable[str], others: set[str]) -> dict[str, None]:
    """The words of ``chunks``; characters and pairs of scripts without spaces go to ``others``."""
    runs: dict[str, None] = {}
    for chunk in chunks:
        if chunk.isascii():
            runs[chunk] = None
            continue
        for run in _RUNS.findall(chunk):
            if not _HAS_UNSPACED.search(run):
                runs[run] = None
                continue
            for place, part in enumerate(_BY_SCRIPT.split(run)):
                if place % 2:
                    others.update(part)
                    others.update([part[i : i + 2] for i in range(len(part) - 1)])
                elif part:
                    runs[part] = None
    return runs


def _long_grams(run: str) -> list[str]:
    return [LONG_MARK + run[i : i + size] for size in (1, 2, 3) for i in range(len(run) - size + 1)]


def addresses(folded: bytes) -> tuple[set[bytes], set[bytes]]:
    """The vocabulary entries and the other terms for the addresses in a folded text in UTF-8.

    They are the longest runs of address characters with an ``@`` in them, at most about ``VOCABULARY_MAX``.
    """
    found: set[bytes] = set()
    others: set[bytes] = set()
    at = folded.find(b"@")
    while at >= 0 and len(found) < VOCABULARY_MAX:
        start = folded.rfind(b" ", 0, at) + 1
        end = folded.find(b" ", at)
        piece = folded[start : end if end >= 0 else len(folded)]
        if piece.isascii():
            runs = _ASCII_ADDRESS_RUNS.findall(piece)
        else:
            runs = [run.encode() for run in _ADDRESS_RUNS.findall(piece.decode())]
        for run in runs:
            if b"@" not in run:
                continue
            if len(run) <= LONG_ADDRESS or len(run.decode()) <= LONG_ADDRESS:
                found.add(run)
            else:
                others.add(LONG_ADDRESS_TERM.encode())
        at = folded.find(b"@", end) if end >= 0 else -1
    return found, others


class Where(enum.Enum):
    """Which index terms satisfy a condition."""

    EQUAL = "equal"  # the term itself
    CONTAINS = "contains"  # vocabulary entries with it inside
    STARTS = "starts"
    ENDS = "ends"


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing to look up: the messages with any term that stands to ``text`` as ``where`` says.

    Also those with **all** of ``long_terms``, where there are any: there the text may lie in a run too long for the
    vocabulary, and unless ``is_long_sure`` that is to be checked in the folded text.
    """

    text: str
    where: Where
    long_terms: tuple[str, ...] = ()

    @property
    def is_long_sure(self) -> bool:
        """Whether ``long_terms`` alone prove the match."""
        return self.where is Where.CONTAINS and self.long_terms == (LONG_MARK + self.text,)


@dataclass(frozen=True, slots=True)
class Piece:
    """One substring to find; its ``conditions`` all hold for every message that has it.

    When ``is_exact``, one condition is all there is, and its vocabulary entries prove the match; else candidates are to
    be compared with the folded text.
    """

    text: str
    conditions: tuple[Condition, ...]
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query; without pieces it matches nothing."""

    pieces: tuple[Piece, ...]

    def matches(self, folded: str) -> bool:
        """The definition of a hit: every piece is a substring."""
        return bool(self.pieces) and all(piece.text in folded for piece in self.pieces)


def parse(text: str) -> Query:
    """Cut a query into its pieces; one that lies within another says nothing new and is left out.

    Raises ``Invalid`` for more than ``QUERY_MAX`` characters or ``PIECES_MAX`` pieces.
    """
    if len(text) > QUERY_MAX:
        raise Invalid(f"A query has at most {QUERY_MAX} characters.", code="query_too_long", details={"q": "too long"})
    pieces = dict.fromkeys(fold(text).split())
    if len(pieces) > PIECES_MAX:
        raise Invalid(
            f"A query has at most {PIECES_MAX} words.", code="query_too_long", details={"q": "too many words"}
        )
    kept = [piece for piece in pieces if not any(piece != other and piece in other for other in pieces)]
    return Query(tuple([_piece(piece) for piece in kept]))


def _piece(text: str) -> Piece:
    conditions: list[Condition] = []
    if "@" in text:
        conditions += [
            _address_condition(run[0], run.start() > 0 and run.end() < len(text))
            for run in _ADDRESS_RUNS.finditer(text)
            if "@" in run[0] and len(run[0]) <= LONG_ADDRESS
        ]
    if not conditions or conditions[0].text != text:
        for run in _RUNS.finditer(text):
            conditions += _run_conditions(run[0], run.start() == 0, run.end() == len(text))
    chosen = tuple(dict.fromkeys(conditions))[:CONDITIONS_MAX]
    return Piece(text, chosen, is_exact=len(chosen) == 1 and chosen[0].text == text)


def _address_condition(run: str, is_closed: bool) -> Condition:
    """A run with an ``@`` is a whole entry where other characters close it in, else perhaps a part of one."""
    if is_closed:
        return Condition(run, Where.EQUAL)
    return Condition(run, Where.CONTAINS, (LONG_ADDRESS_TERM,))


def _run_conditions(run: str, is_open_left: bool, is_open_right: bool) -> list[Condition]:
    """What a run of word characters inside a piece asks of the index; an open side may go on in the text."""
    conditions: list[Condition] = []
    parts = [part for part in _BY_SCRIPT.split(run) if part]
    for place, part in enumerate(parts):
        if _HAS_UNSPACED.match(part):
            pairs = [part[i : i + 2] for i in range(len(part) - 1)] or [part]
            conditions += [Condition(pair, Where.EQUAL) for pair in pairs]
        else:
            left, right = is_open_left and place == 0, is_open_right and place == len(parts) - 1
            conditions.append(_word_condition(part, left, right))
    return conditions


def _word_condition(part: str, is_open_left: bool, is_open_right: bool) -> Condition:
    """How a run of word characters stands to the word of the text that it lies in."""
    match is_open_left, is_open_right:
        case True, True:
            return Condition(part, Where.CONTAINS, _long_terms(part))
        case True, False:
            return Condition(part, Where.ENDS, _long_terms(part))
        case False, True:
            return Condition(part, Where.STARTS, _long_terms(part))
        case _:
            return Condition(part, Where.EQUAL, _long_terms(part) if len(part) > LONG_WORD else ())


def _long_terms(part: str) -> tuple[str, ...]:
    if len(part) < 3:
        return (LONG_MARK + part,)
    # Side by side rather than all that overlap: each costs a list to walk, and what they find is looked at anyway.
    places = [*range(0, len(part) - 3, 3), len(part) - 3]
    return tuple(dict.fromkeys([LONG_MARK + part[i : i + 3] for i in places]))[:CONDITIONS_MAX]


__all__ = [
    "Condition",
    "Cut",
    "Piece",
    "Query",
    "Terms",
    "Where",
    "addresses",
    "cut",
    "fold",
    "fold_letters",
    "parse",
    "terms",
    "words",
]
