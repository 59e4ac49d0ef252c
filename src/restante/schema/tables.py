"""Every table. Times are microseconds since 1970 (UTC), truth values 0 or 1, JSON is text: plain types on every engine.

Each tenant's row names its account first, so that the data can be spread by account. Numbers that readers follow
(events, UIDs, modseqs) come from counter columns updated in the transaction that uses them.
"""

import sqlalchemy
from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    func,
)
from sqlalchemy.schema import UniqueConstraint

from restante.schema import distribution  # noqa: F401 - says how PostgreSQL creates them

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite's rowid alias must be spelled INTEGER; elsewhere an id has 64 bits.
Id = BigInteger().with_variant(Integer, "sqlite")

# Texts are compared and sorted by code point on every engine, whatever language a PostgreSQL database is set to.
Text = sqlalchemy.Text().with_variant(sqlalchemy.Text(collation="C"), "postgresql")

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("public_id", Text, nullable=False, unique=True),
    Column("name", Text, unique=True),  # null: removed
    Column("status", Text, nullable=False),  # active | suspended | removed (its rows are being deleted)
    Column("quota_bytes", BigInteger),  # null: no limit
    Column("used_bytes", BigInteger, nullable=False, default=0),
    Column("event_number", BigInteger, nullable=False, default=0),  # the last one given out
    Column("events_pruned", BigInteger, nullable=False, default=0, server_default="0"),  # up to here none are kept
    Column("created_at", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

domains = Table(
    "domains",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", ForeignKey(accounts.c.id), nullable=False),
    Column("name", Text, nullable=False, unique=True),  # lower case, IDNA A-label form
    Column("approved_at", BigInteger),  # null: the operator has not agreed yet
    Column("dns_status", Text, nullable=False),  # pending | verified | forced
    Column("dns_token", Text, nullable=False),  # the value that proves ownership in a TXT record
    Column("dns_checked_at", BigInteger),
    Column("dns_missing_since", BigInteger),  # a proof found once, then gone while DNS answers
    Column("catch_all_mailbox_id", BigInteger),
    Column("created_by", Text),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "account_id", "id"),
    sqlite_autoincrement=True,
)

dkim_keys = Table(
    "dkim_keys",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", ForeignKey(accounts.c.id), nullable=False),
    Column("domain_id", ForeignKey(domains.c.id), nullable=False),
    Column("selector", Text, nullable=False),
    Column("algorithm", Text, nullable=False),  # rsa-sha256 | ed25519-sha256
    Column("private_key", Text, nullable=False),  # sealed with the instance secret
    Column("public_key", Text, nullable=False),  # base64 of the DER form, as in the p= tag
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("domain_id", "selector"),
    sqlite_autoincrement=True,
)

mailboxes = Table(
    "mailboxes",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", ForeignKey(accounts.c.id), nullable=False),
    Column("domain_id", ForeignKey(domains.c.id)),  # null: removed
    Column("address", Text, unique=True),  # normalised: lower case, A-label domain; null: removed
    Column("public_id", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False, default=""),
    Column("role", Text, nullable=False),  # user | member (of the account's team) | admin (operator of the instance)
    Column("status", Text, nullable=False),  # active | disabled | removed (its messages are being deleted)
    Column("password_hash", Text),  # null: no login by password
    Column("quota_bytes", BigInteger),
    Column("used_bytes", BigInteger, nullable=False, default=0),
    Column("messages", BigInteger, nullable=False, default=0),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "account_id", "id").ddl_if(dialect="sqlite"),  # elsewhere it is the primary key
    Index(None, "domain_id"),
    sqlite_autoincrement=True,
)

for _table in (accounts, mailboxes):
    Index(  # partial: nearly always empty
        f"ix_{_table.name}_removed",
        _table.c.id,
        sqlite_where=_table.c.status == "removed",
        postgresql_where=_table.c.status == "removed",
    )

