"""Logins: one answer for every failure, limits in bounded memory, a cache that forgets with the password."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from restante.clock import ManualClock
from restante.core import access, accounts, mailboxes
from restante.core.mailboxes import Mailbox
from restante.errors import Invalid, RateLimited, RestanteError, Unauthenticated, Unavailable
from restante.runtime import Runtime
from restante.services import authentication, provisioning

PASSWORD = "correct horse"
ADDRESS = "ann@red.example"


@pytest.fixture
async def ann(rt: Runtime) -> Mailbox:
    return await provisioning.add_mailbox(rt, ADDRESS, PASSWORD)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes that passwords were checked against."""
    seen: list[str] = []
    verify = authentication._verify

    def spy(password_hash: str, plain: bytes) -> bool:
        seen.append(password_hash)
        return verify(password_hash, plain)

    monkeypatch.setattr(authentication, "_verify", spy)
    return seen


async def _refused(rt: Runtime, username: str, password: str, peer: str = "192.0.2.1") -> RestanteError:
    with pytest.raises(RestanteError) as caught:
        await authentication.login(rt, username, password, peer)
    return caught.value


async def test_login(rt: Runtime, ann: Mailbox) -> None:
    principal = await authentication.login(rt, "Ann@Red.example", PASSWORD, "192.0.2.1")
    assert principal == access.of_mailbox(ann)
    assert (principal.kind, principal.address) == ("user", ADDRESS)


async def test_administrator_is_operator(rt: Runtime) -> None:
    made = await provisioning.first_run(rt)
    assert made is not None
    principal = await authentication.login(rt, "admin@example.test", made.password, "::1")
    assert principal.kind == "operator"


async def test_every_failure_looks_the_same(rt: Runtime, ann: Mailbox, hashed: list[str]) -> None:
    bob = await provisioning.add_mailbox(rt, "bob@red.example", PASSWORD)
    nopass = await provisioning.add_mailbox(rt, "nopass@red.example")
    await rt.db.write(mailboxes.disable, bob.account_id, bob.id, rt.clock.now())
    cases = [
        (ADDRESS, "wrong"),
        ("nobody@red.example", PASSWORD),
        ("not an address", PASSWORD),
        (bob.address, PASSWORD),
        (nopass.address, ""),
        (ADDRESS, ""),
        (ADDRESS, "x" * 2000),
        (ADDRESS, "\udc80"),
        (ADDRESS, PASSWORD + "\0"),
        ("\udc80\udfff", PASSWORD),
    ]
    errors = [await _refused(rt, *case, peer=f"192.0.2.{number}") for number, case in enumerate(cases)]
    assert {(type(error), error.code, error.message) for error in errors} == {
        (Unauthenticated, "invalid_credentials", "The user name or the password is wrong.")
    }
    assert len(hashed) == len(cases)
    parameters = {stored.rsplit("$", 2)[0] for stored in hashed}
    assert parameters == {"$argon2id$v=19$m=19456,t=2,p=1"}


async def test_suspended_account(rt: Runtime, ann: Mailbox) -> None:
    await authentication.login(rt, ADDRESS, PASSWORD, "192.0.2.1")
    await rt.db.write(accounts.suspend, ann.account_id, rt.clock.now())
    assert (await _refused(rt, ADDRESS, PASSWORD)).code == "invalid_credentials"


async def test_cache_spares_the_hash(rt: Runtime, ann: Mailbox, hashed: list[str], clock: ManualClock) -> None:
    for _ in range(3):
        await authentication.login(rt, ADDRESS, PASSWORD, "192.0.2.1")
    assert len(hashed) == 1
    clock.advance(authentication.CACHE_LIFETIME)
    await authentication.login(rt, ADDRESS, PASSWORD, "192.0.2.1")
    assert len(hashed) == 2
    clock.advance(timedelta(days=-1))
    await authentication.login(rt, ADDRESS, PASSWORD, "192.0.2.1")
    assert len(hashed) == 3


async def test_cache_ends_with_the_password(rt: Runtime, ann: Mailbox) -> None:
    await authentication.login(rt, ADDRESS, PASSWORD, "192.0.2.1")
    changed = await authentication.hash_password(rt, "another one")
    await rt.db.write(mailboxes.set_password, ann.account_id, ann.id, changed, rt.clock.now())
    assert (await _refused(rt, ADDRESS, PASSWORD)).code == "invalid_credentials"
    await authentication.login(rt, ADDRESS, "another one", "192.0.2.1")
    await rt.db.write(mailboxes.disable, ann.account_id, ann.id, rt.clock.now())
    assert (await _refused(rt, ADDRESS, "another one")).code == "invalid_credentials"


