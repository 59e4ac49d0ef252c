# ruff: noqa: RUF009 - the calls in the dataclasses below are dataclasses.field with our metadata
"""Settings: one definition each, for the commented TOML file, ``RESTANTE_*`` variables, flags and documentation.

A value comes from (later wins): the default here, the TOML file, the environment, a flag. Whatever is wrong is one line
that names its place, its key and what is allowed (``ConfigError``).
"""

import ipaddress
import os
import re
import socket
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast, get_type_hints

KIB = 1024
MIB = 1024 * KIB
ENV_PREFIX = "RESTANTE_"
ENV_FILE = "RESTANTE_CONFIG"
DEFAULT_FILE = "restante.toml"
SQLITE = "sqlite"

_SIZE = re.compile(r"(\d{1,15})\s*(|[kmgt]?i?b?)", re.IGNORECASE)
_SIZE_FACTORS = {"": 1, "k": KIB, "m": MIB, "g": 1024 * MIB, "t": 1024 * 1024 * MIB}
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*")

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_PREFIX = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,100}(/(?!\.)[A-Za-z0-9_.-]{1,100}){0,8}")


class ConfigError(ValueError):
    """A setting that cannot be used; its text is one line for people."""


class ListenAddress(NamedTuple):
    """Where a listener binds; ``host`` is an IP address or a host name, port 0 lets the system choose."""

    host: str
    port: int


def parse_listen(text: str) -> tuple[ListenAddress, ...]:
    """Read ``127.0.0.1:8025``, ``[::1]:8025``, ``:25`` (every address), ``2525`` (loopback), several with commas.

    ``off`` gives an empty tuple. Raises ``ValueError`` saying what is allowed.
    """
    if text.strip().lower() in ("off", ""):
        return ()
    return tuple(_listen_address(part.strip()) for part in text.split(","))


def _listen_address(text: str) -> ListenAddress:
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536):
        raise ValueError("an address such as 127.0.0.1:8025, [::1]:8025, :8025 or off")
    if not _:
        host = "127.0.0.1"
    elif host in ("", "*"):
        host = "0.0.0.0"  # noqa: S104 - asked for in so many words
    elif host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        _require_ip(host)
    elif not _HOST.fullmatch(host):
        raise ValueError("an address such as 127.0.0.1:8025 (an IPv6 address stands in brackets: [::1]:8025)")
    return ListenAddress(host, int(port))


