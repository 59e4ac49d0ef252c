"""Lists of arrivals against a look at every message, one by one."""

import contextlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restante.core import arrivals, delivery
from restante.core.arrivals import Arrival, Filter, query, texts
from restante.core.contents import NewContent
from restante.core.delivery import Target
from restante.core.messages import Flag
from restante.ids import AccountId
from restante.mail import message
from restante.schema.connections import WriteConn
from tests.core.conftest import SUMMARY, Tenant

PARTS = (
    "welcome",
    "Welcome",
    "Your order",
    "order",
    "#12",
    "1234",
    "re:",
    "!",
    "straße",
    "点数优惠",
    "a",
    "%",
    "_",
    "  ",
)
Sent = tuple[str, str, str, int, int]
LOCALS = ("ann", "bob", "order", "A.n", "x_y")
CONTENT = NewContent(10, b"hash", message.dump(message.parse(b"Subject: x\r\n\r\nx")), b"raw", None, None)


def receive(
    conn: WriteConn, tenant: Tenant, subject: str, inbox: str, sender: str, at: datetime, flags: int = 0
) -> None:
    account_id = tenant.account.id
    summary = SUMMARY._replace(subject=subject, from_email=sender, from_name="N")
    target = Target(account_id, tenant.mailbox.id, "INBOX", inbox, b"", flags)
    delivery.deliver(conn, [(account_id, CONTENT)], summary, [target], at)


def catch_up(conn: WriteConn, account_id: AccountId, step: int = 7) -> None:
    while (piece := arrivals.survey(conn, account_id, step)) is not None:
        assert arrivals.advance(conn, account_id, piece, step)


