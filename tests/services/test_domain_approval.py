"""Approval with its key, the proof in DNS, the records, resealing, and the periodic look for proofs."""

import base64
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from restante.clock import ManualClock
from restante.core import accounts, domains, folders, mailboxes, messages, routing
from restante.core.domains import Domain
from restante.core.jobs import Job
from restante.errors import Conflict, Forbidden, NotFound, RemoteUnavailable
from restante.ids import AccountId, JobId
from restante.jobs.handlers import HANDLERS
from restante.jobs.worker import Worker
from restante.runtime import Runtime
from restante.services import domains as domain_services
from tests.fakes import FakeResolver

JOB = Job(JobId(1), None, "periodic", {}, 1)


@pytest.fixture
async def account_id(rt: Runtime) -> AccountId:
    return (await rt.db.write(accounts.create, "tenant", rt.clock.now())).id


@pytest.fixture
async def waiting(rt: Runtime, account_id: AccountId) -> Domain:
    """A domain that waits for the operator, its creator's mailbox with it."""
    made = await rt.db.write(domains.add, account_id, "new.example", rt.clock.now(), "ann@new.example", False)
    await rt.db.write(mailboxes.create, account_id, "ann@new.example", rt.clock.now())
    return made


async def _inbox(rt: Runtime, account_id: AccountId, address: str) -> list[str]:
    mailbox = await rt.db.read(mailboxes.find, account_id, address)
    assert mailbox is not None
    folder = await rt.db.read(folders.get_folder, account_id, mailbox.id, "INBOX")
    return [row.subject for row in await rt.db.read(messages.list_page, account_id, folder.id, limit=10)]


async def test_approve(rt: Runtime, waiting: Domain) -> None:
    approval = await domain_services.approve(rt, "NEW.example")
    selector = domain_services.selector_at(rt.clock.now())
    assert approval.domain.is_approved
    assert approval.domain.dns_status == "pending"
    assert selector == f"mail{rt.clock.now().year}{rt.clock.now().month:02}"
    assert approval.dkim.dns_name == f"{selector}._domainkey.new.example"
    (key,) = await rt.db.read(domains.list_keys, waiting.account_id, waiting.id)
    assert "PRIVATE" not in key.private_key
    pem = rt.vault.open(key.private_key, domain_services.key_purpose("new.example", selector))
    private = serialization.load_pem_private_key(pem, None)
    assert isinstance(private, rsa.RSAPrivateKey)
    assert private.key_size == 2048
    der = private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert approval.dkim.dns_value == f"v=DKIM1; k=rsa; p={base64.b64encode(der).decode()}"
    assert await _inbox(rt, waiting.account_id, "ann@new.example") == []
    await Worker(rt, HANDLERS).run_due()  # as after a crash right behind the commit
    assert await _inbox(rt, waiting.account_id, "ann@new.example") == ["Your domain new.example is approved"]


async def test_approve_twice_and_unknown(rt: Runtime, waiting: Domain) -> None:
    await domain_services.approve(rt, "new.example")
    with pytest.raises(Conflict) as caught:
        await domain_services.approve(rt, "new.example")
    assert caught.value.code == "domain_already_active"
    for name in ("nowhere.example", "", "a b"):
        with pytest.raises(NotFound) as missing:
            await domain_services.approve(rt, name)
        assert missing.value.code == "domain_not_found"