def parse_size(text: str) -> int:
    """Read a number of bytes: ``1048576``, ``64K``, ``50 MiB``, ``2G`` (powers of 1024). Raises ``ValueError``."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise ValueError("a number of bytes such as 1048576, 64K, 50 MiB or 2G")
    unit = found[2].lower().rstrip("b").rstrip("i")
    return int(found[1]) * _SIZE_FACTORS[unit]


def _require_ip(text: str) -> None:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        raise ValueError("an IPv4 or IPv6 address") from None


def _check_networks(values: tuple[str, ...]) -> None:
    for value in values:
        try:
            ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise ValueError("IP addresses or networks such as 10.0.0.0/8") from None


def _check_url(value: str) -> None:
    if value and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", value):
        raise ValueError("an address such as https://mail.example.com, or nothing")


def _check_bucket(value: str) -> None:
    if value and not _BUCKET.fullmatch(value):
        raise ValueError("a bucket's name such as restante-mail (letters, digits, dots and hyphens)")


def _check_prefix(value: str) -> None:
    if value and not _PREFIX.fullmatch(value):
        raise ValueError("a prefix such as mail or mail/blobs (letters, digits, `_`, `.`, `-`, a slash between words)")


def _check_endpoint(value: str) -> None:
    if value and not re.fullmatch(r"https?://[^\s/?#@]+/?", value):
        raise ValueError("an address such as https://s3.example.com (no path), or nothing")


def _check_database(value: str) -> None:
    if value != SQLITE and not re.fullmatch(r"postgres(ql)?://\S*", value):
        raise ValueError("sqlite or an address such as postgresql://restante@db.example.com/mail")


def _check_hostname(value: str) -> None:
    if value and not _HOST.fullmatch(value):
        raise ValueError("a host name such as mail.example.com")


def _check_listen(value: str) -> None:
    parse_listen(value)


def parse_server(text: str) -> ListenAddress:
    """Read ``mail.example.com:587`` or ``[2001:db8::1]:25``: one host with its port. Raises ``ValueError``."""
    found = parse_listen(text)
    if len(found) != 1 or found[0].port == 0 or not text.rpartition(":")[0].strip("*"):
        raise ValueError("one host with its port, such as smtp.example.com:587")
    return found[0]


def _check_server(value: str) -> None:
    if value:
        parse_server(value)


def _check_dns_servers(values: tuple[str, ...]) -> None:
    for value in values:
        try:
            _require_ip(parse_server(value).host)
        except ValueError:
            raise ValueError("name servers such as 192.0.2.53:53 or [2001:db8::53]:53") from None


def _setting(
    default: Any,
    doc: str,
    *,
    least: int | None = None,
    most: int | None = None,
    choices: tuple[str, ...] = (),
    check: Callable[[Any], None] | None = None,
    flag: str | None = None,
    secret: bool = False,
) -> Any:
    metadata = {
        "doc": doc,
        "least": least,
        "most": most,
        "choices": choices,
        "check": check,
        "flag": flag,
        "secret": secret,
    }
    return field(default=default, metadata=metadata, repr=not secret)


def _section(kind: type[Any], doc: str, name: str | None = None) -> Any:
    return field(default_factory=kind, metadata={"doc": doc, "name": name})


@dataclass(frozen=True, slots=True)
class Http:
    """``[http]``"""

    listen: str = _setting("127.0.0.1:8025", "Where HTTP listens; `off` for nowhere.", check=_check_listen, flag="http")
    tls_cert: str = _setting("", "Certificate chain (PEM file) for HTTPS; empty: plain HTTP.")
    tls_key: str = _setting("", "Private key (PEM file) of that certificate.")
    public_url: str = _setting("", "How the world reaches HTTP, for links; empty: made of `listen`.", check=_check_url)
    trusted_proxies: tuple[str, ...] = _setting(
        (), "Proxies whose X-Forwarded-For is believed (addresses or networks).", check=_check_networks
    )
    max_body_bytes: int = _setting(36 * MIB, "Largest request body.", least=KIB, most=1024 * MIB)
    body_memory_bytes: int = _setting(
        384 * MIB, "Memory that work on large request bodies may take at one time; more of them wait.", least=16 * MIB
    )
    max_connections: int = _setting(10_000, "Open connections at one time.", least=1, most=1_000_000)
    max_connections_per_peer: int = _setting(
        1000, "Open connections from one address (loopback and trusted proxies are exempt).", least=1, most=1_000_000
    )
    keep_alive_seconds: int = _setting(65, "How long an idle connection stays open.", least=1, most=3600)


@dataclass(frozen=True, slots=True)
class SmtpLimits:
    """``[smtp.limits]``, for reception and submission alike"""

    max_message_bytes: int = _setting(50 * MIB, "Largest message (told in SIZE).", least=64 * KIB, most=1024 * MIB)
    max_recipients: int = _setting(1000, "Recipients of one message (RFC 5321 §4.5.3.1.8: at least 100).", least=100)
    max_messages: int = _setting(10_000, "Messages on one connection.", least=1)
    max_connections: int = _setting(1000, "Open connections at one time.", least=1, most=1_000_000)
    max_connections_per_peer: int = _setting(100, "Open connections from one address (loopback is exempt).", least=1)
    max_errors: int = _setting(20, "Refused commands before the connection is closed.", least=1)
    max_auth_failures: int = _setting(3, "Failed logins before the connection is closed.", least=1)
    max_hops: int = _setting(100, "Received lines at which a message counts as looping (RFC 5321 §6.3).", least=10)
    command_timeout_seconds: int = _setting(300, "Wait for the next command (RFC 5321 §4.5.3.2.7).", least=1)
    data_timeout_seconds: int = _setting(180, "Wait for the next piece of a message.", least=1)
    session_timeout_seconds: int = _setting(3600, "Longest life of a connection.", least=1)


@dataclass(frozen=True, slots=True)
class Smtp:
    """``[smtp]``"""

    listen: str = _setting(
        "127.0.0.1:2525", "Where mail from other servers is received (the world expects port 25).", check=_check_listen,
        flag="smtp",
    )  # fmt: skip
    limits: SmtpLimits = _section(SmtpLimits, "Bounds of one SMTP connection, reception and submission alike.")


@dataclass(frozen=True, slots=True)
class Submission:
    """``[submission]``"""

    listen: str = _setting(
        "127.0.0.1:2587", "Where our own users submit mail after a login (usually port 587).", check=_check_listen,
        flag="submission",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Transfer:
    """``[transfer]``"""

    port: int = _setting(25, "The port at which other servers are asked to take mail.", least=1, most=65535)
    smarthost: str = _setting(
        "", "Send everything through this server (`host:port`) instead of the recipients' own.", check=_check_server
    )
    smarthost_tls: str = _setting(
        "required", "TLS with the smarthost: `required` (STARTTLS, checked), `implicit` (port 465, checked), "
        "`opportunistic` (unchecked), `none`.", choices=("required", "implicit", "opportunistic", "none"),
    )  # fmt: skip
    smarthost_username: str = _setting("", "Login at the smarthost; empty: none.")
    smarthost_password: str = _setting("", "Password of that login.", secret=True)
    max_connections: int = _setting(100, "Connections to other servers at one time.", least=1, most=10_000)
    max_connections_per_domain: int = _setting(20, "Of those, connections for one domain's mail.", least=1)
    timeout_seconds: int = _setting(
        300, "Wait for an answer to a command (RFC 5321 §4.5.3.2); other waits keep their proportion to it.", least=1
    )


@dataclass(frozen=True, slots=True)
class Egress:
    """``[egress]``"""

    allow: tuple[str, ...] = _setting(
        (), "Addresses or networks other than the open Internet that mail and webhooks may go to.",
        check=_check_networks,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dns:
    """``[dns]``"""

    servers: tuple[str, ...] = _setting(
        (), "Name servers to ask (`address:port`); empty: those of the machine.", check=_check_dns_servers
    )


@dataclass(frozen=True, slots=True)
class Tls:
    """``[tls]``"""

    cert: str = _setting("", "Certificate chain (PEM file) for STARTTLS; empty: one is made at the first run.")
    key: str = _setting("", "Private key (PEM file) of that certificate.")


@dataclass(frozen=True, slots=True)
class MailApi:
    """``[mail_api]``"""

    signup_enabled: bool = _setting(True, "Whether anyone may sign up a domain, which an operator then approves.")
    session_hours: int = _setting(12, "Life of a token that signup hands out.", least=1, most=8760)
    pending_domain_days: int = _setting(30, "After so many days a domain that nobody approved is dropped.", least=1)
    notify_address: str = _setting("", "Who is told of a signup; empty: the administrators' mailboxes.")


@dataclass(frozen=True, slots=True)
class MailApiLimits:
    """``[limits.mail-api]``"""

    requests_per_minute: int = _setting(100, "Requests of one token a minute; 0: no limit.", least=0)
    requests_per_hour: int = _setting(1000, "Requests of one token an hour; 0: no limit.", least=0)
    failed_auth_per_minute: int = _setting(20, "Failed authentications of one peer a minute; 0: no limit.", least=0)
    logins_per_peer_per_minute: int = _setting(20, "Logins of one peer a minute; 0: no limit.", least=0)
    signups_per_domain_per_hour: int = _setting(3, "Signups for one domain an hour; 0: no limit.", least=0)
    signups_per_peer_per_hour: int = _setting(10, "Signups from one peer an hour; 0: no limit.", least=0)


@dataclass(frozen=True, slots=True)
class NativeLimits:
    """``[limits.native]``"""

    requests_per_minute: int = _setting(600, "Requests of one token a minute; 0: no limit.", least=0)
    failed_auth_per_minute: int = _setting(20, "Failed authentications of one peer a minute; 0: no limit.", least=0)


@dataclass(frozen=True, slots=True)
class MailCareLimits:
    """``[limits.mailcare]``"""

    requests_per_minute: int = _setting(600, "Requests of one token a minute; 0: no limit.", least=0)
    member_requests_per_minute: int = _setting(
        60, "Requests of one member (HTTP Basic) a minute; 0: no limit.", least=0
    )
    failed_auth_per_minute: int = _setting(20, "Failed authentications of one peer a minute; 0: no limit.", least=0)


@dataclass(frozen=True, slots=True)
class LoginLimits:
    """``[limits.login]``"""

    failures_per_peer_per_minute: int = _setting(20, "Failed logins by password of one peer a minute.", least=1)
    failures_per_address_per_minute: int = _setting(10, "Failed logins by password for one address a minute.", least=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """``[limits]``"""

    mail_api: MailApiLimits = _section(MailApiLimits, "Rate limits of the Mail API.", "mail-api")
    mailcare: MailCareLimits = _section(MailCareLimits, "Rate limits of the MailCare API.")
    native: NativeLimits = _section(NativeLimits, "Rate limits of the native API (/restante/v1).")
    login: LoginLimits = _section(LoginLimits, "Logins by password, every protocol together.")


@dataclass(frozen=True, slots=True)
class S3:
    """``[storage.s3]``"""

    bucket: str = _setting("", "The bucket that keeps large messages; it must exist.", check=_check_bucket)
    region: str = _setting("us-east-1", "Its region; most stores other than Amazon's take any.")
    endpoint: str = _setting("", "The store's address; empty: Amazon's for the region.", check=_check_endpoint)
    prefix: str = _setting("", "Put in front of every object's name.", check=_check_prefix)
    access_key: str = _setting("", "Access key; empty: Amazon's usual sources (environment, role of the machine).")
    secret_key: str = _setting("", "Secret key of that access key.", secret=True)
    server_side_encryption: str = _setting(
        "none", "Asked for with each object: `AES256` (SSE-S3), `aws:kms`, or `none` (what the bucket does by itself).",
        choices=("none", "AES256", "aws:kms"),
    )  # fmt: skip
    path_style: bool = _setting(True, "Whether the bucket stands in the path; false: in the host name.")


@dataclass(frozen=True, slots=True)
class Storage:
    """``[storage]``"""

    database: str = _setting(
        SQLITE,
        "Where rows live: `sqlite` (a file in the data directory), or a PostgreSQL database (15 or newer) as "
        "`postgresql://user:password@host/name`; a password may stand in `~/.pgpass` instead.",
        check=_check_database,
        secret=True,
    )
    inline_bytes: int = _setting(
        128 * KIB, "Messages up to so many compressed bytes live in the database, larger ones as blobs.", most=16 * MIB,
        least=0,
    )  # fmt: skip
    content_grace_seconds: int = _setting(3600, "How long bytes that no message needs are kept.", least=0)
    min_free_bytes: int = _setting(64 * MIB, "Mail is answered `try later` when the disk has less room.", least=0)
    blobs: str = _setting(
        "files",
        "Where larger messages live: `files` in the data directory, or an `s3` bucket.",
        choices=("files", "s3"),
    )
    s3: S3 = _section(S3, "The S3 bucket, when `blobs` is `s3`.")

    @property
    def database_url(self) -> str:
        """The PostgreSQL database's address; empty: SQLite in the data directory."""
        return "" if self.database == SQLITE else self.database


