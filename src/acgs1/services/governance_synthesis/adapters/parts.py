"""The other parts over HTTP: constitution, prover, policy governance, log, monitor."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, RootModel

from acgs1.contracts.common import Message, Page
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.constitutional_ai import ConstitutionDocument
from acgs1.contracts.formal_verification import Certificate, NewVerification, VerificationProgress, VerificationReport
from acgs1.contracts.integrity import Entry, InclusionProof, leaf_content
from acgs1.contracts.policy_governance import Bundle, NewBundle, NewProposal, Proposal
from acgs1.core.clock import Clock
from acgs1.core.merkle import leaf_hash, verify_inclusion
from acgs1.kit.clients import PartClient
from acgs1.kit.errors import DependencyUnavailable
from acgs1.kit.notes import Checkpoint, NoteError, parse_note
from acgs1.kit.platform import Platform
from acgs1.kit.reporting import workflow_runs
from acgs1.services.governance_synthesis.ports import Logged, Run
from acgs1.services.governance_synthesis.runs import seconds_of

_PROOF_SECONDS = 600.0
_WAIT_SECONDS = 10


class _Answer(RootModel[VerificationReport | VerificationProgress]):
    """A report, or how far it is."""


class _Nothing(Message):
    """An empty body."""


class _Execution(Message):
    """What the console's monitor takes for a workflow that has ended."""

    workflow_type: str
    execution_time: float
    success: bool
    compliance_score: float | None
    workflow_id: str


class _Ignored(BaseModel):
    """An answer that nobody looks at."""

    model_config = ConfigDict(extra="ignore")


class HttpParts:
    """See `ports.Parts`."""

    def __init__(self, platform: Platform) -> None:
        self._constitutional = platform.client("constitutional_ai")
        self._prover = platform.client("formal_verification")
        self._governance = platform.client("policy_governance")
        self._log = platform.client("integrity")

    async def in_force(self) -> Constitution:
        return (await self._constitutional.get("/api/v1/constitutions/in-force", ConstitutionDocument)).constitution

    async def constitution(self, digest: str) -> Constitution:
        return (await self._constitutional.get(f"/api/v1/constitutions/{digest}", ConstitutionDocument)).constitution

    async def verify(self, policies: str, constitution: Constitution, key: str) -> str:
        body = NewVerification(policies=policies, constitution=constitution, deadline_seconds=_PROOF_SECONDS)
        path = "/api/v1/verifications?wait=0"
        answer = await self._prover.post(path, body, _Answer, deadline=30.0, idempotency_key=key, repeatable=True)
        return answer.root.id

    async def verification(self, verification_id: str) -> VerificationReport | VerificationProgress:
        path = f"/api/v1/verifications/{verification_id}?wait={_WAIT_SECONDS}"
        return (await self._prover.get(path, _Answer, deadline=_WAIT_SECONDS + 10.0)).root

    async def certificate(self, digest: str) -> Certificate:
        return await self._prover.get(f"/api/v1/certificates/{digest}", Certificate)

    async def build(self, bundle: NewBundle, by: str, key: str) -> Bundle:
        path = f"/api/v1/bundles?on_behalf_of={by}"
        return await self._governance.post(path, bundle, Bundle, deadline=20.0, idempotency_key=key, repeatable=True)

    async def bundle(self, digest: str) -> Bundle:
        return await self._governance.get(f"/api/v1/bundles/{digest}", Bundle)

    async def proposal_of(self, bundle_hash: str) -> Proposal | None:
        cursor: str | None = None
        while True:
            params: dict[str, Any] = {"limit": 200} | ({"cursor": cursor} if cursor else {})
            page = await self._governance.get("/api/v1/proposals", Page[Proposal], params=params)
            for proposal in page.items:
                if proposal.bundle_hash == bundle_hash and proposal.status not in {"rejected", "cancelled"}:
                    return proposal
            cursor = page.next_cursor
            if cursor is None:
                return None

    async def propose(self, proposal: NewProposal, by: str, key: str) -> Proposal:
        path = f"/api/v1/proposals?on_behalf_of={by}"
        return await self._governance.post(path, proposal, Proposal, deadline=60.0, idempotency_key=key)

    async def proposal(self, proposal_id: str) -> Proposal:
        return await self._governance.get(f"/api/v1/proposals/{proposal_id}", Proposal)

    async def finalize(self, proposal_id: str) -> Proposal:
        path = f"/api/v1/proposals/{proposal_id}/finalization"
        return await self._governance.post(path, _Nothing(), Proposal, deadline=60.0)

    async def activate(self, bundle_hash: str, by: str) -> Bundle:
        path = f"/api/v1/bundles/{bundle_hash}/activation?on_behalf_of={by}"
        return await self._governance.post(path, _Nothing(), Bundle, deadline=20.0)

    async def logged(self, kind: str, subject: str, since: datetime) -> Logged | None:
        params = {"type": kind, "subject": subject, "since": since.isoformat(), "limit": 1}
        found = await self._log.get("/api/v1/entries", Page[Entry], params=params)
        if not found.items:
            return None
        entry = found.items[0]
        proof = await self._log.get("/api/v1/proofs/inclusion", InclusionProof, params={"event_id": entry.event.id})
        _check(entry, proof)
        return Logged(entry.event.id, entry.leaf_index, proof.tree_size)


class HttpMonitor:
    """See `ports.Monitor`."""

    def __init__(self, client: PartClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    def running(self, run_id: str) -> None:
        workflow_runs().started("policy_creation", run_id)

    async def ended(self, run: Run) -> None:
        # A vote that says no is governance that works.
        success = run.status == "completed"
        body = _Execution(
            workflow_type="policy_creation",
            execution_time=seconds_of(run, self._clock.now()),
            success=success,
            compliance_score=1.0 if success else None,
            workflow_id=run.id,
        )
        at = run.finished_at.timestamp() if run.finished_at else 0
        key = f"{run.id}.{run.status}.{at}"
        await self._client.post("/api/v1/monitoring/workflows/executions", body, _Ignored, idempotency_key=key)


def _check(entry: Entry, proof: InclusionProof) -> None:
    """That the entry, as it was read, is a leaf of the tree of the checkpoint. Raises DependencyUnavailable: a log that says otherwise is
    to be asked again, and the workflow shows why it waits."""
    leaf = leaf_hash(leaf_content(entry.event, entry.logged_at))
    try:
        head = Checkpoint.from_text(parse_note(proof.checkpoint).text).head
        holds = verify_inclusion(entry.leaf_index, leaf, head, [bytes.fromhex(digest) for digest in proof.hashes])
    except NoteError as error:
        raise DependencyUnavailable(f"`integrity` gave a checkpoint that is none: {error}") from error
    if not holds:
        raise DependencyUnavailable(f"`integrity` gave a proof for `{entry.event.id}` that does not hold")
