"""What Accept headers of clients choose."""

import pytest

from restante.api.mailcare.representations import Form, choose

VND = "application/vnd.mailcare.v1+json"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, Form.VERSIONED),
        ("", Form.VERSIONED),
        (" ", Form.VERSIONED),
        ("*/*", Form.VERSIONED),
        ("application/*", Form.VERSIONED),
        (VND, Form.VERSIONED),
        (VND.upper(), Form.VERSIONED),
        ("application/vnd.mailcare.v9+json", Form.VERSIONED),
        ("application/json", Form.JSON),
        ("application/json; charset=utf-8", Form.JSON),
        ("application/json, text/plain, */*", Form.JSON),
        (f"{VND}, application/json", Form.VERSIONED),
        (f"application/json, {VND}", Form.JSON),
        ("text/html", Form.HTML),
        ("text/html,text/plain,message/rfc2822", Form.HTML),
        ("text/plain,text/html", Form.TEXT),
        ("text/*", Form.HTML),
        ("text/plain;q=0.9,text/html;q=0.8", Form.TEXT),
        ("text/html;q=0.8,text/plain;q=0.9", Form.TEXT),
        ("text/html;level=1;q=0.8, text/plain;q=0.9", Form.TEXT),
        ("text/html ; q = 0.8 , text/plain", Form.TEXT),
        ("text/html;q=0, */*;q=0.1", Form.VERSIONED),
        ("text/*, text/html;q=0", Form.TEXT),
        ("text/*;q=0.9, text/html;q=0.1", Form.TEXT),
        ("message/rfc2822", Form.RAW),
        ("message/rfc822", Form.RAW),
        ("message/*", Form.RAW),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Form.HTML),
        ("image/png, */*;q=0.1", Form.VERSIONED),
        ("text/html;q=nonsense", Form.HTML),
        ("text/html;q=7", Form.HTML),
        (",,text/plain,,", Form.TEXT),
        ("image/png", None),
        ("text/html;q=0", None),
        ("*/*;q=0", None),
        ("text", None),
        ("json", None),
        ("*", None),
        ("text/csv", None),
        (",", None),
        (";q=1", None),
    ],
)
def test_choice(accept: str | None, form: Form | None) -> None:
    assert choose(accept, has_html=True, has_text=True) is form


def test_what_an_email_has_not_is_not_on_offer() -> None:
    assert choose("text/html", has_html=False, has_text=True) is None
    assert choose("text/html,text/plain", has_html=False, has_text=True) is Form.TEXT
    assert choose("text/*", has_html=False, has_text=True) is Form.TEXT
    assert choose("text/*,message/*;q=0.1", has_html=False, has_text=False) is Form.RAW


def test_long_headers_are_bounded() -> None:
    assert choose("image/png," * 10_000 + "text/html", has_html=True, has_text=True) is None
    assert choose("text/html," + "x" * 60_000, has_html=True, has_text=True) is Form.HTML
