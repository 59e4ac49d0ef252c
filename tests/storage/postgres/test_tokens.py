"""A token that ends on one node ends on the others with the commit: no signal is waited for."""

from pathlib import Path

import pytest

from restante.core import accounts, mailboxes, tokens
from restante.runtime import Runtime
from restante.server import asgi
from restante.server.metrics import Metrics
from tests.api.mail_api.sample import ANN, Client, Tenant, assert_refused, make_tenant
from tests.storage.postgres.conftest import make_runtime


async def _revoke(rt: Runtime, red: Tenant) -> None:
    (token,) = await rt.db.read(tokens.list_tokens, red.account.id)
    await rt.db.write(tokens.revoke, token.account_id, token.id, rt.clock.now())


async def _remove(rt: Runtime, red: Tenant) -> None:
    (token,) = await rt.db.read(tokens.list_tokens, red.account.id)
    await rt.db.write(tokens.remove, token.account_id, token.id, rt.clock.now())


async def _suspend(rt: Runtime, red: Tenant) -> None:
    await rt.db.write(accounts.suspend, red.account.id, rt.clock.now())


async def _disable(rt: Runtime, red: Tenant) -> None:
    await rt.db.write(mailboxes.disable, red.account.id, red.ann.id, rt.clock.now())


@pytest.mark.parametrize("end", [_revoke, _remove, _suspend, _disable])
async def test_the_end_of_a_token_on_another_node_holds_at_once(tmp_path: Path, postgres_url: str, end: object) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir(mode=0o700)
    assert callable(end)
    async with (
        make_runtime(tmp_path / "here", postgres_url) as here,
        make_runtime(tmp_path / "there", postgres_url) as there,
    ):
        red = await here.db.write(make_tenant, "red", here.clock.now())
        client = Client(asgi.build(there, Metrics(there)), red.token)
        for _ in range(2):
            assert (await client.get(f"{ANN}/messages")).status == 200
        await end(here, red)
        for target in (f"{ANN}/messages", f"{ANN}/search?q=agenda"):
            assert (await client.get(target)).status == 401
        assert_refused(await client.get(f"{ANN}/messages"), 401, "INVALID_TOKEN" if end is _remove else "TOKEN_EXPIRED")
