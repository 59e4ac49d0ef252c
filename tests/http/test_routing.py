"""Routes by index: what is found, what is refused, what the document says."""

import pytest
from msgspec import Struct

from restante.http.answers import Answer
from restante.http.problems import Refused
from restante.http.routing import IndexedRouter


class Shape(Struct):
    """A shape."""

    name: str


async def handler(_: object) -> Answer:
    """Do something."""
    return Answer()


def router(*routes: tuple[str, str]) -> IndexedRouter:
    made = IndexedRouter()
    for method, path in routes:
        made.add(method, path, handler, tag="Tests", answer=Shape)
    return made


ROUTES = router(
    ("GET", "/api/v1/messages"),
    ("POST", "/api/v1/messages:bulk"),
    ("POST", "/api/v1/messages/folders:empty"),
    ("GET", "/api/v1/messages/folders"),
    ("POST", "/api/v1/messages/folders/{path:path}:rename"),
    ("GET", "/api/v1/messages/folders/{path:path}/messages"),
    ("PATCH", "/api/v1/messages/folders/{path:path}"),
    ("POST", "/api/v1/messages/{uid:int}:spam"),
    ("GET", "/api/v1/messages/{uid:int}"),
    ("GET", "/api/v1/domains/pending"),
    ("GET", "/api/v1/domains/{id}"),
    ("GET", "/{anything}"),
)


@pytest.mark.parametrize(
    ("method", "path", "found", "params"),
    [
        ("GET", "/api/v1/messages", "/api/v1/messages", {}),
        ("POST", "/api/v1/messages:bulk", "/api/v1/messages:bulk", {}),
        ("POST", "/api/v1/messages/5:spam", "/api/v1/messages/{uid:int}:spam", {"uid": 5}),
        ("GET", "/api/v1/messages/5", "/api/v1/messages/{uid:int}", {"uid": 5}),
        ("GET", "/api/v1/messages/folders", "/api/v1/messages/folders", {}),
        ("POST", "/api/v1/messages/folders:empty", "/api/v1/messages/folders:empty", {}),
        (
            "PATCH",
            "/api/v1/messages/folders/INBOX/Work",
            "/api/v1/messages/folders/{path:path}",
            {"path": "INBOX/Work"},
        ),
        ("POST", "/api/v1/messages/folders/a:rename", "/api/v1/messages/folders/{path:path}:rename", {"path": "a"}),
        ("GET", "/api/v1/domains/pending", "/api/v1/domains/pending", {}),
        ("GET", "/api/v1/domains/x", "/api/v1/domains/{id}", {"id": "x"}),
        ("GET", "/word", "/{anything}", {"anything": "word"}),
    ],
)
def test_found(method: str, path: str, found: str, params: dict[str, object]) -> None:
    route, given = ROUTES.find(method, path)
    assert (route.path, given) == (found, params)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/messages/x", 404),
        ("GET", "/api/v1/messages/5:spam", 405),
        ("DELETE", "/api/v1/messages", 405),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/v1/messages\n", 404),
    ],
)
def test_refused(method: str, path: str, status: int) -> None:
    with pytest.raises(Refused) as refusal:
        ROUTES.find(method, path)
    assert refusal.value.problem.status == status


def test_405_names_the_methods() -> None:
    with pytest.raises(Refused) as refusal:
        ROUTES.find("PUT", "/api/v1/messages")
    assert refusal.value.problem.headers == ((b"allow", b"GET, HEAD, OPTIONS"),)


def test_the_index_agrees_with_trying_every_route() -> None:
    for route in ROUTES.routes:
        path = route.path.replace("{uid:int}", "5").replace("{path:path}", "a/b").replace("{id}", "9")
        path = path.replace("{anything}", "z")
        first = next(r for r in ROUTES.routes if r.method == route.method and r.match(path) is not None)
        assert ROUTES.find(route.method, path)[0] is first


def test_the_document_has_every_operation() -> None:
    document = ROUTES.document(title="Tests", version="1")
    operations = {(m.upper(), p) for p, item in document["paths"].items() for m in item}
    assert ("PATCH", "/api/v1/messages/folders/{path}") in operations
    assert len(operations) == len(ROUTES.routes)
    assert document["components"]["schemas"]["Shape"]["properties"]["name"] == {"type": "string"}
    assert document["paths"]["/api/v1/messages"]["get"]["description"] == "Do something."


SHADOWED = router(
    ("GET", "/api/v1/tokens/me"),
    ("PUT", "/api/v1/tokens/{id}"),
    ("GET", "/api/v1/tokens/{id}"),
    ("GET", "/api/v1/users/{email:address}"),
    ("POST", "/api/v1/users/{email:address}/enable"),
)


def test_a_path_without_parameters_is_nobody_elses() -> None:
    assert SHADOWED.find("GET", "/api/v1/tokens/me")[0].path == "/api/v1/tokens/me"
    assert SHADOWED.find("PUT", "/api/v1/tokens/7")[1] == {"id": "7"}
    with pytest.raises(Refused) as caught:
        SHADOWED.find("PUT", "/api/v1/tokens/me")
    assert (caught.value.problem.status, caught.value.problem.headers) == (405, ((b"allow", b"GET, HEAD, OPTIONS"),))


@pytest.mark.parametrize("address", ["ann@red.example", "a/b@red.example", "a/enable@red.example", "7"])
def test_an_address_may_have_slashes_in_front_of_its_domain(address: str) -> None:
    assert SHADOWED.find("GET", f"/api/v1/users/{address}")[1] == {"email": address}
    assert SHADOWED.find("POST", f"/api/v1/users/{address}/enable")[1] == {"email": address}
    with pytest.raises(Refused) as caught:
        SHADOWED.find("GET", f"/api/v1/users/{address}/enable")
    assert caught.value.problem.status == 405
    with pytest.raises(Refused) as caught:
        SHADOWED.find("GET", f"/api/v1/users/{address}/x/y")
    assert caught.value.problem.status == 404
