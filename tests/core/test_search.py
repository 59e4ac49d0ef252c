"""Search in a mailbox: what is found, totals, snippets."""

import pytest

from restante.core import folders, messages, search
from restante.core.mailboxes import Mailbox
from restante.core.messages import Page
from restante.core.search import Hit
from restante.errors import Invalid
from restante.ids import FolderId
from restante.runtime import Runtime
from tests.makers import catch_up_index, eml, make_mailbox, make_message

LOREM = " ".join(f"Filler{n}" for n in range(200))


@pytest.fixture
async def bob(rt: Runtime) -> Mailbox:
    return await make_mailbox(rt)


async def find(
    rt: Runtime, mailbox: Mailbox, text: str, *, folder_id: FolderId | None = None, limit: int = 50, offset: int = 0
) -> Page[Hit]:
    catch_up_index(rt)
    return await rt.db.read(
        search.search, mailbox.account_id, mailbox.id, text, folder_id=folder_id, limit=limit, offset=offset
    )


async def subjects(rt: Runtime, mailbox: Mailbox, text: str) -> list[str]:
    page = await find(rt, mailbox, text)
    assert page.total == len(page.items)
    return [hit.row.subject for hit in page.items]


async def test_every_field_is_searched_newest_first(rt: Runtime, bob: Mailbox) -> None:
    await make_message(rt, bob, eml("Invoice of May", "please pay", sender="Ann Lee <ann@shop.example>"))
    await make_message(rt, bob, eml("other", "your INVOICE is attached"))
    for text in ("invoice", "NVOIC", "may", "ann lee", "ann@shop", "bob@example.test", "pay"):
        assert "Invoice of May" in await subjects(rt, bob, text), text
    assert await subjects(rt, bob, "invoice") == ["other", "Invoice of May"]
    assert await subjects(rt, bob, "invoice pay") == ["Invoice of May"]
    assert await subjects(rt, bob, "nothing") == []
    assert await subjects(rt, bob, "   ") == []


async def test_other_mailboxes_are_not_searched(rt: Runtime, bob: Mailbox) -> None:
    eve = await make_mailbox(rt, "eve@example.test")
    await make_message(rt, eve, eml("secret plan"))
    assert await subjects(rt, bob, "secret") == []
    assert await subjects(rt, eve, "secret") == ["secret plan"]


async def test_folders_follow_moves_and_removals(rt: Runtime, bob: Mailbox) -> None:
    one = await make_message(rt, bob, eml("topic one"))
    two = await make_message(rt, bob, eml("topic two"))
    listed = await rt.db.read(folders.list_folders, bob.account_id, bob.id)
    inbox, trash = (next(each.id for each in listed if each.name == name) for name in ("INBOX", "Trash"))
    await rt.db.write(messages.move, bob.account_id, bob.id, [one.message_id], trash, now=rt.clock.now())
    assert [hit.row.id for hit in (await find(rt, bob, "topic", folder_id=inbox)).items] == [two.message_id]
    assert [hit.row.id for hit in (await find(rt, bob, "topic", folder_id=trash)).items] == [one.message_id]
    assert (await find(rt, bob, "topic")).total == 2
    await rt.db.write(messages.remove, bob.account_id, bob.id, [two.message_id], now=rt.clock.now())
    assert [hit.row.id for hit in (await find(rt, bob, "topic")).items] == [one.message_id]


async def test_pages(rt: Runtime, bob: Mailbox) -> None:
    for number in range(7):
        await make_message(rt, bob, eml(f"topic {number}"))
    page = await find(rt, bob, "topic", limit=3, offset=2)
    assert (page.total, [hit.row.subject for hit in page.items]) == (7, ["topic 4", "topic 3", "topic 2"])
    for limit, offset in ((-1, 0), (100_000, 0), (1, -1), (1, 10**9)):
        with pytest.raises(Invalid):
            await find(rt, bob, "topic", limit=limit, offset=offset)


async def test_snippets(rt: Runtime, bob: Mailbox) -> None:
    await make_message(rt, bob, eml("a", f"Hello {LOREM} the Needle is HERE {LOREM}"))
    await make_message(rt, bob, eml("needle in the subject", f"Begin {LOREM}"))
    await make_message(rt, bob, eml("short", "only a needle"))
    short, subject, body = [hit.snippet for hit in (await find(rt, bob, "needle")).items]
    assert short == "only a needle"
    assert subject.startswith("Begin Filler0")
    assert subject.endswith("...")
    assert body.startswith("...")
    assert body.endswith("...")
    assert "the Needle is HERE" in body
    assert all(len(one) <= search.SNIPPET for one in (short, subject, body))


async def test_a_snippet_without_spaces_and_with_changing_lengths(rt: Runtime, bob: Mailbox) -> None:
    text = "ﬀ ẞß " * 30 + "天" * 300 + "北京市" + "地" * 300
    await make_message(rt, bob, b"Content-Type: text/plain; charset=utf-8\r\nSubject: x\r\n\r\n" + text.encode())
    (hit,) = (await find(rt, bob, "北京市")).items
    assert "北京市" in hit.snippet
    assert len(hit.snippet) <= search.SNIPPET


@pytest.mark.parametrize("most", [search.KEPT_CHARS, 3_000, 0])
async def test_texts_that_are_kept_are_those_of_their_messages(
    rt: Runtime, bob: Mailbox, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(search, "KEPT_CHARS", most)
    eve = await make_mailbox(rt, "eve@other.example")
    for mailbox in (bob, eve):
        for number in range(6):
            text = f"Hello {LOREM} Needle {number} of {mailbox.address}"
            await make_message(rt, mailbox, eml("a", text))
    for mailbox in (bob, eve, bob):
        for text, end in (("needle", " of"), ("filler199", f"Needle 5 of {mailbox.address}")):
            hits = (await find(rt, mailbox, text)).items
            assert len(hits) == 6
            assert end in hits[0].snippet
        assert f"Needle 5 of {mailbox.address}" in (await find(rt, mailbox, "needle")).items[0].snippet


async def test_messages_in_the_blob_store_show_the_folded_text(rt: Runtime, bob: Mailbox) -> None:
    padding = "padding line\r\n" * 100_000
    await make_message(rt, bob, eml("big", f"{LOREM} the Needle is HERE\r\n{padding}"))
    assert len(list(rt.blobs.list_all())) == 1
    (hit,) = (await find(rt, bob, "needle")).items
    assert "the needle is here" in hit.snippet


def test_excerpt_keeps_the_hit_inside() -> None:
    for place in range(0, 400, 7):
        text = "x" * place + " Needle " + "y" * 300
        found = search.excerpt(text, ["needle"])
        assert found is not None
        assert "Needle" in found
        assert len(found) <= search.SNIPPET
    wide = "x" * 600 + " " * 600 + "Needle" + "\n" * 600 + "y" * 300
    assert search.excerpt(wide, ["needle"]) == search.excerpt(" ".join(wide.split()), ["needle"])
    assert search.excerpt("İ" * 700 + " Needle", ["needle"]) == "..." + "Needle"
    assert search.excerpt("nothing here", ["needle"]) is None
    assert search.excerpt("nothing hére", ["needle"]) is None


def test_excerpt_finds_what_folding_changes() -> None:
    assert search.excerpt("die lange Straße dort", ["strasse"]) == "die lange Straße dort"
    assert search.excerpt("a nee\0dle there", ["needle"]) == "a nee\0dle there"
    assert search.excerpt("ＷＩＤＥ\n letters", ["wide"]) == "ＷＩＤＥ letters"
