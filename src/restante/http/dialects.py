"""What the front needs to know of one public API shape."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from restante import errors
from restante.http.answers import Answer
from restante.http.problems import Problem
from restante.http.routing import IndexedRouter


@dataclass(frozen=True, slots=True)
class Dialect:
    """One dialect: its name, its routes, its words for refusals.

    ``render`` puts any problem into the dialect's envelope; ``explain`` maps the error tree onto its codes;
    ``describe`` gives its OpenAPI document with the given servers filled in.
    """

    name: str
    router: IndexedRouter
    render: Callable[[Problem], Answer]
    explain: Callable[[errors.RestanteError], Problem]
    describe: Callable[[list[dict[str, str]]], Mapping[str, Any]]
    max_body_bytes: int
