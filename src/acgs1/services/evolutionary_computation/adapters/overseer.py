"""The oversight of a run's candidate: texts read by the kernel, labels decided anew by it, the certificate as it is kept."""

from __future__ import annotations

import asyncio
import json
from typing import Protocol

from acgs1.contracts.evolutionary_computation import Candidate, NewRun, OversightCheck
from acgs1.contracts.formal_verification import Certificate
from acgs1.services.evolutionary_computation.adapters.bench import engine_of, engine_requests, guards_text
from acgs1.services.evolutionary_computation.domain.literals import Est
from acgs1.services.evolutionary_computation.domain.oversight import (
    agreement_check,
    certificate_check,
    threshold_checks,
)
from acgs1.services.evolutionary_computation.errors import PoliciesRefused


class Certificates(Protocol):
    """Where certificates are kept."""

    async def certificate(self, certificate_hash: str) -> Certificate | None: ...


class KernelOverseer:
    """Takes nothing from the search: no score, no remembered fitness, no place of a threshold."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates

    async def review(self, request: NewRun, candidate: Candidate) -> list[OversightCheck]:
        certificate = await self._certificates.certificate(candidate.certificate_hash)
        return [
            *await asyncio.to_thread(_of_the_texts, request, candidate),
            certificate_check(candidate, certificate, request.constitution),
        ]


def _of_the_texts(request: NewRun, candidate: Candidate) -> list[OversightCheck]:
    schema, guards = request.constitution.schema_text, guards_text(request)
    try:
        after = engine_of(schema, candidate.policies, guards)
    except PoliciesRefused as refused:
        return [OversightCheck(name="only_thresholds", finding=f"its policies cannot be loaded: {refused.detail}")]
    before = engine_of(schema, request.policies, guards)
    old, new = _policies(request.policies), _policies(candidate.policies)
    checks = threshold_checks(request.policies, old, candidate, new, request.tunables)
    requests = engine_requests(before, request)
    labels = [outcome.should == "allow" for outcome in request.outcomes]
    agreement, baseline = (
        sum(engine.authorize(*one).allowed is should for one, should in zip(requests, labels, strict=True))
        / len(labels)
        for engine in (after, before)
    )
    return [*checks, agreement_check(candidate, agreement, baseline)]


def _policies(text: str) -> dict[str, Est]:
    import acgs1_kernel as kernel

    return json.loads(kernel.policies_to_json(text))["staticPolicies"]
