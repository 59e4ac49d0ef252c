"""The same mail on SQLite and on PostgreSQL: the same lists, the same hits, totals and snippets."""

import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from restante.config import SQLITE, Config
from restante.core import folders, listing, messages, search
from restante.core.mailboxes import Mailbox
from restante.ids import FolderId, MessageId
from restante.mail import words
from restante.runtime import Runtime
from restante.schema.fulltext import plan
from restante.server import assemble
from restante.services import storing
from tests.makers import catch_up_index, eml, make_mailbox
from tools import corpus

FOLDERS = ("INBOX", "Sent", "Junk")
FIRST = datetime(2026, 11, 1, tzinfo=UTC)
MADE = [
    *("北京市朝阳区 会议通知 明天上午", "東京タワー と ｶﾞﾗｽ の写真", "안녕하세요 서울 사무실", "สวัสดีครับ ยินดีต้อนรับ"),
    *("Встреча в Москве, привет всем", "Ёлка и ещё ёжик: «кавычки»", "Καλημέρα σας, ΟΔΟΣ", "हिन्दी में संदेश और न्द"),
    *("שלום עולם, פגישה מחר", "مرحبا بالعالم ١٢٣", "\u202eright to left\u202c mark", "Party 🎉🎊 tonight 👍🏽 ✅"),
    *(
        "e-mail and foo-bar; version 3.14 of a.b",
        "C++ & C# (not F#) 100% <b>'quoted' \"twice\"",
        "under_score MiXeD x y z",
    ),
    *(
        "Cafe\u0301 Ｆｕｌｌ ﬁnance Straße İstanbul",
        "key " + "Zx9" * 30 + "qq end",
        "long " + "a" * 90 + ".b@example.com",
    ),
    *(
        "<user@host.example> ann.lee+tag@sub.example.org",
        "a b c d e f",
        "I am at no. 7",
        "\\ | & ! : * ' % _ #m1 %abc @",
    ),
]
FIXED = [
    *("北", "京市", "朝阳区", "会议 北京", "区 会", "東京", "ガラス", "ｶﾞ", "안녕", "서울 사무", "สวัส", "ครับ ยิน"),
    *("привет", "ПРИВ", "москве встреча", "ё", "ёж", "καλημέρα", "οδος", "ΟΔΌΣ", "हिन्दी", "न्द", "שלום", "פגי", "مرحبا"),
    *(
        "١٢",
        "right",
        "🎉",
        "🎉🎊",
        "👍",
        "👍🏽",
        "✅",
        "e-mail",
        "oo-ba",
        "3.14",
        "a.b",
        "c++",
        "f#",
        "100%",
        "'quoted'",
    ),
    *('"twice"', "café", "full", "finance", "strasse", "STRAßE", "istanbul", "zx9zx", "9qq", "qq", "z", "x", "a" * 50),
    *(
        "aaa.b@",
        "@",
        ".",
        "-",
        "@sub.",
        "lee+tag@",
        "user@host",
        "host.example user",
        "a",
        "e",
        "in",
        "an",
        "i am",
        "b c",
    ),
    *("\\", "|", "!", "*", "'", "%", "_", "#m1", "%abc", "", " ", "nothinglikeit", "hello nothinglikeit", "example"),
]


def _columns(*values: Any) -> tuple[Any, ...]:
    return values


@dataclass(frozen=True, slots=True)
class Store:
    """One engine with the mail in it."""

    rt: Runtime
    mailbox: Mailbox
    folder_ids: dict[str, FolderId]

    async def list_page(self, folder: str, limit: int, offset: int) -> Any:
        folder_id, account_id = self.folder_ids[folder], self.mailbox.account_id
        return await self.rt.db.read(listing.list_page, account_id, folder_id, _columns, limit=limit, offset=offset)

    async def search(self, text: str, folder: str | None, limit: int, offset: int) -> Any:
        folder_id = None if folder is None else self.folder_ids[folder]
        owner = (self.mailbox.account_id, self.mailbox.id)
        found = await self.rt.db.read(search.search, *owner, text, folder_id=folder_id, limit=limit, offset=offset)
        hits = [(hit.row.folder_id - min(self.folder_ids.values()), hit.row.uid, hit.snippet) for hit in found.items]
        return found.total, found.is_complete, hits


def mail() -> list[bytes]:
    """What is stored: made messages in many scripts, and the small ones of the corpus where it is there."""
    made = [
        eml(f"subject {n} {text[:20]}", f"{text} number{n}").replace(b"\r\n\r\n", b"\r\nMIME-Version: 1.0\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n", 1)
        for n, text in enumerate(MADE * 2)
    ]  # fmt: skip
    return made + [sample.raw for sample in corpus.samples() if len(sample.raw) < 20_000][:150]


@contextlib.asynccontextmanager
async def filled(config: Config, database: str) -> AsyncIterator[Store]:
    where = config.data_dir / ("sqlite" if database == SQLITE else "postgres")
    own = replace(config, data_dir=where, storage=replace(config.storage, database=database))
    async with assemble.open_runtime(own) as rt:
        mailbox = await make_mailbox(rt)
        there = await rt.db.read(folders.list_folders, mailbox.account_id, mailbox.id)
        store = Store(rt, mailbox, {one.name: one.id for one in there})
        for number, raw in enumerate(mail()):
            at = FIRST + timedelta(minutes=number)
            owner = (mailbox.account_id, mailbox.id)
            await storing.store(rt, *owner, FOLDERS[number % len(FOLDERS)], raw, received_at=at)
        catch_up_index(rt)
        await _move_and_remove(store)
        catch_up_index(rt)
        yield store


async def _move_and_remove(store: Store) -> None:
    owner = (store.mailbox.account_id, store.mailbox.id)
    inbox = await store.rt.db.read(messages.list_page, owner[0], store.folder_ids["INBOX"], limit=20)
    moved = [MessageId(row.id) for row in inbox[:5]]
    await store.rt.db.write(messages.move, *owner, moved, store.folder_ids["Sent"], now=FIRST)
    await store.rt.db.write(messages.remove, *owner, [MessageId(row.id) for row in inbox[5:9]], now=FIRST)


def asked() -> list[tuple[str, str | None, int, int]]:
    """Searches: those of ``FIXED``, and parts of what is stored."""
    chance = random.Random(7)
    texts = [words.fold(one.decode("utf-8", "replace").partition("\r\n\r\n")[2])[:2_000] for one in mail()]
    texts = [text for text in texts if len(text) > 20]
    parts = []
    for _ in range(90):
        text = chance.choice(texts)
        start = chance.randrange(len(text) - 2)
        parts.append(text[start : start + chance.choice((1, 2, 3, 4, 5, 8, 13, 30))])
    pages = ((50, 0), (3, 0), (5, 4), (50, 2), (0, 0))
    return [(text, chance.choice((None, None, *FOLDERS)), *chance.choice(pages)) for text in [*FIXED, *parts]]


LISTED = [(folder, limit, offset) for folder in FOLDERS for limit in (0, 1, 7, 50) for offset in (0, 3, 40, 10_000)]


async def test_the_same_answers(config: Config, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "LOOKED_AT_SECONDS", 60.0)  # the one bound that depends on the machine
    searches = asked()
    assert len(searches) + len(LISTED) >= 200
    async with filled(config, SQLITE) as sqlite, filled(config, postgres_url) as postgres:
        hits = 0
        for one in searches:
            found = await sqlite.search(*one)
            assert await postgres.search(*one) == found, one
            hits += found[0] > 0
        for page in LISTED:
            assert await postgres.list_page(*page) == await sqlite.list_page(*page), page
        assert hits > len(searches) // 2
