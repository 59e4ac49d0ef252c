"""No function reaches another tenant: every one that takes an account, called with ids of another."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import select

from restante.core import (
    access,
    accounts,
    automation_courier,
    automation_runs,
    automations,
    domains,
    mailboxes,
    permissions,
    removal,
    submission,
    tokens,
    tracking,
    webhook_calls,
    webhook_courier,
    webhooks,
)
from restante.core.automation_runs import Fresh
from restante.core.automations import Automation, NewAutomation
from restante.core.domains import DkimKey
from restante.core.webhook_calls import Chosen
from restante.core.webhooks import NewWebhook, Webhook
from restante.errors import NotFound
from restante.ids import AccountId, DomainId, EventNumber, MailboxId, TokenId, new_uuid
from restante.schema import tables
from restante.schema.connections import WriteConn
from tests.core.conftest import CONTENT, SUMMARY, Tenant, outgoing

KEY = DkimKey("mail202611", "rsa-sha256", "sealed", "public")
NOBODY = AccountId(999_999)
HOOK = NewWebhook("http://hook.example/", "", ("message.*",), None, False)
ONE = EventNumber(1)
ACT = NewAutomation("title", url="http://act.example/", deletes=True)


class Case:
    """What a call may need: the caller's own account, and things of somebody else."""

    def __init__(
        self,
        me: AccountId,
        mine: Tenant,
        theirs: Tenant,
        token: TokenId,
        sent: submission.Submission,
        hook: Webhook,
        act: Automation,
        now: datetime,
    ) -> None:
        self.hook, self.act = hook, act
        self.me, self.mine, self.theirs, self.token, self.now = me, mine, theirs, token, now
        self.submission = sent
        self.mailbox: MailboxId = theirs.mailbox.id
        self.domain: DomainId = theirs.domain.id
        self.call = EventNumber(hook.event_number + 2)  # behind webhook.created


Call = Callable[[WriteConn, Case], Any]

