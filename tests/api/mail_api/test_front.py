"""What every path has: the right envelope, request ids, HEAD and OPTIONS, bounds, and the instance's own pages."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from restante import errors
from restante.api.mail_api import app as mail_api
from restante.api.mail_api import errors as mail_api_errors
from restante.http import problems
from restante.http.answers import Stream
from restante.http.front import Front
from restante.runtime import Runtime
from restante.server import asgi
from restante.server.metrics import Metrics
from tests.api.mail_api.sample import ANN, Client, World, assert_refused, letter, put


async def test_framework_refusals_have_the_envelope(client: Client) -> None:
    assert_refused(await client.get("/api/v1/mail/nothing/here"), 404, "NOT_FOUND")
    assert_refused(await client.get("/api/v1/tokens/1/more"), 404, "NOT_FOUND")
    reply = await client.call("DELETE", f"{ANN}/messages")
    assert_refused(reply, 405, "METHOD_NOT_ALLOWED")
    assert reply.headers["allow"] == "GET, HEAD, OPTIONS"
    reply = await client.get("/api/v1/auth/signup")
    assert_refused(reply, 405, "METHOD_NOT_ALLOWED")
    assert reply.headers["allow"] == "OPTIONS, POST"
    assert_refused(await client.call("BREW", f"{ANN}/folders"), 501, "NOT_IMPLEMENTED")


SIGNUP, BULK = "/api/v1/auth/signup", "/api/v1/permissions/bulk"


@pytest.mark.parametrize("path", [SIGNUP, BULK, "/api/v1/mail/send"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b'{"a":}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"{}{}",
        b"NaN",
        b'"\xed\xa0\x80"',
    ],
)
async def test_malformed_json(admin: Client, path: str, body: bytes) -> None:
    assert_refused(await admin.post(path, body=body), 400, "INVALID_JSON")


@pytest.mark.parametrize("path", [SIGNUP, BULK, "/api/v1/mail/send"])
@pytest.mark.parametrize("body", [b"[]", b"7", b"null", b'"x"', b"{}", b"true"])
async def test_json_of_another_shape(admin: Client, path: str, body: bytes) -> None:
    assert "fields" in assert_refused(await admin.post(path, body=body), 422, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "kind", ["text/plain", "multipart/form-data; boundary=x", "application/jsonx", "", "application/xml"]
)
async def test_other_media_types(admin: Client, kind: str) -> None:
    reply = await admin.post(BULK, body=b"{}", headers={"content-type": kind})
    assert_refused(reply, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json", None]
)
async def test_json_media_types(admin: Client, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    assert_refused(await admin.post(BULK, body=b"{}", headers=headers), 422, "VALIDATION_ERROR")


async def test_bodies_are_bounded(admin: Client) -> None:
    piece = b" " * 16_384
    assert_refused(await admin.post(BULK, body=[piece] * 5), 413, "PAYLOAD_TOO_LARGE")
    reply = await admin.post(BULK, body=b"{}", headers={"content-length": str(10**9)})
    assert_refused(reply, 413, "PAYLOAD_TOO_LARGE")
    assert reply.headers["connection"] == "close"
    assert_refused(await admin.get(f"{ANN}/folders", headers={"content-length": "9" * 50}), 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("given", ["abc-123", "01JABC/x+y=:@.z", "a" * 128])
async def test_request_id_is_echoed(client: Client, given: str) -> None:
    reply = await client.get(f"{ANN}/folders", headers={"x-request-id": given})
    assert reply.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "a" * 129, "<script>", "\xe9"])
async def test_request_id_is_made(client: Client, given: str) -> None:
    made = {(await client.get(f"{ANN}/x", headers={"x-request-id": given})).headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3
    assert given not in made


async def test_trailing_slashes(client: Client, admin: Client) -> None:
    assert (await client.get(f"{ANN}/folders/")).status == 200
    assert (await client.get("/api/v1/tokens/me//")).status == 200
    assert_refused(await admin.post(BULK + "/", data={}), 422, "VALIDATION_ERROR")


async def test_head_is_get_without_body(rt: Runtime, world: World, client: Client) -> None:
    await put(rt, world.red.ann, letter())
    for target in (f"{ANN}/messages", f"{ANN}/messages/9", "/health", "/"):
        got, head = await client.get(target), await client.call("HEAD", target)
        assert (head.status, head.body) == (got.status, b"")
        assert head.headers["content-length"] == got.headers["content-length"]
        assert head.headers["content-type"] == got.headers["content-type"]


async def test_options_without_credentials(client: Client) -> None:
    stranger = client.with_token(None)
    reply = await stranger.call("OPTIONS", f"{ANN}/messages")
    assert (reply.status, reply.body, reply.headers["allow"]) == (204, b"", "GET, HEAD, OPTIONS")
    assert "access-control-allow-origin" not in reply.headers
    assert "content-length" not in reply.headers
    assert_refused(await stranger.call("OPTIONS", "/api/v1/tokens/nothing/more"), 404, "NOT_FOUND")


async def test_shared_paths_vary(client: Client) -> None:
    reply = await client.get("/api/v1/unheard-of")
    assert_refused(reply, 404, "NOT_FOUND")
    assert reply.headers["vary"] == "Authorization, X-MAILAPI-TOKEN, Accept"
    assert "vary" not in (await client.get(f"{ANN}/folders")).headers


@pytest.mark.parametrize("path", ["/api/mails", "/api/v1/mailboxes", "/v1/domains", "/api/v1/domains"])
async def test_dialects_that_are_not_built_say_so(client: Client, path: str) -> None:
    reply = await client.with_token(None).get(path)
    assert reply.status == 404
    assert reply.json()["error"] == "not_available"
    assert "x-request-id" in reply.headers


async def test_security_headers_on_everything(client: Client) -> None:
    for path in (f"{ANN}/folders", "/api/v1/tokens/x", "/nowhere", "/", "/docs", "/api/mails", "/health"):
        reply = await client.get(path)
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"


async def test_a_crash_is_a_500_in_the_envelope(app: Front, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def crash(_: Any) -> None:
        raise ZeroDivisionError("secret detail")

    for route in app.dialects["mail-api"].router.routes:
        monkeypatch.setattr(route, "handler", crash)
    reply = await Client(app, world.red.token).get(f"{ANN}/folders", headers={"x-request-id": "find-me"})
    assert_refused(reply, 500, "INTERNAL_ERROR")
    assert b"secret" not in reply.body
    assert reply.headers["x-request-id"] == "find-me"


async def test_a_crash_in_the_middle_adds_nothing_to_the_answer(
    app: Front, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"first"
        raise ZeroDivisionError

    async def break_off(_: Any) -> Stream:
        return Stream(chunks(), 100, b"text/plain")

    for route in app.dialects["mail-api"].router.routes:
        monkeypatch.setattr(route, "handler", break_off)
    reply = await Client(app, world.red.token).get(f"{ANN}/folders")
    assert (reply.status, reply.body) == (200, b"first")
    assert "request_crashed" in caplog.text


@pytest.mark.parametrize("kind", errors.walk(), ids=lambda kind: kind.__name__)
def test_every_error_has_its_place(kind: type[errors.RestanteError]) -> None:
    extra: dict[str, Any] = {"retry_after_seconds": 7} if issubclass(kind, errors.RateLimited) else {}
    extra |= {"host": "x.example"} if issubclass(kind, errors.RemoteUnavailable) else {}
    extra |= {"submission": "7a9b"} if issubclass(kind, errors.SendFailed) else {}
    error = kind("what happened", **extra)
    for problem, render in (
        (mail_api_errors.explain(error), mail_api_errors.render),
        (problems.from_error(error), asgi.render),
    ):
        assert 400 <= problem.status < 600
        answer = render(problem)
        body = json.loads(answer.body)
        assert body["message"] == (problems.AWAY if kind is errors.Unavailable else "what happened")
        assert (b"retry-after", b"7") in answer.headers or not isinstance(error, errors.RateLimited)
    assert body["error"] == error.code


def test_codes_of_the_contract_keep_their_status() -> None:
    for code, (name, status) in mail_api_errors.NAMED.items():
        problem = mail_api_errors.explain(errors.RestanteError("x", code=code))
        assert (problem.code, problem.status) == (name, status)
        assert json.loads(mail_api_errors.render(problem).body)["error"] == name


# --- what belongs to no dialect


async def test_home(client: Client) -> None:
    plain = await client.get("/", headers={"accept": "*/*"})
    assert (plain.status, plain.body, plain.headers["content-type"]) == (200, b"OK", "text/plain; charset=utf-8")
    page = await client.get("/", headers={"accept": "text/html,application/xhtml+xml"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert b"Restante 0." in page.body
    assert b"/docs" in page.body
    assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_health(rt: Runtime, client: Client) -> None:
    reply = await client.with_token(None).get("/health")
    assert (reply.status, reply.body) == (200, b'{"status":"healthy"}')

    async def broken() -> None:
        raise errors.Unavailable("no", code="writer_gone")

    async def crashing() -> None:
        raise ZeroDivisionError

    app = asgi.build(rt, Metrics(rt), {"writer": broken, "other": crashing})
    reply = await Client(app).get("/health")
    assert reply.status == 503
    assert reply.json() == {
        "status": "degraded",
        "checks": {"database": "ok", "storage": "ok", "writer": "writer_gone", "other": "failed"},
    }


async def test_documents(client: Client) -> None:
    reply = await client.with_token(None).get("/openapi/mail-api.json")
    document = reply.json()
    routes = mail_api.build().router.routes
    operations = {(m.upper(), path) for path, item in document["paths"].items() for m in item}
    assert operations == {(route.method, route.path_format) for route in routes}
    for item in document["paths"].values():
        for operation in item.values():
            assert operation["summary"]
            assert operation["description"].endswith((".", "`"))
            assert {"401", "429"} <= set(operation["responses"]) or operation.get("security") == []
    assert document["servers"] == [{"url": "/"}]
    assert document["openapi"].startswith("3.1")
    assert (await client.get("/openapi.json")).body == reply.body
    for path in ("/openapi/trekmail.json", "/openapi/mail-api.yaml", "/openapi/mail-api", "/openapi/..json"):
        assert (await client.get(path)).status == 404
    listed = document["paths"]["/api/v1/mailbox/{email}/messages"]["get"]
    limit = next(item for item in listed["parameters"] if item["name"] == "limit")
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}
    names = set(json.dumps(document).split('"#/components/schemas/')[1:])
    for name in (found.partition('"')[0] for found in names):
        assert name in document["components"]["schemas"]


def without_example(document: dict[str, Any], schema: dict[str, Any], place: str) -> Iterator[str]:
    """The places of a body's schema for which a reader has to guess what to write."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    for option in schema.get("anyOf", []):
        yield from without_example(document, option, place)
    for name, member in schema.get("properties", {}).items():
        yield from without_example(document, member, f"{place}.{name}")
    if isinstance(schema.get("items"), dict) and "examples" not in schema:
        yield from without_example(document, schema["items"], f"{place}[]")
    if schema.get("type") in ("string", "integer") and not {"enum", "format", "examples"} & set(schema):
        yield place


