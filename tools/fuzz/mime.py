"""The MIME scanner and everything that reads its result: parts, texts, attachments, IMAP values, the kept form."""

from collections.abc import Hashable

from restante.mail import imap_values, message, structure
from tools import corpus

SENTINEL = (
    b"From: =?utf-8?Q?J=C3=B6rg?= <j@example.net>\r\nTo: a@example.test\r\nSubject: =?utf-8?B?w6kgb25l?=\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\ntext\r\n'
    b'--b\r\nContent-Type: application/pdf; name="a.pdf"\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERg==\r\n--b--\r\n'
)


class Mime:
    """Never raises, stays within its bounds, keeps offsets inside the bytes, and remembers nothing."""

    name = "mime"
    largest_bytes = 4_096
    dictionary = (
        *(b"Content-Type: multipart/mixed; boundary=b\r\n", b"Content-Type: multipart/alternative; boundary=\"b\"\r\n"),
        *(b"Content-Type: message/rfc822\r\n", b"Content-Type: text/html; charset=utf-16\r\n", b"Content-Type: text/plain\r\n"),
        *(b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: quoted-printable\r\n"),
        *(b"Content-Transfer-Encoding: x-uuencode\r\n", b"Content-Disposition: attachment; filename=x\r\n", b"\r\n\r\n"),
        *(b"--b\r\n", b"--b--\r\n", b"\r\n--b\r\n", b"\n--b\n", b"--", b"boundary=", b"\r\n", b"\n", b"\r", b"\t", b"\r\n "),
        *(b"=?utf-8?B?", b"=?utf-8?Q?", b"?=", b"=C3=A9", b"w6k=", b"begin 644 x\n", b"`\nend\n", b"<table><tr><td>"),
        *(b"charset=iso-2022-jp", b"charset=utf-7", b"charset=\"", b"\x1b$B", b"\x00", b"\xff\xfe", b"&#0;", b"<style>"),
        *(b"filename*0*=utf-8''a%C3", b"filename*1=b", b"Subject: ", b"References: <a@b> <c@d>\r\n", b"<!--", b"]]>", b"("),
    )

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
        len(fields) if len(fields) < 30 else 30,
        len(parsed.from_),
        len(parsed.to) if len(parsed.to) < 5 else 5,
        parsed.date is None,
        parsed.subject[:2],
    )
    return behaviour, (kept, values, fields, names, wire)
