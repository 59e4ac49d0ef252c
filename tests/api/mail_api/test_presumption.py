"""Lists and searches with a token that was seen a moment ago: one read, which proves the token too."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from restante.api.mail_api import mailbox, search
from restante.clock import ManualClock
from restante.core import access, accounts, mailboxes, tokens
from restante.ids import TokenId
from restante.runtime import Runtime
from restante.server import asgi
from restante.server.metrics import Metrics
from restante.services import authentication
from tests.api.mail_api.sample import ANN, Client, World, assert_refused, letter, put
from tests.makers import catch_up_index

LIST, SEARCH = f"{ANN}/messages", f"{ANN}/search?q=agenda"
BOTH = (LIST, SEARCH)
READS = {LIST: mailbox.read_page, SEARCH: search.read_hits}


class Noting:
    """A database whose reads are noted."""

    def __init__(self, rt: Runtime) -> None:
        self._db = rt.db
        self.reads: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    async def read(self, fn: Any, *args: Any, **more: Any) -> Any:
        self.reads.append(fn)
        return await self._db.read(fn, *args, **more)

    def taken(self) -> list[Any]:
        """What was read since the last call."""
        reads, self.reads = self.reads, []
        return reads


@pytest.fixture
def db(rt: Runtime) -> Noting:
    return Noting(rt)


@pytest.fixture
async def ann(rt: Runtime, world: World, db: Noting) -> Client:
    """Red's Ann with a message, whose token was just seen."""
    await put(rt, world.red.ann, letter())
    catch_up_index(rt)
    noted = replace(rt, db=db)
    client = Client(asgi.build(noted, Metrics(noted)), world.red.token)
    assert (await client.get("/api/v1/tokens/me")).status == 200
    db.taken()
    return client


@pytest.mark.parametrize("target", BOTH)
async def test_one_read_for_a_minute(clock: ManualClock, db: Noting, ann: Client, target: str) -> None:
    for _ in range(3):
        assert (await ann.get(target)).json()["total"] == 1
    assert db.taken() == [READS[target]] * 3
    clock.advance(timedelta(seconds=60))
    assert (await ann.get(target)).json()["total"] == 1
    assert db.taken() == [access.authenticate_token, READS[target]]
    await ann.get(target)
    assert db.taken() == [READS[target]]


async def _revoke(rt: Runtime, world: World) -> None:
    await rt.db.write(tokens.revoke, world.red.account.id, await _token(rt, world), rt.clock.now())


async def _remove(rt: Runtime, world: World) -> None:
    await rt.db.write(tokens.remove, world.red.account.id, await _token(rt, world), rt.clock.now())


async def _suspend(rt: Runtime, world: World) -> None:
    await rt.db.write(accounts.suspend, world.red.account.id, rt.clock.now())


async def _disable(rt: Runtime, world: World) -> None:
    await rt.db.write(mailboxes.disable, world.red.account.id, world.red.ann.id, rt.clock.now())


async def _delete_mailbox(rt: Runtime, world: World) -> None:
    await rt.db.write(mailboxes.remove, world.red.account.id, world.red.ann.id, rt.clock.now(), force=True)


async def _token(rt: Runtime, world: World) -> TokenId:
    held = await rt.db.read(tokens.list_tokens, world.red.account.id, world.red.ann.id)
    return held[0].id


Change = Callable[[Runtime, World], Awaitable[None]]
ENDS: dict[str, tuple[Change, str]] = {
    "revoked": (_revoke, "TOKEN_EXPIRED"),
    "removed": (_remove, "INVALID_TOKEN"),
    "account suspended": (_suspend, "TOKEN_EXPIRED"),
    "mailbox disabled": (_disable, "TOKEN_EXPIRED"),
    "mailbox removed": (_delete_mailbox, "INVALID_TOKEN"),
}


