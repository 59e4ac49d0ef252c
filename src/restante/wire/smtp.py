"""The grammar of SMTP, without I/O, for the server and the client: commands, paths, replies, the DATA transparency.

RFC 5321 (§4.1 commands, §4.2 replies, §4.5.2 transparency), 1870 SIZE, 2034 enhanced codes, 3030 BDAT, 6152 8BITMIME,
6531 SMTPUTF8. Lines end in CR LF and in nothing else: a bare CR or LF anywhere is refused, because two servers that
disagree about where a line ends can be made to disagree about where a message ends.
"""

import io
import mmap
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from restante import errors

MAX_COMMAND_LINE = 4096  # RFC 5321 §4.5.3.1.4 asks for 512 and extensions add to it
MAX_ADDRESS = 320  # 64 + 1 + 255, RFC 5321 §4.5.3.1
MAX_PARAMETERS = 20
TERMINATOR = b"\r\n.\r\n"


class Reply(NamedTuple):
    """A reply: ``enhanced`` is empty where RFC 2034 §4 wants none (greeting, EHLO, 3xx)."""

    code: int
    enhanced: str
    text: str

    def encode(self) -> bytes:
        """The bytes of it."""
        return reply(self.code, self.enhanced, self.text)


class ProtocolError(Exception):
    """A command that cannot be understood; ``reply`` is the answer to it."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.reply = Reply(code, enhanced, text)


_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def reply(code: int, enhanced: str, *lines: str) -> bytes:
    """A reply of some lines (RFC 5321 §4.2.1); what is not printable ASCII becomes ``?``: no text adds a line."""
    prefix = f"{enhanced} " if enhanced else ""
    shown = [prefix + _UNPRINTABLE.sub("?", line)[:480] for line in lines]
    head = "".join(f"{code}-{line}\r\n" for line in shown[:-1])
    return f"{head}{code} {shown[-1]}\r\n".encode("ascii")


# --- commands -------------------------------------------------------------------------------------------------------


def split_command(line: bytes) -> tuple[bytes, bytes]:
    """A command line without its CR LF as (upper-case verb, rest)."""
    verb, _, rest = line.partition(b" ")
    return verb.upper(), rest.strip(b" ")


def text_of(rest: bytes) -> str:
    """A command's argument as text. Raises ProtocolError for control characters and for what is not UTF-8."""
    try:
        text = rest.decode("utf-8")
    except UnicodeDecodeError:
        raise ProtocolError(501, "5.5.2", "The argument is not valid UTF-8") from None
    if _CONTROL.search(text):
        raise ProtocolError(501, "5.5.2", "Control characters are not allowed")
    return text


_CONTROL = re.compile(r"[\x00-\x1f\x7f\x80-\x9f\u2028\u2029]")
_HELO_DOUBTFUL = re.compile(r"[^A-Za-z0-9._:\[\]-]")


def parse_helo(rest: bytes) -> str:
    """The client's name in EHLO or HELO: at least one word; doubtful characters become ``?`` (it is traced).

    Real clients send machine names with underscores, spaces and letters of their own language: the name decides
    nothing, so none of them is turned away.
    """
    if not rest:
        raise ProtocolError(501, "5.5.4", "Give your host name")
    return _HELO_DOUBTFUL.sub("?", rest.decode("utf-8", "replace").split(" ")[0])[:255]


_NO_PARAMETERS: Mapping[str, str] = MappingProxyType({})


class Mail(NamedTuple):
    """MAIL FROM: ``sender`` is "" for the null path; ``size_bytes`` is 0 if not declared."""

    sender: str
    size_bytes: int = 0
    body: str = "7BIT"
    smtputf8: bool = False
    parameters: Mapping[str, str] = _NO_PARAMETERS


class Rcpt(NamedTuple):
    """RCPT TO: ``recipient`` has no domain only for ``postmaster`` (RFC 5321 §4.1.1.3)."""

    recipient: str
    parameters: Mapping[str, str] = _NO_PARAMETERS


# The path that nearly every command has; everything else goes the long way. Dots may stand anywhere in a local part,
# against RFC 5321 §4.1.2: addresses such as ``name.@docomo.ne.jp`` were handed out by Japanese carriers and send mail.
_PLAIN_DOMAIN = rb"[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*(?:\.[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*)*"
_PLAIN_PATH = rb"<([A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@" + _PLAIN_DOMAIN + rb")>"
_PLAIN_MAIL = re.compile(rb"(?i:FROM): ?" + _PLAIN_PATH + rb"(?: SIZE=([0-9]{1,18}))?")
_PLAIN_RCPT = re.compile(rb"(?i:TO): ?" + _PLAIN_PATH)
_SIZE = re.compile(r"[0-9]{1,20}")


