"""The shared mail corpus, read in place, and what independent parsers say about each message.

``messages()`` yields every message; ``compare(sample)`` names each field on which our reading differs from *all* of
the standard library (compat32, policy.default) and fast-mail-parser; ``exceptions()`` are the explained differences of
``tests/corpus_exceptions.tsv`` (message, field, ours, theirs, reason with its RFC section).
"""

import csv
import email
import email._parseaddr  # type: ignore[import-not-found]
import email.header
import email.message
import email.policy
import email.utils
import hashlib
import io
import re
import tarfile
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import fast_mail_parser
import msgspec
import zstandard

from restante.mail import message as mail
from restante.mail import structure

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT.parent / "shared" / "corpus"
EXCEPTIONS = ROOT / "tests" / "corpus_exceptions.tsv"

_STRAY_LINE = re.compile(rb"\A[A-Za-z-]+ [^\r\n]*\r?\n(?=[A-Za-z-]+:)")
_FROM_LINE = re.compile(rb"(?:\A|\r?\n\r?\n)(From [^\r\n]+\r?\n)")


@dataclass(frozen=True, slots=True)
class Sample:
    """One message of the corpus; ``manifest`` is its row, None for the messages inside an mbox."""

    path: str
    raw: bytes
    manifest: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that we read unlike every independent parser that could read it."""

    field: str
    ours: str
    theirs: str


def available() -> bool:
    """True when the corpus lies beside the repository."""
    return (CORPUS / "MANIFEST.tsv").exists()


@lru_cache(maxsize=1)
def messages() -> tuple[Sample, ...]:
    """Every message of the corpus in manifest order; an mbox gives one sample a message (``path#number``)."""
    files: dict[tuple[str, str], bytes] = {}  # one archive holds two files of one name
    for archive in sorted(CORPUS.glob("*.tar.zst")):
        data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(archive.read_bytes())).read()
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar.getmembers():
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None:
                    raw = content.read()
                    files[member.name.removeprefix("./"), hashlib.sha256(raw).hexdigest()[:16]] = raw
    found: list[Sample] = []
    with (CORPUS / "MANIFEST.tsv").open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows, delimiter="\t", quoting=csv.QUOTE_NONE):
            raw = files[row["path"], row["sha256_16"]]
            if row["label"] == "mbox" or ".mbox" in row["path"]:
                found += [Sample(f"{row['path']}#{number}", one, None) for number, one in enumerate(split_mbox(raw), 1)]
            else:
                found.append(Sample(row["path"], raw, row))
    return tuple(found)


def split_mbox(raw: bytes) -> list[bytes]:
    """The messages of an mbox: a "From " line after a blank line begins one (RFC 4155)."""
    starts = [found.start(1) for found in _FROM_LINE.finditer(raw)]
    if not starts:
        return [raw]
    ends = [*starts[1:], len(raw)]
    out = []
    for start, end in zip(starts, ends, strict=True):
        out.append(raw[raw.index(b"\n", start) + 1 : end])
    return out


def exceptions() -> dict[tuple[str, str], dict[str, str]]:
    """(message, field) -> row of the explained differences."""
    with EXCEPTIONS.open(encoding="utf-8", newline="") as rows:
        return {
            (row["message"], row["field"]): row for row in csv.DictReader(rows, delimiter="\t", quoting=csv.QUOTE_NONE)
        }


# --- three readings of one message ------------------------------------------------------------------------------------

Reading = dict[str, Any]


def ours(raw: bytes) -> Reading:
    """What ``restante.mail`` reads, in the shape of the comparison."""
    message = mail.parse(raw)
    leaves = list(_leaves(message.root))
    return {
        "subject": squeeze(message.subject),
        **both("from", ((one.name, one.email) for one in message.from_)),
        **both("to", ((one.name, one.email) for one in message.to)),
        **both("cc", ((one.name, one.email) for one in message.cc)),
        "date": message.date,
        "message id": message.message_id,
        "types": [part.content_type for part in leaves],
        "names": [squeeze(part.filename) for part in leaves if part.filename],
        "bytes": [digest(b"".join(mail.decoded(part, raw)), part.content_type) for part in leaves],
    }


