"""The PostgreSQL clusters that tests and measurements run on."""

import psycopg
import pytest

from tools.postgres import Cluster


def test_each_test_has_a_database_of_its_own(postgres_cluster: Cluster, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as conn:
        assert conn.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone() is not None
        conn.execute("INSERT INTO meta VALUES ('mine', 'yes')")
    with psycopg.connect(postgres_cluster.url("postgres")) as conn, pytest.raises(psycopg.errors.UndefinedTable):
        conn.execute("SELECT value FROM meta")


def test_a_stopped_cluster_refuses_and_starts_again(postgres_cluster: Cluster, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as conn:
        conn.execute("INSERT INTO meta VALUES ('kept', 'yes')")
    postgres_cluster.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres_url)
    postgres_cluster.start()
    with psycopg.connect(postgres_url) as conn:
        assert conn.execute("SELECT value FROM meta WHERE key = 'kept'").fetchone() == ("yes",)