# Calls with a foreign id that must answer NotFound.
REFUSED: dict[str, Call] = {
    "domains.get": lambda conn, c: domains.get(conn, c.me, c.domain),
    "domains.approve": lambda conn, c: domains.approve(conn, c.me, c.domain, KEY, c.now),
    "domains.add_key": lambda conn, c: domains.add_key(conn, c.me, c.domain, KEY, c.now),
    "domains.set_dns_status": lambda conn, c: domains.set_dns_status(conn, c.me, c.domain, "forced", c.now),
    "domains.note_missing_proof": lambda conn, c: domains.note_missing_proof(conn, c.me, c.domain, c.now),
    "domains.note_silence": lambda conn, c: domains.note_silence(conn, c.me, c.domain, c.now),
    "domains.set_catch_all": lambda conn, c: domains.set_catch_all(conn, c.me, c.domain, None, c.now),
    "domains.remove": lambda conn, c: domains.remove(conn, c.me, c.domain, c.now, True),
    "mailboxes.create": lambda conn, c: mailboxes.create(conn, c.me, f"new@{c.theirs.domain.name}", c.now),
    "mailboxes.get": lambda conn, c: mailboxes.get(conn, c.me, c.mailbox),
    "mailboxes.set_password": lambda conn, c: mailboxes.set_password(conn, c.me, c.mailbox, "hash", c.now),
    "mailboxes.set_quota": lambda conn, c: mailboxes.set_quota(conn, c.me, c.mailbox, 1, c.now),
    "mailboxes.set_role": lambda conn, c: mailboxes.set_role(conn, c.me, c.mailbox, "admin", c.now),
    "mailboxes.disable": lambda conn, c: mailboxes.disable(conn, c.me, c.mailbox, c.now),
    "mailboxes.enable": lambda conn, c: mailboxes.enable(conn, c.me, c.mailbox, c.now),
    "mailboxes.remove": lambda conn, c: mailboxes.remove(conn, c.me, c.mailbox, c.now, True),
    "mailboxes.add_alias": lambda conn, c: mailboxes.add_alias(
        conn, c.me, f"new@{c.mine.domain.name}", c.mailbox, c.now
    ),
    "mailboxes.remove_alias": lambda conn, c: mailboxes.remove_alias(
        conn, c.me, f"alias@{c.theirs.domain.name}", c.now
    ),
    "tokens.create": lambda conn, c: tokens.create(conn, c.me, "mail-api", "user", "x", c.now, c.mailbox),
    "tokens.get": lambda conn, c: tokens.get(conn, c.me, c.token),
    "tokens.revoke": lambda conn, c: tokens.revoke(conn, c.me, c.token, c.now),
    "tokens.touch": lambda conn, c: tokens.touch(conn, c.me, c.token, c.now),
    "permissions.grant_bulk": lambda conn, c: permissions.grant_bulk(
        conn, c.me, c.mailbox, c.mine.domain.id, ["view_stats"], c.now
    ),
    "permissions.list_grants": lambda conn, c: permissions.list_grants(conn, c.me, c.mailbox),
    "submission.get": lambda conn, c: submission.get(conn, c.me, c.submission.id),
    "submission.get_by_public_id": lambda conn, c: submission.get_by_public_id(conn, c.me, c.submission.public_id),
    "submission.get_by_queue_id": lambda conn, c: submission.get_by_queue_id(conn, c.me, c.submission.queue_id or ""),
    "removal.expire_domain": lambda conn, c: removal.expire_domain(conn, c.me, c.domain, c.now),
    "mailboxes.update_properties": lambda conn, c: mailboxes.update_properties(
        conn, c.me, c.mailbox, c.now, name="x", role="user", quota_bytes=None
    ),
    "mailboxes.change_aliases": lambda conn, c: mailboxes.change_aliases(
        conn, c.me, c.mailbox, [f"new@{c.mine.domain.name}"], [], c.now, 9
    ),
    "tokens.start_session": lambda conn, c: tokens.start_session(
        conn, c.me, c.mailbox, "mail-api", "x", c.now, c.now + timedelta(hours=1)
    ),
    "tokens.replace_permanent": lambda conn, c: tokens.replace_permanent(
        conn, c.me, c.mailbox, "mail-api", "user", c.now
    ),
    "tokens.update_properties": lambda conn, c: tokens.update_properties(
        conn, c.me, c.token, c.now, name="x", is_active=False, expires_at=None, rate_limit=None
    ),
    "tokens.remove": lambda conn, c: tokens.remove(conn, c.me, c.token, c.now),
    "permissions.revoke": lambda conn, c: permissions.revoke(conn, c.me, c.mailbox, c.domain, "view_mailbox", c.now),
    "automations.change": lambda conn, c: automations.change(conn, c.me, c.act.public_id, ACT, c.now),
    "automations.remove": lambda conn, c: automations.remove(conn, c.me, c.act.public_id, c.now),
    "automations.set_signing_secret": lambda conn, c: automations.set_signing_secret(
        conn, c.me, c.act.public_id, "sealed", c.now
    ),
    "automations.get": lambda conn, c: automations.get(conn, c.me, c.act.public_id),
    "webhooks.change": lambda conn, c: webhooks.change(conn, c.me, c.hook.public_id, HOOK, c.now),
    "webhooks.remove": lambda conn, c: webhooks.remove(conn, c.me, c.hook.public_id, c.now),
    "webhooks.rotate_secret": lambda conn, c: webhooks.rotate_secret(conn, c.me, c.hook.public_id, "sealed", c.now),
    "webhooks.get": lambda conn, c: webhooks.get(conn, c.me, c.hook.public_id),
    "webhook_calls.ping": lambda conn, c: webhook_calls.ping(conn, c.me, c.hook.public_id, c.now),
    "webhook_calls.call_again": lambda conn, c: webhook_calls.call_again(conn, c.me, c.hook.public_id, Chosen(), c.now),
    "webhook_calls.get_call": lambda conn, c: webhook_calls.get_call(conn, c.me, c.hook.id, c.call),
}

