"""The Mail API's routes and its OpenAPI document. Paths are the contract's; ``/api/v1`` is part of each."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import restante
from restante.api.mail_api import (
    domains,
    errors,
    filing,
    folders,
    mail_shapes,
    mailbox,
    permissions,
    search,
    sessions,
    shapes,
    signup,
    statistics,
    statistics_shapes,
    submission,
    tokens,
    tracking,
    users,
)
from restante.http.dialects import Dialect
from restante.http.ownership import MAIL_API
from restante.http.routing import IndexedRouter

PREFIX = "/api/v1"
MAILBOX = PREFIX + "/mailbox/{email:path}"  # a local part may have a slash in it (RFC 5322 §3.2.3)

MAX_BODY_BYTES = 36 * 1024 * 1024

_ABOUT = """Keep and search mailboxes, follow delivery figures, administer users, domains, tokens and permissions.

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
    router = _routes()
    return Dialect(
        name=MAIL_API,
        router=router,
        render=errors.render,
        explain=errors.explain,
        describe=lambda servers: describe(router, servers),
        max_body_bytes=max_body_bytes,
    )


@cache
def _routes() -> IndexedRouter:
    """All of them; compiling them takes a tenth of a second, so it is done once."""
    router = IndexedRouter()
    for add in (
        _add_auth, _add_mail, _add_mailbox, _add_users, _add_domains, _add_tokens, _add_statistics, _add_permissions,
    ):  # fmt: skip
        add(router)
    return router


def _add_auth(router: IndexedRouter) -> None:
    at = PREFIX + "/auth"
    router.add(
        "POST", at + "/signup", signup.signup, tag="Auth", status=201, body=shapes.Signup,
        answer=shapes.SignedUp, extra={"security": []},
        errors={
            **_BODY, **_LIMITED,
            400: ("INVALID_JSON, EMAIL_DOMAIN_MISMATCH, WEAK_PASSWORD, INVALID_DOMAIN", shapes.Failure),
            403: ("SIGNUP_DISABLED", shapes.Failure),
            409: ("DOMAIN_EXISTS", shapes.Failure),
        },
    )  # fmt: skip
    router.add(
        "POST", at + "/login", sessions.login, tag="Auth", body=sessions.Login, answer=sessions.LoggedIn,
        extra={"security": []}, errors={**_BODY, **_LIMITED, 401: ("INVALID_CREDENTIALS", shapes.Failure)},
    )  # fmt: skip
    router.add(
        "POST", at + "/logout", sessions.logout, tag="Auth", answer=shapes.Done,
        errors={**_TOKEN, 409: ("NOT_A_SESSION", shapes.Failure)},
    )  # fmt: skip
    router.add("GET", at + "/me", sessions.get_me, tag="Auth", answer=sessions.Me, errors=_TOKEN)
    router.add(
        "POST", at + "/regenerate-key", sessions.regenerate_key, tag="Auth", answer=sessions.NewKey, errors=_TOKEN
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
            503: ("TOO_BUSY", shapes.Failure),
        },
    )  # fmt: skip
    router.add(
        "GET", PREFIX + "/mail/sent", submission.list_sent, tag="Mail", query=mail_shapes.SentQuery,
        answer=mail_shapes.SentList, errors={**_TOKEN, **_WRONG},
    )  # fmt: skip
    router.add(
        "GET", PREFIX + "/mail/inbox", mailbox.list_inbox, tag="Mail", query=mail_shapes.InboxQuery,
        answer=shapes.MessageList,
        errors={**_TOKEN, **_DENIED, **_WRONG, 404: ("MAILBOX_NOT_FOUND (admin tokens)", shapes.Failure)},
    )  # fmt: skip
    one = PREFIX + "/mail/{message_id}"
    followed = {**_TOKEN, **_DENIED, 404: ("MESSAGE_NOT_FOUND", shapes.Failure)}
    router.add("GET", one, tracking.get_detail, tag="Mail", answer=mail_shapes.MessageDetail, errors=followed)
    router.add(
        "GET", one + "/status", submission.get_status, tag="Mail", answer=mail_shapes.MessageState, errors=followed
    )
    router.add("GET", one + "/log", tracking.list_log, tag="Mail", answer=mail_shapes.DeliveryLog, errors=followed)
    router.add(
        "POST", one + "/resend", tracking.resend, tag="Mail", status=202, body=mail_shapes.Resend,
        answer=mail_shapes.Accepted,
        errors={
            **followed, **_BODY,
            403: ("ACCESS_DENIED, DOMAIN_NOT_ALLOWED, SENDER_NOT_AUTHORIZED", shapes.Failure),
            409: ("NOTHING_BOUNCED, BYTES_GONE", shapes.Failure),
            500: ("SEND_FAILED", mail_shapes.SendFailure),
        },
    )  # fmt: skip
    router.add(
        "POST", one + "/cancel", tracking.cancel, tag="Mail", answer=mail_shapes.Cancelled,
        errors={**followed, 409: ("ALREADY_FINAL", shapes.Failure)},
    )  # fmt: skip


