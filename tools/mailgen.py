"""Distinct messages made from corpus text, for load: cheap to hold (pieces are shared) and cheap to send (one join)."""

import base64
import email
import html
import itertools
import quopri
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from tools import corpus

FALLBACK = """\
The committee met on Thursday and agreed that the harbour should stay open during the winter, provided that the lights
are repaired before November. Anna offered to write to the office in Rotterdam about the invoices still outstanding.

Please find the minutes attached. The second delivery arrived two days late because the road over the pass was closed;
the driver has our number now and will call an hour ahead. Nobody has to wait at the gate any more.

Können wir den Termin auf nächsten Dienstag verschieben? Das Café am Markt hat ab zehn geöffnet, dort ist es ruhiger.

Your order has been packed and leaves the warehouse tonight. You can change the address until six in the evening; after
that the carrier decides. Returns are free for thirty days, and a printed label lies inside the parcel.

We have measured the new pump under load for a week. It draws less current than the old one, makes less noise, and the
pressure at the far end of the line stays constant even while the garden is being watered.

Gracias por su mensaje. El equipo de soporte responderá en las próximas horas; mientras tanto puede consultar la página
de preguntas frecuentes o llamar al número que aparece en su factura.
"""
NAMES = (
    "Anna Boris Chloé Dmitri Eva Farid Grace Hugo Ines Jonas Keiko Lena Marco Nora Oskar Priya Quinn Rosa Sven Tomás"
)
TLDS = ("example.com", "example.net", "example.org", "mail.example.com", "lists.example.net")
PARAGRAPHS, INVENTED_WORDS = 4_000, 60_000
SMALLEST_BYTES, LARGEST_BYTES = 2_000, 20_000


