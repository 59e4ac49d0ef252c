"""Address lists as real mail writes them, and the form routing compares."""

import time

import pytest

from restante.errors import Invalid
from restante.mail import address


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a@example.org", [("", "a@example.org")]),
        ("Joe <joe@example.org>, b@x.de", [("Joe", "joe@example.org"), ("", "b@x.de")]),
        ('"Doe, John" <j@x.org>', [("Doe, John", "j@x.org")]),
        ("Doe, John <j@x.org>, b@c.de", [("Doe, John", "j@x.org"), ("", "b@c.de")]),
        ("joe@x.com <joe@y.com>", [("joe@x.com", "joe@y.com")]),
        ("<@a.com,@b.com:joe@x.com>", [("", "joe@x.com")]),
        ("joe@x.com (Joe (the) Doe)", [("Joe (the) Doe", "joe@x.com")]),
        ("Joe <joe@x.com", [("Joe", "joe@x.com")]),
        ('"Joe \\"Q\\" D" <a@b.c>', [('Joe "Q" D', "a@b.c")]),
        ("=?utf-8?Q?Doe,_J=C3=B6rg?= <a@b.c>", [("Doe, Jörg", "a@b.c")]),
        ('"=?utf-8?Q?J=C3=B6rg?=" <a@b.c>', [("Jörg", "a@b.c")]),
        ("=?utf-8?Q?Joe_=3Cj=40x.org=3E?=", [("Joe", "j@x.org")]),
        ("Jörg <jörg@bücher.example>", [("Jörg", "jörg@bücher.example")]),
        ("undisclosed-recipients:;", []),
        ("A Group: Ed <ed@x.y>,joe@w.g; , z@q.w", [("Ed", "ed@x.y"), ("", "joe@w.g"), ("", "z@q.w")]),
        ('"unclosed <a@b.c>', [("unclosed", "a@b.c")]),
        ("(((((x@y.z", [("", "x@y.z")]),
        ("(only a comment)", []),
        ("<>", []),
        ("", []),
        ("Joe joe@example.org", [("Joe", "joe@example.org")]),
        ("a@b.c; d@e.f", [("", "a@b.c"), ("", "d@e.f")]),
        ("a@b.c d@e.f", [("", "a@b.c"), ("", "d@e.f")]),
        ("root", [("", "root")]),
        ("Drew Fossum", [("Drew Fossum", "")]),
        ("a@x, , b@x,", [("", "a@x"), ("", "b@x")]),
        ("'Joe' <a@b.c>", [("'Joe'", "a@b.c")]),
        ("a@[127.0.0.1]", [("", "a@[127.0.0.1]")]),
        ('"a b"@x.org', [("", '"a b"@x.org')]),
        ("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", [("Pete", "pete@silly.test")]),
        ("john . doe @ example . com", [("", "john.doe@example.com")]),
        ("x!y@z@a.b", [("", "x!y@z@a.b")]),
    ],
)
def test_lists(written: str, read: list[tuple[str, str]]) -> None:
    assert [(one.name, one.email) for one in address.parse(written.encode())] == read


def test_the_number_of_addresses_is_bounded() -> None:
    for item in (b"a@b.c,", b"a b <c@d>, ", b'"x\\"y" <a@b>,', b"g: a@b;,", b"<"):
        assert len(address.parse(item * 10_000)) <= address.MAX_ADDRESSES


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("Joe@Example.ORG", "joe@example.org"),
        (" joe+tag@example.org. ", "joe+tag@example.org"),
        ("JÖRG@BÜCHER.example", "jörg@xn--bcher-kva.example"),
        ("jo\u0308rg@x.org", "jörg@x.org"),
        ('"a.b"@x.org', "a.b@x.org"),
        ('"a b"@X.org', '"a b"@x.org'),
        ("a@[127.0.0.1]", "a@[127.0.0.1]"),
        ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        ("a@localhost", "a@localhost"),
        ("A..b.@docomo.example", "a..b.@docomo.example"),
    ],
)
def test_routing_form(written: str, form: str) -> None:
    assert address.normalise(written) == form
    assert address.normalise(form) == form


@pytest.mark.parametrize(
    "written",
    [
        "",
        "a",
        "@x.org",
        "a@",
        "a b@x.org",
        "a@b c",
        "a@-x.org",
        "a@x..org",
        "a@.",
        "a\r\n@x.org",
        '"a\nb"@x.org',
        "a" * 65 + "@x.org",
        "ö" * 33 + "@x.org",
        "a@" + "x" * 64 + ".org",
        "a@" + "x." * 130 + "org",
        "a@[1.2.3]",
        "a@\u2028.org",
        "x" * 2000,
        "a@ü" * 300,
        "\ud800@x.org",
    ],
)
def test_what_cannot_be_routed(written: str) -> None:
    with pytest.raises(Invalid):
        address.normalise(written)


def test_split() -> None:
    assert address.split('"a@b"@x.org') == ('"a@b"', "x.org")


@pytest.mark.parametrize("dots", [40, 400])
def test_many_dots_cost_no_time(dots: int) -> None:
    local = "a." * dots + " b"
    began = time.process_time()
    (found,) = address.parse(f'"{local}"@example.org'.encode())
    assert found.email == f'"{local}"@example.org'
    with pytest.raises(Invalid):
        address.normalise(f"{local}@example.org")
    assert time.process_time() - began < 1.0
