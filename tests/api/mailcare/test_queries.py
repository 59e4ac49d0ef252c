"""Reading what clients send: nothing of it raises."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.api.mailcare.queries import read_date
from restante.api.mailcare.representations import Form, choose

MOMENT = datetime(2018, 1, 19, 12, 23, 27, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2018-01-19T12:23:27+00:00", MOMENT),
        ("2018-01-19T12:23:27 00:00", MOMENT),
        ("2018-01-19T14:23:27 0200", MOMENT),
        ("2018-01-19T07:23:27-0500", MOMENT),
        ("2018-01-19 12:23:27", MOMENT),
        ("2018-01-19 12:23", MOMENT.replace(second=0)),
        ("2018-01-19", MOMENT.replace(hour=0, minute=0, second=0)),
        ("2018-01-19T12:23:27.5Z", MOMENT.replace(microsecond=500_000)),
        ("20180119T122327Z", MOMENT),
        ("2018-01-19 12:23:27 +0000", MOMENT),
        ("2018-01-19 12:23:27  0000", MOMENT),
        ("2018-01-19 07:23:27 -0500", MOMENT),
        ("2018-01-19 12:23:27 UTC", MOMENT),
        ("Fri, 19 Jan 2018 12:23:27 GMT", MOMENT),
        ("Fri, 19 Jan 2018 13:23:27 +0100", MOMENT),
        ("Fri, 19 Jan 2018 13:23:27  0100", MOMENT),
        ("Fri Jan 19 2018 13:23:27 GMT+0100 (CET)", MOMENT),
        ("19 Jan 2018 12:23", MOMENT.replace(second=0)),
        ("now", None),
        ("1516364607", None),
        ("2018-02-30", None),
        ("2018-01-19T25:00:00", None),
        ("2018-13-01", None),
        ("99999-01-01", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-14:00", None),
    ],
)
def test_dates(text: str, found: datetime | None) -> None:
    assert read_date(text) == found


@given(st.text(max_size=60) | st.from_regex(r"[0-9T:+ Zz.W-]{0,40}", fullmatch=True))
def test_no_date_raises(text: str) -> None:
    found = read_date(text)
    assert found is None or found.tzinfo is UTC


@given(st.datetimes(), st.sampled_from(["+00:00", "+0000", " 00:00", " 0000", "Z", ""]))
def test_every_moment_is_read(moment: datetime, zone: str) -> None:
    assert read_date(moment.isoformat(timespec="microseconds") + zone) == moment.replace(tzinfo=UTC)


@given(st.text(max_size=80) | st.from_regex(r"[a-z*/;=q.,0-9 +-]{0,80}", fullmatch=True))
def test_no_accept_raises(text: str) -> None:
    found = choose(text, has_html=False, has_text=False)
    assert found in (None, Form.VERSIONED, Form.JSON, Form.RAW)
