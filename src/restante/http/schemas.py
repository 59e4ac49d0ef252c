"""Query fields and JSON bodies as msgspec structs: one definition validates, coerces and documents them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin

import msgspec

from restante.http import calls
from restante.http.calls import Call
from restante.http.problems import Problem, Refused
from restante.storage.spool import Buffer

S = TypeVar("S", bound=msgspec.Struct)

Complaint = tuple[str, str]  # where, why

MAX_COMPLAINTS = 100
KEPT_QUERIES = 1024  # that are remembered with what they mean
KEPT_CHARS = 200  # of a query that is

_PLACE = re.compile(r"(.*?)(?: - at `(?:key in )?\$([^`]*)`)?", re.DOTALL)
_JSON_TYPE = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
REF = "#/components/schemas/{name}"


def query(call: Call, kind: type[S]) -> S:
    """The query as ``kind``; fields it does not name are ignored. Refuses with 422 and all bad fields' names."""
    raw: bytes = call.scope["query_string"]
    if len(raw) > KEPT_CHARS:
        return _converted(calls.query_fields(raw), kind, strict=False)
    return _kept(raw, kind)  # type: ignore[return-value]  # lru_cache knows no type variables


@lru_cache(maxsize=KEPT_QUERIES)
def _kept(raw: bytes, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """The same few queries come again and again, and the structs are frozen."""
    return _converted(calls.query_fields(raw), kind, strict=False)


async def body(call: Call, kind: type[S], limit_bytes: int = 64 * 1024) -> S:
    """The JSON body as ``kind``. Refuses with 415 (another media type), 413, 400 (no JSON) or 422 (wrong fields)."""
    return parse(await read(call, limit_bytes), kind)


async def read(call: Call, limit_bytes: int) -> bytes:
    """The body's bytes, for ``parse``. Refuses with 415 and 413."""
    require_json(call)
    return await call.body(limit_bytes)


def require_json(call: Call) -> None:
    """Refuse with 415 what is said to be another type."""
    media = call.header(b"content-type")
    if media is not None and not _JSON_TYPE.fullmatch(media.strip()):
        raise Refused(Problem(415, "unsupported_media_type", "The body must be application/json."))


def parse(data: Buffer, kind: type[S]) -> S:
    """JSON as ``kind``. Refuses with 400 (no JSON) or 422 and all wrong fields."""
    return _converted(decode(data), kind, strict=True)  # a wrong field must not hide that the rest is no JSON


def decode(data: Buffer) -> Any:
    """JSON as plain values. Refuses with 400."""
    try:
        return msgspec.json.decode(cast("bytes", data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused(Problem(400, "invalid_json", "The body is not valid JSON.")) from None


def refusal(complaints: Sequence[Complaint]) -> Problem:
    """A 422 that names every wrong field: ``(place, reason)`` such as ``("to[1]", "not an address")``.

    A list is one field: what is wrong with its items stands under its name, each reason with the item's number.
    """
    fields: dict[str, list[str]] = {}
    for place, reason in complaints[:MAX_COMPLAINTS]:
        name, bracket, rest = place.partition("[")
        fields.setdefault(name or "body", []).append(f"{bracket}{rest}: {reason}" if bracket else reason)
    place, reason = complaints[0]
    more = f" ({len(complaints) - 1} more in fields)" if len(complaints) > 1 else ""
    return Problem(422, "invalid", f"{place or 'body'}: {reason}{more}", fields)


def _converted(plain: Any, kind: type[S], *, strict: bool) -> S:
    try:
        return msgspec.convert(plain, kind, strict=strict)
    except msgspec.ValidationError:
        raise Refused(refusal(list(islice(_complaints(plain, kind, "", strict), MAX_COMPLAINTS)))) from None


def _complaints(plain: Any, kind: Any, place: str, strict: bool) -> Iterator[Complaint]:
    """What is wrong with a value, told for its innermost parts (msgspec itself stops at the first)."""
    try:
        msgspec.convert(plain, kind, strict=strict)
    except msgspec.ValidationError as error:
        found = False
        for complaint in _inner(plain, kind, place, strict):
            found = True
            yield complaint
        if not found:
            text, within = _PLACE.fullmatch(str(error)).groups()  # type: ignore[union-attr]
            yield f"{place}{within or ''}".removeprefix("."), text.replace("`", "")


def _inner(plain: Any, kind: Any, place: str, strict: bool) -> Iterator[Complaint]:
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if isinstance(plain, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for member in msgspec.structs.fields(kind):
            inner = f"{place}.{member.encode_name}".removeprefix(".")
            if member.encode_name in plain:
                yield from _complaints(plain[member.encode_name], member.type, inner, strict)
            elif member.required:
                yield inner, "This field is required."
    elif isinstance(plain, list) and get_origin(kind) is list:
        for number, item in enumerate(plain):
            yield from _complaints(item, get_args(kind)[0], f"{place}[{number}]", strict)
    elif get_origin(kind) in (Union, UnionType):
        for option in get_args(kind):
            while get_origin(option) is Annotated:
                option = get_args(option)[0]  # noqa: PLW2901 - what it stands for
            if get_origin(option) is (list if isinstance(plain, list) else None):
                yield from _inner(plain, option, place, strict)


def components(kinds: list[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """JSON schemas of ``kinds`` (with references) and the named schemas they refer to."""
    return msgspec.json.schema_components(kinds, ref_template=REF)  # type: ignore[return-value]


def parameters(kind: type[msgspec.Struct]) -> list[dict[str, Any]]:
    """OpenAPI's description of a query struct."""
    (_,), named = components([kind])
    schema: Mapping[str, Any] = named[kind.__name__]
    required = schema.get("required", [])
    found = []
    for name, field in schema["properties"].items():
        shown = dict(field)
        described = {"description": shown.pop("description")} if "description" in shown else {}
        found.append({"name": name, "in": "query", "required": name in required, **described, "schema": shown})
    return found
