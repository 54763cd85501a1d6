"""What is signed of an obligation is the same whether it was proved at once or from what was proved before."""

from typing import Any

import pytest

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import Obligation
from acgs1.services.formal_verification.adapters.kernel.sessions import Sessions

SCHEMA = """
entity Agent { trust: Long, region: String };
entity Account { frozen: Bool };
action pay appliesTo { principal: [Agent], resource: [Account], context: { amount: Long, approved: Bool } };
"""
INVARIANTS = {
    "never": {"kind": "never", "when": "resource.frozen && context.amount > 10"},
    "indifferent_to": {"kind": "indifferent_to", "attributes": ["principal.region"]},
    "monotone_in": {"kind": "monotone_in", "attribute": "principal.trust"},
}
FORBID = '@id("stop") forbid(principal, action, resource) when { resource.frozen };'
PERMIT = '@id("p{0}") permit(principal, action, resource) when {{ principal.trust > {0} && context.amount < {0} }};'
SAME = PERMIT.replace("principal.trust > {0}", 'principal.trust > {0} && (principal.region == "eu" || true)')


def proved(sessions: Sessions, policies: str) -> dict[str, Obligation]:
    principles = [
        {"id": kind.replace("_", "-"), "title": "p", "text": "p", "category": "c", "priority": 1, "invariants": [said]}
        for kind, said in INVARIANTS.items()
    ]
    law = Constitution.model_validate({"name": "law", "schema_text": SCHEMA, "principles": principles})
    session = sessions.open("verify", {"policies": policies, "constitution": law.model_dump(mode="json")})
    found: list[Any] = [session.run(index) for index in range(len(session.plan()["items"]))]
    obligations = [Obligation.model_validate(each) for each in found]
    return {o.kind: o for o in obligations if o.kind in INVARIANTS}


def fresh() -> Sessions:
    return Sessions(solver_timeout_ms=10_000, second_opinion_ms=0)


@pytest.mark.parametrize("changed", [1, 20, 30])
def test_the_hash_that_is_signed_is_that_of_the_whole_script_also_after_a_change(changed: int):
    before = [SAME.format(number) for number in range(1, 21)]
    after = [*before[: changed - 1], SAME.format(50 + changed), *before[changed:], FORBID]
    sessions = fresh()
    proved(sessions, "\n".join([*before, FORBID]))
    step, whole = proved(sessions, "\n".join(after)), proved(fresh(), "\n".join(after))
    assert {kind: o.verdict for kind, o in step.items()} == dict.fromkeys(INVARIANTS, "proved")
    assert {kind: o.strength for kind, o in step.items()} == dict.fromkeys(INVARIANTS, "earlier_proof")
    hashes = {kind: o.smtlib_sha256 for kind, o in whole.items()}
    assert {kind: o.smtlib_sha256 for kind, o in step.items()} == hashes
    assert hashes["never"] is not None


def test_what_no_policy_reads_is_no_decision_of_the_compiler():
    found = proved(fresh(), PERMIT.format(5) + FORBID)
    assert found["indifferent_to"].strength == "identity"
    assert found["never"].strength != "identity"