def test_every_field_of_a_body_has_an_example() -> None:
    document: Any = mail_api.build().describe([])
    wanted = [
        place
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if "requestBody" in operation
        for place in without_example(
            document, operation["requestBody"]["content"]["application/json"]["schema"], f"{method} {path} "
        )
    ]
    assert wanted == []


async def test_documentation_pages_need_nothing_from_elsewhere(client: Client) -> None:
    for page in ("/docs", "/redoc"):
        reply = await client.get(page)
        assert reply.status == 200
        assert b"http://" not in reply.body
        assert b"https://" not in reply.body
        policy = reply.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        for link in reply.body.decode().split('src="')[1:] + reply.body.decode().split('stylesheet" href="')[1:]:
            asset = await client.get(link.partition('"')[0])
            assert asset.status == 200, link
            assert len(asset.body) > 100
    assert (await client.get("/docs/favicon.png")).status == 404
    assert (await client.get("/docs/..%2f..%2fcore.py")).status == 404


async def test_assets_are_cached_by_tag(client: Client) -> None:
    reply = await client.get("/docs/swagger-ui.css")
    assert reply.headers["content-type"] == "text/css; charset=utf-8"
    again = await client.get("/docs/swagger-ui.css", headers={"if-none-match": reply.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


async def test_metrics(rt: Runtime, world: World, client: Client, admin: Client) -> None:
    near = client.with_token(None)
    near.peer = "127.0.0.1"
    await client.get(f"{ANN}/folders")
    reply = await near.get("/metrics")
    assert reply.status == 200
    text = reply.body.decode()
    assert 'restante_http_requests_total{dialect="mail-api",method="GET",status="200"} 1.0' in text
    assert ("restante_wal_bytes" in text) is not rt.config.storage.database_url.startswith("postgres")
    (size,) = [line.split()[1] for line in text.splitlines() if line.startswith("restante_database_bytes ")]
    assert float(size) > 100_000
    assert "restante_process_resident_memory_bytes" in text
    assert (await client.with_token(None).get("/metrics")).status == 401
    assert (await client.with_token("x").get("/metrics")).status == 401
    assert (await client.get("/metrics")).status == 403
    assert (await admin.get("/metrics")).status == 200
    bearer = {"authorization": f"Bearer {world.admin_token}"}
    assert (await client.with_token(None).get("/metrics", headers=bearer)).status == 200
    assert (await near.get("/metrics", headers={"x-forwarded-for": "203.0.113.1"})).status == 401


async def test_metrics_by_setting(rt: Runtime, world: World) -> None:
    config = replace(rt.config, metrics=replace(rt.config.metrics, token="scrape-me"))
    other = replace(rt, config=config)
    client = Client(asgi.build(other, Metrics(other)))
    assert (await client.get("/metrics", headers={"authorization": "Bearer scrape-me"})).status == 200
    assert (await client.get("/metrics", headers={"authorization": "Bearer scrape-mx"})).status == 401
    off = replace(rt, config=replace(rt.config, metrics=replace(rt.config.metrics, enabled=False)))
    client = Client(asgi.build(off, Metrics(off)))
    client.peer = "127.0.0.1"
    assert (await client.get("/metrics")).status == 404


async def test_the_client_behind_a_proxy(rt: Runtime, world: World) -> None:
    config = replace(rt.config, http=replace(rt.config.http, trusted_proxies=("203.0.113.9",)))
    other = replace(rt, config=config)
    client = Client(asgi.build(other, Metrics(other)), "x" * 43)
    for number in range(25):
        reply = await client.get("/api/v1/tokens/me", headers={"x-forwarded-for": f"1.1.1.1, 198.51.100.{number}"})
        assert reply.status == 401


@pytest.mark.parametrize("level", ["debug", "info"])
async def test_each_request_has_a_line_without_secrets(
    rt: Runtime, world: World, caplog: pytest.LogCaptureFixture, level: str
) -> None:
    rt = replace(rt, config=replace(rt.config, log=replace(rt.config.log, requests=level)))
    client = Client(asgi.build(rt, Metrics(rt)), world.red.token)
    caplog.set_level("DEBUG", "restante.http.front")
    await client.get(f"{ANN}/search?q=hidden", headers={"x-request-id": "r1", "x-other": "hidden"})
    (line,) = [record for record in caplog.records if record.message == "http_request"]
    assert line.levelname == level.upper()
    fields = line.__dict__["fields"]
    assert {**fields, "ms": 0} == {
        "request_id": "r1", "client": client.peer, "method": "GET", "path": f"{ANN}/search", "api": "mail-api",
        "status": 200, "ms": 0,
    }  # fmt: skip
    assert world.red.token not in str(fields)
    caplog.clear()
    caplog.set_level("WARNING", "restante.http.front")
    await client.get(f"{ANN}/search?q=hidden")
    assert not [record for record in caplog.records if record.message == "http_request"]
