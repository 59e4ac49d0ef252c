"""Live streams over real sockets: order, resuming, filters, slow readers, tokens that end."""

import asyncio
import contextlib
from datetime import timedelta
from typing import Any

import pytest

from restante.core import events, tokens
from restante.core.events import NewEvent
from restante.http import live
from restante.ids import TokenId
from restante.runtime import Runtime
from tests.api.mail_api.sample import Tenant, letter, put
from tests.api.native.client import Native, Place, StreamReader

READERS = 200


async def test_events_come_as_they_happen(rt: Runtime, owner: Native, red: Tenant, place: Place) -> None:
    assert owner.token is not None
    async with StreamReader(place, owner.token) as stream:
        assert stream.status == 200
        assert stream.head["content-type"] == "text/event-stream"
        one = await put(rt, red.ann, letter())
        told = await stream.next()
        assert (told.type, told.data["data"]["id"]) == ("message.received", one.public_id)
        assert told.id == told.data["id"]
        two = await put(rt, red.bob, letter())
        assert (await stream.next()).data["data"]["id"] == two.public_id


async def test_a_client_that_comes_back_misses_nothing(rt: Runtime, owner: Native, red: Tenant, place: Place) -> None:
    assert owner.token is not None
    async with StreamReader(place, owner.token) as stream:
        await put(rt, red.ann, letter())
        last = (await stream.next()).id
    missed = [(await put(rt, red.ann, letter())).public_id for _ in range(3)]
    async with StreamReader(place, owner.token, headers={"last-event-id": str(last)}) as stream:
        assert [(await stream.next()).data["data"]["id"] for _ in range(3)] == missed
        one = await put(rt, red.ann, letter())
        assert (await stream.next()).data["data"]["id"] == one.public_id


async def test_filters_are_each_stream_s_own(
    rt: Runtime, owner: Native, ann: Native, red: Tenant, place: Place
) -> None:
    assert owner.token is not None
    assert ann.token is not None
    async with (
        StreamReader(place, owner.token, "/events?types=token.*") as of_tokens,
        StreamReader(place, ann.token) as of_ann,
    ):
        await put(rt, red.bob, letter())
        now = rt.clock.now()
        await rt.db.write(tokens.create, red.account.id, "native", "user", "new", now)
        mine = await put(rt, red.ann, letter())
        assert (await of_tokens.next()).type == "token.created"
        assert (await of_ann.next()).data["data"]["id"] == mine.public_id


async def test_another_account_hears_nothing(
    rt: Runtime, owner: Native, red: Tenant, blue: Tenant, place: Place
) -> None:
    assert owner.token is not None
    async with StreamReader(place, owner.token) as stream:
        await put(rt, blue.ann, letter())
        one = await put(rt, red.ann, letter())
        assert (await stream.next()).data["data"]["id"] == one.public_id


@pytest.mark.parametrize("cursor", ["x", "-1", "99999999999999999999999", "123456"])
async def test_a_wrong_cursor_is_refused(owner: Native, place: Place, cursor: str) -> None:
    assert owner.token is not None
    async with StreamReader(place, owner.token, headers={"last-event-id": cursor}) as stream:
        assert stream.status == 422


async def test_a_pruned_cursor_is_told(rt: Runtime, owner: Native, red: Tenant, place: Place) -> None:
    assert owner.token is not None
    await rt.db.write(events.prune, red.account.id, rt.clock.now() + timedelta(days=1), 1000, 1000)
    async with StreamReader(place, owner.token, headers={"last-event-id": "1"}) as stream:
        assert stream.status == 410


async def test_a_revoked_token_s_stream_ends(rt: Runtime, owner: Native, red: Tenant, place: Place) -> None:
    assert owner.token is not None
    async with StreamReader(place, owner.token, "/events?types=message.*") as stream:
        held = await rt.db.read(tokens.list_tokens, red.account.id)
        native = next(token for token in held if token.dialect == "native")
        await rt.db.write(tokens.revoke, red.account.id, TokenId(native.id), rt.clock.now())
        with pytest.raises(EOFError):
            await asyncio.wait_for(stream.next(), 60)


