"""How PostgreSQL creates the tables: by account."""

import pytest
from sqlalchemy import create_engine
from sqlalchemy.schema import CreateTable

from restante.schema import distribution, tables

ENGINE = create_engine("postgresql+psycopg://")
DISTRIBUTED = {name for name, table in tables.metadata.tables.items() if distribution.is_distributed(table)}
SPREAD = sorted(DISTRIBUTED - {"accounts"})
KINDS = (DISTRIBUTED, distribution.REFERENCE, distribution.LOCAL)


def _made(name: str) -> str:
    return str(CreateTable(tables.metadata.tables[name]).compile(dialect=ENGINE.dialect))


@pytest.mark.parametrize("name", sorted(tables.metadata.tables))
def test_each_table_is_kept_in_one_way(name: str) -> None:
    assert sum(name in kind for kind in KINDS) == 1, "schema.distribution must say how PostgreSQL keeps it"


@pytest.mark.parametrize("name", SPREAD)
def test_every_key_of_a_distributed_table_names_the_account(name: str) -> None:
    made = _made(name)
    keys = [line for line in made.splitlines() if "PRIMARY KEY" in line or "UNIQUE" in line]
    assert keys, made
    assert all("account_id" in line for line in keys)
    spread = [f"REFERENCES {other} (" for other in SPREAD]
    for line in made.splitlines():
        if any(other in line for other in spread):
            assert "FOREIGN KEY (account_id, " in line
            assert "(account_id, id)" in line


@pytest.mark.parametrize("name", SPREAD)
def test_every_index_of_a_distributed_table_names_the_account_first_or_is_nearly_empty(name: str) -> None:
    for index in tables.metadata.tables[name].indexes:
        first = next(iter(index.columns)).name
        is_partial = index.dialect_options["postgresql"].get("where") is not None
        assert first == "account_id" or is_partial or index.name in UPKEEP, index.name


UPKEEP = {
    "ix_mailboxes_domain_id",  # for the foreign key to a reference table
    "ix_idempotency_keys_created_at",  # for background work over all accounts
    "uq_submissions_public_id",  # for the operator, who asks without an account
    "ix_submissions_source",
    "ix_submissions_queue_id",
    "ix_submissions_status",
    "ix_transfers_address",
}


@pytest.mark.parametrize("name", sorted(distribution.REFERENCE))
def test_a_reference_table_names_no_row_of_a_distributed_one(name: str) -> None:
    made = _made(name)
    assert not [other for other in DISTRIBUTED if f"REFERENCES {other} (" in made]


def test_sqlite_keeps_its_short_keys() -> None:
    made = str(CreateTable(tables.messages).compile(dialect=create_engine("sqlite://").dialect))
    assert "FOREIGN KEY(folder_id) REFERENCES folders (id)" in made
    assert "PRIMARY KEY" not in made.split("account_id", maxsplit=1)[0] or "AUTOINCREMENT" in made