async def test_failing_key_changes_nothing(rt: Runtime, waiting: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> tuple[bytes, str]:
        raise OSError("no entropy")

    monkeypatch.setattr(domain_services, "_make_rsa", fail)
    with pytest.raises(OSError, match="no entropy"):
        await domain_services.approve(rt, "new.example")
    assert await rt.db.read(domains.get, waiting.account_id, waiting.id) == waiting
    assert await rt.db.read(domains.list_keys, waiting.account_id, waiting.id) == []


async def test_approval_needs_nobody_to_tell(rt: Runtime, waiting: Domain) -> None:
    ann = await rt.db.read(mailboxes.find, waiting.account_id, "ann@new.example")
    assert ann is not None
    await rt.db.write(mailboxes.remove, waiting.account_id, ann.id, rt.clock.now())
    assert (await domain_services.approve(rt, "new.example")).domain.is_approved
    assert not await Worker(rt, HANDLERS).run_due()


@pytest.mark.parametrize("name", ["_restante.new.example", "new.example"])
async def test_proof_opens_the_domain(rt: Runtime, resolver: FakeResolver, waiting: Domain, name: str) -> None:
    await domain_services.approve(rt, "new.example")
    place = waiting.account_id, waiting.id
    resolver.zone[(name, "TXT")] = ["v=spf1 -all", "restante-verify=" + "0" * 32]
    assert (await domain_services.check_proof(rt, *place)).dns_status == "pending"
    with pytest.raises(Forbidden):
        await rt.db.read(routing.resolve, "ann@new.example")
    resolver.zone[(name, "TXT")] = ["v=spf1 -all", f"restante-verify={waiting.dns_token}"]
    proved = await domain_services.check_proof(rt, *place)
    assert proved.is_local
    assert proved.dns_checked_at == rt.clock.now()
    assert len(await rt.db.read(routing.resolve, "ann@new.example")) == 1


async def test_lost_proof_closes_nothing_and_is_shown(
    rt: Runtime, resolver: FakeResolver, account_id: AccountId, clock: ManualClock
) -> None:
    made = await rt.db.write(domains.add, account_id, "a.example", clock.now())
    proof = {("_restante.a.example", "TXT"): [f"restante-verify={made.dns_token}"]}
    resolver.zone.update(proof)

    async def a_day_later() -> Domain:
        clock.advance(timedelta(days=1, seconds=1))
        await domain_services.check_proofs(rt, JOB)
        return await rt.db.read(domains.get, account_id, made.id)

    assert (await a_day_later()).is_local
    resolver.zone.clear()
    lost = await a_day_later()
    assert lost.is_local
    assert lost.dns_missing_since == clock.now()
    resolver.zone[("_restante.a.example", "TXT")] = None  # silence says nothing
    silent = await a_day_later()
    assert (silent.dns_checked_at, silent.dns_missing_since) == (clock.now(), lost.dns_missing_since)
    resolver.zone.update(proof)
    assert (await a_day_later()).dns_missing_since is None
    asked = len(resolver.asked)
    await domain_services.check_proofs(rt, JOB)
    assert len(resolver.asked) == asked, "once a day is enough"


async def test_anothers_token_proves_nothing(rt: Runtime, resolver: FakeResolver, waiting: Domain) -> None:
    other = await rt.db.write(domains.add, waiting.account_id, "mine.example", rt.clock.now())
    resolver.zone[("_restante.new.example", "TXT")] = [f"restante-verify={other.dns_token}"]
    assert (await domain_services.check_proof(rt, waiting.account_id, waiting.id)).dns_status == "pending"


async def test_silent_dns_changes_nothing(rt: Runtime, resolver: FakeResolver, waiting: Domain) -> None:
    resolver.zone[("_restante.new.example", "TXT")] = None
    with pytest.raises(RemoteUnavailable):
        await domain_services.check_proof(rt, waiting.account_id, waiting.id)
    assert await rt.db.read(domains.get, waiting.account_id, waiting.id) == waiting


async def test_forced_domain_asks_no_dns(rt: Runtime, resolver: FakeResolver, account_id: AccountId) -> None:
    made = await rt.db.write(domains.add, account_id, "f.example", rt.clock.now(), None, True, "forced")
    assert (await domain_services.check_proof(rt, account_id, made.id)).dns_status == "forced"
    assert resolver.asked == []


async def test_periodic_check_gets_to_all(
    rt: Runtime, resolver: FakeResolver, account_id: AccountId, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domain_services, "CHECKED_AT_ONCE", 1)
    broken = await rt.db.write(domains.add, account_id, "a.example", clock.now())
    sound = await rt.db.write(domains.add, account_id, "b.example", clock.now())
    resolver.zone[("_restante.a.example", "TXT")] = None
    resolver.zone[("_restante.b.example", "TXT")] = [f"restante-verify={sound.dns_token}"]
    for _ in range(2):
        clock.advance(timedelta(minutes=10))
        await domain_services.check_proofs(rt, JOB)
    assert (await rt.db.read(domains.get, account_id, sound.id)).dns_status == "verified"
    assert (await rt.db.read(domains.get, account_id, broken.id)).dns_status == "pending"


async def test_records(rt: Runtime, waiting: Domain) -> None:
    approval = await domain_services.approve(rt, "new.example")
    found = await domain_services.list_records(rt, waiting.account_id, waiting.id)
    assert {record.purpose for record in found} == {"proof", "reception", "spf", "dkim", "dmarc"}
    values = {record.name: record.value for record in found if record.purpose in ("proof", "dkim")}
    assert values == {
        "_restante.new.example": f"restante-verify={waiting.dns_token}",
        approval.dkim.dns_name: approval.dkim.dns_value,
    }


async def test_rotation_reseals_every_key(rt: Runtime, waiting: Domain) -> None:
    await domain_services.approve(rt, "new.example")
    assert await domain_services.reseal_keys(rt) == 0
    rt.vault.rotate()
    assert await domain_services.reseal_keys(rt) == 1
    rt.vault.forget_older()
    (key,) = await rt.db.read(domains.list_keys, waiting.account_id, waiting.id)
    purpose = domain_services.key_purpose("new.example", key.selector)
    assert rt.vault.open(key.private_key, purpose).startswith(b"-----BEGIN PRIVATE KEY-----")
