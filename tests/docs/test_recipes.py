"""The recipes of ``docs/adding/`` hold: each skeleton is run as it stands on the page."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from restante import errors
from restante.clock import ManualClock
from restante.core import folders, messages
from restante.http.front import Front
from restante.jobs.worker import Worker
from restante.runtime import Runtime
from restante.schema.connections import WriteConn
from restante.services import provisioning

RECIPES = Path(__file__).parents[2] / "docs" / "adding"


def _skeleton(name: str) -> dict[str, Any]:
    (code,) = re.findall(r"```python\n(.*?)```", (RECIPES / f"{name}.md").read_text(), re.DOTALL)
    space: dict[str, Any] = {"__name__": f"recipe_{name}"}
    exec(compile(code, f"{name}.md", "exec"), space)
    return space


def test_blob_store() -> None:
    store = _skeleton("blob_store")["MemoryBlobs"]()
    key = "1/" + "a" * 64
    with pytest.raises(errors.NotFound):
        store.open(key)
    store.check()
    assert store.put(key, b"bytes") == store.put(key, b"bytes") == key
    assert store.open_range(key, 2, 99).raw[2:] == b"tes"
    assert store.open(key)[:] == b"bytes"
    (info,) = store.list_all()
    assert (info.key, info.size_bytes) == (key, 5)
    assert store.delete(key, unless_put_since=info.stored_at - timedelta(seconds=1)) is False
    assert store.delete(key, unless_put_since=info.stored_at) is True
    assert store.delete(key, unless_put_since=info.stored_at) is False
    assert list(store.list_all()) == []


def _ask(conn: WriteConn, account_id: int, mailbox_id: int, now: object) -> None:
    """The page's function by a name that the writer can import."""
    _skeleton("job")["ask_for_greeting"](conn, account_id, mailbox_id, now)


async def test_job(rt: Runtime, clock: ManualClock) -> None:
    mailbox = await provisioning.add_mailbox(rt, "alice@example.test")
    await rt.db.write(_ask, mailbox.account_id, mailbox.id, clock.now())
    assert await Worker(rt, {"greet": _skeleton("job")["greet"]}).run_due() is True
    inbox = await rt.db.read(folders.get_folder, mailbox.account_id, mailbox.id, "INBOX")
    (row,) = await rt.db.read(messages.list_page, mailbox.account_id, inbox.id, limit=10)
    assert row.subject == "Welcome"


async def _get(front: Front, path: str) -> tuple[int, Any]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", "client": ("::1", 1)}
    await front(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


async def test_dialect(rt: Runtime) -> None:
    recipe = _skeleton("dialect")
    dialect = recipe["build"]()
    front = Front(rt, dialect, [dialect])
    assert await _get(front, "/api/v1/mail/greetings/Ann") == (200, {"message": "hello Ann"})
    status, body = await _get(front, "/api/v1/mail/nothing")
    assert (status, body["ok"]) == (404, False)
    for kind in errors.walk():
        error = kind.__new__(kind)
        error.__dict__.update({"code": "x", "message": "m", "details": {}, "retry_after_seconds": 1, "host": "h"})
        assert recipe["render"](recipe["explain"](error)).status >= 400


@pytest.mark.parametrize("page", sorted(RECIPES.glob("*.md")), ids=lambda page: page.stem)
def test_recipes_name_files_that_exist(page: Path) -> None:
    root = RECIPES.parents[1]
    places = [root, root / "src" / "restante"]
    for name in re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", page.read_text()):
        assert any((place / name).exists() for place in places), name
