"""The documentation pages: Swagger UI and ReDoc over our OpenAPI documents, without a byte from elsewhere.

Their scripts come from the package ``fastapi-offline``, which carries Swagger UI (Apache-2.0) and ReDoc (MIT) as they
are published. The pages have no inline script, so that their Content-Security-Policy needs none.
"""

import asyncio
import hashlib
from functools import cache
from html import escape
from importlib.util import find_spec
from pathlib import Path

import restante
from restante.http import problems
from restante.http.answers import HTML, TEXT, Answer
from restante.http.calls import Call
from restante.http.problems import Refused

JAVASCRIPT = b"text/javascript; charset=utf-8"
ASSETS: dict[str, bytes] = {
    "swagger-ui-bundle.js": JAVASCRIPT,
    "swagger-ui.css": b"text/css; charset=utf-8",
    "redoc.standalone.js": JAVASCRIPT,
}

START = b"""window.addEventListener("load", function () {
  window.ui = SwaggerUIBundle({
    url: "/openapi/mail-api.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null,
    presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout"
  });
});
"""

_POLICY = (
    b"content-security-policy",
    (
        b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        b"font-src 'self' data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'"
    ),
)
_CACHED = (b"cache-control", b"public, max-age=86400")

_SWAGGER = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Mail API - Restante</title><link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script>
<noscript>This page needs JavaScript; the document itself is at <a href="/openapi.json">/openapi.json</a>.</noscript>
</body></html>
"""

_REDOC = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Mail API - Restante</title><style>body { margin: 0 }</style></head>
<body><redoc spec-url="/openapi/mail-api.json"></redoc><script src="/docs/redoc.standalone.js"></script>
<noscript>This page needs JavaScript; the document itself is at <a href="/openapi.json">/openapi.json</a>.</noscript>
</body></html>
"""

_HOME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Restante</title>
<style>body {{ font: 1.1rem/1.6 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem }}</style>
</head>
<body><h1>Restante {version}</h1><p>This mail server is running. It has no web interface yet; programs use its APIs.</p>
<ul><li><a href="/docs">Mail API: try it</a></li><li><a href="/redoc">Mail API: read it</a></li>
<li><a href="/openapi/mail-api.json">Mail API: OpenAPI document</a></li><li><a href="/health">Health</a></li></ul>
</body></html>
"""


async def home(call: Call) -> Answer:
    """Say that the server is there: a page for browsers, ``OK`` for programs."""
    if "text/html" not in (call.header(b"accept") or ""):
        return Answer(b"OK", content_type=TEXT, headers=((b"vary", b"Accept"),))
    page = _HOME.format(version=escape(restante.__version__)).encode()
    return Answer(page, content_type=HTML, headers=(_POLICY, (b"vary", b"Accept")))


async def swagger(_: Call) -> Answer:
    """The interactive documentation."""
    return Answer(_SWAGGER, content_type=HTML, headers=(_POLICY,))


async def redoc(_: Call) -> Answer:
    """The documentation for reading."""
    return Answer(_REDOC, content_type=HTML, headers=(_POLICY,))


async def asset(call: Call) -> Answer:
    """A script or style sheet of these pages."""
    name = call.params["name"]
    if name == "start.js":
        return Answer(START, content_type=JAVASCRIPT, headers=(_CACHED,))
    if name not in ASSETS:
        raise Refused(problems.not_found(call.path))
    body, tag = await asyncio.get_running_loop().run_in_executor(call.rt.pool, _load, name)
    headers = (_CACHED, (b"etag", tag))
    if call.headers.get(b"if-none-match") == tag:
        return Answer(status=304, headers=headers)
    return Answer(body, content_type=ASSETS[name], headers=headers)


def _load(name: str) -> tuple[bytes, bytes]:
    body = (_directory() / name).read_bytes()
    return body, b'"' + hashlib.sha256(body).hexdigest()[:32].encode() + b'"'


@cache
def _directory() -> Path:
    """Where the package keeps its files; it is not imported, only looked up."""
    spec = find_spec("fastapi_offline")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the package fastapi-offline is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / "static"
