"""The kernel as this service uses it: layout, validation, replays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import Counterexample, Obligation
from acgs1.contracts.guards import InvariantTextError, guards_of
from acgs1.core.errors import ErrorItem
from acgs1.services.governance_synthesis.domain.repair import CedarPolicy, Repaired, repair
from acgs1.services.governance_synthesis.errors import PoliciesRefused

if TYPE_CHECKING:  # the kernel is loaded on first use, so that the service starts light
    import acgs1_kernel as kernel


class KernelCedar:
    """Cedar by the native kernel, in threads: its functions release the GIL."""

    async def checked(self, schema: str, policies: str) -> str:
        return await asyncio.to_thread(_checked, schema, policies)

    async def repair(self, constitution: Constitution, policies: str, obligations: list[Obligation]) -> Repaired:
        return await asyncio.to_thread(_repair, constitution, policies, obligations)


def items_of(diagnostics: Sequence[kernel.Diagnostic], pointer: str) -> tuple[ErrorItem, ...]:
    """The kernel's findings with their places."""
    return tuple(
        ErrorItem(f"{d.message} ({d.help})" if d.help else d.message, pointer, d.line, d.column) for d in diagnostics
    )


def _checked(schema: str, policies: str) -> str:
    import acgs1_kernel as kernel

    try:
        formatted = kernel.format_policies(policies)
        kernel.validate_policies(schema, formatted)
    except (kernel.CedarParseError, kernel.CedarValidationError) as error:
        items = items_of(error.diagnostics, "policies")
        raise PoliciesRefused(f"{len(items)} fault(s); the first: {items[0].detail}", items=items) from None
    return formatted


def _repair(constitution: Constitution, policies: str, obligations: list[Obligation]) -> Repaired:
    import acgs1_kernel as kernel

    ests = json.loads(kernel.policies_to_json(policies))["staticPolicies"]
    parsed = [CedarPolicy(i.id, i.effect, i.text, ests[i.id]) for i in kernel.parse_policies(policies)]
    return repair(constitution, parsed, obligations, _KernelWorkbench(constitution, policies))


class _KernelWorkbench:
    """The constitution's guards over the draft, ready to replay requests."""

    def __init__(self, constitution: Constitution, policies: str) -> None:
        import acgs1_kernel as kernel

        self._schema = constitution.schema_text
        try:
            guards, self._principles = guards_of(constitution)
            self._engine = kernel.Engine(self._schema, policies, guards)
        except InvariantTextError as error:
            raise PoliciesRefused(f"the constitution's guards: {error}") from None
        except (kernel.CedarParseError, kernel.CedarValidationError) as error:
            items = items_of(error.diagnostics, "guards")
            raise PoliciesRefused(f"the constitution's guards: {items[0].detail}", items=items) from None

    def guards_on(self, counterexample: Counterexample) -> list[str]:
        import acgs1_kernel as kernel

        try:
            decision = self._engine.authorize(
                counterexample.principal,
                counterexample.action,
                counterexample.resource,
                dict(counterexample.context),
                counterexample.entities,
            )
        except (kernel.RequestError, kernel.EntityError) as error:
            raise PoliciesRefused(f"a counterexample of the report is no request of this schema: {error}") from None
        return [self._principles[guard] for guard in decision.guard]

    def fits(self, policies: str) -> bool:
        import acgs1_kernel as kernel

        try:
            kernel.validate_policies(self._schema, policies)
        except (kernel.CedarParseError, kernel.CedarValidationError):
            return False
        return True
