"""Domains: the operator's consent with a signing key, the proof of ownership in DNS, the records a domain needs.

Ownership is proved by a TXT record at ``_restante.<domain>`` (or at the domain itself, where a provider takes no
underscore) that says ``restante-verify=<token>``; the token is the domain's own, so nobody can use another's proof.
"""

import asyncio
import base64
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from restante import log
from restante.core import domains, mailboxes
from restante.core.domains import DkimKey, DnsStatus, Domain
from restante.core.jobs import Job
from restante.errors import Conflict, NotFound, RemoteUnavailable
from restante.ids import AccountId, DomainId
from restante.net.dns import Resolver
from restante.runtime import Runtime
from restante.schema.connections import WriteConn
from restante.services import notices

PROOF_LABEL = "_restante"
PROOF_PREFIX = "restante-verify="
RSA_BITS = 2048  # RFC 8301 §3.2: at least 2048 for new keys
CHECKED_AT_ONCE = 50
MAX_FOUND = 10  # records that a check shows
MAX_FOUND_CHARS = 1_000
CHECKED_AGAIN = timedelta(days=1)

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class DkimRecord:
    """The public half of a signing key as DNS shows it (RFC 6376 §3.6.1)."""

    selector: str
    dns_name: str
    dns_value: str


@dataclass(frozen=True, slots=True)
class Approval:
    """An approved domain and its new key."""

    domain: Domain
    dkim: DkimRecord


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """One record to publish; ``purpose`` says why."""

    purpose: Literal["proof", "reception", "spf", "dkim", "dmarc"]
    type: Literal["TXT", "MX"]
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class RecordCheck:
    """What DNS says of one record; ``found`` are the records for the same purpose that stand there."""

    record: DnsRecord
    status: Literal["ok", "different", "missing", "unanswered"]
    found: tuple[str, ...]


async def add(rt: Runtime, account_id: AccountId, name: str, is_forced: bool = False) -> Domain:
    """Add an approved domain with a new DKIM key to an account, forced or to be proved by DNS.

    Errors: Invalid ``invalid_domain``, NotFound ``account_not_found``, Conflict ``domain_exists``.
    """
    wanted = domains.normalise_name(name)
    if await rt.db.read(domains.find_by_name, wanted) is not None:
        raise Conflict(f"The domain {wanted} is here already.", code="domain_exists")
    key = await make_key(rt, wanted)
    return await rt.db.write(_add, account_id, wanted, key, "forced" if is_forced else "pending", rt.clock.now())


async def approve(rt: Runtime, name: str) -> Approval:
    """Approve a domain that waits for the operator: a new DKIM key (selector ``mail`` + yyyymm) with it, or nothing.

    Whoever signed up with it gets the DNS records by mail (a job of the same transaction). It receives mail once DNS
    proves it. Errors: NotFound ``domain_not_found``, Conflict ``domain_already_active``.
    """
    domain = await rt.db.read(domains.find_by_name, name)
    if domain is None:
        raise NotFound(f"There is no domain {name!r} here."[:300], code="domain_not_found")
    if domain.is_approved:
        raise Conflict(f"The domain {domain.name} is active already.", code="domain_already_active")
    key = await make_key(rt, domain.name)
    approved = await rt.db.write(_approve, domain.account_id, domain.id, key, rt.config.hostname, rt.clock.now())
    return Approval(approved, dkim_record(approved.name, key))


async def make_key(rt: Runtime, name: str) -> DkimKey:
    """A new RSA-2048 signing key for a domain, made in the thread pool, its private half sealed."""
    loop = asyncio.get_running_loop()
    private, public = await loop.run_in_executor(rt.pool, _make_rsa)
    selector = selector_at(rt.clock.now())
    return DkimKey(selector, "rsa-sha256", rt.vault.seal(private, key_purpose(name, selector)), public)


def selector_at(now: datetime) -> str:
    """The selector of a key made at that time: ``mail202611``."""
    return f"mail{now:%Y%m}"


def key_purpose(name: str, selector: str) -> str:
    """What the vault binds a signing key to: it opens for this domain and selector only."""
    return f"dkim:{name}:{selector}"


def dkim_record(name: str, key: DkimKey) -> DkimRecord:
    """What to publish for a key."""
    kind = "rsa" if key.algorithm == "rsa-sha256" else "ed25519"
    value = f"v=DKIM1; k={kind}; p={key.public_key}"
    return DkimRecord(key.selector, f"{key.selector}._domainkey.{name}", value)


