"""The Mail API's routes and its OpenAPI document. Paths are the contract's; ``/api/v1`` is part of each."""

from collections.abc import Mapping
from typing import Any

import restante
from restante.api.mail_api import (
    domains,
    errors,
    mail_shapes,
    mailbox,
    permissions,
    search,
    shapes,
    signup,
    statistics,
    submission,
    tokens,
)
from restante.http.dialects import Dialect
from restante.http.ownership import MAIL_API
from restante.http.routing import IndexedRouter

PREFIX = "/api/v1"
MAILBOX = PREFIX + "/mailbox/{email:path}"  # a local part may have a slash in it (RFC 5322 §3.2.3)

MAX_BODY_BYTES = 36 * 1024 * 1024

_ABOUT = """Read mailboxes, search them, download attachments, follow delivery figures, sign up domains.

Send your token in the `X-MAILAPI-TOKEN` header. An **admin** token reaches every mailbox; a **user** token its own, and
those of domains that its user was granted `view_mailbox` on. Every answer but `/tokens/me` has `success`; refusals
carry `error` (a code for programs) and `message`. A token may make 100 requests a minute and 1000 an hour unless the
operator set other limits; the `X-RateLimit-*` headers tell what is left, a 429 says in `Retry-After` when to come back.
Keep tokens off clients and out of version control; retry 5xx answers with growing pauses; page with `limit` and
`offset`."""

_UNAUTHENTICATED = {401: ("NO_API_TOKEN, INVALID_TOKEN, TOKEN_EXPIRED", shapes.Failure)}
_LIMITED = {429: ("RATE_LIMITED", shapes.Failure)}
_DENIED = {403: ("ACCESS_DENIED", shapes.Failure)}
_WRONG = {422: ("VALIDATION_ERROR", shapes.Failure)}
_BODY = {400: ("INVALID_JSON", shapes.Failure), 415: ("UNSUPPORTED_MEDIA_TYPE", shapes.Failure), **_WRONG}
_FOLDER = {400: ("INVALID_FOLDER", shapes.Failure), **_WRONG, **_DENIED}
_TOKEN = {**_UNAUTHENTICATED, **_LIMITED}


def build(max_body_bytes: int = MAX_BODY_BYTES) -> Dialect:
    """The dialect, ready for the front."""
    router = IndexedRouter()
    _add_mail(router)
    _add_mailbox(router)
    _add_statistics(router)
    _add_administration(router)
    return Dialect(
        name=MAIL_API,
        router=router,
        render=errors.render,
        explain=errors.explain,
        describe=lambda servers: describe(router, servers),
        max_body_bytes=max_body_bytes,
    )


def _add_mail(router: IndexedRouter) -> None:
    router.add(
        "POST", PREFIX + "/mail/send", submission.send, tag="Mail", status=202, body=mail_shapes.SendRequest,
        answer=mail_shapes.Accepted,
        errors={
            **_TOKEN, **_BODY,
            403: ("DOMAIN_NOT_ALLOWED, SENDER_NOT_AUTHORIZED", shapes.Failure),
            409: ("IDEMPOTENCY_CONFLICT", shapes.Failure),
            413: ("PAYLOAD_TOO_LARGE", shapes.Failure),
            500: ("SEND_FAILED", mail_shapes.SendFailure),
        },
    )  # fmt: skip
    router.add(
        "GET", PREFIX + "/mail/sent", submission.list_sent, tag="Mail", query=mail_shapes.SentQuery,
        answer=mail_shapes.SentList, errors={**_TOKEN, **_WRONG},
    )  # fmt: skip
    router.add(
        "GET", PREFIX + "/mail/{message_id}/status", submission.get_status, tag="Mail", answer=mail_shapes.MessageState,
        errors={**_TOKEN, **_DENIED, 404: ("MESSAGE_NOT_FOUND", shapes.Failure)},
    )  # fmt: skip


