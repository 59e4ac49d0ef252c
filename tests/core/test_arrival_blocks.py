"""Blocks of texts that searches look through: kept in memory, never beyond a change."""

import pytest

from restante.core.arrivals import dictionaries
from restante.core.arrivals.dictionaries import BLOCK, look_through, set_texts
from restante.core.recent import Recent
from restante.schema.connections import WriteConn
from tests.core.conftest import Tenant


@pytest.mark.parametrize("kept_bytes", [0, 12, 1 << 20])
def test_what_is_written_is_found_at_once(
    conn: WriteConn, red: Tenant, blue: Tenant, monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    monkeypatch.setattr(dictionaries, "_kept", Recent(kept_bytes))
    me, other = red.account.id, blue.account.id

    def found(text: str, account_id: int = me) -> list[int]:
        first, again = (list(look_through(conn, account_id, "inbox", text)) for _ in range(2))
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
