"""Bundles: built from proved policies, adopted by a vote, activated, loaded."""

import asyncio
from datetime import datetime

from acgs1.contracts.auth import Identity
from acgs1.contracts.common import Page
from acgs1.contracts.events import new_event
from acgs1.contracts.formal_verification import Certificate
from acgs1.contracts.guards import guards_of
from acgs1.contracts.policy_governance import Bundle, BundleSummary, EmergencyReceipt, NewBundle, NewEmergency
from acgs1.core.clock import Clock
from acgs1.core.hashing import content_hash, text_hash
from acgs1.services.policy_governance.errors import (
    ActivationFrozen,
    BundleNotAdopted,
    BundleNotFound,
    CertificateRejected,
    ConstitutionNotInForce,
    NoActiveBundle,
)
from acgs1.services.policy_governance.ports import Governance, Ledger, Loader, Sealer, Verifier
from acgs1.services.policy_governance.service.decisions import DecisionPoint


class Bundles:
    """There is no way to force but proof and vote: a bundle is built only with the verifier's certificate for its exact hashes, and
    activated only when the ledger has it enacted under the constitution in force."""

    def __init__(
        self,
        store: Governance,
        ledger: Ledger,
        verifier: Verifier,
        sealer: Sealer,
        loader: Loader,
        point: DecisionPoint,
        clock: Clock,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._verifier = verifier
        self._sealer = sealer
        self._loader = loader
        self._point = point
        self._clock = clock

    async def build(self, request: NewBundle, by: Identity) -> Bundle:
        """Check the certificate and seal the bundle. The same content is the same bundle."""
        await self._verifier.check(request.certificate)
        _covers(request.certificate, request)
        guards, guard_principles = guards_of(request.constitution)
        content = {
            "policies": request.policies,
            "schema_text": request.constitution.schema_text,
            "guards": guards,
            "guard_principles": guard_principles,
            "constitution_hash": request.constitution.hash,
            "certificate_hash": request.certificate.hash,
        }
        digest = content_hash(content)
        bundle = Bundle.model_validate(
            {
                **content,
                "hash": digest,
                "name": request.name,
                "status": "built",
                "signature": self._sealer.seal(digest),
                "created_at": self._clock.now(),
                "activated_at": None,
            }
        )
        # A bundle that cannot be loaded must not come up for a vote.
        await asyncio.to_thread(self._loader.load, bundle)
        async with self._store.transaction() as records:
            if existing := await records.bundle(digest):
                return existing[0]
            await records.keep_bundle(bundle, request.certificate)
            certificate = request.certificate.hash
            event = new_event(
                "policy_governance",
                "bundle.built",
                self._clock.now(),
                actor=by.id,
                subject=digest,
                certificate=certificate,
            )
            await records.record(event)
        return bundle

    async def activate(self, bundle_hash: str, by: Identity) -> Bundle:
        """Make the decision point decide by this bundle from now on."""
        bundle = await self.bundle(bundle_hash)
        if bundle.status == "active":
            return bundle
        self._expect_sealed(bundle)
        policies_hash = text_hash(bundle.policies)
        now = self._clock.now()
        if (await self._ledger.emergencies(now)).frozen:
            raise ActivationFrozen("wait until the emergency action ends or is voted down")
        state = await self._ledger.state()
        if state.constitution_hash != bundle.constitution_hash:
            raise ConstitutionNotInForce("the constitution has changed since the proof; verify and propose again")
        if not await self._ledger.is_enacted(policies_hash):
            raise BundleNotAdopted("propose it, vote, and finalise the proposal first")
        evaluator = await asyncio.to_thread(self._loader.load, bundle)
        async with self._store.transaction() as records:
            if active := await records.active_bundle():
                await records.set_bundle_status(active[0].hash, "retired")
            await records.set_bundle_status(bundle_hash, "active", now)
            data = {"constitution": bundle.constitution_hash, "certificate": bundle.certificate_hash}
            await records.record(
                new_event("policy_governance", "bundle.activated", now, actor=by.id, subject=bundle_hash, **data)
            )
        self._point.serve(evaluator, policies_hash)
        return await self.bundle(bundle_hash)

    async def load_active(self) -> None:
        """At start: load the active bundle after checking its seal and its hash. A bundle that fails either is not served
        (CertificateRejected)."""
        try:
            async with self._store.reading() as records:
                active = await records.active_bundle()
        except ValueError as error:
            raise CertificateRejected("the active bundle in the database cannot be read any more") from error
        if active is None:
            return
        bundle, _ = active
        self._expect_sealed(bundle)
        evaluator = await asyncio.to_thread(self._loader.load, bundle)
        self._point.serve(evaluator, text_hash(bundle.policies))

    async def bundle(self, bundle_hash: str) -> Bundle:
        return (await self._existing(bundle_hash))[0]

    async def active(self) -> Bundle:
        async with self._store.reading() as records:
            active = await records.active_bundle()
        if active is None:
            raise NoActiveBundle("activate one: POST /api/v1/bundles/{hash}/activation")
        return active[0]

    async def page(self, cursor: str | None, limit: int) -> Page[BundleSummary]:
        async with self._store.reading() as records:
            rows, following = await records.bundles(cursor, limit)
        return Page[BundleSummary](items=[_summary(row) for row in rows], next_cursor=following)

    async def act_in_emergency(self, request: NewEmergency, by: Identity) -> EmergencyReceipt:
        """Put an emergency action on the ledger; the decision point obeys it at once here, elsewhere within one polling interval."""
        index = await self._ledger.emergency(request.kind, request.target, request.reason, request.seconds)
        now = self._clock.now()
        async with self._store.transaction() as records:
            data = {
                "emergency": request.kind,
                "target": request.target,
                "reason": request.reason,
                "seconds": request.seconds,
            }
            await records.record(
                new_event("policy_governance", "emergency.declared", now, actor=by.id, subject=str(index), **data)
            )
        await self.watch_emergencies(now)
        return EmergencyReceipt(index=index)

    async def watch_emergencies(self, now: datetime) -> None:
        """Take over what the ledger says about emergency actions."""
        self._point.emergencies = await self._ledger.emergencies(now)

    def _expect_sealed(self, bundle: Bundle) -> None:
        """The database is not trusted: what decides is what was proved, voted on and sealed."""
        content = bundle.model_dump(
            mode="json",
            include={"policies", "schema_text", "guards", "guard_principles", "constitution_hash", "certificate_hash"},
        )
        if content_hash(content) != bundle.hash or not self._sealer.is_sealed(bundle.hash, bundle.signature):
            raise CertificateRejected(f"bundle `{bundle.hash}` in the database is not the one that was sealed")

    async def _existing(self, bundle_hash: str) -> tuple[Bundle, Certificate]:
        async with self._store.reading() as records:
            found = await records.bundle(bundle_hash)
        if found is None:
            raise BundleNotFound(f"`{bundle_hash}` is not a bundle here")
        return found


def _covers(certificate: Certificate, request: NewBundle) -> None:
    body = certificate.body
    given = {
        "policies": (body.policies_hash, text_hash(request.policies)),
        "schema": (body.schema_hash, text_hash(request.constitution.schema_text)),
        "constitution": (body.constitution_hash, request.constitution.hash),
    }
    for what, (certified, actual) in given.items():
        if certified != actual:
            raise CertificateRejected(f"it is for {what} `{certified}`, this bundle has `{actual}`")
    if not body.obligations or any(o.verdict != "proved" for o in body.obligations):
        raise CertificateRejected("it does not show at least one obligation, all of them proved")


def _summary(bundle: Bundle) -> BundleSummary:
    return BundleSummary(
        hash=bundle.hash,
        name=bundle.name,
        status=bundle.status,
        constitution_hash=bundle.constitution_hash,
        certificate_hash=bundle.certificate_hash,
        created_at=bundle.created_at,
        activated_at=bundle.activated_at,
    )
