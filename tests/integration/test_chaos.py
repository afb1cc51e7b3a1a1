"""The quickest faults of `make chaos`, one seed each: whatever breaks the promise is noticed by `make test`, too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.house import House
from tests.chaos.run import FAULTS, TESTED, TESTED_SEED, References, disturb


@pytest.fixture(scope="module")
def references() -> Iterator[References]:
    with House() as house:
        yield References(house)


@pytest.mark.slow
@pytest.mark.parametrize("name", TESTED)
def test_a_fault_breaks_nothing(references: References, name: str) -> None:
    fault = next(fault for fault in FAULTS if fault.name == name)
    _, problems = disturb(fault, TESTED_SEED, references)
    assert problems == []
