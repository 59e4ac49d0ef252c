"""What core functions return travels between processes: the writer is one of its own."""

import pickle
from datetime import datetime

import pytest

from restante.core import access, domains, mailboxes, permissions, routing, tokens
from restante.core.domains import DkimKey
from restante.schema.connections import WriteConn
from tests.core.conftest import Tenant


def test_values_survive_pickling(conn: WriteConn, red: Tenant, now: datetime) -> None:
    me = red.account.id, red.mailbox.id
    key = DkimKey("mail202611", "rsa-sha256", "sealed", "public")
    permissions.grant_bulk(conn, *me, red.domain.id, ["view_stats"], now)
    token, plain = tokens.create(conn, red.account.id, "mail-api", "user", "x", now, red.mailbox.id)
    values = [
        red.account,
        red.domain,
        red.mailbox,
        key,
        mailboxes.add_alias(conn, red.account.id, "info@red.example", red.mailbox.id, now),
        mailboxes.find_login(conn, red.mailbox.address),
        permissions.list_grants(conn, *me),
        routing.resolve(conn, "info+x@red.example"),
        access.authenticate_token(conn, "mail-api", plain, now),
        domains.list_all(conn),
        token,
    ]
    assert pickle.loads(pickle.dumps(values)) == values


def test_values_do_not_change(red: Tenant) -> None:
    with pytest.raises(AttributeError):
        red.mailbox.role = "admin"  # type: ignore[misc]
