"""The JSON of statistics: field order and names are the contract's. All counts are recipients, not messages."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType


class Span(Struct, frozen=True):
    """The period that was counted, both ends included."""

    start: datetime
    end: datetime


class DeliverySummary(Struct, frozen=True):
    """``total_sent`` is the sum of the four; ``deferred`` are those that still wait; the rate is in percent."""

    total_sent: int
    delivered: int
    bounced: int
    deferred: int
    rejected: int
    delivery_rate: float


Hour = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]  # as text: a year's rows are 9,000


class DeliveryRow(Struct, frozen=True, gc=False):
    """``date``, ``hour`` or ``domain`` as ``group_by`` says; ``sent`` = delivered + bounced + deferred."""

    date: str | UnsetType
    hour: Hour | UnsetType
    domain: str | UnsetType
    sent: int
    delivered: int
    bounced: int
    deferred: int


class DeliveryStatistics(Struct, frozen=True):
    """What became of recipients whose message was submitted in the period; rows newest first, domains largest first."""

    success: bool
    period: Span
    summary: DeliverySummary
    breakdown: list[DeliveryRow]


class DomainCount(Struct, frozen=True):
    """A domain of the other side and its recipients."""

    domain: str
    count: int


class OutboundCounts(Struct, frozen=True):
    """``total`` = delivered + bounced + deferred; at most 10 recipient domains."""

    total: int
    delivered: int
    bounced: int
    deferred: int
    top_recipients: list[DomainCount]


class InboundCounts(Struct, frozen=True):
    """``total`` = accepted + rejected; at most 10 sender domains of those accepted."""

    total: int
    accepted: int
    rejected: int
    spam: Annotated[int, Meta(description="Part of accepted; 0 as long as this server has no spam filter.")]
    top_senders: list[DomainCount]


class DomainStatistics(Struct, frozen=True):
    """Mail of one domain in both directions."""

    success: bool
    domain: str
    period: Span
    outbound: OutboundCounts
    inbound: InboundCounts


Sender = Annotated[str, Meta(max_length=1000, description="An address, or a domain for all its addresses.")]
DomainName = Annotated[str, Meta(max_length=1000, description="A domain of this server.")]
StartDate = Annotated[
    str,
    Meta(max_length=40, description="ISO 8601 date (from 00:00:00Z) or time; default: the day 7 days before the end."),
]
EndDate = Annotated[
    str, Meta(max_length=40, description="ISO 8601 date (through 23:59:59Z) or time, included; default: now.")
]


class PeriodQuery(Struct, frozen=True):
    """A period of at most 366 days."""

    start_date: StartDate = ""
    end_date: EndDate = ""


class DeliveryQuery(PeriodQuery, frozen=True):
    """A period, whose mail, and how to break it down."""

    sender: Sender = ""
    group_by: Literal["day", "hour", "domain"] = "day"


class MailboxFigures(Struct, frozen=True):
    """What a mailbox holds now; sizes in bytes, ``quota`` null for none."""

    messages: int
    size: int
    quota: int | None


class UserStatistics(Struct, frozen=True):
    """One user: what its addresses sent in the period, and its mailbox."""

    success: bool
    email: str
    period: Span
    outbound: DeliverySummary
    mailbox: MailboxFigures


class InboundQuery(PeriodQuery, frozen=True):
    """A period, a domain (an admin may leave it out: all), and how to break it down."""

    domain: DomainName = ""
    group_by: Literal["day", "hour"] = "day"


class InboundSummary(Struct, frozen=True):
    """``total`` = accepted + rejected; ``spam`` is part of accepted and 0 as long as there is no spam filter."""

    total: int
    accepted: int
    rejected: int
    spam: int


class InboundRow(Struct, frozen=True, kw_only=True):
    """``date`` or ``hour`` as ``group_by`` says."""

    date: str | UnsetType = UNSET
    hour: Hour | UnsetType = UNSET
    total: int
    accepted: int
    rejected: int
    spam: int


class InboundStatistics(Struct, frozen=True):
    """Mail from outside for one domain, or for all (``domain`` null); rows newest first."""

    success: bool
    domain: str | None
    period: Span
    summary: InboundSummary
    breakdown: list[InboundRow]


class SendersQuery(PeriodQuery, frozen=True):
    """A period of at most 31 days; a domain (an admin may leave it out: all)."""

    domain: DomainName = ""
    limit: Annotated[int, Meta(ge=1, le=100, description="Most rows in the answer.")] = 10


class SenderRow(Struct, frozen=True):
    """One sender address; ``sent`` = delivered + bounced + deferred."""

    sender: str
    sent: int
    delivered: int
    bounced: int
    deferred: int


class TopSenders(Struct, frozen=True):
    """The sender addresses with the most recipients."""

    success: bool
    period: Span
    senders: list[SenderRow]


class SenderQuery(Struct, frozen=True):
    """Whose mail; default: all that the token may see."""

    sender: Sender = ""


class QueueCounts(Struct, frozen=True):
    """Messages on their way; recipients not tried yet and those to be tried again."""

    messages: int
    pending: int
    deferred: int
    oldest_submitted_at: datetime | None


class QueueStatistics(Struct, frozen=True):
    """What is on its way now."""

    success: bool
    queue: QueueCounts


class Summary(Struct, frozen=True):
    """A dashboard: whole days in UTC up to now (today; 7 and 30 days before it and today), and the queue."""

    success: bool
    today: DeliverySummary
    last_7_days: DeliverySummary
    last_30_days: DeliverySummary
    queue: QueueCounts