def parse_mail(rest: bytes, extensions: frozenset[str]) -> Mail:
    """Read what follows ``MAIL``; ``extensions`` are the parameters that were offered to this client, upper case.

    Raises ProtocolError with the answer: 501 for what does not parse, 555 for a parameter that was not offered
    (RFC 5321 §4.1.1.11), 553 5.6.7 for a non-ASCII address without SMTPUTF8 (RFC 6531 §3.5).
    """
    if len(rest) <= MAX_ADDRESS and (plain := _PLAIN_MAIL.fullmatch(rest)) and (not plain[2] or "SIZE" in extensions):
        return Mail(plain[1].decode("ascii"), int(plain[2] or 0))
    text = text_of(rest)
    sender, tail = _path(text, "FROM", "5.1.7", null_allowed=True)
    parameters = _parameters(tail, extensions)
    utf8 = "SMTPUTF8" in parameters
    if utf8 and parameters["SMTPUTF8"]:
        raise ProtocolError(501, "5.5.4", "SMTPUTF8 takes no value")
    if not utf8 and not sender.isascii():
        raise ProtocolError(553, "5.6.7", "A non-ASCII address needs SMTPUTF8")
    body = parameters.get("BODY", "7BIT").upper()
    if body not in ("7BIT", "8BITMIME"):
        raise ProtocolError(501, "5.5.4", "BODY is 7BIT or 8BITMIME")
    size = parameters.get("SIZE", "0")
    if not _SIZE.fullmatch(size):
        raise ProtocolError(501, "5.5.4", "SIZE is a number of bytes")
    return Mail(sender, int(size), body, utf8, parameters)


def parse_rcpt(rest: bytes, extensions: frozenset[str], *, smtputf8: bool = False) -> Rcpt:
    """Read what follows ``RCPT``; ``smtputf8`` says whether this transaction asked for it. Errors as ``parse_mail``."""
    if len(rest) <= MAX_ADDRESS and (plain := _PLAIN_RCPT.fullmatch(rest)):
        return Rcpt(plain[1].decode("ascii"))
    text = text_of(rest)
    recipient, tail = _path(text, "TO", "5.1.3", null_allowed=False)
    if not smtputf8 and not recipient.isascii():
        raise ProtocolError(553, "5.6.7", "A non-ASCII address needs SMTPUTF8")
    return Rcpt(recipient, _parameters(tail, extensions))


_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+"
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_DOTTED = re.compile(_ATOM.replace("[", "[.", 1))
_QUOTED = re.compile(r'"((?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*)"')
_ESCAPED = re.compile(r"\\(.)")
_LABEL = r"[A-Za-z0-9_\x80-\U0010ffff](?:[A-Za-z0-9_\x80-\U0010ffff-]{0,61}[A-Za-z0-9_\x80-\U0010ffff])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*|\[[A-Za-z0-9:.-]{{1,64}}\]")
# A source route is read and dropped, as RFC 5321 Appendix C says.
_ROUTE = re.compile(r"@[A-Za-z0-9_.\[\]:-]+(?:,@[A-Za-z0-9_.\[\]:-]+)*:")


def _path(text: str, keyword: str, status: str, *, null_allowed: bool) -> tuple[str, str]:
    """The address of ``FROM:<path>`` and what follows it. A path without angle brackets is refused (§4.1.2)."""
    head, colon, tail = text.partition(":")
    if not colon or head.strip().upper() != keyword:
        raise ProtocolError(501, "5.5.4", f"Say {keyword}:<address>")
    tail = tail.lstrip(" ")
    if not tail.startswith("<"):
        raise ProtocolError(501, status, "Put the address in angle brackets")
    if null_allowed and tail.startswith("<>"):
        return "", _after_path(tail, 2)
    position = 1
    if route := _ROUTE.match(tail, position):
        position = route.end()
    local, position = _local_part(tail, position, status)
    if tail.startswith(">", position) and local.lower() == "postmaster" and not null_allowed:
        return local, _after_path(tail, position + 1)
    domain = _DOMAIN.match(tail, position + 1)
    if not tail.startswith("@", position) or not domain or not tail.startswith(">", domain.end()):
        raise ProtocolError(501, status, "That is not a mail address")
    address = f"{local}@{domain[0]}"
    if len(address.encode()) > MAX_ADDRESS:
        raise ProtocolError(501, status, "The address is too long")
    return address, _after_path(tail, domain.end() + 1)


def _local_part(text: str, position: int, status: str) -> tuple[str, int]:
    """The local part in its plainest form: quotes go where nothing needs them (RFC 5321 §4.1.2), and its end."""
    if plain := _DOTTED.match(text, position):
        return plain[0], plain.end()
    quoted = _QUOTED.match(text, position)
    if not quoted or not quoted[1]:
        raise ProtocolError(501, status, "That is not a mail address")
    content = _ESCAPED.sub(r"\1", quoted[1])
    if _DOT_STRING.fullmatch(content):
        return content, quoted.end()
    escaped = content.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"', quoted.end()