@pytest.mark.parametrize("target", BOTH)
@pytest.mark.parametrize("name", ENDS)
async def test_the_end_of_a_token_holds_at_once(rt: Runtime, world: World, ann: Client, name: str, target: str) -> None:
    change, code = ENDS[name]
    assert (await ann.get(target)).status == 200
    await change(rt, world)
    for wrong in (target, f"{LIST}?limit=0", f"{LIST}?folder=Nowhere", target.replace("ann@", "bob@")):
        reply = await ann.get(wrong)
        assert_refused(reply, 401, code)
        assert "x-ratelimit-limit" not in reply.headers


async def test_a_token_expires_at_its_moment(rt: Runtime, clock: ManualClock, world: World, ann: Client) -> None:
    box, end = world.red.ann, clock.now() + timedelta(seconds=30)
    _, plain = await rt.db.write(
        tokens.create, box.account_id, "mail-api", "user", "t", clock.now(), box.id, expires_at=end
    )
    short = ann.with_token(plain)
    for target in BOTH:
        assert (await short.get(target)).status == 200
    clock.advance(timedelta(seconds=29))
    assert (await short.get(LIST)).status == 200
    clock.advance(timedelta(seconds=1))
    for target in BOTH:
        assert_refused(await short.get(target), 401, "TOKEN_EXPIRED")


async def test_a_revoked_token_over_its_limit_is_told_the_first(rt: Runtime, world: World, ann: Client) -> None:
    for _ in range(100):
        reply = await ann.get(LIST)
    assert_refused(reply, 429, "RATE_LIMITED")
    assert reply.headers["x-ratelimit-remaining"] == "0"
    await _revoke(rt, world)
    assert_refused(await ann.get(LIST), 401, "TOKEN_EXPIRED")


async def test_a_call_is_counted_once_whatever_becomes_of_it(ann: Client) -> None:
    left = 98  # one was made before
    for target, status in (
        (LIST, 200),
        (f"{LIST}?limit=0", 422),
        (f"{LIST}?folder=Nowhere", 400),
        (f"{ANN}/search?q=%20x", 422),
        (SEARCH, 200),
        (LIST.replace("ann@", "bob@"), 403),
        (LIST.replace("ann@", "nobody@"), 403),
    ):
        reply = await ann.get(target)
        assert (reply.status, reply.headers["x-ratelimit-remaining"]) == (status, str(left)), target
        left -= 1


async def test_another_rate_limit_holds_from_the_next_call_on(
    rt: Runtime, clock: ManualClock, world: World, ann: Client
) -> None:
    await rt.db.write(
        tokens.update_properties, world.red.account.id, await _token(rt, world), clock.now(),
        name="t", is_active=True, expires_at=None, rate_limit=5,
    )  # fmt: skip
    assert (await ann.get(LIST)).headers["x-ratelimit-policy"] == "100;w=60, 1000;w=3600"
    assert (await ann.get(LIST)).headers["x-ratelimit-policy"] == "5;w=60"


async def test_nobody_is_presumed_by_another_dialect_or_token(rt: Runtime, world: World, ann: Client) -> None:
    plain = world.red.token
    presumed = authentication.presume(rt, "mail-api", plain)
    assert presumed is not None
    assert presumed.principal.mailbox_id == world.red.ann.id
    for dialect, other in (("native", plain), ("mail-api", plain + "x"), ("mail-api", world.blue.token)):
        assert authentication.presume(rt, dialect, other) is None
    assert_refused(await ann.with_token(plain[:-1]).get(LIST), 401, "INVALID_TOKEN")
    assert_refused(await ann.with_token(world.blue.token).get(LIST), 403, "ACCESS_DENIED")


async def test_only_so_many_are_remembered(
    rt: Runtime, world: World, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "CACHE_ENTRIES", 2)
    for plain in (world.blue.token, world.admin_token):
        await ann.with_token(plain).get("/api/v1/tokens/me")
    assert authentication.presume(rt, "mail-api", world.red.token) is None
    assert authentication.presume(rt, "mail-api", world.blue.token) is not None