async def test_limit_of_a_peer(rt: Runtime, ann: Mailbox, clock: ManualClock, hashed: list[str]) -> None:
    for number in range(20):
        assert (await _refused(rt, f"u{number}@red.example", "x")).code == "invalid_credentials"
        clock.advance(timedelta(seconds=1))
    error = await _refused(rt, "another@red.example", "x")
    assert isinstance(error, RateLimited)
    assert (error.code, error.retry_after_seconds) == ("too_many_failures", 40)
    assert (await _refused(rt, ADDRESS, PASSWORD)).code == "too_many_failures"
    assert len(hashed) == 20
    await authentication.login(rt, ADDRESS, PASSWORD, "192.0.2.2")
    clock.advance(timedelta(seconds=40))
    await authentication.login(rt, ADDRESS, PASSWORD, "192.0.2.1")


async def test_limit_of_a_name_from_many_peers(rt: Runtime, ann: Mailbox, clock: ManualClock) -> None:
    await authentication.login(rt, ADDRESS, PASSWORD, "198.51.100.1")
    for number in range(10):
        assert (await _refused(rt, ADDRESS, "guess", f"192.0.2.{number}")).code == "invalid_credentials"
    assert (await _refused(rt, ADDRESS.upper(), "guess", "192.0.2.99")).code == "too_many_failures"
    await authentication.login(rt, ADDRESS, PASSWORD, "198.51.100.1")  # known a moment ago: nobody locks Ann out
    clock.advance(timedelta(minutes=1))
    assert (await _refused(rt, ADDRESS, "guess", "192.0.2.99")).code == "invalid_credentials"


async def test_limits_hold_for_names_that_do_not_exist(rt: Runtime, ann: Mailbox) -> None:
    codes: dict[str, list[str]] = {}
    for address in (ADDRESS, "nobody@red.example"):
        codes[address] = [(await _refused(rt, address, "x", f"10.0.{len(codes)}.{n}")).code for n in range(12)]
    assert codes[ADDRESS] == codes["nobody@red.example"]
    assert codes[ADDRESS].count("too_many_failures") == 2


async def test_parallel_guesses_do_not_pass_the_limit(rt: Runtime, ann: Mailbox, hashed: list[str]) -> None:
    errors = await asyncio.gather(*(_refused(rt, ADDRESS, f"guess {number}") for number in range(60)))
    assert (
        sum(error.code == "invalid_credentials" for error in errors) == len(hashed) <= 10 + authentication.HASH_THREADS
    )


async def test_ipv6_counts_by_its_network(rt: Runtime, ann: Mailbox) -> None:
    for number in range(20):
        await _refused(rt, f"u{number}@red.example", "x", f"2001:db8::{number:x}")
    assert (await _refused(rt, ADDRESS, PASSWORD, "2001:db8::ffff")).code == "too_many_failures"
    await authentication.login(rt, ADDRESS, PASSWORD, "2001:db8:0:1::1")


async def test_too_many_at_once(rt: Runtime, ann: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "MAX_WAITING", 0)
    assert isinstance(await _refused(rt, ADDRESS, PASSWORD), Unavailable)


async def test_unicode_passwords_compare_normalised(rt: Runtime) -> None:
    await provisioning.add_mailbox(rt, ADDRESS, "pässwörd")
    await authentication.login(rt, ADDRESS, "pa\u0308sswo\u0308rd", "192.0.2.1")


@pytest.mark.parametrize("password", ["", "x" * 1025, "a\0b", "\udc80"])
async def test_impossible_passwords_are_refused(rt: Runtime, password: str) -> None:
    with pytest.raises(Invalid) as caught:
        await authentication.hash_password(rt, password)
    assert caught.value.code == "weak_password"


async def test_two_runtimes_share_nothing(rt: Runtime, ann: Mailbox, tmp_path: Any) -> None:
    for number in range(25):
        await _refused(rt, f"u{number}@red.example", "x")
    other = replace(rt, vault=type(rt.vault)([b"o" * 32]))
    await authentication.login(other, ADDRESS, PASSWORD, "192.0.2.1")


def test_window_forgets_the_oldest_keys(clock: ManualClock) -> None:
    window = authentication.FailureWindow(max_keys=100)
    for number in range(1000):
        window.add(b"%d" % number, 1, clock.now())
    assert len(window) == 100
    assert window.retry_after(b"999", 1, clock.now()) == 60
    assert window.retry_after(b"1", 1, clock.now()) == 0


def test_window_survives_a_clock_that_jumps_back(clock: ManualClock) -> None:
    window = authentication.FailureWindow()
    window.add(b"k", 1, clock.now())
    clock.advance(timedelta(hours=-1))
    assert window.retry_after(b"k", 1, clock.now()) == 0
