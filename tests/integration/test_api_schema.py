"""Every operation keeps to its OpenAPI document, whatever is sent: no 5xx, no status or shape that is not declared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import booleans
from schemathesis import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.api.rules import RULES
from service.api.service import Limits
from tests.serving import Served, serving

EXAMPLES = 8
ENDLESS = Limits(requests_burst=1e9, failures_burst=1e9)
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@schemathesis.serializer("application/zip")
def as_it_is(_: schemathesis.SerializationContext, value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("schema"), limits=ENDLESS) as found:
        found.submit()
        yield found


@pytest.fixture(scope="module")
def schema(served: Served) -> BaseSchema:
    return schemathesis.openapi.from_asgi("/api/v1/openapi.json", served.app)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("rule", RULES)
def test_every_operation_keeps_to_its_schema(
    served: Served, schema: BaseSchema, rule: str, mode: GenerationMode
) -> None:
    method, path = rule.split(" ")
    operation = schema[path][method]
    cases = operation.as_strategy(generation_mode=mode)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, is_known=booleans())
    def holds(case: schemathesis.Case[Any], is_known: bool) -> None:  # noqa: FBT001  # hypothesis calls it by name
        if is_known and "sweep" in case.path_parameters:
            case.path_parameters["sweep"] = "minimal"
        case.call_and_validate(headers=served.as_("operator"), checks=CHECKS)

    with contextlib.suppress(Unsatisfiable):  # what takes nothing can be sent nothing wrong
        holds()
