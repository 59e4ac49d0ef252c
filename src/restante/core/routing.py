"""Routing: which mailboxes a recipient address leads to, and why it leads nowhere.

The one look-up that starts without an account: mail arrives for an address. It runs once per recipient of every
message, so it is one prepared statement.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

from sqlalchemy import BigInteger, Column, ColumnElement, Text, bindparam, select

from restante.errors import Forbidden, NotFound, QuotaExceeded, RestanteError, Unavailable
from restante.ids import AccountId, DomainId, MailboxId, SubmissionId
from restante.mail import address as addresses
from restante.schema import tables
from restante.schema.arrays import Rows
from restante.schema.connections import ReadConn, single, together
from restante.schema.prepared import Prepared, Row

P = ParamSpec("P")
T = TypeVar("T")

POSTMASTER = "postmaster"
RETURN_PREFIX = "bounce+"  # of the local part that reports of failed delivery come back to


class Route(NamedTuple):
    """One mailbox that takes the mail; ``address`` is the normalised envelope address with its tag.

    Of a return path ``submission_id`` is the message that reports to it are about, and ``mailbox_id`` its sender's,
    None when that cannot take the report: it still tells what became of the message.
    """

    account_id: AccountId
    mailbox_id: MailboxId | None
    domain_id: DomainId
    address: str
    delivered_to: str
    submission_id: SubmissionId | None = None


_D, _A, _M, _T = tables.domains.c, tables.addresses.c, tables.mailboxes.c, tables.accounts.c
_MAILBOX = (_M.id, _M.address, _M.status, _M.used_bytes, _M.quota_bytes)
_catch_all = tables.mailboxes.alias("catch_all")
_C = _catch_all.c

# Each row: domain (id, account, approved_at, dns_status), account (status, used, quota), the domain's catch-all, the
# address that matched, its mailbox. A domain without a matching address gives one row whose address is null. Only
# mailboxes of the domain's own account join; addresses are found by their key alone (an account may have a million).
_COLUMNS = (
    _D.id,
    _D.account_id,
    _D.approved_at,
    _D.dns_status,
    _T.status,
    _T.used_bytes,
    _T.quota_bytes,
    _C.id,
    _C.address,
    _C.status,
    _C.used_bytes,
    _C.quota_bytes,
    _A.address,
    *_MAILBOX,
)
_OF_DOMAIN = (_C.id == _D.catch_all_mailbox_id) & (_C.account_id == _D.account_id)
_OF_ACCOUNT = (_M.id == _A.mailbox_id) & (_M.account_id == _A.account_id) & (_M.account_id == _D.account_id)


def _looking_for(address: ColumnElement[bool]) -> Prepared:
    return Prepared(
        select(*_COLUMNS)
        .select_from(
            tables.domains.join(tables.accounts, _T.id == _D.account_id)
            .outerjoin(_catch_all, _OF_DOMAIN)
            .outerjoin(tables.addresses, address)
            .outerjoin(tables.mailboxes, _OF_ACCOUNT)
        )
        .where(_D.name == bindparam("domain"))
    )


_BY_ADDRESS = _looking_for(_A.address == bindparam("exact"))
_BY_TAGGED = _looking_for(_A.address.in_((bindparam("exact"), bindparam("base"))))  # a third slower on SQLite
_given = Rows("given", [Column("place", BigInteger), Column("domain", Text), Column("address", Text)])
_BY_ADDRESSES = Prepared(
    select(_given.c.place, *_COLUMNS).select_from(
        _given.table.join(tables.domains, _D.name == _given.c.domain)
        .join(tables.accounts, _T.id == _D.account_id)
        .outerjoin(_catch_all, _OF_DOMAIN)
        .outerjoin(tables.addresses, _A.address == _given.c.address)
        .outerjoin(tables.mailboxes, _OF_ACCOUNT)
    )
)
_S = tables.submissions.c
_BY_TOKEN = Prepared(
    select(_S.id, _S.sender, *_MAILBOX)
    .select_from(
        tables.submissions.outerjoin(tables.mailboxes, (_M.account_id == _S.account_id) & (_M.id == _S.mailbox_id))
    )
    .where(_S.account_id == bindparam("account"), _S.return_token == bindparam("token"))
)
_OPERATOR = Prepared(
    select(_M.account_id, _M.id, _M.domain_id, _M.address)
    .where(_M.role == "admin", _M.status == "active")
    .order_by(_M.id)
    .limit(1)
)


class _Wanted(NamedTuple):
    """An envelope recipient as it is looked up; ``base`` is its address without the tag."""

    address: str
    local: str
    domain: str
    base: str
    size_bytes: int


def _wanted(address: str, size_bytes: int = 0) -> _Wanted:
    wanted = addresses.normalise(address)
    local, domain = addresses.split(wanted)
    return _Wanted(wanted, local, domain, f"{addresses.without_tag(local)}@{domain}", size_bytes)


def _resolve_together(conn: ReadConn, arguments: Sequence[tuple[Any, ...]]) -> list[tuple[Route, ...] | RestanteError]:
    """As ``resolve`` for each, with one statement for all where none needs more."""
    asked: list[_Wanted | RestanteError] = [_or_error(_wanted, *one) for one in arguments]
    given = [
        {"place": place, "domain": one.domain, "address": address}
        for place, one in enumerate(asked)
        if isinstance(one, _Wanted)
        for address in {one.address, one.base}
    ]
    found: dict[int, list[Row]] = {}
    for place, *row in _BY_ADDRESSES.rows(conn, _given.values(given)):
        found.setdefault(place, []).append(tuple(row))
    return [
        one if isinstance(one, RestanteError) else _or_error(_routes, conn, one, found.get(place, []))
        for place, one in enumerate(asked)
    ]


def _or_error(fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | RestanteError:
    try:
        return fn(*args, **kwargs)
    except RestanteError as error:
        return error


@single
@together(_resolve_together)
def resolve(conn: ReadConn, address: str, size_bytes: int = 0) -> tuple[Route, ...]:
    """The mailboxes for one envelope recipient: its own, an alias's (one or several), without ``+tag``, the catch-all.

    The return path of a submission comes first. The exact address wins over the one without its tag (RFC 5233's
    subaddress), and both over the catch-all. Of an alias with several mailboxes those that cannot take ``size_bytes``
    more are left out; the error of the first shows only when none is left. Errors: Invalid (not an address), Forbidden
    ``relay_denied`` (not our domain),
    ``domain_inactive`` (not approved, or not proved), ``mailbox_disabled``, Unavailable ``account_suspended`` (senders
    keep such mail and try again), NotFound ``mailbox_not_found``, QuotaExceeded ``over_quota``.
    """
    wanted = _wanted(address, size_bytes)
    statement = _BY_ADDRESS if wanted.base == wanted.address else _BY_TAGGED
    rows = statement.rows(conn, {"exact": wanted.address, "base": wanted.base, "domain": wanted.domain})
    return _routes(conn, wanted, rows)


def _routes(conn: ReadConn, wanted: _Wanted, rows: list[Row]) -> tuple[Route, ...]:
    """What the rows of ``_BY_ADDRESS`` say. Raises what ``resolve`` does."""
    address, local, domain, _, size_bytes = wanted
    if not rows:
        raise Forbidden(f"{domain} is not a domain of this server.", code="relay_denied")
    domain_id, account_id, approved_at, dns_status, status, used, quota, *catch_all = rows[0][:12]
    if not _is_local(approved_at, dns_status):
        raise Forbidden(f"The domain {domain} is not active.", code="domain_inactive")
    if status != "active":
        raise Unavailable(f"The account of {domain} is suspended.", code="account_suspended")
    grown = used + max(size_bytes, 1)
    is_account_full = quota is not None and grown > quota
    if local.startswith(RETURN_PREFIX):
        token = local.removeprefix(RETURN_PREFIX)
        row = _BY_TOKEN.row(conn, {"account": account_id, "token": token})
        if row is not None:
            takes = row[2] is not None and _refusal(row[2:], size_bytes, is_account_full) is None
            mailbox_id = MailboxId(row[2]) if takes else None
            return (
                Route(AccountId(account_id), mailbox_id, DomainId(domain_id), address, row[1], SubmissionId(row[0])),
            )
    matched = [row[12:] for row in rows if row[12] is not None and row[13] is not None]
    exact = [row[1:] for row in matched if row[0] == address]
    found = exact or [row[1:] for row in matched]
    if not found and catch_all[0] is not None:
        found = [tuple(catch_all)]
    if not found and local == POSTMASTER:
        return postmaster(conn, address)
    if not found:
        raise NotFound(f"There is no mailbox {address}.", code="mailbox_not_found")
    routes = []
    refusals: list[RestanteError] = []
    for row in sorted(found):  # by mailbox; SQLite's own sorter costs more than the look-up
        refusal = _refusal(row, size_bytes, is_account_full)
        if refusal is None:
            routes.append(Route(AccountId(account_id), MailboxId(row[0]), DomainId(domain_id), address, row[1]))
        else:
            refusals.append(refusal)
    if not routes:
        raise refusals[0]
    return tuple(routes)


@single
def postmaster(conn: ReadConn, address: str) -> tuple[Route, ...]:
    """Who takes mail for a postmaster that nobody made a mailbox for: the operator. Error: NotFound.

    RFC 5321 §4.5.1: every domain that takes mail takes it for postmaster, and so does the server under its own name.
    """
    row = _OPERATOR.row(conn, {})
    if row is None:
        raise NotFound("There is no postmaster.", code="mailbox_not_found")
    account_id, mailbox_id, domain_id, delivered_to = row
    return (Route(AccountId(account_id), MailboxId(mailbox_id), DomainId(domain_id), address, delivered_to),)


def _is_local(approved_at: int | None, dns_status: str) -> bool:
    return approved_at is not None and dns_status in ("verified", "forced")


def _refusal(row: Row, size_bytes: int, is_account_full: bool) -> RestanteError | None:
    _, address, status, used, quota = row
    if status != "active":
        return Forbidden(f"The mailbox {address} is disabled.", code="mailbox_disabled")
    if is_account_full or (quota is not None and used + max(size_bytes, 1) > quota):
        return QuotaExceeded(f"The mailbox {address} is full.", code="over_quota")
    return None
