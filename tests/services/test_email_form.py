"""The JSON of an email: order, forms of times and sizes, attachments out of the kept structure."""

import json
import re
import uuid
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from restante.core.arrivals import Arrival, Correspondent
from restante.ids import MailboxId, MessageId
from restante.mail import message
from restante.services import email_form
from tests.api.mail_api.sample import letter, rich_letter

WHEN = datetime(2018, 1, 19, 12, 23, 27, tzinfo=UTC)
EMAIL_ID = uuid.UUID("9bf63f3b-4e4e-46a0-8c7d-2d6d32576a1d")


LOUIS = Correspondent(uuid.UUID(int=1), "louis@example.com", "Louis", WHEN, WHEN)
CLAIRE = Correspondent(uuid.UUID(int=2), "claire@example.com", "Claire", WHEN, WHEN)
COPIES = (("Thomas", "thomas@example.com"), ("", "angle@example.com"))
PLAIN = Arrival(
    EMAIL_ID, MessageId(1), MailboxId(1), LOUIS, CLAIRE, "Welcome", WHEN, WHEN, False, True, True, 40240, COPIES, 0,
    None,
)  # fmt: skip
RICH = replace(PLAIN, structure=message.dump(message.parse(rich_letter())))

SEED = """
{"id": "9bf63f3b-4e4e-46a0-8c7d-2d6d32576a1d",
 "sender": {"id": "00000000-0000-0000-0000-000000000001", "display_name": "Louis", "email": "louis@example.com",
  "created_at": "2018-01-19T12:23:27+00:00", "updated_at": "2018-01-19T12:23:27+00:00"},
 "inbox": {"id": "00000000-0000-0000-0000-000000000002", "display_name": "Claire", "email": "claire@example.com",
  "created_at": "2018-01-19T12:23:27+00:00", "updated_at": "2018-01-19T12:23:27+00:00"},
 "carbon_copies": [{"display_name": "Thomas", "email": "thomas@example.com"},
  {"display_name": "angle@example.com", "email": "angle@example.com"}],
 "subject": "Welcome", "created_at": "2018-01-19T12:23:27+00:00", "read": "2018-01-19T12:23:27+00:00",
 "favorite": false, "has_html": true, "has_text": true, "size_in_bytes": 40240, "attachments": []}
"""


def test_the_fields_are_the_seeds_in_its_order() -> None:
    shown = json.loads(email_form.encode(email_form.show(PLAIN)))
    assert json.dumps(shown["data"]) == json.dumps(json.loads(SEED))
    assert list(shown) == ["data"]


def test_bodies_come_last() -> None:
    shown = email_form.with_bodies(email_form.show(PLAIN), None, "Hello")
    found = json.loads(email_form.encode(shown))["data"]
    assert list(found.items())[-2:] == [("html", None), ("text", "Hello")]
    assert list(found)[:-2] == list(json.loads(SEED))


def test_attachments() -> None:
    shown = json.loads(email_form.encode(email_form.show(RICH)))["data"]["attachments"]
    assert [one["file_name"] for one in shown][:2] == ["attachment-0", "agenda.pdf"]
    assert list(shown[1]) == [
        "id", "email_id", "headers_hashed", "file_name", "content_type", "size_in_bytes", "created_at", "updated_at",
        "size_for_human",
    ]  # fmt: skip
    assert all(one["email_id"] == str(EMAIL_ID) and str(uuid.UUID(one["id"])) == one["id"] for one in shown)
    assert len({one["id"] for one in shown}) == len({one["headers_hashed"] for one in shown}) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", one["headers_hashed"]) for one in shown)
    assert (shown[1]["created_at"], shown[1]["updated_at"]) == ("2018-01-19 12:23:27", "2018-01-19 12:23:27")
    raw = rich_letter()
    begin = raw.index(b"Content-Type: application/pdf")
    part = raw[begin : raw.index(b"\r\n--mix", begin)]
    assert (shown[1]["size_in_bytes"], shown[1]["size_for_human"]) == (len(part), f"{len(part)}.00B")


def test_a_hundred_attachments_are_listed() -> None:
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    raw += b"--b\r\nContent-Type: application/pdf\r\n\r\nx\r\n" * 300 + b"--b--\r\n"
    parsed = message.parse(raw)
    assert len(parsed.attachments) == 300
    shown = email_form.show(replace(PLAIN, structure=message.dump(parsed))).attachments
    assert [one.file_name for one in shown] == [f"attachment-{index}" for index in range(100)]


def test_attachments_are_found_by_their_ids() -> None:
    shown = email_form.show(RICH).attachments
    assert [email_form.find_attachment(EMAIL_ID, 3, one.id) for one in shown] == [0, 1, 2]
    assert email_form.find_attachment(EMAIL_ID, 2, shown[2].id) is None
    assert email_form.find_attachment(uuid.UUID(int=7), 3, shown[0].id) is None


def test_a_message_that_is_nothing_but_an_attachment() -> None:
    raw = letter().replace(b"text/plain; charset=utf-8", b"application/pdf")
    (one,) = email_form.show(replace(PLAIN, structure=message.dump(message.parse(raw)))).attachments
    assert (one.content_type, one.size_in_bytes) == ("application/pdf", len(raw))


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0.00B"), (7, "7.00B"), (500, "500.00B"), (999, "999.00B"), (1000, "1.00kB"), (33996, "34.00kB"),
        (999_999, "1000.00kB"), (48083603, "48.08MB"), (2 * 10**9, "2.00GB"), (10**24, "1000000.00EB"),
    ],
)  # fmt: skip
def test_sizes_for_people(size: int, text: str) -> None:
    assert email_form.human_size(size) == text


def test_times_are_whole_seconds_never_before_the_moment() -> None:
    assert email_form.moment(WHEN) == "2018-01-19T12:23:27+00:00"
    assert email_form.moment(WHEN.replace(microsecond=1)) == "2018-01-19T12:23:28+00:00"
    assert email_form.moment(datetime(2018, 12, 31, 23, 59, 59, 999_999, UTC)) == "2019-01-01T00:00:00+00:00"


def test_long_subjects_are_cut() -> None:
    assert email_form.show(replace(PLAIN, subject="x" * 4000)).subject == "x" * 255
