"""Permissions: bulk grants, repeats, unknown names, the operator's cross-account grants."""

from datetime import datetime

import pytest

from restante.core import permissions
from restante.errors import Invalid
from restante.schema.connections import WriteConn
from tests.core.conftest import Tenant


def test_catalogue() -> None:
    assert list(permissions.CATALOGUE) == ["manage_users", "manage_domains", "view_mailbox", "view_stats", "send_mail"]


def test_grant_skip_and_collapse(conn: WriteConn, red: Tenant, now: datetime) -> None:
    me = red.account.id, red.mailbox.id
    names = ["view_stats", "send_mail", "view_stats"]
    assert permissions.grant_bulk(conn, *me, red.domain.id, names, now) == (["view_stats", "send_mail"], [])
    wanted = ["view_mailbox", "send_mail"]
    assert permissions.grant_bulk(conn, *me, red.domain.id, wanted, now) == (["view_mailbox"], ["send_mail"])
    assert permissions.grant_bulk(conn, *me, red.domain.id, wanted, now) == ([], wanted)
    granted = permissions.list_grants(conn, *me)
    assert [(grant.domain, grant.permission) for grant in granted] == [
        ("red.example", "send_mail"),
        ("red.example", "view_mailbox"),
        ("red.example", "view_stats"),
    ]


def test_unknown_name_grants_nothing(conn: WriteConn, red: Tenant, now: datetime) -> None:
    me = red.account.id, red.mailbox.id
    with pytest.raises(Invalid) as caught:
        permissions.grant_bulk(conn, *me, red.domain.id, ["view_stats", "fly"], now)
    assert caught.value.code == "invalid_permission"
    assert permissions.list_grants(conn, *me) == []


def test_operator_grants_over_another_account(conn: WriteConn, red: Tenant, blue: Tenant, now: datetime) -> None:
    me = red.account.id, red.mailbox.id
    permissions.grant_bulk(conn, *me, blue.domain.id, ["view_stats"], now, blue.account.id)
    assert permissions.has(conn, *me, blue.domain.id, "view_stats")
    assert not permissions.has(conn, *me, blue.domain.id, "send_mail")
    assert permissions.revoke(conn, *me, blue.domain.id, "view_stats", now)
    assert not permissions.revoke(conn, *me, blue.domain.id, "view_stats", now)
    assert not permissions.has(conn, *me, blue.domain.id, "view_stats")