# Further ways into another tenant with an own id in front.
REFUSED_SIDEWAYS: dict[str, Call] = {
    "foreign catch-all": lambda conn, c: domains.set_catch_all(conn, c.me, c.mine.domain.id, c.mailbox, c.now),
    "alias in a foreign domain": lambda conn, c: mailboxes.add_alias(
        conn, c.me, f"x@{c.theirs.domain.name}", c.mine.mailbox.id, c.now
    ),
    "grant over a foreign domain": lambda conn, c: permissions.grant_bulk(
        conn, c.me, c.mine.mailbox.id, c.domain, ["view_mailbox"], c.now
    ),
}

# Calls with a foreign id that must see nothing.
EMPTY: dict[str, Call] = {
    "domains.find": lambda conn, c: domains.find(conn, c.me, c.theirs.domain.name),
    "domains.list_keys": lambda conn, c: domains.list_keys(conn, c.me, c.domain),
    "domains.replace_key": lambda conn, c: domains.replace_key(conn, c.me, c.domain, "sel", "sealed", "new"),
    "mailboxes.find": lambda conn, c: mailboxes.find(conn, c.me, c.theirs.mailbox.address),
    "mailboxes.list_mailboxes": lambda conn, c: mailboxes.list_mailboxes(conn, c.me, c.domain),
    "mailboxes.list_aliases": lambda conn, c: mailboxes.list_aliases(conn, c.me, c.mailbox),
    "tokens.list_tokens": lambda conn, c: tokens.list_tokens(conn, c.me, c.mailbox),
    "mailboxes.remove_of_domain": lambda conn, c: mailboxes.remove_of_domain(conn, c.me, c.domain, c.now),
    "removal.purge_mailbox": lambda conn, c: removal.purge_mailbox(conn, c.me, c.mailbox, 9, c.now),
    "submission.list_recipients": lambda conn, c: submission.list_recipients(conn, c.me, [c.submission.id]),
    "tracking.list_attempts": lambda conn, c: tracking.list_attempts(conn, c.me, c.submission.id, 9),
    "submission.release_contents": lambda conn, c: submission.release_contents(conn, c.me, [c.submission.id], c.now),
    "submission.remove_some": lambda conn, c: submission.remove_some(conn, c.me, 9, c.now),
    "tracking.list_page": lambda conn, c: tracking.list_page(conn, c.me, tracking.Query(mailbox_id=c.mailbox)).items,
    "tokens.find_permanent": lambda conn, c: tokens.find_permanent(conn, c.me, c.mailbox, "mail-api"),
    "tokens.find_usable": lambda conn, c: tokens.find_usable(conn, c.me, [c.token], c.now),
    "tokens.end_sessions": lambda conn, c: tokens.end_sessions(conn, c.me, c.mailbox, c.now),
    "tokens.list_page": lambda conn, c: tokens.list_page(conn, c.me, c.mailbox, "mail-api", limit=9).items,
    "permissions.list_domain_ids": lambda conn, c: permissions.list_domain_ids(conn, c.me, c.mailbox, "view_mailbox"),
    "automations.find": lambda conn, c: automations.find(conn, c.me, c.act.id),
    "automations.find_cursor": lambda conn, c: automations.find_cursor(conn, c.me),
    "automations.list_automations": lambda conn, c: automations.list_automations(conn, c.me),
    "automations.list_sealed": lambda conn, c: automations.list_sealed(conn, c.me),
    "automations.replace_secrets": lambda conn, c: automations.replace_secrets(
        conn, c.me, c.act.id, ["sealed", None], ["new", None]
    ),
    "automation_runs.find_fresh": lambda conn, c: automation_runs.find_fresh(conn, c.me, EventNumber(0)),
    "automation_runs.open_runs": lambda conn, c: automation_runs.open_runs(
        conn, c.me, Fresh(c.act.since_number, c.call, (), is_last=True), c.now
    ),
    "automation_courier.claim": lambda conn, c: automation_courier.claim(
        conn, c.me, c.act.id, "x", timedelta(hours=1), c.now
    ),
    "automation_courier.release": lambda conn, c: automation_courier.release(conn, c.me, c.act.id, "x"),
    "automation_courier.survey": lambda conn, c: automation_courier.survey(conn, c.me, c.act.id, frozenset(), 9, c.now),
    "automation_courier.record": lambda conn, c: automation_courier.record(conn, c.me, c.act.id, [], c.now),
    "automation_runs.settle": lambda conn, c: automation_runs.settle(conn, c.me, [c.call], c.now),
    "automation_runs.list_runs": lambda conn, c: automation_runs.list_runs(conn, c.me, c.act.id, None, ONE, 9),
    "automation_runs.prune": lambda conn, c: automation_runs.prune(conn, c.me, c.now, 9, c.now),
    "automation_runs.purge": lambda conn, c: automation_runs.purge(conn, c.me, 9, c.now),
    "webhooks.find": lambda conn, c: webhooks.find(conn, c.me, tables.webhooks.c.id == c.hook.id),
    "webhooks.find_active": lambda conn, c: webhooks.find_active(conn, c.me, c.hook.id),
    "webhooks.list_webhooks": lambda conn, c: webhooks.list_webhooks(conn, c.me),
    "webhooks.list_sealed": lambda conn, c: webhooks.list_sealed(conn, c.me),
    "webhooks.replace_secrets": lambda conn, c: webhooks.replace_secrets(
        conn, c.me, c.hook.id, ["sealed", None], ["new", None]
    ),
    "webhooks.remove_of_mailbox": lambda conn, c: webhooks.remove_of_mailbox(conn, c.me, [c.mailbox], c.now),
    "webhook_calls.list_calls": lambda conn, c: webhook_calls.list_calls(conn, c.me, c.hook.id, None, ONE, 9),
    "webhook_calls.list_attempts": lambda conn, c: webhook_calls.list_attempts(conn, c.me, c.hook.id, c.call, 9),
    "webhook_calls.prune": lambda conn, c: webhook_calls.prune(conn, c.me, c.now, 9),
    "webhook_courier.claim": lambda conn, c: webhook_courier.claim(
        conn, c.me, c.hook.id, "x", timedelta(hours=1), c.now
    ),
    "webhook_courier.release": lambda conn, c: webhook_courier.release(conn, c.me, c.hook.id, "x", EventNumber(99)),
    "webhook_courier.survey": lambda conn, c: (
        webhook_courier.survey(conn, c.me, c.hook.id, ONE, frozenset(), 9, c.now).webhook
    ),
    "webhook_courier.open_calls": lambda conn, c: webhook_courier.open_calls(
        conn, c.me, c.hook.id, c.hook.event_number, [c.call], c.call, c.now
    ),
    "permissions.has": lambda conn, c: permissions.has(conn, c.me, c.mailbox, c.domain, "view_mailbox"),
}

