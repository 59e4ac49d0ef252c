"""The native API on a real store, in this process and on a port."""

from collections.abc import AsyncIterator

import pytest

from restante.config import ListenAddress
from restante.core import tokens
from restante.http.front import Front
from restante.runtime import Runtime
from restante.server import listeners
from restante.server.http_listener import serve_http
from tests.api.mail_api.sample import Tenant
from tests.api.native.client import Native, Place


@pytest.fixture
async def owner(rt: Runtime, app: Front, red: Tenant) -> Native:
    """Who holds a token of the account red."""
    _, plain = await rt.db.write(tokens.create, red.account.id, "native", "user", "owner", rt.clock.now())
    return Native(app, plain)


@pytest.fixture
async def ann(rt: Runtime, app: Front, red: Tenant) -> Native:
    """Who holds a token of Ann's mailbox."""
    now = rt.clock.now()
    _, plain = await rt.db.write(tokens.create, red.account.id, "native", "user", "ann", now, mailbox_id=red.ann.id)
    return Native(app, plain)


@pytest.fixture
async def place(rt: Runtime, app: Front) -> AsyncIterator[Place]:
    """The application on a port of its own."""
    sock = listeners.open_listener(ListenAddress("127.0.0.1", 0), "--http")
    listener = await serve_http(app, [sock], rt.config.http)
    yield Place("127.0.0.1", listener.ports[0])
    await listener.close()
