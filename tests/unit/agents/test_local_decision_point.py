"""The decision point in the agent's own process."""

import pytest

from acgs1.agents.local import LocalDecisionPoint, RequestNotUnderstood
from acgs1.contracts.policy_governance import EvaluationRequest
from governance import airline, airline_policies


def test_a_request_that_the_schema_does_not_admit_is_refused():
    point = LocalDecisionPoint(airline(), airline_policies())
    request = {
        "subject": {"type": "Nobody", "id": "x"},
        "action": {"name": "no_such_action"},
        "resource": {"type": "Nothing", "id": "y"},
    }
    with pytest.raises(RequestNotUnderstood):
        point.decide(EvaluationRequest.model_validate(request))
