"""Bundles: built from proved policies, adopted by a vote, activated, loaded, held to the constitution in force."""

import asyncio
from collections.abc import Sequence

import structlog

from acgs1.contracts.auth import Identity
from acgs1.contracts.common import Page
from acgs1.contracts.constitution import Constitution, Never
from acgs1.contracts.events import new_event
from acgs1.contracts.formal_verification import Certificate
from acgs1.contracts.guards import guard_id, guard_text, guards_of
from acgs1.contracts.policy_governance import Bundle, BundleSummary, EvaluationRequest, NewBundle
from acgs1.core.clock import Clock
from acgs1.core.errors import DomainError
from acgs1.core.hashing import content_hash, text_hash
from acgs1.services.policy_governance.domain import Evaluated
from acgs1.services.policy_governance.errors import (
    ActivationFrozen,
    BundleNotAdopted,
    BundleNotFound,
    CertificateRejected,
    ConstitutionNotInForce,
    NoActiveBundle,
)
from acgs1.services.policy_governance.ports import (
    Evaluator,
    Governance,
    Ledger,
    Loader,
    Readers,
    Sealer,
    Texts,
    Verifier,
)
from acgs1.services.policy_governance.service.decisions import DecisionPoint

_log = structlog.get_logger()


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
        texts: Texts,
        readers: Readers,
        clock: Clock,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._verifier = verifier
        self._sealer = sealer
        self._loader = loader
        self._point = point
        self._texts = texts
        self._readers = readers
        self._clock = clock
        # The bundle that is served, and the constitution whose guards stand beside its own (None: its own suffice).
        self._bound: tuple[str, str | None] | None = None

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
        self._bound = (bundle_hash, None)
        await self._readers.bundles_changed()
        return await self.bundle(bundle_hash)

    async def load_active(self) -> None:
        """At start: load the active bundle after checking its seal and its hash, under the constitution in force. A bundle that fails
        either check is not served (CertificateRejected)."""
        await self.bind()

    async def _active_sealed(self) -> Bundle:
        try:
            async with self._store.reading() as records:
                active = await records.active_bundle()
        except ValueError as error:
            raise CertificateRejected("the active bundle in the database cannot be read any more") from error
        if active is None:
            raise NoActiveBundle("it was replaced at this very moment")
        self._expect_sealed(active[0])
        return active[0]

    async def bind(self) -> None:
        """Hold the active bundle to the constitution in force, as far as the ledger has been followed.

        After an amendment the active bundle goes on deciding, for it was proved and voted on, under its own guards *and* those of the
        amended constitution: what is newly forbidden is denied at once, what is newly allowed waits for policies proved against the new
        text. Where the new text is not known anywhere here, nobody can tell what it forbids, and everything is denied.
        """
        async with self._store.reading() as records:
            active, in_force = await records.active(), (await records.position()).constitution_hash
        if active is None:
            return
        bundle_hash, proved_against = active
        other = in_force if in_force not in {None, proved_against} else None
        if self._bound == (bundle_hash, other):
            return
        bundle = await self._active_sealed()
        evaluator: Evaluator
        if other is None:
            evaluator = await asyncio.to_thread(self._loader.load, bundle)
        elif (constitution := await self._text(other)) is None:
            _log.error("constitution_unknown", constitution=other)
            self._point.serve(
                _Withheld(bundle, f"the text of the constitution in force, `{other}`, is not known here"), ""
            )
            return
        else:
            evaluator = await asyncio.to_thread(self._under, bundle, constitution)
            _log.warning("bundle_bound_to_amendment", bundle=bundle.hash, constitution=other)
        self._point.serve(evaluator, text_hash(bundle.policies))
        self._bound = (bundle.hash, other)

    async def _text(self, constitution_hash: str) -> Constitution | None:
        async with self._store.reading() as records:
            constitution = await records.constitution(constitution_hash)
        if constitution is None:
            try:
                constitution = await self._texts.text(constitution_hash)
            except DomainError as error:
                _log.warning("constitution_not_fetched", code=error.code)
                return None
            if constitution is not None:
                async with self._store.transaction() as records:
                    await records.keep_constitution(constitution)
        return constitution

    def _under(self, bundle: Bundle, constitution: Constitution) -> Evaluator:
        """The bundle under the guards of an amended constitution too. A guard that the bundle's schema cannot express (it speaks
        of a fact that these policies know nothing of) denies its whole scope; a scope that the schema does not know has no valid
        request."""
        guards, principles = bundle.guards, dict(bundle.guard_principles)
        for principle in constitution.principles:
            for number, invariant in enumerate(principle.invariants):
                if not isinstance(invariant, Never):
                    continue
                name = f"amended:{guard_id(principle.id, number)}"
                for when in (invariant.when, "true"):
                    text = guard_text(name, principle.id, invariant.model_copy(update={"when": when}))
                    if self._loads(bundle, text):
                        guards, principles = f"{guards}\n{text}", {**principles, name: principle.id}
                        break
        return self._loader.load(bundle.model_copy(update={"guards": guards, "guard_principles": principles}))

    def _loads(self, bundle: Bundle, guard: str) -> bool:
        try:
            self._loader.load(bundle.model_copy(update={"guards": guard}))
        except CertificateRejected:
            return False
        return True

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


class _Withheld:
    """Stands in for a bundle that may not decide: every request is denied, and the answer says why."""

    def __init__(self, bundle: Bundle, why: str) -> None:
        self.bundle = bundle
        self._why = why

    def evaluate(self, request: EvaluationRequest, *, approved: bool) -> Evaluated:  # noqa: ARG002 - the port names them
        return Evaluated(allowed=False, policies=(), guards=(), errors=(self._why,))

    def asks_for_approval(self, action: str) -> bool:  # noqa: ARG002 - the port names it
        return False

    def principles(self, policies: Sequence[str]) -> list[str]:  # noqa: ARG002 - the port names it
        return []


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