addresses = Table(  # where mail for an address goes: the one look-up that does not know its account yet
    "addresses",
    metadata,
    Column("address", Text, primary_key=True),
    Column("mailbox_id", ForeignKey(mailboxes.c.id), primary_key=True),
    Column("account_id", ForeignKey(accounts.c.id), nullable=False),
    Column("domain_id", ForeignKey(domains.c.id), nullable=False),
    Column("kind", Text, nullable=False),  # mailbox | alias
    Column("may_send", SmallInteger, nullable=False, default=1),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "account_id", "domain_id"),
    Index(None, "mailbox_id"),
)
Index(  # what mailboxes.address says by itself where accounts are not spread
    "uq_addresses_mailbox", addresses.c.address, unique=True, postgresql_where=addresses.c.kind == "mailbox"
).ddl_if(dialect="postgresql")

folders = Table(
    "folders",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", ForeignKey(accounts.c.id), nullable=False),
    Column("mailbox_id", ForeignKey(mailboxes.c.id), nullable=False),
    Column("name", Text, nullable=False),  # INBOX, Sent, Work/2026
    Column("role", Text),  # inbox sent drafts junk trash archive (RFC 6154); null: the user's own
    Column("uid_validity", BigInteger, nullable=False),
    Column("uid_next", BigInteger, nullable=False),
    Column("modseq", BigInteger, nullable=False),  # HIGHESTMODSEQ, RFC 7162
    Column("messages", BigInteger, nullable=False, default=0),
    Column("unseen", BigInteger, nullable=False, default=0),
    Column("size_bytes", BigInteger, nullable=False, default=0),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("account_id", "mailbox_id", "name"),
    sqlite_autoincrement=True,
)

contents = Table(  # the bytes of a message, once per account, however many of its mailboxes hold it
    "contents",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", ForeignKey(accounts.c.id), nullable=False),
    Column("uses", BigInteger, nullable=False),  # rows of messages that point here
    Column("unused_at", BigInteger),  # when uses fell to 0; swept after the grace time
    Column("created_at", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),  # of the received bytes
    Column("sha256", LargeBinary, nullable=False),  # of the received bytes
    Column("blob_key", Text),  # where the bytes are when they are not in this row
    Column("structure", LargeBinary, nullable=False),  # mail.structure: parts, offsets, envelope
    Column("raw", LargeBinary),  # zstd of the received bytes; null: in the blob store
    Column("folded", LargeBinary),  # zstd of the text that search sees, where the bytes are not at hand for the indexer
    sqlite_autoincrement=True,
)


@sqlalchemy.event.listens_for(contents, "after_create")
def keep_raw_as_it_is(_table: Table, conn: sqlalchemy.Connection, **_: object) -> None:
    """Tell PostgreSQL not to compress what is compressed."""
    if conn.dialect.name == "postgresql":
        conn.execute(sqlalchemy.text("ALTER TABLE contents ALTER COLUMN raw SET STORAGE EXTERNAL"))


Index(  # partial, as most contents are in use and in their row: an index that most inserts need not touch
    "ix_contents_unused",
    contents.c.unused_at,
    sqlite_where=contents.c.unused_at.is_not(None),
    postgresql_where=contents.c.unused_at.is_not(None),
)
Index(
    "ix_contents_blob",
    contents.c.account_id,
    contents.c.blob_key,
    sqlite_where=contents.c.blob_key.is_not(None),
    postgresql_where=contents.c.blob_key.is_not(None),
)

