"""The first run, and the operator's one command that makes what a mailbox needs."""

import asyncio

import pytest

from restante.core import access, accounts, domains, mailboxes, routing
from restante.errors import Conflict, Invalid
from restante.runtime import Runtime
from restante.services import authentication, provisioning


async def test_first_run_is_ready_for_mail(rt: Runtime) -> None:
    made = await provisioning.first_run(rt)
    assert made is not None
    assert (made.account.name, made.domain.name, made.mailbox.address) == (
        "default",
        "example.test",
        "admin@example.test",
    )
    assert made.domain.is_local
    assert made.mailbox.role == "admin"
    assert made.domain.catch_all_mailbox_id == made.mailbox.id
    (route,) = await rt.db.read(routing.resolve, "anything@example.test")
    assert route.mailbox_id == made.mailbox.id
    principal, token = await rt.db.read(access.authenticate_token, "mail-api", made.token, rt.clock.now())
    assert principal.kind == "operator"
    assert token.name == "first run"
    assert (await authentication.login(rt, made.mailbox.address, made.password, "::1")).mailbox_id == made.mailbox.id


async def test_first_run_happens_once(rt: Runtime) -> None:
    made = await asyncio.gather(provisioning.first_run(rt), provisioning.first_run(rt))
    assert sum(one is not None for one in made) == 1
    assert await provisioning.first_run(rt) is None


async def test_mailbox_brings_account_and_forced_domain(rt: Runtime) -> None:
    ann = await provisioning.add_mailbox(rt, "Ann@New.Example", "pw")
    account = await rt.db.read(accounts.find, "default")
    assert account is not None
    assert ann.account_id == account.id
    domain = await rt.db.read(domains.find, account.id, "new.example")
    assert domain is not None
    assert domain.is_local
    bob = await provisioning.add_mailbox(rt, "bob@new.example", "pw", "Bob", 1000)
    assert (bob.domain_id, bob.name, bob.quota_bytes) == (ann.domain_id, "Bob", 1000)
    with pytest.raises(Conflict):
        await provisioning.add_mailbox(rt, "bob@new.example", "pw")


async def test_mailbox_in_anothers_domain_forces_nothing(rt: Runtime) -> None:
    account = await rt.db.write(accounts.create, "tenant", rt.clock.now())
    await rt.db.write(domains.add, account.id, "claimed.example", rt.clock.now())
    made = await provisioning.add_mailbox(rt, "x@claimed.example", "pw")
    assert made.account_id == account.id
    domain = await rt.db.read(domains.find, account.id, "claimed.example")
    assert domain is not None
    assert not domain.is_local


@pytest.mark.parametrize("address", ["", "ann", "a@b@", "x@[127.0.0.1]", "x@10.0.0.1"])
async def test_nonsense_makes_nothing(rt: Runtime, address: str) -> None:
    with pytest.raises(Invalid):
        await provisioning.add_mailbox(rt, address, "pw")
    assert await rt.db.read(provisioning.is_empty)
    assert await rt.db.read(mailboxes.list_all) == []
