"""What can be told: every type of event, its version and the fields of its body, as one literal table.

A type's name and the meaning of its fields stay for good. A body may gain fields; one that would lose or change any
gets a new version. Whoever records an event adds its type here first: a test holds every recorded body against it.
"""

from collections.abc import Iterable

import msgspec

from restante.errors import Invalid


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """Fields of one type's body."""


class MessageReceived(_Body, kw_only=True):
    """A message is in a mailbox: delivered, imported or stored by a program.

    ``id``: its public id; ``message``: its number on this instance; ``uid``: its number in the folder; ``sender``: the
    envelope's, "" for a report or an import; ``recipient``: the envelope's, "" for an import.
    """

    message: int
    id: str
    folder: int
    uid: int
    sender: str
    recipient: str
    size_bytes: int


class MessageStored(_Body, kw_only=True):
    """A message was put into a folder beside what was received: the copy of one that was sent."""

    message: int
    id: str
    folder: int
    uid: int


class MessageFlagged(_Body, kw_only=True):
    """The flags of a message changed; ``flags`` are all it has now."""

    message: int
    id: str
    flags: list[str]


class MessageRead(_Body, kw_only=True):
    """A message was marked as seen."""

    message: int
    id: str


class MessageMoved(_Body, kw_only=True):
    """A message is in another folder now, under a new ``uid``."""

    message: int
    id: str
    folder: int
    uid: int


class MessageDeleted(_Body, kw_only=True):
    """A message is gone for good; ``folder`` is where it was."""

    message: int
    id: str
    folder: int


class Named(_Body):
    """An account by its name, or the name that is shown with a mailbox's address."""

    name: str


class AccountStatus(_Body):
    """An account was suspended or works again."""

    status: str


class Quota(_Body):
    """Bytes that an account or a mailbox may use; null: no limit."""

    quota_bytes: int | None


class DomainAdded(_Body):
    """A domain; ``dns_status`` is pending, verified or forced."""

    domain: str
    approved: bool
    dns_status: str


class OfDomain(_Body):
    """A domain, by its name."""

    domain: str


class DomainStatus(_Body):
    """What DNS says of a domain's ownership: pending, verified or forced."""

    domain: str
    dns_status: str


class DomainCatchAll(_Body):
    """Which mailbox takes mail for unknown addresses of a domain; null: none."""

    domain: str
    mailbox: str | None


class Address(_Body):
    """An address."""

    address: str


class MailboxStatus(_Body):
    """Whether a mailbox takes logins and mail: active or disabled."""

    status: str


class MailboxRole(_Body):
    """What a mailbox's user is: user, or admin (operator of the instance)."""

    role: str


class AliasAdded(_Body):
    """A further address of a mailbox."""

    address: str
    mailbox: str


class TokenCreated(_Body):
    """A credential of a program; ``prefix`` are its first letters."""

    token_id: int
    prefix: str
    dialect: str
    kind: str


class TokenRevoked(_Body):
    """A credential works no more."""

    token_id: int
    prefix: str


class TokenUpdated(_Body):
    """A credential's properties changed."""

    token_id: int
    prefix: str
    is_active: bool


class Granted(_Body):
    """Permissions that a user now holds over a domain."""

    domain: str
    permissions: list[str]


class Revoked(_Body):
    """Permissions that a user no longer holds over a domain."""

    domain_id: int
    permissions: list[str]


class Folder(_Body):
    """A folder of a mailbox, by its name."""

    folder: str


class FolderRenamed(_Body):
    """A folder has another ``name`` now."""

    folder: str
    name: str


class SubmissionAccepted(_Body, kw_only=True):
    """A message waits to be sent. ``id``: its public id; ``sender``: its From.

    ``source``: api, smtp, command, automation or system.
    """

    submission: int
    id: str
    source: str
    sender: str
    recipients: int
    size_bytes: int


class SubmissionFailed(_Body, kw_only=True):
    """A message could not be taken for sending."""

    submission: int
    id: str
    sender: str


class Transfer(_Body, kw_only=True):
    """What became of one recipient of a submission; ``status`` is the submission's state after it.

    ``id``: the submission's public id; ``dsn_code``: RFC 3463; ``response``: what the other server said.
    """

    submission: int
    id: str
    transfer: int
    recipient: str
    dsn_code: str | None
    response: str | None
    remote_mta: str | None
    attempts: int
    status: str


class TransferComplained(_Body, kw_only=True):
    """Somebody who got a message calls it spam (RFC 5965). ``kind``: abuse, fraud, virus or other.

    ``id``: the submission's public id; ``reporter``: the program or server that says so.
    """

    submission: int
    id: str
    transfer: int
    recipient: str
    kind: str
    reporter: str | None


class Automation(_Body):
    """What is done about mail that comes in, by its id."""

    automation: str
    title: str


class AutomationRun(_Body, kw_only=True):
    """An automation did its work for a message. ``id``: the message's public id, ``message``: its number."""

    automation: str
    message: int
    id: str


class AutomationFailed(_Body, kw_only=True):
    """An automation was given up for a message; ``error`` says why, or what HTTP status came last."""

    automation: str
    message: int
    id: str
    error: str


class Webhook(_Body):
    """A place that is called when something happens, by its id."""

    webhook: str


class WebhookAt(_Body):
    """A webhook and its URL; ``status``: active, disabled or broken."""

    webhook: str
    url: str
    status: str


