"""The whole HTTP application on a real store: in this process for most tests, on a port for clients of others."""

from collections.abc import AsyncIterator

import pytest

from restante.config import ListenAddress
from restante.core import tokens
from restante.http.front import Front
from restante.runtime import Runtime
from restante.server import listeners
from restante.server.http_listener import serve_http
from tests.api.mail_api.sample import Client, World, make_tenant


@pytest.fixture
async def world(rt: Runtime) -> World:
    now = rt.clock.now()
    red = await rt.db.write(make_tenant, "red", now)
    blue = await rt.db.write(make_tenant, "blue", now)
    _, admin = await rt.db.write(tokens.create, red.account.id, "mail-api", "admin", "My API Token", now)
    return World(red, blue, admin)


@pytest.fixture
def client(app: Front, world: World) -> Client:
    """Red's Ann."""
    return Client(app, world.red.token)


@pytest.fixture
def admin(app: Front, world: World) -> Client:
    """The operator."""
    return Client(app, world.admin_token)


@pytest.fixture
async def base_url(rt: Runtime, app: Front) -> AsyncIterator[str]:
    """The application on a port of its own."""
    sock = listeners.open_listener(ListenAddress("127.0.0.1", 0), "--http")
    listener = await serve_http(app, [sock], rt.config.http)
    yield f"http://127.0.0.1:{listener.ports[0]}"
    await listener.close()