# An account that does not exist at all.
NO_ACCOUNT: dict[str, Call] = {
    "accounts.get_public_id": lambda conn, _: accounts.get_public_id(conn, NOBODY),
    "accounts.get": lambda conn, _: accounts.get(conn, NOBODY),
    "accounts.suspend": lambda conn, c: accounts.suspend(conn, NOBODY, c.now),
    "accounts.resume": lambda conn, c: accounts.resume(conn, NOBODY, c.now),
    "accounts.set_quota": lambda conn, c: accounts.set_quota(conn, NOBODY, 1, c.now),
    "removal.remove_account": lambda conn, c: removal.remove_account(conn, NOBODY, c.now),
    "submission.record_failed": lambda conn, c: submission.record_failed(
        conn, NOBODY, outgoing(c.mine.mailbox.address), c.now
    ),
    "domains.add": lambda conn, c: domains.add(conn, NOBODY, "new.example", c.now),
    "tokens.create": lambda conn, c: tokens.create(conn, NOBODY, "mail-api", "admin", "x", c.now),
    "automations.create": lambda conn, c: automations.create(conn, NOBODY, new_uuid(), ACT, "sealed", c.now),
    "webhooks.create": lambda conn, c: webhooks.create(conn, NOBODY, new_uuid(), HOOK, "sealed", c.now),
}