def fold(text: str) -> str:
    """What folding comes to for the texts used here, white space at the ends kept."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text).casefold())


def passes(one: Arrival, wanted: Filter) -> bool:
    """What ``Filter`` says of itself, done the slow way."""
    subject = fold(one.subject).strip()
    if wanted.subject is not None:
        regex = ".*".join([re.escape(fold(piece)) for piece in wanted.subject.strip().split("*")])
        if not re.fullmatch(regex, subject):
            return False
    search = fold(wanted.search or "").strip()
    return (
        (wanted.inbox is None or one.inbox.address == fold(wanted.inbox))
        and (wanted.sender is None or one.sender.address == fold(wanted.sender))
        and (wanted.since is None or one.created_at > wanted.since)
        and (wanted.until is None or one.created_at < wanted.until)
        and any(search in text for text in (one.inbox.address, one.sender.address, subject))
        and not (wanted.is_unread and one.read_at)
        and not (wanted.is_favorite and not one.is_favorite)
    )


def everything(conn: WriteConn, account_id: AccountId) -> list[Arrival]:
    found = arrivals.list_page(conn, account_id, Filter(), page=1, limit=1000)
    assert found.total == len(found.arrivals)
    return found.arrivals


words = st.lists(st.sampled_from((*PARTS, " ")), max_size=4).map("".join)
patterns = st.lists(st.sampled_from((*PARTS, " ", "*", "*", "*")), max_size=5).map("".join)
emails = st.sampled_from(LOCALS).map("{}@Red.example".format)
mails = st.tuples(words, emails, emails, st.integers(0, 5), st.sampled_from((0, int(Flag.SEEN), int(Flag.FLAGGED))))


START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


times = st.integers(-1, 6).map(lambda seconds: START + timedelta(seconds=seconds))
filters = st.builds(
    Filter,
    *(st.none() | one for one in (emails, emails, patterns, times, times, words)),
    is_unread=st.booleans(),
    is_favorite=st.booleans(),
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(mails, max_size=25), st.lists(filters, min_size=5, max_size=12), st.booleans(), st.booleans())
def test_equal_to_looking_at_each(
    conn: WriteConn,
    red: Tenant,
    blue: Tenant,
    sent: Sequence[Sent],
    asked: Sequence[Filter],
    is_filled: bool,
    is_many: bool,
) -> None:
    with undone(conn), pytest.MonkeyPatch.context() as patch:
        if is_many:
            patch.setattr(texts, "FEW", -1)
            patch.setattr(texts, "SOON", -1)
        compare(conn, red, blue, sent, asked, is_filled)


@contextlib.contextmanager
def undone(conn: WriteConn) -> Iterator[None]:
    """What happens inside leaves nothing behind: all examples share one store."""
    conn.exec_driver_sql("SAVEPOINT example")
    try:
        yield
    finally:
        conn.exec_driver_sql("ROLLBACK TO SAVEPOINT example")


def compare(
    conn: WriteConn, red: Tenant, blue: Tenant, sent: Sequence[Sent], asked: Sequence[Filter], is_filled: bool
) -> None:
    account_id = red.account.id
    if not is_filled:
        catch_up(conn, account_id)
    for subject, inbox, sender, at, flags in sent:
        receive(conn, red, subject, inbox, sender, START + timedelta(seconds=at), flags)
    catch_up(conn, account_id)
    catch_up(conn, blue.account.id)
    there = everything(conn, account_id)
    assert len(there) == len(sent)
    assert there == sorted(there, key=lambda one: one.created_at, reverse=True)
    for wanted in asked:
        right = [one.id for one in there if passes(one, wanted)]
        found = arrivals.list_page(conn, account_id, wanted, page=1, limit=1000)
        assert (found.total, [one.id for one in found.arrivals]) == (len(right), right), wanted
        second = arrivals.list_page(conn, account_id, wanted, page=2, limit=3)
        assert (second.total, [one.id for one in second.arrivals]) == (len(right), right[3:6])
        assert arrivals.list_page(conn, blue.account.id, wanted, page=1, limit=5).total == 0


BOUNDS: dict[str, dict[str, int]] = {
    "each is looked at": {},
    "everything is gathered": {"FEW": -1, "SOON": -1},
    "subjects are looked at after one word": {"FEW": -1},
    "the engine scans": {"FEW": -1, "SOON": -1, "NARROW": -1},
    "too many words and correspondents": {"FEW": -1, "SOON": -1, "REACHED": -1, "EXPANDED": 0, "NAMED": 0},
    "texts are checked by place": {"FEW": -1, "SOON": -1, "WALKED": 0},
    "correspondents are not named": {"FEW": -1, "SOON": -1, "REACHED": -1, "EXPANDED": 1, "NAMED": 1, "CHECKABLE": -1},
    "correspondents are found by place": {"FEW": -1, "SOON": -1, "EXPANDED": 1},
    "correspondents have many arrivals": {"FEW": -1, "SOON": -1, "NARROW": 40, "EXPANDED": 1},
    "named correspondents have many arrivals": {"FEW": -1, "SOON": -1, "NARROW": 40},
    "few of them": {"FEW": 20},
}


@pytest.mark.parametrize("name", BOUNDS)
def test_equal_by_every_way(
    monkeypatch: pytest.MonkeyPatch, conn: WriteConn, red: Tenant, blue: Tenant, name: str
) -> None:
    """Which way an answer is found depends on sizes that no test has: here on bounds."""
    for bound, value in BOUNDS[name].items():
        monkeypatch.setattr(texts if hasattr(texts, bound) else query, bound, value)
    random = Random(name)
    addresses = [f"{local}@Red.example" for local in LOCALS]

    def text(*more: str) -> str:
        return "".join(random.choices((*PARTS, *more), k=random.randrange(5)))

    def maybe(value: str) -> str | None:
        return value if random.random() < 0.4 else None

    sent = [
        (text(" "), random.choice(addresses), random.choice(addresses), random.randrange(6), random.choice((0, 1, 4)))
        for _ in range(120)
    ]
    asked = [
        Filter(
            maybe(random.choice(addresses)),
            maybe(random.choice(addresses)),
            maybe(text(" ", "*", "*", "*", "*", "*")),
            START + timedelta(seconds=2) if random.random() < 0.2 else None,
            START + timedelta(seconds=4) if random.random() < 0.2 else None,
            maybe(text()[:6]),
            random.random() < 0.2,
            random.random() < 0.2,
        )
        for _ in range(250)
    ]
    compare(conn, red, blue, sent, asked, is_filled=True)
