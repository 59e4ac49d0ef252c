"""Writing header fields: folding, encoded words, addresses, parameters (RFC 5322 §2.2, 2047, 2231, 6532).

The one place where a value becomes header bytes. Every function returns whole lines ended by CRLF, and none of them can
be made to write a second field: a value is first *cleaned* (text that people write: controls and line separators become
spaces) or *refused* with ``Invalid`` (what machines write: addresses, identifiers, names of fields, media types).
Lines are at most 78 characters where the value has a place to fold (76 with encoded words, RFC 2047 §2) and at most 998
octets always. ASCII goes out as it is; everything else as encoded words, but for the local part of an address that has
no ASCII form (RFC 6532), so a composed header is ASCII unless it really needs SMTPUTF8.
"""

import re
import unicodedata
from binascii import b2a_base64
from collections.abc import Iterable, Sequence
from datetime import datetime
from urllib.parse import quote

from restante import errors
from restante.mail.address import Address, normalise_domain

CRLF = b"\r\n"
SOFT_LIMIT = 78  # RFC 5322 §2.1.1
ENCODED_LIMIT = 76  # RFC 2047 §2: lines with an encoded word
HARD_LIMIT = 998
NAME_LIMIT = 64  # of a field name that comes from outside
LONG_NAME = 40  # a longer field name may stand alone on its line
WORD_LIMIT = 75  # of one encoded word
PHRASE_LIMIT = 60  # longer display names become encoded words, which fold anywhere
LEAD_LIMIT = 8  # longer white space inside a value is encoded, not folded at
LONE_WORD_LIMIT = 900  # a longer run without a space becomes encoded words
ADDRESS_LIMIT = 320  # octets: 64 + "@" + 255 (RFC 5321 §4.5.3.1)
ID_LIMIT = 900
REFERENCES_LIMIT = 60
FILE_NAME_LIMIT = 255

