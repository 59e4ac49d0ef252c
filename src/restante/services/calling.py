"""Calls of places that users name: how they are signed (Standard Webhooks), made and timed."""

import base64
import hashlib
import hmac
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from restante.core.attempts import Result
from restante.errors import RemoteUnavailable
from restante.ids import EventNumber
from restante.net.http import HttpClient
from restante.runtime import Runtime

_MIN_SPREAD, _MAX_SPREAD = 0.8, 1.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: HTTP's status, or an error; neither when it is done without HTTP. See ``Result``."""

    status: int | None = None
    error: str | None = None
    answer: str = ""
    is_final: bool = False


async def attempt(
    rt: Runtime, number: EventNumber, attempt: int, work: Callable[[datetime], Awaitable[Outcome]]
) -> Result:
    """Do the work, which is given the present time, and measure it."""
    now = rt.clock.now()
    spread = random.uniform(_MIN_SPREAD, _MAX_SPREAD)  # noqa: S311 - spreads retries, keeps no secret
    began = time.monotonic()
    outcome = await work(now)
    took = int((time.monotonic() - began) * 1000)
    return Result(number, attempt, now, took, outcome.status, outcome.error, outcome.answer, spread, outcome.is_final)


async def post(client: HttpClient, url: str, body: bytes, headers: Mapping[str, str]) -> Outcome:
    """Make one call. Whatever goes wrong on the other side is its outcome."""
    try:
        got = await client.post(url, body, headers)
    except RemoteUnavailable as failure:
        return Outcome(error=failure.code)
    return Outcome(got.status, answer=got.body.decode("utf-8", "replace").replace("\0", "\ufffd"))


def signing_key(secret: str) -> bytes:
    """The bytes of a secret as Standard Webhooks writes it."""
    return base64.b64decode(secret.removeprefix("whsec_"))


def signed(keys: Iterable[bytes], message_id: str, body: bytes, now: datetime) -> dict[str, str]:
    """The headers of Standard Webhooks: id, time, and a signature with each key."""
    stamp = str(int(now.timestamp()))
    content = f"{message_id}.{stamp}.".encode() + body
    signatures = [base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