def _add_mailbox(router: IndexedRouter) -> None:
    gone = {404: ("MAILBOX_NOT_FOUND (admin tokens)", shapes.Failure)}
    message = {404: ("MAILBOX_NOT_FOUND, MESSAGE_NOT_FOUND", shapes.Failure)}
    attachment = {404: ("MAILBOX_NOT_FOUND, MESSAGE_NOT_FOUND, ATTACHMENT_NOT_FOUND", shapes.Failure)}
    folder_errors = {**_TOKEN, **_BODY, **_FOLDER, **gone}
    conflict = {409: ("FOLDER_EXISTS, FOLDER_PROTECTED, FOLDER_NOT_EMPTY", shapes.Failure)}
    router.add(
        "GET", MAILBOX + "/folders", mailbox.list_folders, tag="Mailbox", answer=shapes.FolderList,
        errors={**_TOKEN, **_DENIED, **gone},
    )  # fmt: skip
    router.add(
        "POST", MAILBOX + "/folders", folders.create_folder, tag="Mailbox", status=201, body=folders.NewFolder,
        answer=folders.FolderAnswer, errors={**folder_errors, **conflict},
    )  # fmt: skip
    router.add(
        "PUT", MAILBOX + "/folders", folders.rename_folder, tag="Mailbox", query=folders.WhichFolder,
        body=folders.NewFolder, answer=folders.FolderAnswer, errors={**folder_errors, **conflict},
    )  # fmt: skip
    router.add(
        "DELETE", MAILBOX + "/folders", folders.delete_folder, tag="Mailbox", query=folders.WhichFolder,
        answer=shapes.Done, errors={**_TOKEN, **_FOLDER, **gone, **conflict},
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
        "PATCH", MAILBOX + "/messages/{uid}", filing.change_message, tag="Mailbox", query=shapes.FolderQuery,
        body=filing.MessageChanges, answer=filing.ChangedMessage,
        errors={**_TOKEN, **_BODY, **_FOLDER, **message},
    )  # fmt: skip
    router.add(
        "DELETE", MAILBOX + "/messages/{uid}", filing.delete_message, tag="Mailbox", query=filing.DeleteQuery,
        answer=shapes.Done, errors={**_TOKEN, **_FOLDER, **message},
    )  # fmt: skip
    router.add(
        "GET", MAILBOX + "/messages/{uid}/raw", filing.get_raw, tag="Mailbox", query=shapes.FolderQuery,
        answer="message/rfc822", errors={**_TOKEN, **_FOLDER, **message},
    )  # fmt: skip
    router.add(
        "GET", MAILBOX + "/messages/{uid}/attachment/{index}", mailbox.get_attachment, tag="Mailbox",
        query=shapes.FolderQuery, answer="application/octet-stream", errors={**_TOKEN, **_FOLDER, **attachment},
    )  # fmt: skip
    router.add(
        "GET", MAILBOX + "/search", search.search, tag="Mailbox", query=shapes.SearchQuery,
        answer=shapes.SearchResult, errors={**_TOKEN, **_FOLDER, **gone},
    )  # fmt: skip
    router.add(
        "GET", MAILBOX + "/quota", filing.get_quota, tag="Mailbox", answer=filing.QuotaAnswer,
        errors={**_TOKEN, **_DENIED, **gone},
    )  # fmt: skip


