"""Rules of the house that no type checker holds: error maps, signatures, what may travel to the writer."""

import ast
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

import restante
import restante.core
from restante import errors
from restante.api.mail_api import errors as mail_api_errors
from restante.cli import running
from restante.http import problems
from restante.schema.connections import ReadConn, WriteConn
from restante.server import control
from restante.smtp import errors as smtp_errors

SOURCE = Path(restante.__file__).parent


def sample(kind: type[errors.RestanteError]) -> errors.RestanteError:
    if kind is errors.RateLimited:
        return errors.RateLimited("slow down", retry_after_seconds=7)
    if kind is errors.RemoteUnavailable:
        return errors.RemoteUnavailable("no answer", host="mx.example.org")
    if kind is errors.SendFailed:
        return errors.SendFailed("not now", submission="7a9b")
    return kind("as asked", code="asked", details={"field": "reason"})


def modules(package: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        yield importlib.import_module(found.name)


@pytest.mark.parametrize("kind", errors.walk(), ids=lambda kind: kind.__name__)
def test_errors_survive_the_way_to_the_writer_and_back(kind: type[errors.RestanteError]) -> None:
    error = sample(kind)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert again.__dict__ == error.__dict__
    assert str(again) == str(error)


@pytest.mark.parametrize("kind", errors.walk(), ids=lambda kind: kind.__name__)
def test_every_edge_has_an_answer_for_every_error(kind: type[errors.RestanteError]) -> None:
    error = sample(kind)
    for stage in get_args(smtp_errors.Stage):
        reply = smtp_errors.reply_for(error, stage)
        assert 400 <= reply.code <= 599
        assert str(reply.code)[0] == reply.enhanced[0]
    assert any(isinstance(error, known) for known, _ in running.EXIT_CODES)
    for problem in (problems.from_error(error), mail_api_errors.explain(error)):
        assert 400 <= problem.status <= 599
        assert problem.message


def test_core_functions_take_a_connection_and_then_the_account() -> None:
    """There is no look-up by bare id: what names no account is listed here with its reason."""
    found = set()
    for module in modules(restante.core):
        for name, fn in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("_") or fn.__module__ != module.__name__:
                continue
            parameters = list(inspect.signature(fn).parameters.values())
            if not parameters or parameters[0].name != "conn":
                continue
            assert parameters[0].annotation in (ReadConn, WriteConn), f"{module.__name__}.{name}"
            second = parameters[1].name if len(parameters) > 1 else ""
            if second not in ("account_id", "principal", "who"):
                found.add(f"{module.__name__.removeprefix('restante.core.')}.{name}")
    assert found == WITHOUT_ACCOUNT


WITHOUT_ACCOUNT = {
    # from a credential, a login name or an envelope address to its account
    "access.authenticate_token",
    "mailboxes.find_exact",
    "mailboxes.find_login",
    "mailboxes.targets",
    "routing.postmaster",
    "routing.resolve",
    "tokens.find_held",
    # refusals know only the domain that they were for
    "inbound.record_rejected",
    # accounts themselves
    "accounts.create",
    "accounts.find",
    "accounts.list_accounts",
    # messages for recipients of several accounts: each target names its own
    "delivery.deliver",
    "deliveries.deliver_encoded",
    "delivery.place",
    "events.record_together",
    # one call in a form of its own: the account stands in it
    "submission.accept_encoded",
    "transfer.store_report",
    # for the operator, and for the standing jobs of the instance
    "automation_runs.list_behind",
    "automation_courier.list_waiting",
    "automation_courier.release_all",
    "automations.count_sealed",
    "automations.forget_secrets",
    "automations.is_any_active",
    "contents.list_unused",
    "domains.count_keys",
    "domains.find_by_name",
    "domains.forget_keys",
    "domains.list_all",
    "domains.list_expired",
    "domains.list_page",
    "domains.list_pending",
    "domains.list_proved",
    "domains.list_unproved",
    "idempotency.remove_expired",
    "indexing.forget_done",
    "indexing.count_queued",
    "jobs.claim",
    "jobs.complete",
    "jobs.hasten",
    "jobs.release_all",
    "jobs.settle",
    "jobs.renew",
    "jobs.next_run_at",
    "jobs.put_back",
    "leases.release_all",
    "mailboxes.list_admins",
    "submission.list_releasable",
    "mailboxes.list_all",
    "mailboxes.list_page",
    "permissions.list_page",
    "removal.list_accounts",
    "removal.list_mailboxes",
    "retention.forecast.record_usage",  # of all accounts, once a day
    "retention.runs.release_all",
    "arrivals.surveying.list_followed",
    "inbound.find_uncounted",
    "tokens.find_by_id",
    "tokens.list_all",
    "verification.count_all",
    "webhooks.count_sealed",
    "webhooks.is_any_active",  # when the courier process starts
    "webhooks.forget_secrets",
    "webhook_courier.list_waiting",
    "webhook_courier.release_all",
}


def test_functions_sent_to_the_database_can_travel() -> None:
    """``db.read(fn, ...)`` and ``db.write(fn, ...)`` name module-level functions."""
    wrong = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            is_unit = node.func.attr in ("read", "write") and ast.unparse(node.func.value).endswith("db")
            if is_unit and not isinstance(node.args[0], ast.Name | ast.Attribute):
                wrong.append(f"{path}:{node.lineno}")
    assert wrong == []


def test_only_storage_and_fulltext_speak_one_engines_sql() -> None:
    words = ("PRAGMA", "rowid", "MATCH", "json_each", "INSERT OR ", "ON CONFLICT", "tsvector")
    allowed = {"schema/fulltext/sqlite.py", "schema/fulltext/postgres.py"}
    wrong = []
    for folder in ("core", "schema", "services"):
        for path in (SOURCE / folder).rglob("*.py"):
            name = str(path.relative_to(SOURCE))
            strings = [
                node.value
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
            docs = {ast.get_docstring(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(
                node, ast.Module | ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)}  # fmt: skip
            texts = [text for text in strings if inspect.cleandoc(text) not in docs]
            wrong += [f"{name}: {text!r}" for text in texts for word in words if word in text and name not in allowed]
    assert wrong == []


def test_every_module_says_what_lives_there() -> None:
    silent = [
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text())) and path.read_text().strip()
    ]
    assert silent == []


def test_the_control_socket_carries_every_error_back() -> None:
    assert {kind.__name__ for kind in errors.walk()} <= set(control._KINDS)
