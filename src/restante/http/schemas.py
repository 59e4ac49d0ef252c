"""Query fields and JSON bodies as msgspec structs: one definition validates, coerces and documents them."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from restante.http.calls import Call
from restante.http.problems import Problem, Refused

S = TypeVar("S", bound=msgspec.Struct)

_PLACE = re.compile(r"(.*?)(?: - at `(?:key in )?\$\.?([^`]*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `([^`]*)`")
_JSON_TYPE = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
REF = "#/components/schemas/{name}"


def query(call: Call, kind: type[S]) -> S:
    """The query as ``kind``; fields it does not name are ignored. Refuses with 422 and the bad field's name."""
    try:
        return msgspec.convert(call.query(), kind, strict=False)
    except msgspec.ValidationError as error:
        raise Refused(invalid(str(error))) from None


async def body(call: Call, kind: type[S], limit_bytes: int = 64 * 1024) -> S:
    """The JSON body as ``kind``. Refuses with 415 (another media type), 413, 400 (no JSON) or 422 (wrong fields)."""
    media = call.header(b"content-type")
    if media is not None and not _JSON_TYPE.fullmatch(media.strip()):
        raise Refused(Problem(415, "unsupported_media_type", "The body must be application/json."))
    data = await call.body(limit_bytes)
    try:
        plain = msgspec.json.decode(data)  # all of it first: a wrong field must not hide that the rest is no JSON
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused(Problem(400, "invalid_json", "The body is not valid JSON.")) from None
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise Refused(invalid(str(error))) from None


def invalid(text: str) -> Problem:
    """msgspec's one-line complaint (``Expected ... - at `$.limit```) as a 422 with the field's name."""
    found = _PLACE.fullmatch(text)
    reason, place = (found[1], found[2] or "") if found else (text, "")
    missing = _MISSING.match(reason)
    if missing:
        place, reason = ".".join(filter(None, (place, missing[1]))), "This field is required."
    reason = reason.replace("`", "")
    name = place or "body"
    return Problem(422, "invalid", f"{name}: {reason}", {name: [reason]})


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
