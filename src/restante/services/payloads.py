"""Payloads: the bodies of calls about a received message, as MailCare has them, and how many may be under way."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import assert_never
from weakref import WeakValueDictionary

from msgspec import structs

from restante.core import arrivals
from restante.core.arrivals import Arrival
from restante.core.automations import PayloadFormat
from restante.core.messages import MessageRow
from restante.errors import NotFound, Unavailable
from restante.ids import AccountId
from restante.mail import message
from restante.runtime import Runtime
from restante.services import arrivals as arrival_service
from restante.services import email_form, retrieval
from restante.services.email_form import Email
from restante.services.retrieval import Content

PATIENCE_SECONDS = 60.0  # until an account's mail is in its lists
BYTES_AT_ONCE = 128 * 1024 * 1024  # of messages that are under way at one time


class Room:
    """Bounds the bytes of messages that are under way; who comes first is served first."""

    def __init__(self, size_bytes: int = BYTES_AT_ONCE) -> None:
        self._size_bytes = size_bytes
        self._used = 0
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def hold(self, size_bytes: int) -> AsyncIterator[None]:
        """Wait until there is room; a message larger than all of it goes alone."""
        async with self._turn:
            while self._used and self._used + size_bytes > self._size_bytes:
                self._freed.clear()
                await self._freed.wait()
            self._used += size_bytes
        try:
            yield
        finally:
            self._used -= size_bytes
            self._freed.set()


class Payloads:
    """Makes them for one server."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._catching_up: WeakValueDictionary[AccountId, asyncio.Lock] = WeakValueDictionary()
        self.room = Room()

    async def make(self, account_id: AccountId, row: MessageRow, form: PayloadFormat) -> bytes:
        """The body about a message: its bytes, or MailCare's JSON of it as unread, with its bodies where wanted.

        Raises NotFound for a message that is in the Trash or gone, Unavailable.
        """
        if form == "raw":
            return await retrieval.raw(self._rt, account_id, row.id)
        email = structs.replace(email_form.show(await self._arrival(account_id, row)), read=None)
        match form:
            case "json":
                return email_form.encode(email)
            case "json_with_bodies":
                content = await retrieval.content(self._rt, account_id, row.content_id)
                return await asyncio.get_running_loop().run_in_executor(self._rt.pool, _with_bodies, email, content)
            case _:
                assert_never(form)

    async def _arrival(self, account_id: AccountId, row: MessageRow) -> Arrival:
        """The message as lists know it, however far they are behind: that is no failure of the place to be called."""
        lock = self._catching_up.setdefault(account_id, asyncio.Lock())
        if not lock.locked():  # while somebody waits for an earlier message, this one is not there either
            with contextlib.suppress(NotFound, Unavailable):
                return await self._rt.db.read(arrivals.find, account_id, row.public_id)
        async with lock:  # one brings the lists further for all that wait
            return await arrival_service.find(self._rt, account_id, row.public_id, PATIENCE_SECONDS)


def _with_bodies(email: Email, content: Content) -> bytes:
    html, text = (body(content.message, content.raw) for body in (message.html, message.text))
    return email_form.encode(email_form.with_bodies(email, html, text))