def _after_path(text: str, position: int) -> str:
    tail = text[position:]
    if tail and not tail.startswith(" "):
        raise ProtocolError(501, "5.5.4", "A space separates the parameters")
    return tail


_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_VALUE = re.compile(r"[^=\x00-\x20\x7f]+")


def _parameters(tail: str, extensions: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    words = tail.split()
    if len(words) > MAX_PARAMETERS:
        raise ProtocolError(501, "5.5.4", "Too many parameters")
    for word in words:
        name, equals, value = word.partition("=")
        key = name.upper()
        if not _KEYWORD.fullmatch(name) or (equals and not _VALUE.fullmatch(value)) or key in found:
            raise ProtocolError(501, "5.5.4", "A parameter cannot be read")
        if key not in extensions:
            raise ProtocolError(555, "5.5.4", f"{key} is not offered here")
        found[key] = value
    return found


_BDAT = re.compile(rb"([0-9]{1,20})( +LAST)?", re.IGNORECASE)


def parse_bdat(rest: bytes) -> tuple[int, bool]:
    """The size in bytes of a BDAT chunk and whether it is the last (RFC 3030 §2)."""
    found = _BDAT.fullmatch(rest)
    if not found:
        raise ProtocolError(501, "5.5.4", "Say BDAT size [LAST]")
    return int(found[1]), bool(found[2])


# --- the message ----------------------------------------------------------------------------------------------------


class NewlineChecker:
    """Watches the bytes of a message, in chunks cut anywhere, for a CR without LF or an LF without CR."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        # Python's own watcher of line ends: one pass in C, where counting CRs and LFs takes three.
        self._seen = io.IncrementalNewlineDecoder(None, translate=False)

    @property
    def bare_newline(self) -> bool:
        """Whether there was one so far."""
        return self._seen.newlines not in (None, "\r\n")

    def feed(self, data: bytes) -> None:
        """Look at the next bytes of the message."""
        self._seen.decode(data.decode("latin-1"))

    def finish(self) -> None:
        """The message is complete: a CR at its very end is bare."""
        self._seen.decode("", final=True)


class DataDecoder:
    """Turns the bytes after DATA into the message (RFC 5321 §4.5.2), in chunks cut anywhere.

    Only CR LF . CR LF ends it. ``bare_newline`` turns True at the first CR without LF or LF without CR; the message
    must then be refused once its end is there: a laxer peer might have split it (and text after it would be commands).
    Work is linear: each byte is looked at once, up to four are held back between chunks.
    """

    __slots__ = ("_held", "_newlines", "_started", "finished")

    def __init__(self) -> None:
        self._held = b"\r\n"  # the line end of the DATA command itself: a dot may follow it at once
        self._newlines = NewlineChecker()
        self._started = False
        self.finished = False

    @property
    def bare_newline(self) -> bool:
        """Whether a CR without LF or an LF without CR was in what was decoded so far."""
        return self._newlines.bare_newline

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take the next chunk; return (decoded bytes of the message, what follows the end of it)."""
        if data and not (self._started or data.startswith(b".")) and self._held == b"\r\n":
            self._started, self._held = True, b""  # nearly always: what was held back is of no use, nothing is copied
        data = self._held + data
        dot = end = data.find(b"\r\n.")  # most messages have one such place: their end
        if dot >= 0 and not data.startswith(TERMINATOR, dot):
            end = data.find(TERMINATOR, dot)
        if end >= 0:
            self.finished = True
            body, rest = data[: end + 2], data[end + 5 :]
        else:
            keep = _held_back(data)
            body, self._held, rest = data[: len(data) - keep], data[len(data) - keep :], b""
        if not body:
            return b"", rest
        self._newlines.feed(body)
        if dot not in (-1, end):
            body = body.replace(b"\r\n.", b"\r\n")
        if not self._started:
            self._started = True
            body = body[2:]
        return body, rest


def _held_back(data: bytes) -> int:
    """How many last bytes may be the beginning of the terminator."""
    for length in (4, 3, 2, 1):
        if data.endswith(TERMINATOR[:length]):
            return length
    return 0


def encode_data(raw: bytes | mmap.mmap, chunk_bytes: int = 64 * 1024) -> Iterator[bytes]:
    """The bytes to send after DATA's 354: dots doubled, the last line ended, the terminator (RFC 5321 §4.5.2).

    Raises Invalid(code="bare_newline"), before the terminator, for a message with a bare CR or LF: the next server
    might split it.
    """
    checker = NewlineChecker()
    position, line_start = 0, True
    while position < len(raw):
        end = position + chunk_bytes
        end += raw[end - 1 : end] == b"\r"  # never between CR and LF
        data = raw[position:end]
        checker.feed(data)
        if checker.bare_newline:
            break
        stuffed = data.replace(b"\r\n.", b"\r\n..")
        yield b"." + stuffed if line_start and data.startswith(b".") else stuffed
        position, line_start = end, data.endswith(b"\r\n")
    checker.finish()
    if checker.bare_newline:
        raise errors.Invalid("the message has a bare CR or LF", code="bare_newline")
    yield b".\r\n" if line_start else TERMINATOR


# --- the client's half ------------------------------------------------------------------------------------------------

MAX_REPLY_BYTES = 64 * 1024  # of one reply, all its lines; RFC 5321 §4.5.3.1.5 gives a line 512
MAX_REPLY_LINES = 200
_REPLY_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?: +|$)")
_NOT_SENT = re.compile(r"[\r\n\x00]")


