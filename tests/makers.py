"""Builders: boring, valid things made through core functions; a test states only what it is about."""

from restante.core import mailboxes
from restante.core.delivery import Delivered
from restante.core.mailboxes import Mailbox
from restante.runtime import Runtime
from restante.services import provisioning, storing
from restante.storage import engine
from restante.storage.engine import Place

PASSWORD = "correct horse"


def eml(subject: str = "hello", text: str = "It works.", *, sender: str = "Ada <ada@example.org>") -> bytes:
    """A small message in CRLF form."""
    lines = (f"From: {sender}", "To: Bob <bob@example.test>", f"Subject: {subject}", "Message-ID: <m1@example.org>")
    date = "Date: Sat, 21 Nov 2026 10:00:00 +0000"
    return ("\r\n".join((*lines, date, "", text)) + "\r\n").encode()


async def make_mailbox(rt: Runtime, address: str = "bob@example.test") -> Mailbox:
    """A mailbox without a password, its domain forced, in the account ``default``."""
    return await provisioning.add_mailbox(rt, address)


async def make_message(rt: Runtime, mailbox: Mailbox, raw: bytes | None = None, folder: str = "INBOX") -> Delivered:
    """A message in a folder."""
    return await storing.store(rt, mailbox.account_id, mailbox.id, folder, raw if raw is not None else eml())


def catch_up_index(rt: Runtime) -> None:
    """Have the search index hold all that was stored up to now."""
    engine.catch_up_index(Place(rt.config.data_dir, rt.config.storage.database_url))


async def refresh(rt: Runtime, mailbox: Mailbox) -> Mailbox:
    """The mailbox as it is now."""
    return await rt.db.read(mailboxes.get, mailbox.account_id, mailbox.id)
