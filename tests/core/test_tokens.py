"""Tokens: made once, found by their secret, of one dialect, expiring, touched once a minute."""

from datetime import datetime, timedelta

import pytest

from restante.core import events, mailboxes, tokens
from restante.errors import Invalid, LimitExceeded, NotFound
from restante.ids import EventNumber
from restante.schema.connections import WriteConn
from tests.core.conftest import Tenant


def test_create_and_find(conn: WriteConn, red: Tenant, now: datetime) -> None:
    token, plain = tokens.create(conn, red.account.id, "mail-api", "user", "app", now, red.mailbox.id, rate_limit=7)
    assert len(plain) == 43
    assert (token.prefix, token.rate_limit, token.mailbox_id) == (plain[:8], 7, red.mailbox.id)
    held = tokens.find_held(conn, "mail-api", plain)
    assert held == tokens.find_by_id(conn, token.id, "mail-api") == tokens.Held(token, True, "ann@red.example")
    assert tokens.list_tokens(conn, red.account.id) == [token] == tokens.list_all(conn)
    for wrong in ("", plain[:-1], plain + "x", "é" * 43, "\udc80", "x" * 10_000):
        assert tokens.find_held(conn, "mail-api", wrong) is None


def test_another_dialect_does_not_know_it(conn: WriteConn, red: Tenant, now: datetime) -> None:
    token, plain = tokens.create(conn, red.account.id, "mail-api", "admin", "app", now)
    assert tokens.find_held(conn, "trekmail", plain) is None
    assert tokens.find_by_id(conn, token.id, "trekmail") is None


def test_usable_until_expiry_or_revocation(conn: WriteConn, red: Tenant, now: datetime) -> None:
    hour = timedelta(hours=1)
    token, _ = tokens.create(conn, red.account.id, "mail-api", "admin", "app", now, expires_at=now + hour)
    assert token.is_usable(now)
    assert not token.is_usable(now + hour)
    revoked = tokens.revoke(conn, red.account.id, token.id, now)
    assert not revoked.is_usable(now)
    assert tokens.revoke(conn, red.account.id, token.id, now) == revoked
    assert tokens.find_by_id(conn, token.id) == tokens.Held(revoked, True, None)


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
        ("name", {"name": "a\0b"}),
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


def test_sessions_are_few_and_end(conn: WriteConn, red: Tenant, now: datetime) -> None:
    place = red.account.id, red.mailbox.id
    kept, _ = tokens.create(conn, red.account.id, "mail-api", "user", "program", now, red.mailbox.id)
    hour = timedelta(hours=1)
    first, plain = tokens.start_session(conn, *place, "mail-api", "login", now, now + hour)
    assert (first.purpose, first.kind, kept.purpose) == ("session", "user", "program")
    made = [tokens.start_session(conn, *place, "mail-api", "login", now, now + 2 * hour)[0] for _ in range(20)]
    assert tokens.find_held(conn, "mail-api", plain) is None
    assert tokens.list_tokens(conn, *place) == [kept, *made]
    last, _ = tokens.start_session(conn, *place, "mail-api", "login", now + 2 * hour, now + 3 * hour)
    assert tokens.list_tokens(conn, *place) == [kept, last]
    assert tokens.end_sessions(conn, *place, now, keep=last.id) == 0
    assert tokens.end_sessions(conn, *place, now) == 1
    assert tokens.list_tokens(conn, *place) == [kept]


def test_one_permanent_key(conn: WriteConn, red: Tenant, now: datetime) -> None:
    for mailbox_id in (red.mailbox.id, None):
        place = red.account.id, mailbox_id
        assert tokens.find_permanent(conn, *place, "mail-api") is None
        _, first = tokens.replace_permanent(conn, *place, "mail-api", "user", now)
        key, second = tokens.replace_permanent(conn, *place, "mail-api", "user", now)
        assert tokens.find_held(conn, "mail-api", first) is None
        held = tokens.find_held(conn, "mail-api", second)
        assert held is not None
        assert held.token == key == tokens.find_permanent(conn, *place, "mail-api")
        assert (key.purpose, key.expires_at) == ("permanent", None)


def test_a_mailbox_has_few_tokens(conn: WriteConn, red: Tenant, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MAX_OF_MAILBOX", 2)
    for _ in range(2):
        tokens.create(conn, red.account.id, "mail-api", "user", "x", now, red.mailbox.id)
    with pytest.raises(LimitExceeded) as caught:
        tokens.create(conn, red.account.id, "mail-api", "user", "x", now, red.mailbox.id)
    assert caught.value.code == "too_many_tokens"
    tokens.replace_permanent(conn, red.account.id, red.mailbox.id, "mail-api", "user", now)


def test_properties_change_and_are_told(conn: WriteConn, red: Tenant, now: datetime) -> None:
    account = red.account.id
    token, plain = tokens.create(conn, account, "mail-api", "user", "x", now, red.mailbox.id)
    before = events.list_after(conn, account, EventNumber(0), 100).events[-1].number
    expires_at = now + timedelta(days=1)
    changed = tokens.update_properties(
        conn, account, token.id, now, name="y", is_active=False, expires_at=expires_at, rate_limit=5
    )
    assert (changed.name, changed.is_active, changed.expires_at, changed.rate_limit) == ("y", False, expires_at, 5)
    same = tokens.update_properties(
        conn, account, token.id, expires_at, name="y", is_active=False, expires_at=expires_at, rate_limit=5
    )
    assert same == changed
    with pytest.raises(Invalid):
        tokens.update_properties(conn, account, token.id, now, name="y", is_active=True, expires_at=now, rate_limit=5)
    tokens.remove(conn, account, token.id, now)
    assert tokens.find_held(conn, "mail-api", plain) is None
    with pytest.raises(NotFound):
        tokens.remove(conn, account, token.id, now)
    told = [event.type for event in events.list_after(conn, account, before, 100).events]
    assert told == ["token.updated", "token.removed"]


def test_pages_of_tokens(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    made = [
        tokens.create(conn, one.account.id, "mail-api", "user", "x", now, one.mailbox.id)[0] for one in (red, blue, red)
    ]
    bob = mailboxes.create(conn, red.account.id, "bob@red.example", now)
    other, _ = tokens.create(conn, red.account.id, "mail-api", "user", "x", now, bob.id)
    for account_id, mailbox_id, expected in (
        (None, None, [*made, other]),
        (red.account.id, None, [made[0], made[2], other]),
        (red.account.id, red.mailbox.id, [made[0], made[2]]),
        (blue.account.id, red.mailbox.id, []),
    ):
        page = tokens.list_page(conn, account_id, mailbox_id, "mail-api", limit=10)
        assert (page.total, [held.token for held in page.items]) == (len(expected), expected)
        part = tokens.list_page(conn, account_id, mailbox_id, "mail-api", limit=1, offset=1)
        assert [held.token for held in part.items] == expected[1:2]
    assert tokens.list_page(conn, None, None, "trekmail", limit=10).total == 0
