"""MailCare's routes, at both of its bases, and its OpenAPI document."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import restante
from restante.api.mailcare import automations, emails, errors, queries, statistics
from restante.api.mailcare.paging import EmailList
from restante.api.mailcare.representations import Form
from restante.http.dialects import Dialect
from restante.http.ownership import MAILCARE
from restante.http.routing import IndexedRouter
from restante.services.email_form import EmailDocument

HOSTED = "/api/teams/{team}"
OLDER = "/api"
MAX_BODY_BYTES = 64 * 1024

_ABOUT = """The mail that a team received: list it, read it, mark it, delete it, have something done about it.

A team is an account; its id stands in `restante account list --json` as `public_id`. At `/api/teams/{team}` send a
token of the dialect `mailcare` as `Authorization: Bearer`; `restante token create --dialect mailcare --account NAME`
makes one. At the older base, `/api`, members log in with HTTP Basic: address and password of a mailbox whose user is a
member (`restante mailbox role ADDRESS member`) or an operator.

Ask for a version with `Accept: application/vnd.mailcare.v1+json`. Refusals have `message`; with 422 `errors` names the
reasons by field. `X-RateLimit-Remaining` tells what is left of the minute, `Retry-After` of a 429 when to come back."""

_REFUSED = {
    401: ("No credential, or one that does not hold", errors.Refusal),
    403: ("The token lacks the permission", errors.Refusal),
    429: ("Too many requests", errors.Refusal),
}
_ABSENT = {**_REFUSED, 404: ("No such team, email or attachment", errors.Refusal)}
_WRONG = {422: ("Wrong parameters", errors.WrongFields)}
_BODY = {
    **_WRONG,
    400: ("The body is no JSON", errors.Refusal),
    413: ("The body is too large", errors.Refusal),
    415: ("The body is neither JSON nor a form", errors.Refusal),
}
_EMPTY = "text/html"


def build() -> Dialect:
    """The dialect, ready for the front."""
    router = _routes()
    return Dialect(
        name=MAILCARE,
        router=router,
        render=errors.render,
        explain=errors.explain,
        describe=lambda servers: describe(router, servers),
        max_body_bytes=MAX_BODY_BYTES,
    )


@cache
def _routes() -> IndexedRouter:
    router = IndexedRouter()
    for base, tag, scheme in ((HOSTED, "Team", "token"), (OLDER, "Member", "member")):
        add = partial(router.add, tag=tag, extra={"security": [{scheme: []}]})
        _add_emails(add, base)
        add("GET", base + "/statistics", statistics.get_statistics, answer=statistics.Statistics, errors=_ABSENT)
        _add_automations(add, base)
    return router


def _add_emails(add: Callable[..., None], base: str) -> None:
    add(
        "GET", base + "/emails", emails.list_emails, query=queries.ListQuery, answer=EmailList,
        errors={**_ABSENT, **_WRONG},
    )  # fmt: skip
    one = base + "/emails/{id}"
    add(
        "GET", one, emails.get_email, answer=EmailDocument,
        errors={**_ABSENT, 406: ("Nothing that Accept asks for", errors.NotAcceptable)},
    )  # fmt: skip
    add("DELETE", one, emails.delete_email, answer=_EMPTY, errors=_ABSENT)
    add("POST", one + "/favorites", emails.add_favorite, answer=_EMPTY, errors=_ABSENT)
    add("DELETE", one + "/favorites", emails.remove_favorite, answer=_EMPTY, errors=_ABSENT)
    add("GET", one + "/attachments/{attachment}", emails.get_attachment, answer="*/*", errors=_ABSENT)


def _add_automations(add: Callable[..., None], base: str) -> None:
    place, told = base + "/automations", {**_ABSENT, **_BODY}
    is_hosted = base == HOSTED
    answer: Any = automations.AutomationDocument if is_hosted else _EMPTY
    add("GET", place, automations.list_automations, answer=automations.AutomationList, errors=_ABSENT)
    add(
        "POST", place, automations.create, body=automations.AutomationRequest, answer=answer,
        status=201 if is_hosted else 200, errors=told,
    )  # fmt: skip
    one = place + "/{id}"
    add("PUT", one, automations.change, body=automations.AutomationRequest, answer=answer, errors=told)
    add("DELETE", one, automations.remove, answer=_EMPTY, errors=_ABSENT)


def describe(router: IndexedRouter, servers: list[dict[str, str]]) -> Mapping[str, Any]:
    """The OpenAPI document of the routes."""
    document = router.document(title="MailCare", version=restante.__version__, description=_ABOUT, servers=servers)
    document["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer"},
        "member": {"type": "http", "scheme": "basic"},
    }
    for base in (HOSTED, OLDER):
        forms = document["paths"][base + "/emails/{id}"]["get"]["responses"]["200"]["content"]
        forms[Form.VERSIONED.value] = forms[Form.JSON.value]
        forms |= {form.value: {"schema": {"type": "string"}} for form in (Form.HTML, Form.TEXT, Form.RAW)}
    return document
