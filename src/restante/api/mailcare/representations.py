"""Which form of an email a client wants: the Accept header against what this email has (RFC 9110 §12.5.1)."""

from enum import Enum
from typing import NamedTuple

MAX_RANGES = 50  # of one header; later ones do not count


class Form(Enum):
    """A form of an email and its Content-Type, in our order of preference."""

    VERSIONED = "application/vnd.mailcare.v1+json"
    JSON = "application/json"
    HTML = "text/html"
    TEXT = "text/plain"
    RAW = "message/rfc2822"

    @property
    def content_type(self) -> bytes:
        """As it is sent."""
        return (self.value if self is Form.JSON else f"{self.value}; charset=UTF-8").encode()


_PRECISE, _OF_TYPE, _ANY = 2, 1, 0


class _Range(NamedTuple):
    kind: str
    quality: float

    def fits(self, form: Form) -> int | None:
        """How precisely it names the form; None when it does not."""
        if self.kind == form.value or (form is Form.RAW and self.kind == "message/rfc822"):
            return _PRECISE
        if form is Form.VERSIONED and self.kind.startswith("application/") and self.kind.endswith("+json"):
            return _PRECISE
        if self.kind == "*/*":
            return _ANY
        return _OF_TYPE if self.kind == f"{form.value.partition('/')[0]}/*" else None


def choose(accept: str | None, *, has_html: bool, has_text: bool) -> Form | None:
    """The form of highest quality, of two equal ones the one named first; None when nothing fits.

    Without a header, or with an empty one, the versioned JSON.
    """
    if accept is None or not accept.strip():
        return Form.VERSIONED
    ranges = [_read(item) for item in accept.split(",", MAX_RANGES)[:MAX_RANGES]]
    absent = {form for form, is_there in ((Form.HTML, has_html), (Form.TEXT, has_text)) if not is_there}
    best: Form | None = None
    best_rank = (0.0, 0)  # quality, and the place in the header counted backwards
    for form in Form:
        fitting = [
            (precision, -place, one.quality)
            for place, one in enumerate(ranges)
            if (precision := one.fits(form)) is not None
        ]
        if form in absent or not fitting:
            continue
        _, place, quality = max(fitting)
        if quality > 0 and (best is None or (quality, place) > best_rank):
            best, best_rank = form, (quality, place)
    return best


def _read(item: str) -> _Range:
    kind, *parameters = item.split(";")
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            quality = _quality(value.strip())
    return _Range(kind.strip().lower(), quality)


def _quality(text: str) -> float:
    """A weight (RFC 9110 §12.4.2): 0 to 1; what is none counts as 1."""
    try:
        value = float(text)
    except ValueError:
        return 1.0
    return value if 0 <= value <= 1 else 1.0
