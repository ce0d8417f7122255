"""Whatever a machine can make of the API's document: answers are as it says, and never a fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.serve.conftest import serving, settings_of

PATIENT = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
EXAMPLES = 25
"""Of each operation; the long run and its figures: docs/reliability.md."""


def test_the_service_does_what_its_document_says(tmp_path: Path) -> None:
    plain = settings_of(tmp_path)
    free = plain.model_copy(update={"limits": plain.limits.model_copy(update={"rate": 0})})
    with serving(free) as running:
        document = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
        operations = [found.ok() for found in document.get_all_operations()]
        assert {operation.path for operation in operations} >= {"/v1/predict", "/v1/feedback"}
        for operation in operations:
            attempts(operation)


def attempts(operation: Any) -> None:
    """Some requests that fit the document; schemathesis judges each answer."""

    @given(case=operation.as_strategy())
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=PATIENT, derandomize=True)
    def once(case: Any) -> None:
        # What fits the document may still be no picture, or name no prediction.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    once()
