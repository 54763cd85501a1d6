"""The hot reads of policy_governance through its cache. Decisions are none of them."""

from typing import Final

from acgs1.contracts.policy_governance import Bundle, DecisionDocument, GovernanceState
from acgs1.optimizer.web import OUTAGE_SECONDS, Reads

SECONDS: Final = 1.0
"""Activations and the ledger's events are announced; this bounds what an announcement that was lost can cost."""
BUNDLE_SECONDS: Final = 5.0
"""The same where only the standing of a bundle can have changed: its content has its hash for an address."""
DECISION_SECONDS: Final = 60.0
"""A decision that was made never changes; what was asked is not spread further than it has to be."""


class GovernanceReads:
    """Readers of the service."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        # For readers: every step of a vote asks the ledger itself. What is done past this service is announced when it has been
        # followed, so how much of the bound is used is learned from how often it happens.
        reads.declare("ledger_state", GovernanceState, ttl=SECONDS, at_least=0.25)
        reads.declare("active_bundle", Bundle, ttl=SECONDS, stale_if_error=OUTAGE_SECONDS)
        reads.declare("bundle", Bundle, ttl=BUNDLE_SECONDS, stale_if_error=OUTAGE_SECONDS)
        reads.declare("decision", DecisionDocument, ttl=DECISION_SECONDS, stale_if_error=OUTAGE_SECONDS, shared=False)

    async def bundles_changed(self) -> None:
        await self._reads.forget("active_bundle", "bundle")

    async def ledger_moved(self) -> None:
        await self._reads.forget("ledger_state")
