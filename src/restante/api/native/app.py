"""The native API's routes and its OpenAPI document."""

from collections.abc import Mapping
from typing import Any

import restante
from restante.api.native import automations, errors, explain, retention, shapes, waiting, webhooks
from restante.api.native.events import Events
from restante.http import schemas
from restante.http.dialects import Dialect
from restante.http.live import Live
from restante.http.ownership import NATIVE
from restante.http.routing import IndexedRouter

PREFIX = "/restante/v1"
MAX_BODY_BYTES = 1024 * 1024

_ABOUT = """Follow what happens, wait for a message, ask why a message is where it is.

Send a token of the dialect `native` as `Authorization: Bearer rst_...`; `restante token create --dialect native` makes
one, for an account or for one mailbox. Refusals are RFC 9457 problems (`application/problem+json`); programs look at
their `code`. `RateLimit` tells what is left of the minute, `Retry-After` of a 429 when to come back.

**Events.** Everything that happens is an event in its account's log, numbered without gaps; the number is the cursor.
`GET /restante/v1/events?after=CURSOR` gives a page, the same with `Accept: text/event-stream` stays open and tells what
happens from now on; a client that comes back with `Last-Event-ID` misses nothing. Events are kept for a time that the
operator sets; a cursor from before it is refused with 410 `events_pruned`.

**Webhooks.** The same events, posted to URLs of the account as Standard Webhooks has it, at least once.

**Automations.** For each message that comes in and meets their conditions they call a URL in MailCare's form, or send
the message on, and move it into the Trash, where that is asked for.

**Retention.** How long the account's mail is kept, and how much of it."""

_REFUSED = {
    401: ("no_token, invalid_token, token_expired", errors.ProblemDetails),
    403: ("scope_missing", errors.ProblemDetails),
    429: ("rate_limited", errors.ProblemDetails),
}
_WRONG = {422: ("invalid", errors.ProblemDetails)}


def build(live: Live) -> Dialect:
    """The dialect, ready for the front; ``live`` are the server's streams."""
    router = IndexedRouter()
    router.add(
        "GET", PREFIX + "/events", Events(live).list_events, tag="Events", query=shapes.EventQuery,
        answer=shapes.EventList,
        errors={
            **_REFUSED, **_WRONG,
            404: ("mailbox_not_found", errors.ProblemDetails), 410: ("events_pruned", errors.ProblemDetails),
        },
    )  # fmt: skip
    router.add(
        "POST", PREFIX + "/mailboxes/{address:path}/wait", waiting.wait, tag="Messages", body=waiting.Wanted,
        answer=waiting.Waited,
        errors={
            **_REFUSED, **_WRONG, 400: ("invalid_json", errors.ProblemDetails),
            404: ("mailbox_not_found", errors.ProblemDetails), 410: ("events_pruned", errors.ProblemDetails),
        },
    )  # fmt: skip
    router.add(
        "GET", PREFIX + "/messages/{id}/explain", explain.explain, tag="Messages", answer=explain.Explained,
        errors={**_REFUSED, 404: ("message_not_found", errors.ProblemDetails)},
    )  # fmt: skip
    _add_webhooks(router)
    _add_retention(router)
    _add_automations(router)
    return Dialect(
        name=NATIVE,
        router=router,
        render=errors.render,
        explain=errors.explain,
        describe=lambda servers: describe(router, servers),
        max_body_bytes=MAX_BODY_BYTES,
    )


