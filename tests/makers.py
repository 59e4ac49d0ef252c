"""Builders: boring, valid things made through core functions; a test states only what it is about."""

from restante import ids
from restante.core import access, mailboxes, submission
from restante.core.contents import NewContent
from restante.core.delivery import Delivered, Target
from restante.core.mailboxes import Mailbox
from restante.core.submission import NewRecipient, NewSubmission, Submission
from restante.runtime import Runtime
from restante.services import provisioning, storing
from restante.storage import engine
from restante.storage.engine import Place

PASSWORD = "correct horse"
RETURN_PATH = b"Return-Path: <ada@example.org>\r\n"


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


async def arrive(
    rt: Runtime, mailbox: Mailbox, raw: bytes | None = None, *, sender: str = "ada@example.org", to: str = ""
) -> Delivered:
    """A message as it comes from elsewhere, into the INBOX."""
    data = eml() if raw is None else raw
    examined = storing.examine(data, sender, rt.config.storage.inline_bytes)
    target = Target(mailbox.account_id, mailbox.id, "INBOX", to or mailbox.address, RETURN_PATH)
    (delivered,) = await storing.deliver(rt, data, examined, [target], rt.clock.now())
    return delivered


def catch_up_index(rt: Runtime) -> None:
    """Have the search index hold all that was stored up to now."""
    engine.catch_up_index(Place(rt.config.data_dir, rt.config.storage.database_url))


async def refresh(rt: Runtime, mailbox: Mailbox) -> Mailbox:
    """The mailbox as it is now."""
    return await rt.db.read(mailboxes.get, mailbox.account_id, mailbox.id)


async def make_submission(
    rt: Runtime, mailbox: Mailbox, *to: str, raw: bytes | None = None, sender: str | None = None
) -> Submission:
    """A message of a mailbox on its way to ``to`` (default: one recipient elsewhere); its jobs wait."""
    data = eml(sender=mailbox.address) if raw is None else raw
    examined = storing.examine(data, mailbox.address, rt.config.storage.inline_bytes)
    assert examined.raw is not None
    content = NewContent(len(data), examined.sha256, examined.structure, examined.raw, None, None)
    public_id = ids.new_uuid()
    new = NewSubmission(
        public_id=public_id,
        queue_id=public_id.hex[-15:],
        return_token=public_id.hex,
        source="api",
        principal=access.of_mailbox(mailbox),
        sender=mailbox.address,
        envelope_sender=mailbox.address if sender is None else sender,
        recipients=tuple(NewRecipient("to", address) for address in to or ("eve@far.example",)),
        subject="hello",
        message_id_header=f"<{public_id}@example.test>",
        size_bytes=len(data),
    )
    return await rt.db.write(submission.accept, mailbox.account_id, new, content, examined.summary, rt.clock.now())
