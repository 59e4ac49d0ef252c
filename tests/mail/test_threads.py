"""Message ids and base subjects."""

import pytest

from restante.mail import threads


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b" <a@x> <b@x>\r\n <a@x>", ("<a@x>", "<b@x>")),
        (b"<long\r\n id@x>", ("<longid@x>",)),
        (b"a@x b@x", ("<a@x>", "<b@x>")),
        (b"Your message of Friday <a@x>", ("<a@x>",)),
        (b"nothing", ()),
        (b"<><<>", ()),
        (None, ()),
    ],
)
def test_ids(value: bytes | None, found: tuple[str, ...]) -> None:
    assert threads.ids(value) == found


def test_many_ids_keep_the_first_and_the_latest() -> None:
    found = threads.ids(b" ".join(b"<%d@x>" % n for n in range(5_000)))
    assert len(found) == threads.MAX_IDS
    assert (found[0], found[-1]) == ("<0@x>", "<4999@x>")


@pytest.mark.parametrize(
    ("value", "found"), [(b"<a@x>", "<a@x>"), (b"odd", "<odd>"), (b" ", None), (b"<>", None), (None, None)]
)
def test_message_id(value: bytes | None, found: str | None) -> None:
    assert threads.message_id(value) == found


@pytest.mark.parametrize(
    "subject",
    [
        "Hello",
        "Re: Hello",
        "RE[2]: Hello",
        "Fwd: re: [list] Hello",
        "[list] Re: Hello (fwd)",
        "AW: WG: Hello",
        "[Fwd: Re: Hello]",
        "Re : hello",
        "回复：Hello",
        "  Re:   Hello  ",
    ],
)
def test_base_subject(subject: str) -> None:
    assert threads.base_subject(subject) == "hello"


def test_a_subject_that_is_only_a_tag_stays() -> None:
    assert threads.base_subject("[tag]") == "[tag]"
    assert threads.base_subject("Re: ") == ""
