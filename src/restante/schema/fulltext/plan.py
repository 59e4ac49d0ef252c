"""How a query is answered, whatever the engine.

A condition of a query becomes an OR of vocabulary entries, at most ``EXPANSION_MAX`` of them (``SHORT_EXPANSION_MAX``
for one or two characters), the shortest first and then by code point. Exact pieces are counted by the index. Where a
piece is only narrowed by the index, candidates are compared with the folded text, newest first, ``LOOKED_AT_MAX``
messages, ``LOOKED_AT_BYTES`` of compressed text and ``LOOKED_AT_SECONDS`` at most. What lies beyond either bound is not
found, and ``Found.is_complete`` says so.
"""

import time
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Union

import zstandard

from restante.mail.words import FOLDED_MAX, LONG_ADDRESS, Condition, Query, Where

EXPANSION_MAX = 1_000  # vocabulary entries that stand for one condition
SHORT_EXPANSION_MAX = 100  # of one with one or two characters: these are in most entries
WALKED = 30_000  # vocabulary entries looked at in their order for such a condition, before its trigrams are
LOOKED_AT_MAX = 5_000  # candidates compared with the text
LOOKED_AT_BYTES = 24 << 20
LOOKED_AT_SECONDS = 0.05
BATCH = 100
FOLDED_BYTES = FOLDED_MAX * 4
LONGEST = LONG_ADDRESS  # no vocabulary entry has more characters
unidata_version = unicodedata.unidata_version


