"""Header fields: splitting, unfolding, encoded words, parameters (RFC 5322 §2.2, RFC 2047, RFC 2231, RFC 2183).

Everything is linear in the size of its input and bounded: a field's value is cut at ``MAX_VALUE_BYTES``, an entity's
header at ``MAX_HEADER_BYTES`` and ``MAX_FIELDS``. Raw 8-bit values are read as UTF-8, else as Windows-1252.
"""

import binascii
import re
from urllib.parse import unquote_to_bytes

from restante.mail import charset

MAX_HEADER_BYTES = 1 << 20  # of one entity; what lies behind is body-less header junk and is not looked at
MAX_FIELDS = 10_000
MAX_VALUE_BYTES = 64 << 10
MAX_WORDS = 4_000  # encoded words of one value; later ones stay as they are written
MAX_PARAMETERS = 200

Field = tuple[bytes, bytes]  # name as written, value still folded

# A field, or a line that is none (without a name). Possessive: linear.
_FIELD = re.compile(rb"(?:([^\s:]{1,200}+):)?([^\n]*+(?:\n[ \t][^\n]*+)*+)\n")
_CONTROLS = re.compile("[\x00-\x1f\x7f]")
_WORD = re.compile(r"=\?([^?\s]{1,80})\?([bBqQ])\?")
_Q_ESCAPE = re.compile(rb"=([0-9A-Fa-f]{2})")
_PARAMETER = re.compile(r'[;\s]*+([^\s=;"]{1,100})\s*=\s*(?:"((?:[^"\\]|\\.)*)"?|([^;"]*))[^;]*', re.DOTALL)
_SKIP = re.compile(r"[;\s]*+[^;]*+;")
_FOREIGN = re.compile(rb"[^A-Za-z0-9+/]+")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_COMMENT = re.compile(r"\([^()]*\)\s*$")
_SEGMENT = re.compile(r"([^*]+)(?:\*(\d{1,3}))?(\*)?$")
_TOKEN = re.compile(r"[^\s/;,\"()<>@]+/[^\s/;,\"()<>@]+")


def fields(block: bytes) -> list[Field] | None:
    """The fields of a header without its blank line; None when a line is none, or when they are too many."""
    if block.count(b"\n") >= MAX_FIELDS:
        return None
    found: list[Field] = _FIELD.findall((block.replace(b"\r\n", b"\n") if b"\r" in block else block) + b"\n")
    for name, _ in found:
        if not name:
            return None
    if len(block) > MAX_VALUE_BYTES:
        return [(name, value[:MAX_VALUE_BYTES]) for name, value in found]
    return found


def is_name(name: bytes) -> bool:
    """True for what may stand before a field's colon (RFC 5322 §2.2), raw 8-bit tolerated."""
    return 0 < len(name) <= 200 and b" " not in name and b"\t" not in name and b"\n" not in name


def _one_line(value: str) -> str:
    """``value`` stripped, control characters as spaces."""
    value = value.strip()
    return value if value.isprintable() else _CONTROLS.sub(" ", value)


def text(value: bytes) -> str:
    """A field's value on one line as text, encoded words left as they are: line ends vanish (RFC 5322 §2.2.3)."""
    if b"\n" in value:
        value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    line = charset.guess(value if len(value) <= MAX_VALUE_BYTES else value[:MAX_VALUE_BYTES]).strip()
    return line if line.isprintable() else _CONTROLS.sub(" ", line)


def decode(value: bytes) -> str:
    """A field's value as people read it: unfolded, encoded words and 8-bit bytes decoded (RFC 2047 §6)."""
    result = text(value)
    return words(result) if "=?" in result else result


def words(value: str) -> str:
    """``value`` with its encoded words decoded; white space between two of them vanishes (RFC 2047 §6.2).

    Neighbours of one charset are joined before they are decoded: real senders split characters between words.
    """
    if "=?" not in value:
        return value
    out: list[str] = []
    pending: list[bytes] = []  # bytes of neighbouring words in ``label``
    label = ""
    at = 0  # what is before it is written or pending
    count = 0
    begin = value.find("=?")
    while begin >= 0 and count < MAX_WORDS:
        head = _WORD.match(value, begin)
        if head is None:
            begin = value.find("=?", begin + 2)
            continue
        end = value.find("?=", head.end())
        if end < 0:
            break
        count += 1
        gap = value[at:begin]
        this = head[1].partition("*")[0].lower()  # RFC 2231 §5: charset*language
        if pending and (gap.strip() or this != label):
            out.append(charset.decode(b"".join(pending), label))
            pending.clear()
        if gap and (gap.strip() or at == 0):
            out.append(gap)
        label = this
        pending.append(_word_bytes(head[2], value[head.end() : end], label))
        at = end + 2
        begin = value.find("=?", at)
    if pending:
        out.append(charset.decode(b"".join(pending), label))
    out.append(value[at:])
    return _one_line("".join(out))


