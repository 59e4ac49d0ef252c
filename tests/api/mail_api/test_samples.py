"""The guide's Python samples for reading, as its readers run them: ``requests`` against a live server."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import requests

from restante.http.front import Front
from restante.runtime import Runtime
from tests.api.mail_api.sample import World, letter, put, rich_letter


def list_page(base_url: str, token: str, email: str) -> list[str]:
    """The PHP sample's call and loop."""
    response = requests.get(
        f"{base_url}/api/v1/mailbox/{email}/messages?folder=INBOX&limit=20",
        headers={"X-MAILAPI-TOKEN": token},
        timeout=60,
    )
    return [f"{msg['subject']} - {msg['from']['email']}" for msg in response.json()["messages"]]


def download(base_url: str, token: str, email: str, uid: int, index: int, directory: Path) -> Path:
    """The sample of endpoint 7, its filename split included."""
    response = requests.get(
        f"{base_url}/api/v1/mailbox/{email}/messages/{uid}/attachment/{index}",
        headers={"X-MAILAPI-TOKEN": token},
        timeout=60,
    )
    filename = response.headers.get("Content-Disposition", "").split("filename=")[-1].strip('"')
    path = directory / (filename or "attachment")
    path.write_bytes(response.content)
    return path


def handle(response: requests.Response) -> str:
    """The sample of error handling, with its texts returned."""
    result = response.json()
    if not result.get("success", False):
        error_code = result.get("error", "UNKNOWN")
        error_message = result.get("message", "Unknown error")
        if error_code == "INVALID_TOKEN":
            return "Error: Your API token is invalid."
        return f"Error ({error_code}): {error_message}"
    return "fine"


def page_through(base_url: str, token: str, email: str) -> list[int]:
    """``limit`` and ``offset`` until nothing comes, as the guide advises."""
    session = requests.Session()
    session.headers["X-MAILAPI-TOKEN"] = token
    found: list[int] = []
    while True:
        query = {"limit": 2, "offset": len(found)}
        page = session.get(f"{base_url}/api/v1/mailbox/{email}/messages", params=query, timeout=60).json()
        if not page["messages"]:
            session.close()
            return found
        found += [item["uid"] for item in page["messages"]]


async def test_listing(rt: Runtime, world: World, base_url: str) -> None:
    await put(rt, world.red.ann, letter())
    found = await asyncio.to_thread(list_page, base_url, world.red.token, "ann@red.example")
    assert found == ["Meeting tomorrow - john@x.example"]


async def test_attachment_download(rt: Runtime, world: World, base_url: str, tmp_path: Path) -> None:
    await put(rt, world.red.ann, rich_letter())
    directory = tmp_path / "downloads"
    directory.mkdir()
    args = base_url, world.red.token, "ann@red.example", 1
    saved = await asyncio.to_thread(download, *args, 1, directory)
    assert (saved.name, saved.read_bytes()) == ("agenda.pdf", b"%PDF-1.4")
    hostile = await asyncio.to_thread(download, *args, 2, directory)
    assert hostile.parent == directory
    assert hostile.read_bytes() == b"<script>"
    unnamed = await asyncio.to_thread(download, *args, 0, directory)
    assert unnamed.name == "attachment-0"


async def test_a_large_attachment_streams(rt: Runtime, world: World, base_url: str) -> None:
    data = bytes(range(256)) * 20_000
    head = b"MIME-Version: 1.0\r\nContent-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n"
    name = b"Content-Disposition: attachment; filename=big.zip\r\n\r\n"
    await put(rt, world.red.ann, head + name + base64.encodebytes(data).replace(b"\n", b"\r\n"))

    def fetch(method: str) -> requests.Response:
        url = f"{base_url}/api/v1/mailbox/ann@red.example/messages/1/attachment/0"
        return requests.request(method, url, headers={"X-MAILAPI-TOKEN": world.red.token}, timeout=60)

    got = await asyncio.to_thread(fetch, "GET")
    assert got.content == data
    assert got.headers["Content-Length"] == str(len(data))
    assert got.headers["Content-Type"] == "application/zip"
    head_only = await asyncio.to_thread(fetch, "HEAD")
    assert head_only.content == b""
    assert head_only.headers["Content-Length"] == str(len(data))


async def test_error_handling(world: World, base_url: str) -> None:
    def ask(token: str | None, path: str = "mailbox/ann@red.example/folders") -> str:
        headers = {} if token is None else {"X-MAILAPI-TOKEN": token}
        return handle(requests.get(f"{base_url}/api/v1/{path}", headers=headers, timeout=60))

    assert await asyncio.to_thread(ask, world.red.token) == "fine"
    assert await asyncio.to_thread(ask, "wrong") == "Error: Your API token is invalid."
    assert (await asyncio.to_thread(ask, None)).startswith("Error (NO_API_TOKEN): Send your API token")
    assert (await asyncio.to_thread(ask, world.red.token, "nothing")).startswith("Error (")
    foreign = await asyncio.to_thread(ask, world.red.token, "mailbox/ann@blue.example/folders")
    assert foreign == "Error (ACCESS_DENIED): Access denied."


async def test_paging(rt: Runtime, world: World, base_url: str) -> None:
    for number in range(5):
        await put(rt, world.red.ann, letter(f"number {number}"))
    assert await asyncio.to_thread(page_through, base_url, world.red.token, "ann@red.example") == [5, 4, 3, 2, 1]


async def test_a_connection_is_used_again_after_refusals(world: World, base_url: str, app: Front) -> None:
    def run() -> list[int]:
        with requests.Session() as session:
            session.headers["X-MAILAPI-TOKEN"] = world.red.token
            found: list[Any] = [
                session.get(f"{base_url}/api/v1/mailbox/ann@red.example/folders", timeout=60),
                session.post(f"{base_url}/api/v1/permissions/bulk", data="{" * 100, timeout=60),
                session.head(f"{base_url}/api/v1/tokens/me", timeout=60),
                session.options(f"{base_url}/api/v1/tokens/me", timeout=60),
                session.post(f"{base_url}/api/v1/permissions/bulk", data=b" " * 200_000, timeout=60),
                session.get(f"{base_url}/api/v1/tokens/me", timeout=60),
            ]
            return [one.status_code for one in found]

    assert await asyncio.to_thread(run) == [200, 400, 200, 204, 413, 200]