class WebhookBroken(_Body):
    """A webhook is called no more: it answered nothing good for days (``failing``), or 410 (``gone``)."""

    webhook: str
    url: str
    reason: str


class WebhookCallDead(_Body):
    """A call was tried for more than a day in vain; ``event``: the number of what it was to tell."""

    webhook: str
    event: int


class RetentionRule(_Body):
    """Which mail a rule is about: of a domain, of a mailbox, of the whole account (both null); ``folder``: a role."""

    domain: str | None
    mailbox: str | None
    folder: str | None


class RetentionRuleSet(_Body):
    """How long mail is kept: ``days``, ``messages``, ``bytes``; 0: no limit; null: as the wider scope says."""

    domain: str | None
    mailbox: str | None
    folder: str | None
    days: int | None
    messages: int | None
    bytes: int | None


class RetentionForecastSet(_Body):
    """Whether mail is cleaned before the disk is full."""

    enabled: bool


class RetentionCleaned(_Body):
    """Mail went to Trash as the disk would be full within a month.

    ``forecast_bytes``: by how much the account is to grow; ``free_bytes``: what the disk had left for mail.
    """

    messages: int
    bytes: int
    forecast_bytes: int
    free_bytes: int


class Empty(_Body):
    """Nothing more to say: the type and the mailbox tell all."""


class EventType(msgspec.Struct, frozen=True):
    """One line of the table."""

    version: int
    body: type[msgspec.Struct]


TYPES: dict[str, EventType] = {
    "account.created": EventType(1, Named),
    "account.quota_set": EventType(1, Quota),
    "account.removed": EventType(1, Named),
    "account.resumed": EventType(1, AccountStatus),
    "account.suspended": EventType(1, AccountStatus),
    "alias.added": EventType(1, AliasAdded),
    "alias.removed": EventType(1, Address),
    "automation.created": EventType(1, Automation),
    "automation.deleted": EventType(1, Automation),
    "automation.failed": EventType(1, AutomationFailed),
    "automation.ran": EventType(1, AutomationRun),
    "automation.updated": EventType(1, Automation),
    "domain.added": EventType(1, DomainAdded),
    "domain.approved": EventType(1, OfDomain),
    "domain.catch_all_set": EventType(1, DomainCatchAll),
    "domain.dns_status_set": EventType(1, DomainStatus),
    "domain.proof_missing": EventType(1, OfDomain),
    "domain.removed": EventType(1, OfDomain),
    "folder.created": EventType(1, Folder),
    "folder.removed": EventType(1, Folder),
    "folder.renamed": EventType(1, FolderRenamed),
    "mailbox.created": EventType(1, Address),
    "mailbox.disabled": EventType(1, MailboxStatus),
    "mailbox.enabled": EventType(1, MailboxStatus),
    "mailbox.name_set": EventType(1, Named),
    "mailbox.password_set": EventType(1, Empty),
    "mailbox.quota_set": EventType(1, Quota),
    "mailbox.removed": EventType(1, Address),
    "mailbox.role_set": EventType(1, MailboxRole),
    "message.deleted": EventType(1, MessageDeleted),
    "message.flagged": EventType(1, MessageFlagged),
    "message.moved": EventType(1, MessageMoved),
    "message.read": EventType(1, MessageRead),
    "message.received": EventType(1, MessageReceived),
    "message.stored": EventType(1, MessageStored),
    "permission.granted": EventType(1, Granted),
    "permission.revoked": EventType(1, Revoked),
    "retention.cleaned": EventType(1, RetentionCleaned),
    "retention.forecast_set": EventType(1, RetentionForecastSet),
    "retention.rule_removed": EventType(1, RetentionRule),
    "retention.rule_set": EventType(1, RetentionRuleSet),
    "submission.accepted": EventType(1, SubmissionAccepted),
    "submission.failed": EventType(1, SubmissionFailed),
    "token.created": EventType(1, TokenCreated),
    "token.removed": EventType(1, TokenRevoked),
    "token.revoked": EventType(1, TokenRevoked),
    "token.updated": EventType(1, TokenUpdated),
    "transfer.bounced": EventType(1, Transfer),
    "transfer.complained": EventType(1, TransferComplained),
    "transfer.deferred": EventType(1, Transfer),
    "transfer.delivered": EventType(1, Transfer),
    "webhook.broken": EventType(1, WebhookBroken),
    "webhook.call_dead": EventType(1, WebhookCallDead),
    "webhook.created": EventType(1, WebhookAt),
    "webhook.removed": EventType(1, Webhook),
    "webhook.secret_rotated": EventType(1, Webhook),
    "webhook.tested": EventType(1, Webhook),
    "webhook.updated": EventType(1, WebhookAt),
}
"""Type name -> its present version and body."""


def expand(patterns: Iterable[str]) -> frozenset[str]:
    """The types that ``patterns`` name: each a type (``message.received``), a family (``message.*``) or ``*``.

    Raises Invalid(code="unknown_event_type") for a pattern that names none.
    """
    found: set[str] = set()
    for pattern in patterns:
        family = pattern.removesuffix("*") if pattern == "*" or pattern.endswith(".*") else None
        named = {name for name in TYPES if (name == pattern if family is None else name.startswith(family))}
        if not named:
            raise Invalid(
                f"There is no event type {pattern[:60]!r}.",
                code="unknown_event_type",
                details={"types": "a type such as message.received, a family such as message.*, or *"},
            )
        found |= named
    return frozenset(found)