def _word_bytes(kind: str, encoded: str, label: str) -> bytes:
    if encoded.isascii():
        data = encoded.encode("ascii")
    else:  # raw letters inside an encoded word: back to what they are in its charset
        data = encoded.encode(charset.codec_name(label) or "utf-8", "replace")
    if kind in "bB":
        return base64_junk(data)
    if b"_" in data:
        data = data.replace(b"_", b" ")
    return _Q_ESCAPE.sub(lambda found: bytes((int(found[1], 16),)), data) if b"=" in data else data


def base64_junk(data: bytes) -> bytes:
    """base64 decoded whatever it looks like: foreign bytes skipped, missing padding added.

    Padding ends it (RFC 2045 §6.8).
    """
    try:
        return binascii.a2b_base64(data)
    except binascii.Error:
        clean = _FOREIGN.sub(b"", data)
        if len(clean) % 4 == 1:  # six bits make no byte
            clean = clean[:-1]
        return binascii.a2b_base64(clean + b"==="[: -len(clean) % 4])


def content_type(value: bytes | None, default: str = "text/plain") -> tuple[str, tuple[tuple[str, str], ...]]:
    """Media type in lower case and its decoded parameters; what is no type reads as ``text/plain`` (RFC 2045 §5.2)."""
    if value is None:
        return default, ()
    line = text(value)
    head, _, tail = line.partition(";")
    head = head.strip()
    if not _TOKEN.fullmatch(head):
        found = _TOKEN.match(head)
        if found is None:  # a bare "text", "html" or nothing at all, seen from old robots
            return "text/plain", parameters(tail)
        tail = line[found.end() :]  # a semicolon is missing: "multipart/mixed boundary=x"
        head = found[0]
    return head.lower(), parameters(tail) if tail else ()


def disposition(value: bytes) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Disposition type in lower case and its decoded parameters (RFC 2183 §2)."""
    head, semicolon, tail = text(value).partition(";")
    kind = _COMMENT.sub("", head).strip().lower()
    if "=" in kind:  # "filename=x" without a type: RFC 2183 §2.8 treats unknown kinds as attachment
        return "attachment", parameters(f"{head};{tail}")
    return kind.split(" ")[0] or "attachment", parameters(tail) if semicolon else ()


def parameters(value: str) -> tuple[tuple[str, str], ...]:
    """Decoded parameters of a structured field, names in lower case, in order (RFC 2045 §5.1, RFC 2231).

    Encoded words inside a value are decoded too: against RFC 2047 §5, but Outlook and many others write them. What
    has a charset and percent escapes of its own (RFC 2231 §4) means what it says.
    """
    found: list[tuple[str, str]] = []
    extended = False
    at = 0
    while at < len(value) and len(found) < MAX_PARAMETERS:
        match = _PARAMETER.match(value, at)
        if match is None:
            skip = _SKIP.match(value, at)
            if skip is None:
                break
            at = skip.end()
            continue
        name, quoted, plain = match.groups()
        if quoted is not None:
            content = _ESCAPED.sub(_unescape, quoted) if "\\" in quoted else quoted
        else:
            content = plain.strip()
            if content.endswith(")"):
                content = _COMMENT.sub("", content).rstrip()
        if "*" in name:
            extended = True
        found.append((name.lower(), content))
        at = match.end()
    if extended:
        return _join(found)
    return tuple([(name, words(content) if "=?" in content else content) for name, content in found])


def _unescape(found: re.Match[str]) -> str:
    # Windows paths come unescaped: only what may need a backslash loses it.
    return found[1] if found[1] in '"\\' else found[0]


def _join(pairs: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """RFC 2231 §3 and §4: continuations put together, charset and percent escapes (else encoded words) decoded.

    The extended form wins over a plain twin (RFC 6266 §4.3 says so for the same syntax).
    """
    plain: dict[str, str] = {}
    segments: dict[str, dict[int, tuple[str, bool]]] = {}
    for name, content in pairs:
        found = _SEGMENT.match(name) if "*" in name else None
        if found is None:
            plain.setdefault(name, words(content))
            continue
        base, number, star = found.groups()
        segments.setdefault(base, {}).setdefault(int(number or 0), (content, star is not None))
    for base, parts in segments.items():
        content = _assemble(parts)
        plain[base] = content if any(escaped for _, escaped in parts.values()) else words(content)
    return tuple(plain.items())


def _assemble(parts: dict[int, tuple[str, bool]]) -> str:
    label: str | None = None
    out: list[str] = []
    pending = bytearray()
    for number in range(min(parts), min(parts) + len(parts)):
        if number not in parts:
            break
        content, escaped = parts[number]
        if not escaped:
            if pending:
                out.append(charset.decode(bytes(pending), label))
                pending.clear()
            out.append(content)
            continue
        if not out and not pending and label is None and content.count("'") >= 2:
            label, _, content = content.split("'", 2)
        pending += unquote_to_bytes(content)
    if pending:
        out.append(charset.decode(bytes(pending), label))
    return _one_line("".join(out))