@dataclass(frozen=True, slots=True)
class Found:
    """Message ids of one page, newest first, and the number of all hits."""

    total: int
    ids: list[int]
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class Scope:
    """Where to search: the whole account, one mailbox of it, or one folder of that."""

    account_id: int
    mailbox_id: int | None = None
    folder_id: int | None = None


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Messages that satisfy one of the parts."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """Messages that satisfy each of the parts; with none, every message."""

    parts: tuple["Expression", ...]


Expression = Union[str, AnyOf, AllOf]  # noqa: UP007 - a string is an index term; the names are quoted above


def any_of(parts: Iterable[Expression | None]) -> Expression | None:
    """An expression that holds where one of ``parts`` does; None is what no message satisfies."""
    left = tuple([part for part in parts if part is not None])
    return AnyOf(left) if left else None


def all_of(parts: Iterable[Expression | None]) -> Expression | None:
    """An expression that holds where each of ``parts`` does."""
    left = tuple(parts)
    return None if None in left else AllOf(tuple([part for part in left if part is not None]))


class Index(Protocol):
    """One engine's index, seen from one scope: nothing outside that is ever returned. All ids come newest first."""

    def look_up(
        self, conditions: Sequence[tuple[Condition, int]], expressions: Sequence[Expression]
    ) -> tuple[list[list[str]], list[bool]]:
        """What is asked before messages are.

        Of each condition the first vocabulary entries that satisfy it, so many of them, the shortest first, then by
        code point; and of each expression whether any message satisfies it.
        """
        ...

    def page(self, expression: Expression, limit: int) -> list[int]:
        """The first ``limit`` messages that satisfy it."""
        ...

    def page_and_total(self, expression: Expression, limit: int, offset: int) -> tuple[list[int], int]:
        """``limit`` messages after ``offset`` of them, and how many there are in all."""
        ...

    def among(self, expression: Expression, ids: Sequence[int]) -> set[int]:
        """Those of ``ids`` that satisfy it."""
        ...

    def unsure(self) -> list[int]:
        """Messages whose terms the index could not hold all: only their text tells what is in them."""
        ...

    def texts(self, ids: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        """The folded texts of messages, as they are kept."""
        ...


class Plan:
    """One search."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._is_capped = False  # whether more vocabulary entries met a condition than were taken

    def find(self, query: Query, limit: int, offset: int) -> Found:
        """The page of hits from ``offset`` on."""
        if not all(piece.is_exact for piece in query.pieces):
            return self._find_by_text(query, limit, offset)
        conditions = [piece.conditions[0] for piece in query.pieces]
        long = [None if condition.is_long_sure else _long(condition) for condition in conditions]
        asked = {place: expression for place, expression in enumerate(long) if expression is not None}
        entries, met = self._look_up(conditions, list(asked.values()))
        sure = [_sure(condition, terms) for condition, terms in zip(conditions, entries, strict=True)]
        certain = all_of(sure)
        either = [any_of(both) for both in zip(sure, long, strict=True)]
        candidates = set(self._index.unsure())
        for (place, expression), is_met in zip(asked.items(), met, strict=True):
            if is_met:  # a condition may be met by a run that is too long for the vocabulary
                others = [other for i, other in enumerate(either) if i != place]
                candidates.update(self._page(all_of([expression, *others]), LOOKED_AT_MAX + 1))
        if candidates:
            return self._merge(query, certain, candidates, limit, offset)
        ids, total = self._page_and_total(certain, limit, offset)
        return Found(total, ids, not self._is_capped)

    def _merge(self, query: Query, certain: Expression | None, candidates: set[int], limit: int, offset: int) -> Found:
        """Join the hits that the vocabulary proves with those ``candidates`` whose text proves them."""
        known = set() if certain is None else self._index.among(certain, list(candidates))
        more, is_complete = self._compare(query, sorted(candidates - known, reverse=True))
        proved, total = self._page_and_total(certain, limit + offset, 0)
        ids = sorted([*proved, *more], reverse=True)
        is_complete = is_complete and not self._is_capped
        return Found(total + len(more), ids[offset : offset + limit], is_complete)

    def _find_by_text(self, query: Query, limit: int, offset: int) -> Found:
        conditions = [condition for piece in query.pieces for condition in piece.conditions]
        entries, _ = self._look_up(conditions, [])
        narrowed = [  # by what is of use: every message with the piece satisfies it
            any_of([*terms, _long(condition)])
            for condition, terms in zip(conditions, entries, strict=True)
            if len(terms) < _most(condition)
        ]
        candidates = {*self._page(all_of(narrowed), LOOKED_AT_MAX + 1), *self._index.unsure()}
        hits, is_complete = self._compare(query, sorted(candidates, reverse=True))
        return Found(len(hits), hits[offset : offset + limit], is_complete)

    def _compare(self, query: Query, candidates: Sequence[int]) -> tuple[list[int], bool]:
        """Those of ``candidates`` whose text has all pieces; and whether none had to be left out."""
        unzip = zstandard.ZstdDecompressor()
        hits: list[int] = []
        size, end = 0, time.monotonic() + LOOKED_AT_SECONDS
        for start in range(0, min(len(candidates), LOOKED_AT_MAX), BATCH):
            batch = candidates[start : min(start + BATCH, LOOKED_AT_MAX)]
            for message_id, folded in self._index.texts(batch):
                size += len(folded)
                if query.matches(unfold(unzip, folded)):
                    hits.append(message_id)
            if (size > LOOKED_AT_BYTES or time.monotonic() > end) and start + BATCH < len(candidates):
                return hits, False
        return hits, len(candidates) <= LOOKED_AT_MAX

    def _look_up(
        self, conditions: Sequence[Condition], expressions: Sequence[Expression]
    ) -> tuple[list[list[str]], list[bool]]:
        """Vocabulary entries for each condition, at most ``_most`` of them; whether any message meets an expression."""
        found = [[condition.text] if condition.where is Where.EQUAL else [] for condition in conditions]
        asked = [
            place
            for place, condition in enumerate(conditions)
            if condition.where is not Where.EQUAL and len(condition.text) <= LONGEST
        ]
        wanted = [(conditions[place], _most(conditions[place])) for place in asked]
        entries, met = self._index.look_up(wanted, expressions)
        for place, (_, most), terms in zip(asked, wanted, entries, strict=True):
            found[place] = terms
            self._is_capped = self._is_capped or len(terms) == most
        return found, met

    def _page(self, expression: Expression | None, limit: int) -> list[int]:
        return [] if expression is None else self._index.page(expression, limit)

    def _page_and_total(self, expression: Expression | None, limit: int, offset: int) -> tuple[list[int], int]:
        return ([], 0) if expression is None else self._index.page_and_total(expression, limit, offset)


def _most(condition: Condition) -> int:
    """How many vocabulary entries may stand for it."""
    return EXPANSION_MAX if len(condition.text) > 2 else min(SHORT_EXPANSION_MAX, EXPANSION_MAX)


def _sure(condition: Condition, terms: Sequence[str]) -> Expression | None:
    """What proves the condition."""
    return any_of([*terms, _long(condition) if condition.is_long_sure else None])


def _long(condition: Condition) -> Expression | None:
    return AllOf(condition.long_terms) if condition.long_terms else None


def unfold(unzip: zstandard.ZstdDecompressor, data: bytes) -> str:
    """A folded text as it is kept, compressed; empty when that is damaged."""
    try:
        return unzip.decompress(data, max_output_size=FOLDED_BYTES).decode("utf-8", "replace")
    except zstandard.ZstdError:
        return ""
