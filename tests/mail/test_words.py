"""Folding, index terms, the query parser."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.errors import Invalid
from restante.mail import words
from restante.mail.words import LONG_ADDRESS, LONG_WORD, Condition, Piece, Where


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("", ""),
        ("  Hello \r\n\t World\x00 ", "hello world"),
        ("ПРИВЕТ Мир", "привет мир"),
        ("Straße ΣΊΣΥΦΟΣ", "strasse σίσυφοσ"),
        ("ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
        ("ﬁsh № ½ ①", "fish no 1⁄2 1"),
        ("Cafe\u0301", "café"),
        ("ｶﾞｷﾞ", "ガギ"),
        ("co\u00adop zero\u200bwidth", "coop zerowidth"),
        ("❤️👍🏽", "❤👍🏽"),
        ("lone\ud800", "lone\ufffd"),
        ("\u00a0a\u2003b\u2028c\x85d", "a b c d"),
    ],
)
def test_fold(text: str, folded: str) -> None:
    assert words.fold(text) == folded


def test_folding_every_character_twice_changes_nothing() -> None:
    for code in range(0x110000):
        once = words.fold(f"a{chr(code)}b")
        assert words.fold(once) == once, hex(code)


@given(st.text(max_size=300))
def test_folding_twice_changes_nothing(text: str) -> None:
    once = words.fold(text)
    assert words.fold(once) == once
    once.encode()


@pytest.mark.parametrize(
    "text",
    [
        "a" + "\u0315\u0300" * 130_000,  # sorting marks is quadratic in most libraries
        "\ufdfa" * 260_000,
        "@" * 260_000,
        "a@ " * 90_000,
        "a.-" * 90_000 + "@",
        "x" * 260_000,
        "中" * 260_000,
        "\u0f40\u0f71\u0f72" * 90_000,
        " ".join(str(n) for n in range(40_000)),
    ],
)
def test_hostile_texts_take_linear_time(text: str) -> None:
    start = time.process_time()
    folded = words.fold(text)
    found = words.terms(folded)
    assert time.process_time() - start < 10
    assert len(folded) <= words.FOLDED_MAX
    assert len(found.vocabulary) <= 2 * words.VOCABULARY_MAX


def test_terms_of_a_mixed_text() -> None:
    found = words.terms(words.fold("Mail from Ann.Lee+x@Example.COM, re: 北京市 foo-bar Привет हिन्दी 👍"))
    assert found.vocabulary == {
        *("mail", "from", "ann", "lee", "x", "example", "com", "re", "foo", "bar", "привет", "हिन्दी"),
        "ann.lee+x@example.com",
    }
    assert found.others == {"北", "京", "市", "北京", "京市", "👍"}


def test_long_runs_are_indexed_by_their_parts() -> None:
    long = "ab" * 25
    found = words.terms(f"see {long} {'a' * LONG_WORD}")
    assert found.vocabulary == {"see", "a" * LONG_WORD}
    assert found.others == {"%a", "%b", "%ab", "%ba", "%aba", "%bab"}


def test_a_long_address_marks_its_text() -> None:
    address = "a" * LONG_ADDRESS + "@b"
    assert words.LONG_ADDRESS_TERM in words.terms(address).others
    assert address not in words.terms(address).vocabulary


@given(st.text(max_size=200))
def test_terms_can_be_told_from_marks(text: str) -> None:
    for term in words.words(words.fold(text)):
        assert term
        assert not any(one.isspace() for one in term)
        assert words.SCOPE_MARK not in term
        assert '"' not in term


def test_a_word_contains_what_it_is_asked_for() -> None:
    (piece,) = words.parse("Invoice").pieces
    assert piece.is_exact
    assert piece.conditions[0].where is Where.CONTAINS
    assert piece.conditions[0].text == "invoice"


def test_a_piece_with_punctuation_is_compared_with_the_text() -> None:
    (piece,) = words.parse("foo-mid-bar").pieces
    assert not piece.is_exact
    assert [(one.text, one.where) for one in piece.conditions] == [
        ("foo", Where.ENDS),
        ("mid", Where.EQUAL),
        ("bar", Where.STARTS),
    ]


def test_scripts_without_spaces() -> None:
    assert words.parse("中").pieces == (Piece("中", (Condition("中", Where.EQUAL),), is_exact=True),)
    assert words.parse("北京").pieces == (Piece("北京", (Condition("北京", Where.EQUAL),), is_exact=True),)
    (piece,) = words.parse("北京市").pieces
    assert not piece.is_exact
    assert [one.text for one in piece.conditions] == ["北京", "京市"]


def test_an_address_is_one_condition() -> None:
    (piece,) = words.parse("ann@example").pieces
    assert piece.is_exact
    assert piece.conditions == (Condition("ann@example", Where.CONTAINS, (words.LONG_ADDRESS_TERM,)),)


def test_pieces_within_others_are_left_out() -> None:
    assert [piece.text for piece in words.parse("in invoice IN voice x").pieces] == ["invoice", "x"]


def test_queries_are_bounded() -> None:
    assert words.parse("  ").pieces == ()
    assert len(words.parse(" ".join(chr(0x3B1 + n) for n in range(16))).pieces) == 16
    with pytest.raises(Invalid, match="characters"):
        words.parse("x" * (words.QUERY_MAX + 1))
    with pytest.raises(Invalid, match="words"):
        words.parse(" ".join(f"w{n}w" for n in range(words.PIECES_MAX + 1)))


@given(st.text(max_size=60), st.data())
def test_every_part_of_a_text_meets_its_own_conditions(text: str, data: st.DataObject) -> None:
    folded = words.fold(text)
    if not folded:
        return
    start = data.draw(st.integers(0, len(folded) - 1))
    part = folded[start : start + data.draw(st.integers(1, 12))]
    if words.fold(part) != part.strip():
        return  # cut between a letter and its mark
    query = words.parse(part)
    assert query.matches(folded) == bool(part.strip())
    found = words.terms(folded)
    for piece in query.pieces:
        for condition in piece.conditions:
            assert meets(condition, found), (folded, piece)


def meets(condition: Condition, found: words.Terms) -> bool:
    everything = found.vocabulary | found.others
    if condition.long_terms and everything.issuperset(condition.long_terms):
        return True
    match condition.where:
        case Where.EQUAL:
            return condition.text in everything
        case Where.CONTAINS:
            return any(condition.text in term for term in found.vocabulary)
        case Where.STARTS:
            return any(term.startswith(condition.text) for term in found.vocabulary)
        case Where.ENDS:
            return any(term.endswith(condition.text) for term in found.vocabulary)


def test_marks_stand_inside_words() -> None:
    marks = [chr(code) for code in range(0x300, 0x1F000) if unicodedata.category(chr(code)) in {"Mn", "Mc"}]
    for mark in marks:
        folded = words.fold(f"क{mark}क")
        if len(folded) == 3 and folded[1] == mark:
            assert any(mark in term for term in words.words(folded)), hex(ord(mark))


def test_the_short_way_to_fold_gives_what_the_long_way_gives() -> None:
    checked = 0
    for code in range(1, 0x3000):
        text = f"a{chr(code)}b"
        if words._UNCOMMON.search(text) is None:
            long_way = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
            assert words.fold(text) == " ".join(long_way.split()), hex(code)
            checked += 1
    assert checked > 600


def test_marks_of_typography_are_cut_away_like_other_punctuation() -> None:
    text = words.fold("«Привет» – “hello… world” Ñandú’s 5€")
    assert words.terms(text).vocabulary == {"привет", "hello", "world", "ñandú", "s", "5"}
    assert words.terms(f"{text} 中").vocabulary == words.terms(text).vocabulary


TEXTS = st.text(st.sampled_from("aé中ä _-@.Ж«'\u0301हि\u3000%×x0") | st.characters(codec="utf-8"), max_size=200)


@given(TEXTS)
def test_words_as_they_stand_are_cut_as_all_others_are(text: str) -> None:
    folded = words.fold(text).encode()
    found = words.cut(folded)
    runs = words._spaced(folded).split()
    others: set[str] = set()
    parts = words._bounded(words._split_scripts([run.decode() for run in runs], others), others)
    entries, marks = words.addresses(folded)
    assert set(found.runs) == {part.encode() for part in parts}
    assert found.text.split() == found.runs
    assert found.others == {*entries, *marks, *(other.encode() for other in others)}
    assert found.unknown == {*found.runs, *entries}


@given(TEXTS, TEXTS)
def test_what_is_known_changes_no_terms(text: str, before: str) -> None:
    folded = words.fold(text).encode()
    known = words.cut(words.fold(before).encode()).unknown
    found, anew = words.cut(folded, known), words.cut(folded)
    assert set(found.runs) == set(anew.runs), "some may repeat"
    assert found.others == anew.others
    assert found.unknown == anew.unknown - known


def test_a_text_with_more_words_than_are_indexed() -> None:
    text = " ".join(f"w{number} 中{number}" for number in range(words.VOCABULARY_MAX)).encode()
    known = {f"w{number}".encode() for number in range(0, words.VOCABULARY_MAX, 2)}
    found = words.cut(text, known)
    assert len(found.runs) == words.VOCABULARY_MAX
    assert found.unknown == set(found.runs) - known
    assert "中".encode() in found.others


def test_what_is_no_word_as_it_stands() -> None:
    runs = [b"word", "größe".encode(), "привет".encode(), b"a" * LONG_WORD, ("ж" * LONG_WORD).encode()]
    odd = [run.encode() for run in ("中", "हिन्दी", "a" * (LONG_WORD + 1), "ж" * (LONG_WORD + 1))]
    assert words._odd(runs) == set()
    assert words._odd([*runs, *odd]) == set(odd)


def test_entries_of_the_vocabulary_are_runs_of_their_own() -> None:
    """So the indexer may take a run that it knows for a word without a look."""
    for text in ("हिन्दी abc中def ñandú", "«x» don’t @ann.lee+x@example.com", "a" * 50 + " 한국어 é" * 3):
        for entry in words.terms(words.fold(text)).vocabulary:
            if "@" not in entry:
                assert words.cut(entry.encode()).runs == [entry.encode()]
                assert words.terms(entry).vocabulary == {entry}
