"""Bundles loaded into the kernel."""

import json
from collections.abc import Sequence
from typing import Any

from acgs1.contracts.policy_governance import Bundle, EvaluationRequest
from acgs1.services.policy_governance.domain import SERVER_CONTEXT, Evaluated
from acgs1.services.policy_governance.errors import BadEvaluation, CertificateRejected


class KernelLoader:
    """Loads bundles; imports the kernel on first use."""

    def load(self, bundle: Bundle) -> "KernelEvaluator":
        import acgs1_kernel as kernel

        try:
            return KernelEvaluator(bundle)
        except kernel.KernelError as error:
            raise CertificateRejected(f"the kernel does not take what it certifies: {error}") from None


class KernelEvaluator:
    """One bundle in the kernel: policies and guards, strictly validated, sliced by scope."""

    def __init__(self, bundle: Bundle) -> None:
        import acgs1_kernel as kernel

        self.bundle = bundle
        self._kernel = kernel
        self._engine = kernel.Engine(bundle.schema_text, bundle.policies, bundle.guards)
        self._with_approval = _actions_with_approval(json.loads(kernel.schema_to_json(bundle.schema_text)))
        self._principles = dict(bundle.guard_principles)
        for policy in kernel.parse_policies(bundle.policies):
            if (named := policy.annotations.get("principle")) is not None:
                self._principles[policy.id] = named

    def evaluate(self, request: EvaluationRequest, *, approved: bool) -> Evaluated:
        context = {name: value for name, value in request.context.items() if name not in SERVER_CONTEXT}
        if self.asks_for_approval(request.action.name):
            context["approved"] = approved
        subject, resource = (request.subject.type, request.subject.id), (request.resource.type, request.resource.id)
        entities = [_entity(subject, request.subject.properties)]
        if resource != subject:
            entities.append(_entity(resource, request.resource.properties))
        try:
            decision = self._engine.authorize(subject, ("Action", request.action.name), resource, context, entities)
        except self._kernel.KernelError as error:
            raise BadEvaluation(str(error)) from None
        guards = tuple(decision.guard)
        policies = tuple(dict.fromkeys((*decision.reasons, *guards)))
        return Evaluated(decision.allowed, policies, guards, tuple(decision.errors))

    def asks_for_approval(self, action: str) -> bool:
        return action in self._with_approval

    def principles(self, policies: Sequence[str]) -> list[str]:
        named = (name.strip() for policy in policies for name in self._principles.get(policy, "").split(","))
        return list(dict.fromkeys(name for name in named if name))


def _entity(uid: tuple[str, str], attributes: dict[str, Any]) -> dict[str, Any]:
    return {"uid": {"type": uid[0], "id": uid[1]}, "attrs": attributes, "parents": []}


def _actions_with_approval(schema: dict[str, Any]) -> frozenset[str]:
    """Actions whose context has the attribute `approved`, from Cedar's JSON form of the schema."""
    found: set[str] = set()
    for namespace in schema.values():
        common: dict[str, dict[str, Any]] = namespace.get("commonTypes", {})
        for name, action in namespace.get("actions", {}).items():
            applies: dict[str, dict[str, Any]] = action.get("appliesTo") or {}
            context = applies.get("context", {})
            # A context is a record, or the name of a common type that is one.
            while (known := common.get(context.get("name") or context.get("type", ""))) is not None:
                context = known
            if "approved" in context.get("attributes", {}):
                found.add(name)
    return frozenset(found)
