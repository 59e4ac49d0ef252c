"""Automations: their secrets, and one run of one: a call in MailCare's form, or a message sent on."""

import functools
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from restante import ids
from restante.core import accounts, automations, messages
from restante.core.attempts import Result
from restante.core.automation_courier import Due
from restante.core.automations import LOST, Automation, Conditions, NewAutomation
from restante.core.idempotency import Once
from restante.core.messages import MessageRow
from restante.errors import Conflict, Invalid, NotFound, RestanteError, Unavailable
from restante.ids import AccountId
from restante.mail import serialize
from restante.net import http
from restante.net.http import HttpClient
from restante.runtime import Runtime
from restante.services import calling, forwarding, submission
from restante.services.calling import Outcome
from restante.services.payloads import Payloads

MAX_TOKEN = 255
HIT = "HIT"

_TOKEN = re.compile(rf"[!-~]{{1,{MAX_TOKEN}}}")  # a header's value is no place for anything else


async def create(
    rt: Runtime, account_id: AccountId, new: NewAutomation, token: str | None, once: Once | None = None
) -> tuple[Automation, str]:
    """Add an automation with a new signing secret, which is given back in clear; ``token`` is its secret token.

    Errors as of ``core.automations.create``; Invalid naming the field.
    """
    _require_sound(new, token)
    public_id = ids.new_uuid()
    purpose = automations.secret_purpose(public_id)
    new = replace(new, secret_token=None if token is None else rt.vault.seal(token, purpose))
    sealed = rt.vault.seal(ids.new_webhook_secret(), purpose)
    made = await rt.db.write(automations.create, account_id, public_id, new, sealed, rt.clock.now(), once)
    return made, rt.vault.open_text(made.signing_secret, automations.secret_purpose(made.public_id))


async def change(
    rt: Runtime, account_id: AccountId, public_id: UUID, new: NewAutomation, token: str | None
) -> Automation:
    """Give an automation other properties, all of them; one whose signing secret is lost gets a new one.

    Errors: NotFound ``automation_not_found``; Invalid naming the field.
    """
    _require_sound(new, token)
    purpose = automations.secret_purpose(public_id)
    new = replace(new, secret_token=None if token is None else rt.vault.seal(token, purpose))
    changed = await rt.db.write(automations.change, account_id, public_id, new, rt.clock.now())
    if changed.signing_secret == LOST:
        changed, _ = await rotate_secret(rt, account_id, public_id)
    return changed


async def rotate_secret(
    rt: Runtime, account_id: AccountId, public_id: UUID, once: Once | None = None
) -> tuple[Automation, str]:
    """Sign with a new secret, which is given back in clear. Errors as of ``core.automations.set_signing_secret``."""
    purpose = automations.secret_purpose(public_id)
    sealed = rt.vault.seal(ids.new_webhook_secret(), purpose)
    changed = await rt.db.write(automations.set_signing_secret, account_id, public_id, sealed, rt.clock.now(), once)
    return changed, rt.vault.open_text(changed.signing_secret, purpose)


async def revise(rt: Runtime, account_id: AccountId, public_id: UUID, changes: Mapping[str, Any]) -> Automation:
    """Change what ``changes`` names: fields of ``NewAutomation`` and of ``Conditions``, ``secret_token`` in clear.

    Errors as of ``change``; Conflict ``automation_secret_lost``.
    """
    found = await rt.db.read(automations.get, account_id, public_id)
    if "secret_token" not in changes and found.secret_token == LOST:
        raise Conflict("Its secret token is lost: set it again.", code="automation_secret_lost")
    token = changes.get("secret_token", find_token(rt, found))
    wanted = {name: value for name, value in changes.items() if name in Conditions.__dataclass_fields__}
    others = {name: value for name, value in changes.items() if name not in wanted and name != "secret_token"}
    kept = NewAutomation(
        title=found.title,
        conditions=replace(found.conditions, **wanted),
        url=found.url,
        payload_format=found.payload_format,
        forward_to=found.forward_to,
        deletes=found.deletes,
    )
    return await change(rt, account_id, public_id, replace(kept, **others), token)


def find_token(rt: Runtime, automation: Automation) -> str | None:
    """The secret token in clear. None: there is none, or what sealed it is lost."""
    if not automation.secret_token:
        return None
    return rt.vault.open_text(automation.secret_token, automations.secret_purpose(automation.public_id))


