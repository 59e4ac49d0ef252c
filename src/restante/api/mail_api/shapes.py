"""The JSON of the Mail API: field order and names are the contract's, so order matters here."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from restante.core.permissions import Grant
from restante.http.answers import Answer, Headers
from restante.mail.address import Address

_encoder = msgspec.json.Encoder()


def answer(shape: Struct, status: int = 200, headers: Headers = ()) -> Answer:
    """A JSON answer."""
    return Answer(_encoder.encode(shape), status=status, headers=headers)


def moment(when: datetime) -> datetime:
    """A time as the API shows it: whole seconds, UTC (``2024-01-27T10:30:00Z``)."""
    return when.replace(microsecond=0)


def optional_moment(when: datetime | None) -> datetime | None:
    """As ``moment``; None stays None."""
    return None if when is None else moment(when)


class Person(Struct, frozen=True, gc=False):
    """A name (may be empty) and an address."""

    name: str
    email: str


def person(address: Address) -> Person:
    """An address of a message as the API shows it."""
    return Person(address.name, address.email)


class Failure(Struct, frozen=True, omit_defaults=True):
    """Every refusal. ``detail`` repeats ``message``; ``fields`` comes with VALIDATION_ERROR."""

    success: bool
    error: str
    message: str
    detail: str
    fields: dict[str, list[str]] = {}


class Done(Struct, frozen=True):
    """It is done."""

    success: bool
    message: str


class RemoveQuery(Struct, frozen=True):
    """``with_mail=true`` deletes the stored mail too; without it only what holds no mail is deleted."""

    with_mail: bool = False


# --- mailboxes


class FolderItem(Struct, frozen=True):
    """A folder's name and counters; ``size`` in bytes."""

    name: str
    messages: int
    unread: int
    size: int


class FolderList(Struct, frozen=True):
    """The folders of a mailbox."""

    success: bool
    mailbox: str
    folders: list[FolderItem]


class MessageItem(Struct, frozen=True, gc=False):
    """A message in a list; ``size`` in bytes."""

    uid: int
    message_id: str | None
    from_: Person = field(name="from")
    to: list[Person]
    subject: str
    date: datetime
    size: int
    flags: tuple[str, ...]
    has_attachments: bool


class MessageList(Struct, frozen=True):
    """A page of a folder, newest first."""

    success: bool
    mailbox: str
    folder: str
    total: int
    messages: list[MessageItem]


class Body(Struct, frozen=True):
    """The readable parts; null when the message has none of the kind."""

    text: str | None
    html: str | None


class AttachmentItem(Struct, frozen=True):
    """An attachment; ``size`` is that of the decoded bytes."""

    index: int
    filename: str
    content_type: str
    size: int
    content_id: str | None


class FullMessage(Struct, frozen=True):
    """One message with its text; ``headers`` are those without a field of their own, repeated ones joined."""

    success: bool
    uid: int
    message_id: str | None
    from_: Person = field(name="from")
    to: list[Person]
    cc: list[Person]
    subject: str
    date: datetime
    headers: dict[str, str]
    body: Body
    attachments: list[AttachmentItem]
    flags: tuple[str, ...]


class FoundMessage(Struct, frozen=True):
    """A hit; ``snippet`` surrounds the first place in the text."""

    uid: int
    folder: str
    from_: Person = field(name="from")
    subject: str
    date: datetime
    snippet: str


class SearchResult(Struct, frozen=True):
    """Hits, newest first; ``total`` counts all of them."""

    success: bool
    query: str
    total: int
    messages: list[FoundMessage]


Email = Annotated[str, Meta(max_length=1000, examples=["ann@example.test"])]
DomainName = Annotated[str, Meta(max_length=1000, examples=["example.test"])]
Password = Annotated[str, Meta(max_length=1000, examples=["correct horse"])]
FolderName = Annotated[
    str,
    Meta(max_length=255, description="Special folders in any case, Spam or Junk; others exactly.", examples=["INBOX"]),
]
Limit = Annotated[int, Meta(ge=1, le=200, description="Most rows in the answer.")]
Offset = Annotated[int, Meta(ge=0, le=2**53, description="Rows to skip.")]


class FolderQuery(Struct, frozen=True):
    """Which folder."""

    folder: FolderName = "INBOX"


class ListQuery(Struct, frozen=True):
    """A page of a folder."""

    folder: FolderName = "INBOX"
    limit: Limit = 50
    offset: Offset = 0


class SearchQuery(Struct, frozen=True):
    """A search; folder ``*`` is all folders."""

    q: Annotated[
        str, Meta(min_length=2, max_length=1000, description="Words that must all occur; at least 2 characters.")
    ]
    folder: FolderName = "INBOX"
    limit: Limit = 50
    offset: Offset = 0


# --- tokens, signup, permissions, domains


class TokenInfo(Struct, frozen=True):
    """The token of this call (the one answer without ``success``)."""

    id: int
    token_prefix: str
    token_type: str
    email: str | None
    name: str
    is_active: bool
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None


Name = Annotated[str, Meta(max_length=255, examples=["Ann"])]


class Signup(Struct, frozen=True):
    """A new account: ``email`` ends with ``@domain``, the password has at least 8 characters."""

    domain: DomainName
    email: Email
    password: Password
    name: Name | None = None


class SignedUp(Struct, frozen=True):
    """The account that was made, with a token to go on with."""

    success: bool
    token: str
    token_type: str
    email: str
    name: str
    domain: str
    domain_status: str
    expires_at: datetime
    message: str


PermissionName = Annotated[str, Meta(max_length=100, examples=["view_mailbox"])]


class BulkGrant(Struct, frozen=True):
    """Permissions of one user over one domain."""

    email: Email
    permissions: Annotated[list[PermissionName], Meta(min_length=1, max_length=100)]
    domain: DomainName


class Granted(Struct, frozen=True):
    """What was granted and what was there already, in the order asked for."""

    success: bool
    message: str
    granted: list[str]
    skipped: list[str]


class GrantItem(Struct, frozen=True):
    """A permission of a user over a domain."""

    email: str
    domain: str
    permission: str
    created_at: datetime


def grant_item(grant: Grant) -> GrantItem:
    """A grant as the API shows it."""
    return GrantItem(grant.address, grant.domain, grant.permission, moment(grant.created_at))


class PendingDomain(Struct, frozen=True):
    """A domain that waits for the operator."""

    domain: str
    active: bool
    created: datetime
    creator_email: str | None


class PendingDomains(Struct, frozen=True):
    """All that wait, oldest first."""

    success: bool
    total: int
    domains: list[PendingDomain]


class DkimRecord(Struct, frozen=True):
    """The DNS TXT record of the signing key."""

    selector: str
    dns_name: str
    dns_value: str


class Approved(Struct, frozen=True):
    """The domain that is active now."""

    success: bool
    message: str
    domain: str
    active: bool
    dkim: DkimRecord