class ReplyError(Exception):
    """What the server says is no SMTP, or more of it than anybody needs; the connection is of no further use."""


class ReplyParser:
    """Cuts what a server sends into replies (RFC 5321 §4.2.1). Each byte is looked at once; the memory is bounded.

    Lenient where real servers differ: a line may end in a bare LF, the text may be missing, and of several lines with
    different codes the last decides.
    """

    __slots__ = ("_buffer", "_lines", "_size")

    def __init__(self) -> None:
        self._buffer = b""
        self._lines: list[bytes] = []
        self._size = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing of a further reply has come yet."""
        return not (self._buffer or self._lines)

    def feed(self, data: bytes) -> list[Reply]:
        """Take the next bytes; the replies that are complete now. Raises ReplyError."""
        lines = (self._buffer + data).split(b"\n")
        self._buffer = lines.pop()
        found = [reply for line in lines if (reply := self._take(line.removesuffix(b"\r")))]
        if self._size + len(self._buffer) > MAX_REPLY_BYTES:
            raise ReplyError("the reply is too long")
        return found

    def _take(self, line: bytes) -> Reply | None:
        match = _REPLY_LINE.fullmatch(line)
        if match is None:
            raise ReplyError("the reply is not SMTP")
        self._lines.append(match[3] or b"")
        self._size += len(line)
        if self._size > MAX_REPLY_BYTES or len(self._lines) > MAX_REPLY_LINES:
            raise ReplyError("the reply is too long")
        if match[2] == b"-":
            return None
        reply = _reply_of(int(match[1]), self._lines)
        self._lines = []
        self._size = 0
        return reply


def _reply_of(code: int, lines: list[bytes]) -> Reply:
    """A reply whose text has a line for each of its own, harmless to store and to show.

    The enhanced code counts only when its class is that of the code (RFC 2034 §3), and is taken off every line.
    """
    texts = [_CONTROL.sub("?", line.decode("utf-8", "replace")) for line in lines]
    first = _ENHANCED.match(texts[-1])
    if first is None or int(first[1]) != code // 100:
        return Reply(code, "", "\n".join(texts))
    enhanced = ".".join(first.groups())
    return Reply(code, enhanced, "\n".join(_ENHANCED.sub("", text, count=1) for text in texts))


def parse_ehlo(found: Reply) -> dict[str, str]:
    """What the answer to EHLO offers: upper-case keywords with their parameters (RFC 5321 §4.1.1.1)."""
    offered = {}
    for line in found.text.split("\n")[1:]:
        keyword, _, parameters = line.replace("=", " ", 1).strip().partition(" ")  # "AUTH=LOGIN" of old servers
        if keyword and (keyword.upper() not in offered):
            offered[keyword.upper()] = parameters.strip()
    return offered


def command(*words: str) -> bytes:
    """A command line. Raises Invalid(code="unsendable") for CR, LF or NUL in a word: nothing adds a command."""
    line = " ".join(words)
    if _NOT_SENT.search(line):
        raise errors.Invalid("a line end or NUL cannot be sent", code="unsendable")
    return line.encode("utf-8") + b"\r\n"


def mail_command(sender: str, *parameters: str) -> bytes:
    """``MAIL FROM:<sender>`` with its parameters; "" is the null path. Raises Invalid(code="unsendable")."""
    return command(f"MAIL FROM:<{_sendable(sender)}>", *parameters)


def rcpt_command(recipient: str) -> bytes:
    """``RCPT TO:<recipient>``. Raises Invalid(code="unsendable")."""
    return command(f"RCPT TO:<{_sendable(recipient)}>")


def _sendable(address: str) -> str:
    """An address between angle brackets: a bracket or blank would end it early, unless a quoted local part has it."""
    local = address.rpartition("@")[0]
    bare = address if not (local.startswith('"') and local.endswith('"')) else address.rpartition("@")[2]
    if any(sign in bare for sign in "<> ") or len(address.encode("utf-8", "replace")) > MAX_ADDRESS:
        raise errors.Invalid("that address cannot be sent", code="unsendable")
    return address