messages = Table(  # one message in one mailbox; its id stays when it moves to another folder
    "messages",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", ForeignKey(accounts.c.id), nullable=False),
    Column("mailbox_id", ForeignKey(mailboxes.c.id), nullable=False),
    Column("folder_id", ForeignKey(folders.c.id), nullable=False),
    Column("uid", BigInteger, nullable=False),
    Column("modseq", BigInteger, nullable=False),
    Column("content_id", ForeignKey(contents.c.id), nullable=False),
    Column("public_id", LargeBinary, nullable=False),  # 16 bytes of a version 7 UUID
    Column("flags", Integer, nullable=False),  # bits of core.messages.Flag
    Column("keywords", Text, nullable=False, default=""),  # further flags, separated by one space
    Column("size_bytes", BigInteger, nullable=False),  # of the trace headers and the received bytes
    Column("received_at", BigInteger, nullable=False),  # INTERNALDATE
    Column("sent_at", BigInteger),  # the Date header
    Column("attachments", Integer, nullable=False),
    Column("thread_key", BigInteger, nullable=False),
    Column("message_id_header", Text),  # with its angle brackets
    Column("envelope_sender", Text, nullable=False),  # "" is the null reverse-path
    Column("envelope_recipient", Text, nullable=False),
    Column("from_name", Text, nullable=False),
    Column("from_email", Text, nullable=False),
    Column("recipients", Text, nullable=False),  # JSON [[name, email], ...] of To
    Column("subject", Text, nullable=False),
    Column("preview", Text, nullable=False),
    Column("trace", LargeBinary, nullable=False),  # Return-Path, Delivered-To, Received: put in front when read
    UniqueConstraint("account_id", "folder_id", "uid"),
    Index("ix_messages_modseq", "account_id", "folder_id", "modseq"),
    Index("uq_messages_public_id", "account_id", "public_id", unique=True),
    Index("ix_messages_content", "account_id", "content_id"),
    sqlite_autoincrement=True,
)

expunged = Table(  # UIDs that left a folder, for QRESYNC's VANISHED (RFC 7162 §3.2.10)
    "expunged",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("folder_id", BigInteger, primary_key=True),
    Column("modseq", BigInteger, primary_key=True),
    Column("uid", BigInteger, primary_key=True),
    sqlite_with_rowid=False,
)