async def test_a_slow_reader_holds_nobody(
    rt: Runtime, owner: Native, red: Tenant, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does not read gets no more than its buffer; the others go on, and it catches up later."""
    assert owner.token is not None
    monkeypatch.setattr(live, "BUFFERED_MAX", 1000)
    monkeypatch.setattr(live, "STALL_SECONDS", 3600.0)
    wide = [NewEvent("mailbox.created", {"address": "x" * 20_000}) for _ in range(500)]
    async with StreamReader(place, owner.token) as slow, StreamReader(place, owner.token) as quick:
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(2):
            await rt.db.write(events.record_all, red.account.id, wide, now=rt.clock.now())
            for _ in wide:
                assert (await quick.next()).type == "mailbox.created"
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        told = [(await slow.next()).id for _ in range(2 * len(wide))]
        assert told == list(range(told[0], told[0] + len(told)))


async def test_who_reads_no_more_is_cut_off(
    rt: Runtime, owner: Native, red: Tenant, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert owner.token is not None
    monkeypatch.setattr(live, "BUFFERED_MAX", 1000)
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(live, "STALL_SECONDS", 0.1)
    wide = [NewEvent("mailbox.created", {"address": "x" * 20_000}) for _ in range(1000)]
    other = "/events?types=domain.*"
    fed: list[live.Stream] = []
    write = live.Stream.write

    def noted_write(stream: live.Stream, chunk: bytes) -> None:
        if len(chunk) > len(wide):
            fed.append(stream)
        write(stream, chunk)

    monkeypatch.setattr(live.Stream, "write", noted_write)
    async with StreamReader(place, owner.token) as slow, StreamReader(place, owner.token, other) as quick:
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await rt.db.write(events.record_all, red.account.id, wide, now=rt.clock.now())
        assert await quick.chunk() == b"retry: 2000\n\n"
        while not (fed and fed[0].transport.is_closing()):
            assert await quick.chunk() == b": still here\n\n"
        for _ in range(10):
            assert await quick.chunk() == b": still here\n\n"
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        with pytest.raises(EOFError):
            await asyncio.wait_for(_read_all(slow), 60)


async def _read_all(stream: StreamReader) -> None:
    while True:
        await stream.next()


async def test_many_readers_cost_one_read_and_one_chunk(
    rt: Runtime, owner: Native, red: Tenant, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert owner.token is not None
    reads: list[Any] = []
    chunks: list[bytes] = []
    read, write = rt.db.read, live.Stream.write

    async def counted_read(fn: Any, *args: Any, **kwargs: Any) -> Any:
        reads.append(fn)
        return await read(fn, *args, **kwargs)

    def counted_write(stream: live.Stream, chunk: bytes) -> None:
        chunks.append(chunk)
        write(stream, chunk)

    async with contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(StreamReader(place, owner.token)) for _ in range(READERS)]
        await put(rt, red.ann, letter())
        for stream in streams:
            await stream.next()
        monkeypatch.setattr(rt.db, "read", counted_read)
        monkeypatch.setattr(live.Stream, "write", counted_write)
        one = await put(rt, red.ann, letter())
        assert {(await stream.next()).data["data"]["id"] for stream in streams} == {one.public_id}
        assert [fn for fn in reads if fn.__module__ == events.__name__] == [events.list_after]
        assert len(chunks) == READERS
        assert len({id(chunk) for chunk in chunks}) == 1


async def test_streams_from_different_places_get_what_they_miss(
    rt: Runtime, owner: Native, red: Tenant, place: Place
) -> None:
    assert owner.token is not None
    numbers = []
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(5):
            await put(rt, red.ann, letter())
            numbers.append(int((await rt.db.read(events.bounds, red.account.id))[0]))
        streams = [
            await stack.enter_async_context(StreamReader(place, owner.token, headers={"last-event-id": str(number)}))
            for number in reversed(numbers)
        ]
        await put(rt, red.ann, letter())
        last = int((await rt.db.read(events.bounds, red.account.id))[0])
        for number, stream in zip(reversed(numbers), streams, strict=True):
            assert [(await stream.next()).id for _ in range(number, last)] == list(range(number + 1, last + 1))


async def test_streams_say_that_they_live(
    rt: Runtime, owner: Native, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert owner.token is not None
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.05)
    async with StreamReader(place, owner.token) as stream:
        assert await stream.chunk() == b"retry: 2000\n\n"
        assert await stream.chunk() == b": still here\n\n"


async def test_a_stream_ends_in_time(rt: Runtime, owner: Native, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert owner.token is not None
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(live, "LIFETIME_SECONDS", 0.0)
    async with StreamReader(place, owner.token) as stream:
        with pytest.raises(EOFError):
            await asyncio.wait_for(stream.next(), 60)


async def test_head_is_no_stream(owner: Native) -> None:
    reply = await owner.call("HEAD", "/events", headers={"accept": "text/event-stream"})
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["content-type"] == "application/json"