def _leaves(part: structure.Part) -> Iterator[structure.Part]:
    children = part.children
    if len(children) == 1 and children[0].start == part.body_start and part.kind == "multipart":
        # a multipart without parts: we show its body as a text, other parsers as a multipart that is a leaf
        yield msgspec.structs.replace(children[0], content_type=part.content_type)
    elif children:
        for child in children:
            yield from _leaves(child)
    else:
        yield part


def stdlib(raw: bytes) -> Reading:
    """What the standard library's compat32 parser reads, its raw values decoded with ``email.header``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        message = email.message_from_bytes(
            _STRAY_LINE.sub(b"", raw)
        )  # it takes a stray first line for the end of the header
        leaves = [part for part in message.walk() if not part.is_multipart()]
        date = email.utils.parsedate_tz(re.sub(r"\([^()]*\)", " ", field(message, "date")))
        return {
            "subject": squeeze(decode(field(message, "subject"))),
            **both("from", addresses(message, "from")),
            **both("to", addresses(message, "to")),
            **both("cc", addresses(message, "cc")),
            "date": email.utils.mktime_tz(date) if date else None,
            "message id": message_id(field(message, "message-id")),
            "types": [part.get_content_type() for part in leaves],
            "names": [squeeze(decode(filename(part))) for part in leaves if filename(part)],
            "bytes": [digest(payload(part), part.get_content_type()) for part in leaves],
        }


def rust(raw: bytes) -> Reading | None:
    """What fast-mail-parser reads; None when it refuses the message."""
    try:
        message = fast_mail_parser.parse_email(raw, mode="lazy")
        tree = fast_mail_parser.parse_email_tree(raw, mode="lazy")
    except fast_mail_parser.ParseError:
        return None
    leaves = [part for part in fast_mail_parser.walk(tree) if not part.children]
    reading: Reading = {
        "subject": squeeze(message.subject or ""),
        **both("from", ((one.display_name or "", one.address) for one in ([message.from_] if message.from_ else []))),
        **both("to", ((one.display_name or "", one.address) for one in message.to)),
        **both("cc", ((one.display_name or "", one.address) for one in message.cc)),
        "date": message.date_parsed,
        "message id": message_id(
            next((value for name, value in message.headers.items() if name.lower() == "message-id"), "")
        ),
        "types": [part.content_type or "text/plain" for part in leaves],
        "names": [squeeze(part.filename) for part in leaves if part.filename],
        "bytes": [digest(content(part), part.content_type) for part in leaves],
    }
    for one in message.warnings:  # fields it could not read are no reading
        for name in ("from", "to", "cc"):
            if one.kind == "address-unparseable" and one.detail.lower().startswith(f"the {name} header"):
                reading.pop(name), reading.pop(f"{name} names")
    return reading


def count_parts(raw: bytes) -> int | None:
    """Parts of a message by fast-mail-parser, containers included."""
    try:
        return sum(1 for _ in fast_mail_parser.walk(fast_mail_parser.parse_email_tree(raw, mode="lazy")))
    except fast_mail_parser.ParseError:
        return None


def modern(raw: bytes) -> Reading:
    """What the standard library's strict header parsers (policy.default) read; only for headers of a sane size."""
    reading: Reading = {}
    if raw.find(b"\n\n") > 20_000 or raw.find(b"\r\n\r\n") > 20_000:
        return reading
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        message = email.message_from_bytes(raw, policy=email.policy.default)
        for name in ("from", "to", "cc"):
            try:
                found = message[name]
                pairs = [(one.display_name, one.addr_spec) for one in found.addresses] if found is not None else []
            except (AttributeError, IndexError, LookupError, ValueError, RecursionError):
                continue
            reading |= both(name, pairs)
        try:
            reading["subject"] = squeeze(str(message["subject"] or ""))
            reading["date"] = message["date"].datetime if message["date"] is not None else None
        except (AttributeError, IndexError, LookupError, ValueError, TypeError):
            pass
    return reading


