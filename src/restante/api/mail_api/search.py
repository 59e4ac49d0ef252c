"""Endpoint 8: search in a mailbox."""

from collections.abc import Sequence
from typing import NamedTuple

from restante.api.mail_api import auth, paging, shapes
from restante.core import folders, places
from restante.core import search as core_search
from restante.core.access import Presumed, Principal
from restante.core.places import NamedFolder
from restante.core.search import Results
from restante.http import schemas
from restante.http.answers import Answer
from restante.http.calls import Call
from restante.http.problems import Refused
from restante.ids import FolderId
from restante.schema.connections import ReadConn, scanning

ALL_FOLDERS = "*"


class Hits(NamedTuple):
    """Hits as read in one transaction, and the shown names of their folders."""

    page: Results
    names: dict[FolderId, str]


async def search(call: Call) -> Answer:
    """Search subject, sender, recipients, text and attachment names; all words must occur. Newest first.

    A query that too many messages or words might match is cut short: `X-Search-Complete: false` says that there may be
    more, in `total` too.
    """
    query, hits = await auth.read(call, read_hits, _query)
    found = [
        shapes.FoundMessage(
            hit.row.uid,
            hits.names[hit.row.folder_id],
            shapes.person(hit.row.from_),
            hit.row.subject,
            shapes.moment(hit.row.sent_at or hit.row.received_at),
            hit.snippet,
        )
        for hit in hits.page.items
    ]
    headers = () if hits.page.is_complete else ((b"x-search-complete", b"false"),)
    return shapes.answer(shapes.SearchResult(True, query.q, hits.page.total, found), headers=headers)


def _query(call: Call) -> shapes.SearchQuery:
    query = schemas.query(call, shapes.SearchQuery)
    if len(query.q.strip()) < 2:
        raise Refused(schemas.refusal([("q", "Expected str of length >= 2")]))
    return query


@scanning
def read_hits(conn: ReadConn, who: Principal | Presumed, address: str, query: shapes.SearchQuery) -> Hits:
    """Hits in a mailbox that who asks may read. Errors: Forbidden, NotFound (mailbox, folder)."""
    place, found = places.find_folders(conn, who, address)
    wanted = None if query.folder == ALL_FOLDERS else _folder_id(found, query.folder)
    page = core_search.search(
        conn, place.account_id, place.id, query.q, folder_id=wanted, limit=query.limit, offset=query.offset
    )
    return Hits(page, {folder.id: paging.shown(folder.name, folder.role) for folder in found})


def _folder_id(found: Sequence[NamedFolder], name: str) -> FolderId:
    wanted = folders.canonical(name)
    for folder in found:
        if folder.name == wanted:
            return folder.id
    raise paging.no_folder(name)
