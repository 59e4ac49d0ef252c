"""Blobs as objects in an S3 bucket, for one node or many: ``{prefix}/{account}/{sha256}.{day}``.

The day (UTC) on which the bytes were put is part of the key that a row names. A put relies on objects of its own day
only, a delete takes objects of days that are long over only: so nobody deletes what another node is just about to
name, without a lock between nodes and however late a request arrives (docs/decisions/0007-s3-blobs.md).

Every request ends: a store that is away costs ``AWAY_SECONDS``, one that stalls in the middle of a transfer
``TRANSFER_SECONDS`` (twice that in an upload of parts, which has to be called off). After that it is not asked for
``PAUSE_SECONDS``, so that a store that is down does not hold all threads of the pool.
"""

import contextlib
import hashlib
import mmap
import re
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from obstore import exceptions
from obstore.store import S3Store

from restante import config
from restante.clock import Clock
from restante.errors import NotFound, Unavailable
from restante.storage.blobs.base import BlobInfo, Buffer, Window

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

AWAY_SECONDS = 5  # retries end, and a request without bytes is answered, after so long
TRANSFER_SECONDS = 30  # one request with up to PIECE_BYTES in it
PAUSE_SECONDS = 1.0
PIECE_BYTES = 8 << 20  # sent and read at one time; larger blobs are uploaded in parts
UPLOADS = 2  # parts on their way at one time
SLACK = timedelta(hours=1)  # how far the clocks of nodes may differ, and an upload may take

_PLAIN = re.compile(r"\A(\d{1,19})/([0-9a-f]{64})\Z")
_NAMED = re.compile(r"\A(\d{1,19})/([0-9a-f]{64})(?:\.(2\d{7}))?\Z")
_DIGEST = "sha256"  # metadata of each object

_FULL = re.compile(r"QuotaExceeded|StorageFull|InsufficientStorage|status code: 507")
_NO_BUCKET = "NoSuchBucket"
_REFUSED = re.compile(r"AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|status code: 40[13]\b")
_REQUEST_REFUSED = re.compile(r"status code: 4\d\d")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_NO_CONDITIONS = re.compile(r"NotImplemented|status code: 501")
_STATUS = "status code:"
_NO_RANGE = "status code: 416"


