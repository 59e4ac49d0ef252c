"""Every message of the shared corpus, against the manifest and independent parsers (see ``corpus.py``)."""

import pytest

from restante.mail import imap_values, structure
from restante.mail import message as mail
from tests.mail import corpus

pytestmark = pytest.mark.skipif(not corpus.available(), reason="the shared corpus is not beside this repository")


def test_every_difference_is_explained() -> None:
    explained = corpus.exceptions()
    unexplained = []
    seen = set()
    for sample in corpus.messages():
        for difference in corpus.compare(sample):
            row = explained.get((sample.path, difference.field))
            seen.add((sample.path, difference.field))
            if row is None or row["ours"] != corpus.cut(difference.ours):
                unexplained.append((sample.path, difference))
    assert unexplained == []
    assert set(explained) - seen == set(), "rows without a difference"


def test_exceptions_are_few_and_say_why() -> None:
    explained = corpus.exceptions()
    assert len({message for message, _ in explained}) <= len(corpus.messages()) * 0.02
    assert all("RFC " in row["reason"] and "§" in row["reason"] for row in explained.values())


def test_parts_are_as_many_as_the_manifest_says() -> None:
    # Where the manifest notes defects its parser gave up early; the fields above are compared all the same.
    excepted = {message for message, _ in corpus.exceptions()}
    wrong = []
    for sample in corpus.messages():
        if sample.manifest is None or sample.path in excepted or sample.manifest["defects"] != "0":
            continue
        parts = list(structure.walk(mail.parse(sample.raw).root, into_messages=True))
        if any(part.kind == "message" and part.content_type != "message/rfc822" for part in parts):
            continue  # the manifest counts the blocks of a delivery status as parts
        if len(parts) not in {int(sample.manifest["parts"]), corpus.count_parts(sample.raw)}:
            wrong.append((sample.path, len(parts), sample.manifest["parts"]))
    assert wrong == []


def test_every_message_gives_all_values() -> None:
    for sample in corpus.messages():
        message = mail.parse(sample.raw)
        assert mail.load(mail.dump(message)) == message
        assert len(mail.preview(message, sample.raw)) <= 200
        mail.searchable(message, sample.raw).encode()
        for attachment in message.attachments:
            assert attachment.size_bytes == sum(map(len, mail.decoded(attachment, sample.raw)))
        for value in (imap_values.envelope(message), imap_values.bodystructure(message)):
            assert value.startswith(b"(")
            assert value.endswith(b")")