trashed = Table(  # what was moved to Trash: where it came from and when, in the order of its UIDs there
    "trashed",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("folder_id", BigInteger, primary_key=True),  # Trash
    Column("uid", BigInteger, primary_key=True),
    Column("origin_id", BigInteger),  # the folder it was in; null: it got there some other way
    Column("trashed_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

retention_rules = Table(  # how long mail is kept, how much of it
    "retention_rules",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("domain_id", BigInteger, primary_key=True),  # 0: every domain's mailboxes
    Column("mailbox_id", BigInteger, primary_key=True),  # 0: every mailbox; otherwise domain_id is 0
    Column("role", Text, primary_key=True),  # of the folder; "": all folders that no rule names
    Column("days", Integer),  # null: as the rule of the wider scope says; 0: no limit
    Column("messages", BigInteger),
    Column("bytes", BigInteger),
    Column("updated_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

retention_accounts = Table(  # accounts whose mail is cleaned
    "retention_accounts",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("is_forecast", SmallInteger, nullable=False, default=0),  # by forecast too, once a day
    Column("forecast_at", BigInteger),  # when that was looked at last
    Column("lease_owner", Text),
    Column("lease_until", BigInteger),
    sqlite_with_rowid=False,
)

usage_days = Table(  # what an account used at the first look of a day
    "usage_days",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("day", Integer, primary_key=True),  # since 1970, UTC
    Column("used_bytes", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

retention_cursors = Table(  # up to which change of a folder its messages are in retention_days
    "retention_cursors",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("folder_id", BigInteger, primary_key=True),
    Column("modseq", BigInteger, nullable=False),
    Column("message_id", BigInteger, nullable=False),  # the last one seen of those with that modseq
    sqlite_with_rowid=False,
)

retention_days = Table(  # the UIDs between which the messages received on a day are; favourites are left out
    "retention_days",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("mailbox_id", BigInteger, primary_key=True),
    Column("day", Integer, primary_key=True),  # since 1970, UTC
    Column("folder_id", BigInteger, primary_key=True),
    Column("low_uid", BigInteger, nullable=False),
    Column("high_uid", BigInteger, nullable=False),
    Index("ix_retention_days_day", "account_id", "day", "mailbox_id", "folder_id"),
    sqlite_with_rowid=False,
)

events = Table(  # the durable log: one row a fact, written in the transaction that caused it
    "events",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("type", Text, nullable=False),
    Column("version", SmallInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("mailbox_id", BigInteger),
    Column("body", Text, nullable=False),  # JSON object
    sqlite_with_rowid=False,
)

jobs = Table(  # background work, at least once
    "jobs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", BigInteger),  # null: of the instance
    Column("kind", Text, nullable=False),
    Column("payload", Text, nullable=False),  # JSON object
    Column("unique_key", Text, unique=True),  # at most one waiting job has it
    Column("run_at", BigInteger, nullable=False),  # when it may be claimed; a claim moves it to the lease's end
    Column("attempts", Integer, nullable=False, default=0),
    Column("lease_owner", Text),
    Column("last_error", Text),
    Column("lane", Text),  # only so many jobs of one lane run at a time; null: no bound
    Column("created_at", BigInteger, nullable=False),
    Index(None, "run_at", "id"),
    sqlite_autoincrement=True,
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", ForeignKey(accounts.c.id), nullable=False),
    Column("mailbox_id", BigInteger),  # null: not tied to one mailbox
    Column("dialect", Text, nullable=False),  # mail-api mailcare temp-mail mailtrigger trekmail native
    Column("kind", Text, nullable=False),  # admin | user
    Column("prefix", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("scopes", Text),  # what it may do, separated by one space; null: all that its kind may
    Column("rate_limit", Integer),  # requests a minute; null: the dialect's own limits; 0: none
    Column("is_active", SmallInteger, nullable=False, default=1),
    Column("created_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
    Column("expires_at", BigInteger),
    Column("purpose", Text, nullable=False, server_default="program"),  # program | session | permanent
    Index(None, "account_id", "id"),
    Index(None, "mailbox_id"),
    sqlite_autoincrement=True,
)

permissions = Table(  # grants of the Mail API's model: one user, one permission, one domain
    "permissions",
    metadata,
    Column("mailbox_id", ForeignKey(mailboxes.c.id), primary_key=True),
    Column("domain_id", ForeignKey(domains.c.id), primary_key=True),
    Column("permission", Text, primary_key=True),
    Column("account_id", ForeignKey(accounts.c.id), nullable=False),  # of the mailbox
    Column("created_at", BigInteger, nullable=False),
)

submissions = Table(  # one message that a user of ours (or this server) sends; its bytes are a row of contents
    "submissions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", ForeignKey(accounts.c.id), nullable=False),
    Column("public_id", LargeBinary, nullable=False),  # 16 bytes of a UUID
    Column("mailbox_id", BigInteger),  # of the sender address, whose Sent folder has the copy; null: it has none
    Column("submitter_id", BigInteger),  # the mailbox whose user sent it; null: the operator, or this server itself
    Column("token_id", BigInteger),  # null: SMTP, or this server itself
    Column("source", Text, nullable=False),  # core.submission.Source
    Column("status", Text, nullable=False),  # core.submission.Status
    Column("queue_id", Text),  # 15 letters and digits; null: not accepted
    Column("sender", Text, nullable=False),  # address of From, normalised
    Column("sender_domain", Text, nullable=False),
    Column("envelope_sender", Text, nullable=False),  # "" is the null reverse-path
    Column("return_token", Text, nullable=False),  # in the return path, so that a late report finds its way back
    Column("subject", Text, nullable=False),
    Column("message_id_header", Text, nullable=False),  # with its angle brackets
    Column("content_id", ForeignKey(contents.c.id)),  # null: not accepted
    Column("size_bytes", BigInteger, nullable=False),
    Column("recipients", Integer, nullable=False),  # the counters below and "pending" ones make these
    Column("deferred", Integer, nullable=False, default=0),
    Column("sent", Integer, nullable=False, default=0),
    Column("bounced", Integer, nullable=False, default=0),
    Column("created_at", BigInteger, nullable=False),
    Column("submitted_at", BigInteger),
    Column("expires_at", BigInteger, nullable=False),  # when transfer gives up
    Index("uq_submissions_public_id", "public_id", "account_id", unique=True),  # the operator asks without an account
    Index("uq_submissions_return_token", "account_id", "return_token", unique=True),
    Index("ix_submissions_sender", "account_id", "sender", "source", "id"),
    Index("ix_submissions_mailbox", "account_id", "mailbox_id", "source", "id"),
    Index("ix_submissions_source", "source", "id"),
    Index("ix_submissions_status", "status", "id"),
    Index("ix_submissions_queue_id", "queue_id"),
    Index("ix_submissions_message_id", "account_id", "message_id_header"),
    Index("ix_submissions_submitted", "account_id", "submitted_at"),
    Index("ix_submissions_content", "account_id", "content_id"),
    sqlite_autoincrement=True,
)
Index(  # partial: those on their way
    "ix_submissions_queued",
    submissions.c.account_id,
    submissions.c.id,
    sqlite_where=submissions.c.status == "submitted",
    postgresql_where=submissions.c.status == "submitted",
)
Index(  # partial: those whose bytes are to be let go some day
    "ix_submissions_held",
    submissions.c.created_at,
    sqlite_where=submissions.c.content_id.is_not(None),
    postgresql_where=submissions.c.content_id.is_not(None),
)

transfers = Table(  # one recipient of a submission
    "transfers",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", ForeignKey(accounts.c.id), nullable=False),
    Column("submission_id", ForeignKey(submissions.c.id), nullable=False),
    Column("kind", Text, nullable=False),  # to | cc | bcc
    Column("address", Text, nullable=False),  # as it goes into RCPT
    Column("domain", Text, nullable=False),  # lower case, A-label form
    Column("status", Text, nullable=False),  # pending | deferred | sent | bounced
    Column("is_held", SmallInteger, nullable=False, default=0),  # the operator stopped it
    Column("dsn_code", Text),  # RFC 3463: 2.0.0
    Column("smtp_response", Text),
    Column("remote_mta", Text),
    Column("attempts", Integer, nullable=False, default=0),
    Column("last_attempt_at", BigInteger),
    Column("next_attempt_at", BigInteger),  # null: final
    Column("delivered_at", BigInteger),
    Column("complained_at", BigInteger),  # when the first abuse report about it came (RFC 5965)
    Index("ix_transfers_submission", "account_id", "submission_id", "domain"),
    sqlite_autoincrement=True,
)
Index("ix_transfers_address", func.lower(transfers.c.address), transfers.c.submission_id)

transfer_attempts = Table(  # the delivery log: what each try came to
    "transfer_attempts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", ForeignKey(accounts.c.id), nullable=False),
    Column("submission_id", BigInteger, nullable=False),
    Column("transfer_id", BigInteger, nullable=False),
    Column("attempted_at", BigInteger, nullable=False),
    Column("status", Text, nullable=False),  # what the recipient became: deferred | sent | bounced
    Column("dsn_code", Text),
    Column("smtp_response", Text),
    Column("remote_mta", Text),
    Column("tls", Text),  # protocol and cipher; null: in clear or local
    Index("ix_transfer_attempts_submission", "account_id", "submission_id", "id"),
    sqlite_autoincrement=True,
)

idempotency_keys = Table(  # answers that a repeated request gets again
    "idempotency_keys",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("scope", Text, primary_key=True),  # the caller and the operation: "mail-api/12/send"
    Column("key", Text, primary_key=True),
    Column("request_hash", LargeBinary, nullable=False),  # SHA-256
    Column("answer", LargeBinary, nullable=False),  # what the operation needs to give its first answer again
    Column("created_at", BigInteger, nullable=False),
    Index(None, "created_at"),
)

outbound_hours = (
    Table(  # recipients by the hour in which their message was submitted; counters only, never counted anew
        "outbound_hours",
        metadata,
        Column("account_id", BigInteger, primary_key=True),  # 0: the whole instance
        Column("sender", Text, primary_key=True),  # an address without its tag, a domain, or "" for all senders
        Column("hour", BigInteger, primary_key=True),  # its first microsecond
        Column("delivered", BigInteger, nullable=False),
        Column("bounced", BigInteger, nullable=False),
        Column("deferred", BigInteger, nullable=False),  # still, not once
        Column("rejected", BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
)

outbound_domains = Table(  # the same by recipient domain, over spans of several lengths
    "outbound_domains",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("sender", Text, primary_key=True),
    Column("hours", Integer, primary_key=True),  # 24 | 192 | 1536 | 6144
    Column("begins_at", BigInteger, primary_key=True),  # a multiple of that
    Column("domain", Text, primary_key=True),
    Column("delivered", BigInteger, nullable=False),
    Column("bounced", BigInteger, nullable=False),
    Column("deferred", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

inbound_hours = Table(  # recipients of mail from outside, by the hour in which it came
    "inbound_hours",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("domain", Text, primary_key=True),  # of the recipient
    Column("hour", BigInteger, primary_key=True),
    Column("accepted", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    Column("spam", BigInteger, nullable=False),  # of those accepted
    sqlite_with_rowid=False,
)

inbound_senders = Table(  # those accepted, by the domain of the envelope's sender; the null sender has none
    "inbound_senders",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("domain", Text, primary_key=True),
    Column("hours", Integer, primary_key=True),  # 1 | 24 | 192 | 1536 | 6144
    Column("begins_at", BigInteger, primary_key=True),
    Column("sender_domain", Text, primary_key=True),
    Column("accepted", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

inbound_cursors = Table(  # up to which event the mail that came in is counted
    "inbound_cursors",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("event_number", BigInteger, nullable=False),
)

webhooks = Table(  # places that are called when something happens
    "webhooks",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", ForeignKey(accounts.c.id), nullable=False),
    Column("public_id", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("types", Text, nullable=False),  # patterns, separated by spaces
    Column("mailbox_id", BigInteger),  # null: whatever the event is about
    Column("is_ordered", SmallInteger, nullable=False),
    Column("secret", Text, nullable=False),  # sealed
    Column("previous_secret", Text),  # sealed; signs too until previous_until
    Column("previous_until", BigInteger),
    Column("status", Text, nullable=False),  # active | disabled | broken | removed (its calls are being deleted)
    Column("event_number", BigInteger, nullable=False),  # up to here events have become calls
    Column("failures", Integer, nullable=False, default=0),  # since the last success
    Column("failing_since", BigInteger),
    Column("retry_at", BigInteger),  # not called before then, and then once
    Column("lease_owner", Text),
    Column("lease_until", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("account_id", "public_id"),
    sqlite_autoincrement=True,
)

webhook_calls = Table(  # one event for one webhook
    "webhook_calls",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("webhook_id", BigInteger, primary_key=True),
    Column("event_number", BigInteger, primary_key=True),
    Column("status", Text, nullable=False),  # pending | delivered | dead
    Column("attempts", Integer, nullable=False, default=0),  # in all
    Column("tries", Integer, nullable=False, default=0),  # since it was created or called again
    Column("tried_since", BigInteger),  # the first of those
    Column("next_attempt_at", BigInteger),  # null: final
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Index(None, "account_id", "webhook_id", "status", "event_number", "next_attempt_at"),
    sqlite_with_rowid=False,
)

webhook_attempts = Table(  # what each try of a call came to
    "webhook_attempts",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("webhook_id", BigInteger, primary_key=True),
    Column("event_number", BigInteger, primary_key=True),
    Column("attempt", Integer, primary_key=True),  # 1, 2 ...
    Column("attempted_at", BigInteger, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("status", Integer),  # HTTP's; null: no answer
    Column("error", Text),  # why there was none
    Column("answer", Text, nullable=False),  # its first KiB
    sqlite_with_rowid=False,
)

arrival_cursors = Table(  # accounts whose arrivals are kept: how far, and how many there are
    "arrival_cursors",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("form", Integer, nullable=False),  # core.arrivals.FORM that wrote the rows; another one: to be made anew
    Column("event_number", BigInteger, nullable=False),  # up to here events are applied
    Column("filled_to", LargeBinary),  # public id up to which older messages were taken in; null: all were
    Column("listed", BigInteger, nullable=False),
    Column("unread", BigInteger, nullable=False),
    Column("favorites", BigInteger, nullable=False),
)

arrivals = Table(  # messages that were received, as lists over a whole account show them; made from the event log
    "arrivals",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("mailbox_id", BigInteger, primary_key=True),
    Column("message_id", BigInteger, primary_key=True),
    Column("place", BigInteger, nullable=False),  # when it was received; made different for each that is listed
    Column("inbox_id", BigInteger, nullable=False),
    Column("sender_id", BigInteger, nullable=False),
    Column("subject_id", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("read_at", BigInteger),
    Column("is_favorite", SmallInteger, nullable=False),
    Column("deleted_at", BigInteger),  # when it went to the trash; null: it is listed
    sqlite_with_rowid=False,
)
_A = arrivals.c
_LISTED = _A.deleted_at.is_(None)
_TOLD = ("inbox_id", "sender_id", "subject_id", "read_at", "is_favorite", "deleted_at")
for _name, _first, _which in (
    ("listed", None, _LISTED),
    ("inbox", "inbox_id", _LISTED),
    ("sender", "sender_id", _LISTED),
    ("unread", None, _LISTED & _A.read_at.is_(None)),
    ("favorite", None, _LISTED & (_A.is_favorite == 1)),
):
    Index(  # with all that filters ask, so that no row need be looked at
        f"ix_arrivals_{_name}",
        _A.account_id,
        *([] if _first is None else [_A[_first]]),
        _A.place,
        *[_A[_column] for _column in _TOLD if _column != _first],
        sqlite_where=_which,
        postgresql_where=_which,
    )

correspondents = Table(  # the addresses that arrivals come from and go to; they stay when their mail is gone
    "correspondents",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("role", Text, primary_key=True),  # inbox | sender
    Column("id", BigInteger, primary_key=True),  # 1, 2 ... of each role
    Column("hash", BigInteger, nullable=False),  # of the role and the address
    Column("address", Text, nullable=False),  # folded
    Column("name", Text, nullable=False),  # in the newest mail; "": none
    Column("arrivals", BigInteger, nullable=False),  # that are listed
    Column("created_at", BigInteger, nullable=False),  # when the first mail came
    Column("updated_at", BigInteger, nullable=False),  # when the newest did
    Index(None, "account_id", "hash"),
    sqlite_with_rowid=False,
)

arrival_subjects = Table(  # each subject of listed arrivals once
    "arrival_subjects",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("id", BigInteger, primary_key=True),
    Column("hash", BigInteger, nullable=False),  # of the text
    Column("text", Text, nullable=False),  # mail.subjects.folded
    Column("arrivals", BigInteger, nullable=False),
    Index(None, "account_id", "hash"),
    sqlite_with_rowid=False,
)

arrival_words = Table(  # each word of those subjects
    "arrival_words",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("id", BigInteger, primary_key=True),
    Column("hash", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
    Column("arrivals", BigInteger, nullable=False),
    Index(None, "account_id", "hash"),
    sqlite_with_rowid=False,
)

arrival_postings = Table(  # which listed arrivals have a word in their subject
    "arrival_postings",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("word_id", BigInteger, primary_key=True),
    Column("place", BigInteger, primary_key=True),
    Column("subject_id", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

arrival_blocks = Table(  # words and addresses side by side, to be looked through as a whole
    "arrival_blocks",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("kind", Text, primary_key=True),  # word | inbox | sender
    Column("number", BigInteger, primary_key=True),
    Column("version", BigInteger, nullable=False),  # another whenever it is written: who knows it knows the texts
    Column("texts", LargeBinary, nullable=False),  # UTF-8: a line for each id from number * 1024 on, "" for none
    sqlite_with_rowid=False,
)

arrival_days = Table(  # what arrived and was deleted, by day; counters only, never counted anew
    "arrival_days",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("day", Integer, primary_key=True),  # since 1970, UTC
    Column("received", BigInteger, nullable=False),
    Column("inboxes", BigInteger, nullable=False),  # that had their first mail
    Column("size_bytes", BigInteger, nullable=False),  # of what was received
    Column("deleted", BigInteger, nullable=False),
    Column("deleted_bytes", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

automations = Table(  # what an account has done about mail that comes in
    "automations",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", ForeignKey(accounts.c.id), nullable=False),
    Column("public_id", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("sender", Text),  # a pattern, as the next two; null: any
    Column("inbox", Text),
    Column("subject", Text),
    Column("has_attachments", SmallInteger, nullable=False),
    Column("url", Text),  # what is called; null: nothing
    Column("payload_format", Text, nullable=False),  # json | raw | json_with_bodies
    Column("secret_token", Text),  # sealed; sent in clear with each call
    Column("signing_secret", Text, nullable=False),  # sealed
    Column("forward_to", Text),
    Column("deletes", SmallInteger, nullable=False),  # the message goes into the Trash after all of its runs
    Column("status", Text, nullable=False),  # active | removed (its runs are being deleted)
    Column("since_number", BigInteger, nullable=False),  # events up to here were before it
    Column("emails_received", BigInteger, nullable=False, default=0),
    Column("in_error", SmallInteger, nullable=False, default=0),  # the newest attempt failed
    Column("last_error", Text),
    Column("failures", Integer, nullable=False, default=0),  # since the last success
    Column("retry_at", BigInteger),  # nothing is attempted before then, and then once
    Column("lease_owner", Text),
    Column("lease_until", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("account_id", "public_id"),
    sqlite_autoincrement=True,
)

automation_cursors = Table(  # up to which event received messages have become runs
    "automation_cursors",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("event_number", BigInteger, nullable=False),
)

automation_runs = Table(  # one message for one automation
    "automation_runs",
    metadata,
    Column("account_id", BigInteger, primary_key=True),
    Column("automation_id", BigInteger, primary_key=True),
    Column("event_number", BigInteger, primary_key=True),  # of the event that told of the message
    Column("mailbox_id", BigInteger, nullable=False),
    Column("message_id", BigInteger, nullable=False),
    Column("message_public_id", LargeBinary, nullable=False),
    Column("status", Text, nullable=False),  # pending | done | failed
    Column("attempts", Integer, nullable=False, default=0),
    Column("tried_since", BigInteger),  # the first failure
    Column("next_attempt_at", BigInteger),  # null: final
    Column("http_status", Integer),  # of the newest attempt, as the next two
    Column("error", Text),
    Column("answer", Text, nullable=False, default=""),  # the first KiB
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Index(None, "account_id", "automation_id", "status", "event_number", "next_attempt_at"),
    sqlite_with_rowid=False,
)

index_queue = Table(  # messages whose place in the search index is to be made anew (or taken out: no such row any more)
    "index_queue",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", BigInteger, nullable=False),
    Column("message_id", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
