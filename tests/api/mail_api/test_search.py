"""Endpoint 8: search."""

import pytest

from restante.core import folders
from restante.core.mailboxes import Mailbox
from restante.runtime import Runtime
from restante.schema.fulltext import plan
from tests.api.mail_api.sample import ANN, Client, World, assert_refused, letter, put
from tests.makers import catch_up_index


async def store_and_index(rt: Runtime, mailbox: Mailbox, *letters: bytes, folder: str = "INBOX") -> None:
    for raw in letters:
        await put(rt, mailbox, raw, folder)
    catch_up_index(rt)


async def test_shape(rt: Runtime, world: World, client: Client) -> None:
    await store_and_index(rt, world.red.ann, letter(), letter("Lunch", "Shall we discuss the meeting agenda today?"))
    reply = await client.get(f"{ANN}/search?q=meeting")
    body = reply.json()
    assert reply.status == 200, body
    assert list(body) == ["success", "query", "total", "messages"]
    assert (body["success"], body["query"], body["total"]) == (True, "meeting", 2)
    first, second = body["messages"]
    assert [list(item) for item in (first, second)] == [["uid", "folder", "from", "subject", "date", "snippet"]] * 2
    assert (first["uid"], second["uid"]) == (2, 1)
    assert first["folder"] == "INBOX"
    assert first["from"] == {"name": "John Doe", "email": "john@x.example"}
    assert (first["subject"], first["date"]) == ("Lunch", "2024-01-27T10:30:00Z")
    assert "meeting agenda" in first["snippet"]
    assert len(first["snippet"]) <= 166
    assert second["snippet"].startswith("Let us discuss")


async def test_all_words_must_occur_in_any_place(rt: Runtime, world: World, client: Client) -> None:
    await store_and_index(rt, world.red.ann, letter(), letter("Other", "nothing of interest"))

    async def total(query: str) -> int:
        found: int = (await client.get(f"{ANN}/search?q={query}")).json()["total"]
        return found

    assert await total("agenda%20john") == 1
    assert await total("AGENDA") == 1
    assert await total("agend") == 1
    assert await total("ann@red.example") == 2
    assert await total("agenda%20interest") == 0
    assert await total("zzzz") == 0


async def test_folders(rt: Runtime, world: World, client: Client) -> None:
    ann = world.red.ann
    await rt.db.write(folders.create, ann.account_id, ann.id, "Work", rt.clock.now())
    await store_and_index(rt, ann, letter())
    await store_and_index(rt, ann, letter(), folder="Junk")
    await store_and_index(rt, ann, letter(), folder="Work")

    async def found(folder: str) -> list[str]:
        body = (await client.get(f"{ANN}/search?q=agenda&folder={folder}")).json()
        return [item["folder"] for item in body["messages"]]

    assert await found("INBOX") == ["INBOX"]
    assert await found("junk") == ["Spam"]
    assert sorted(await found("*")) == ["INBOX", "Spam", "Work"]
    assert await found("Sent") == []


async def test_limit_and_offset(rt: Runtime, world: World, client: Client) -> None:
    await store_and_index(rt, world.red.ann, *[letter(f"number {n}") for n in range(5)])
    body = (await client.get(f"{ANN}/search?q=agenda&limit=2&offset=1")).json()
    assert body["total"] == 5
    assert [item["uid"] for item in body["messages"]] == [4, 3]


@pytest.mark.parametrize(
    "query", ["", "q=", "q=a", "q=%20a%20", "q=%20%20", "q=ab&limit=0", "q=ab&limit=201", "q=" + "a" * 1001]
)
async def test_bounds(client: Client, query: str) -> None:
    body = assert_refused(await client.get(f"{ANN}/search?{query}"), 422, "VALIDATION_ERROR")
    assert list(body["fields"]) == ["limit" if "limit" in query else "q"]


@pytest.mark.parametrize(
    "q",
    [
        "%22%22",
        "a*",
        "%2A%2A",
        "NEAR(a,b)",
        "a%00b",
        "--",
        "%FF%FE",
        "%F0%9F%92%A9%F0%9F%92%A9",
        "a' OR 1=1",
        "..",
        "((((",
        "日本",
    ],
)
async def test_odd_queries_find_nothing_and_break_nothing(rt: Runtime, world: World, client: Client, q: str) -> None:
    await store_and_index(rt, world.red.ann, letter())
    reply = await client.get(f"{ANN}/search?q={q}")
    assert reply.status == 200, reply.body
    assert reply.json()["total"] == 0


async def test_nobody_finds_another_mailboxs_mail(rt: Runtime, world: World, client: Client, admin: Client) -> None:
    await store_and_index(rt, world.red.bob, letter())
    await store_and_index(rt, world.blue.ann, letter())
    assert (await client.get(f"{ANN}/search?q=agenda&folder=*")).json()["total"] == 0
    for email in ("bob@red.example", "ann@blue.example"):
        target = f"/api/v1/mailbox/{email}/search?q=agenda"
        assert_refused(await client.get(target), 403, "ACCESS_DENIED")
        assert (await admin.get(target)).json()["total"] == 1


async def test_hits_left_out_are_told(
    rt: Runtime, world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_and_index(rt, world.red.ann, *[letter(f"Plan {n}", "foo-bar") for n in range(3)])
    whole = await client.get(f"{ANN}/search?q=foo-bar")
    assert (whole.json()["total"], "x-search-complete" in whole.headers) == (3, False)
    monkeypatch.setattr(plan, "LOOKED_AT_MAX", 2)
    cut = await client.get(f"{ANN}/search?q=foo-bar")
    assert (cut.json()["total"], cut.headers["x-search-complete"]) == (2, "false")
