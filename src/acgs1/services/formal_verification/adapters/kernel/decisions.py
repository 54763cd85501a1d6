"""Policy sets as the decision point reads them: one policy that cannot be evaluated denies the request.

The symbolic compiler reads a set as the Cedar specification does, which skips such a policy. So a question about decisions may
not be put about the set as it stands. It is put about another set, which the specification reads as the decision point reads
this one: each permit also demands that every policy that can fail be evaluable. Cedar cannot say "fails", but a condition
`c || true` is true exactly where `c` can be evaluated, and where it cannot, the permit that holds it fails and is skipped.
"""

from collections.abc import Mapping

import acgs1_kernel as kernel

from acgs1.services.formal_verification.adapters.kernel import explain
from acgs1.services.formal_verification.adapters.kernel.cedar import CedarPolicy, Environment, Slice
from acgs1.services.formal_verification.adapters.kernel.forms import (
    TRUE,
    Json,
    condition,
    conjunction,
    form_of,
    text_of,
)
from acgs1.services.formal_verification.adapters.kernel.prover import Answer, Provers
from acgs1.services.formal_verification.adapters.kernel.schema_view import split_uid
from acgs1.services.formal_verification.adapters.kernel.shrink import Case


class Decisions:
    """Texts whose meaning to the provers is what the decision point decides."""

    def __init__(self, schema: str, provers: Provers) -> None:
        self._schema = schema
        self._provers = provers
        self._failures: dict[tuple[str, Environment], Answer] = {}

    def failure(self, policy: CedarPolicy, environment: Environment) -> Answer:
        """Whether `policy` can always be evaluated; asked once."""
        key = policy.hash, environment
        answer = self._failures.get(key)
        if answer is None:
            answer = self._provers.ask("never_errors", self._schema, environment, policy.text, None, policy.id)
            self._failures[key] = answer
        return answer

    def text(self, policies: Slice, environment: Environment) -> str:
        """A set that, by the specification, allows in `environment` exactly what the decision point allows by `policies`."""
        # What is not proved free of failures is taken to fail: then the demand is superfluous, not wrong.
        fragile = [p for p in policies.policies if self.failure(p, environment).verdict != "proved"]
        if not fragile:
            return policies.text
        demands: list[Json] = [{"kind": "when", "body": _evaluable(policy)} for policy in fragile]
        parts = [p.text for p in policies.policies if p.effect == "forbid"]
        permits = {
            policy.id: _demanding(policy, environment, demands)
            for policy in policies.policies
            if policy.effect == "permit"
        }
        if permits:
            parts.append(text_of(permits))
        return "\n".join(parts)


def why_denied(decision: kernel.Decision, case: Case, policies: Mapping[str, CedarPolicy]) -> str:
    """Why the decision point denied `case`, in words. `policies` are those that it decided by, by id."""
    if failed := sorted(decision.errored):
        facts = explain.facts(case, *(policies[policy_id].text for policy_id in failed))
        return f"{explain.policies_words(failed, '')} cannot be evaluated{facts}"
    if decision.reasons:
        return f"denied by {explain.policies_words(sorted(decision.reasons), '')}"
    return "no policy permits it"


def _demanding(policy: CedarPolicy, environment: Environment, demands: list[Json]) -> Json:
    """The permit with further demands. Those are about one environment, so it is bound to it."""
    principal, action, resource = environment
    kind, name = split_uid(action)
    form = form_of(policy.text)
    return {
        **form,
        "principal": {"op": "is", "entity_type": principal},
        "action": {"op": "==", "entity": {"type": kind, "id": name}},
        "resource": {"op": "is", "entity_type": resource},
        "conditions": [*demands, *({"kind": "when", "body": each} for each in _scope(form)), *form["conditions"]],
    }


def _evaluable(policy: CedarPolicy) -> Json:
    """True where the policy can be evaluated; fails where it cannot."""
    form = form_of(policy.text)
    body = conjunction([*_scope(form), condition(form)])
    return {"||": {"left": body, "right": TRUE}}


def _scope(form: Json) -> list[Json]:
    """What the scope asks of the principal and the resource, types aside: those and the action are the environment's."""
    found: list[Json] = []
    for variable in ("principal", "resource"):
        constraint = form[variable]
        operator = "in" if "in" in constraint else constraint["op"]
        if operator in {"==", "in"}:
            entity = constraint["in"]["entity"] if "in" in constraint else constraint["entity"]
            found.append({operator: {"left": {"Var": variable}, "right": {"Value": {"__entity": entity}}}})
    return found
