"""Tokens: made once, found by their secret, of one dialect, expiring, touched once a minute."""

from datetime import datetime, timedelta

import pytest

from restante.core import tokens
from restante.errors import Invalid
from restante.schema.connections import WriteConn
from tests.core.conftest import Tenant


def test_create_and_find(conn: WriteConn, red: Tenant, now: datetime) -> None:
    token, plain = tokens.create(conn, red.account.id, "mail-api", "user", "app", now, red.mailbox.id, rate_limit=7)
    assert len(plain) == 43
    assert (token.prefix, token.rate_limit, token.mailbox_id) == (plain[:8], 7, red.mailbox.id)
    assert tokens.find_by_plain(conn, "mail-api", plain) == token
    assert tokens.list_tokens(conn, red.account.id) == [token] == tokens.list_all(conn)
    for wrong in ("", plain[:-1], plain + "x", "é" * 43, "\udc80", "x" * 10_000):
        assert tokens.find_by_plain(conn, "mail-api", wrong) is None


def test_another_dialect_does_not_know_it(conn: WriteConn, red: Tenant, now: datetime) -> None:
    _, plain = tokens.create(conn, red.account.id, "mail-api", "admin", "app", now)
    assert tokens.find_by_plain(conn, "trekmail", plain) is None


def test_usable_until_expiry_or_revocation(conn: WriteConn, red: Tenant, now: datetime) -> None:
    hour = timedelta(hours=1)
    token, plain = tokens.create(conn, red.account.id, "mail-api", "admin", "app", now, expires_at=now + hour)
    assert token.is_usable(now)
    assert not token.is_usable(now + hour)
    revoked = tokens.revoke(conn, red.account.id, token.id, now)
    assert not revoked.is_usable(now)
    assert tokens.revoke(conn, red.account.id, token.id, now) == revoked
    assert tokens.find_by_plain(conn, "mail-api", plain) == revoked


def test_touched_once_a_minute(conn: WriteConn, red: Tenant, now: datetime) -> None:
    token, _ = tokens.create(conn, red.account.id, "mail-api", "admin", "app", now)
    assert tokens.needs_touch(token, now)
    seen = []
    for seconds in (0, 59, 60, 61):
        tokens.touch(conn, red.account.id, token.id, now + timedelta(seconds=seconds))
        used = tokens.get(conn, red.account.id, token.id).last_used_at
        assert used is not None
        seen.append((used - now).seconds)
    assert seen == [0, 0, 60, 60]


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("dialect", {"dialect": "no-such"}),
        ("kind", {"kind": "root"}),
        ("name", {"name": "x" * 201}),
        ("rate_limit", {"rate_limit": -1}),
        ("expires_at", {"expires_at": datetime.fromisoformat("2020-01-01T00:00:00Z")}),
    ],
)
def test_nonsense_is_refused(
    conn: WriteConn, red: Tenant, now: datetime, field: str, fields: dict[str, object]
) -> None:
    values = {"dialect": "mail-api", "kind": "user", "name": "x", "now": now} | fields
    with pytest.raises(Invalid) as caught:
        tokens.create(conn, red.account.id, **values)  # type: ignore[arg-type]
    assert list(caught.value.details) == [field]
