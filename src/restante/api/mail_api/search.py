"""Endpoint 8: search in a mailbox."""

from typing import NamedTuple

from restante.api.mail_api import auth, paging, shapes
from restante.core import access, folders
from restante.core import search as core_search
from restante.core.access import Principal
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
    caller = await auth.require(call)
    query = schemas.query(call, shapes.SearchQuery)
    if len(query.q.strip()) < 2:
        raise Refused(schemas.refusal([("q", "Expected str of length >= 2")]))
    hits = await call.rt.db.read(read_hits, caller.principal, call.params["email"], query)
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


@scanning
def read_hits(conn: ReadConn, principal: Principal, address: str, query: shapes.SearchQuery) -> Hits:
    """Hits in a mailbox that the principal may read. Errors: Forbidden, NotFound (mailbox, folder)."""
    mailbox = access.require_mailbox(conn, principal, address)
    wanted = None if query.folder == ALL_FOLDERS else paging.require_folder(conn, mailbox, query.folder).id
    page = core_search.search(
        conn, mailbox.account_id, mailbox.id, query.q, folder_id=wanted, limit=query.limit, offset=query.offset
    )
    listed = folders.list_folders(conn, mailbox.account_id, mailbox.id)
    return Hits(page, {folder.id: paging.shown_name(folder) for folder in listed})