def _add_users(router: IndexedRouter) -> None:
    every, one = PREFIX + "/users", PREFIX + "/users/{email:address}"
    gone = {404: ("USER_NOT_FOUND (admin tokens)", shapes.Failure)}
    there, common = {409: ("EMAIL_EXISTS", shapes.Failure)}, {**_TOKEN, **_DENIED, **gone}
    weak = {400: ("INVALID_JSON, WEAK_PASSWORD", shapes.Failure)}
    domain = {404: ("DOMAIN_NOT_FOUND (admin tokens)", shapes.Failure)}
    router.add(
        "GET", every, users.list_users, tag="Users", query=users.UserQuery, answer=users.UserList,
        errors={**_TOKEN, **_WRONG, **_DENIED, **domain},
    )  # fmt: skip
    router.add(
        "POST", every, users.create_user, tag="Users", status=201, body=users.NewUser, answer=users.UserAnswer,
        errors={**_TOKEN, **_DENIED, **_BODY, **weak, **there, **domain},
    )  # fmt: skip
    router.add("GET", one, users.get_user, tag="Users", answer=users.UserAnswer, errors=common)
    router.add(
        "PUT", one, users.update_user, tag="Users", body=users.UserChanges, answer=users.UserAnswer,
        errors={**common, **_BODY},
    )  # fmt: skip
    router.add(
        "DELETE", one, users.delete_user, tag="Users", query=shapes.RemoveQuery, answer=shapes.Done,
        errors={**common, **_WRONG, 409: ("MAILBOX_NOT_EMPTY", shapes.Failure)},
    )  # fmt: skip
    router.add("POST", one + "/enable", users.enable_user, tag="Users", answer=users.UserAnswer, errors=common)
    router.add("POST", one + "/disable", users.disable_user, tag="Users", answer=users.UserAnswer, errors=common)
    router.add(
        "PUT", one + "/quota", users.set_quota, tag="Users", body=users.NewQuota, answer=users.UserAnswer,
        errors={**common, **_BODY},
    )  # fmt: skip
    router.add(
        "PUT", one + "/password", users.set_password, tag="Users", body=users.NewPassword, answer=shapes.Done,
        errors={**common, **_BODY, **weak, 401: (_UNAUTHENTICATED[401][0] + ", INVALID_CREDENTIALS", shapes.Failure)},
    )  # fmt: skip
    router.add(
        "PATCH", one + "/aliases", users.change_aliases, tag="Users", body=users.AliasChanges, answer=users.AliasList,
        errors={
            **common, **_BODY, **there,
            404: ("USER_NOT_FOUND, DOMAIN_NOT_FOUND (admin tokens), ALIAS_NOT_FOUND", shapes.Failure),
        },
    )  # fmt: skip


def _add_domains(router: IndexedRouter) -> None:
    every, one = PREFIX + "/domains", PREFIX + "/domains/{domain}"
    gone = {404: ("DOMAIN_NOT_FOUND (admin tokens)", shapes.Failure)}
    common = {**_TOKEN, **_DENIED, **gone}
    router.add(
        "GET", every, domains.list_domains, tag="Domains", query=domains.DomainQuery, answer=domains.DomainList,
        errors={**_TOKEN, **_WRONG, **_DENIED},
    )  # fmt: skip
    router.add(
        "POST", every, domains.create_domain, tag="Domains", status=201, body=domains.NewDomain,
        answer=domains.DomainAnswer,
        errors={
            **_TOKEN, **_DENIED, **_BODY,
            400: ("INVALID_JSON, INVALID_DOMAIN", shapes.Failure),
            404: ("NOT_FOUND: no such account", shapes.Failure),
            409: ("DOMAIN_EXISTS", shapes.Failure),
        },
    )  # fmt: skip
    router.add(
        "GET", every + "/pending", domains.list_pending, tag="Domains", answer=shapes.PendingDomains,
        errors={**_TOKEN, **_DENIED},
    )  # fmt: skip
    router.add("GET", one, domains.get_domain, tag="Domains", answer=domains.DomainAnswer, errors=common)
    router.add(
        "PUT", one, domains.update_domain, tag="Domains", body=domains.DomainChanges, answer=domains.DomainAnswer,
        errors={**common, **_BODY, 404: ("DOMAIN_NOT_FOUND (admin tokens), USER_NOT_FOUND", shapes.Failure)},
    )  # fmt: skip
    router.add(
        "DELETE", one, domains.delete_domain, tag="Domains", query=shapes.RemoveQuery, answer=shapes.Done,
        errors={**common, **_WRONG, 409: ("DOMAIN_NOT_EMPTY", shapes.Failure)},
    )  # fmt: skip
    router.add("GET", one + "/dns", domains.list_records, tag="Domains", answer=domains.DnsRecords, errors=common)
    router.add("POST", one + "/verify", domains.verify, tag="Domains", answer=domains.Verified, errors=common)
    router.add(
        "POST", one + "/approve", domains.approve, tag="Domains", answer=shapes.Approved,
        errors={**common, 409: ("DOMAIN_ALREADY_ACTIVE", shapes.Failure)},
    )  # fmt: skip


