"""Patterns that users write for subjects and addresses: regular expressions matched in linear time, whatever they say.

RE2's syntax: no look-around, no back-references. Letter case does not matter, and a match anywhere counts.
"""

import functools
from typing import Any

from restante.errors import Invalid

MAX_CHARS = 500
MAX_MEMORY = 256 * 1024  # bytes of one compiled pattern; one that would need more is refused
KEPT = 512  # compiled patterns of one process


def require(text: str, field: str) -> str:
    """The pattern, if it is one; Invalid naming the field."""
    if len(text) > MAX_CHARS or not text.isprintable():
        raise _bad(field, f"one line of at most {MAX_CHARS} characters")
    try:
        _compiled(text)
    except ValueError as error:
        raise _bad(field, str(error)) from None
    return text


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern that ``require`` has let pass is found in a text."""
    return _compiled(pattern).search(text.encode("utf-8", "replace")) is not None


@functools.lru_cache(maxsize=KEPT)
def _compiled(pattern: str) -> Any:
    """Raises ValueError saying what is wrong with it."""
    import re2

    options = re2.Options()
    options.case_sensitive = False
    options.never_capture = True
    options.log_errors = False
    options.max_mem = MAX_MEMORY
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        what = error.args[0]
        raise ValueError(what.decode("utf-8", "replace") if isinstance(what, bytes) else str(what)) from None


def _bad(field: str, reason: str) -> Invalid:
    return Invalid("This is no pattern that can be matched.", code="invalid_pattern", details={field: reason})
