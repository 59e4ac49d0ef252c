"""Header values alone: encoded words, parameters, addresses, dates, identifiers, character sets."""

from collections.abc import Hashable

from restante.errors import Invalid
from restante.mail import address, charset, dates, headers, threads, words
from tools import corpus


class Header:
    """Nothing raises but what says so, and every text can be written as UTF-8."""

    name = "header"
    largest_bytes = 1_000

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._sentinel = _everything(b"=?utf-8?Q?J=C3=B6rg?= <j@example.net>, b@example.org; name*=utf-8''%C3%A9")

    def seeds(self) -> list[bytes]:
        """The header lines of the corpus that carry most syntax."""
        found = [b"attachment; filename=x", b"a@example.net", b"=?utf-8?Q?a?="]
        wanted = (b"from", b"to", b"subject", b"content-type", b"content-disposition", b"date", b"references")
        for sample in corpus.samples():
            for name, value in headers.fields(sample.raw[:8_192].replace(b"\r\n", b"\n").partition(b"\n\n")[0]) or ():
                if name.lower() in wanted and len(value) < 800:
                    found.append(value.strip())
        return list(dict.fromkeys(found))

    def run(self, data: bytes) -> Hashable:
        """The value read as every kind of header."""
        return _everything(data)[0]

    def check(self) -> None:
        """A known value reads as it did at first."""
        value = b"=?utf-8?Q?J=C3=B6rg?= <j@example.net>, b@example.org; name*=utf-8''%C3%A9"
        assert _everything(value) == self._sentinel

    def close(self) -> None:
        """Nothing is held."""


def _everything(data: bytes) -> tuple[Hashable, tuple[object, ...]]:
    text = headers.text(data)
    decoded = headers.decode(data)
    found = address.parse(data)
    kind, parameters = headers.content_type(data)
    disposition, more = headers.disposition(data)
    moment = dates.parse(text)
    identifiers = threads.ids(data)
    identifier = threads.message_id(data)
    subject = threads.base_subject(decoded)
    folded = words.fold(decoded)
    terms = words.words(folded)
    guessed = charset.guess(data)
    foreign = charset.decode(data, text[:40])
    assert len(found) <= address.MAX_ADDRESSES
    assert "\n" not in decoded
    assert "\r" not in decoded
    for value in (
        *(text, decoded, kind, disposition, subject, folded, guessed, foreign, identifier or "", *identifiers, *terms),
        *(part for pair in (*parameters, *more) for part in pair),
        *(part for one in found for part in (one.name, one.email)),
    ):
        value.encode()  # no lone surrogates
    try:
        routed: str | None = address.normalise(text)
    except Invalid:
        routed = None
    else:
        assert routed is not None
        assert address.normalise(routed) == routed, "an address has two routing forms"
    behaviour = (
        min(6, len(found)),
        tuple((bool(one.name), "@" in one.email) for one in found[:4]),
        kind if len(kind) < 20 else kind[:20],
        tuple(name[:8] for name, _ in parameters[:5]),
        moment is None,
        min(4, len(identifiers)),
        routed is None,
        decoded == text,
        decoded[:1],
    )
    return behaviour, (text, decoded, found, parameters, more, moment, identifiers, subject, folded, terms, foreign)
