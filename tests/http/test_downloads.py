"""Attachment names and types as headers: nothing of the sender's gets out of its place."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.http.downloads import disposition, media_type, safe_name


def as_the_sample_reads_it(header: bytes) -> str:
    """The line of the contract's own Python sample."""
    return header.decode("latin-1").split("filename=")[-1].strip('"')


@pytest.mark.parametrize(
    ("name", "plain", "full"),
    [
        ("agenda.pdf", "agenda.pdf", "agenda.pdf"),
        ("Übersicht 2024.pdf", "_bersicht 2024.pdf", "Übersicht 2024.pdf"),
        ("日本.txt", "__.txt", "日本.txt"),
        (None, "attachment-3", "attachment-3"),
        ("", "attachment-3", "attachment-3"),
        (" . ", "attachment-3", "attachment-3"),
        ("..", "attachment-3", "attachment-3"),
        ("../../etc/passwd", "_.._etc_passwd", "_.._etc_passwd"),
        ("C:\\x\\y.exe", "C:_x_y.exe", "C:_x_y.exe"),
        ("a\"b;c%41'.txt", "a_b_c_41_.txt", "a\"b;c%41'.txt"),
        ("a\r\nX-Evil: 1.txt", "a__X-Evil: 1.txt", "a__X-Evil: 1.txt"),
        ("a\0b\x85c\u2028d", "a_b_c_d", "a_b_c_d"),
        ("x filename=evil.txt", "x filename_evil.txt", "x filename=evil.txt"),
        ("x FileName*=y", "x FileName*_y", "x FileName*=y"),
        ("a\ud800b", "a_b", "a_b"),
    ],
)
def test_names(name: str | None, plain: str, full: str) -> None:
    header = disposition(name, 3)
    assert as_the_sample_reads_it(header) == plain
    encoded = header.decode("ascii").partition("filename*=UTF-8''")[2].partition(";")[0]
    assert unquote(encoded) == full


def test_long_names_keep_their_ending() -> None:
    name = safe_name("x" * 5000 + ".pdf", 0)
    assert len(name) == 200
    assert name.endswith("x.pdf")
    assert len(safe_name("." + "y" * 5000, 0)) == 200


@given(st.text(max_size=300))
def test_any_name_makes_one_well_formed_header(name: str) -> None:
    header = disposition(name, 0).decode("ascii")
    assert all(" " <= letter <= "~" for letter in header)
    assert header.startswith("attachment; filename*=UTF-8''")
    assert header.count('"') == 2
    assert header.endswith('"')
    plain = as_the_sample_reads_it(header.encode())
    assert plain.strip(" .")
    assert not set(plain) & set('/\\"')
    assert len(plain) <= 200


@pytest.mark.parametrize(
    ("declared", "sent"),
    [
        ("application/pdf", b"application/pdf"),
        ("Image/PNG", b"image/png"),
        ("application/vnd.ms-excel.sheet+xml", b"application/vnd.ms-excel.sheet+xml"),
        ("text/html; charset=utf-8", b"application/octet-stream"),
        ("text", b"application/octet-stream"),
        ("text/html\r\nX-Evil: 1", b"application/octet-stream"),
        ("té/xt", b"application/octet-stream"),
        ("", b"application/octet-stream"),
        ("a/" + "b" * 5000, b"application/octet-stream"),
    ],
)
def test_types(declared: str, sent: bytes) -> None:
    assert media_type(declared) == sent
