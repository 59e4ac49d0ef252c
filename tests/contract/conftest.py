"""The services that blob stores are tested on."""

import uuid
from collections.abc import Iterator

import pytest
from obstore.store import S3Store

from restante import config
from restante.storage.blobs import s3
from tests.contract import ceph, s3_service
from tests.contract.pauses import Pauses
from tests.contract.proxy import Proxy
from tests.contract.s3_service import Service

BOUNDS = {"AWAY_SECONDS": s3.AWAY_SECONDS, "TRANSFER_SECONDS": s3.TRANSFER_SECONDS}
PATIENT_SECONDS = 60


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is there gets as long as a busy machine may need."""
    for name in BOUNDS:
        monkeypatch.setattr(s3, name, PATIENT_SECONDS)


@pytest.fixture
def bounds_as_set(monkeypatch: pytest.MonkeyPatch, patient: None) -> None:
    """The waits of a server."""
    for name, value in BOUNDS.items():
        monkeypatch.setattr(s3, name, value)


@pytest.fixture
def impatient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, patient: None) -> None:
    """Failures are told after a second. Answers may take their time, unless the test is about none (``how``: stall)."""
    client = s3._client
    is_silent = "how" in request.fixturenames and request.getfixturevalue("how") == "stall"

    def made(settings: config.S3, _: int) -> S3Store:
        return client(settings, 1 if is_silent else PATIENT_SECONDS)

    monkeypatch.setattr(s3, "AWAY_SECONDS", 1)
    monkeypatch.setattr(s3, "_client", made)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    """A store that was away is left alone until the test ends that."""
    made = Pauses()
    monkeypatch.setattr(s3, "time", made)
    return made


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
