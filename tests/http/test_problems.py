"""What strangers are told of trouble that is the operator's."""

from collections.abc import Callable

import pytest

from restante import errors
from restante.api.mail_api import errors as mail_api
from restante.api.mailcare import errors as mailcare
from restante.api.native import errors as native
from restante.http import problems
from restante.http.answers import Answer
from restante.http.problems import AWAY, INTERNAL, Problem

DIALECTS = [(mail_api.explain, mail_api.render), (mailcare.explain, mailcare.render), (native.explain, native.render)]
Explain = Callable[[errors.RestanteError], Problem]


@pytest.mark.parametrize("code", sorted(INTERNAL))
@pytest.mark.parametrize(("explain", "render"), DIALECTS, ids=["mail-api", "mailcare", "native"])
def test_no_answer_names_hosts_and_paths(explain: Explain, render: Callable[[Problem], Answer], code: str) -> None:
    """Anybody may ask: a token is looked up in the database that is away."""
    error = errors.Unavailable("cannot reach mail on db.internal:5432 as user restante", code=code)
    answer = render(explain(error))
    assert answer.status in (500, 503)
    assert dict(answer.headers)[b"retry-after"] == b"5"
    assert AWAY.encode() in answer.body
    assert b"db.internal" not in answer.body


def test_what_helps_the_caller_is_told() -> None:
    assert problems.from_error(errors.Unavailable("Too many at once.", code="busy")).message == "Too many at once."
