"""S3 that is away, slow, full, strange or wrongly set: always one clear answer, in bounded time, and no half blob."""

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import obstore
import pytest

from restante import config
from restante.clock import ManualClock
from restante.errors import NotFound, Unavailable
from restante.storage.blobs import s3
from restante.storage.blobs.s3 import S3Blobs
from tests.contract import ceph, s3_service
from tests.contract.ceph import Cluster
from tests.contract.pauses import Pauses
from tests.contract.proxy import Proxy, http
from tests.contract.s3_service import Service

LARGE = bytes(range(256)) * (40 << 10)  # 10 MiB: two parts


@pytest.fixture
def blobs(moto: Service, bucket: str, proxy: Proxy, clock: ManualClock, tmp_path: Path) -> S3Blobs:
    """A store that reaches its service by way of the proxy."""
    return moto.blobs(bucket, clock, tmp_path, proxy.port)


def put(blobs: S3Blobs, data: bytes) -> str:
    return blobs.put(f"1/{hashlib.sha256(data).hexdigest()}", data)


def refused(blobs: S3Blobs, data: bytes = b"x") -> Unavailable:
    with pytest.raises(Unavailable) as error:
        put(blobs, data)
    return error.value


def fill(blobs: S3Blobs) -> list[str]:
    """Put until the store is full; what it took."""
    kept: list[str] = []
    try:
        while len(kept) < 100:
            kept.append(put(blobs, b"filling %d" % len(kept)))
    except Unavailable as error:
        if error.code != "storage_full":
            raise
    return kept


def away(proxy: Proxy, how: str) -> None:
    if how == "refuse":
        proxy.refuse()
    else:
        proxy.mode = how
        proxy.cut_all()


def back(proxy: Proxy, how: str) -> None:
    if how == "refuse":
        proxy.listen_again()
    proxy.mode = "pass"
    proxy.cut_all()


def unasked(*_: object, **__: object) -> Iterator[Any]:
    """In the place of every request, where none is made."""
    pytest.fail("the store was asked")
    yield


