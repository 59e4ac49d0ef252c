"""The MIME scanner's offsets and bounds."""

import pytest

from restante.mail import structure


def bodies(raw: bytes) -> list[bytes]:
    root, _ = structure.scan(raw)
    return [raw[part.body_start : part.end] for part in structure.walk(root) if not part.children]


MIXED = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (MIXED + b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n", [b"one", b"two"]),
        (MIXED.replace(b"\r\n", b"\n") + b"--b\n\none\n--b\n\ntwo\n--b--\n", [b"one", b"two"]),
        (MIXED + b"pre\r\n--b\r\n\r\none\r\n--b--\r\nepilogue\r\n--b\r\n\r\nno", [b"one"]),
        (MIXED + b"--b  \t\r\n\r\none\r\n--b-- \r\n", [b"one"]),
        (MIXED + b"--bb\r\n\r\nx\r\n--b\r\n\r\none\r\n--b--x\r\n--b--", [b"one\r\n--b--x"]),
        (MIXED + b"--b\r\n--b\r\n\r\none\r\n--b--", [b"", b"one"]),
        (MIXED + b"--b\r\nA: b\r\n--b\r\n\r\n\r\n\r\n--b--", [b"", b"\r\n"]),
        (MIXED + b"--b\r\n\r\none", [b"one"]),
        (MIXED + b"--b--\r\n", [b""]),
        (MIXED + b"text --b\r\n", [b"text --b\r\n"]),
        (MIXED, [b""]),
        (MIXED.rstrip(), [b""]),
        (MIXED + b"--b\r\nno blank line and no header\r\n--b--", [b"no blank line and no header"]),
    ],
)
def test_parts(raw: bytes, found: list[bytes]) -> None:
    assert bodies(raw) == found


def test_lines_are_counted_for_text_and_messages() -> None:
    root, _ = structure.scan(b"Content-Type: text/plain\n\none\ntwo\n")
    assert root.lines == 2


def test_a_digest_holds_messages() -> None:
    raw = b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: x\r\n\r\nhi\r\n--b--"
    root, _ = structure.scan(raw)
    assert root.children[0].content_type == "message/rfc822"
    assert root.children[0].envelope is not None
    assert root.children[0].envelope[1] == b" x"


def test_the_first_field_of_a_name_counts() -> None:
    _, wanted = structure.scan(b"Subject: one\r\nSUBJECT: two\r\n\r\n")
    assert wanted[b"subject"] == b" one"


def test_a_header_beyond_the_bounds_still_has_its_body() -> None:
    raw = b"Subject: s\r\n" + b"X-Long: " + b"x" * (3 << 20) + b"\r\n\r\nbody"
    root, wanted = structure.scan(raw)
    assert wanted[b"subject"] == b" s"
    assert raw[root.body_start : root.end] == b"body"


def test_candidates_are_bounded() -> None:
    raw = MIXED + b"\n--bX" * (structure.MAX_CANDIDATES + 10) + b"\n--b\n\none"
    assert len(bodies(raw)) == 1