class S3Blobs:
    """A blob store in a bucket. ``scratch`` is a folder for the bytes of large blobs while they are read."""

    def __init__(self, settings: config.S3, clock: Clock, scratch: Path) -> None:
        self._clock, self._scratch = clock, scratch
        self._folder = f"{settings.prefix}/" if settings.prefix else ""
        self._quick = _client(settings, AWAY_SECONDS)
        self._bulk = _client(settings, TRANSFER_SECONDS)
        self._conditional = True  # until the store says that it knows no If-None-Match
        self._paused_until = 0.0

    def check(self) -> None:
        """Raise Unavailable, with one line for people, when the bucket cannot be used as it is set."""
        with self._asking():
            next(iter(obstore.list(self._quick, self._folder + "0", chunk_size=1)), None)

    def put(self, key: str, data: Buffer) -> str:
        match = _PLAIN.match(key)
        if match is None:
            raise NotFound(f"no such blob: {key!r}", code="blob_not_found")
        named = f"{key}.{self._clock.now().astimezone(UTC):%Y%m%d}"
        path, digest = self._folder + named, match[2]
        with self._asking():
            if not self._holds(path, digest, len(data)):
                self._upload(path, digest, data)
        return named

    def _holds(self, path: str, digest: str, size_bytes: int) -> bool:
        """Whether the bytes are there already: by the digest kept with them, or by reading them where none is kept."""
        try:
            found = obstore.get(self._quick, path, options={"head": True})
        except FileNotFoundError:
            return False
        if found.meta["size"] != size_bytes:
            return False
        kept = found.attributes.get(_DIGEST)
        if kept is not None:
            return kept == digest
        return hashlib.sha256(self._read(path, 0, size_bytes)).hexdigest() == digest

    def _upload(self, path: str, digest: str, data: Buffer) -> None:
        """Store the bytes under a name that has none, or wrong ones. An object appears whole or not at all."""
        about = {_DIGEST: digest}
        view = memoryview(data)
        if len(data) > PIECE_BYTES:
            obstore.put(
                self._bulk, path, view, attributes=about, use_multipart=True, chunk_size=PIECE_BYTES,
                max_concurrency=UPLOADS,
            )  # fmt: skip
            return
        if self._conditional and self._create(path, digest, view):
            return
        obstore.put(self._bulk, path, view, attributes=about, use_multipart=False)

    def _create(self, path: str, digest: str, view: memoryview) -> bool:
        """Put on the condition that nothing has that name; False: put without it, which does no harm."""
        started = time.monotonic()
        try:
            obstore.put(self._bulk, path, view, attributes={_DIGEST: digest}, mode="create", use_multipart=False)
            return True
        except exceptions.AlreadyExistsError:
            return self._holds(path, digest, len(view))
        except exceptions.NotSupportedError:
            self._conditional = False
        except exceptions.GenericError as error:
            said = str(error)
            if _NO_CONDITIONS.search(said):
                self._conditional = False
            elif _STATUS in said or time.monotonic() - started > AWAY_SECONDS / 2:
                raise  # only a connection cut early is tried again: the library does not, for it cannot know our bytes
        return False

    def open(self, key: str) -> Buffer:
        path = self._path(key)
        with self._asking(key):
            size_bytes = obstore.get(self._quick, path, options={"head": True}).meta["size"]
            return self._read(path, 0, size_bytes)

    def open_range(self, key: str, start: int, end: int) -> Window:
        path = self._path(key)
        with self._asking(key):
            raw = self._read(path, start, end)
            return Window(raw, 0, len(raw))

    def _path(self, key: str) -> str:
        if not _is_key(key):
            raise NotFound(f"no such blob: {key!r}", code="blob_not_found")
        return self._folder + key

    def _read(self, path: str, start: int, end: int) -> Buffer:
        """The bytes of a range, piece by piece; many of them by way of a file that has no name."""
        if end - start <= PIECE_BYTES:
            return self._piece(path, start, end)
        with tempfile.TemporaryFile(dir=self._scratch) as file:
            for at in range(start, end, PIECE_BYTES):
                wanted = min(PIECE_BYTES, end - at)
                piece = self._piece(path, at, at + wanted)
                file.write(piece)
                if len(piece) < wanted:
                    break
            file.flush()
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.tell() else b""

    def _piece(self, path: str, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        try:
            return bytes(obstore.get_range(self._bulk, path, start=start, end=end))
        except exceptions.GenericError as error:
            if _NO_RANGE in str(error):
                return b""
            raise

    def delete(self, key: str, *, unless_put_since: datetime) -> bool:
        path = self._path(key)
        latest = _last_put(key)
        if latest is not None and latest > unless_put_since:
            return False
        with self._asking():
            try:
                obstore.get(self._quick, path, options={"head": True})
            except FileNotFoundError:
                return False
            obstore.delete(self._quick, path)
        return True

    def list_all(self) -> Iterator[BlobInfo]:
        pages = iter(obstore.list(self._quick, self._folder or None, chunk_size=1000))
        while True:
            with self._asking():
                page = next(pages, None)
            if page is None:
                return
            for one in page:
                key = one["path"].removeprefix(self._folder)
                if _is_key(key):
                    yield BlobInfo(key, one["size"], one["last_modified"])

    @contextlib.contextmanager
    def _asking(self, key: str | None = None) -> Iterator[None]:
        """Turn what the store answers into our errors: NotFound for a missing ``key``, else Unavailable."""
        if time.monotonic() < self._paused_until:
            raise Unavailable("the blob store does not answer", code="blob_store_away")
        try:
            yield
        except FileNotFoundError as error:
            if key is not None and _NO_BUCKET not in str(error):
                raise NotFound(f"the bytes of blob {key} are gone", code="blob_not_found") from error
            raise Unavailable("the bucket of the blob store does not exist", code="blob_bucket_missing") from error
        except OSError as error:
            raise Unavailable(f"the blob cannot be kept while it is read: {error.strerror}") from error
        except exceptions.BaseError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> Unavailable:
        said = str(error)
        if _FULL.search(said):
            return Unavailable("the blob store is full", code="storage_full")
        if _NO_BUCKET in said:
            return Unavailable("the bucket of the blob store does not exist", code="blob_bucket_missing")
        refused = exceptions.PermissionDeniedError, exceptions.UnauthenticatedError
        if isinstance(error, refused) or _REFUSED.search(said):
            return Unavailable("the blob store refuses our credentials", code="blob_store_refused")
        if _REQUEST_REFUSED.search(said):
            named = _CODE.search(said)
            why = f" ({named[1]})" if named else ""
            return Unavailable(f"the blob store refuses a request{why}", code="blob_store_refused")
        self._paused_until = time.monotonic() + PAUSE_SECONDS
        return Unavailable("the blob store does not answer", code="blob_store_away")


def _is_key(text: str) -> bool:
    """Whether it may stand in a row: ``account/sha256``, with a day unless the object was copied from files."""
    try:
        _last_put(text)
    except ValueError:
        return False
    return True


def _last_put(key: str) -> datetime | None:
    """The latest moment at which it may have been put, by any node's clock; None for a key that is put no more.

    Raises ValueError when it is no key.
    """
    match = _NAMED.match(key)
    if match is None:
        raise ValueError(key)
    if match[3] is None:
        return None
    return datetime.strptime(match[3], "%Y%m%d").replace(tzinfo=UTC) + timedelta(days=1) + SLACK


def _client(settings: config.S3, request_seconds: int) -> S3Store:
    options: ClientConfig = {
        "timeout": timedelta(seconds=request_seconds),
        "connect_timeout": timedelta(seconds=2),
        "allow_http": settings.endpoint.startswith("http://"),
    }
    retries: RetryConfig = {
        "max_retries": 10,
        "retry_timeout": timedelta(seconds=AWAY_SECONDS),
        "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1), "base": 2},
    }
    given: S3Config = {
        "region": settings.region,
        "virtual_hosted_style_request": not settings.path_style,
        "disable_bulk_delete": True,  # not every store has it, and it is not retried
    }
    if settings.endpoint:
        given["endpoint"] = endpoint(settings)
    if settings.access_key:
        given["access_key_id"] = settings.access_key
        given["secret_access_key"] = settings.secret_key
    if settings.server_side_encryption != "none":
        given["server_side_encryption"] = settings.server_side_encryption
    return S3Store(settings.bucket, config=given, client_options=options, retry_config=retries)


def endpoint(settings: config.S3) -> str:
    """The address requests go to; with the bucket in the host name it has to say so itself."""
    parts = urlsplit(settings.endpoint)
    host = parts.netloc if settings.path_style else f"{settings.bucket}.{parts.netloc}"
    return f"{parts.scheme}://{host}"
