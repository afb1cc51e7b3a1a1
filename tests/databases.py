"""A new, empty store for a test on each kind of database: a suite takes `store_url` and runs on all of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgresql

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A database server of the tests' own, for as long as they run."""
    if postgresql.binaries() is None:
        pytest.skip("no PostgreSQL server is installed here")
    with postgresql.server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, as `Store.open` takes it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'service.db'}"
    return new_database(request.getfixturevalue("postgresql_url"))


def new_database(url: str) -> str:
    """The URL of a new, empty place in PostgreSQL: a schema, which is made in no time, where a database is not."""
    import psycopg

    name = f"test{next(_numbers)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return f"{url}&options=-csearch_path%3D{name}"
