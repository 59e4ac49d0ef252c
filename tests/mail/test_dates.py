"""Date fields: the grammar, its obsolete forms, and what else is seen."""

import pytest

from restante.mail import dates


@pytest.mark.parametrize(
    ("written", "utc"),
    [
        ("Fri, 21 Nov 1997 09:55:06 -0600", "1997-11-21T15:55:06+00:00"),
        ("21 Nov 97 09:55:06 GMT", "1997-11-21T09:55:06+00:00"),
        ("Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", "1997-11-21T15:55:06+00:00"),
        ("Thu,\t13 Feb 1969 23:32 -0330 (Newfoundland Time)", "1969-02-14T03:02:00+00:00"),
        ("Fri Nov 21 09:55:06 1997", "1997-11-21T09:55:06+00:00"),
        ("Fri Nov 21 09:55:06 EST 1997", "1997-11-21T14:55:06+00:00"),
        ("1997-11-21T09:55:06Z", "1997-11-21T09:55:06+00:00"),
        ("21-Nov-1997 09:55", "1997-11-21T09:55:00+00:00"),
        ("Tue, 1 Jul 2003 10:52:37 +0200 (CEST)", "2003-07-01T08:52:37+00:00"),
        ("Nov 21, 1997 9:55 PM", "1997-11-21T21:55:00+00:00"),
        ("Sat, 5 Aug 2017 24:00:00 +0000", "2017-08-06T00:00:00+00:00"),
        ("Wed, 17 Jul 2024 11:02:03 GMT+02:00", "2024-07-17T09:02:03+00:00"),
        ("Do, 13 Mrz 2003 10:11:12 +0100", "2003-03-13T09:11:12+00:00"),
        ("Sat, 31 Dec 2016 23:59:60 +0000", "2017-01-01T00:00:00+00:00"),
        ("Wed Jun 10 2020 15:41:32 GMT+0200 (CEST)", "2020-06-10T13:41:32+00:00"),
        ("Fri, 21 Nov 102 09:55:06 +0000", "2002-11-21T09:55:06+00:00"),
        ("Fri, 21 Nov 1997 09:55:06 +9959", "1997-11-21T09:55:06+00:00"),
        ("Fri, 21 Nov 1997", "1997-11-21T00:00:00+00:00"),
    ],
)
def test_dates(written: str, utc: str) -> None:
    moment = dates.parse(written)
    assert moment is not None
    assert moment.isoformat() == utc


@pytest.mark.parametrize(
    "written",
    [
        "",
        "junk",
        "Mon, 32 Jan 2020 00:00:00 +0000",
        "Fri, 21 Xyz 1997 00:00:00",
        "Wed, 15 Dec 2010    59:10 -0500",
        "31 Feb 2020 10:00",
        "1 Jan 0000 00:00",
        "1 Jan 10000 00:00:00",
        "-1 Jan 2020",
        "(" * 5000,
        "1" * 5000,
    ],
)
def test_no_dates(written: str) -> None:
    assert dates.parse(written) is None
