"""Refusals as MailCare's framework words them: a ``message``; for 422 ``errors`` by field too, for 406 an ``error``."""

import msgspec
from msgspec import Struct

from restante import errors
from restante.http import problems
from restante.http.answers import Answer
from restante.http.problems import Problem, Refused

UNAUTHENTICATED = "Unauthenticated."
UNAUTHORIZED = "This action is unauthorized."
TOO_MANY = "Too Many Attempts."
WRONG = "The given data was invalid."
NOT_ACCEPTABLE = (
    "Not acceptable 'Accept' header. Please use this list: application/vnd.mailcare.v1+json,application/json,"
    "text/html,text/plain,message/rfc2822."
)
MAX_SHOWN = 100  # characters of an id


class Refusal(Struct, frozen=True):
    """What was refused, in words."""

    message: str


class WrongFields(Struct, frozen=True):
    """A request with wrong fields: the reasons by field."""

    message: str
    errors: dict[str, list[str]]


class NotAcceptable(Struct, frozen=True):
    """An Accept header that asks for nothing that there is."""

    error: str


def missing(model: str, wanted: str | None = None) -> Refused:
    """404 for an ``Email``, ``Inbox``, ``Team`` ..., with the id that was asked for, if one was."""
    text = f"No query results for model [App\\{model}]" + ("." if wanted is None else f" {wanted[:MAX_SHOWN]}")
    return Refused(Problem(404, "not_found", text))


def explain(error: errors.RestanteError) -> Problem:
    """An expected failure."""
    ordinary = problems.from_error(error)
    match error:
        case errors.Unauthenticated():
            message = UNAUTHENTICATED
        case errors.Forbidden():
            message = UNAUTHORIZED
        case errors.RateLimited():
            message = TOO_MANY
        case errors.NotFound() if error.code == "message_not_found":  # it went while it was read
            message = "No query results for model [App\\Email]."
        case _:
            message = ordinary.message
    return Problem(ordinary.status, ordinary.code, message, ordinary.fields, ordinary.headers)


def render(problem: Problem) -> Answer:
    """The envelope."""
    shape: Struct
    if problem.status == 406:
        shape = NotAcceptable(problem.message)
    elif problem.status == 422 and problem.fields:
        shape = WrongFields(WRONG, {name: list(reasons) for name, reasons in problem.fields.items()})
    elif problem.status == 422:
        shape = WrongFields(problem.message, {})
    else:
        shape = Refusal(problem.message)
    return Answer(msgspec.json.encode(shape), problem.status, headers=problem.headers)