def _add_webhooks(router: IndexedRouter) -> None:
    place, tag = PREFIX + "/webhooks", "Webhooks"
    absent = {**_REFUSED, 404: ("webhook_not_found", errors.ProblemDetails)}
    told = {**absent, **_WRONG, 400: ("invalid_json", errors.ProblemDetails)}
    once = {409: ("webhook_not_active, idempotency_conflict", errors.ProblemDetails)}
    router.add(
        "GET", place, webhooks.list_webhooks, tag=tag, answer=webhooks.WebhookList, errors=_REFUSED,
    )  # fmt: skip
    router.add(
        "POST", place, webhooks.create, tag=tag, body=webhooks.NewWebhookItem, answer=webhooks.WebhookSecret,
        status=201, errors={**told, 409: ("idempotency_conflict", errors.ProblemDetails)},
    )  # fmt: skip
    place += "/{id}"
    router.add("GET", place, webhooks.get, tag=tag, answer=webhooks.WebhookItem, errors=absent)
    router.add(
        "PATCH", place, webhooks.change, tag=tag, body=webhooks.WebhookChange, answer=webhooks.WebhookItem,
        errors={**told, 409: ("webhook_secret_lost", errors.ProblemDetails)},
    )  # fmt: skip
    router.add("DELETE", place, webhooks.remove, tag=tag, answer=webhooks.Removed, errors=absent)
    router.add(
        "POST", place + "/rotate-secret", webhooks.rotate_secret, tag=tag, answer=webhooks.WebhookSecret,
        errors={**absent, 409: ("idempotency_conflict", errors.ProblemDetails)},
    )  # fmt: skip
    router.add(
        "POST", place + "/test", webhooks.ping, tag=tag, answer=webhooks.Tested, status=202,
        errors={**absent, **once},
    )  # fmt: skip
    router.add(
        "POST", place + "/redeliver", webhooks.redeliver, tag=tag, body=webhooks.Again, answer=webhooks.Redelivered,
        status=202, errors={**told, **once, 410: ("events_pruned", errors.ProblemDetails)},
    )  # fmt: skip
    router.add(
        "GET", place + "/calls", webhooks.list_calls, tag=tag, query=webhooks.CallQuery, answer=webhooks.CallList,
        errors={**absent, **_WRONG},
    )  # fmt: skip
    router.add(
        "GET", place + "/calls/{call}", webhooks.get_call, tag=tag, answer=webhooks.CallDetails,
        errors={**_REFUSED, 404: ("webhook_not_found, call_not_found", errors.ProblemDetails)},
    )  # fmt: skip


def _add_retention(router: IndexedRouter) -> None:
    place, tag = PREFIX + "/retention", "Retention"
    told = {**_REFUSED, **_WRONG, 400: ("invalid_json", errors.ProblemDetails)}
    missing = {404: ("domain_not_found, mailbox_not_found, rule_not_found", errors.ProblemDetails)}
    router.add("GET", place, retention.show, tag=tag, answer=retention.Retention, errors=_REFUSED)
    router.add(
        "PUT", place, retention.set_rule, tag=tag, body=retention.NewRule, answer=retention.RuleItem,
        errors={**told, **missing, 422: ("invalid, too_many_rules", errors.ProblemDetails)},
    )  # fmt: skip
    router.add(
        "DELETE", place, retention.remove_rule, tag=tag, query=retention.RuleQuery, answer=retention.RuleRemoved,
        errors={**_REFUSED, **_WRONG, **missing},
    )  # fmt: skip
    router.add(
        "PUT", place + "/forecast", retention.set_forecast, tag=tag, body=retention.ForecastSwitch,
        answer=retention.ForecastItem, errors=told,
    )  # fmt: skip


def _add_automations(router: IndexedRouter) -> None:
    place, tag = PREFIX + "/automations", "Automations"
    absent = {**_REFUSED, 404: ("automation_not_found", errors.ProblemDetails)}
    told = {**absent, **_WRONG, 400: ("invalid_json", errors.ProblemDetails)}
    once = {409: ("idempotency_conflict", errors.ProblemDetails)}
    router.add(
        "GET", place, automations.list_automations, tag=tag, answer=automations.AutomationList, errors=_REFUSED,
    )  # fmt: skip
    router.add(
        "POST", place, automations.create, tag=tag, body=automations.NewAutomationItem,
        answer=automations.AutomationSecret, status=201, errors={**told, **once},
    )  # fmt: skip
    place += "/{id}"
    router.add("GET", place, automations.get, tag=tag, answer=automations.AutomationItem, errors=absent)
    router.add(
        "PATCH", place, automations.change, tag=tag, body=automations.AutomationChange,
        answer=automations.AutomationItem,
        errors={**told, 409: ("automation_secret_lost", errors.ProblemDetails)},
    )  # fmt: skip
    router.add("DELETE", place, automations.remove, tag=tag, answer=automations.AutomationRemoved, errors=absent)
    router.add(
        "POST", place + "/rotate-secret", automations.rotate_secret, tag=tag, answer=automations.AutomationSecret,
        errors={**absent, **once},
    )  # fmt: skip
    router.add(
        "GET", place + "/runs", automations.list_runs, tag=tag, query=automations.RunQuery, answer=automations.RunList,
        errors={**absent, **_WRONG},
    )  # fmt: skip


def describe(router: IndexedRouter, servers: list[dict[str, str]]) -> Mapping[str, Any]:
    """The OpenAPI document of the routes, and of the bodies of events."""
    document = router.document(title="Restante", version=restante.__version__, description=_ABOUT, servers=servers)
    _, bodies = schemas.components(list(shapes.BODIES))
    document["components"]["schemas"].update(bodies)
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    return document
