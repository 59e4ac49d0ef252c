"""The MIME scanner and everything that reads its result: parts, texts, attachments, IMAP values, the kept form."""

from collections.abc import Hashable

from restante.mail import imap_values, message, structure
from tools import corpus

SENTINEL = (
    b"From: =?utf-8?Q?J=C3=B6rg?= <j@example.net>\r\nTo: a@example.test\r\nSubject: =?utf-8?B?w6kgb25l?=\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\ntext\r\n'
    b'--b\r\nContent-Type: application/pdf; name="a.pdf"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
    b"JVBERg==\r\n--b--\r\n"
)


class Mime:
    """Never raises, stays within its bounds, keeps offsets inside the bytes, and remembers nothing."""

    name = "mime"
    largest_bytes = 4_096

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._sentinel = _everything(SENTINEL)

    def seeds(self) -> list[bytes]:
        """The smaller messages of the corpus."""
        return [SENTINEL, *(sample.raw for sample in corpus.samples() if len(sample.raw) < 3_000)]

    def run(self, data: bytes) -> Hashable:
        """Everything that reception, search, the APIs and IMAP read of a message."""
        return _everything(data)[0]

    def check(self) -> None:
        """The known message reads as it did at first."""
        assert _everything(SENTINEL) == self._sentinel

    def close(self) -> None:
        """Nothing is held."""


def _everything(data: bytes) -> tuple[Hashable, tuple[object, ...]]:
    parsed = message.parse(data)
    kept = message.dump(parsed)
    assert message.load(kept) == parsed, "the kept form reads back differently"
    parts = list(structure.walk(parsed.root))
    assert len(parts) <= structure.MAX_PARTS + 1
    for part in parts:
        assert 0 <= part.start <= part.body_start <= part.end <= len(data), f"offsets outside of the bytes: {part}"
    values = (
        message.text(parsed, data),
        message.html(parsed, data),
        message.preview(parsed, data),
        message.searchable(parsed, data),
    )
    for value in values:
        if value is not None:
            value.encode()  # no lone surrogates
    preview = values[2] or ""
    assert len(preview) <= 200
    assert "\n" not in preview
    fields = message.headers(data)
    names = []
    for attachment in parsed.attachments:
        size = sum(len(chunk) for chunk in message.decoded(attachment, data))
        assert size == attachment.size_bytes, f"decoded {size} bytes, announced {attachment.size_bytes}"
        names.append(attachment.filename)
    wire = imap_values.envelope(parsed) + imap_values.bodystructure(parsed)
    assert b"\0" not in wire
    behaviour = (
        tuple(part.content_type for part in parts[:12]),
        tuple(attachment.encoding for attachment in parsed.attachments[:6]),
        tuple(value is None for value in values),
        min(30, len(fields)),
        len(parsed.from_),
        min(5, len(parsed.to)),
        parsed.date is None,
        parsed.subject[:2],
    )
    return behaviour, (kept, values, fields, names, wire)
