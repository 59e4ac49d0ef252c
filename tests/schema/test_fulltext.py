"""Searching the index of each engine, against a plain look through all texts."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restante.mail import words
from restante.schema import fulltext
from restante.schema.fulltext import Scope, plan, sqlite
from tests.storage.index_store import PostgresStore, Store, Texts


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Texts]:
    def postgres() -> Texts:
        return PostgresStore(request.getfixturevalue("postgres_url"))

    opened = Store(tmp_path) if request.param == "sqlite" else postgres()
    yield opened
    opened.close()


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[PostgresStore]:
    opened = PostgresStore(postgres_url)
    yield opened
    opened.close()


TEXTS = [
    "Invoice 2026-11 from billing@example.com",
    "Re: invoices, e-mail and foo-bar; version 3.14 of a.b",
    "Встреча в Москве, привет",
    "北京市朝阳区 会议通知",
    "東京タワー と ｶﾞﾗｽ",
    "안녕하세요 서울",
    "สวัสดีครับ",
    "हिन्दी में संदेश",
    "Party 🎉🎊 tonight 👍🏽",
    "Cafe\u0301 Ｆｕｌｌ ﬁnance Straße",
    "link https://t.example/" + "Zx9" * 30 + "qq end",
    "long " + "a" * 90 + ".b@example.com",
    "naïve coöperation Ørsted",
    "under_score UPPER lower MiXeD",
    "<user@host.example> (ann.lee+tag@sub.example.org)",
    "x",
]
QUERIES = [
    *("invoice", "nvoic", "INVOICE billing", "2026-11", "e-mail", "foo-bar", "oo-ba", "3.14", "a.b", "@", ".", "-"),
    *("billing@example.com", "ling@exa", "<user@host.example>", "lee+tag@", "@sub.", ".org)", "host.example user"),
    *(
        "привет",
        "ПРИВ",
        "москве встреча",
        "北",
        "京市",
        "北京市",
        "朝阳区",
        "会议 北京",
        "区 会",
        "東京",
        "ガラス",
        "ｶﾞ",
    ),
    *("안녕", "하세요", "서울", "สวัส", "ครับ", "हिन्दी", "न्द", "🎉", "🎉🎊", "👍", "👍🏽", "café", "full", "finance"),
    *("strasse", "STRAßE", "zx9zx", "9qq", "qq", "z", "a" * 50, "aaa.b@", "naïve", "ø", "score", "_", "mixed lower"),
    *("xyzzy", "invoice xyzzy", "example", "ex", "e", "", "t.example/zx9", "end link", "b@example.com long"),
]


def test_every_query_finds_what_a_plain_look_finds(store: Texts) -> None:
    store.add(*TEXTS)
    store.add(*TEXTS[:8], mailbox=2)
    store.add(*TEXTS[8:], account=2, mailbox=3)
    store.index()
    scopes: list[dict[str, Any]] = [{}, {"mailbox": 2}, {"mailbox": None}, {"account": 2, "mailbox": 3}]
    for text in QUERIES:
        for scope in scopes:
            assert store.ids(text, **scope) == store.expected(text, **scope), (text, scope)


PARTS = [
    *(
        "ab",
        "ba",
        "abc",
        "cab",
        "aB",
        "É",
        "é",
        "e\u0301",
        "中",
        "国",
        "人",
        "中国",
        "😀",
        "👍",
        "-",
        ".",
        "@",
        "+",
        "_",
        "/",
    ),
    *(" ", " ", " ", "ß", "ss", "я", "Д", "ไ", "ท", "हि", "x" * 45, "y" * 90, "foo", "bar", "カ", "ﾞ", "1", "\u200d"),
]
texts = st.lists(st.sampled_from(PARTS), min_size=1, max_size=25).map("".join)
queries = st.lists(st.sampled_from(PARTS), min_size=1, max_size=6).map("".join)


IN_ONE_DATABASE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]


@settings(max_examples=25, deadline=None, suppress_health_check=IN_ONE_DATABASE)
@given(st.lists(texts, min_size=1, max_size=12), st.lists(queries, min_size=10, max_size=30), st.randoms())
def test_random_texts_and_queries(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: PostgresStore,
    documents: list[str],
    asked: list[str],
    chance: random.Random,
) -> None:
    sqlite = Store(tmp_path_factory.mktemp("store"))
    postgres.clear()
    try:
        for text in documents:
            account = chance.choice([1, 1, 1, 2])
            mailbox, folder = account * 10 + chance.randint(0, 1), chance.randint(1, 2)
            for store in (sqlite, postgres):
                store.add(text, account=account, mailbox=mailbox, folder=folder)
        parts = []
        for one in sqlite.documents.values():
            start = chance.randrange(len(one.folded) or 1)
            parts.append(one.folded[start : start + chance.randint(1, 14)])
        for store in (sqlite, postgres):
            store.index()
            for text in [*asked, *parts]:
                for scope in (
                    {"mailbox": 10},
                    {"mailbox": None},
                    {"mailbox": 10, "folder": 1},
                    {"account": 2, "mailbox": 20},
                ):
                    assert store.ids(text, **scope) == store.expected(text, **scope), (text, scope)
    finally:
        sqlite.close()


def test_pages_and_totals(store: Texts) -> None:
    ids = store.add(*[f"common word{n}" for n in range(25)], "a " + "common" * 9)
    store.index()
    for text in ("common", "common-", "comm"):
        query = words.parse(text)
        expected = store.expected(text)
        for offset in (0, 7, 20, 26, 1000):
            found = fulltext.find(store.reader, Scope(1, 1), query, limit=10, offset=offset)
            assert (found.total, found.ids) == (len(expected), expected[offset : offset + 10])
    assert store.ids("common")[0] == ids[-1]


@pytest.mark.parametrize("probe", [1, 5, 25, 26, 100])
def test_totals_are_counted_beyond_what_is_read(store: Texts, monkeypatch: pytest.MonkeyPatch, probe: int) -> None:
    monkeypatch.setattr(sqlite, "PROBE", probe)
    ids = store.add(*[f"common word{n}" for n in range(25)])[::-1]
    store.index()
    for limit, offset in ((0, 0), (10, 0), (10, 20), (25, 0), (30, 0), (5, 100)):
        found = fulltext.find(store.reader, Scope(1, 1), words.parse("common"), limit=limit, offset=offset)
        assert (found.total, found.ids) == (25, ids[offset : offset + limit])


@pytest.mark.parametrize("places", [range(200), range(20), range(180, 200), [*range(15), *range(190, 200)]])
def test_the_newest_of_many_hits_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, places: Sequence[int]
) -> None:
    monkeypatch.setattr(sqlite, "PROBE", 5)
    store = Store(tmp_path)
    made = store.add(*["wanted here" if number in places else "another" for number in range(200)])
    store.index()
    expected = [made[place] for place in places][::-1]
    for limit, offset in ((1, 0), (3, 0), (12, 5), (200, 0)):
        found = fulltext.find(store.reader, Scope(1, 1), words.parse("wanted"), limit=limit, offset=offset)
        assert (found.total, found.ids) == (len(expected), expected[offset : offset + limit])
    store.close()


def test_other_accounts_neither_match_nor_use_up_the_expansion(store: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "EXPANSION_MAX", 5)
    store.add(*[f"pre{n}x" for n in range(50)], account=2, mailbox=2)
    mine = store.add("a prefix of mine")
    store.index()
    assert store.ids("pre") == mine
    assert store.ids("pre", mailbox=None) == mine
    assert store.ids("pre", account=1, mailbox=2) == []
    store.add("a prefix of theirs", account=2, mailbox=2)
    store.index()
    assert store.ids("prefix", account=1, mailbox=2) == []


def test_an_expansion_takes_the_shortest_words_first(store: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "EXPANSION_MAX", 3)
    b, c, a, d, e = store.add("bcat", "cat", "acat", "catalogue", "dcat")
    store.index()
    for walked in (0, 10_000):
        monkeypatch.setattr(plan, "WALKED", walked)
        for text in ("cat", "at", "t"):
            assert store.ids(text) == sorted([c, a, b], reverse=True)
            assert not store.find(text).is_complete
    assert store.find("talo").is_complete
    assert store.ids("talo") == [d]
    assert store.ids("dcat") == [e]


def test_a_capped_condition_does_not_hide_candidates(store: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "EXPANSION_MAX", 3)
    store.add(*[f"{one}foo-bar" for one in "abcdefgh"])
    store.index()
    assert store.ids("foo-bar") == store.expected("foo-bar")


def test_the_look_at_texts_is_bounded(store: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add(*["foo-bar"] * 12)
    store.index()
    monkeypatch.setattr(plan, "LOOKED_AT_MAX", 10)
    found = store.find("foo-bar")
    assert (found.total, found.is_complete) == (10, False)
    monkeypatch.setattr(plan, "LOOKED_AT_MAX", 100)
    monkeypatch.setattr(plan, "LOOKED_AT_BYTES", 10)
    monkeypatch.setattr(plan, "BATCH", 4)
    found = store.find("foo-bar")
    assert (found.total, found.is_complete) == (4, False)
    monkeypatch.setattr(plan, "LOOKED_AT_BYTES", 1 << 20)
    monkeypatch.setattr(plan, "LOOKED_AT_SECONDS", -1.0)
    found = store.find("foo-bar")
    assert (found.total, found.is_complete) == (4, False)
    monkeypatch.setattr(plan, "BATCH", 12)
    assert store.find("foo-bar").is_complete


def test_folders_follow_moves(store: Texts) -> None:
    ids = store.add("one", "one", "one-two", folder=7)
    store.index()
    store.move(ids[0], 8)
    store.index()
    assert store.ids("one", folder=7) == [ids[2], ids[1]]
    assert store.ids("one", folder=8) == [ids[0]]
    assert store.ids("one-t", folder=7) == [ids[2]]
    assert store.ids("one") == ids[::-1]


def test_many_words_in_one_condition(store: Texts) -> None:
    store.add(*[f"{first}{second}tail" for first in "abcdefghijklmnopqrstuvwxyz" for second in "abcdefghijkl"])
    store.index()
    assert store.ids("tail") == store.expected("tail")
    assert store.ids("tail atail") == store.expected("atail")


def test_a_damaged_text_is_no_hit(store: Texts) -> None:
    store.add("foo-bar", "foo-bar")
    store.index()
    store.damage(1)
    assert store.ids("foo-bar") == [2]


@pytest.mark.parametrize(
    "text", ['"', 'a"b', "a OR b", "NEAR(a b)", "a*", "-a", "^a", "{a}:b", "a AND NOT b", "'", "%", "#m1", "%_"]
)
def test_no_query_is_syntax(store: Texts, text: str) -> None:
    store.add('say "a" or a"b OR b near(a b) a* -a ^a {a}:b and not \' % #m1 %_')
    store.index()
    assert store.ids(text) == store.expected(text)
