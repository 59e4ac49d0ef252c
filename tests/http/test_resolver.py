"""Every path of every contract has one owner, or stands in the table of shared paths (collisions.md §2, §3)."""

import csv
from pathlib import Path

import pytest

from restante.api.mail_api import app as mail_api
from restante.api.mailcare import app as mailcare
from restante.http.answers import Answer
from restante.http.dialects import Dialect
from restante.http.ownership import INSTANCE, MAIL_API, MAILCARE, MAILTRIGGER, NATIVE, TEMP_MAIL, TREKMAIL
from restante.http.resolver import Resolver, example, normalise
from restante.http.routing import IndexedRouter

CONTRACTS = Path(__file__).resolve().parents[3] / "shared" / "contracts"

MAIL_API_TOKEN = {b"x-mailapi-token": b"x" * 43}
TREKMAIL_TOKEN = {b"authorization": b"Bearer tm_live_abc"}
OTHER_BEARER = {b"authorization": b"bearer 0123456789012345678901234567890123456789"}
BASIC = {b"authorization": b"Basic YTpi"}

# Rows of table 3 that give a contract's path to nobody in particular: one answer for all, or the credential decides.
SHARED = {("trekmail", "/api/v1/domains"), ("mailtrigger", "/api/v1/domains")}
OF_THE_INSTANCE = {("mail-api", "/health"), ("mail-api", "/docs"), ("mail-api", "/redoc")}  # rows 19 and 21


@pytest.fixture(scope="module")
def resolver() -> Resolver:
    return Resolver([mail_api.build(), mailcare.build()])


def contract_rows() -> list[tuple[str, str, str]]:
    table = CONTRACTS / "endpoints.tsv"
    if not table.exists():
        return []
    with table.open() as lines:
        return [(row["dialect"], row["method"], row["path"]) for row in csv.DictReader(lines, delimiter="\t")]


