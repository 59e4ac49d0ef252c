"""The vault: the instance secret, and every secret of the database sealed with it.

The secret is one or more 256-bit keys, newest first: in ``secret.key`` of the data directory (mode 0600, made at the
first run) or in ``RESTANTE_SECRET_KEY``. It is never in the database. New values are sealed with the newest key; a
value names its key, so that older keys open what they sealed until it is sealed again.

A sealed value is ``v1.<key id>.<nonce and ciphertext, url-safe base64>``: AES-256-GCM (NIST SP 800-38D) with a random
96-bit nonce and the value's purpose as associated data, so that no sealed value opens in another's place.
"""

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from restante.errors import Conflict, Invalid, Unavailable

FILE = "secret.key"
VARIABLE = "RESTANTE_SECRET_KEY"
KEY_BYTES = 32
NONCE_BYTES = 12
MAX_FILE_BYTES = 64 * 1024
_VERSION = "v1"


class Vault:
    """Seals and opens values with the instance secret; safe to use from several threads."""

    def __init__(self, keys: Sequence[bytes], file: Path | None = None) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise Invalid(f"The instance secret is {KEY_BYTES} bytes.", code="secret_key_invalid")
        self._file = file
        self._use(list(keys))

    @classmethod
    def load(cls, data_dir: Path, secret_key: str = "") -> "Vault":
        """The vault of a data directory: from ``secret_key`` when it is given, else from the file, which it makes.

        Errors: Invalid ``secret_key_invalid`` with the place in its message.
        """
        if secret_key:
            return cls(_keys(secret_key, VARIABLE))
        file = data_dir / FILE
        if not file.exists():
            _create(file, _text([secrets.token_bytes(KEY_BYTES)]))
        if file.stat().st_size > MAX_FILE_BYTES:
            raise Invalid(f"{file} is no instance secret.", code="secret_key_invalid")
        return cls(_keys(file.read_text(encoding="ascii", errors="replace"), str(file)), file)

    @property
    def key_id(self) -> str:
        """The id of the key that seals now."""
        return self._newest

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of all keys, newest first."""
        return tuple(self._keys)

    def seal(self, value: bytes | str, purpose: str) -> str:
        """Encrypt a value for ``purpose``, which ``open`` must name again; text is sealed as UTF-8."""
        plain = value.encode() if isinstance(value, str) else value
        nonce = os.urandom(NONCE_BYTES)
        sealed = AESGCM(self._keys[self._newest]).encrypt(nonce, plain, purpose.encode())
        return f"{_VERSION}.{self._newest}.{_encode(nonce + sealed)}"

    def open(self, sealed: str, purpose: str) -> bytes:
        """The value that was sealed for ``purpose``.

        Errors: Unavailable ``secret_key_missing`` (it names the key that is wanted), Invalid ``sealed_value_broken``
        (not a sealed value, changed, or sealed for another purpose).
        """
        key_id, data = _split(sealed)
        key = self._keys.get(key_id) or self._read_again(key_id)
        if key is None:
            message = f"A stored secret needs the key {key_id}, which is not in {self._file or VARIABLE}."
            raise Unavailable(message, code="secret_key_missing")
        try:
            return AESGCM(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], purpose.encode())
        except InvalidTag as error:
            raise _broken() from error

    def open_text(self, sealed: str, purpose: str) -> str:
        """As ``open``, for text."""
        return self.open(sealed, purpose).decode()

    def needs_reseal(self, sealed: str) -> bool:
        """Whether an older key than the newest seals the value."""
        return _split(sealed)[0] != self._newest

    def reseal(self, sealed: str, purpose: str) -> str:
        """The value sealed with the newest key; unchanged when it is already."""
        return self.seal(self.open(sealed, purpose), purpose) if self.needs_reseal(sealed) else sealed

    def rotate(self) -> str:
        """Put a new key in front of the others, in the file first; returns its id.

        Conflict ``secret_key_external`` when the secret comes from the environment: the operator rotates it there.
        """
        return self._replace([secrets.token_bytes(KEY_BYTES), *self._keys.values()])

    def forget_older(self) -> None:
        """Drop all keys but the newest, once every stored value is sealed with it."""
        self._replace([self._keys[self._newest]])

    def hmac(self, purpose: str, data: bytes) -> bytes:
        """A keyed fingerprint of ``data`` (HMAC-SHA-256), of use only in this process and with this key."""
        derived = hmac.digest(self._keys[self._newest], b"hmac:" + purpose.encode(), hashlib.sha256)
        return hmac.digest(derived, data, hashlib.sha256)

    def _read_again(self, key_id: str) -> bytes | None:
        """A key that another process of this server has put into the file since."""
        if self._file is not None:
            with contextlib.suppress(OSError, Invalid):
                self._use(_keys(self._file.read_text(encoding="ascii", errors="replace"), str(self._file)))
        return self._keys.get(key_id)

    def _replace(self, keys: Sequence[bytes]) -> str:
        if self._file is None:
            raise Conflict(f"The instance secret comes from {VARIABLE}: change it there.", code="secret_key_external")
        spare = _write_spare(self._file, _text(keys))
        spare.replace(self._file)
        _sync_directory(self._file.parent)
        self._use(keys)
        return self._newest

    def _use(self, keys: Sequence[bytes]) -> None:
        self._keys = {_key_id(key): key for key in keys}
        self._newest = _key_id(keys[0])


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"restante key id\0" + key).hexdigest()[:12]


def _keys(text: str, place: str) -> list[bytes]:
    found = []
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for word in re.split(r"[\s,]+", " ".join(lines).strip()):
        try:
            key = base64.urlsafe_b64decode(word.rstrip("=") + "=" * (-len(word.rstrip("=")) % 4))
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES or _encode(key) != word.rstrip("="):
            message = f"{place}: an instance secret is {KEY_BYTES} random bytes in url-safe base64 (43 characters)."
            raise Invalid(message, code="secret_key_invalid")
        found.append(key)
    return found


def _text(keys: Iterable[bytes]) -> str:
    head = (
        "# The instance secret of Restante, newest key first. Without it no stored secret can be read: keep a copy.\n"
    )
    return head + "".join(_encode(key) + "\n" for key in keys)


def _create(file: Path, text: str) -> None:
    """Write the file whole or not at all; who comes second uses what the first one wrote."""
    spare = _write_spare(file, text)
    try:
        with contextlib.suppress(FileExistsError):
            file.hardlink_to(spare)
    finally:
        spare.unlink()
    _sync_directory(file.parent)


def _write_spare(file: Path, text: str) -> Path:
    spare = file.with_name(f".{file.name}.{secrets.token_hex(6)}")
    handle = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    return spare


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _split(sealed: str) -> tuple[str, bytes]:
    version, _, rest = sealed.partition(".")
    key_id, _, body = rest.partition(".")
    try:
        data = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    except (binascii.Error, ValueError) as error:
        raise _broken() from error
    if version != _VERSION or not key_id or len(data) < NONCE_BYTES + 16:
        raise _broken()
    return key_id, data


def _broken() -> Invalid:
    return Invalid("A stored secret is damaged or does not belong here.", code="sealed_value_broken")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
