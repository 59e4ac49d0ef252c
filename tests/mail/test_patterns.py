"""Patterns: what matches, what is refused, and that none of them takes its time."""

import time

import pytest

from restante.errors import Invalid
from restante.mail import patterns

BOMBS = ("(a+)+$", "(a|aa)+$", "(.*)*x", ".*" * 200 + "y", "(?:a|b)*a(?:a|b){200}c", "(x+x+)+y")
SECONDS = 2.0  # of this process; a backtracking engine needs years


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("first", "My FIRST mail"),
        ("my.*email", "this is My new EMAIL"),
        ("@example", "ann@Example.test"),
        ("^keyword$", "KEYWORD"),
        ("é", "CAFÉ"),
        ("", "anything"),
    ],
)
def test_anywhere_and_in_any_case(pattern: str, text: str) -> None:
    assert patterns.matches(patterns.require(pattern, "subject"), text)


@pytest.mark.parametrize(("pattern", "text"), [("^keyword$", "keywords"), ("a.c", "a\nc"), ("b+", "aaa")])
def test_elsewhere_not(pattern: str, text: str) -> None:
    assert not patterns.matches(pattern, text)


@pytest.mark.parametrize(
    "pattern",
    ["(", "a{2000}", "(?=x)", r"(a)\1", "[z-a]", "x" * 501, "a\nb", "a\0b", "\ud800", "((((x{9}){9}){9}){9}){9}"],
)
def test_what_is_no_pattern_is_refused_by_its_field(pattern: str) -> None:
    with pytest.raises(Invalid) as caught:
        patterns.require(pattern, "sender")
    assert caught.value.code == "invalid_pattern"
    assert set(caught.value.details) == {"sender"}


@pytest.mark.parametrize("pattern", BOMBS)
def test_bombs_do_not_go_off(pattern: str) -> None:
    began = time.process_time()
    try:
        patterns.require(pattern, "subject")
    except Invalid:
        return
    assert not patterns.matches(pattern, "a" * 2000 + "!")
    assert not patterns.matches(pattern, "ab" * 1000 + "!")
    assert time.process_time() - began < SECONDS


def test_text_that_is_no_unicode_is_matched_all_the_same() -> None:
    assert patterns.matches("x.y", "x\ud800y")