def compare(sample: Sample) -> list[Difference]:
    """Each field on which our reading is neither the standard library's nor fast-mail-parser's."""
    mine = ours(sample.raw)
    readings = (stdlib(sample.raw), rust(sample.raw), modern(sample.raw))
    found = []
    for name, value in mine.items():
        theirs = [reading[name] for reading in readings if reading is not None and name in reading]
        mine_now = value
        if name == "date":
            mine_now = None if value is None else int(value.timestamp())
            theirs = [
                moment if moment is None or isinstance(moment, int | float) else moment.timestamp() for moment in theirs
            ]
        if theirs and mine_now not in theirs:
            found.append(Difference(name, repr(mine_now), " | ".join(map(repr, theirs))))
    return found


def cut(value: str) -> str:
    """A value as the table of exceptions holds it: one line, at most 200 characters."""
    return " ".join(value.split())[:200]


# --- details of the standard library's reading ------------------------------------------------------------------------


def squeeze(text: str) -> str:
    """White space and control characters as single spaces: parsers differ in what a fold leaves behind."""
    return " ".join(re.sub(r"[\x00-\x20\x7f]+", " ", text).split())


def digest(data: bytes, content_type: str) -> str:
    """Length and a short hash; of texts without regard to line ends, which the standard library's parser changes."""
    plain = data.replace(b"\r\n", b"\n")
    if content_type.startswith(("text/", "multipart/")):
        plain = plain.rstrip(b"\n")
    return f"{len(plain)}:{hashlib.sha256(plain).hexdigest()[:12]}"


def message_id(value: str | list[str]) -> str | None:
    """The first <id>, or the whole value as one."""
    value = "".join(value.split()) if isinstance(value, str) else "".join(value[0].split())
    found = re.search(r"<[^<>]+>", value)
    return found[0] if found else (f"<{value.strip('<>')}>" if value.strip("<>") else None)


def content(part: fast_mail_parser.PyLazyMimePart) -> bytes:
    try:
        return bytes(part.content or b"")
    except fast_mail_parser.ParseError:
        return b"refused"


def both(name: str, pairs: Iterable[tuple[str, str]] | None) -> Reading:
    """An address field as its addresses and its names: what has no @ is a name, wherever a parser puts it."""
    if pairs is None:
        return {}
    found = [pair for pair in pairs if not pair[1].startswith("@")]  # a bare domain is nobody
    return {
        name: [one if "@" in one else "" for _, one in found],
        f"{name} names": [squeeze(shown if "@" in one else shown or one) for shown, one in found],
    }


def field(message: email.message.Message, name: str) -> str:
    """The first field of a name, unfolded, raw bytes as UTF-8 or Windows-1252."""
    for key, value in message.raw_items():
        if key.lower() == name:
            return readable(str(value))
    return ""


def readable(value: str) -> str:
    data = value.encode("utf-8", "surrogateescape")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    return re.sub(r"\r?\n(?=[ \t])", "", text)


def decode(value: str) -> str:
    """Encoded words decoded with the standard library, neighbours of one charset joined first."""
    if "=?" not in value:
        return value
    try:
        pieces = email.header.decode_header(value)
        out = []
        for content, charset in pieces:
            if isinstance(content, str):
                out.append(content)
            elif charset is None:
                # decode_header gives plain text back in raw-unicode-escape
                out.append(content.decode("raw-unicode-escape"))
            else:
                out.append(content.decode(charset, "replace"))
        return "".join(out)
    except (LookupError, ValueError, email.header.HeaderParseError):  # type: ignore[attr-defined]
        return value


def addresses(message: email.message.Message, name: str) -> list[tuple[str, str]] | None:
    try:  # not getaddresses: newer Pythons answer nothing at all for what they find odd
        found = email._parseaddr.AddressList(field(message, name)).addresslist
    except RecursionError:
        return None
    return [(decode(display), one) for display, one in found if display or one]


def filename(part: email.message.Message) -> str:
    try:
        return readable(part.get_filename("") or "")
    except (UnicodeError, LookupError, ValueError, TypeError):
        return ""


def payload(part: email.message.Message) -> bytes:
    try:
        if "content-transfer-encoding" in part:  # white space around it is no part of it, but get_payload thinks so
            part.replace_header("content-transfer-encoding", str(part["content-transfer-encoding"]).strip())
        content = part.get_payload(decode=True)
    except (LookupError, ValueError):
        return b""
    return content if isinstance(content, bytes) else b""