async def reseal_secrets(rt: Runtime) -> int:
    """Seal every automation's secrets with the vault's newest key, one transaction each; returns how many changed."""
    changed = 0
    for account in await rt.db.read(accounts.list_accounts):
        for automation_id, public_id, *sealed in await rt.db.read(automations.list_sealed, account.id):
            purpose = automations.secret_purpose(public_id)
            new = [rt.vault.reseal(one, purpose) if one else one for one in sealed]
            if new != sealed:
                changed += await rt.db.write(automations.replace_secrets, account.id, automation_id, sealed, new)
    return changed


def _require_sound(new: NewAutomation, token: str | None) -> None:
    automations.require_sound(new)
    if new.url is not None:
        http.require_url(new.url)
    if new.forward_to is not None:
        try:
            submission.recipient("to", new.forward_to)
        except Invalid as error:
            raise Invalid("Nothing can be sent there.", details={"forward_to": "one address"}) from error
    if token is not None and not _TOKEN.fullmatch(token):
        reason = f"1 to {MAX_TOKEN} visible ASCII characters"
        raise Invalid("The token cannot be sent.", details={"secret_token": reason})


class Runner:
    """Does the runs of one automation as its row is now."""

    def __init__(self, rt: Runtime, client: HttpClient, payloads: Payloads, automation: Automation) -> None:
        self._rt, self._client, self._payloads, self.automation = rt, client, payloads, automation
        self._is_lost = LOST in (automation.secret_token, automation.signing_secret)
        self._token = find_token(rt, automation)
        self._keys: list[bytes] = []
        if automation.signing_secret != LOST:
            purpose = automations.secret_purpose(automation.public_id)
            self._keys.append(calling.signing_key(rt.vault.open_text(automation.signing_secret, purpose)))

    async def run(self, due: Due) -> Result:
        """Do one run. Whatever is wrong with the message or on the other side is its result."""
        return await calling.attempt(self._rt, due.number, due.attempt, functools.partial(self._act, due))

    async def _act(self, due: Due, now: datetime) -> Outcome:
        try:
            row = await self._rt.db.read(messages.get, self.automation.account_id, due.message_id)
            async with self._payloads.room.hold(row.size_bytes):
                if self.automation.url is not None:
                    return await self._call(self.automation.url, row, now)
                if self.automation.forward_to is not None:
                    await self._forward(self.automation.forward_to, row)
        except NotFound:
            return Outcome(error="message_gone", is_final=True)
        except Unavailable as error:
            return Outcome(error=error.code)
        except RestanteError as error:
            return Outcome(error=error.code, is_final=True)
        return Outcome()

    async def _call(self, url: str, row: MessageRow, now: datetime) -> Outcome:
        if self._is_lost:
            return Outcome(error="secret_lost")
        body = await self._payloads.make(self.automation.account_id, row, self.automation.payload_format)
        return await calling.post(self._client, url, body, self.headers(row.public_id, body, now))

    async def _forward(self, to: str, row: MessageRow) -> None:
        once = Once(self.automation.account_id, f"automation/{self.automation.public_id}", str(row.public_id), b"")
        await forwarding.forward(self._rt, self.automation.account_id, row, to, once)

    def headers(self, message_id: UUID, body: bytes, now: datetime) -> dict[str, str]:
        """Those of a call: MailCare's, and Standard Webhooks'; its id is the same at every attempt."""
        wanted = self.automation
        is_raw = wanted.payload_format == "raw"
        found = {
            "Accept": "application/vnd.mailcare.v1+json",
            "Content-Type": "message/rfc2822" if is_raw else "application/json",
            "X-MailCare-Title": _header_value(wanted.title),
        }
        conditions = wanted.conditions
        for name, is_set in (
            ("Subject", conditions.subject is not None),
            ("Sender", conditions.sender is not None),
            ("Inbox", conditions.inbox is not None),
            ("Has-Attachments", conditions.has_attachments),
        ):
            if is_set:
                found[f"X-MailCare-{name}"] = HIT
        if self._token is not None:
            found["X-MailCare-Secret-Token"] = self._token
        call_id = f"msg_{wanted.public_id.hex}_{message_id.hex}"
        return found | calling.signed(self._keys, call_id, body, now)


def _header_value(text: str) -> str:
    """Text as one line of ASCII: encoded words (RFC 2047) where it is not."""
    return serialize.header("Title", text).decode("ascii").partition(":")[2].replace("\r\n", "").strip()