def _add_mailbox(router: IndexedRouter) -> None:
    gone = {404: ("MAILBOX_NOT_FOUND (admin tokens)", shapes.Failure)}
    message = {404: ("MAILBOX_NOT_FOUND, MESSAGE_NOT_FOUND", shapes.Failure)}
    attachment = {404: ("MAILBOX_NOT_FOUND, MESSAGE_NOT_FOUND, ATTACHMENT_NOT_FOUND", shapes.Failure)}
    router.add(
        "GET", MAILBOX + "/folders", mailbox.list_folders, tag="Mailbox", answer=shapes.FolderList,
        errors={**_TOKEN, **_DENIED, **gone},
    )  # fmt: skip
    router.add(
        "GET", MAILBOX + "/messages", mailbox.list_messages, tag="Mailbox", query=shapes.ListQuery,
        answer=shapes.MessageList, errors={**_TOKEN, **_FOLDER, **gone},
    )  # fmt: skip
    router.add(
        "GET", MAILBOX + "/messages/{uid}", mailbox.get_message, tag="Mailbox", query=shapes.FolderQuery,
        answer=shapes.FullMessage, errors={**_TOKEN, **_FOLDER, **message},
    )  # fmt: skip
    router.add(
        "GET", MAILBOX + "/messages/{uid}/attachment/{index}", mailbox.get_attachment, tag="Mailbox",
        query=shapes.FolderQuery, answer="application/octet-stream", errors={**_TOKEN, **_FOLDER, **attachment},
    )  # fmt: skip
    router.add(
        "GET", MAILBOX + "/search", search.search, tag="Mailbox", query=shapes.SearchQuery,
        answer=shapes.SearchResult, errors={**_TOKEN, **_FOLDER, **gone},
    )  # fmt: skip


def _add_statistics(router: IndexedRouter) -> None:
    router.add(
        "GET", PREFIX + "/stats/delivery", statistics.get_delivery, tag="Stats", query=shapes.DeliveryQuery,
        answer=shapes.DeliveryStatistics, errors={**_TOKEN, **_DENIED, **_WRONG},
    )  # fmt: skip
    router.add(
        "GET", PREFIX + "/stats/domain/{domain}", statistics.get_domain, tag="Stats", query=shapes.PeriodQuery,
        answer=shapes.DomainStatistics,
        errors={**_TOKEN, **_DENIED, **_WRONG, 404: ("DOMAIN_NOT_FOUND (admin tokens)", shapes.Failure)},
    )  # fmt: skip


def _add_administration(router: IndexedRouter) -> None:
    router.add("GET", PREFIX + "/tokens/me", tokens.get_me, tag="Tokens", answer=shapes.TokenInfo, errors=_TOKEN)
    router.add(
        "POST", PREFIX + "/auth/signup", signup.signup, tag="Auth", status=201, body=shapes.Signup,
        answer=shapes.SignedUp, extra={"security": []},
        errors={
            **_BODY, **_LIMITED,
            400: ("INVALID_JSON, EMAIL_DOMAIN_MISMATCH, WEAK_PASSWORD, INVALID_DOMAIN", shapes.Failure),
            403: ("SIGNUP_DISABLED", shapes.Failure),
            409: ("DOMAIN_EXISTS", shapes.Failure),
        },
    )  # fmt: skip
    router.add(
        "POST", PREFIX + "/permissions/bulk", permissions.grant_bulk, tag="Permissions", status=201,
        body=shapes.BulkGrant, answer=shapes.Granted,
        errors={
            **_TOKEN, **_BODY, **_DENIED,
            400: ("INVALID_JSON, INVALID_PERMISSION", shapes.Failure),
            404: ("USER_NOT_FOUND, DOMAIN_NOT_FOUND", shapes.Failure),
        },
    )  # fmt: skip
    router.add(
        "GET", PREFIX + "/domains/pending", domains.list_pending, tag="Domains", answer=shapes.PendingDomains,
        errors={**_TOKEN, **_DENIED},
    )  # fmt: skip
    router.add(
        "POST", PREFIX + "/domains/{domain}/approve", domains.approve, tag="Domains", answer=shapes.Approved,
        errors={
            **_TOKEN, **_DENIED,
            404: ("DOMAIN_NOT_FOUND", shapes.Failure),
            409: ("DOMAIN_ALREADY_ACTIVE", shapes.Failure),
        },
    )  # fmt: skip


def describe(router: IndexedRouter, servers: list[dict[str, str]]) -> Mapping[str, Any]:
    """The OpenAPI document of the routes that there are."""
    document = router.document(title="Mail API", version=restante.__version__, description=_ABOUT, servers=servers)
    scheme = {"type": "apiKey", "in": "header", "name": "X-MAILAPI-TOKEN"}
    document["components"]["securitySchemes"] = {"token": scheme}
    document["security"] = [{"token": []}]
    return document
