"""The services that blob stores are tested on."""

import uuid
from collections.abc import Iterator

import pytest

from tests.contract import ceph, s3_service
from tests.contract.proxy import Proxy
from tests.contract.s3_service import Service


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with s3_service.moto(tmp_path_factory.mktemp("moto")) as service:
        yield service


@pytest.fixture(scope="session")
def radosgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with ceph.running(tmp_path_factory.mktemp("ceph")) as cluster:
        yield cluster.service


@pytest.fixture
def bucket(moto: Service) -> str:
    """A bucket of this test's own."""
    name = f"test-{uuid.uuid4().hex}"
    moto.make_bucket(name)
    return name


@pytest.fixture
def proxy(moto: Service) -> Iterator[Proxy]:
    made = Proxy(moto.port)
    yield made
    made.close()
