"""Charset labels as mail uses them."""

import pytest

from restante.mail import charset


@pytest.mark.parametrize(
    ("data", "label", "text"),
    [
        (b"\x80\x93", "ISO-8859-1", "€“"),
        (b"\x81", "windows-1252", "\x81"),
        (b"\xc3\xa9", "us-ascii", "é"),
        (b"\xe9", "us-ascii", "é"),
        (b"\xe9", None, "é"),
        (b"\xe9F", "GB2312", "镕"),
        (b"\xc7\xd1\xb1\xdb", "ks_c_5601-1987", "한글"),
        (b"\xf0\xd2\xc9", "koi8-r", "При"),
        (b"\x82\xa0", "Shift_JIS", "あ"),
        (b'\x1b$B$"\x1b(B', "iso-2022-jp", "あ"),
        (b"+AOk-", "utf-7", "é"),
        (b"+2AA-", "utf-7", "\ufffd"),
        (b"\xef\xbb\xbfx", "utf-8", "x"),
        (b"\xff\xfeh\x00", "utf-16", "h"),
        (b"\xa4", "iso-8859-15", "€"),
        (b"x", ' "UTF8" ', "x"),
        (b"\xd0\x9f", "cp-65001", "П"),
        (b"x\xc3", "utf-8", "x\ufffd"),
        (b"a\x81b", "iso-8859-1", "a\x81b"),
        (b"a\x81b\xff", None, "a\x81bÿ"),
        (b"a\xff", "iso-8859-7", "a\ufffd"),
        (b"x", "zip", "x"),
        (b"x", "punycode", "x"),
        (b"x", "unicode_escape", "x"),
        (b"x", "\x00", "x"),
        (b"", "utf-8", ""),
    ],
)
def test_decode(data: bytes, label: str | None, text: str) -> None:
    assert charset.decode(data, label) == text


def test_every_codec_of_the_table_exists_and_takes_anything() -> None:
    for label in charset._LABELS:
        charset.decode(bytes(range(256)) * 2, label).encode("utf-8")