@pytest.mark.usefixtures("bounds_as_set")
@pytest.mark.parametrize("how", ["refuse", "stall", "reset"])
def test_a_store_that_is_away_is_told_in_bounded_time_and_comes_back(
    blobs: S3Blobs, proxy: Proxy, pauses: Pauses, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    name = pauses.until_back(lambda: put(blobs, b"before"))
    away(proxy, how)
    started = time.monotonic()
    assert refused(blobs).code == "blob_store_away"
    assert time.monotonic() - started < s3.AWAY_SECONDS + 25  # ten tries of five seconds each would take longer
    with monkeypatch.context() as during:  # it is left alone for a while
        for request in ("delete", "get", "get_range", "list", "put"):
            during.setattr(obstore, request, unasked)
        for ask in (lambda: blobs.open(name), lambda: list(blobs.list_all()), blobs.check, lambda: put(blobs, b"x")):
            with pytest.raises(Unavailable) as error:
                ask()
            assert error.value.code == "blob_store_away"
    back(proxy, how)
    assert pauses.until_back(lambda: blobs.open(name)[:]) == b"before"
    new = pauses.until_back(lambda: put(blobs, b"x"))
    assert pauses.until_back(lambda: blobs.open(new)[:]) == b"x"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", ["refuse", "stall", "reset"])
def test_every_verb_tells_it(
    moto: Service, bucket: str, proxy: Proxy, clock: ManualClock, tmp_path: Path, pauses: Pauses, how: str
) -> None:
    blobs = moto.blobs(bucket, clock, tmp_path, proxy.port)
    name = pauses.until_back(lambda: put(blobs, b"before"))
    away(proxy, how)
    old = f"1/{hashlib.sha256(b'before').hexdigest()}"
    verbs = (
        blobs.check,
        lambda: blobs.open(name),
        lambda: blobs.open_range(name, 0, 3),
        lambda: blobs.delete(old, unless_put_since=clock.now()),
        lambda: list(blobs.list_all()),
    )
    for verb in verbs:
        with pytest.raises(Unavailable) as error:
            verb()
        assert error.value.code == "blob_store_away"
        pauses.end()


@pytest.mark.parametrize("data", [LARGE[: 4 << 20], LARGE], ids=["one piece", "parts"])
@pytest.mark.parametrize("times", [1, 1 << 30], ids=["once", "always"])
def test_a_reset_in_the_middle_of_an_upload(
    moto: Service, bucket: str, proxy: Proxy, clock: ManualClock, tmp_path: Path, pauses: Pauses,
    request: pytest.FixtureRequest, data: bytes, times: int,
) -> None:  # fmt: skip
    if times > 1:
        request.getfixturevalue("impatient")
    blobs = moto.blobs(bucket, clock, tmp_path, proxy.port)
    proxy.mode, proxy.cut_after, proxy.resets = "reset", 1 << 20, times
    if times == 1:
        assert blobs.open(put(blobs, data))[:] == data
        return
    assert refused(blobs, data).code == "blob_store_away"
    assert s3_service.paths(moto.behind(bucket)) == []
    back(proxy, "reset")
    name = pauses.until_back(lambda: put(blobs, data))
    assert pauses.until_back(lambda: blobs.open(name)[:]) == data


@pytest.mark.parametrize("times", [1, 1 << 30], ids=["once", "always"])
def test_a_reset_in_the_middle_of_a_download(
    moto: Service, bucket: str, proxy: Proxy, clock: ManualClock, tmp_path: Path, pauses: Pauses,
    request: pytest.FixtureRequest, times: int,
) -> None:  # fmt: skip
    if times > 1:
        request.getfixturevalue("impatient")
    blobs = moto.blobs(bucket, clock, tmp_path, proxy.port)
    name = put(blobs, LARGE)
    proxy.mode, proxy.cut, proxy.cut_after, proxy.resets = "reset", "down", 1 << 20, times
    proxy.cut_all()
    if times == 1:
        assert blobs.open(name)[:] == LARGE
        return
    with pytest.raises(Unavailable):
        blobs.open(name)
    back(proxy, "reset")
    assert pauses.until_back(lambda: blobs.open(name)[:]) == LARGE


FAULTS = {
    "full": (http("507 Insufficient Storage", "InsufficientStorage"), "storage_full", "full"),
    "quota": (http("403 Forbidden", "QuotaExceeded"), "storage_full", "full"),
    "no bucket": (http("404 Not Found", "NoSuchBucket"), "blob_bucket_missing", "bucket"),
    "unknown key": (http("403 Forbidden", "InvalidAccessKeyId"), "blob_store_refused", "credentials"),
    "wrong secret": (http("403 Forbidden", "SignatureDoesNotMatch"), "blob_store_refused", "credentials"),
    "not allowed": (http("403 Forbidden", "AccessDenied"), "blob_store_refused", "credentials"),
    "bad request": (http("400 Bad Request", "InvalidRequest"), "blob_store_refused", "InvalidRequest"),
    "busy": (http("503 Slow Down", "SlowDown"), "blob_store_away", "does not answer"),
    "broken": (http("500 Internal Server Error", "InternalError"), "blob_store_away", "does not answer"),
    "nonsense": (b"SSH-2.0-nothing\r\n\r\n", "blob_store_away", "does not answer"),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("data", [b"small", LARGE], ids=["one piece", "parts"])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_the_store_answers_is_told_in_our_words(
    moto: Service, bucket: str, proxy: Proxy, clock: ManualClock, tmp_path: Path, fault: str, data: bytes
) -> None:
    answer, code, word = FAULTS[fault]
    blobs = moto.blobs(bucket, clock, tmp_path, proxy.port)
    proxy.mode, proxy.answer = "answer", answer
    proxy.answer_if = b"POST " if data is LARGE else b"PUT "  # how an upload begins; looking before is passed on
    error = refused(blobs, data)
    assert (error.code, word in error.message) == (code, True), error.message
    assert "test-secret" not in error.message
    assert s3_service.paths(moto.behind(bucket)) == []


@pytest.mark.parametrize(
    ("given", "path_style", "made"),
    [
        ("https://s3.example.com", True, "https://s3.example.com"),
        ("https://s3.example.com/", False, "https://mail.s3.example.com"),
        ("http://127.0.0.1:9000", True, "http://127.0.0.1:9000"),
    ],
)
def test_where_requests_go(given: str, path_style: bool, made: str) -> None:
    assert s3.endpoint(config.S3(bucket="mail", endpoint=given, path_style=path_style)) == made


def test_a_bucket_that_is_not_there(moto: Service, clock: ManualClock, tmp_path: Path) -> None:
    blobs = moto.blobs("no-such-bucket", clock, tmp_path)
    assert refused(blobs).code == "blob_bucket_missing"
    name = f"1/{'0' * 64}.20261121"
    for ask in (blobs.check, lambda: blobs.open_range(name, 0, 1), lambda: list(blobs.list_all())):
        with pytest.raises(Unavailable) as error:
            ask()
        assert error.value.code == "blob_bucket_missing"


def test_a_store_that_ignores_the_condition(
    moto: Service, bucket: str, proxy: Proxy, blobs: S3Blobs, clock: ManualClock
) -> None:
    """What is there is told by its hash: kept with the object, else by reading it again; other bytes are replaced."""
    proxy.rewrite = lambda data: data.replace(b"if-none-match: *", b"x-nothing: *")
    data = b"the true bytes"
    digest = hashlib.sha256(data).hexdigest()
    path = f"1/{digest}.{clock.now():%Y%m%d}"
    behind = moto.behind(bucket)

    def uploads() -> int:
        return sum(head.startswith(b"PUT ") for head in proxy.heads)

    obstore.put(behind, path, data)  # no hash kept: read, found right, not sent again
    assert (put(blobs, data), uploads()) == (path, 0)
    obstore.put(behind, path, b"other bytes !!", attributes={"sha256": "0" * 64})
    assert (put(blobs, data), uploads()) == (path, 1)
    assert blobs.open(path)[:] == data
    obstore.put(behind, path, b"other bytes !!")
    assert (put(blobs, data), uploads()) == (path, 2)
    obstore.put(behind, path, data[:-1], attributes={"sha256": digest})  # cut short
    assert (put(blobs, data), uploads()) == (path, 3)
    assert (put(blobs, data), uploads()) == (path, 3)
    assert blobs.open(path)[:] == data
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: put(blobs, b"new"), range(4))) == {put(blobs, b"new")}


