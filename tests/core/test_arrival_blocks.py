"""Blocks of texts that searches look through: what has a text is found, and never beyond a change."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restante.core.arrivals import blocks
from restante.core.arrivals.blocks import BLOCK, set_texts
from restante.core.recent import Recent
from restante.mail.words import Where
from restante.schema.connections import WriteConn
from tests.core.conftest import Tenant


@pytest.mark.parametrize("kept_bytes", [0, 100, 1 << 20])
def test_what_is_written_is_found_at_once(
    conn: WriteConn, red: Tenant, blue: Tenant, monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    monkeypatch.setattr(blocks, "_addresses", Recent(kept_bytes))
    me, other = red.account.id, blue.account.id

    def found(text: str, account_id: int = me) -> list[int]:
        first, again = (list(blocks.addresses(conn, account_id, "inbox", text)) for _ in range(2))
        assert first == again
        return first

    assert found("ann") == []
    set_texts(conn, me, "inbox", {1: "ann@a.example", 2: "bob@a.example", BLOCK + 3: "joann@a.example"})
    set_texts(conn, me, "sender", {1: "eve@a.example"})
    set_texts(conn, other, "inbox", {1: "ann@b.example"})
    assert found("ann") == [1, BLOCK + 3]
    assert (found("ann", other), found("@b", other), found("eve")) == ([1], [1], [])
    set_texts(conn, me, "inbox", {1: "eve@a.example"})  # as long as the one before
    assert (found("ann"), found("eve")) == ([BLOCK + 3], [1])
    set_texts(conn, me, "inbox", {1: "", 2: "", BLOCK + 3: ""})
    assert found("example") == []
    assert found("ann", other) == [1]


TEXTS = st.text(st.sampled_from("aab@.ß点"), max_size=7)
NUMBERED = st.dictionaries(st.sampled_from((0, 1, 2, 3, 9, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK)), TEXTS)
many = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@many
@given(NUMBERED, TEXTS.filter(bool))
def test_addresses_that_contain_a_text(conn: WriteConn, red: Tenant, texts: dict[int, str], wanted: str) -> None:
    set_texts(conn, red.account.id, "sender", dict.fromkeys(range(4 * BLOCK), "") | texts)
    found = list(blocks.addresses(conn, red.account.id, "sender", wanted))
    assert found == sorted(number for number, text in texts.items() if wanted in text)


SATISFIED: dict[Where, Callable[[str, str], bool]] = {
    Where.EQUAL: str.__eq__,
    Where.STARTS: str.startswith,
    Where.ENDS: str.endswith,
    Where.CONTAINS: str.__contains__,
}


@many
@given(NUMBERED, TEXTS.filter(bool), st.sampled_from(Where))
def test_words_that_satisfy_a_condition(
    conn: WriteConn, red: Tenant, texts: dict[int, str], wanted: str, where: Where
) -> None:
    set_texts(conn, red.account.id, "word", dict.fromkeys(range(4 * BLOCK), "") | texts)
    found = list(blocks.words(conn, red.account.id, wanted, where))
    assert found == sorted(number for number, text in texts.items() if SATISFIED[where](text, wanted))


@pytest.mark.parametrize("domains", [1, BLOCK])
def test_what_is_kept_counts_all_of_it(domains: int) -> None:
    """Blocks in memory are bounded by their sizes."""
    lines = [f"user{number}@a{number % domains}.example".encode() for number in range(BLOCK)]
    block = blocks._Addresses(lines)
    arrays = (block.users.line_of, block.rests.line_of, block.rest_of)
    held = len(block.users.text) + len(block.rests.text) + sum(len(one.tobytes()) for one in arrays)
    assert len(block) == held < 4 * sum(map(len, lines))
