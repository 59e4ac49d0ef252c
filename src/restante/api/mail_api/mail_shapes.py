"""The JSON of mail that is sent: field order and names are the contract's, so order matters here."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from restante.api.mail_api.shapes import AttachmentItem, Body, Limit, Offset

Text = Annotated[str, Meta(max_length=2000, examples=["bob@example.org"])]
Addresses = (
    Annotated[list[Text], Meta(max_length=1000, description="Addresses; one alone may be a string. `Name <a@b>` too.")]
    | Text
)


Sender = Annotated[
    str,
    Meta(max_length=2000, description="`a@b` or `Name <a@b>`, of an allowed domain.", examples=["ann@example.test"]),
]


class SendBody(Struct, frozen=True):
    """The text, at least one of both; together at most 5 MB."""

    text: Annotated[str, Meta(examples=["They are ready."])] | None = None
    html: Annotated[str, Meta(examples=["<p>They are ready.</p>"])] | None = None


class SendAttachment(Struct, frozen=True):
    """A file: ``content`` is base64; ``content_type`` is guessed from the name when it is not given."""

    filename: Annotated[str, Meta(max_length=1000, examples=["chairs.csv"])]
    content: Annotated[str, Meta(examples=["Y2hhaXJzLDIK"])]
    content_type: Annotated[str, Meta(max_length=2000, examples=["text/csv"])] | None = None


class SendRequest(Struct, frozen=True):
    """A message to send to 1 to 100 recipients. Bcc recipients stand in no header."""

    from_: Sender = field(name="from")
    to: Addresses
    body: SendBody
    cc: Addresses | None = None
    bcc: Addresses | None = None
    subject: Annotated[str, Meta(max_length=998, examples=["Two chairs"])] | None = None
    reply_to: Addresses | None = None
    headers: (
        Annotated[
            dict[str, Annotated[str, Meta(max_length=10_000)]],
            Meta(max_length=100, description="Further headers, but for those that this API writes itself."),
        ]
        | None
    ) = None
    attachments: (
        Annotated[list[SendAttachment], Meta(max_length=20, description="Together at most 25 MB, decoded.")] | None
    ) = None


class Accepted(Struct, frozen=True):
    """A message that is on its way; keep ``message_id`` to follow it."""

    success: bool
    message_id: str
    status: str
    queue_id: str
    recipient_count: int


class SendFailure(Struct, frozen=True):
    """SEND_FAILED: the message could not be queued; its status can be asked for."""

    success: bool
    error: str
    message: str
    detail: str
    message_id: str


class RecipientState(Struct, frozen=True):
    """What became of one recipient: pending, deferred, sent or bounced."""

    email: str
    type: str
    status: str
    dsn_code: str | None
    delivered_at: datetime | None
    smtp_response: str | None
    remote_mta: str | None
    attempts: int
    last_attempt_at: datetime | None


class MessageState(Struct, frozen=True):
    """Where a message stands: pending, submitted, sent, partial, bounced or failed."""

    success: bool
    message_id: str
    status: str
    created_at: datetime
    submitted_at: datetime | None
    recipients: list[RecipientState]


class SentItem(Struct, frozen=True):
    """A sent message in a list; ``to`` has neither Cc nor Bcc."""

    message_id: str
    from_: str = field(name="from")
    to: list[str]
    subject: str
    status: str
    created_at: datetime
    submitted_at: datetime | None


class SentList(Struct, frozen=True):
    """A page of what was sent through the API, newest first."""

    success: bool
    total: int
    messages: list[SentItem]


When = Annotated[str, Meta(max_length=40, description="ISO 8601 date or time; UTC unless it has an offset.")]


class SentQuery(Struct, frozen=True):
    """A page of sent messages; the filters must all hold."""

    limit: Limit = 50
    offset: Offset = 0
    status: Literal["pending", "submitted", "sent", "partial", "bounced", "failed"] | None = None
    from_: Annotated[Text, Meta(description="Address of the sender.")] | None = field(name="from", default=None)
    to: Annotated[Text, Meta(description="Address of any recipient.")] | None = None
    start_date: When | None = None
    end_date: When | None = None


# --- beyond the seed


class InboxQuery(Struct, frozen=True):
    """A page of an INBOX."""

    email: Annotated[str, Meta(max_length=1000, description="Whose; default: the token's own mailbox.")] = ""
    limit: Limit = 50
    offset: Offset = 0


class MessageDetail(Struct, frozen=True):
    """A sent message whole; headers, body and attachments are null when its bytes are not kept any more."""

    success: bool
    message_id: str
    queue_id: str | None
    from_: str = field(name="from")
    to: list[str]
    cc: list[str]
    bcc: list[str]
    subject: str
    status: str
    size: int
    created_at: datetime
    submitted_at: datetime | None
    headers: dict[str, str] | None
    body: Body | None
    attachments: list[AttachmentItem] | None


class LogEntry(Struct, frozen=True):
    """One try to hand the message over for one recipient; ``tls`` is null in clear, and within this server."""

    email: str
    attempted_at: datetime
    status: str
    dsn_code: str | None
    smtp_response: str | None
    remote_mta: str | None
    tls: str | None


class DeliveryLog(Struct, frozen=True):
    """The tries to hand a message over, at most the newest thousand, oldest first."""

    success: bool
    message_id: str
    status: str
    log: list[LogEntry]


class Resend(Struct, frozen=True):
    """Whom to send to again; the body may be left out."""

    all: Annotated[bool, Meta(description="Every recipient; false: those that bounced.")] = False


class Cancelled(Struct, frozen=True):
    """How many recipients were given up."""

    success: bool
    message_id: str
    status: str
    cancelled: int