def _add_tokens(router: IndexedRouter) -> None:
    every, one = PREFIX + "/tokens", PREFIX + "/tokens/{id}"
    gone = {404: ("TOKEN_NOT_FOUND", shapes.Failure)}
    holder = {404: ("MAILBOX_NOT_FOUND (admin tokens)", shapes.Failure)}
    router.add("GET", every + "/me", tokens.get_me, tag="Tokens", answer=shapes.TokenInfo, errors=_TOKEN)
    router.add(
        "GET", every, tokens.list_tokens, tag="Tokens", query=tokens.TokenQuery, answer=tokens.TokenList,
        errors={**_TOKEN, **_WRONG, **_DENIED, **holder},
    )  # fmt: skip
    router.add(
        "POST", every, tokens.create_token, tag="Tokens", status=201, body=tokens.NewToken, answer=tokens.MadeToken,
        errors={**_TOKEN, **_BODY, **_DENIED, **holder},
    )  # fmt: skip
    router.add("GET", one, tokens.get_token, tag="Tokens", answer=tokens.TokenAnswer, errors={**_TOKEN, **gone})
    router.add(
        "PUT", one, tokens.update_token, tag="Tokens", body=tokens.TokenChanges, answer=tokens.TokenAnswer,
        errors={**_TOKEN, **_BODY, **_DENIED, **gone},
    )  # fmt: skip
    router.add("DELETE", one, tokens.delete_token, tag="Tokens", answer=shapes.Done, errors={**_TOKEN, **gone})


def _add_statistics(router: IndexedRouter) -> None:
    shape = statistics_shapes
    no_domain = {404: ("DOMAIN_NOT_FOUND (admin tokens)", shapes.Failure)}
    no_mailbox = {404: ("MAILBOX_NOT_FOUND (admin tokens)", shapes.Failure)}
    for path, handler, query, answer, missing in (
        ("delivery", statistics.get_delivery, shape.DeliveryQuery, shape.DeliveryStatistics, {}),
        ("domain/{domain}", statistics.get_domain, shape.PeriodQuery, shape.DomainStatistics, no_domain),
        ("user/{email:address}", statistics.get_user, shape.PeriodQuery, shape.UserStatistics, no_mailbox),
        ("inbound", statistics.get_inbound, shape.InboundQuery, shape.InboundStatistics, no_domain),
        ("senders", statistics.list_senders, shape.SendersQuery, shape.TopSenders, no_domain),
        ("queue", statistics.get_queue, shape.SenderQuery, shape.QueueStatistics, {}),
        ("summary", statistics.get_summary, shape.SenderQuery, shape.Summary, {}),
    ):
        refusals = {**_TOKEN, **_DENIED, **_WRONG, **missing}
        router.add("GET", f"{PREFIX}/stats/{path}", handler, tag="Stats", query=query, answer=answer, errors=refusals)


def _add_permissions(router: IndexedRouter) -> None:
    every, one = PREFIX + "/permissions", PREFIX + "/permissions/{email:address}"
    gone = {404: ("USER_NOT_FOUND, DOMAIN_NOT_FOUND", shapes.Failure)}
    wrong = {400: ("INVALID_JSON, INVALID_PERMISSION", shapes.Failure)}
    router.add(
        "POST", every + "/bulk", permissions.grant_bulk, tag="Permissions", status=201, body=shapes.BulkGrant,
        answer=shapes.Granted, errors={**_TOKEN, **_BODY, **_DENIED, **wrong, **gone},
    )  # fmt: skip
    router.add(
        "GET", every + "/catalogue", permissions.catalogue, tag="Permissions", answer=permissions.Catalogue,
        errors=_TOKEN,
    )  # fmt: skip
    router.add(
        "GET", every, permissions.list_grants, tag="Permissions", query=permissions.GrantQuery,
        answer=permissions.GrantList,
        errors={**_TOKEN, **_WRONG, **_DENIED, 404: ("DOMAIN_NOT_FOUND", shapes.Failure)},
    )  # fmt: skip
    router.add(
        "POST", every, permissions.grant, tag="Permissions", status=201, body=permissions.OneGrant,
        answer=shapes.Granted, errors={**_TOKEN, **_BODY, **_DENIED, **wrong, **gone},
    )  # fmt: skip
    router.add(
        "GET", one, permissions.list_of_user, tag="Permissions", answer=permissions.GrantList,
        errors={**_TOKEN, **_DENIED, 404: ("USER_NOT_FOUND (admin tokens)", shapes.Failure)},
    )  # fmt: skip
    router.add(
        "DELETE", one, permissions.revoke, tag="Permissions", query=permissions.RevokeQuery, answer=shapes.Done,
        errors={
            **_TOKEN, **_WRONG, **_DENIED,
            400: ("INVALID_PERMISSION", shapes.Failure),
            404: ("USER_NOT_FOUND, DOMAIN_NOT_FOUND, PERMISSION_NOT_FOUND", shapes.Failure),
        },
    )  # fmt: skip


def describe(router: IndexedRouter, servers: list[dict[str, str]]) -> Mapping[str, Any]:
    """The OpenAPI document of the routes that there are."""
    document = router.document(title="Mail API", version=restante.__version__, description=_ABOUT, servers=servers)
    scheme = {"type": "apiKey", "in": "header", "name": "X-MAILAPI-TOKEN"}
    document["components"]["securitySchemes"] = {"token": scheme}
    document["security"] = [{"token": []}]
    return document