@dataclass(frozen=True, slots=True)
class Log:
    """``[log]``"""

    format: str = _setting(
        "auto", "`text`, `json` (a line each), or `auto`: text on a terminal.", choices=("auto", "text", "json")
    )
    level: str = _setting("info", "The least level that is shown.", choices=("debug", "info", "warning", "error"))
    requests: str = _setting(
        "debug", "The level of the line for each HTTP request: never its query or a header.", choices=("debug", "info")
    )


@dataclass(frozen=True, slots=True)
class Metrics:
    """``[metrics]``"""

    enabled: bool = _setting(True, "Whether /metrics answers.")
    token: str = _setting("", "Bearer token for /metrics; empty: it answers loopback only.", secret=True)


@dataclass(frozen=True, slots=True)
class Events:
    """``[events]``"""

    keep_days: int = _setting(30, "Events are kept so long for readers.", least=1, most=36500)
    keep_per_account: int = _setting(1_000_000, "Of one account so many are kept, the newest.", least=1000)


@dataclass(frozen=True, slots=True)
class Retention:
    """``[retention]``"""

    trash_days: int = _setting(
        30, "Messages are deleted for good when they have been in Trash so long; 0: never.", least=0, most=36500
    )


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting of one server. Made by ``load``; ``Config()`` holds the defaults (tests)."""

    data_dir: Path = _setting(
        Path("restante-data"), "Where everything is kept; made at the first run.", flag="data-dir"
    )
    hostname: str = _setting(
        "", "The name this server gives itself; empty: the machine's name.", check=_check_hostname, flag="hostname"
    )
    secret_key: str = _setting("", "The instance secret instead of DATA_DIR/secret.key.", secret=True)
    http: Http = _section(Http, "HTTP: APIs, documentation, metrics.")
    smtp: Smtp = _section(Smtp, "SMTP reception.")
    submission: Submission = _section(Submission, "SMTP submission.")
    transfer: Transfer = _section(Transfer, "Sending to other servers.")
    egress: Egress = _section(Egress, "Where connections may go on somebody else's word.")
    dns: Dns = _section(Dns, "Name servers.")
    tls: Tls = _section(Tls, "TLS for SMTP.")
    mail_api: MailApi = _section(MailApi, "The Mail API (/api/v1).")
    limits: Limits = _section(Limits, "How often.")
    storage: Storage = _section(Storage, "Where bytes live.")
    events: Events = _section(Events, "The log of what happened, for programs that follow it.")
    retention: Retention = _section(Retention, "How long mail is kept.")
    log: Log = _section(Log, "The log, on standard error.")
    metrics: Metrics = _section(Metrics, "Prometheus metrics.")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting's definition: ``path`` is its TOML place such as ``("limits", "mail-api", "requests_per_hour")``."""

    path: tuple[str, ...]
    attributes: tuple[str, ...]
    kind: Any
    default: Any
    doc: str
    least: int | None
    most: int | None
    choices: tuple[str, ...]
    check: Callable[[Any], None] | None
    flag: str | None
    secret: bool

    @property
    def key(self) -> str:
        """The dotted key, as in the file: ``limits.mail-api.requests_per_hour``."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """The environment variable: ``RESTANTE_LIMITS_MAIL_API_REQUESTS_PER_HOUR``."""
        return ENV_PREFIX + "_".join(self.path).upper().replace("-", "_")

    @property
    def in_file(self) -> bool:
        """Whether the file may hold it (the instance secret has no place there)."""
        return self.path != ("secret_key",)

    @property
    def allowed(self) -> str:
        """What its value may be, for people."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind is bool:
            return "true or false"
        if self.kind is int:
            noun = "a number of bytes" if self.is_size else "a whole number"
            return noun + self._range()
        if self.kind == tuple[str, ...]:
            return "a list of texts"
        return "a path" if self.kind is Path else "a text"

    @property
    def is_size(self) -> bool:
        """Whether it counts bytes, so that ``50 MiB`` may be written."""
        return self.kind is int and self.path[-1].endswith("_bytes")

    def _range(self) -> str:
        if self.least is not None and self.most is not None:
            return f" from {self.least} to {self.most}"
        if self.least is not None:
            return f", at least {self.least}"
        return "" if self.most is None else f", at most {self.most}"


