"""Retention over HTTP: rules, the forecast's switch, refusals, other tenants, hostile input."""

from typing import Any

import pytest

from restante.core import tokens
from restante.core.retention import rules
from restante.http.front import Front
from restante.runtime import Runtime
from tests.api.mail_api.sample import Reply, Tenant
from tests.api.native.client import Native
from tests.api.native.test_events import assert_problem

PLACE = "/retention"


async def put(owner: Native, **rule: Any) -> Reply:
    return await owner.call("PUT", PLACE, data=rule)


async def test_set_show_remove(owner: Native, red: Tenant) -> None:
    made = (await put(owner, days=365, bytes=0)).json()
    names = ["domain", "mailbox", "folder", "days", "messages", "bytes", "updated_at"]
    assert list(made) == names
    assert list(made.values())[:-1] == [None, None, None, 365, None, 0]
    junk = (await put(owner, domain="red.example", folder="junk", days=7)).json()
    own = (await put(owner, mailbox="ann@red.example", messages=5)).json()
    shown = (await owner.get(PLACE)).json()
    assert list(shown) == ["trash_days", "rules", "forecast"]
    assert shown["rules"] == [made, junk, own]
    assert shown["trash_days"] == 30
    changed = (await put(owner, days=30)).json()
    assert (changed["days"], changed["bytes"]) == (30, None), "in the place of what it had"
    for query in ("", "?domain=red.example&folder=junk", "?mailbox=ann@red.example"):
        assert (await owner.call("DELETE", PLACE + query)).json() == {"removed": True}
        assert_problem(await owner.call("DELETE", PLACE + query), 404, "rule_not_found")
    assert (await owner.get(PLACE)).json()["rules"] == []


async def test_the_forecast(owner: Native) -> None:
    on = (await owner.call("PUT", PLACE + "/forecast", data={"enabled": True})).json()
    assert list(on) == ["enabled", "unknown", "growth_bytes", "excess_bytes"]
    assert on["enabled"] is True
    assert (await owner.get(PLACE)).json()["forecast"] == on
    off = await owner.call("PUT", PLACE + "/forecast", data={"enabled": False})
    assert off.json() == on | {"enabled": False}
    assert_problem(await owner.call("PUT", PLACE + "/forecast", data={"enabled": "yes"}), 422, "invalid")


@pytest.mark.parametrize(
    ("rule", "status", "code"),
    [
        ({}, 422, "invalid"),
        ({"days": -1}, 422, "invalid"),
        ({"days": 36_501}, 422, "invalid"),
        ({"days": 1.5}, 422, "invalid"),
        ({"bytes": 10**30}, 422, "invalid"),
        ({"days": 1, "folder": "trash"}, 422, "invalid"),
        ({"days": 1, "folder": "a\r\nb"}, 422, "invalid"),
        ({"days": 1, "forever": True}, 422, "invalid"),
        ({"days": 1, "domain": "red.example", "mailbox": "ann@red.example"}, 422, "invalid"),
        ({"days": 1, "mailbox": "x" * 321}, 422, "invalid"),
        ({"days": 1, "mailbox": "ann@red.example\0"}, 404, "mailbox_not_found"),
        ({"days": 1, "mailbox": "ann@blue.example"}, 404, "mailbox_not_found"),
        ({"days": 1, "domain": "blue.example"}, 404, "domain_not_found"),
        ({"days": 1, "domain": "\0"}, 404, "domain_not_found"),
        ({"days": 1, "domain": ""}, 404, "domain_not_found"),
    ],
)
async def test_what_is_refused(owner: Native, blue: Tenant, rule: dict[str, Any], status: int, code: str) -> None:
    assert_problem(await put(owner, **rule), status, code)
    assert (await owner.get(PLACE)).json()["rules"] == []


async def test_there_is_an_end_of_rules(owner: Native, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_RULES", 1)
    assert (await put(owner, days=1)).status == 200
    assert_problem(await put(owner, days=1, folder="junk"), 422, "too_many_rules")


async def test_scopes_and_tokens_of_mailboxes(rt: Runtime, app: Front, red: Tenant, ann: Native) -> None:
    now = rt.clock.now()
    _, plain = await rt.db.write(
        tokens.create, red.account.id, "native", "user", "x", now, scopes=["retention:read"]
    )  # fmt: skip
    reader = Native(app, plain)
    assert (await reader.get(PLACE)).status == 200
    assert_problem(await put(reader, days=1), 403, "scope_missing")
    assert_problem(await reader.call("DELETE", PLACE), 403, "scope_missing")
    assert_problem(await reader.call("PUT", PLACE + "/forecast", data={"enabled": True}), 403, "scope_missing")
    assert_problem(await ann.get(PLACE), 403, "access_denied")
    assert_problem(await put(ann, days=1), 403, "access_denied")
    assert_problem(await Native(app, None).get(PLACE), 401, "no_token")
