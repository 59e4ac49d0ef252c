"""Routes found by an index instead of by trying each, described for OpenAPI by FastAPI, called without its machinery.

FastAPI tries its routes in a row (300 routes: up to 0.8 ms) and spends 50 us on dependencies that our handlers do not
use. Here a route is looked up by its first literal segments. FastAPI makes the document, and is loaded when that is
first asked for: its import takes a quarter of the time that a server has to start.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import compile_path

from restante.http import problems, schemas
from restante.http.answers import Reply
from restante.http.calls import Call
from restante.http.problems import Refused

if TYPE_CHECKING:
    from fastapi.routing import APIRoute

Handler = Callable[[Call], Awaitable[Reply]]

DEPTH = 3  # literal segments that make the key: /api/v1/mailbox
KEPT_PATHS = 1024  # whose routes are remembered
KEPT_CHARS = 200  # of a path that is


class AddressConvertor(Convertor[str]):
    """``{email:address}``: one segment, or a mail address whose local part has slashes in it (RFC 5322 §3.2.3)."""

    regex = "[^/]+|.+@[^/]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("address", AddressConvertor())


class Route:
    """One method on one path."""

    __slots__ = (
        "_converters",
        "_regex",
        "handler",
        "method",
        "operation",
        "path",
        "path_format",
        "status",
        "structs",
        "tag",
    )

    def __init__(
        self, method: str, path: str, handler: Handler, structs: list[Any], tag: str, status: int,
        operation: Callable[[], dict[str, Any]],
    ) -> None:  # fmt: skip
        self.method = method
        self.path = path
        self.handler = handler
        self.structs = structs
        self.tag = tag
        self.status = status
        self.operation = operation
        self._regex: re.Pattern[str]
        self._regex, self.path_format, self._converters = compile_path(path)

    def described(self) -> "APIRoute":
        """The route as FastAPI knows it, to make the document of."""
        from fastapi.routing import APIRoute

        return APIRoute(
            self.path,
            _described(self.handler),
            methods=[self.method],
            status_code=self.status,
            response_model=None,
            tags=[self.tag],
            openapi_extra=self.operation(),
        )

    def match(self, path: str) -> dict[str, Any] | None:
        """The path's parameters, or None when it is another path."""
        found = self._regex.match(path)
        if found is None:
            return None
        return {name: self._converters[name].convert(value) for name, value in found.groupdict().items()}


class IndexedRouter:
    """The routes of one dialect. Of two that match a path the one added first answers.

    A path without parameters is nobody else's: where ``GET /tokens/me`` is, ``PUT /tokens/{id}`` does not get ``me``.
    """

    def __init__(self) -> None:
        self.routes: list[Route] = []
        self._index: dict[tuple[str, ...], list[tuple[int, Route]]] = {}
        self._remembered = lru_cache(maxsize=KEPT_PATHS)(self._look_up)

    def add(
        self,
        method: str,
        path: str,
        handler: Handler,
        *,
        tag: str,
        answer: Any,
        status: int = 200,
        query: type[msgspec.Struct] | None = None,
        body: type[msgspec.Struct] | None = None,
        errors: Mapping[int, tuple[str, Any]] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Register a handler. The document is made of its docstring and of the msgspec types that it reads and gives.

        ``answer``: the type of the JSON answer, or a media type (text) for bytes; ``errors``: status to (text, type);
        ``extra``: further members of the OpenAPI operation.
        """
        structs = [kind for kind in (answer, body, *(e[1] for e in (errors or {}).values())) if isinstance(kind, type)]

        def operation() -> dict[str, Any]:
            return _operation(path, answer, status, query, body, errors or {}, extra or {})

        route = Route(method, path, handler, structs, tag, status, operation)
        self._remembered.cache_clear()
        self._index.setdefault(_key(path), []).append((len(self.routes), route))
        self.routes.append(route)

    def find(self, method: str, path: str) -> tuple[Route, dict[str, Any]]:
        """The route and the path's parameters. Refuses with 404, or 405 and the methods that there are."""
        if len(path) > KEPT_CHARS:
            return self._look_up(method, path)
        route, params = self._remembered(method, path)
        return route, dict(params)

    def _look_up(self, method: str, path: str) -> tuple[Route, dict[str, Any]]:
        there: dict[str, object] = {}
        for _, route in self._candidates(path):
            params = route.match(path)
            if params is None:
                continue
            if route.method == method:
                return route, params
            there[route.method] = True
        raise Refused(problems.method_not_allowed(method, there) if there else problems.not_found(path))

    def methods(self, path: str) -> dict[str, object]:
        """The methods that ``path`` has routes for."""
        return {route.method: True for _, route in self._candidates(path) if route.match(path) is not None}

    async def __call__(self, call: Call) -> Reply:
        """Run the handler that the call's method and path name."""
        route, call.params = self.find(call.method, call.path)
        return await route.handler(call)

    def document(self, **about: Any) -> dict[str, Any]:
        """The OpenAPI document (3.1) of all routes; ``about`` is what ``get_openapi`` takes (title, version ...)."""
        from fastapi.openapi.utils import get_openapi

        found = get_openapi(routes=[route.described() for route in self.routes], **about)
        _, named = schemas.components([kind for route in self.routes for kind in route.structs])
        found.setdefault("components", {}).setdefault("schemas", {}).update(named)
        return found

    def _candidates(self, path: str) -> list[tuple[int, Route]]:
        segments = tuple([segment.partition(":")[0] for segment in path.split("/", DEPTH + 1)[1 : DEPTH + 1]])
        found: list[tuple[int, Route]] = []
        for length in range(len(segments), -1, -1):
            here = self._index.get(segments[:length])
            if here:
                found = here if not found else sorted(found + here, key=lambda item: item[0])
        return [item for item in found if item[1].path == path] or found


def _key(path: str) -> tuple[str, ...]:
    """The literal segments in front of the first parameter, each cut at a colon verb."""
    literal = path.partition("{")[0]
    segments = literal.split("/")[1:]
    if literal != path:
        segments = segments[:-1]  # "/x/" leaves "", "/x:" or "/x-" a piece of a segment
    return tuple(segment.partition(":")[0] for segment in segments[:DEPTH])


def _operation(
    path: str,
    answer: Any,
    status: int,
    query: type[msgspec.Struct] | None,
    body: type[msgspec.Struct] | None,
    errors: Mapping[int, tuple[str, Any]],
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """What FastAPI cannot know of a route: parameters, body and answers, made from their msgspec types."""
    operation: dict[str, Any] = dict(extra)
    names = re.findall(r"\{(\w+)(?::\w+)?\}", path)
    given = [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names]
    operation["parameters"] = given + (schemas.parameters(query) if query else [])
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _json(body)}
    responses: dict[int | str, dict[str, Any]] = {status: {"description": "Done", "content": _content(answer)}}
    for code, (text, kind) in errors.items():
        responses[code] = {"description": text, "content": _json(kind)}
    operation["responses"] = {str(code): value for code, value in responses.items()}
    return operation


def _described(handler: Handler) -> Callable[[], None]:
    """Something for FastAPI to describe: the handler's name and docstring without its parameter."""

    def operation() -> None: ...

    operation.__name__ = handler.__name__
    operation.__doc__ = handler.__doc__
    return operation


def _json(kind: Any) -> dict[str, Any]:
    (schema,), _ = schemas.components([kind])
    return {"application/json": {"schema": schema}}


def _content(answer: Any) -> dict[str, Any]:
    return {answer: {"schema": {"type": "string", "format": "binary"}}} if isinstance(answer, str) else _json(answer)
