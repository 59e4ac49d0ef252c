"""Certificates: the self-made one of a first run (ECDSA P-256, RFC 5480), and the TLS settings of our servers.

Sending servers do not check a receiver's name or chain unless told so by DANE or MTA-STS, so a self-made certificate
already keeps mail from being read on its way. ECDSA costs half of RSA-2048 in a handshake.
"""

import contextlib
import ipaddress
import os
import ssl
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CERTIFICATE_FILE = "cert.pem"
KEY_FILE = "key.pem"
LIFETIME = timedelta(days=397)
RENEW_BEFORE = timedelta(days=30)
_CLOCK_SKEW = timedelta(days=1)


def ensure(directory: Path, hostname: str, now: datetime) -> tuple[Path, Path]:
    """The certificate and key files in ``directory``, made anew if missing, expiring, for another name or not a pair.

    The key is readable by its owner only; each file is replaced in one step. Raises OSError.
    """
    certificate, key = directory / CERTIFICATE_FILE, directory / KEY_FILE
    if not _is_usable(certificate, key, hostname, now):
        certificate_pem, key_pem = make(hostname, now)
        # Key first: a crash between the two leaves no pair, which the next start sees.
        _write(key, key_pem)
        _write(certificate, certificate_pem)
    return certificate, key


def make(hostname: str, now: datetime) -> tuple[bytes, bytes]:
    """A self-signed certificate for a host name and its private key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName(_names(hostname)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer with this certificate chain. OSError for files that do not fit (ssl.SSLError too)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.load_cert_chain(certificate, key)
    return context


def _names(hostname: str) -> list[x509.GeneralName]:
    names: list[x509.GeneralName]
    try:
        names = [x509.IPAddress(ipaddress.ip_address(hostname))]
    except ValueError:
        names = [x509.DNSName(hostname)]
    if hostname != "localhost":
        names.append(x509.DNSName("localhost"))
    return [*names, x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.IPAddress(ipaddress.ip_address("::1"))]


def _is_usable(certificate: Path, key: Path, hostname: str, now: datetime) -> bool:
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except (FileNotFoundError, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    is_current = found.not_valid_before_utc <= now < found.not_valid_after_utc - RENEW_BEFORE
    return is_current and list(names) == _names(hostname) and private.public_key() == found.public_key()


def _write(path: Path, data: bytes) -> None:
    """Replace a file in one step, mode 0600, on disk when this returns."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # made with mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
