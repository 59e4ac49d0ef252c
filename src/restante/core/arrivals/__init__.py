"""Arrivals: the received messages of a whole account as one list, to be filtered and counted at any size.

Rows of their own that follow the event log (``surveying``, ``following``), for accounts that ask for them; ``lists``
and ``days`` read them. See docs/decisions/0013.
"""

from restante.core.arrivals.days import Daily, Day, daily
from restante.core.arrivals.following import advance, discard, purge
from restante.core.arrivals.lists import ArrivalPage, Total, find, knows_inbox, knows_sender, list_page
from restante.core.arrivals.query import Filter
from restante.core.arrivals.rows import Arrival, Correspondent
from restante.core.arrivals.surveying import is_current, list_followed, survey

__all__ = [
    "Arrival",
    "ArrivalPage",
    "Correspondent",
    "Daily",
    "Day",
    "Filter",
    "Total",
    "advance",
    "daily",
    "discard",
    "find",
    "is_current",
    "knows_inbox",
    "knows_sender",
    "list_followed",
    "list_page",
    "purge",
    "survey",
]
