"""What the people responsible for a run want to know of its candidate, asked of the texts and figures themselves."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.evolutionary_computation import Candidate, Oversight, OversightCheck, Tunable
from acgs1.contracts.formal_verification import Certificate
from acgs1.core.canonical import canonical_json
from acgs1.core.hashing import sha256_hex, text_hash
from acgs1.services.evolutionary_computation.domain.literals import Est, Path, comparisons, replaced, value_at

_NUMBER = re.compile(r"(?:-\s*)?[0-9]+")
_PADDING = re.compile(r"\s|(?<![0-9])0+(?=[0-9])")


def oversight_of(candidate: Candidate, checks: Sequence[OversightCheck]) -> Oversight:
    """Approved when something was checked and all of it holds."""
    approved = bool(checks) and all(check.finding is None for check in checks)
    outcome: Literal["approved", "withheld"] = "approved" if approved else "withheld"
    return Oversight(outcome=outcome, policies_hash=candidate.policies_hash, checks=list(checks))


def threshold_checks(
    baseline: str, old: Mapping[str, Est], candidate: Candidate, new: Mapping[str, Est], tunables: Sequence[Tunable]
) -> list[OversightCheck]:
    """`only_thresholds` and `within_bounds`; `old` and `new` are the policies of both texts in Cedar's JSON form, by id."""
    places = {_name(tunable): _place(old, tunable) for tunable in tunables}
    before = {name: value_at(old, place) for name, place in places.items()}
    after = {name: value_at(new, place) for name, place in places.items()}
    moved = sum(before[name] != after[name] for name in places)
    change = (
        _other_meaning(old, new, places, after)
        or _other_text(baseline, candidate.policies, moved)
        or _other_claims(candidate, after)
    )
    return [
        OversightCheck(name="only_thresholds", finding=change),
        OversightCheck(name="within_bounds", finding=_out_of_bounds(after, tunables)),
    ]


def certificate_check(
    candidate: Candidate, certificate: Certificate | None, constitution: Constitution
) -> OversightCheck:
    return OversightCheck(name="certificate", finding=_not_certified(candidate, certificate, constitution))


def agreement_check(candidate: Candidate, agreement: float, baseline: float) -> OversightCheck:
    """Both figures are shares of the labelled outcomes, counted anew."""
    finding = None
    if agreement != candidate.agreement:
        finding = f"it agrees with {agreement:.4%} of the labels, not with {candidate.agreement:.4%} as the search says"
    elif agreement < baseline:
        finding = f"it agrees with {agreement:.4%} of the labels, the present thresholds with {baseline:.4%}"
    return OversightCheck(name="agreement", finding=finding)


def _name(tunable: Tunable) -> str:
    return f"{tunable.policy_id}/{tunable.attribute}"


def _place(policies: Mapping[str, Est], tunable: Tunable) -> Path:
    # A run with none or several of them is refused.
    ((path, _),) = comparisons(policies[tunable.policy_id], tunable.attribute)
    return [tunable.policy_id, *path]


def _other_meaning(
    old: Mapping[str, Est], new: Mapping[str, Est], places: Mapping[str, Path], after: Mapping[str, Any]
) -> str | None:
    if missing := [name for name, value in after.items() if type(value) is not int]:
        return f"there is no whole number at {_list(missing)}"
    expected = dict(old)
    for name, (policy_id, *path) in places.items():
        expected[str(policy_id)] = replaced(expected[str(policy_id)], path, after[name])
    if set(expected) != set(new):
        return f"the policies are {_list(new)}, not {_list(old)}"
    changed = [policy_id for policy_id, policy in new.items() if policy != expected[policy_id]]
    return f"more than a tunable threshold has changed in {_list(changed)}" if changed else None


def _other_text(old: str, new: str, moved: int) -> str | None:
    """What a comment says is nobody's meaning, but people read it. `moved`: how many numbers may differ."""
    same_around = _NUMBER.sub("0", old) == _NUMBER.sub("0", new)
    numbers = ([_PADDING.sub("", number) for number in _NUMBER.findall(text)] for text in (old, new))
    if same_around and sum(a != b for a, b in zip(*numbers, strict=True)) == moved:
        return None
    return "the text around the thresholds has changed"


def _other_claims(candidate: Candidate, after: Mapping[str, Any]) -> str | None:
    if candidate.policies_hash != text_hash(candidate.policies):
        return "the candidate's hash is not that of its policies"
    if candidate.values != dict(after):
        return f"the thresholds in the text are {dict(after)}, those of the candidate {candidate.values}"
    return None


def _out_of_bounds(after: Mapping[str, Any], tunables: Sequence[Tunable]) -> str | None:
    for tunable in tunables:
        value = after[_name(tunable)]
        if type(value) is not int or not tunable.minimum <= value <= tunable.maximum:
            return f"`{_name(tunable)}` is {value}, outside of {tunable.minimum}..{tunable.maximum}"
    return None


def _not_certified(candidate: Candidate, certificate: Certificate | None, constitution: Constitution) -> str | None:
    if certificate is None:
        return "formal verification has no such certificate"
    body = certificate.body
    content_hash = sha256_hex(canonical_json(body.model_dump(mode="json")))
    if not content_hash == certificate.hash == candidate.certificate_hash:
        return "its content is not that of the certificate which the candidate names"
    about = {
        "policies": (body.policies_hash, text_hash(candidate.policies)),
        "schema": (body.schema_hash, text_hash(constitution.schema_text)),
        "constitution": (body.constitution_hash, constitution.hash),
    }
    if others := [what for what, (said, is_) in about.items() if said != is_]:
        return f"it is about another {', another '.join(others)}"
    return None if body.obligations else "it proves nothing: it has no obligations"


def _list(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "none"