def settings() -> tuple[Setting, ...]:
    """Every setting in the order of the file."""
    return tuple(_walk(Config, (), ()))


def _walk(kind: type[Any], path: tuple[str, ...], attributes: tuple[str, ...]) -> Iterator[Setting]:
    hints = get_type_hints(kind)
    nested = []
    for item in fields(kind):
        about, name, hint = item.metadata, item.metadata.get("name") or item.name, hints[item.name]
        here = (*path, name), (*attributes, item.name)
        if is_dataclass(hint):
            nested.append((cast("type[Any]", hint), *here))
            continue
        known = {key: about[key] for key in ("doc", "least", "most", "choices", "check", "flag", "secret")}
        yield Setting(*here, kind=hint, default=item.default, **known)
    for section in nested:
        yield from _walk(*section)


def value(config: Config, setting: Setting) -> Any:
    """What ``setting`` is in ``config``."""
    found: Any = config
    for attribute in setting.attributes:
        found = getattr(found, attribute)
    return found


def section_docs() -> dict[tuple[str, ...], str]:
    """The sections' paths and what each is about."""
    found: dict[tuple[str, ...], str] = {}

    def visit(kind: type[Any], path: tuple[str, ...]) -> None:
        hints = get_type_hints(kind)
        for item in fields(kind):
            if item.default_factory is not MISSING:
                here = (*path, item.metadata["name"] or item.name)
                found[here] = item.metadata["doc"]
                visit(hints[item.name], here)

    visit(Config, ())
    return found