_CONTROLS = (
    "\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029"  # all that any reader of lines takes for a line end, and more; not tab
)
_UNSAFE = re.compile(f"[\t{_CONTROLS}]+")
_REFUSED = re.compile(f"[{_CONTROLS}\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_BREAKS = re.compile("[\r\n][\r\n \t]*")
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ATOMS = re.compile(r"[!#$%&'*+/=?^_`{|}~0-9A-Za-z-]+(?: [!#$%&'*+/=?^_`{|}~0-9A-Za-z-]+)*")
_LOCAL = re.compile(r"[!#$%&'*+/=?^_`{|}~0-9A-Za-z\u00a0-\U0010ffff.-]+")
_QUOTED_LOCAL = re.compile(r'"(?:[ !#-\[\]-~\u00a0-\U0010ffff]|\\[ -~])*"')
_DOMAIN = re.compile(r"(?:[0-9A-Za-z_](?:[0-9A-Za-z_-]*[0-9A-Za-z_])?\.)*[0-9A-Za-z_](?:[0-9A-Za-z_-]*[0-9A-Za-z_])?")
_DOMAIN_LITERAL = re.compile(r"\[[0-9A-Za-z.:-]+\]")
_MESSAGE_ID = re.compile(r"<([!-;=?-~]+)>")
_BARE_ID = re.compile(r"[!-;=?-~]+")
_TOKEN = re.compile(r"[!#$%&'*+.^_`{|}~0-9A-Za-z-]+")
_MEDIA_TYPE = re.compile(r"\s*([!#$&^_.+0-9A-Za-z-]+)/([!#$&^_.+0-9A-Za-z-]+)\s*")
_MEDIA_PARAMETER = re.compile(r';\s*(?:([!#$&^_.+0-9A-Za-z-]+)\s*=\s*(?:([^\s;"\\]+)|"([^"\\]*)")\s*)?')
_PLAIN_FILE_NAME = re.compile(r"[!#-\[\]-~](?:[ !#-\[\]-~]{0,62}[!#-\[\]-~])?")
_WORD = re.compile(r"([ \t]+)([^ \t]+)")

_Q_SAFE = b" !*+-/0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # RFC 2047 §5 (3), and the space
_Q = {byte: chr(byte) if byte in _Q_SAFE else f"={byte:02X}" for byte in range(256)} | {0x20: "_"}
_WORD_OVERHEAD = len("=?utf-8?q??=")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def header(name: str, value: str) -> bytes:
    """One unstructured field for text that people write: cleaned, encoded where needed, folded.

    ``Invalid`` when the name is no field name. RFC 5322 §2.2.3, RFC 2047 §5 (1).
    """
    return _fold(require_name(name), _text_words(clean(value), len(name) + 2, SOFT_LIMIT - len("Subject: ")))


def raw_header(name: str, value: str, field: str) -> bytes:
    """One field whose value a program wrote: its ASCII words are kept as they are, long ones too.

    Refuses (``Invalid``, reported for ``field``) names that are no tokens and values with a control character, a line
    separator or a lone surrogate. Words that are not ASCII become encoded words.
    """
    require_name(name, field)
    if _REFUSED.search(value):
        raise invalid(field, f"{name}: a header value is one line without control characters")
    return _fold(name, _text_words(value.strip(" \t"), len(name) + 2, LONE_WORD_LIMIT))


def trace_header(name: str, value: str) -> bytes:
    """One trace field (Received, Return-Path, Delivered-To, Authentication-Results), folded at its spaces.

    The value stays as it is, UTF-8 included (RFC 6532); what could end the line is made harmless, never refused: line
    breaks become one space, other controls and lone surrogates ``?``; a run over 900 octets without a space is broken.
    """
    value = _LINE_BREAKS.sub(" ", value)
    value = _SURROGATE.sub("?", _UNSAFE.sub(_mask_controls, value)).strip(" \t")
    tokens = []
    for lead, word in _words(value):
        pieces = _hard_pieces(word)
        tokens.append((lead if len(lead) <= LEAD_LIMIT else " ", pieces[0]))
        tokens += [(" ", piece) for piece in pieces[1:]]
    return _fold(require_name(name), tokens)


def addresses(name: str, values: Sequence[Address], field: str) -> bytes:
    """One address field: ``Name <a@b>, c@d``, folded between addresses.

    Names are cleaned (controls become spaces, runs of spaces one). Addresses are refused (``Invalid`` for ``field``, or
    ``field.N`` when there are several) when they could not stand in a header; domains become A-labels.
    RFC 5322 §3.4, RFC 2047 §5 (3).
    """
    tokens = []
    for number, value in enumerate(values):
        where = field if len(values) == 1 else f"{field}.{number}"
        words = _phrase(clean(value.name))
        spec = address(value.email, where)
        words.append(f"<{spec}>" if words else spec)
        if number + 1 < len(values):
            words[-1] += ","
        tokens += [(" ", word) for word in words]
    return _fold(name, tokens)


def address(email: str, field: str) -> str:
    """The address as it stands in a header: the local part quoted if it must be, the domain as A-labels.

    ``Invalid`` for ``field`` unless it is local-part@domain without controls, spaces outside quotes or specials.
    RFC 5322 §3.4.1, RFC 6531 §3.3.
    """
    local, at, domain = email.rpartition("@")
    if not at or len(email) > ADDRESS_LIMIT:
        raise invalid(field, "an address has the form local@domain")
    if not email.isascii() and any(map(_odd, email)):
        raise invalid(field, "the address has a character that no address may have")
    if _LOCAL.fullmatch(local):
        if (
            local[0] == "." or local[-1] == "." or ".." in local
        ):  # seen from phones in Japan; RFC 5322 allows it in quotes
            local = f'"{local}"'
    elif not _QUOTED_LOCAL.fullmatch(local):
        raise invalid(field, "the part before @ is not a local part")
    spec = f"{local}@{_domain(domain, field)}"
    if len(spec.encode()) > ADDRESS_LIMIT:
        raise invalid(field, "the address is too long")
    return spec


def date(moment: datetime) -> str:
    """An aware datetime as RFC 5322 §3.3 writes it, in its own offset (``Invalid`` for a naive one)."""
    offset = moment.utcoffset()
    if offset is None:
        raise invalid("date", "the date has no time zone")
    minutes = int(offset.total_seconds() // 60)
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"
    day = f"{_DAYS[moment.weekday()]}, {moment.day:02d} {_MONTHS[moment.month - 1]} {moment.year:04d}"
    return f"{day} {moment.hour:02d}:{moment.minute:02d}:{moment.second:02d} {zone}"


def identifier(value: str, field: str) -> str:
    """A message or content id with its angle brackets, which ``value`` may lack.

    ``Invalid`` for ``field`` unless it is printable ASCII without spaces and brackets, at most 900 characters.
    """
    bare = value[1:-1] if value.startswith("<") and value.endswith(">") else value
    if len(bare) > ID_LIMIT or not _BARE_ID.fullmatch(bare):
        raise invalid(field, "an identifier is printable ASCII without spaces and angle brackets")
    return f"<{bare}>"


def references(name: str, values: Iterable[str]) -> bytes:
    """In-Reply-To or References: the ids that can stand in a header, the first and the last ones if there are too many.

    Ids come from other people's mail, so those that are none are left out instead of refused; b"" when none remains.
    RFC 5322 §3.6.4.
    """
    good = [value for value in values if len(value) <= ID_LIMIT and _MESSAGE_ID.fullmatch(value)]
    if len(good) > REFERENCES_LIMIT:
        good = good[:1] + good[1 - REFERENCES_LIMIT :]
    return _fold(name, [(" ", value) for value in good]) if good else b""


def structured(name: str, words: Iterable[str]) -> bytes:
    """One field of ASCII words that this package made itself, folded between them."""
    return _fold(name, [(" ", word) for word in words])


def media_type(value: str, field: str) -> tuple[str, list[str]]:
    """A Content-Type value as its lower-case type and its parameters, each ``name=value`` in normal form.

    ``Invalid`` for ``field`` unless it follows RFC 2045 §5.1 in printable ASCII.
    """
    found = _MEDIA_TYPE.match(value) if len(value) <= FILE_NAME_LIMIT and value.isascii() else None
    if not found or _REFUSED.search(value):
        raise invalid(field, "not a content type")
    parameters = []
    position = found.end()
    while position < len(value):
        parameter = _MEDIA_PARAMETER.match(value, position)
        if not parameter:
            raise invalid(field, "not a content type")
        position = parameter.end()
        if parameter[1]:
            inner = parameter[2] if parameter[3] is None else parameter[3]
            plain = _TOKEN.fullmatch(inner)
            parameters.append(f"{parameter[1].lower()}={inner}" if plain else f'{parameter[1].lower()}="{inner}"')
    return f"{found[1]}/{found[2]}".lower(), parameters


def file_name(name: str | None) -> list[str]:
    """The parameters of Content-Disposition that carry a file name.

    A plain name is one ``filename="..."``. Any other has its RFC 2231 form first and an ASCII fallback as the last
    parameter: readers that know both take the first, the rest find ``filename=``. Controls become ``_``; names are cut
    to 255 characters, keeping the extension, without spaces at their ends.
    """
    name = _shorten(_UNSAFE.sub("_", _without_surrogates(name or "")).strip(" "), FILE_NAME_LIMIT)
    if not name:
        return []
    if _PLAIN_FILE_NAME.fullmatch(name) and "=?" not in name:
        return [f'filename="{name}"']
    encoded = quote(name, safe="")
    plain = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    plain = re.sub(r"[^ !#-\[\]-~]|=(?=\?)", "_", plain).strip(" ") or "_"
    fallback = f'filename="{_shorten(plain, PHRASE_LIMIT)}"'
    if len(encoded) <= PHRASE_LIMIT:
        return [f"filename*=utf-8''{encoded}", fallback]
    pieces = _cut(encoded, "%", 50, 50)
    first = f"filename*0*=utf-8''{pieces[0]}"
    return [first, *(f"filename*{number}*={piece}" for number, piece in enumerate(pieces[1:], 1)), fallback]


def clean(text: str) -> str:
    """Text as one line: controls and line separators become a space, lone surrogates U+FFFD, spaces at the ends go.

    So do byte order marks: nobody sees them, and readers drop them where an encoded word begins.
    """
    return _UNSAFE.sub(" ", _without_surrogates(text).replace("\ufeff", "")).strip(" ")


def well_formed(text: str) -> bytes:
    """UTF-8 of any str: surrogate pairs are joined, lone surrogates become U+FFFD."""
    return _without_surrogates(text).encode()


def require_name(name: str, field: str = "headers") -> str:
    """The name itself if it is a token of at most 64 characters (narrower than RFC 5322), else ``Invalid``."""
    if len(name) > NAME_LIMIT or not _FIELD_NAME.fullmatch(name):
        raise invalid(field, f"{ascii(name[:NAME_LIMIT])[1:-1]}: not a header name")
    return name


def invalid(field: str, reason: str) -> errors.Invalid:
    """The error for one field that cannot be written."""
    return errors.Invalid(f"{field}: {reason}", details={field: reason})


# -- encoded words


def encoded_words(text: str, first: int = WORD_LIMIT) -> list[str]:
    """``text`` as RFC 2047 words of at most 75 characters, the first one of at most ``first``.

    Whole characters in each word (§5), UTF-8, Q or B for all of them, whichever is shorter; Q uses the phrase's set.
    """
    raw = text.encode()
    first = max(first, _WORD_OVERHEAD + 16)
    if len(raw) + 2 * len(raw.translate(None, _Q_SAFE)) <= (len(raw) + 2) // 3 * 4:
        pieces = _cut(raw.decode("latin-1").translate(_Q), "=", first - _WORD_OVERHEAD, WORD_LIMIT - _WORD_OVERHEAD)
        return [f"=?utf-8?q?{piece}?=" for piece in pieces]
    words = []
    start, room = 0, first
    while start < len(raw):
        end = start + (room - _WORD_OVERHEAD) // 4 * 3
        while end < len(raw) and raw[end] & 0xC0 == 0x80:
            end -= 1
        words.append(f"=?utf-8?b?{b2a_base64(raw[start:end], newline=False).decode()}?=")
        start, room = end, WORD_LIMIT
    return words


def _cut(encoded: str, mark: str, first: int, rest: int) -> list[str]:
    """Pieces of percent- or Q-encoded UTF-8, cut between characters."""
    pieces = []
    start, room = 0, first
    while start < len(encoded):
        end = start + room
        if end < len(encoded):
            end -= 1 if encoded[end - 1] == mark else 2 if encoded[end - 2] == mark else 0
            while encoded[end] == mark and encoded[end + 1] in "89AB":  # a continuation octet of UTF-8
                end -= 3
        pieces.append(encoded[start:end])
        start, room = end, rest
    return pieces


# -- words and lines


def _words(value: str) -> list[tuple[str, str]]:
    """(white space before, word) for each word of a stripped value; a space stands before the first."""
    return _WORD.findall(f" {value}")


def _text_words(value: str, column: int, longest: int) -> list[tuple[str, str]]:
    """Unstructured text ready to fold; from the first to the last word that needs it, all becomes encoded words."""
    tokens = _words(value)
    if len(value) <= LEAD_LIMIT and value.isascii() and "=?" not in value:
        return tokens
    lookalike = 0 <= value.find("=?") < value.rfind("?=")
    needy = [
        number
        for number, (lead, word) in enumerate(tokens)
        if len(lead) > LEAD_LIMIT or len(word) > longest or not word.isascii() or (lookalike and "=?" in word)
    ]
    if not needy:
        return tokens
    first, last = needy[0], needy[-1]
    if len(tokens[first][0]) > LEAD_LIMIT:  # the long white space itself is encoded, with the word before it
        first -= 1
    text = "".join(lead + word for lead, word in tokens[first : last + 1])[len(tokens[first][0]) :]
    words = encoded_words(text, ENCODED_LIMIT - column if first == 0 else WORD_LIMIT)
    return [
        *tokens[:first],
        (tokens[first][0], words[0]),
        *((" ", word) for word in words[1:]),
        *tokens[last + 1 :],
    ]


def _phrase(name: str) -> list[str]:
    """A cleaned display name as atoms, one quoted string, or encoded words (RFC 5322 §3.2.5)."""
    name = " ".join(filter(None, name.split(" ")))
    if not name:
        return []
    if name.isascii() and "=?" not in name:
        if _ATOMS.fullmatch(name):
            atoms = name.split(" ")
            if max(map(len, atoms)) <= PHRASE_LIMIT:
                return atoms
        quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
        if len(quoted) <= PHRASE_LIMIT:
            return [quoted]
    return encoded_words(name, ENCODED_LIMIT - len("Reply-To: "))


def _fold(name: str, tokens: Sequence[tuple[str, str]]) -> bytes:
    """``name:`` and the tokens, each with the white space before it, broken before white space."""
    limit = ENCODED_LIMIT if any(word.startswith("=?") for _, word in tokens) else SOFT_LIMIT
    lines = []
    line = f"{name}:"
    empty = True  # nothing stands behind the colon yet: not a place to fold (RFC 5322 §3.2.2 and readers that stumble)
    for lead, word in tokens:
        if len(line) + len(lead) + len(word) > limit and (not empty or len(name) > LONG_NAME):
            lines.append(line)
            line = lead + word
        else:
            line += lead + word
        empty = False
    lines.append(line)
    return "\r\n".join(lines).encode() + CRLF


def _hard_pieces(word: str) -> list[str]:
    """A word without spaces in pieces that fit the hard limit in UTF-8."""
    step = LONE_WORD_LIMIT if word.isascii() else LONE_WORD_LIMIT // 4
    return [word[start : start + step] for start in range(0, len(word), step)]


def _odd(char: str) -> bool:
    """Controls, surrogates, spaces, and the invisible, but for the two joiners that some scripts need."""
    return unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"} and char not in "\u200c\u200d"


def _domain(domain: str, field: str) -> str:
    if domain.isascii():
        if len(domain) <= 255 and (_DOMAIN.fullmatch(domain) or _DOMAIN_LITERAL.fullmatch(domain)):
            return domain
    elif len(domain) <= 255:
        try:
            return normalise_domain(domain)
        except errors.Invalid as error:
            raise invalid(field, "the domain is not an internationalised domain name") from error
    raise invalid(field, "the part after @ is not a domain")


def _shorten(name: str, limit: int) -> str:
    """A file name of at most ``limit`` characters that keeps a short extension."""
    if len(name) <= limit:
        return name
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension) > 16:
        return name[:limit]
    return stem[: limit - len(extension) - 1] + dot + extension


def _mask_controls(found: re.Match[str]) -> str:
    return "".join("\t" if char == "\t" else "?" for char in found[0])


def _without_surrogates(text: str) -> str:
    if _SURROGATE.search(text):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
