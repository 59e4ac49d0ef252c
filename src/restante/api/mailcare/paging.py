"""Pages as the framework shows them: links without the other parameters, and what is where."""

from msgspec import Struct, field

from restante.http.calls import Call
from restante.services.email_form import Email


class Links(Struct, frozen=True):
    """Addresses of other pages; null where there is none."""

    first: str
    last: str
    prev: str | None
    next: str | None


class Meta(Struct, frozen=True):
    """Which page this is; ``from`` and ``to`` count the emails it shows from 1, null when it shows none."""

    current_page: int
    from_: int | None = field(name="from")
    last_page: int
    path: str
    per_page: int
    to: int | None
    total: int


class EmailList(Struct, frozen=True):
    """A page of emails, newest first."""

    data: list[Email]
    links: Links
    meta: Meta


def build(call: Call, shown: list[Email], *, page: int, limit: int, total: int) -> EmailList:
    """The page with its links, at the address that was asked."""
    path = call.origin() + call.path
    last = max(1, -(-total // limit))
    first = (page - 1) * limit + 1 if shown else None
    to = None if first is None else first + len(shown) - 1
    links = Links(
        first=f"{path}?page=1",
        last=f"{path}?page={last}",
        prev=f"{path}?page={page - 1}" if page > 1 else None,
        next=f"{path}?page={page + 1}" if page < last else None,
    )
    return EmailList(shown, links, Meta(page, first, last, path, limit, to, total))
