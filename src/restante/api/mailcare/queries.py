"""The parameters of lists as real clients send them: all of them at once, most of them empty, dates in many forms."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from msgspec import Meta, Struct

from restante.core.arrivals import Filter
from restante.http import schemas
from restante.http.calls import Call
from restante.http.problems import Refused
from restante.mail import dates

MAX_CHARS = 1_000  # of a parameter's text
DEFAULT_LIMIT = 25
MAX_LIMIT = 1_000
MAX_PAGE = 10**12
ON = frozenset(("1", "true", "on", "yes"))
OFF = frozenset(("0", "false", "off", "no"))

_NUMBER = re.compile(r"\+?0*([1-9][0-9]*)", re.ASCII)
_ZONE_APART = re.compile(r"(.*:\d\d(?:\.\d+)?) +([+-]?)(\d\d:?\d\d)", re.ASCII)  # without a sign: an unescaped "+"
_SECOND, _MOMENT = timedelta(seconds=1), timedelta(microseconds=1)

_Text = Annotated[str, Meta(max_length=MAX_CHARS)]
_Date = Annotated[str, Meta(max_length=MAX_CHARS, examples=["2018-01-19T12:23:27+00:00"])]


class ListQuery(Struct, frozen=True):
    """Which emails; an empty parameter counts as none."""

    page: Annotated[int, Meta(ge=1)] = 1
    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT
    inbox: Annotated[_Text, Meta(description="Only of this address.")] = ""
    sender: Annotated[_Text, Meta(description="Only from this address.")] = ""
    subject: Annotated[_Text, Meta(description="Only with this subject; `*` stands for any text.")] = ""
    since: Annotated[_Date, Meta(description="Only what came after this moment.")] = ""
    until: Annotated[_Date, Meta(description="Only what came before this moment.")] = ""
    search: Annotated[_Text, Meta(description="Only with this in inbox, sender or subject.")] = ""
    unread: Annotated[bool, Meta(description="Only what was not read.")] = False
    favorite: Annotated[bool, Meta(description="Only favorites.")] = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """A list as it was asked for."""

    filter: Filter
    page: int
    limit: int


def read(call: Call) -> Wanted:
    """The parameters of a list. Refuses with 422: texts that are too long, dates and truth values that are none.

    ``page`` and ``limit`` that are no positive numbers count as absent.
    """
    given = {name: value.strip() for name, value in call.query().items() if value.strip()}
    wrong: list[schemas.Complaint] = []

    def text(name: str) -> str | None:
        value = given.get(name)
        if value is None:
            return None
        if len(value) > MAX_CHARS:
            wrong.append((name, f"The {name} may not be greater than {MAX_CHARS} characters."))
        elif "\0" in value:  # no engine keeps it
            wrong.append((name, f"The {name} format is invalid."))
        else:
            return value
        return None

    def moment(name: str) -> datetime | None:
        value = text(name)
        if value is None:
            return None
        found = read_date(value)
        if found is None:
            wrong.append((name, f"The {name} is not a valid date."))
        return found

    def truth(name: str) -> bool:
        value = given.get(name, "0").lower()
        if value not in ON | OFF:
            wrong.append((name, f"The {name} field must be true or false."))
        return value in ON

    until = moment("until")
    found = Filter(
        inbox=text("inbox"),
        sender=text("sender"),
        subject=text("subject"),
        since=moment("since"),
        until=None if until is None else _last(until),
        search=text("search"),
        is_unread=truth("unread") or None,
        is_favorite=truth("favorite") or None,
    )
    if wrong:
        raise Refused(schemas.refusal(wrong))
    page = min(_positive(given.get("page"), 1), MAX_PAGE)
    return Wanted(found, page, min(_positive(given.get("limit"), DEFAULT_LIMIT), MAX_LIMIT))


def read_date(text: str) -> datetime | None:
    """A moment as ISO 8601 has it, or as the Date field of a mail; UTC without a zone. None for what is none."""
    apart = _ZONE_APART.fullmatch(text)
    if apart is not None:
        text = f"{apart[1]}{apart[2] or '+'}{apart[3]}"
    try:
        found = datetime.fromisoformat(text.upper())
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return dates.parse(text)


def _last(until: datetime) -> datetime:
    """The bound for times that are shown in whole seconds, rounded up (``email_form.moment``)."""
    if until.microsecond or until <= datetime.min.replace(tzinfo=UTC) + _SECOND:
        return until
    return until - _SECOND + _MOMENT


def _positive(text: str | None, otherwise: int) -> int:
    found = None if text is None else _NUMBER.fullmatch(text)
    if found is None:
        return otherwise
    return int(found[1]) if len(found[1]) < 19 else 10**18
