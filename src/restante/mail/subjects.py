"""Subjects as patterns and searches see them: folded, between two marks, and cut into words.

A folded subject stands between ``START`` and ``END``. So a pattern for a whole subject is a row of pieces to be found
one behind the other, the first of which may begin with ``START`` and the last end with ``END``: nothing else is said
about the ends.

A *word* is a longest run of letters, digits, marks of the ends and ``_``, or a longest run of other signs; white space
parts them too. A piece that is one run lies in a subject exactly when it lies in one of its words.
"""

import re
from dataclasses import dataclass

from restante.mail import words
from restante.mail.words import Where

START, END = "\x02", "\x03"
MAX_SUBJECT = 255  # characters that count
MAX_FOLDED = MAX_SUBJECT * 20  # no character folds into more

_WORDS = re.compile(rf"[\w{START}{END}]+|[^\w\s{START}{END}]+")
_MARKS = {ord(START): None, ord(END): None}
_NOWHERE = END + START  # in no subject


@dataclass(frozen=True, slots=True)
class Condition:
    """What a run of a piece asks of a word of the subject."""

    text: str
    where: Where


@dataclass(frozen=True, slots=True)
class Pattern:
    """Pieces that a folded subject has in this order, none overlapping another; without any, every subject matches."""

    pieces: tuple[str, ...]

    def matches(self, folded: str) -> bool:
        """Whether a folded subject has them: each is taken as early as it can be."""
        place = 0
        for piece in self.pieces:
            found = folded.find(piece, place)
            if found < 0:
                return False
            place = found + len(piece)
        return True

    def like(self) -> str:
        """The same for SQL's ``LIKE ... ESCAPE '\\'``."""
        escaped = [re.sub(r"([\\%_])", r"\\\1", piece) for piece in self.pieces]
        return "".join(["%", *[f"{piece}%" for piece in escaped]])

    def conditions(self) -> list[Condition]:
        """What every subject that matches has in its words, the longest first."""
        found = [condition for piece in self.pieces for condition in _conditions(piece)]
        return sorted(dict.fromkeys(found), key=lambda one: (-len(one.text), one.text))

    @property
    def is_exact(self) -> bool:
        """Whether a word that satisfies its only condition proves the match."""
        return len(self.pieces) == 1 and _WORDS.fullmatch(self.pieces[0]) is not None


def folded(subject: str) -> str:
    """The form of a subject that is kept and compared."""
    return START + fold(subject[:MAX_SUBJECT]) + END


def fold(text: str) -> str:
    """``words.fold`` without the marks of the ends."""
    return words.fold(text).translate(_MARKS)


def cut(folded_subject: str) -> set[str]:
    """Its words."""
    return set(_WORDS.findall(folded_subject))


def whole(text: str) -> Pattern:
    """The pattern for a whole subject in which ``*`` stands for any run of characters, white space around it aside."""
    pieces = [_fold_piece(piece) for piece in text.strip().split("*")]
    pieces[0] = START + pieces[0]
    pieces[-1] += END
    return _bounded([piece for piece in pieces if piece not in ("", START, END)])


def part(text: str) -> Pattern:
    """The pattern for subjects with that text in them, white space around it aside."""
    needle = fold(text)
    return _bounded([needle] if needle else [])


def _bounded(pieces: list[str]) -> Pattern:
    """What is longer than any subject is replaced by what is in none."""
    return Pattern(tuple(pieces) if sum(map(len, pieces)) <= MAX_FOLDED + 2 else (_NOWHERE,))


def _fold_piece(text: str) -> str:
    """As ``fold``, but white space at an end, which parts it from what the ``*`` stands for, stays as one space."""
    if not text or text.isspace():
        return text[:1] and " "
    return (" " if text[0].isspace() else "") + fold(text) + (" " if text[-1].isspace() else "")


def _conditions(piece: str) -> list[Condition]:
    conditions = []
    for found in _WORDS.finditer(piece):
        run = found[0]
        is_left_open = found.start() == 0 and not run.startswith(START)
        is_right_open = found.end() == len(piece) and not run.endswith(END)
        match is_left_open, is_right_open:
            case True, True:
                where = Where.CONTAINS
            case True, False:
                where = Where.ENDS
            case False, True:
                where = Where.STARTS
            case _:
                where = Where.EQUAL
        conditions.append(Condition(run, where))
    return conditions
