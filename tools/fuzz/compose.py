"""Compose and read back: whatever a draft says, the bytes say the same and nothing more."""

import re
from collections.abc import Hashable
from datetime import UTC, datetime

from restante.errors import Invalid
from restante.mail import compose, message, structure
from restante.mail.address import Address
from tools.fuzz.mime import Mime

OWN = {"date", "from", "to", "cc", "reply-to", "sender", "subject", "message-id", "mime-version", "in-reply-to"} | {
    "references", "content-type", "content-transfer-encoding", "content-disposition", "x-fuzz"
}  # fmt: skip
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_DATE = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
_WHITE = re.compile(r"\s+")


class Compose:
    """No value of a draft adds a header, a part or a line that is too long; texts and files come back as given."""

    name = "compose"
    largest_bytes = 2_000

    def __init__(self, seed: int) -> None:
        self._mime = Mime(seed)
        self._count = 0

    def seeds(self) -> list[bytes]:
        """Fields of a draft, separated by 0xFE."""
        full = (
            *(
                b"Anna",
                b"a@example.net",
                b"Bob",
                b"bob@example.org",
                b"Subject \xc3\xa9",
                b"text\nof two lines",
                b"<p>html</p>",
            ),
            *(b"file.pdf", b"application/pdf", b"%PDF", b"value", b"<id@x>"),
        )
        return [b"\xfe".join(full), b"\xfe".join(full[:6]), b"\xfe" * 11]

    def run(self, data: bytes) -> Hashable:
        """A draft of the input's fields, composed and read back; U+2620 stands for a lone surrogate."""
        fields = (data.split(b"\xfe") + [b""] * 12)[:12]
        name, email, to_name, to, subject, text, html, filename, kind, _, value, reply = (
            field.decode("utf-8", "replace").replace("\u2620", "\ud83d") for field in fields
        )
        draft = compose.Draft(
            from_=Address(name, email or "a@example.net"),
            to=(Address(to_name, to or "b@example.net"),),
            subject=subject,
            text=text or None,
            html=html or None,
            attachments=(compose.Part(filename, kind or "application/pdf", fields[9]),) if filename else (),
            headers=(("X-Fuzz", value),),
            message_id="known@example.net",
            date=_DATE,
            in_reply_to=(reply,) if reply else (),
        )
        try:
            raw = compose.compose(draft)
        except Invalid as error:
            return "refused", *sorted(error.details)
        parsed = _judge(raw, draft)
        self._count += 1
        if self._count % 4 == 0:
            self._mime.run(raw)
        return (
            tuple(part.content_type for part in structure.walk(parsed.root)),
            parsed.root.encoding,
            parsed.subject[:2],
        )

    def check(self) -> None:
        """Reading has not changed."""
        self._mime.check()

    def close(self) -> None:
        """Nothing is held."""


def _judge(raw: bytes, draft: compose.Draft) -> message.Message:
    assert not _BARE.search(raw), "a bare CR or LF"
    assert b"\0" not in raw
    assert all(len(line) <= 998 for line in raw.split(b"\r\n")), "a line over 998 octets"
    parsed = message.parse(raw)
    names = [name.lower() for name, _ in message.headers(raw)]
    assert set(names) <= OWN, f"headers nobody asked for: {names}"
    assert len(names) == len(set(names)), f"a header twice: {names}"
    assert len(parsed.to) == len(parsed.from_) == 1, f"other addresses: {parsed.from_} {parsed.to}"
    assert len(parsed.attachments) == len(draft.attachments), "another number of attachments"
    for attachment, part in zip(parsed.attachments, draft.attachments, strict=True):
        assert b"".join(message.decoded(attachment, raw)) == part.content, "other bytes of an attachment"
    if draft.text is not None:
        found = message.text(parsed, raw)
        assert found is not None
        assert _plain(found) == _plain(draft.text), f"another text: {found!r}"
    return parsed


def _plain(text: str) -> str:
    return _WHITE.sub(" ", text.replace("\ud83d", "\ufffd")).strip()
