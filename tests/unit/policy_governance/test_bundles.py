"""Bundles: nothing comes into force but by proof and vote, and nothing is served but what was sealed."""

import json

import pytest
import sqlalchemy as sa

from acgs1.contracts.constitution import Constitution, Never
from acgs1.contracts.policy_governance import Bundle, NewBundle, NewEmergency
from acgs1.core.hashing import text_hash
from acgs1.kit.errors import DependencyUnavailable
from acgs1.kit.signing import SigningKey, base64url_encode
from acgs1.services.policy_governance.errors import (
    ActivationFrozen,
    BundleNotAdopted,
    BundleNotFound,
    CertificateRejected,
    ConstitutionNotInForce,
    NoActiveBundle,
)
from governance import AGENT, OPERATOR, Room, airline, airline_policies, request

EVERYTHING = '@id("everything")\npermit (principal, action, resource);\n'


async def tamper(room: Room, **changes: object) -> None:
    """Somebody writes into the database past this service."""
    async with room.database.transaction() as session:
        row = (await session.execute(sa.text("SELECT hash, document FROM bundles"))).one()
        document = {**json.loads(row.document), **changes}
        update = sa.text("UPDATE bundles SET document = :document WHERE hash = :hash")
        await session.execute(update, {"document": json.dumps(document), "hash": row.hash})


async def test_the_same_content_is_the_same_bundle(room: Room):
    first = await room.bundles.build(room.new_bundle(), OPERATOR)
    again = await room.bundles.build(
        NewBundle.model_validate({**room.new_bundle().model_dump(), "name": "other"}), OPERATOR
    )
    assert first == again
    assert len((await room.bundles.page(None, 10)).items) == 1
    assert "guard:large-sums-need-a-person:0" in first.guard_principles


@pytest.mark.parametrize("what", ["policies_hash", "schema_hash", "constitution_hash"])
async def test_a_certificate_for_something_else_is_refused_naming_what(room: Room, what: str):
    with pytest.raises(CertificateRejected, match=what.removesuffix("_hash")):
        await room.bundles.build(room.new_bundle(**{what: "0" * 64}), OPERATOR)
    assert (await room.bundles.page(None, 10)).items == []


async def test_a_certificate_without_obligations_or_with_one_unproved_is_refused(room: Room):
    good = room.new_bundle().certificate.body.obligations[0]
    for obligations in (
        [],
        [good.model_copy(update={"verdict": "unknown"})],
        [good, good.model_copy(update={"verdict": "refuted"})],
    ):
        with pytest.raises(CertificateRejected, match="proved"):
            await room.bundles.build(room.new_bundle(obligations=obligations), OPERATOR)


async def test_a_certificate_with_a_false_hash_signature_or_key_is_refused(room: Room):
    request_ = room.new_bundle()
    good = request_.certificate
    stranger = SigningKey.generate()
    forged = {
        "its hash": good.model_copy(update={"hash": "0" * 64}),
        "its signature": good.model_copy(update={"signature": base64url_encode(stranger.sign(b"anything"))}),
        "signature is not": good.model_copy(update={"signature": "not base64url!"}),
        "signed with key": good.model_copy(update={"key_id": stranger.public.key_id}),
    }
    for message, certificate in forged.items():
        with pytest.raises(CertificateRejected, match=message):
            await room.bundles.build(request_.model_copy(update={"certificate": certificate}), OPERATOR)
    body = good.body.model_copy(update={"policies_hash": text_hash(EVERYTHING)})
    changed = good.model_copy(update={"body": body})
    with pytest.raises(CertificateRejected, match="its hash"):
        await room.bundles.build(request_.model_copy(update={"policies": EVERYTHING, "certificate": changed}), OPERATOR)


async def test_a_bundle_without_a_vote_is_not_activated(room: Room):
    room.ledger.constitution = airline().hash
    bundle = await room.bundles.build(room.new_bundle(), OPERATOR)
    with pytest.raises(BundleNotAdopted):
        await room.bundles.activate(bundle.hash, OPERATOR)
    assert room.point.serving is None
    with pytest.raises(NoActiveBundle):
        await room.bundles.active()


