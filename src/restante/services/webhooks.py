"""Webhooks: their secrets, and one call as Standard Webhooks has it: id, time and body under an HMAC-SHA-256."""

import functools
from datetime import datetime
from uuid import UUID

import msgspec

from restante import ids
from restante.core import accounts, webhooks
from restante.core.attempts import Result
from restante.core.idempotency import Once
from restante.core.webhook_courier import Due
from restante.core.webhooks import NewWebhook, Webhook
from restante.ids import AccountId
from restante.net import http
from restante.net.http import HttpClient
from restante.runtime import Runtime
from restante.services import calling
from restante.services.calling import Outcome
from restante.vault import Vault


class Payload(msgspec.Struct):
    """The body of a call."""

    type: str
    timestamp: str
    data: msgspec.Raw
    id: int
    version: int
    mailbox: str | None


async def create(rt: Runtime, account_id: AccountId, new: NewWebhook, once: Once | None = None) -> tuple[Webhook, str]:
    """Add a webhook with a new secret, which is given back in clear. Errors as of ``core.webhooks.create``, Invalid
    ``invalid_url``.
    """
    http.require_url(new.url)
    public_id = ids.new_uuid()
    sealed = rt.vault.seal(ids.new_webhook_secret(), webhooks.secret_purpose(public_id))
    made = await rt.db.write(webhooks.create, account_id, public_id, new, sealed, rt.clock.now(), once)
    return made, _open(rt.vault, made, made.secret)


async def change(rt: Runtime, account_id: AccountId, public_id: UUID, new: NewWebhook) -> Webhook:
    """As ``core.webhooks.change``; Invalid ``invalid_url``."""
    http.require_url(new.url)
    return await rt.db.write(webhooks.change, account_id, public_id, new, rt.clock.now())


async def rotate_secret(
    rt: Runtime, account_id: AccountId, public_id: UUID, once: Once | None = None
) -> tuple[Webhook, str]:
    """Sign with a new secret, which is given back in clear. Errors as of ``core.webhooks.rotate_secret``."""
    sealed = rt.vault.seal(ids.new_webhook_secret(), webhooks.secret_purpose(public_id))
    changed = await rt.db.write(webhooks.rotate_secret, account_id, public_id, sealed, rt.clock.now(), once)
    return changed, _open(rt.vault, changed, changed.secret)


async def reseal_secrets(rt: Runtime) -> int:
    """Seal every webhook's secrets with the vault's newest key, one transaction each; returns how many changed."""
    changed = 0
    for account in await rt.db.read(accounts.list_accounts):
        for webhook_id, public_id, *sealed in await rt.db.read(webhooks.list_sealed, account.id):
            purpose = webhooks.secret_purpose(public_id)
            new = [None if one is None else rt.vault.reseal(one, purpose) for one in sealed]
            if new != sealed:
                changed += await rt.db.write(webhooks.replace_secrets, account.id, webhook_id, sealed, new)
    return changed


class Caller:
    """Makes the calls of one webhook as its row is now."""

    def __init__(self, rt: Runtime, client: HttpClient, webhook: Webhook) -> None:
        self._rt, self._client, self.webhook = rt, client, webhook
        secrets = [webhook.secret]
        until = webhook.previous_until
        if webhook.previous_secret is not None and until is not None and until > rt.clock.now():
            secrets.append(webhook.previous_secret)
        self._keys = [calling.signing_key(_open(rt.vault, webhook, sealed)) for sealed in secrets]

    async def call(self, due: Due) -> Result:
        """Make one call. Whatever goes wrong on the other side is its result."""
        return await calling.attempt(self._rt, due.number, due.attempt, functools.partial(self._post, due))

    async def _post(self, due: Due, now: datetime) -> Outcome:
        if due.body is None:
            return Outcome(error="events_pruned", is_final=True)
        body = _payload(due)
        return await calling.post(self._client, self.webhook.url, body, self.headers(due, body, now))

    def headers(self, due: Due, body: bytes, now: datetime) -> dict[str, str]:
        """Those of a call; its id is the same at every attempt."""
        message_id = f"msg_{self.webhook.public_id.hex}_{due.number}"
        return {"content-type": "application/json"} | calling.signed(self._keys, message_id, body, now)


def _payload(due: Due) -> bytes:
    assert due.type is not None
    assert due.version is not None
    assert due.created_at is not None
    assert due.body is not None
    at = due.created_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return msgspec.json.encode(
        Payload(due.type, at, msgspec.Raw(due.body.encode()), int(due.number), due.version, due.mailbox)
    )


def _open(vault: Vault, webhook: Webhook, sealed: str) -> str:
    return vault.open_text(sealed, webhooks.secret_purpose(webhook.public_id))
