"""Which messages belong together: message ids, base subject, thread key (RFC 5322 §3.6.4, RFC 5256 §2.1)."""

import hashlib
import re

from restante.mail import headers

MAX_IDS = 200  # of one References field; the first and the latest are kept

_ID = re.compile(r"<([^<>]{1,998})>")
_FORWARD_TAIL = re.compile(r"\(fwd\)$", re.IGNORECASE)
_BLOB = re.compile(r"\[[^\[\]]{0,200}\]\s*")
# RFC 5256's "re", "fw", "fwd", and what clients in other languages put there.
_REPLY = re.compile(
    r"(?:re|fw|fwd|aw|wg|sv|vs|vb|antw|antwort|rif|ynt|odp|res|enc|tr|rv|r|i|回复|转发|答复|转寄|返信)\s*(?:\[[^\[\]]{0,200}\]|\(\d{1,4}\))?\s*[:：]\s*",
    re.IGNORECASE,
)


def ids(value: bytes | None) -> tuple[str, ...]:
    """The message ids of a field with their angle brackets, in order, each once; words with an @ when it has none."""
    if not value:
        return ()
    line = headers.text(value)
    found = _ID.findall(line)
    if not found:
        found = [word for word in line.strip("<>").split()[:MAX_IDS] if "@" in word]
    if len(found) > MAX_IDS:
        found = found[:1] + found[1 - MAX_IDS :]
    return tuple(dict.fromkeys([f"<{''.join(one.split())}>" for one in found]))


def message_id(value: bytes | None) -> str | None:
    """The id of a Message-ID field with its angle brackets; an odd one as it stands; None when there is none."""
    found = ids(value)
    if found:
        return found[0]
    line = "".join(headers.text(value).strip("<> ").split()) if value else ""
    return f"<{line[:998]}>" if line else None


def base_subject(subject: str) -> str:
    """A subject without reply marks, forward marks and list tags, in lower case (RFC 5256 §2.1)."""
    text = " ".join(subject[:2_000].split())
    while True:
        before = text
        text = _FORWARD_TAIL.sub("", text).rstrip()
        mark = _REPLY.match(text)
        if mark:
            text = text[mark.end() :]
            continue
        blob = _BLOB.match(text)
        if blob and blob.end() < len(text):  # a subject that is only a tag keeps it
            text = text[blob.end() :]
            continue
        if text[:5].lower() == "[fwd:" and text.endswith("]"):
            text = text[5:-1].strip()
            continue
        if text == before:
            return text.lower()


def thread_key(
    references: tuple[str, ...], in_reply_to: tuple[str, ...], own: str | None, subject: str, sender: str
) -> int:
    """63-bit hash of the thread's root: its first reference, else what it answers, else itself,
    else base subject and sender."""
    if references:
        root = references[0]
    elif in_reply_to:
        root = in_reply_to[0]
    elif own:
        root = own
    else:
        root = f"{base_subject(subject)}\n{sender.lower()}"
    digest = hashlib.blake2b(root.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