async def test_a_bundle_proved_against_a_constitution_that_was_replaced_is_not_activated(room: Room):
    bundle = await room.bundles.build(room.new_bundle(), OPERATOR)
    room.ledger.constitution = "f" * 64
    room.ledger.enacted.add(text_hash(bundle.policies))
    with pytest.raises(ConstitutionNotInForce):
        await room.bundles.activate(bundle.hash, OPERATOR)


async def test_a_bundle_that_nobody_built_is_not_activated(room: Room):
    with pytest.raises(BundleNotFound):
        await room.bundles.activate("0" * 64, OPERATOR)


async def test_readers_are_told_of_an_activation_once_it_is_committed(room: Room):
    room.ledger.constitution = airline().hash
    bundle = await room.bundles.build(room.new_bundle(), OPERATOR)
    room.ledger.enacted.add(text_hash(bundle.policies))
    found: list[str] = []

    async def look() -> None:
        found.append((await room.bundles.active()).hash)

    room.readers.bundles_changed = look  # type: ignore[method-assign]
    await room.bundles.activate(bundle.hash, OPERATOR)
    assert found == [bundle.hash]
    await room.bundles.activate(bundle.hash, OPERATOR)
    assert found == [bundle.hash], "repeating it changes nothing"


async def test_nothing_is_activated_while_activation_is_frozen_or_the_ledger_is_away(room: Room):
    room.ledger.constitution = airline().hash
    bundle = await room.bundles.build(room.new_bundle(), OPERATOR)
    room.ledger.enacted.add(text_hash(bundle.policies))
    await room.powers.act(NewEmergency(kind="freeze_activation", reason="look first", seconds=60), OPERATOR)
    with pytest.raises(ActivationFrozen):
        await room.bundles.activate(bundle.hash, OPERATOR)
    room.ledger.away = True
    with pytest.raises(DependencyUnavailable):
        await room.bundles.activate(bundle.hash, OPERATOR)
    assert room.point.serving is None


async def test_activating_a_second_bundle_retires_the_first(room: Room):
    first = await room.in_force()
    second = await room.in_force(airline_policies() + "\n// a second edition\n")
    assert room.point.serving == second != first
    statuses = {b.hash: b.status for b in (await room.bundles.page(None, 10)).items}
    assert statuses == {first: "retired", second: "active"}


async def test_the_active_bundle_is_served_again_after_a_restart_without_the_ledger(room: Room):
    bundle = await room.in_force()
    room.ledger.away = True
    after = room.restarted()
    await after.bundles.load_active()
    assert after.point.serving == bundle
    assert (await after.point.decide(request("hand_over"), AGENT)).decision is True


TAMPERED = [
    {"policies": EVERYTHING},
    {"guards": ""},
    {"guard_principles": {}},
    {"constitution_hash": "0" * 64},
    {"signature": "A" * 86},
    {"signature": "not base64url!"},
    {"policies": None},
]


@pytest.mark.parametrize("change", TAMPERED, ids=lambda c: f"{next(iter(c))}={str(next(iter(c.values())))[:12]}")
async def test_a_tampered_bundle_is_not_served_at_the_next_start_and_everything_is_denied(
    room: Room, change: dict[str, object]
):
    await room.in_force()
    await tamper(room, **change)
    after = room.restarted()
    with pytest.raises(CertificateRejected):
        await after.bundles.load_active()
    answer = await after.point.decide(request("hand_over"), AGENT)
    assert (answer.decision, answer.context["reason"]) == (False, "no_active_bundle")


async def test_a_bundle_tampered_with_after_the_vote_is_not_activated(room: Room):
    room.ledger.constitution = airline().hash
    bundle = await room.bundles.build(room.new_bundle(), OPERATOR)
    room.ledger.enacted |= {text_hash(bundle.policies), text_hash(EVERYTHING)}
    await tamper(room, policies=EVERYTHING)
    with pytest.raises(CertificateRejected):
        await room.bundles.activate(bundle.hash, OPERATOR)
    assert room.point.serving is None


