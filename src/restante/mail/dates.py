"""The Date field: RFC 5322 §3.3, its obsolete forms (§4.3) and what real senders write instead."""

import re
from datetime import UTC, datetime, timedelta

MAX_LENGTH = 200  # characters looked at

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan januar january janvier enero gennaio janeiro",
            "feb februar february fevrier febrero febbraio fev",
            "mar march maerz mrz mars marzo",
            "apr april avril abril aprile avr",
            "may mai mayo maggio maio mag",
            "jun june juni juin junio giugno giu",
            "jul july juli juillet julio luglio lug",
            "aug august aout agosto ago",
            "sep sept september septembre septiembre settembre set",
            "oct october oktober okt octobre octubre ottobre ott out",
            "nov november novembre noviembre",
            "dec december dez dezember decembre diciembre dicembre dic",
        ),
        1,
    )
    for name in names.split()
}
# Minutes east of UTC (RFC 5322 §4.3); single letters mean "unknown" there and count as UTC.
_ZONES = {
    "UT": 0, "GMT": 0, "UTC": 0, "Z": 0, "WET": 0, "BST": 60, "WEST": 60, "CET": 60, "MET": 60,
    "MEZ": 60, "CEST": 120, "MEST": 120, "MESZ": 120, "EET": 120, "EEST": 180, "MSK": 180, "MSD": 240, "IST": 330,
    "SGT": 480, "HKT": 480, "JST": 540, "KST": 540, "AEST": 600, "AEDT": 660, "NZST": 720, "NZDT": 780, "AST": -240,
    "ADT": -180, "EST": -300, "EDT": -240, "CST": -360, "CDT": -300, "MST": -420, "MDT": -360, "PST": -480, "PDT": -420,
    "AKST": -540, "HST": -600,
}  # fmt: skip

_COMMENT = re.compile(r"\([^()]*\)?")
_TIME = r"(\d{1,2})\s*[:.]\s*(\d{1,2})(?:\s*[:.]\s*(\d{1,2})(?:[.,]\d{1,9})?)?(?:\s*(AM|PM)\b)?"
_ZONE = r"(?:\s*(?:(?:GMT|UTC?|Z)?\s*([+-]\s*\d{1,2}:?\d{0,2})|([A-Za-z]{1,5})\b))?"
# Fri, 21 Nov 1997 09:55:06 -0600 / 21 Nov 97 9:55
_MAIL = re.compile(
    r"(?:[^\W\d]{2,10}\.?,?\s*)?(\d{1,2})(?:st|nd|rd|th)?[\s.-]+([^\W\d]{3,10})\.?[\s.,-]+(\d{2,4})(?!\d)(?:[\s,]+"
    + _TIME
    + _ZONE
    + ")?",
    re.IGNORECASE,
)
# Fri Nov 21 09:55:06 [-0600] 1997 (asctime) / Nov 21, 1997 9:55 PM
_ASCTIME = re.compile(
    r"(?:[^\W\d]{2,10}\.?,?\s+)?([^\W\d]{3,10})\.?\s+(\d{1,2}),?\s+(?:(\d{4}),?\s+)?"
    + _TIME
    + _ZONE
    + r"(?:\s+(\d{4}))?"
    + _ZONE,
    re.IGNORECASE,
)
# 1997-11-21T09:55:06Z / 1997/11/21 09:55
_ISO = re.compile(
    r"(?:[^\W\d]{2,10},\s*)?(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[T\s]+" + _TIME + _ZONE + ")?", re.IGNORECASE
)
_EXACT = re.compile(
    r"(?:\w{3},? +)?(\d{1,2}) +(\w{3}) +(\d{4}) +(\d\d):(\d\d):(\d\d) +([+-])(\d\d)(\d\d)\s*(?:\([^()]*\))?", re.ASCII
)


def parse(value: str) -> datetime | None:
    """The moment a Date field names, aware UTC; None when no date can be read. Never raises, never guesses a day.

    A missing or unknown zone is UTC; 24:00 and a leap second are taken as the moment after; a two-digit year is
    2000 + n below 50, 1900 + n otherwise, three digits are 1900 + n (RFC 5322 §4.3).
    """
    value = value[:MAX_LENGTH].strip()
    exact = _EXACT.fullmatch(value)
    if exact is not None:
        day, name, year, hour, minute, second, sign, east_hours, east_minutes = exact.groups()
        east = int(east_hours) * 60 + int(east_minutes)
        return _build(int(year), name, day, hour, minute, second, None, -east if sign == "-" else east)
    value = _COMMENT.sub(" ", value).strip()
    found = _MAIL.match(value)
    if found is not None:
        day, name, year, hour, minute, second, half, offset, zone = found.groups()
        return _build(_year(year), name, day, hour, minute, second, half, _east(offset, zone))
    found = _ISO.match(value)
    if found is not None:
        year, name, day, hour, minute, second, half, offset, zone = found.groups()
        return _build(_year(year), name, day, hour, minute, second, half, _east(offset, zone))
    found = _ASCTIME.match(value)
    if found is not None:
        name, day, year, hour, minute, second, half, offset, zone, late_year, late_offset, late_zone = found.groups()
        east = _east(offset or late_offset, zone if zone and zone.upper() in _ZONES else late_zone)
        return _build(_year(year or late_year or ""), name, day, hour, minute, second, half, east)
    return None


def _year(text: str) -> int:
    if not text:
        return 0
    year = int(text)
    if len(text) == 2:
        return year + (2000 if year < 50 else 1900)
    return year + 1900 if len(text) == 3 else year


def _east(offset: str | None, zone: str | None) -> int:
    """Minutes east of UTC of "-0600", "+5:30", "+02" or a zone name."""
    if offset:
        digits = "".join(character for character in offset if character.isdigit())
        hours, minutes = (digits[:-2], digits[-2:]) if len(digits) > 2 else (digits, "0")
        total = int(hours) * 60 + int(minutes)
        return -total if offset[0] == "-" else total
    return _ZONES.get(zone.upper(), 0) if zone else 0


def _build(
    year: int,
    month: str,
    day: str,
    hour: str | None,
    minute: str | None,
    second: str | None,
    half: str | None,
    east: int,
) -> datetime | None:
    number = int(month) if month.isdecimal() else _MONTHS.get(month.lower()) or _MONTHS.get(month[:3].lower())
    if number is None:
        return None
    hours, minutes, seconds = int(hour or 0), int(minute or 0), int(second or 0)
    if half and 1 <= hours <= 12:
        hours = hours % 12 + (12 if half.upper() == "PM" else 0)
    if hours > 24 or minutes > 59 or seconds > 61:
        return None
    if abs(east) >= 24 * 60:  # such a zone does not exist; the day and the clock may be right
        east = 0
    try:
        if seconds < 60 and hours < 24:
            moment = datetime(year, number, int(day), hours, minutes, seconds, tzinfo=UTC)
            return moment - timedelta(minutes=east) if east else moment
        start = datetime(year, number, int(day), tzinfo=UTC)
        return start + timedelta(hours=hours, minutes=minutes - east, seconds=seconds)
    except (ValueError, OverflowError):
        return None