def load(
    overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None, file: Path | None = None
) -> Config:
    """Read the settings: defaults, then ``file``, then ``environ`` (the process's own by default), then ``overrides``.

    ``overrides`` maps dotted keys (``http.listen``) to texts or values; None stands for "not given". Without
    ``file`` the one named by ``RESTANTE_CONFIG`` is read, else ``restante.toml`` of the current directory, if any.
    Raises ``ConfigError``.
    """
    environ = os.environ if environ is None else environ
    known = {setting.key: setting for setting in settings()}
    values = {key: setting.default for key, setting in known.items()}
    values.update(_from_file(_find_file(file, environ), known))
    values.update(_from_environ(environ, known))
    for key, value in (overrides or {}).items():
        if value is not None:
            setting = known[key]
            values[key] = _convert(setting, value, f"--{setting.flag}" if setting.flag else key)
    values["hostname"] = values["hostname"] or machine_name()
    values["data_dir"] = values["data_dir"].expanduser().absolute()
    config = _build(Config, (), values)
    _check_pairs(config)
    return cast("Config", config)


def machine_name() -> str:
    """The machine's own name, or ``localhost`` when it has none that SMTP could say."""
    name = socket.gethostname()
    return name if _HOST.fullmatch(name) else "localhost"


def _find_file(file: Path | None, environ: Mapping[str, str]) -> Path | None:
    if file is not None:
        return file
    if environ.get(ENV_FILE):
        return Path(environ[ENV_FILE])
    return Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None


