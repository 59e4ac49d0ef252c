"""Mail addresses: address lists of header fields, and the form that routing compares (RFC 5322 §3.4, RFC 5890).

Real headers break every rule of the grammar, so reading is tolerant: names with commas, stray brackets, unclosed
comments and quotes still give what a person would read. ``normalise`` is strict: what it lets through can be routed.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Literal

import idna
import msgspec

from restante.errors import Invalid
from restante.mail import headers

MAX_ADDRESSES = 1_000  # of one field
MAX_NAME = 1_000  # characters of a display name
KEPT_ADDRESSES = 2_048  # whose routing form is remembered; and as many short fields
SHORT_FIELD = 100  # bytes
MAX_EMAIL = 1_000  # characters of an address in a header; routing takes 254


class Address(msgspec.Struct, frozen=True, gc=False):
    """A display name and an address, both decoded; ``email`` is "" when there is nothing like one."""

    name: str
    email: str

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>" if self.name else self.email


class Item(msgspec.Struct, frozen=True, gc=False):
    """One element of an address list as written: a mailbox, or the opening or end of a group.

    ``name`` still has its encoded words; ``local`` is without its quotes; a group's opening
    has the group's ``name``.
    """

    kind: Literal["mailbox", "group", "end"]
    name: str
    local: str
    domain: str
    quoted: bool = False

    @property
    def email(self) -> str:
        """The address as one string, quoted where its sender did and it has to be."""
        local = quote_local(self.local) if self.quoted else self.local
        return f"{local}@{self.domain}" if self.domain else local


_ATEXT = r"[^\s\"(),:;<>@\[\]\\\x00-\x20\x7f]"
# What nearly every field looks like: "Name" <local@domain>, Name <local@domain>, local@domain. Possessive: linear.
_SIMPLE = re.compile(
    r"\s*+(?:(?:\"([^\"\\]*+)\"|([^\"<>@,:;()\[\]\\]*+))\s*+<\s*+("
    + _ATEXT
    + r"{1,512}+)@([^\s\"(),:;<>@\[\]\\]{1,512}+)\s*+>"
    r"|(" + _ATEXT + r"{1,512}+)@([^\s\"(),:;<>@\[\]\\]{1,512}+))\s*+(?:,|$)"
)
_TOKENS = re.compile(
    r"(?P<word>=\?[^?\s]{1,80}\?[bBqQ]\?[^?\s]*\?=)"
    r"|\"(?P<quoted>(?:[^\"\\]|\\.)*+)(?P<close>\"?)"
    r"|(?P<text>[^\"(),:;<>@\[\]\\\s=]++)"
    r"|(?P<space>\s++)"
    r"|(?P<one>.)",
    re.DOTALL,
)
# The same once a quote was seen that never closes: quotes are no longer special.
_TOKENS_UNQUOTED = re.compile(
    r"(?P<word>=\?[^?\s]{1,80}\?[bBqQ]\?[^?\s]*\?=)|(?P<text>[^\"(),:;<>@\[\]\\\s=]++)|(?P<space>\s++)|(?P<one>.)",
    re.DOTALL,
)
_PARENS = re.compile(r"[()]|\\.", re.DOTALL)
_UNESCAPE = re.compile(r"\\(.)", re.DOTALL)
_UNQUOTED = re.compile(_ATEXT + r"++")  # with dots anywhere


def parse(value: bytes) -> tuple[Address, ...]:
    """The mailboxes of an address field, groups flattened, names decoded; at most ``MAX_ADDRESSES``. Never raises."""
    return _parse_short(value) if len(value) <= SHORT_FIELD else _parse(value)


def _parse(value: bytes) -> tuple[Address, ...]:
    line = headers.text(value)
    one = _SIMPLE.fullmatch(line)
    if one is not None and "=?" not in line:
        quoted, name, local, domain, bare_local, bare_domain = one.groups()
        if bare_local is not None:
            return (Address("", f"{bare_local}@{bare_domain}"[:MAX_EMAIL]),)
        name = _clean(name if quoted is None else quoted)
        return (Address(name[:MAX_NAME], f"{local}@{domain}"[:MAX_EMAIL]),)
    return tuple([decoded(item) for item in items(line) if item.kind == "mailbox"])


_parse_short = lru_cache(maxsize=KEPT_ADDRESSES)(_parse)  # a mailbox's mail nearly always says the same To


def decoded(item: Item) -> Address:
    """A mailbox item as people read it: encoded words of its name decoded."""
    name = item.name
    email = item.email
    if not item.domain and "=?" in (written := name or email):
        # the whole of "Name <address>" in one encoded word, seen from web forms
        name, email = headers.words(written), ""
        inner = next((one for one in items(name) if one.kind == "mailbox" and one.domain), None)
        if inner is not None:
            name, email = inner.name, inner.email
    elif "=?" in name:
        name = headers.words(name)
    if "=?" in email:
        email = headers.words(email)
    return Address(name[:MAX_NAME], email[:MAX_EMAIL])


def items(value: str) -> list[Item]:
    """The elements of an unfolded address list in order, encoded words not decoded. Linear, never raises."""
    found: list[Item] = []
    at = 0
    size = len(value)
    while at < size and len(found) < MAX_ADDRESSES:
        match = _SIMPLE.match(value, at)
        if match is None:
            break
        quoted, name, local, domain, bare_local, bare_domain = match.groups()
        if bare_local is not None:
            found.append(Item("mailbox", "", bare_local, bare_domain))
        else:
            found.append(Item("mailbox", _clean(name if quoted is None else quoted), local, domain))
        at = match.end()
    if at < size and len(found) < MAX_ADDRESSES:
        found += _Reader(value, at, MAX_ADDRESSES - len(found)).read()
    return found


def _clean(name: str) -> str:
    if "  " in name or "\t" in name:
        name = " ".join(name.split())
    return name.strip()


class _Reader:
    """The tolerant reader for what ``_SIMPLE`` does not match: one pass, no look-back."""

    def __init__(self, value: str, start: int, limit: int) -> None:
        self.value = value
        self.at = start
        self.limit = limit
        self.found: list[Item] = []
        self.tokens = _TOKENS
        self.comments_end = True  # False once a comment was seen that never closes: later brackets are text
        self.carry = ""  # "Doe" of the unquoted "Doe, John <j@x>"
        self.in_group = False
        self._reset()

    def _reset(self) -> None:
        self.words: list[str] = []  # display name, or the address when no <> comes
        self.plain: list[str] = []  # the same as written for an address, None-like blanks removed
        self.angle: list[str] | None = None  # inside or after <>
        self.closed = False
        self.comment = ""
        self.at_sign = False  # an unquoted @ outside <>

    def read(self) -> list[Item]:
        value, size = self.value, len(self.value)
        while self.at < size and len(self.found) < self.limit:
            match = self.tokens.match(value, self.at)
            if match is None:
                break
            self.at = match.end()
            kind = match.lastgroup
            token = match[0]
            if kind == "close":
                if match["close"]:
                    self._add(token, _unquote(match["quoted"]))
                else:
                    self.tokens = _TOKENS_UNQUOTED
                    self.at = match.start() + 1
            elif kind == "one":
                self._special(token)
            elif kind == "space":
                self._add("", " ")
            else:
                self._add(token, token)
        if len(self.found) < self.limit:
            self._finish(last=True)
        if self.in_group:
            self.found.append(Item("end", "", "", ""))
        return self.found

    def _add(self, written: str, shown: str) -> None:
        if self.angle is not None and not self.closed:
            self.angle.append(written)
            return
        self.words.append(shown)
        self.plain.append(written)

    def _special(self, sign: str) -> None:
        inside = self.angle is not None and not self.closed
        if sign in '()"':
            if sign == "(" and self.comments_end:
                self._comment()
            else:
                self._add("", " ")
        elif sign == "<" and not inside:
            self.angle = []
            self.closed = False
        elif sign == ">":
            self.closed = self.angle is not None
        elif sign == "," and not (inside and self._route_follows()):
            self._finish(last=False)
        elif sign == ":" and not inside and not self.in_group and not self.at_sign:
            self._open_group()
        elif sign == ";" and not inside:
            self._finish(last=True)
            if self.in_group:
                self.found.append(Item("end", "", "", ""))
                self.in_group = False
        else:
            if sign == "@" and not inside:
                self.at_sign = True
            self._add(sign, sign)

    def _route_follows(self) -> bool:
        # <@relay1,@relay2:joe@example.org> (RFC 5322 §4.4): the comma belongs to the route
        return bool(self.angle) and self.angle is not None and self.angle[0] == "@"

    def _open_group(self) -> None:
        name = _clean("".join(self.words))
        self._reset()
        self.found.append(Item("group", name, "", ""))
        self.in_group = True

    def _comment(self) -> None:
        depth = 1
        for match in _PARENS.finditer(self.value, self.at):
            if match[0] == "(":
                depth += 1
            elif match[0] == ")":
                depth -= 1
                if depth == 0:
                    self.comment = self.comment or self.value[self.at : match.start()][:MAX_NAME]
                    self.at = match.end()
                    return
        self.comments_end = False
        self._add("", " ")

    def _finish(self, *, last: bool) -> None:
        name = _clean("".join(self.words))
        comment = _clean(_UNESCAPE.sub(r"\1", self.comment))
        written = "".join(self.plain)
        angle = self.angle
        self._reset()
        if angle is not None:
            address = "".join(angle)
            if self.carry:
                name = f"{self.carry}, {name}" if name else self.carry
                self.carry = ""
            self._emit(name or comment, address)
            return
        if "@" in written:
            self._flush()
            for one, rest in _bare(written, name):
                self._emit(comment or rest, one)
        elif name:
            self._flush()
            self.carry = name
            if last:
                self._flush()

    def _flush(self) -> None:
        if self.carry:
            # one word without an @ is a local user, several are somebody's name
            self._emit("", self.carry) if " " not in self.carry else self._emit(self.carry, "")
            self.carry = ""

    def _emit(self, name: str, address: str) -> None:
        local, domain, quoted = _cut(address)
        if name or local or domain:
            self.found.append(Item("mailbox", name[: MAX_NAME * 8], local[:MAX_EMAIL], domain[:MAX_EMAIL], quoted))


def _bare(written: str, name: str) -> list[tuple[str, str]]:
    """Addresses without <> and the words beside them: "Joe joe@example.org" keeps Joe as the name."""
    pieces = name.split()
    if len(pieces) < 2 or '"' in written or any(one[0] in ".@" or one[-1] in ".@" for one in pieces):
        return [(written, "")]  # with the blanks of "jdoe @ example . org" (RFC 5322 §4.4) gone
    rest = " ".join(one for one in pieces if "@" not in one)
    return [(one, rest) for one in pieces if "@" in one]


def _cut(address: str) -> tuple[str, str, bool]:
    """(local, domain, was it quoted) of an address as written; a source route goes (RFC 5322 §4.4)."""
    address = address.strip()
    if address.startswith("@") and ":" in address:
        address = address.rpartition(":")[2]
    local, at, domain = address.rpartition("@")
    if not at:
        local, domain = domain, ""
    local = local.strip()
    quoted = local.startswith('"') and local.endswith('"') and len(local) > 1
    return _unquote(local[1:-1]) if quoted else local, domain.strip().rstrip("."), quoted


def _unquote(text: str) -> str:
    return _UNESCAPE.sub(r"\1", text) if "\\" in text else text


def quote_local(local: str) -> str:
    """A local part as it is written in an address: quoted where it has to be (RFC 5322 §3.4.1; dots never need it)."""
    if _UNQUOTED.fullmatch(local):
        return local
    return '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'


# --- the routing form -------------------------------------------------------------------------------------------------

_PLAIN_DOMAIN = re.compile(
    r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_LITERAL = re.compile(r"\[(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|ipv6:[0-9a-f:.]{2,45})\]")
_ROUTED_LOCAL = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*")


@lru_cache(maxsize=KEPT_ADDRESSES)
def normalise(address: str) -> str:
    """The form of an address that routing compares: local part case-folded and NFC, domain as lower-case A-labels.

    A quoted local part loses quotes it does not need; dots may stand anywhere (docomo.ne.jp gave out such addresses).
    Raises Invalid (``invalid_address``, ``invalid_domain``): no ``@``, a part empty or too long (64 and 253 octets,
    RFC 5321 §4.5.3.1), control characters, a domain that IDNA 2008 refuses.
    """
    if len(address) > 1_000:
        raise Invalid("the address is too long", code="invalid_address")
    local, at, domain = address.strip().rpartition("@")
    if not at:
        raise Invalid("an address needs an @", code="invalid_address")
    lowered = local.lower()
    if not _ROUTED_LOCAL.fullmatch(lowered):
        lowered = _routed_local(local)
    if len(lowered) > 64 or (not lowered.isascii() and len(lowered.encode("utf-8", "surrogatepass")) > 64):
        raise Invalid("the part before the @ is too long", code="invalid_address")
    return f"{lowered}@{normalise_domain(domain)}"


_NAMED = re.compile(r"(?P<name>[^<>]*)<(?P<email>[^<>]*)>")


def parse_one(text: str) -> Address:
    """One address that a person or a program gives us: ``a@b.example`` or ``Name <a@b.example>``, nothing else.

    Strict, unlike ``parse``: Invalid (``invalid_address``, ``invalid_domain``) for lists, control characters, comments,
    and everything that ``normalise`` refuses. The address is as given but for white space around it.
    """
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in text[: MAX_NAME + MAX_EMAIL]):
        raise Invalid("an address has no control characters", code="invalid_address")
    if len(text) > MAX_NAME + MAX_EMAIL:
        raise Invalid("the address is too long", code="invalid_address")
    found = _NAMED.fullmatch(text.strip())
    name, email = (found["name"].strip(), found["email"].strip()) if found else ("", text.strip())
    if len(name) > 1 and name.startswith('"') and name.endswith('"'):
        name = _unquote(name[1:-1])
    normalise(email)
    return Address(name, email)


def _routed_local(local: str) -> str:
    if local.startswith('"') and local.endswith('"') and len(local) > 1:
        local = _unquote(local[1:-1])
    elif not _UNQUOTED.fullmatch(local):
        raise Invalid("the part before the @ is not valid", code="invalid_address")
    if not local or any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in local):
        raise Invalid("the part before the @ is not valid", code="invalid_address")
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", local).casefold())
    return quote_local(folded)


def normalise_domain(domain: str) -> str:
    """A domain as lower-case A-labels without the final dot; an address literal stays.

    Raises Invalid (``invalid_domain``).
    """
    lowered = domain.strip().lower().removesuffix(".")
    if _PLAIN_DOMAIN.fullmatch(lowered):
        return lowered
    if lowered.isascii():
        if _LITERAL.fullmatch(lowered):
            return lowered
        raise Invalid("the domain is not valid", code="invalid_domain")
    if len(lowered) > 253:
        raise Invalid("the domain is too long", code="invalid_domain")
    try:
        encoded = idna.encode(lowered, uts46=True, transitional=False).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError, ValueError) as error:
        raise Invalid("the domain is not valid", code="invalid_domain") from error
    if not _PLAIN_DOMAIN.fullmatch(encoded):
        raise Invalid("the domain is not valid", code="invalid_domain")
    return encoded


def split(address: str) -> tuple[str, str]:
    """(local, domain) of a normalised address."""
    local, _, domain = address.rpartition("@")
    return local, domain


def without_tag(local: str) -> str:
    """A normalised local part without its ``+tag`` (RFC 5233's subaddress)."""
    if local.startswith('"'):  # inside quotes a plus is a letter like any other
        return local
    return local.partition("+")[0] or local
