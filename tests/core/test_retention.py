"""Retention: which limits hold, which mail is the oldest, what a step takes, and that favourites are held."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from restante.core import accounts, delivery, domains, events, folders, mailboxes, messages
from restante.core.delivery import Target
from restante.core.messages import Flag
from restante.core.retention import days, forecast, rules, runs
from restante.core.retention.days import Position
from restante.core.retention.forecast import Outlook
from restante.core.retention.rules import Bound, Limits, Scope
from restante.errors import Conflict, Invalid, LimitExceeded, NotFound
from restante.ids import AccountId, DomainId, EventNumber, FolderId, MailboxId, MessageId
from restante.schema import tables
from restante.schema.connections import WriteConn
from tests.core.conftest import CONTENT, SUMMARY, Tenant

DAY = timedelta(days=1)
EVERYWHERE = Scope()
OWNER = "run"


def put(conn: WriteConn, tenant: Tenant, at: datetime, folder: str = "INBOX", flags: int = 0) -> MessageId:
    target = Target(tenant.account.id, tenant.mailbox.id, folder, "", b"", flags)
    return delivery.deliver(conn, [(tenant.account.id, CONTENT)], SUMMARY, [target], at)[0].message_id


def follow(conn: WriteConn, account_id: AccountId, limit: int = 100) -> int:
    """Note all changes, in pages of ``limit``; how many pages there were."""
    cover = rules.cover(conn, account_id)
    assert cover is not None
    pages = 0
    for folder in days.list_stale(conn, account_id, cover, FolderId(0), 100):
        stale, is_last = folder, False
        while not is_last:
            found = days.survey(conn, account_id, stale, limit)
            assert days.note(conn, account_id, found)
            assert not days.note(conn, account_id, found), "noted once"
            stale, is_last, pages = stale._replace(cursor=found.cursor), found.is_last, pages + 1
    return pages


def clean(conn: WriteConn, account_id: AccountId, now: datetime, limit: int = 100) -> int:
    """What a run does; how many messages it took."""
    follow(conn, account_id)
    cover = rules.cover(conn, account_id)
    assert cover is not None
    runs.claim(conn, account_id, OWNER, now)
    due, _ = runs.list_due(conn, account_id, cover, MailboxId(0), 100, now)
    total = 0
    for one in due:
        assert one.mailbox_id is not None
        position: Position | None = None
        while True:
            pieces, position = days.list_oldest(conn, account_id, one.mailbox_id, one.bound, position, limit)
            step = runs.take_by_rule(conn, account_id, OWNER, one.mailbox_id, one.bound.role, pieces, now)
            total += step.messages
            if step.is_done or position is None:
                break
    runs.release(conn, account_id, OWNER)
    return total


def held(conn: WriteConn, tenant: Tenant, folder: str = "INBOX") -> int:
    return folders.get_folder(conn, tenant.account.id, tenant.mailbox.id, folder).messages


def set_limits(conn: WriteConn, tenant: Tenant, now: datetime, scope: Scope = EVERYWHERE, **limits: int) -> None:
    rules.set_rule(conn, tenant.account.id, scope, Limits(**limits), now)


# --- rules --------------------------------------------------------------------------------------------------------


def test_the_nearest_scope_wins_limit_by_limit(conn: WriteConn, red: Tenant, now: datetime) -> None:
    account_id, mailbox_id = red.account.id, red.mailbox.id
    other = mailboxes.create(conn, account_id, "bob@red.example", now)
    set_limits(conn, red, now, days=365, messages=1000, bytes=5000)
    set_limits(conn, red, now, Scope(domain_id=red.domain.id), days=90)
    set_limits(conn, red, now, Scope(mailbox_id=mailbox_id), messages=10, bytes=0)
    set_limits(conn, red, now, Scope(role="junk"), days=7)
    set_limits(conn, red, now, Scope(domain_id=red.domain.id, role="junk"), messages=5)
    spared = ("sent", "drafts", "trash", "junk")
    junk = Bound("junk", spared, Limits(7, 5, None))
    assert sorted(rules.bounds(conn, account_id, mailbox_id)) == [Bound("", spared, Limits(90, 10, 0)), junk]
    assert sorted(rules.bounds(conn, account_id, other.id)) == [Bound("", spared, Limits(90, 1000, 5000)), junk]
    listed = rules.list_rules(conn, account_id)
    assert [(rule.domain, rule.mailbox, rule.scope.role) for rule in listed] == [
        (None, None, ""),
        (None, None, "junk"),
        ("red.example", None, ""),
        ("red.example", None, "junk"),
        (None, "ann@red.example", ""),
    ]


def test_a_rule_is_set_anew_and_removed(conn: WriteConn, red: Tenant, now: datetime) -> None:
    account_id = red.account.id
    after, _ = events.bounds(conn, account_id)
    scope = Scope(mailbox_id=red.mailbox.id, role="sent")
    set_limits(conn, red, now, scope, days=1, messages=2)
    made = rules.set_rule(conn, account_id, scope, Limits(bytes=3), now)
    assert rules.list_rules(conn, account_id) == [made]
    rules.remove_rule(conn, account_id, scope, now)
    with pytest.raises(NotFound) as caught:
        rules.remove_rule(conn, account_id, scope, now)
    assert caught.value.code == "rule_not_found"
    assert rules.cover(conn, account_id) is None
    told = events.list_after(conn, account_id, EventNumber(after), 9).events
    place = {"domain": None, "mailbox": "ann@red.example", "folder": "sent"}
    assert [(one.type, one.body) for one in told] == [
        ("retention.rule_set", place | {"days": 1, "messages": 2, "bytes": None}),
        ("retention.rule_set", place | {"days": None, "messages": None, "bytes": 3}),
        ("retention.rule_removed", place),
    ]


@pytest.mark.parametrize(
    ("scope", "limits"),
    [
        (Scope(), Limits()),
        (Scope(), Limits(days=-1)),
        (Scope(), Limits(days=36_501)),
        (Scope(), Limits(bytes=2**62 + 1)),
        (Scope(role="trash"), Limits(days=1)),
        (Scope(role="Work"), Limits(days=1)),
        (Scope(DomainId(1), MailboxId(1)), Limits(days=1)),
    ],
)
def test_what_is_no_rule(conn: WriteConn, red: Tenant, now: datetime, scope: Scope, limits: Limits) -> None:
    with pytest.raises(Invalid):
        rules.set_rule(conn, red.account.id, scope, limits, now)
    assert rules.list_rules(conn, red.account.id) == []


def test_rules_have_a_bound(conn: WriteConn, red: Tenant, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_RULES", 1)
    set_limits(conn, red, now, days=1)
    set_limits(conn, red, now, days=2)
    with pytest.raises(LimitExceeded):
        set_limits(conn, red, now, Scope(role="sent"), days=1)


def test_rules_go_with_what_they_are_about(conn: WriteConn, red: Tenant, now: datetime) -> None:
    account_id = red.account.id
    set_limits(conn, red, now, Scope(mailbox_id=red.mailbox.id), days=1)
    set_limits(conn, red, now, Scope(domain_id=red.domain.id), days=1)
    mailboxes.remove(conn, account_id, red.mailbox.id, now)
    assert [rule.domain for rule in rules.list_rules(conn, account_id)] == ["red.example"]
    domains.remove(conn, account_id, red.domain.id, now)
    assert rules.list_rules(conn, account_id) == []


# --- what is taken ------------------------------------------------------------------------------------------------


def test_by_age_however_the_mail_lies(conn: WriteConn, red: Tenant, now: datetime) -> None:
    """Old mail behind young mail (an import, a move) goes as well; favourites stay, Sent and Drafts are not touched."""
    set_limits(conn, red, now, days=30)
    for age in (1, 40, 2, 31, 29, 400):
        put(conn, red, now - age * DAY)
    put(conn, red, now - 50 * DAY, flags=Flag.FLAGGED)
    for folder in ("Sent", "Drafts", "Archive"):
        put(conn, red, now - 50 * DAY, folder)
    assert clean(conn, red.account.id, now, limit=2) == 4
    assert [held(conn, red, name) for name in ("INBOX", "Sent", "Drafts", "Archive", "Trash")] == [4, 1, 1, 0, 4]
    assert clean(conn, red.account.id, now) == 0
    assert clean(conn, red.account.id, now + 2 * DAY) == 1, "that of 29 days"


def test_a_favourite_goes_when_it_is_none_any_more(conn: WriteConn, red: Tenant, now: datetime) -> None:
    set_limits(conn, red, now, days=30)
    place = red.account.id, red.mailbox.id
    kept = put(conn, red, now - 50 * DAY, flags=Flag.FLAGGED)
    late = put(conn, red, now - 50 * DAY)
    follow(conn, red.account.id)
    messages.set_flags(conn, *place, [late], add=Flag.FLAGGED, now=now)
    assert clean(conn, red.account.id, now) == 0
    messages.set_flags(conn, *place, [kept], remove=Flag.FLAGGED, now=now)
    assert clean(conn, red.account.id, now) == 1
    assert messages.get(conn, red.account.id, late).flags == ("\\Flagged",)


def test_by_count_and_bytes_the_oldest_first(conn: WriteConn, red: Tenant, now: datetime) -> None:
    account_id = red.account.id
    set_limits(conn, red, now, messages=4)
    made = [put(conn, red, now - age * DAY, folder) for age, folder in enumerate(["INBOX", "Junk", "Archive"] * 3)]
    put(conn, red, now - 99 * DAY, "Sent")
    assert clean(conn, account_id, now, limit=2) == 5
    gone = [messages.get(conn, account_id, one).folder_id for one in made]
    trash = folders.get_folder(conn, account_id, red.mailbox.id, "Trash").id
    assert [place == trash for place in gone] == [False] * 4 + [True] * 5
    set_limits(conn, red, now, bytes=25)
    assert clean(conn, account_id, now) == 2
    assert clean(conn, account_id, now) == 0


def test_favourites_count_but_stay(conn: WriteConn, red: Tenant, now: datetime) -> None:
    set_limits(conn, red, now, messages=1)
    for age in range(4):
        put(conn, red, now - age * DAY, flags=Flag.FLAGGED if age else 0)
    assert clean(conn, red.account.id, now) == 1
    assert clean(conn, red.account.id, now) == 0
    assert held(conn, red) == 3


def test_a_named_folder_follows_its_own_rules(conn: WriteConn, red: Tenant, now: datetime) -> None:
    set_limits(conn, red, now, days=10)
    set_limits(conn, red, now, Scope(role="archive"), messages=1)
    set_limits(conn, red, now, Scope(role="sent"), days=5)
    for folder in ("INBOX", "Archive", "Archive", "Sent"):
        put(conn, red, now - 20 * DAY, folder)
    assert clean(conn, red.account.id, now) == 3
    assert [held(conn, red, name) for name in ("INBOX", "Archive", "Sent", "Trash")] == [0, 1, 0, 3]


def test_only_the_mailboxes_that_rules_are_about(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    bob = Tenant(red.account, red.domain, mailboxes.create(conn, red.account.id, "bob@red.example", now))
    for tenant in (red, bob, blue):
        put(conn, tenant, now - 20 * DAY)
    set_limits(conn, red, now, Scope(mailbox_id=bob.mailbox.id), days=10)
    set_limits(conn, blue, now, Scope(domain_id=blue.domain.id), days=10)
    assert clean(conn, red.account.id, now) == 1
    assert [held(conn, one) for one in (red, bob, blue)] == [1, 0, 1]
    with pytest.raises(NotFound):
        set_limits(conn, red, now, Scope(mailbox_id=blue.mailbox.id), days=1)
    with pytest.raises(NotFound):
        set_limits(conn, red, now, Scope(domain_id=blue.domain.id), days=1)


def test_a_nearer_rule_without_limit_keeps_everything(conn: WriteConn, red: Tenant, now: datetime) -> None:
    put(conn, red, now - 900 * DAY)
    set_limits(conn, red, now, days=10)
    set_limits(conn, red, now, Scope(mailbox_id=red.mailbox.id), days=0)
    assert clean(conn, red.account.id, now) == 0


def test_a_step_looks_again(conn: WriteConn, red: Tenant, now: datetime) -> None:
    """What changed between the look and the step: a favourite, a move, a removal, the rule itself."""
    account_id, mailbox_id = red.account.id, red.mailbox.id
    set_limits(conn, red, now, days=10)
    made = [put(conn, red, now - 20 * DAY) for _ in range(5)]
    follow(conn, account_id)
    runs.claim(conn, account_id, OWNER, now)
    (bound,) = rules.bounds(conn, account_id, mailbox_id)
    pieces, _ = days.list_oldest(conn, account_id, mailbox_id, bound, None, 9)
    messages.set_flags(conn, account_id, mailbox_id, made[:1], add=Flag.FLAGGED, now=now)
    archive = folders.get_folder(conn, account_id, mailbox_id, "Archive").id
    messages.move(conn, account_id, mailbox_id, made[1:2], archive, now=now)
    messages.remove(conn, account_id, mailbox_id, made[2:3], now=now)
    step = runs.take_by_rule(conn, account_id, OWNER, mailbox_id, "", pieces, now)
    assert (step.messages, step.bytes, step.is_done) == (2, 20, False)
    put(conn, red, now - 20 * DAY)
    follow(conn, account_id)
    pieces, _ = days.list_oldest(conn, account_id, mailbox_id, bound, None, 9)
    rules.remove_rule(conn, account_id, EVERYWHERE, now)
    assert runs.take_by_rule(conn, account_id, OWNER, mailbox_id, "", pieces, now) == runs.Taken(0, 0, True)
    set_limits(conn, red, now, days=10)
    runs.release(conn, account_id, OWNER)
    assert clean(conn, account_id, now) == 2, "the one that was moved, and the new one"


def test_mail_that_comes_while_a_run_looks_is_not_forgotten(conn: WriteConn, red: Tenant, now: datetime) -> None:
    account_id, mailbox_id = red.account.id, red.mailbox.id
    set_limits(conn, red, now, days=10)
    put(conn, red, now - 20 * DAY)
    follow(conn, account_id)
    (bound,) = rules.bounds(conn, account_id, mailbox_id)
    pieces, _ = days.list_oldest(conn, account_id, mailbox_id, bound, None, 9)
    put(conn, red, now - 20 * DAY)
    follow(conn, account_id)
    runs.claim(conn, account_id, OWNER, now)
    assert runs.take_by_rule(conn, account_id, OWNER, mailbox_id, "", pieces, now).messages == 1
    runs.release(conn, account_id, OWNER)
    assert clean(conn, account_id, now) == 1


def test_many_changes_with_one_modseq_are_read_in_pages(conn: WriteConn, red: Tenant, now: datetime) -> None:
    set_limits(conn, red, now, days=10)
    made = [put(conn, red, now - 20 * DAY) for _ in range(7)]
    archive = folders.get_folder(conn, red.account.id, red.mailbox.id, "Archive").id
    messages.move(conn, red.account.id, red.mailbox.id, made, archive, now=now)
    assert follow(conn, red.account.id, limit=2) >= 4
    assert follow(conn, red.account.id) == 0, "nothing new is nothing to read"
    assert clean(conn, red.account.id, now) == 7


def test_only_changes_are_read_again(conn: WriteConn, red: Tenant, now: datetime) -> None:
    set_limits(conn, red, now, days=10)
    put(conn, red, now)
    follow(conn, red.account.id)
    put(conn, red, now)
    cover = rules.cover(conn, red.account.id)
    assert cover is not None
    (stale,) = days.list_stale(conn, red.account.id, cover, FolderId(0), 9)
    assert days.survey(conn, red.account.id, stale, 9).days == {days.day_of(now): (2, 2)}


def test_one_run_at_a_time(conn: WriteConn, red: Tenant, now: datetime) -> None:
    account_id = red.account.id
    runs.claim(conn, account_id, "one", now)
    with pytest.raises(Conflict) as caught:
        runs.claim(conn, account_id, "two", now)
    assert caught.value.code == "retention_running"
    runs.hold(conn, account_id, "one", now + runs.LEASE)
    with pytest.raises(Conflict):
        runs.claim(conn, account_id, "two", now + runs.LEASE)
    runs.claim(conn, account_id, "two", now + 2 * runs.LEASE)
    with pytest.raises(Conflict) as caught:
        runs.take_by_rule(conn, account_id, "one", red.mailbox.id, "", [], now)
    assert caught.value.code == "lease_lost"
    runs.release(conn, account_id, "one")
    runs.release(conn, account_id, "two")
    runs.claim(conn, account_id, "one", now)
    runs.release_all(conn, "tw")
    with pytest.raises(Conflict):
        runs.claim(conn, account_id, "two", now)
    runs.release_all(conn, "on")
    runs.claim(conn, account_id, "two", now)


def test_nothing_of_another_account_is_read(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    put(conn, blue, now - 20 * DAY)
    set_limits(conn, blue, now, days=10)
    follow(conn, blue.account.id)
    cover = rules.cover(conn, blue.account.id)
    assert cover is not None
    me, theirs = red.account.id, blue.mailbox.id
    assert days.list_stale(conn, me, cover, FolderId(0), 9) == []
    assert runs.list_due(conn, me, cover, MailboxId(0), 9, now) == ([], None)
    (bound,) = rules.bounds(conn, blue.account.id, theirs)
    assert rules.bounds(conn, me, theirs) == []
    assert days.first_day(conn, me, theirs, bound) is None
    assert days.list_oldest(conn, me, theirs, bound, None, 9) == ([], None)
    pieces, _ = days.list_oldest(conn, blue.account.id, theirs, bound, None, 9)
    assert runs.take(conn, me, pieces, runs.Need(99_999, 9, 9), now) == runs.Taken(0, 0, False)
    assert not days.forget(conn, me, theirs, [pieces[0].folder_id], 9)
    assert held(conn, blue) == 1
    assert days.list_oldest(conn, blue.account.id, theirs, bound, None, 9)[0] == pieces


def rows(conn: WriteConn, name: str) -> list[Any]:
    return list(conn.execute(select(tables.metadata.tables[name])))


def test_what_is_known_of_a_mailbox_goes_bit_by_bit(conn: WriteConn, red: Tenant, now: datetime) -> None:
    set_limits(conn, red, now, days=10)
    for age in range(5):
        put(conn, red, now - age * DAY)
    follow(conn, red.account.id)
    inbox = [folders.get_folder(conn, red.account.id, red.mailbox.id, "INBOX").id]
    left = []
    while days.forget(conn, red.account.id, red.mailbox.id, inbox, 2):
        left.append((len(rows(conn, "retention_days")), len(rows(conn, "retention_cursors"))))
    assert left == [(3, 1), (1, 1), (0, 1), (0, 0)]


# --- the forecast -------------------------------------------------------------------------------------------------


def use(conn: WriteConn, tenant: Tenant, size: int, now: datetime) -> None:
    """Let an account have used so much on that day."""
    a = tables.accounts.c
    conn.execute(update(tables.accounts).where(a.id == tenant.account.id).values(used_bytes=size))
    forecast.record_usage(conn, now)


def test_growth_is_that_of_last_month_and_its_increase(conn: WriteConn, red: Tenant, now: datetime) -> None:
    account_id, month = red.account.id, forecast.MONTH * DAY
    assert forecast.outlook(conn, account_id, 0, now) is None
    use(conn, red, 100, now)
    assert forecast.outlook(conn, account_id, 0, now + month - DAY) is None
    use(conn, red, 300, now + month)
    assert forecast.outlook(conn, account_id, 0, now + month) == Outlook(200, 0, 200), "no month before: no trend"
    use(conn, red, 800, now + 2 * month)
    assert forecast.outlook(conn, account_id, 0, now + 2 * month) == Outlook(500 + 300, 0, 800)
    assert forecast.outlook(conn, account_id, 700, now + 2 * month) == Outlook(800, 700, 100)
    use(conn, red, 900, now + 3 * month)
    assert forecast.outlook(conn, account_id, 0, now + 3 * month) == Outlook(100, 0, 100), "it grows more slowly"
    use(conn, red, 10, now + 4 * month)
    assert forecast.outlook(conn, account_id, 0, now + 4 * month) == Outlook(0, 0, 0)
    kept = [row.day for row in rows(conn, "usage_days")]
    assert min(kept) >= days.day_of(now + 4 * month) - forecast.KEPT


def test_each_account_has_its_share_of_what_is_too_much(
    conn: WriteConn, red: Tenant, blue: Tenant, now: datetime
) -> None:
    use(conn, red, 0, now)
    later = now + forecast.MONTH * DAY
    use(conn, red, 300, later)
    use(conn, blue, 100, later)
    assert forecast.outlook(conn, red.account.id, 200, later) == Outlook(300, 200, 150)
    assert forecast.outlook(conn, blue.account.id, 200, later) == Outlook(100, 200, 50)
    messages.move(
        conn, blue.account.id, blue.mailbox.id, [put(conn, blue, now) for _ in range(4)],
        folders.get_folder(conn, blue.account.id, blue.mailbox.id, "Trash").id, now=now,
    )  # fmt: skip
    use(conn, blue, 100, later)
    assert forecast.outlook(conn, red.account.id, 200, later) == Outlook(300, 200, 120), "Trash will be empty"


def test_usage_is_kept_once_a_day(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    use(conn, red, 5, now)
    use(conn, red, 7, now + timedelta(hours=1))
    accounts.suspend(conn, blue.account.id, now)
    use(conn, red, 9, now + DAY)
    today = days.day_of(now)
    assert sorted((row.account_id, row.day, row.used_bytes) for row in rows(conn, "usage_days")) == sorted(
        [(red.account.id, today, 5), (red.account.id, today + 1, 9), (blue.account.id, today, 0)]
    )


def test_the_forecast_is_asked_for_and_looked_at_once_a_day(conn: WriteConn, red: Tenant, now: datetime) -> None:
    account_id = red.account.id
    assert not forecast.is_due(conn, account_id, now)
    forecast.set_forecast(conn, account_id, True, now)
    assert forecast.is_enabled(conn, account_id)
    assert forecast.is_due(conn, account_id, now)
    forecast.note_done(conn, account_id, now)
    assert not forecast.is_due(conn, account_id, now + timedelta(hours=11))
    assert forecast.is_due(conn, account_id, now + timedelta(hours=12))
    forecast.set_forecast(conn, account_id, False, now)
    assert not forecast.is_due(conn, account_id, now + DAY)
    with pytest.raises(NotFound):
        forecast.set_forecast(conn, AccountId(999_999), True, now)


def test_room_is_made_of_the_oldest_of_all_mailboxes(conn: WriteConn, red: Tenant, now: datetime) -> None:
    account_id = red.account.id
    bob = Tenant(red.account, red.domain, mailboxes.create(conn, account_id, "bob@red.example", now))
    for age in range(6):
        put(conn, bob if age % 2 else red, now - age * DAY, flags=Flag.FLAGGED if age == 5 else 0)
    put(conn, red, now - 99 * DAY, "Sent")
    set_limits(conn, red, now, messages=100)
    follow(conn, account_id)
    runs.claim(conn, account_id, OWNER, now)
    everything = Bound("", rules.SPARED, Limits())
    pieces, position = days.list_oldest(conn, account_id, None, everything, None, 9)
    assert position is None
    after, _ = events.bounds(conn, account_id)
    taken = runs.take_for_room(conn, account_id, OWNER, pieces, 25, Outlook(7, 8, 25), now)
    assert taken == runs.Taken(3, 30, True)
    assert [held(conn, one, name) for one in (red, bob) for name in ("INBOX", "Trash")] == [1, 2, 2, 1]
    told = events.list_after(conn, account_id, EventNumber(after), 99).events
    assert [one.body for one in told if one.type == "retention.cleaned"] == [
        {"messages": 3, "bytes": 30, "forecast_bytes": 7, "free_bytes": 8}
    ]
