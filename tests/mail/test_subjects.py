"""Subjects: patterns for the whole, parts, and what their words say."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.mail import subjects
from restante.mail.subjects import END, START, Condition
from restante.mail.words import Where

TEXT = st.text(st.sampled_from("aAbß _-!%\\*#\u0130点İ\u200b\n"), max_size=12)


@pytest.mark.parametrize(
    ("pattern", "subject", "is_match"),
    [
        ("welcome", "Welcome!", False),
        ("welcome*", "Welcome!", True),
        ("*come!", "WELCOME!", True),
        ("w*l*e!", "Welcome!", True),
        ("*l*l*", "Welcome", False),
        ("100%", "100 percent", False),
        ("100%", "100%", True),
        ("a_c", "abc", False),
        (r"a\c", r"A\C", True),
        ("*", "", True),
        ("", "", True),
        ("", "x", False),
        ("re: *", "Re: hello", True),
        ("re: *", "Re:hello", False),
        ("STRASSE", "straße", True),
        ("ａｂｃ", "abc", True),
        ("  hello  ", "hello", True),
        ("ab*ba", "aba", False),
        (f"{END}{START}", "x", False),
    ],
)
def test_whole_subjects(pattern: str, subject: str, is_match: bool) -> None:
    assert subjects.whole(pattern).matches(subjects.folded(subject)) is is_match


def holds(condition: Condition, word: str) -> bool:
    match condition.where:
        case Where.EQUAL:
            return word == condition.text
        case Where.STARTS:
            return word.startswith(condition.text)
        case Where.ENDS:
            return word.endswith(condition.text)
        case Where.CONTAINS:
            return condition.text in word


@given(TEXT, TEXT)
def test_a_match_is_seen_in_the_words_and_by_like(pattern_text: str, subject: str) -> None:
    folded = subjects.folded(subject)
    for pattern in (subjects.whole(pattern_text), subjects.part(pattern_text)):
        words = subjects.cut(folded)
        is_match = pattern.matches(folded)
        if is_match:
            assert all(any(holds(condition, word) for word in words) for condition in pattern.conditions())
        if pattern.is_exact:
            (condition,) = pattern.conditions()
            assert any(holds(condition, word) for word in words) is is_match
        with sqlite3.connect(":memory:") as connection:
            found = connection.execute("SELECT ? LIKE ? ESCAPE '\\'", (folded, pattern.like())).fetchone()
        connection.close()
        assert bool(found[0]) is is_match


@given(TEXT, TEXT)
def test_parts(text: str, subject: str) -> None:
    assert subjects.part(text).matches(subjects.folded(subject)) == (subjects.fold(text) in subjects.fold(subject))


def test_only_so_much_of_a_subject_counts() -> None:
    assert subjects.folded("x" * 9_000) == START + "x" * 255 + END
    assert len(subjects.folded("\ufdfa" * 9_000)) <= subjects.MAX_FOLDED + 2
    assert subjects.folded("a\x02b\x03c\x00d\ud800") == f"{START}abcd\ufffd{END}"


@pytest.mark.timeout(60)
def test_what_nobody_writes_takes_no_time() -> None:
    folded = subjects.folded("a" * 255)
    assert not subjects.whole("*a" * 10_000 + "b").matches(folded)
    assert subjects.whole("*" * 10_000).matches(folded)
    assert not subjects.whole("a*" * 120 + "b").matches(folded)
    assert not subjects.part("x" * 100_000).matches(folded)
    assert not subjects.whole("\u0327" * 100_000).matches(folded)