def records(hostname: str, domain: Domain, keys: list[DkimKey]) -> tuple[DnsRecord, ...]:
    """The DNS records that a domain needs here; ``hostname`` is this server's name."""
    found = [
        DnsRecord("proof", "TXT", f"{PROOF_LABEL}.{domain.name}", PROOF_PREFIX + domain.dns_token),
        DnsRecord("reception", "MX", domain.name, f"10 {hostname}."),
        DnsRecord("spf", "TXT", domain.name, f"v=spf1 a:{hostname} mx ~all"),
    ]
    dkim = [dkim_record(domain.name, key) for key in keys]
    found += [DnsRecord("dkim", "TXT", record.dns_name, record.dns_value) for record in dkim]
    found.append(DnsRecord("dmarc", "TXT", f"_dmarc.{domain.name}", "v=DMARC1; p=none"))
    return tuple(found)


async def list_records(rt: Runtime, account_id: AccountId, domain_id: DomainId) -> tuple[DnsRecord, ...]:
    """As ``records``, for a stored domain; NotFound ``domain_not_found``."""
    domain = await rt.db.read(domains.get, account_id, domain_id)
    keys = await rt.db.read(domains.list_keys, account_id, domain_id)
    return records(rt.config.hostname, domain, keys)


async def check_records(rt: Runtime, account_id: AccountId, domain_id: DomainId) -> tuple[RecordCheck, ...]:
    """Look every record that the domain needs up in DNS; changes nothing. NotFound ``domain_not_found``."""
    wanted = await list_records(rt, account_id, domain_id)
    return tuple(await asyncio.gather(*[_check_record(rt, record) for record in wanted]))


async def _check_record(rt: Runtime, record: DnsRecord) -> RecordCheck:
    """``different``: there are records of the purpose at that name, but none that does what the wanted one does."""
    try:
        if record.type == "MX":
            found = tuple(f"{mx.preference} {mx.host}." for mx in await rt.resolver.mx(record.name))
        else:
            found = await rt.resolver.txt(record.name)
            if record.purpose == "proof":  # also at the domain itself, as has_proof looks
                found += await rt.resolver.txt(record.name.removeprefix(f"{PROOF_LABEL}."))
    except RemoteUnavailable:
        return RecordCheck(record, "unanswered", ())
    related = [text for text in found if _is_related(record, text)]
    is_ok = any(_is_enough(record, text) for text in related)
    if record.purpose == "spf" and len(related) > 1:  # RFC 7208 §4.5: more than one is an error
        is_ok = False
    shown = tuple(text[:MAX_FOUND_CHARS] for text in related[:MAX_FOUND])
    return RecordCheck(record, "ok" if is_ok else "different" if related else "missing", shown)


def _is_related(record: DnsRecord, text: str) -> bool:
    """Whether a record of that name is for the purpose at all: TXT records stand beside those of others."""
    match record.purpose:
        case "reception":
            return True
        case "proof":
            return text.startswith(PROOF_PREFIX)
        case "dkim":
            return "p=" in "".join(text.split())
        case "spf" | "dmarc":
            return text.lower().startswith(record.value.split(";")[0].split(" ")[0].lower())


def _is_enough(record: DnsRecord, text: str) -> bool:
    match record.purpose:
        case "reception":
            return text.split(" ")[1].lower() == record.value.split(" ")[1].lower()
        case "proof":
            return record.value in text.split()
        case "dkim":
            return _key_of(text) == _key_of(record.value)
        case "spf":
            here = record.value.split(" ")[1]  # a:<this server>
            return any(term.lstrip("+").lower() in (here, "mx") for term in text.split()[1:])
        case "dmarc":
            return True


def _key_of(text: str) -> str:
    """The p= tag of a DKIM key record, without the spaces that a zone file may add (RFC 6376 §3.6.1)."""
    tags = dict(tag.partition("=")[::2] for tag in "".join(text.split()).split(";"))
    return tags.get("p", "")


async def check_proof(rt: Runtime, account_id: AccountId, domain_id: DomainId) -> Domain:
    """Look for the domain's proof in DNS and note what was found; a forced domain is left alone.

    A domain proved once stays proved when its proof is gone: mail comes here only while its MX says so, which whoever
    holds the domain decides, and a slip in a zone file must not bounce it. ``dns_missing_since`` tells the operator,
    who removes the domain when it went to somebody else. Errors: NotFound ``domain_not_found``, RemoteUnavailable
    ``dns_failed`` (nothing changes then).
    """
    domain = await rt.db.read(domains.get, account_id, domain_id)
    if domain.dns_status == "forced":
        return domain
    is_proved = await has_proof(rt.resolver, domain)
    place, now = (account_id, domain_id), rt.clock.now()
    if domain.dns_status == "verified" and not is_proved:
        return await rt.db.write(domains.note_missing_proof, *place, now)
    return await rt.db.write(domains.set_dns_status, *place, "verified" if is_proved else "pending", now)