# Checked by name in the tests of their own: they list the caller's things alone.
OWN_LISTS = {
    "domains.list_domains",
    "removal.purge_account",
    "submission.accept",
    "submission.enqueue_transfer",
    "submission.record_rejected",
    "webhook_calls.insert",
    "webhook_calls.prune_log",
    "webhook_calls.purge",
    "webhook_courier.record",
}


@pytest.fixture
def case(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> Case:
    mailboxes.add_alias(conn, blue.account.id, "alias@blue.example", blue.mailbox.id, now)
    domains.add_key(conn, blue.account.id, blue.domain.id, DkimKey("sel", "rsa-sha256", "sealed", "public"), now)
    permissions.grant_bulk(conn, blue.account.id, blue.mailbox.id, blue.domain.id, ["view_mailbox"], now)
    tokens.replace_permanent(conn, blue.account.id, blue.mailbox.id, "mail-api", "user", now)
    tokens.start_session(conn, blue.account.id, blue.mailbox.id, "mail-api", "x", now, now + timedelta(hours=1))
    token, _ = tokens.create(conn, blue.account.id, "mail-api", "user", "x", now, blue.mailbox.id)
    new = outgoing(blue.mailbox.address, access.of_mailbox(blue.mailbox))
    sent = submission.accept(conn, blue.account.id, new, CONTENT, SUMMARY, now)
    of_mailbox = replace(HOOK, mailbox_id=blue.mailbox.id)
    hook = webhooks.create(conn, blue.account.id, new_uuid(), of_mailbox, "sealed", now)
    webhook_calls.ping(conn, blue.account.id, hook.public_id, now)
    act = automations.create(conn, blue.account.id, new_uuid(), ACT, "sealed", now)
    return Case(red.account.id, red, blue, token.id, sent, hook, act, now)


def _snapshot(conn: WriteConn) -> dict[str, list[Any]]:
    names = ["accounts", "domains", "dkim_keys", "mailboxes", "addresses", "tokens", "permissions", "events"]
    names += ["submissions", "transfers", "contents", "messages", "jobs", "webhooks", "webhook_calls"]
    names += ["automations", "automation_cursors", "automation_runs"]
    return {
        name: sorted(map(tuple, conn.execute(select(tables.metadata.tables[name])).all()), key=repr) for name in names
    }


@pytest.mark.parametrize("name", REFUSED | REFUSED_SIDEWAYS)
def test_foreign_id_is_not_found(conn: WriteConn, case: Case, name: str) -> None:
    before = _snapshot(conn)
    with pytest.raises(NotFound):
        (REFUSED | REFUSED_SIDEWAYS)[name](conn, case)
    assert _snapshot(conn) == before


@pytest.mark.parametrize("name", EMPTY)
def test_foreign_id_shows_nothing(conn: WriteConn, case: Case, name: str) -> None:
    before = _snapshot(conn)
    assert not EMPTY[name](conn, case)
    assert _snapshot(conn) == before


@pytest.mark.parametrize("name", NO_ACCOUNT)
def test_no_such_account(conn: WriteConn, case: Case, name: str) -> None:
    with pytest.raises(NotFound) as caught:
        NO_ACCOUNT[name](conn, case)
    assert caught.value.code == "account_not_found"


@pytest.mark.parametrize(
    "module",
    [
        accounts,
        automation_courier,
        automation_runs,
        automations,
        domains,
        mailboxes,
        tokens,
        permissions,
        removal,
        webhooks,
        webhook_calls,
        webhook_courier,
    ],
    ids=lambda m: m.__name__,
)
def test_every_function_is_in_the_matrix(module: ModuleType) -> None:
    short = module.__name__.rpartition(".")[2]
    taking = {
        f"{short}.{name}"
        for name, fn in inspect.getmembers(module, inspect.isfunction)
        if fn.__module__ == module.__name__
        and not name.startswith("_")
        and "account_id" in inspect.signature(fn).parameters
    }
    assert taking <= REFUSED.keys() | EMPTY.keys() | NO_ACCOUNT.keys() | OWN_LISTS
