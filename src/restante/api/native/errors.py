"""Refusals as RFC 9457 problems: ``application/problem+json`` with a stable ``code`` and the fields that were wrong."""

from http import HTTPStatus

import msgspec

from restante import errors
from restante.http import problems
from restante.http.answers import Answer
from restante.http.problems import Problem

PROBLEM = b"application/problem+json"
TYPE = "urn:restante:problem:"

# Codes whose status differs from the ordinary one of their class.
NAMED: dict[str, int] = {"events_pruned": 410}


class WrongField(msgspec.Struct):
    """A field of the request, and what it should be."""

    field: str
    reason: str


class ProblemDetails(msgspec.Struct, omit_defaults=True):
    """A refusal (RFC 9457). Programs look at ``code``."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[WrongField] = []


def explain(error: errors.RestanteError) -> Problem:
    """An expected failure."""
    ordinary = problems.from_error(error)
    status = NAMED.get(error.code, ordinary.status)
    return Problem(status, ordinary.code, ordinary.message, ordinary.fields, ordinary.headers)


def render(problem: Problem) -> Answer:
    """The envelope."""
    wrong = [WrongField(name, reason) for name, reasons in problem.fields.items() for reason in reasons]
    title = HTTPStatus(problem.status).phrase
    details = ProblemDetails(TYPE + problem.code, title, problem.status, problem.message, problem.code, wrong)
    return Answer(msgspec.json.encode(details), problem.status, PROBLEM, problem.headers)