async def has_proof(resolver: Resolver, domain: Domain) -> bool:
    """Whether DNS shows the domain's token; RemoteUnavailable ``dns_failed``."""
    wanted = PROOF_PREFIX + domain.dns_token
    for name in (f"{PROOF_LABEL}.{domain.name}", domain.name):
        if any(wanted in text.split() for text in await resolver.txt(name)):
            return True
    return False


async def check_proofs(rt: Runtime, _job: Job) -> None:
    """Check up to 50 domains whose proof is open and 50 whose proof was last seen a day ago (a periodic job).

    Those not asked for longest come first. One whose name servers are silent goes to the end of the line like others.
    """
    a_day_ago = rt.clock.now() - CHECKED_AGAIN
    due = await rt.db.read(domains.list_unproved, CHECKED_AT_ONCE)
    due += await rt.db.read(domains.list_proved, a_day_ago, CHECKED_AT_ONCE)
    for domain in due:
        try:
            await _check_in_turn(rt, domain)
        except NotFound:
            _log.debug("domain went away while it was checked", domain=domain.name)


async def _check_in_turn(rt: Runtime, domain: Domain) -> None:
    try:
        checked = await check_proof(rt, domain.account_id, domain.id)
    except RemoteUnavailable:
        await rt.db.write(domains.note_silence, domain.account_id, domain.id, rt.clock.now())
        return
    if checked.dns_missing_since is not None:
        _log.warning("domain has lost its proof", domain=domain.name, since=checked.dns_missing_since.isoformat())


async def reseal_keys(rt: Runtime) -> int:
    """Seal every signing key with the vault's newest key, one transaction each; returns how many changed."""
    changed = 0
    for domain in await rt.db.read(domains.list_all):
        for key in await rt.db.read(domains.list_keys, domain.account_id, domain.id):
            sealed = rt.vault.reseal(key.private_key, key_purpose(domain.name, key.selector))
            if sealed != key.private_key:
                place = domain.account_id, domain.id, key.selector
                changed += await rt.db.write(domains.replace_key, *place, key.private_key, sealed)
    return changed


async def replace_lost_keys(rt: Runtime) -> int:
    """Make a new signing key for every approved domain that has none; returns how many. Their DNS records change."""
    made = 0
    for domain in await rt.db.read(domains.list_all):
        if domain.is_approved and not await rt.db.read(domains.list_keys, domain.account_id, domain.id):
            key = await make_key(rt, domain.name)
            await rt.db.write(domains.add_key, domain.account_id, domain.id, key, rt.clock.now())
            made += 1
    return made


def _add(
    conn: WriteConn, account_id: AccountId, name: str, key: DkimKey, dns_status: DnsStatus, now: datetime
) -> Domain:
    domain = domains.add(conn, account_id, name, now, dns_status=dns_status)
    domains.add_key(conn, account_id, domain.id, key, now)
    return domain


def _approve(
    conn: WriteConn, account_id: AccountId, domain_id: DomainId, key: DkimKey, hostname: str, now: datetime
) -> Domain:
    """Approve with a key, and promise the DNS records to whoever signed up: one transaction."""
    domain = domains.approve(conn, account_id, domain_id, key, now)
    mailbox = None if domain.created_by is None else mailboxes.find(conn, account_id, domain.created_by)
    if mailbox is not None:
        subject = f"Your domain {domain.name} is approved"
        notices.enqueue(
            conn, mailbox, f"domain-approved-{domain.id}", subject, _approval_text(hostname, domain, key), now
        )
    return domain


def _approval_text(hostname: str, domain: Domain, key: DkimKey) -> str:
    lines = [f"{record.type}  {record.name}\n    {record.value}\n" for record in records(hostname, domain, [key])]
    return (
        f"The domain {domain.name} has been approved.\n\n"
        "Please publish these DNS records. Mail for the domain is taken once the first one is found.\n\n"
        + "\n".join(lines)
    )


def _make_rsa() -> tuple[bytes, str]:
    """(private key as PKCS #8 PEM, public key as base64 of its DER form)."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, base64.b64encode(public).decode("ascii")