async def test_a_bundle_sealed_with_another_installations_key_is_not_served(room: Room):
    await room.in_force()
    (room.home / "seal" / "bundle.pem").unlink()
    after = room.restarted()
    with pytest.raises(CertificateRejected):
        await after.bundles.load_active()


async def test_policies_that_the_kernel_refuses_never_become_a_bundle(room: Room):
    with pytest.raises(CertificateRejected, match="Nobody"):
        await room.bundles.build(room.new_bundle("permit (principal is Nobody, action, resource);"), OPERATOR)
    assert (await room.bundles.page(None, 10)).items == []


async def test_what_is_built_says_what_it_is_built_from(room: Room):
    bundle: Bundle = await room.bundles.build(room.new_bundle(), OPERATOR)
    assert bundle.constitution_hash == airline().hash
    assert bundle.certificate_hash == room.new_bundle().certificate.hash
    assert bundle.status == "built"


class TestAfterAnAmendment:
    """The active bundle under a constitution that has changed since."""

    async def amended(self, room: Room, **invariant: object) -> Constitution:
        """Another constitution in force, with one more principle; its text is known to constitutional_ai."""
        await room.in_force()
        never = Never.model_validate(invariant)
        extra = airline().principles[0].model_copy(update={"id": "extra", "invariants": (never,)})
        new = airline().model_copy(update={"principles": (*airline().principles, extra)})
        room.ledger.happen("Ratified", constitution_hash=airline().hash, constitution_version=1, total_weight=1)
        room.ledger.amend(new.hash)
        await room.powers.watch()
        return new

    async def reason(self, room: Room, action: str) -> object:
        return (await room.point.decide(request(action), AGENT)).context["reason"]

    async def test_a_new_prohibition_is_obeyed_and_the_old_ones_stay(self, room: Room):
        room.texts.keep(await self.amended(room, actions=["look_up_booking"], when='resource.fare == "flex"'))
        await room.bundles.bind()
        assert await self.reason(room, "look_up_booking") == "constitution_forbids"
        assert await self.reason(room, "hand_over") == "allowed"
        suspended = request("hand_over", subject={"suspended": True})
        assert not (await room.point.decide(suspended, AGENT)).decision

    async def test_a_prohibition_in_terms_that_the_bundle_does_not_know_denies_all_that_it_speaks_of(self, room: Room):
        room.texts.keep(await self.amended(room, actions=["hand_over"], when="resource.queue_length > 10"))
        await room.bundles.bind()
        assert await self.reason(room, "hand_over") == "constitution_forbids"
        assert await self.reason(room, "look_up_booking") == "allowed"

    async def test_without_the_text_everything_is_denied_until_it_is_there(self, room: Room):
        new = await self.amended(room, actions=["hand_over"], when="true")
        await room.bundles.bind()
        assert await self.reason(room, "look_up_booking") == "evaluation_error"
        room.texts.away = True
        await room.bundles.bind()
        assert await self.reason(room, "look_up_booking") == "evaluation_error"
        room.texts.away = False
        room.texts.keep(new)
        await room.bundles.bind()
        assert await self.reason(room, "look_up_booking") == "allowed"
        room.texts.kept.clear()
        after = room.restarted()
        await after.bundles.load_active()
        assert await self.reason(after, "look_up_booking") == "allowed", "the text was kept here"
        assert await self.reason(after, "hand_over") == "constitution_forbids"

    async def test_another_worker_follows_an_activation(self, room: Room):
        await room.in_force()
        other = room.restarted()
        await other.bundles.load_active()
        second = await room.in_force(airline_policies() + "\n// a second edition\n")
        assert other.point.serving != second
        await other.bundles.bind()
        assert other.point.serving == second
