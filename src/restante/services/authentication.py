"""Authentication by password: argon2id in a small pool, limits on failures, one answer for every kind of failure.

An unknown name, a wrong password, a disabled mailbox and a suspended account take the same time and say the same words.
All protocols come through ``login``, so the limits hold over all of them together. Tokens are the dialects' own; here
is what those do alike: noting a use, and beginning to read while it is only presumed who asks.
"""

import asyncio
import unicodedata
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TypeVar

import argon2

from restante import ids, log
from restante.core import access, mailboxes, tokens
from restante.core.access import Presumed, Principal
from restante.core.tokens import Token
from restante.errors import Invalid, RateLimited, RestanteError, Unauthenticated, Unavailable
from restante.runtime import Runtime

MIN_PASSWORD_CHARS = 8
MAX_PASSWORD_BYTES = 1024
HASH_THREADS = 2  # one hash takes 19 MiB and a core: logins must not starve mail
MAX_WAITING = 200
CACHE_ENTRIES = 2000
CACHE_LIFETIME = timedelta(minutes=5)
MAX_WATCHED = 20_000
WINDOW = timedelta(minutes=1)

# OWASP's second choice for argon2id (RFC 9106): 19 MiB, two passes, one lane.
_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, hash_len=32, salt_len=16)
_NOBODY = (  # a hash of these parameters whose password nobody knows: what unknown names are checked against
    "$argon2id$v=19$m=19456,t=2,p=1$NEQnfnQEc2B6ec/WVtS8Aw$VketP4hO5p8UL9mSMMJDTewBgP2lCv3qf9aZI62Psb0"
)

_log = log.logger(__name__)

T = TypeVar("T")