@pytest.mark.usefixtures("impatient")
def test_a_store_that_does_not_know_the_condition(
    moto: Service, bucket: str, proxy: Proxy, clock: ManualClock, tmp_path: Path
) -> None:
    blobs = moto.blobs(bucket, clock, tmp_path, proxy.port)
    proxy.mode, proxy.answer = "answer", http("501 Not Implemented", "NotImplemented")
    proxy.answer_if = b"if-none-match"
    assert blobs.open(put(blobs, b"one"))[:] == b"one"
    asked = len(proxy.heads)
    assert blobs.open(put(blobs, b"two"))[:] == b"two"
    assert not any(b"if-none-match" in head for head in proxy.heads[asked:])


def test_somebody_else_was_first(moto: Service, bucket: str, proxy: Proxy, blobs: S3Blobs) -> None:
    """The object comes between looking and putting: the condition fails, and what is there is looked at again."""
    data = b"contested"

    def meanwhile(request: bytes) -> bytes:
        if b"PUT " in request[:4]:
            proxy.rewrite = None
            obstore.put(moto.behind(bucket), request.split(b" ")[1].decode().removeprefix(f"/{bucket}/"), b"damaged!!")
        return request

    proxy.rewrite = meanwhile
    assert blobs.open(put(blobs, data))[:] == data
    assert proxy.rewrite is None


def test_what_goes_over_the_wire(moto: Service, bucket: str, proxy: Proxy, clock: ManualClock, tmp_path: Path) -> None:
    blobs = moto.blobs(bucket, clock, tmp_path, proxy.port, prefix="mail/blobs", server_side_encryption="AES256")
    name = put(blobs, b"x")
    (upload,) = (head for head in proxy.heads if head.startswith(b"PUT "))
    assert f"PUT /{bucket}/mail/blobs/{name} HTTP".encode() in upload
    assert b"x-amz-server-side-encryption: AES256" in upload
    assert b"if-none-match: *" in upload
    assert s3_service.paths(moto.behind(bucket)) == [f"mail/blobs/{name}"]
    large = put(blobs, LARGE)
    assert any(b"x-amz-server-side-encryption: AES256" in head for head in proxy.heads if head.startswith(b"POST "))
    before = proxy.sent_down
    assert len(blobs.open_range(large, 5 << 20, (5 << 20) + 1000).raw) == 1000
    assert proxy.sent_down - before < 10_000  # only the range travels
    assert sorted(info.key for info in blobs.list_all()) == sorted([name, large])
    other = moto.blobs(bucket, clock, tmp_path)
    assert list(other.list_all()) == []
    with pytest.raises(NotFound):
        other.open(name)


if ceph.PRESENT:

    @pytest.fixture(scope="module")
    def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
        with ceph.running(tmp_path_factory.mktemp("own-ceph")) as made:
            made.service.make_bucket("mail")
            yield made

    @pytest.mark.slow
    @pytest.mark.usefixtures("bounds_as_set")
    def test_what_a_durable_service_acknowledged_survives_its_death(
        cluster: Cluster, clock: ManualClock, tmp_path: Path, pauses: Pauses
    ) -> None:
        blobs = cluster.service.blobs("mail", clock, tmp_path)
        names = [put(blobs, b"%d" % number * 1000) for number in range(20)] + [put(blobs, LARGE)]
        cluster.kill("osd")
        cluster.kill("gateway")
        assert refused(blobs, b"while it is away").code == "blob_store_away"
        cluster.start_osd()
        cluster.start_gateway()
        pauses.until_back(blobs.check)
        assert [blobs.open(name)[:] for name in names] == [b"%d" % number * 1000 for number in range(20)] + [LARGE]

    @pytest.mark.slow
    def test_wrong_credentials_and_a_full_bucket_of_a_real_service(
        cluster: Cluster, clock: ManualClock, tmp_path: Path
    ) -> None:
        wrong = cluster.service.blobs("mail", clock, tmp_path, secret_key="not the secret")
        assert refused(wrong).code == "blob_store_refused"
        cluster.service.make_bucket("narrow")
        quota = "radosgw-admin", "quota"
        cluster.run(*quota, "set", "--quota-scope=bucket", "--uid=test", "--max-objects=2")
        cluster.run(*quota, "enable", "--quota-scope=bucket", "--uid=test")
        try:
            narrow = cluster.service.blobs("narrow", clock, tmp_path)
            kept = fill(narrow)
            assert 0 < len(kept) < 100
            assert sorted(info.key for info in narrow.list_all()) == sorted(kept)
        finally:
            cluster.run(*quota, "disable", "--quota-scope=bucket", "--uid=test")
