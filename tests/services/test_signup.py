"""Signup: everything or nothing, every refusal by its code, and the operator told."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from restante.clock import ManualClock
from restante.core import access, accounts, folders, mailboxes, messages, permissions, routing
from restante.errors import Conflict, Forbidden, RestanteError
from restante.jobs.handlers import HANDLERS
from restante.jobs.worker import Worker
from restante.runtime import Runtime
from restante.services import authentication, provisioning, signup

PASSWORD = "longenough"


async def _code(rt: Runtime, domain: str, email: str, password: str = PASSWORD, name: str | None = None) -> str:
    with pytest.raises(RestanteError) as caught:
        await signup.signup(rt, domain, email, password, name)
    return caught.value.code


async def _subjects(rt: Runtime, mailbox: mailboxes.Mailbox) -> list[str]:
    folder = await rt.db.read(folders.get_folder, mailbox.account_id, mailbox.id, "INBOX")
    return [row.subject for row in await rt.db.read(messages.list_page, mailbox.account_id, folder.id, limit=10)]


async def test_signup(rt: Runtime, clock: ManualClock) -> None:
    made = await signup.signup(rt, "New.Example", "Ann@new.example", PASSWORD, "Ann Example")
    assert (made.domain.name, made.domain.is_approved, made.domain.created_by) == (
        "new.example",
        False,
        "ann@new.example",
    )
    assert (made.mailbox.address, made.mailbox.name, made.mailbox.status) == (
        "ann@new.example",
        "Ann Example",
        "active",
    )
    assert made.token.expires_at == clock.now() + timedelta(hours=12)
    assert (await rt.db.read(accounts.get, made.mailbox.account_id)).name == "new.example"
    principal, _ = await rt.db.read(access.authenticate_token, "mail-api", made.plain, clock.now())
    assert (principal.kind, principal.mailbox_id) == ("user", made.mailbox.id)
    granted = await rt.db.read(permissions.list_grants, made.mailbox.account_id, made.mailbox.id)
    assert [(grant.domain, grant.permission) for grant in granted] == [("new.example", "manage_domains")]
    assert (await authentication.login(rt, "ann@new.example", PASSWORD, "::1")).mailbox_id == made.mailbox.id
    with pytest.raises(Forbidden) as caught:
        await rt.db.read(routing.resolve, "ann@new.example")
    assert caught.value.code == "domain_inactive"
    clock.advance(timedelta(hours=12))
    with pytest.raises(RestanteError):
        await rt.db.read(access.authenticate_token, "mail-api", made.plain, clock.now())


async def test_name_defaults_to_the_local_part(rt: Runtime) -> None:
    assert (await signup.signup(rt, "new.example", "ann@new.example", PASSWORD)).mailbox.name == "ann"


async def test_international_domain(rt: Runtime) -> None:
    made = await signup.signup(rt, "Bücher.example", "ann@xn--bcher-kva.example", PASSWORD)
    assert made.domain.name == "xn--bcher-kva.example"


@pytest.mark.parametrize(
    "domain",
    [
        "",
        "com",
        "localhost",
        "a.local",
        "x.onion",
        "10.0.0.1",
        "[::1]",
        "a b.example",
        "-a.example",
        "a..example",
        "x" * 300,
        "a.b",
    ],
)
async def test_invalid_domain(rt: Runtime, domain: str) -> None:
    assert await _code(rt, domain, f"ann@{domain}") == "invalid_domain"


@pytest.mark.parametrize("email", ["ann@other.example", "ann@sub.new.example", "new.example", "", "ann@xnew.example"])
async def test_address_of_another_domain(rt: Runtime, email: str) -> None:
    assert await _code(rt, "new.example", email) == "email_domain_mismatch"


async def test_address_that_is_none(rt: Runtime) -> None:
    assert await _code(rt, "new.example", "a b@new.example") == "invalid_address"


@pytest.mark.parametrize("password", ["", "1234567", "x" * 1025, "\udc80" * 8])
async def test_weak_password(rt: Runtime, password: str) -> None:
    assert await _code(rt, "new.example", "ann@new.example", password) == "weak_password"


@pytest.mark.parametrize("name", ["", "   ", "x" * 256, "Ann\r\nBcc: x@y"])
async def test_invalid_name(rt: Runtime, name: str) -> None:
    assert await _code(rt, "new.example", "ann@new.example", PASSWORD, name) == "invalid"


async def test_existing_domain_also_in_a_race(rt: Runtime) -> None:
    calls = [signup.signup(rt, "new.example", f"u{n}@new.example", PASSWORD) for n in range(3)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, Conflict)]
    assert [error.code for error in refused] == ["domain_exists"] * 2
    assert await _code(rt, "NEW.example", "ann@new.example") == "domain_exists"
    assert len(await rt.db.read(accounts.list_accounts)) == 1
    assert len(await rt.db.read(mailboxes.list_all)) == 1


async def test_switched_off(rt: Runtime) -> None:
    off = replace(rt, config=replace(rt.config, mail_api=replace(rt.config.mail_api, signup_enabled=False)))
    assert await _code(off, "new.example", "ann@new.example") == "signup_disabled"


async def test_operator_is_told_although_nothing_ran_after_the_commit(rt: Runtime) -> None:
    operator = await provisioning.first_run(rt)
    assert operator is not None
    await signup.signup(rt, "new.example", "ann@new.example", PASSWORD)
    assert await _subjects(rt, operator.mailbox) == []
    await Worker(rt, HANDLERS).run_due()  # as after a crash right behind the commit
    assert await _subjects(rt, operator.mailbox) == ["New domain to approve: new.example"]


async def test_operator_is_told_where_the_setting_says(rt: Runtime) -> None:
    await provisioning.first_run(rt)
    desk = await provisioning.add_mailbox(rt, "desk@example.test", "pw")
    mail_api = replace(rt.config.mail_api, notify_address="desk@example.test")
    told = replace(rt, config=replace(rt.config, mail_api=mail_api))
    await signup.signup(told, "new.example", "ann@new.example", PASSWORD)
    await Worker(told, HANDLERS).run_due()
    assert await _subjects(rt, desk) == ["New domain to approve: new.example"]


async def test_refused_signup_tells_nobody(rt: Runtime) -> None:
    await provisioning.first_run(rt)
    assert await _code(rt, "example.test", "ann@example.test") == "domain_exists"
    assert not await Worker(rt, HANDLERS).run_due()