@dataclass(frozen=True, slots=True)
class Mail:
    """One message ready to be sent: ``envelope`` are the pipelined commands, ``pieces`` joined are the bytes.

    No line of the bytes starts with a dot, so the form on the wire is the message itself (RFC 5321 §4.5.2).
    """

    key: str  # unique; also in the Message-ID and the subject
    sender: str
    recipient: str
    envelope: bytes
    pieces: tuple[bytes, ...]

    @property
    def raw(self) -> bytes:
        """The message's bytes."""
        return b"".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph in the two forms that a message holds it in, quoted-printable."""

    words: tuple[str, ...]
    text: bytes
    html: bytes


@cache
def paragraphs() -> tuple[Paragraph, ...]:
    """4,000 paragraphs: sentences of the corpus's text parts (of a built-in text when it is absent), rearranged.

    Every tenth word is replaced by one of 60,000 made from the corpus's syllables, few of them common and most of
    them rare, because a corpus of this size has a hundredth of the words that a store of a million mails has.
    """
    rng = random.Random(5)
    blocks = list(dict.fromkeys(itertools.chain(_split(FALLBACK), *(_split(text) for text in _texts()))))
    sentences = [sentence for block in blocks for sentence in re.split(r"(?<=[.;!?]) ", block)]
    invented = invented_words()
    made = []
    for _ in range(PARAGRAPHS):
        words = " ".join(rng.choice(sentences) for _ in range(rng.randrange(1, 6))).split(" ")
        for place in range(rng.randrange(10), len(words), 10):
            words[place] = invented[int(len(invented) * rng.random() ** 3)]
        made.append(_paragraph(" ".join(words)))
    return tuple(made)


@cache
def invented_words() -> tuple[str, ...]:
    """60,000 words that look like language and are in no dictionary; the first ones are the most used."""
    rng = random.Random(6)
    starts = [*"bcdfghjklmnprstvwz", "br", "ch", "dr", "fl", "gr", "kl", "pr", "qu", "sch", "sp", "st", "tr"]
    syllables = [start + vowel + end for start in starts for vowel in "aeiou" for end in ("", "n", "r", "s", "l")]
    found: dict[str, None] = {}
    while len(found) < INVENTED_WORDS:
        found["".join(rng.choice(syllables) for _ in range(rng.choice((2, 3, 3, 4))))] = None
    return tuple(found)


def _texts() -> Iterator[str]:
    for sample in corpus.samples():
        if len(sample.raw) > 200_000:
            continue
        for part in email.message_from_bytes(sample.raw).walk():
            if part.get_content_type() not in ("text/plain", "text/html") or part.is_multipart():
                continue
            payload = part.get_payload(decode=True)
            if isinstance(payload, bytes):
                text = payload.decode("utf-8", "ignore")
                yield re.sub(r"<[^>]*>", " ", text) if part.get_content_subtype() == "html" else text


def _split(text: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        flat = " ".join(re.sub(r"[^\w\s.,;:!?'()/@-]", " ", block).split())
        words = flat.split(" ")
        if 60 <= len(flat) <= 1_500 and max(map(len, words)) < 40 and sum(w.isalpha() for w in words) * 2 > len(words):
            yield flat


def _quoted(text: str) -> bytes:
    encoded = quopri.encodestring(text.encode()).replace(b"\n", b"\r\n")
    return re.sub(rb"(?m)^\.", b"=2E", encoded)


def _paragraph(text: str) -> Paragraph:
    words = tuple(word for word in text.split(" ") if word.isalpha() and len(word) > 3)
    form = f'<p style="margin:0 0 1em 0;font-family:sans-serif">{html.escape(text)}</p>\n'
    return Paragraph(words or ("note",), _quoted(text + "\n\n"), _quoted(form))


@cache
def _binary_blocks() -> tuple[bytes, ...]:
    rng = random.Random(7)
    return tuple(
        b"".join(base64.b64encode(rng.randbytes(57)) + b"\r\n" for _ in range(24)) for _ in range(64)
    )  # 1,872 bytes each


class Generator:
    """An endless source of distinct messages; the same ``seed`` and ``run`` give the same messages."""

    def __init__(
        self,
        seed: int = 1,
        *,
        run: str = "a",
        recipients: Sequence[str] = ("box@example.test",),
        sender: str | None = None,
        sizes: tuple[int, int] = (SMALLEST_BYTES, LARGEST_BYTES),
    ) -> None:
        self._smallest, self._largest = sizes
        self._rng = random.Random(f"{seed}/{run}")
        self._run = run
        self._seed = seed
        self._count = 0
        self._recipients = recipients
        self._sender = sender
        self._paragraphs = paragraphs()
        self._names = NAMES.split()

    def take(self, count: int) -> list[Mail]:
        """The next ``count`` messages."""
        return [self.next() for _ in range(count)]

    def next(self) -> Mail:
        """The next message: plain, alternative, or with an attachment; 2 to 20 KB, smaller ones more often."""
        rng = self._rng
        self._count += 1
        key = f"{self._run}{self._seed}.{self._count}"
        sender = f"{rng.choice(self._names).lower()}{rng.randrange(2_000)}@{rng.choice(TLDS)}"
        sender = self._sender or sender.encode("ascii", "ignore").decode()
        recipient = self._recipients[self._count % len(self._recipients)]
        size = int(self._smallest * (self._largest / self._smallest) ** (rng.random() ** 1.3))
        chosen = rng.random()
        head = self._head(key, sender, recipient)
        if chosen < 0.3:
            pieces = self._plain(size)
        elif chosen < 0.85:
            pieces = self._alternative(size, key)
        else:
            pieces = self._mixed(size, key)
        envelope = f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode()
        return Mail(key, sender, recipient, envelope, (head, *pieces))

    def _head(self, key: str, sender: str, recipient: str) -> bytes:
        rng = self._rng
        words = rng.choice(self._paragraphs).words
        subject = " ".join(rng.choice(words) for _ in range(rng.randrange(2, 7)))
        name = rng.choice(self._names)
        day, hour, minute = rng.randrange(1, 29), rng.randrange(24), rng.randrange(60)
        header = (
            f"Received: from relay{rng.randrange(90)}.example.net (192.0.2.{rng.randrange(255)})\r\n"
            f"\tby out.example.org with ESMTPS id {rng.randrange(1 << 48):012x};\r\n"
            f"\tFri, {day} Nov 2026 {hour:02}:{minute:02}:07 +0000\r\n"
            f"From: {_encoded(name)} <{sender}>\r\nTo: <{recipient}>\r\n"
            f"Subject: {_encoded(subject)} {key}\r\n"
            f"Message-ID: <{key}.{rng.randrange(1 << 40):x}@{sender.partition('@')[2]}>\r\n"
            f"Date: Fri, {day:02} Nov 2026 {hour:02}:{minute:02}:06 +0000\r\n"
            "MIME-Version: 1.0\r\nX-Mailer: Letterbox 4.2\r\n"
        )
        return header.encode()

    def _fill(self, size: int, form: str) -> list[bytes]:
        pieces = [
            _quoted(f"Reference {self._run}{self._rng.randrange(1 << 32):08x}: {self._rng.choice(self._names)}\n\n")
        ]
        total = 0
        while total < size:
            piece: bytes = getattr(self._rng.choice(self._paragraphs), form)
            pieces.append(piece)
            total += len(piece)
        return pieces

    def _plain(self, size: int) -> list[bytes]:
        return [_TEXT, *self._fill(size - 600, "text")]

    def _alternative(self, size: int, key: str) -> list[bytes]:
        mark = f"alt-{key}".encode()
        return [
            b'Content-Type: multipart/alternative; boundary="%s"\r\n\r\n--%s\r\n' % (mark, mark),
            _TEXT,
            *self._fill((size - 900) * 2 // 5, "text"),
            b"--%s\r\n" % mark,
            _HTML,
            *self._fill((size - 900) * 3 // 5, "html"),
            b"--%s--\r\n" % mark,
        ]

    def _mixed(self, size: int, key: str) -> list[bytes]:
        mark = f"mix-{key}".encode()
        blocks = max(1, (size // 2) // 1_872)
        name = self._rng.choice(self._rng.choice(self._paragraphs).words).encode("ascii", "ignore") or b"scan"
        return [
            b'Content-Type: multipart/mixed; boundary="%s"\r\n\r\n--%s\r\n' % (mark, mark),
            *self._alternative(size // 2, key),
            b"--%s\r\n" % mark,
            b'Content-Type: application/pdf; name="%s.pdf"\r\nContent-Transfer-Encoding: base64\r\n'
            b'Content-Disposition: attachment; filename="%s.pdf"\r\n\r\n' % (name, name),
            *(self._rng.choice(_binary_blocks()) for _ in range(blocks)),
            b"--%s--\r\n" % mark,
        ]


_TEXT = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
_HTML = b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"


def _encoded(text: str) -> str:
    """As an unstructured header value: encoded words for what is not ASCII (RFC 2047 §2).

    A space between two encoded words is not part of the value (§6.2), so it goes into the first of them.
    """
    words = text.split(" ")
    shown = []
    for word, following in itertools.zip_longest(words, words[1:], fillvalue=""):
        if word.isascii():
            shown.append(word)
        else:
            inner = word if following.isascii() else f"{word} "
            shown.append(f"=?utf-8?B?{base64.b64encode(inner.encode()).decode()}?=")
    return " ".join(shown)
