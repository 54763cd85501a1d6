"""What verdicts are worth."""

import json
from datetime import UTC, datetime

import pytest

from acgs1.contracts.formal_verification import Certificate, Obligation, RequestEnvironment, VerificationReport
from acgs1.services.formal_verification.domain import (
    certificate_body,
    certificate_flaws,
    overall_change,
    sign_certificate,
    signed_bytes,
    verdict_of,
)

PLACE = RequestEnvironment(principal="A", action='Action::"x"', resource="B")


def obligation(verdict: str) -> Obligation:
    return Obligation.model_validate(
        {
            "id": "o",
            "kind": "never",
            "principle_id": "p",
            "invariant_index": 0,
            "environment": PLACE,
            "verdict": verdict,
            "smtlib_sha256": None,
            "solver": "s",
            "milliseconds": 1.0,
        }
    )


def report(*verdicts: str) -> VerificationReport:
    obligations = [obligation(verdict) for verdict in verdicts]
    return VerificationReport(
        id="ver_1",
        policies_hash="0" * 64,
        schema_hash="1" * 64,
        constitution_hash="2" * 64,
        verdict=verdict_of(obligations),
        obligations=obligations,
        principles_without_invariants=[],
        certificate_hash=None,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        milliseconds=1.0,
    )


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        ([], "unknown"),
        (["proved"], "proved"),
        (["proved", "unknown"], "unknown"),
        (["proved", "unknown", "refuted"], "refuted"),
    ],
)
def test_only_all_proved_and_at_least_one_is_proved(verdicts: list[str], verdict: str):
    assert verdict_of(obligation(v) for v in verdicts) == verdict


@pytest.mark.parametrize("verdicts", [[], ["proved", "unknown"], ["refuted"]])
def test_there_is_no_certificate_body_for_less_than_everything_proved(verdicts: list[str]):
    with pytest.raises(ValueError, match="every one of them proved"):
        certificate_body(report(*verdicts), "k", datetime(2026, 1, 1, tzinfo=UTC))


def test_a_certificate_survives_its_own_json():
    body = certificate_body(report("proved"), "k", datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=UTC))
    certificate = sign_certificate(body, "kid", lambda data: data.hex()[:8])
    again = type(certificate).model_validate_json(certificate.model_dump_json())
    assert certificate_flaws(again) == []


def test_a_certificate_signed_before_it_said_how_strong_its_evidence_is_stays_good():
    body = certificate_body(report("proved"), "k", datetime(2026, 1, 1, tzinfo=UTC))
    old = body.model_copy(update={"format": "acgs1-certificate/1"})
    assert b'"strength"' in signed_bytes(body)
    assert b'"strength"' not in signed_bytes(old)
    kept = json.loads(sign_certificate(old, "kid", lambda data: data.hex()[:8]).model_dump_json())
    for each in kept["body"]["obligations"]:
        del each["strength"]
    assert certificate_flaws(Certificate.model_validate(kept)) == []


@pytest.mark.parametrize(
    ("changes", "change"),
    [
        ([], "unchanged"),
        (["unchanged", "narrows"], "narrows"),
        (["widens", "unchanged"], "widens"),
        (["widens", "narrows"], "both"),
        (["both", "unchanged"], "both"),
        (["widens", "unknown"], "unknown"),
    ],
)
def test_changes_add_up(changes: list, change: str):
    assert overall_change(changes) == change