class FailureWindow:
    """Counts failures by key in a sliding window, in bounded memory (the keys seen longest ago are forgotten first)."""

    def __init__(self, window: timedelta = WINDOW, max_keys: int = MAX_WATCHED) -> None:
        self._window = window
        self._max_keys = max_keys
        self._seen: OrderedDict[bytes, deque[datetime]] = OrderedDict()

    def retry_after(self, key: bytes, limit: int, now: datetime) -> int:
        """Seconds until the key may try again; 0 while it has failed less than ``limit`` times."""
        moments = self._seen.get(key)
        if moments is None or limit <= 0:
            return 0
        while moments and not now - self._window < moments[0] <= now:  # over, or the clock jumped back
            moments.popleft()
        if len(moments) < limit:
            return 0
        wait = moments[len(moments) - limit] + self._window - now
        return max(1, -(-wait // timedelta(seconds=1)))

    def add(self, key: bytes, limit: int, now: datetime) -> None:
        """Count one failure of the key; no more than ``limit`` are remembered."""
        moments = self._seen.pop(key, None)
        if moments is None or moments.maxlen != max(1, limit):
            moments = deque(moments or (), maxlen=max(1, limit))
        moments.append(now)
        self._seen[key] = moments
        while len(self._seen) > self._max_keys:
            self._seen.popitem(last=False)

    def __len__(self) -> int:
        return len(self._seen)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One login as it is counted and compared: keyed fingerprints, and the bytes of the password."""

    by_peer: bytes
    by_name: bytes
    key: bytes
    plain: bytes


class _Logins:
    """What one running instance remembers of logins; never a password, only keyed fingerprints."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(HASH_THREADS, thread_name_prefix="argon2")
        self.turn = asyncio.Semaphore(HASH_THREADS)
        self.waiting = 0
        self.cache: OrderedDict[bytes, tuple[str, datetime]] = OrderedDict()
        self.tokens: OrderedDict[bytes, tuple[Principal, Token]] = OrderedDict()
        self.peers = FailureWindow()
        self.names = FailureWindow()
        weakref.finalize(self, self.pool.shutdown, wait=False)

    async def run(self, fn: Callable[..., T], *args: object, before: Callable[[], None] | None = None) -> T:
        """Run ``fn`` in the pool when it is its turn; ``before`` may still refuse it then."""
        if self.waiting >= MAX_WAITING:
            raise Unavailable("Too many logins at this moment; try again soon.", code="busy")
        self.waiting += 1
        try:
            async with self.turn:
                if before is not None:
                    before()
                return await asyncio.get_running_loop().run_in_executor(self.pool, fn, *args)
        finally:
            self.waiting -= 1

    def require_peer(self, rt: Runtime, attempt: "_Attempt") -> None:
        limit = rt.config.limits.login.failures_per_peer_per_minute
        _require_few(self.peers.retry_after(attempt.by_peer, limit, rt.clock.now()))

    def require_few(self, rt: Runtime, attempt: "_Attempt") -> None:
        """Refuse a peer or a name with too many failures, also those that came in while this one waited."""
        self.require_peer(rt, attempt)
        limit = rt.config.limits.login.failures_per_address_per_minute
        _require_few(self.names.retry_after(attempt.by_name, limit, rt.clock.now()))

    def note_failure(self, rt: Runtime, attempt: "_Attempt") -> None:
        limits, now = rt.config.limits.login, rt.clock.now()
        self.peers.add(attempt.by_peer, limits.failures_per_peer_per_minute, now)
        self.names.add(attempt.by_name, limits.failures_per_address_per_minute, now)

    def remember(self, key: bytes, password_hash: str, now: datetime) -> None:
        self.cache[key] = password_hash, now + CACHE_LIFETIME
        self.cache.move_to_end(key)
        while len(self.cache) > CACHE_ENTRIES:
            self.cache.popitem(last=False)

    def is_known(self, key: bytes, password_hash: str | None, now: datetime) -> bool:
        """Whether this password was right a short while ago, for a hash that has not changed since."""
        found = self.cache.get(key)
        return found is not None and found[0] == password_hash and now < found[1] <= now + CACHE_LIFETIME


_logins: "weakref.WeakKeyDictionary[object, _Logins]" = weakref.WeakKeyDictionary()


def _of(rt: Runtime) -> _Logins:
    """The state that belongs to a runtime: kept by its vault, whose key makes the fingerprints."""
    found = _logins.get(rt.vault)
    if found is None:
        found = _logins[rt.vault] = _Logins()
    return found


async def login(rt: Runtime, username: str, password: str, peer: str) -> Principal:
    """Who logs in from ``peer`` (an IP address) with a mailbox's address and password.

    Errors: Unauthenticated ``invalid_credentials`` whatever is wrong; RateLimited ``too_many_failures`` after too many
    failures of the peer (an IPv6 peer counts by its /64) or for the name; Unavailable ``busy``. A password that was
    right in the last five minutes is let in without hashing, and past the limit for its name: a stranger's failures
    lock nobody out who is logged in.
    """
    state, now = _of(rt), rt.clock.now()
    attempt = _attempt(rt, username, password, peer)
    state.require_peer(rt, attempt)
    found = await rt.db.read(mailboxes.find_login, username)
    stored = None if found is None else found.password_hash
    is_right = attempt.plain != b"" and state.is_known(attempt.key, stored, now)
    if not is_right:
        is_right = await state.run(
            _verify, stored or _NOBODY, attempt.plain, before=partial(state.require_few, rt, attempt)
        )
    is_active = found is not None and found.is_account_active and found.mailbox.status == "active"
    if found is None or stored is None or not is_right or not is_active:
        state.note_failure(rt, attempt)
        raise Unauthenticated("The user name or the password is wrong.", code="invalid_credentials")
    state.remember(attempt.key, stored, now)
    return access.of_mailbox(found.mailbox)


async def note_use(rt: Runtime, token: Token) -> None:
    """Note that a token was used, once a minute. A store that cannot write does not stop reading."""
    now = rt.clock.now()
    if tokens.needs_touch(token, now):
        try:
            await rt.db.write(tokens.touch, token.account_id, token.id, now)
        except RestanteError as error:
            _log.warning("token_touch_failed", token_id=int(token.id), code=error.code)


def remember(rt: Runtime, principal: Principal, token: Token, plain: str) -> None:
    """Keep for ``presume`` who was just found with a token."""
    now, kept = rt.clock.now(), _of(rt).tokens
    if tokens.needs_touch(token, now):  # and was
        token = replace(token, last_used_at=now)
    key = ids.token_hash(plain)
    kept[key] = principal, token
    kept.move_to_end(key)
    while len(kept) > CACHE_ENTRIES:
        kept.popitem(last=False)


def presume(rt: Runtime, dialect: str, plain: str) -> Presumed | None:
    """Who presents a token, for reading functions that prove it, if it was seen within the last minute.

    So nothing has to be made void when a token, its mailbox or its account changes, here or on another node.
    """
    now, key = rt.clock.now(), ids.token_hash(plain)
    found = _of(rt).tokens.get(key)
    if found is None or found[1].dialect != dialect or tokens.needs_touch(found[1], now):
        return None
    principal, token = found
    return Presumed(principal, tokens.proof_values(token, principal.address, key, now))


async def hash_password(rt: Runtime, password: str) -> str:
    """The argon2id hash to keep of a password; Invalid ``weak_password`` for an empty or enormous one."""
    plain = _prepared(password)
    if not plain:
        raise Invalid("A password has 1 to 1024 bytes.", code="weak_password", details={"password": "1 to 1024 bytes"})
    return await _of(rt).run(_HASHER.hash, plain)


def require_strong(password: str) -> None:
    """Refuse passwords that people may not choose for themselves; Invalid ``weak_password``."""
    if len(password) < MIN_PASSWORD_CHARS or not _prepared(password):
        message = f"A password needs at least {MIN_PASSWORD_CHARS} characters."
        raise Invalid(message, code="weak_password", details={"password": message})


def _attempt(rt: Runtime, username: str, password: str, peer: str) -> _Attempt:
    by_peer = rt.vault.hmac("peer", _network(peer).encode("utf-8", "surrogatepass"))
    by_name = rt.vault.hmac("name", username.strip().lower()[:1000].encode("utf-8", "surrogatepass"))
    plain = _prepared(password)
    return _Attempt(by_peer, by_name, rt.vault.hmac("login", by_name + plain), plain)


def _verify(password_hash: str, plain: bytes) -> bool:
    try:
        return _HASHER.verify(password_hash, plain)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def _prepared(password: str) -> bytes:
    """The bytes that are hashed: NFC, as RFC 8265 §4.2.2 wants; nothing for what cannot be a password."""
    try:
        plain = unicodedata.normalize("NFC", password[: MAX_PASSWORD_BYTES + 1]).encode()
    except UnicodeEncodeError:
        return b""
    return b"" if len(plain) > MAX_PASSWORD_BYTES or b"\0" in plain else plain


def _network(peer: str) -> str:
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return peer[:100]
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or ip_network((address, 64), strict=False))
    return str(address)


def _require_few(retry_after_seconds: int) -> None:
    if retry_after_seconds:
        message = "Too many failed logins; try again later."
        raise RateLimited(message, retry_after_seconds=retry_after_seconds, code="too_many_failures")
