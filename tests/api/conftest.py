"""The whole HTTP application on a real store, and two tenants of it."""

import pytest

from restante.http.front import Front
from restante.runtime import Runtime
from restante.server import asgi
from restante.server.metrics import Metrics
from tests.api.mail_api.sample import Tenant, make_tenant


@pytest.fixture
async def red(rt: Runtime) -> Tenant:
    return await rt.db.write(make_tenant, "red", rt.clock.now())


@pytest.fixture
async def blue(rt: Runtime) -> Tenant:
    return await rt.db.write(make_tenant, "blue", rt.clock.now())


@pytest.fixture
def app(rt: Runtime) -> Front:
    return asgi.build(rt, Metrics(rt))
