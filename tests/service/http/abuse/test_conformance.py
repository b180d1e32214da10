"""A short run of what `make test-api` does at length."""

from importlib.util import find_spec

import pytest
from conformance import SETTINGS, check

from service.capacity.child import served


@pytest.mark.skipif(find_spec("schemathesis") is None, reason="needs schemathesis")
def test_server_answers_as_its_description_says():
    with served(environment=SETTINGS) as server:
        outcome = check(server, max_examples=5, phases="examples,fuzzing")

    assert outcome.passed, outcome.report
    assert outcome.cases > 60