def test_every_contract_row_has_one_owner(resolver: Resolver) -> None:
    rows = contract_rows()
    if not rows:
        pytest.skip("the contracts are not beside this repository")
    wrong = []
    for dialect, method, path in rows:
        owner = resolver.owner(normalise(example(path)), {})
        expected = "trekmail" if dialect == "drive" else dialect
        if (dialect, path) in OF_THE_INSTANCE:
            expected = INSTANCE
        if owner.name != expected or owner.is_shared != ((dialect, path) in SHARED):
            wrong.append((dialect, method, path, owner))
    assert wrong == []
    assert len(rows) > 190


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/", INSTANCE),
        ("/health", INSTANCE),
        ("/metrics", INSTANCE),
        ("/docs/swagger-ui.css", INSTANCE),
        ("/openapi/trekmail.json", INSTANCE),
        ("/openapi.json", INSTANCE),
        ("/.well-known/acme-challenge/x", INSTANCE),
        ("/restante/v1/anything", NATIVE),
        ("/app/inbox/7", INSTANCE),
        ("/mcp", INSTANCE),
        ("/nonsense", INSTANCE),
        ("/healthy", INSTANCE),
        ("/api/openapi.json", TREKMAIL),
        ("/d/abcdef", TREKMAIL),
        ("/swagger", MAILTRIGGER),
        ("/v1/domains", MAILTRIGGER),
        ("/v1/mailbox/7/archives", MAILTRIGGER),
        ("/api/mailbox/7/archives", MAILTRIGGER),
        ("/api/v1/mailbox/7/archives/3/attachments/0", MAILTRIGGER),
        ("/api/v1/mailbox/someone@example.test/archives", MAILTRIGGER),
        ("/api/v1/mailbox/7/folders", MAIL_API),
        ("/api/v1/mailbox/someone@example.test/messages/7/attachment/0", MAIL_API),
        ("/api/v1/mailbox/a/b@example.test/folders", MAIL_API),
        ("/api/v1/mailboxes/7/message-tokens", TREKMAIL),
        ("/api/v1/domains/pending", MAIL_API),
        ("/api/v1/domains/example.test/approve", MAIL_API),
        ("/api/v1/domains/example.test", MAIL_API),
        ("/api/v1/domains/example.test/dns", MAIL_API),
        ("/api/v1/domains/7.example/verify", MAIL_API),
        ("/api/v1/mailbox/someone@example.test/quota", MAIL_API),
        ("/api/v1/permissions/someone@example.test", MAIL_API),
        ("/api/v1/domains/7", TREKMAIL),
        ("/api/v1/domains/7/dns-recheck", TREKMAIL),
        ("/api/v1/domains/7/dkim:retry", TREKMAIL),
        ("/api/v1/domains:bulk-add", TREKMAIL),
        ("/api/v1/messages/folders/INBOX/Work", TREKMAIL),
        ("/api/v1/messages:bulk", TREKMAIL),
        ("/api/v1/messages/5:spam", TREKMAIL),
        ("/api/v1/me", TREKMAIL),
        ("/api/v1/smtp:test-status/x", TREKMAIL),
        ("/api/v1/users", MAIL_API),
        ("/api/v1/auth/login", MAIL_API),
        ("/api/teams/x/emails", MAILCARE),
        ("/api/emails", MAILCARE),
        ("/api/statistics", MAILCARE),
        ("/api/automations/1", MAILCARE),
        ("/api/mails", TEMP_MAIL),
        ("/api/new_address", TEMP_MAIL),
        ("/api", TEMP_MAIL),
        ("/admin", TEMP_MAIL),
        ("/admin/anything", TEMP_MAIL),
        ("/user_api/mails", TEMP_MAIL),
        ("/open_api/settings", TEMP_MAIL),
        ("/external/api/send_mail", TEMP_MAIL),
        ("/telegram/x", TEMP_MAIL),
        ("/health_check", TEMP_MAIL),
    ],
)
def test_an_owned_path_stays_with_its_owner_whatever_credential_comes(
    resolver: Resolver, path: str, owner: str
) -> None:
    for headers in ({}, MAIL_API_TOKEN, TREKMAIL_TOKEN, OTHER_BEARER, BASIC, MAIL_API_TOKEN | TREKMAIL_TOKEN):
        found = resolver.owner(path, headers)
        assert (found.name, found.is_shared) == (owner, False)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/domains",
        "/api/v1/domains/localhost",
        "/api/v1",
        "/api/v1/unheard-of",
        "/api/v1/mailbox/7",
        "/api/v1/v1",
    ],
)
def test_a_shared_path_goes_by_credential(resolver: Resolver, path: str) -> None:
    def name(headers: dict[bytes, bytes]) -> str:
        found = resolver.owner(path, headers)
        assert found.is_shared
        return found.name

    assert name({}) == TREKMAIL
    assert name(BASIC) == TREKMAIL
    assert name(MAIL_API_TOKEN) == MAIL_API
    assert name(TREKMAIL_TOKEN) == TREKMAIL
    assert name(OTHER_BEARER) == MAILTRIGGER
    assert name(MAIL_API_TOKEN | TREKMAIL_TOKEN) == MAIL_API
    assert name(MAIL_API_TOKEN | OTHER_BEARER) == MAIL_API


def test_trailing_slashes_are_no_discriminator() -> None:
    assert normalise("/api/v1/domains/") == normalise("/api/v1/domains") == "/api/v1/domains"
    assert normalise("/") == normalise("//") == normalise("") == "/"


def dialect(name: str, *paths: str) -> Dialect:
    router = IndexedRouter()
    for path in paths:
        router.add("GET", path, _handler, tag="x", answer="text/plain")
    one = mail_api.build()
    return Dialect(name, router, one.render, one.explain, one.describe, 1000)


async def _handler(_: object) -> Answer:
    """Nothing."""
    return Answer()


def test_routes_outside_their_dialects_paths_stop_the_start() -> None:
    with pytest.raises(ValueError, match="belongs to temp-mail"):
        Resolver([dialect(MAIL_API, "/admin/mails")])
    with pytest.raises(ValueError, match="not in the ownership table"):
        Resolver([dialect("other", "/x")])


def test_a_shared_path_may_have_routes_of_several_dialects() -> None:
    both = [dialect(MAIL_API, "/api/v1/domains"), dialect(TREKMAIL, "/api/v1/domains", "/api/v1/domains/{id}")]
    assert Resolver(both).owner("/api/v1/domains", MAIL_API_TOKEN).name == MAIL_API


def test_long_hostile_paths_cost_little(resolver: Resolver) -> None:
    for path in (
        "/api/v1/mailbox/" + "a/" * 20_000,
        "/api/v1/mailbox/" + "folders/" * 5_000,
        "/api/v1/domains/" + "." * 50_000,
        "/" * 50_000,
    ):
        resolver.owner(path, {})