def _from_file(file: Path | None, known: Mapping[str, Setting]) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not a TOML file: {error}") from error
    values = {}
    for key, value in _flatten(tree, (), known):
        setting = known.get(key)
        if setting is None or not setting.in_file:
            raise ConfigError(f"{file}: there is no setting {_shown(key)}; {_suggest(key, known)}")
        values[key] = _convert(setting, value, f"{file}: {key}")
    return values


def _flatten(tree: Mapping[str, Any], path: tuple[str, ...], known: Mapping[str, Setting]) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        here = (*path, name)
        if isinstance(value, dict) and here in section_docs():
            yield from _flatten(value, here, known)
        else:
            yield ".".join(here), value


def _from_environ(environ: Mapping[str, str], known: Mapping[str, Setting]) -> dict[str, Any]:
    by_variable = {setting.variable: setting for setting in known.values()}
    values = {}
    for name, text in environ.items():
        if not name.startswith(ENV_PREFIX) or name in (ENV_FILE, "RESTANTE_VENV"):  # the second is ./dev's own
            continue
        setting = by_variable.get(name)
        if setting is None:
            raise ConfigError(f"{_shown(name)}: there is no such setting; {_suggest(name, by_variable)}")
        values[setting.key] = _convert(setting, text, name)
    return values


def _suggest(name: str, known: Mapping[str, Any]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else "`restante config` lists all of them"


def _shown(text: str) -> str:
    return ascii(text)[1:-1][:100]


def _convert(setting: Setting, value: Any, place: str) -> Any:
    """The value in the setting's own type, checked; texts (environment, flags) are read as that type."""
    try:
        result = _typed(setting, value)
    except ValueError as error:
        said = str(error)
        raise ConfigError(f"{place}: {_given(setting, value)}is not {said or setting.allowed}") from None
    if setting.kind is int and not (
        (setting.least is None or result >= setting.least) and (setting.most is None or result <= setting.most)
    ):
        raise ConfigError(f"{place}: {_given(setting, value)}is not {setting.allowed}")
    if setting.choices and result not in setting.choices:
        raise ConfigError(f"{place}: {_given(setting, value)}is not {setting.allowed}")
    if setting.check is not None:
        try:
            setting.check(result)
        except ValueError as error:
            raise ConfigError(f"{place}: {_given(setting, value)}is not {error}") from None
    return result


def _given(setting: Setting, value: Any) -> str:
    return "the value " if setting.secret else f"'{_shown(str(value))}' "


def _typed(setting: Setting, value: Any) -> Any:
    kind = setting.kind
    if kind is bool and isinstance(value, bool):
        return value
    if kind is bool:
        words = {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }
        if isinstance(value, str) and value.strip().lower() in words:
            return words[value.strip().lower()]
    elif kind is int:
        if isinstance(value, str):
            return parse_size(value) if setting.is_size else _whole(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif kind is Path:
        if isinstance(value, str | Path) and str(value) and "\0" not in str(value):
            return Path(value)
    elif kind == tuple[str, ...]:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
            return tuple(value)
    elif isinstance(value, str) and value.isprintable():
        return value
    raise ValueError


def _whole(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text.strip()):
        raise ValueError
    return int(text)


def _build(kind: type[Any], path: tuple[str, ...], values: Mapping[str, Any]) -> Any:
    hints = get_type_hints(kind)
    given = {}
    for item in fields(kind):
        here = (*path, item.metadata.get("name") or item.name)
        hint = hints[item.name]
        given[item.name] = (
            _build(cast("type[Any]", hint), here, values) if is_dataclass(hint) else values[".".join(here)]
        )
    return kind(**given)


def _check_pairs(config: Config) -> None:
    for section, cert, key in (("http", "tls_cert", "tls_key"), ("tls", "cert", "key")):
        part = getattr(config, section)
        if bool(getattr(part, cert)) != bool(getattr(part, key)):
            raise ConfigError(f"{section}.{cert} and {section}.{key} go together: set both or none")
    s3 = config.storage.s3
    if bool(s3.access_key) != bool(s3.secret_key):
        raise ConfigError("storage.s3.access_key and storage.s3.secret_key go together: set both or none")
    if config.storage.blobs == "s3" and not s3.bucket:
        raise ConfigError("storage.s3.bucket is needed when storage.blobs is s3")


def render() -> str:
    """The commented TOML file: every setting with its default, commented out, so that it changes nothing."""
    docs = section_docs()
    lines = [
        "# Restante's settings. Each stands here with its default; take the # away to change one.",
        "# A variable RESTANTE_SECTION_NAME overrides this file, a flag overrides both.",
    ]
    section: tuple[str, ...] = ()
    for setting in settings():
        if not setting.in_file:
            continue
        if setting.path[:-1] != section:
            section = setting.path[:-1]
            lines += ["", "", f"# {docs[section]}", f"[{'.'.join(section)}]"]
        lines += ["", f"# {setting.doc} ({setting.allowed}; {setting.variable})"]
        lines.append(f"#{setting.path[-1]} = {_toml(setting.default)}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
