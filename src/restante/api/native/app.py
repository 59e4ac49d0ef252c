"""The native API's routes and its OpenAPI document."""

from collections.abc import Mapping
from typing import Any

import restante
from restante.api.native import errors, explain, shapes, waiting
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
operator sets; a cursor from before it is refused with 410 `events_pruned`."""

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
    return Dialect(
        name=NATIVE,
        router=router,
        render=errors.render,
        explain=errors.explain,
        describe=lambda servers: describe(router, servers),
        max_body_bytes=MAX_BODY_BYTES,
    )


def describe(router: IndexedRouter, servers: list[dict[str, str]]) -> Mapping[str, Any]:
    """The OpenAPI document of the routes, and of the bodies of events."""
    document = router.document(title="Restante", version=restante.__version__, description=_ABOUT, servers=servers)
    _, bodies = schemas.components(list(shapes.BODIES))
    document["components"]["schemas"].update(bodies)
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    return document
