"""Use cases: verify, certify."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import structlog

from acgs1.contracts.auth import Identity
from acgs1.contracts.common import Page
from acgs1.contracts.events import Event, new_event
from acgs1.contracts.formal_verification import (
    Certificate,
    CertificateInputs,
    CertificateProofs,
    NewVerification,
    Obligation,
    ObligationProofs,
    ScriptProof,
    VerificationProgress,
    VerificationReport,
    VerificationSummary,
    VerifierKey,
)
from acgs1.core.clock import Clock
from acgs1.core.errors import DomainError
from acgs1.core.hashing import text_hash
from acgs1.core.ids import new_id
from acgs1.kit.reporting import workflow_runs
from acgs1.services.formal_verification.archive import CertificateArchive
from acgs1.services.formal_verification.domain import (
    Job,
    Plan,
    StoredVerification,
    certificate_body,
    is_defect,
    sign_certificate,
    verdict_of,
    with_proofs,
)
from acgs1.services.formal_verification.errors import CertificateNotFound, ProofTextNotFound, VerificationNotFound
from acgs1.services.formal_verification.ports import Archive, ProofChecker, Prover, Records, Signer

_log = structlog.get_logger()

_RESULTS_PER_SAVE = 256
_RECENT_RESULTS = 20_000


@dataclass
class _Running:
    """A verification that this process is working on."""

    task: asyncio.Task[VerificationReport | None]
    total: int
    done: int = 0
    concluding: bool = False
    """The report is being written: too late to cancel."""
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def advance(self, count: int) -> None:
        self.done += count
        # Whoever watches waits on the event that it saw last.
        moved, self.moved = self.moved, asyncio.Event()
        moved.set()


class VerificationService:
    """All of formal_verification."""

    def __init__(
        self, archive: Archive, prover: Prover, signer: Signer, clock: Clock, checker: ProofChecker | None = None
    ) -> None:
        """`checker` goes over the proof objects of verifications that keep them."""
        self._archive = archive
        self._checker = checker
        self._prover = prover
        self._signer = signer
        self._clock = clock
        self._running: dict[str, _Running] = {}
        self._recent: dict[str, dict[str, Any]] = {}

    # --- verifications ---

    async def verify(
        self, request: NewVerification, by: Identity, wait_seconds: float, *, proofs: bool = False
    ) -> VerificationReport | VerificationProgress:
        """Begins a verification and waits up to `wait_seconds` for its report.

        With `proofs`, everything is proved anew and the solver's proof objects are kept.

        Raises InvalidPolicies, InvalidConstitution, TooManyObligations, ProverUnavailable; then nothing was begun.
        """
        stored = StoredVerification(
            id=new_id("ver"),
            status="running",
            policies=request.policies,
            constitution=request.constitution,
            constitution_hash=request.constitution.hash,
            deadline_seconds=request.deadline_seconds,
            requested_by=by.id,
            created_at=self._clock.now(),
            proofs=proofs,
        )
        plan = await self._prover.plan(_job(stored))
        # Proofs begin while the verification is being written down; nobody learns its id, nor does it end, before that is done.
        recorded = asyncio.create_task(self._record(stored))
        work = self._begin(stored, plan, recorded)
        try:
            await asyncio.shield(recorded)
        except Exception:
            work.cancel()
            raise
        return await self._outcome(stored.id, wait_seconds)

    async def _record(self, stored: StoredVerification) -> None:
        async with self._archive.transaction() as records:
            await records.add_verification(stored)

    async def verification(
        self, verification_id: str, wait_seconds: float = 0.0
    ) -> VerificationReport | VerificationProgress:
        """The report, once there is one; until then how far it is. Raises VerificationNotFound."""
        return await self._outcome(verification_id, wait_seconds)

    async def progress(self, verification_id: str) -> AsyncGenerator[VerificationReport | VerificationProgress]:
        """How far it is, whenever that changes; at last the outcome. Raises VerificationNotFound."""
        while True:
            outcome = await self._outcome(verification_id, 0.0)
            yield outcome
            running = self._running.get(verification_id)
            if running is None or isinstance(outcome, VerificationReport) or outcome.status != "running":
                if not isinstance(outcome, VerificationReport) and outcome.status == "running":
                    yield await self._outcome(verification_id, 0.0)
                return
            moved = asyncio.ensure_future(running.moved.wait())
            try:
                await asyncio.wait([moved, running.task], return_when=asyncio.FIRST_COMPLETED)
            finally:
                moved.cancel()

    async def verifications(self, cursor: str | None, limit: int) -> Page[VerificationSummary]:
        async with self._archive.reading() as records:
            items, following = await records.verifications(cursor, limit)
        return Page(items=items, next_cursor=following)

    async def cancel(self, verification_id: str, by: Identity) -> VerificationReport | VerificationProgress:
        """Stops a running verification; one that has ended stays as it is. Raises VerificationNotFound."""
        running = self._running.get(verification_id)
        if running is not None and running.concluding:
            await asyncio.wait([running.task])
        elif running is not None and running.task.cancel():
            await asyncio.wait([running.task])
            async with self._archive.transaction() as records:
                await records.finish(verification_id, "cancelled", self._clock.now(), detail=f"cancelled by `{by.id}`")
                await records.record(self._event("verification.cancelled", by.id, verification_id))
        return await self._outcome(verification_id, 0.0)

    async def resume(self) -> None:
        """Takes up again what was running when the process last ended; what was proved by then is in the cache."""
        async with self._archive.reading() as records:
            interrupted = await records.running()
        for stored in interrupted:
            if stored.id in self._running:
                continue
            try:
                plan = await self._prover.plan(_job(stored))
            except DomainError as error:
                await self._fail(stored, error.detail)
                continue
            self._begin(stored, plan)

    async def stop(self) -> None:
        """Stops working, without ending anything: `resume` goes on from here."""
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(
        self, stored: StoredVerification, plan: Plan, recorded: asyncio.Task[None] | None = None
    ) -> asyncio.Task[VerificationReport | None]:
        """`recorded` is done when the verification is in the archive; None where it is already."""
        task = asyncio.create_task(self._carry_out(stored, plan, recorded), name=stored.id)
        self._running[stored.id] = _Running(task, len(plan.items))
        task.add_done_callback(lambda _: self._running.pop(stored.id, None))
        return task

    async def _outcome(self, verification_id: str, wait_seconds: float) -> VerificationReport | VerificationProgress:
        running = self._running.get(verification_id)
        if running is not None:
            await asyncio.wait([running.task], timeout=wait_seconds)
            if not running.task.done():
                return VerificationProgress(
                    id=verification_id,
                    status="running",
                    obligations_done=running.done,
                    obligations_total=running.total,
                )
            if not running.task.cancelled() and (report := running.task.result()) is not None:
                return report
        async with self._archive.reading() as records:
            stored = await records.verification(verification_id)
        if stored is None:
            raise VerificationNotFound(f"`{verification_id}` is not a verification here")
        if stored.report is not None:
            return stored.report
        return VerificationProgress(
            id=stored.id,
            status="running" if stored.status == "done" else stored.status,
            obligations_done=0,
            obligations_total=0,
            detail=stored.detail,
        )

    async def _carry_out(
        self, stored: StoredVerification, plan: Plan, recorded: asyncio.Task[None] | None
    ) -> VerificationReport | None:
        try:
            return await self._prove(stored, plan, recorded)
        except asyncio.CancelledError:
            raise
        except DomainError as error:
            detail = error.detail
        except Exception as error:  # noqa: BLE001 - whoever waits must learn of it; the cause goes to the log
            _log.error("verification_failed", verification=stored.id, exc_info=error)
            detail = "the service failed; the error has been logged under this id"
        if recorded is not None:
            await asyncio.wait([recorded])
            if recorded.cancelled() or recorded.exception() is not None:
                # There is nothing to mark as failed: the caller gets the archive's own error.
                return None
        await self._fail(stored, detail)
        return None

    async def _fail(self, stored: StoredVerification, detail: str) -> None:
        async with self._archive.transaction() as records:
            await records.finish(stored.id, "failed", self._clock.now(), detail=detail)
            await records.record(
                self._event("verification.failed", stored.requested_by, stored.id, reason=detail[:500])
            )

    async def _prove(
        self, stored: StoredVerification, plan: Plan, recorded: asyncio.Task[None] | None
    ) -> VerificationReport:
        started = self._clock.monotonic()
        results = await self._known(plan)
        running = self._running.get(stored.id)
        if running is not None:
            running.advance(len(results))
        missing = [item.index for item in plan.items if item.index not in results]
        fresh: dict[str, dict[str, Any]] = {}
        if missing:
            async with aclosing(self._prover.run(_job(stored), plan, missing, stored.deadline_seconds)) as answers:
                async for index, answer in answers:
                    results[index] = result = await self._checked(answer)
                    if running is not None:
                        running.advance(1)
                    if result["verdict"] != "unknown":
                        fresh[plan.items[index].key] = result
                    if len(fresh) >= _RESULTS_PER_SAVE:
                        await self._save(fresh)
                        fresh = {}
        obligations = [Obligation.model_validate(results[item.index]) for item in plan.items]
        for obligation in obligations:
            if is_defect(obligation):
                _log.error(
                    "prover_contradiction",
                    verification=stored.id,
                    obligation=obligation.id,
                    reason=obligation.reason,
                )
        if recorded is not None:
            await asyncio.shield(recorded)
        if running is not None:
            running.concluding = True
        return await self._conclude(stored, plan, obligations, fresh, started)

    async def _checked(self, result: dict[str, Any]) -> dict[str, Any]:
        """The result without the texts of its scripts and proofs, which are kept; with the checker's word on each proof."""
        texts: dict[str, str] | None = result.pop("texts", None)
        if texts is None:
            return result
        obligation = Obligation.model_validate(result)
        if self._checker is not None:
            proofs: list[ScriptProof] = []
            for proof in obligation.proofs:
                checks = list(proof.checks)
                if proof.proof_sha256 is not None:
                    checks.append(await self._checker.check(texts[proof.smtlib_sha256], texts[proof.proof_sha256]))
                proofs.append(proof.model_copy(update={"checks": checks}))
            obligation = with_proofs(obligation, proofs)
        async with self._archive.transaction() as records:
            await records.keep_texts(texts, self._clock.now())
        return obligation.model_dump(mode="json")

    async def _known(self, plan: Plan) -> dict[int, dict[str, Any]]:
        """Results by item: from memory, else from the archive."""
        missing = [item.key for item in plan.items if item.key not in self._recent]
        if missing:
            async with self._archive.reading() as records:
                self._remember(await records.cached(missing))
        return {item.index: self._recent[item.key] for item in plan.items if item.key in self._recent}

    async def _save(self, fresh: dict[str, dict[str, Any]]) -> None:
        async with self._archive.transaction() as records:
            await records.cache(fresh, self._clock.now())
        self._remember(fresh)

    def _remember(self, results: dict[str, dict[str, Any]]) -> None:
        """Keys are hashes over all that a result depends on, so a result never goes stale; only their number is bounded."""
        if len(self._recent) + len(results) > _RECENT_RESULTS:
            self._recent.clear()
        self._recent.update(results)

    async def _conclude(
        self,
        stored: StoredVerification,
        plan: Plan,
        obligations: list[Obligation],
        fresh: dict[str, dict[str, Any]],
        started: float,
    ) -> VerificationReport:
        now = self._clock.now()
        report = VerificationReport(
            id=stored.id,
            policies_hash=text_hash(stored.policies),
            schema_hash=text_hash(stored.constitution.schema_text),
            constitution_hash=stored.constitution_hash,
            verdict=verdict_of(obligations),
            obligations=obligations,
            principles_without_invariants=plan.facts["principles_without_invariants"],
            certificate_hash=None,
            started_at=stored.created_at,
            milliseconds=round((self._clock.monotonic() - started) * 1000, 3),
        )
        certificate: Certificate | None = None
        if report.verdict == "proved":
            body = certificate_body(report, plan.facts["kernel"], now)
            certificate = sign_certificate(body, self._signer.key_id, self._signer.sign)
            report = report.model_copy(update={"certificate_hash": certificate.hash})
        async with self._archive.transaction() as records:
            await records.cache(fresh, now)
            await records.finish(stored.id, "done", now, report)
            await self._record_completion(records, stored, report, certificate)
        settled = sum(obligation.verdict != "unknown" for obligation in report.obligations)
        workflow_runs().finished(
            "constitutional_compliance",
            report.milliseconds / 1000,
            success=settled == len(report.obligations),
            # How much of the question was answered; a refuted policy is an answer.
            compliance_score=settled / len(report.obligations) if report.obligations else None,
        )
        self._remember(fresh)
        return report

    async def _record_completion(
        self,
        records: Records,
        stored: StoredVerification,
        report: VerificationReport,
        certificate: Certificate | None,
    ) -> None:
        counts = {
            verdict: sum(obligation.verdict == verdict for obligation in report.obligations)
            for verdict in ("proved", "refuted", "unknown")
        }
        await records.record(
            self._event(
                "verification.completed",
                stored.requested_by,
                stored.id,
                verdict=report.verdict,
                policies_hash=report.policies_hash,
                schema_hash=report.schema_hash,
                constitution_hash=report.constitution_hash,
                obligations=counts,
            )
        )
        if certificate is not None:
            await records.add_certificate(certificate, stored.id, certificate.body.issued_at)
            await records.record(
                self._event(
                    "certificate.issued",
                    stored.requested_by,
                    certificate.hash,
                    verification=stored.id,
                    policies_hash=report.policies_hash,
                    constitution_hash=report.constitution_hash,
                    key_id=certificate.key_id,
                )
            )

    # --- certificates ---

    async def certificate(self, digest: str) -> Certificate:
        """Raises CertificateNotFound."""
        return (await self._certificate(digest))[0]

    async def certificate_inputs(self, digest: str) -> CertificateInputs:
        """What the certificate was issued for. Raises CertificateNotFound."""
        _, verification_id = await self._certificate(digest)
        async with self._archive.reading() as records:
            stored = await records.verification(verification_id)
        if stored is None:
            raise AssertionError("INVARIANT: a certificate's verification is kept (foreign key)")
        return CertificateInputs(policies=stored.policies, constitution=stored.constitution)

    async def _certificate(self, digest: str) -> tuple[Certificate, str]:
        async with self._archive.reading() as records:
            found = await records.certificate(digest)
        if found is None:
            raise CertificateNotFound(f"no certificate has the hash `{digest}`")
        return found

    async def certificate_proofs(self, digest: str) -> CertificateProofs:
        """The proof objects that were kept with a certificate. Raises CertificateNotFound."""
        _, verification_id = await self._certificate(digest)
        async with self._archive.reading() as records:
            stored = await records.verification(verification_id)
        if stored is None or stored.report is None:
            raise AssertionError("INVARIANT: a certificate's verification is kept with its report (foreign key)")
        return CertificateProofs(
            certificate_hash=digest,
            obligations=[
                ObligationProofs(
                    obligation_id=obligation.id,
                    smtlib_sha256=obligation.smtlib_sha256,
                    strength=obligation.strength,
                    proofs=obligation.proofs,
                )
                for obligation in stored.report.obligations
            ],
        )

    async def certificate_archive(self, digest: str) -> CertificateArchive:
        """The certificate with its inputs, scripts and proof objects. Raises CertificateNotFound."""
        proofs = await self.certificate_proofs(digest)
        wanted = [h for o in proofs.obligations for p in o.proofs for h in (p.smtlib_sha256, p.proof_sha256) if h]
        async with self._archive.reading() as records:
            texts = {each: await records.text(each) or "" for each in dict.fromkeys(wanted)}
        return CertificateArchive(
            certificate=await self.certificate(digest),
            key=self.verifier_key(),
            inputs=await self.certificate_inputs(digest),
            proofs=proofs,
            texts=texts,
        )

    async def proof_text(self, digest: str) -> str:
        """A script or a proof object by its SHA-256. Raises ProofTextNotFound."""
        async with self._archive.reading() as records:
            text = await records.text(digest)
        if text is None:
            raise ProofTextNotFound(f"no script and no proof with the hash `{digest}` is kept")
        return text

    def verifier_key(self) -> VerifierKey:
        """The key that certificates are signed with now."""
        return VerifierKey(key_id=self._signer.key_id, public_key=self._signer.public_key)

    def _event(self, kind: str, actor: str, subject: str, **data: Any) -> Event:
        return new_event("formal_verification", kind, self._clock.now(), actor=actor, subject=subject, **data)


def _job(stored: StoredVerification) -> Job:
    data = {"policies": stored.policies, "constitution": stored.constitution.model_dump(mode="json")}
    return Job(stored.id, "proofs" if stored.proofs else "verify", data)
