"""How PostgreSQL keeps each table, so that tenants can be spread over machines by account (ADR 0008).

*Distributed*, as all that have an ``account_id`` and are not listed here: the account is the first column of every key,
and foreign keys between such tables name it too.
``reference``: small, read by everyone, the same on every machine; names that are unique in the instance live there.
``local``: on one machine. SQLite has one file and keeps its short keys: the differences are only in what is created.
"""

from typing import Any

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ForeignKeyConstraint, PrimaryKeyConstraint, Table, UniqueConstraint
from sqlalchemy.sql.compiler import DDLCompiler

REFERENCE = frozenset({"domains", "dkim_keys", "addresses", "tokens", "permissions"})
LOCAL = frozenset({"meta", "jobs"})

ACCOUNTS = "accounts"  # distributed by its own id


def is_distributed(table: Table) -> bool:
    """Whether the rows of a table are where their account is."""
    return table.name == ACCOUNTS or _names_account(table)


def _names_account(table: Table) -> bool:
    return "account_id" in table.columns and table.name not in REFERENCE | LOCAL


def _with_account(compiler: DDLCompiler, table: Table, columns: list[str]) -> str:
    found = columns if not _names_account(table) or "account_id" in columns else ["account_id", *columns]
    return ", ".join(map(compiler.preparer.quote, found))


def _named(compiler: DDLCompiler, constraint: Any) -> str:
    formatted = compiler.preparer.format_constraint(constraint)
    return f"CONSTRAINT {formatted} " if formatted else ""


@compiles(PrimaryKeyConstraint, "postgresql")
def _primary_key(constraint: PrimaryKeyConstraint, compiler: DDLCompiler, **_: Any) -> str:
    columns = _with_account(compiler, constraint.table, [column.name for column in constraint.columns])
    return f"{_named(compiler, constraint)}PRIMARY KEY ({columns})"


@compiles(UniqueConstraint, "postgresql")
def _unique(constraint: UniqueConstraint, compiler: DDLCompiler, **_: Any) -> str:
    columns = _with_account(compiler, constraint.table, [column.name for column in constraint.columns])
    return f"{_named(compiler, constraint)}UNIQUE ({columns})"


@compiles(ForeignKeyConstraint, "postgresql")
def _foreign_key(constraint: ForeignKeyConstraint, compiler: DDLCompiler, **kwargs: Any) -> str | None:
    table, target = constraint.table, constraint.referred_table
    if not is_distributed(target):
        return str(compiler.visit_foreign_key_constraint(constraint, **kwargs))
    if not is_distributed(table):
        return None  # a row that is on every machine cannot name one that is on one
    if target.name == ACCOUNTS:
        says_more = any(_names_account(other.referred_table) for other in table.foreign_key_constraints)
        return None if says_more else str(compiler.visit_foreign_key_constraint(constraint, **kwargs))
    own = _with_account(compiler, table, [element.parent.name for element in constraint.elements])
    others = _with_account(compiler, target, [element.column.name for element in constraint.elements])
    named = compiler.preparer.quote(target.name)
    return f"{_named(compiler, constraint)}FOREIGN KEY ({own}) REFERENCES {named} ({others})"
