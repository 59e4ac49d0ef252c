"""Storing: what lists keep of a message's texts."""

from restante.core import messages
from restante.ids import FolderId
from restante.runtime import Runtime
from restante.storage import engine
from restante.storage.engine import Place
from tests.makers import make_mailbox, make_message

ODD = b"\r\n".join(
    (
        b"From: =?utf-8?b?QQBi?= <a@example.org>",
        b"To: =?utf-8?b?AEI=?= <b@example.test>",
        b"Message-ID: <a\0b@example.org>",
        b"Subject: =?utf-8?b?eAB5?= a\0b =?utf-8?b?7aCA?=",
        b"Content-Type: text/plain; charset=utf-8",
        b"",
        b"za\0b\xed\xa0\x80",
    )
)


async def test_a_message_with_nuls_is_kept_and_found(rt: Runtime) -> None:
    mailbox = await make_mailbox(rt)
    stored = await make_message(rt, mailbox, ODD)
    place = Place(rt.config.data_dir, rt.config.storage.database_url)
    engine.catch_up_index(place)
    found = await rt.db.read(messages.get, mailbox.account_id, stored.message_id)
    assert "x00" not in repr(found)
    assert found.subject.startswith("x y a b")
    assert found.folder_id == FolderId(stored.folder_id)
