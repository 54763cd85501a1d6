"""Every error that the program declares, provoked; and that a refused transaction changes nothing."""

import struct
from collections.abc import Callable

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM

from acgs1.ledger.instructions import Authorities, Parameters, content_hash
from program.rig import DAY, ERROR_CODES, IDL, PROGRAM, START, Outcome, Rig, digest

DAYS_30 = 30 * DAY


def patched(rig: Rig, address: Pubkey, **fields: tuple[str, int]) -> None:
    """Overwrites integer fields of the governance account, to reach limits without the long way there."""
    data = bytearray(rig.svm.get_account(address).data)  # pyright: ignore[reportOptionalMemberAccess]
    offsets = {"total_weight": 296, "member_slots": 356, "principle_count": 364}
    for name, (code, value) in fields.items():
        struct.pack_into(code, data, offsets[name], value)
    rig.write(address, bytes(data))


def raw(
    rig: Rig, ix: Instruction, *, data: bytes | None = None, accounts: list[AccountMeta] | None = None
) -> Instruction:
    return Instruction(
        rig.program, bytes(ix.data) if data is None else data, ix.accounts if accounts is None else accounts
    )


def swap(ix: Instruction, position: int, address: Pubkey) -> Instruction:
    """The instruction with another account at `position`."""
    metas = list(ix.accounts)
    metas[position] = AccountMeta(address, metas[position].is_signer, metas[position].is_writable)
    return Instruction(ix.program_id, bytes(ix.data), metas)


def too_many_principles(r: Rig) -> Outcome:
    r.initialize()
    patched(r, r.at.governance, principle_count=("<H", 512))
    return r.send(r.ix.add_principle(r.council.pubkey(), 512, "t", digest("p"), digest("c")), r.council)


def title_too_long(r: Rig) -> Outcome:
    r.initialize()
    return r.send(r.ix.add_principle(r.council.pubkey(), 0, "x" * 65, digest("p"), digest("c")), r.council)


def proposal_not_active(r: Rig) -> Outcome:
    a, b, _ = r.ready()
    p = r.propose(a)
    r.must(r.ix.cancel(a.pubkey(), p), a)
    return r.vote(b, p)


def voting_period_ended(r: Rig) -> Outcome:
    a, *_ = r.ready()
    p = r.propose(a)
    r.set_time(START + DAY)
    return r.vote(a, p)


def voting_period_not_ended(r: Rig) -> Outcome:
    a, *_ = r.ready()
    p = r.propose(a)
    r.vote(a, p)
    return r.finalize(p)


def unauthorized_emergency(r: Rig) -> Outcome:
    r.ready()
    return r.send(r.ix.emergency_action(r.council.pubkey(), 0, "freeze_activation", None, digest("why"), 60), r.council)


def already_voted(r: Rig) -> Outcome:
    a, *_ = r.ready()
    p = r.propose(a)
    r.vote(a, p)
    return r.vote(a, p, "against")


def not_a_member(r: Rig) -> Outcome:
    """A wallet that brings somebody else's membership."""
    a, *_ = r.ready()
    p = r.propose(a)
    stranger = r.key("stranger")
    return r.send(swap(r.ix.vote(stranger.pubkey(), p, "for"), 1, r.at.member(a.pubkey())), stranger)


def unauthorized(r: Rig) -> Outcome:
    r.initialize()
    thief = r.key("thief")
    return r.send(r.ix.register_member(thief.pubkey(), thief.pubkey(), 1), thief)


def proposal_required(r: Rig) -> Outcome:
    r.ready()
    return r.send(r.ix.register_member(r.council.pubkey(), r.key("new").pubkey(), 1), r.council)


def already_ratified(r: Rig) -> Outcome:
    r.ready()
    hash_ = r.read(r.at.governance)["constitution_hash"].hex()
    return r.send(r.ix.ratify(r.council.pubkey(), hash_), r.council)


def not_ratified(r: Rig) -> Outcome:
    r.initialize()
    a = r.register("a")
    return r.send(r.ix.propose(a.pubkey(), 0, "policy", digest("x"), digest("c"), DAY), a)


def bootstrap_incomplete(r: Rig) -> Outcome:
    r.initialize()
    r.register("a")
    return r.send(r.ix.ratify(r.council.pubkey(), digest("constitution")), r.council)


def proposal_not_accepted(r: Rig) -> Outcome:
    members = r.ready()
    p = r.propose(members[0])
    r.carry(members[:2], p, "against")
    r.attest()
    return r.enact_policy(p)


def proposal_lapsed(r: Rig) -> Outcome:
    members = r.ready()
    p = r.propose(members[0])
    r.carry(members[:2], p)
    r.attest()
    r.set_time(START + DAY + DAYS_30)
    return r.enact_policy(p)


def wrong_kind(r: Rig) -> Outcome:
    members = r.ready()
    ix = r.ix.set_weight(r.payer.pubkey(), members[1].pubkey(), 5, 0)
    p = r.propose(members[0], "parameters", content_hash(ix))
    r.carry(members[:2], p)
    return r.send(ix)


def content_mismatch(r: Rig) -> Outcome:
    """The vote was on a weight of 5; the instruction says 500."""
    members = r.ready()
    p = r.propose(members[0], "membership", content_hash(r.ix.set_weight(r.payer.pubkey(), members[1].pubkey(), 5, 0)))
    r.carry(members[:2], p)
    return r.send(r.ix.set_weight(r.payer.pubkey(), members[1].pubkey(), 500, p))


def attestation_missing(r: Rig) -> Outcome:
    """An attestation of the same certificate for another policy is none."""
    members = r.ready()
    p = r.propose(members[0])
    r.carry(members[:2], p)
    r.attest(content=digest("another policy"))
    return r.enact_policy(p)


def stale_attestation(r: Rig) -> Outcome:
    members = r.ready()
    r.attest()
    p = r.propose(members[0])
    r.carry(members[:2], p)
    amendment = r.propose(members[0], "constitution", digest("constitution 2"))
    r.carry(members[:2], amendment)
    r.must(r.ix.enact(r.payer.pubkey(), amendment))
    return r.enact_policy(p)


def invalid_certificate(r: Rig) -> Outcome:
    a, *_ = r.ready()
    return r.send(r.ix.propose(a.pubkey(), 0, "policy", digest("x"), None, DAY), a)


def freeze(r: Rig, index: int = 0, duration: int = 3600) -> Outcome:
    return r.send(
        r.ix.emergency_action(r.emergency.pubkey(), index, "freeze_activation", None, digest("why"), duration),
        r.emergency,
    )


def activation_frozen(r: Rig) -> Outcome:
    members = r.ready()
    p = r.propose(members[0])
    r.carry(members[:2], p)
    r.attest()
    freeze(r)
    return r.enact_policy(p)


def not_closable(r: Rig) -> Outcome:
    a, *_ = r.ready()
    p = r.propose(a)
    return r.send(r.ix.close_proposal(a.pubkey(), p), a)


def invalid_voting_period(r: Rig) -> Outcome:
    a, *_ = r.ready()
    return r.send(r.ix.propose(a.pubkey(), 0, "constitution", digest("x"), None, DAY - 1), a)


def invalid_threshold(r: Rig) -> Outcome:
    return r.send(r.ix.initialize(r.payer.pubkey(), r.authorities, Parameters(DAY, 5000), digest("c")))


def invalid_quorum(r: Rig) -> Outcome:
    return r.send(r.ix.initialize(r.payer.pubkey(), r.authorities, Parameters(DAY, 6000, 0), digest("c")))


def invalid_weight(r: Rig) -> Outcome:
    r.initialize()
    return r.send(r.ix.register_member(r.council.pubkey(), r.key("a").pubkey(), 0), r.council)


def weight_overflow(r: Rig) -> Outcome:
    r.initialize()
    r.register("a", 2**64 - 1)
    return r.send(r.ix.register_member(r.council.pubkey(), r.key("b").pubkey(), 1), r.council)


def already_a_member(r: Rig) -> Outcome:
    r.initialize()
    a = r.register("a")
    return r.send(r.ix.register_member(r.council.pubkey(), a.pubkey(), 1), r.council)


def member_not_active(r: Rig) -> Outcome:
    r.initialize()
    a = r.register("a")
    r.must(r.ix.remove_member(r.council.pubkey(), a.pubkey()), r.council)
    return r.send(r.ix.set_weight(r.council.pubkey(), a.pubkey(), 3), r.council)


def last_member(r: Rig) -> Outcome:
    (a,) = r.ready((1,))
    ix = r.ix.remove_member(r.payer.pubkey(), a.pubkey(), 0)
    p = r.propose(a, "membership", content_hash(ix))
    r.carry([a], p)
    return r.send(ix)


def too_many_members(r: Rig) -> Outcome:
    r.initialize()
    patched(r, r.at.governance, member_slots=("<I", 32_768))
    return r.send(r.ix.register_member(r.council.pubkey(), r.key("a").pubkey(), 1), r.council)


def weight_change_limit(r: Rig) -> Outcome:
    members = r.ready((10, 10, 1))
    r.propose(members[0], content=digest("stays open"))
    outcome = None
    for weight in (2, 3, 4):
        index = r.read(r.at.governance)["proposal_count"]
        ix = r.ix.set_weight(r.payer.pubkey(), members[2].pubkey(), weight, index)
        p = r.propose(members[0], "membership", content_hash(ix))
        r.carry(members[:2], p)
        outcome = r.send(ix)
        if not outcome.ok:
            break
        r.propose(members[0], content=digest(f"open {weight}"))
    assert outcome is not None
    return outcome


def invalid_title(r: Rig) -> Outcome:
    r.initialize()
    ix = r.ix.add_principle(r.council.pubkey(), 0, "x", digest("p"), digest("c"))
    return r.send(raw(r, ix, data=bytes(ix.data)[:-1] + b"\xff"), r.council)


def principle_not_active(r: Rig) -> Outcome:
    r.initialize()
    r.add_principle()
    r.must(r.ix.retire_principle(r.council.pubkey(), 0, digest("c2")), r.council)
    return r.send(r.ix.retire_principle(r.council.pubkey(), 0, digest("c3")), r.council)


def invalid_choice(r: Rig) -> Outcome:
    a, *_ = r.ready()
    p = r.propose(a)
    ix = r.ix.vote(a.pubkey(), p, "for")
    return r.send(raw(r, ix, data=bytes(ix.data)[:-1] + b"\x03"), a)


def invalid_proposal_kind(r: Rig) -> Outcome:
    a, *_ = r.ready()
    ix = r.ix.propose(a.pubkey(), 0, "policy", digest("x"), digest("c"), DAY)
    return r.send(raw(r, ix, data=bytes(ix.data)[:8] + b"\x06" + bytes(ix.data)[9:]), a)


def invalid_emergency_kind(r: Rig) -> Outcome:
    r.ready()
    ix = r.ix.emergency_action(r.emergency.pubkey(), 0, "freeze_activation", None, digest("why"), 60)
    return r.send(raw(r, ix, data=bytes(ix.data)[:8] + b"\x03" + bytes(ix.data)[9:]), r.emergency)


def invalid_expiry(r: Rig) -> Outcome:
    r.ready()
    return freeze(r, duration=72 * 3600 + 1)


def emergency_not_active(r: Rig) -> Outcome:
    r.ready()
    freeze(r)
    r.set_time(START + 3600)
    return r.send(r.ix.end_emergency(r.emergency.pubkey(), 0, None), r.emergency)


def emergency_already_active(r: Rig) -> Outcome:
    r.ready()
    freeze(r)
    return freeze(r, 1)


def emergency_still_active(r: Rig) -> Outcome:
    r.ready()
    freeze(r)
    return r.send(r.ix.close_emergency(r.emergency.pubkey(), 0))


def anchor_not_growing(r: Rig) -> Outcome:
    r.initialize()
    r.must(r.ix.anchor_root(r.log.pubkey(), 5, digest("root")), r.log)
    return r.send(r.ix.anchor_root(r.log.pubkey(), 5, digest("other root")), r.log)


def invalid_role(r: Rig) -> Outcome:
    r.initialize()
    ix = r.ix.accept_authority(r.council.pubkey(), "council")
    return r.send(raw(r, ix, data=bytes(ix.data)[:-1] + b"\x04"), r.council)


def no_offer(r: Rig) -> Outcome:
    r.initialize()
    return r.send(r.ix.accept_authority(r.log.pubkey(), "council"), r.log)


def zero_value(r: Rig) -> Outcome:
    who = Authorities(r.council.pubkey(), Pubkey.default(), r.log.pubkey(), r.verifier.pubkey())
    return r.send(r.ix.initialize(r.payer.pubkey(), who, Parameters(DAY), digest("c")))


def wrong_version(r: Rig) -> Outcome:
    r.ready()
    return r.send(r.ix.attest(r.verifier.pubkey(), digest("certificate"), digest("policy"), 2), r.verifier)


def unknown_instruction(r: Rig) -> Outcome:
    return r.send(Instruction(r.program, bytes(8), []))


def invalid_arguments(r: Rig) -> Outcome:
    a, *_ = r.ready()
    p = r.propose(a)
    ix = r.ix.vote(a.pubkey(), p, "for")
    return r.send(raw(r, ix, data=bytes(ix.data) + b"\0"), a)


def wrong_account_count(r: Rig) -> Outcome:
    a, *_ = r.ready()
    p = r.propose(a)
    ix = r.ix.vote(a.pubkey(), p, "for")
    return r.send(raw(r, ix, accounts=ix.accounts[:2]), a)


def not_signer(r: Rig) -> Outcome:
    """Somebody else's vote, without the signature."""
    a, *_ = r.ready()
    p = r.propose(a)
    ix = r.ix.vote(a.pubkey(), p, "for")
    return r.send(raw(r, ix, accounts=[AccountMeta(a.pubkey(), False, False), *ix.accounts[1:]]))


def not_writable(r: Rig) -> Outcome:
    a, *_ = r.ready()
    p = r.propose(a)
    ix = r.ix.vote(a.pubkey(), p, "for")
    return r.send(raw(r, ix, accounts=[*ix.accounts[:2], AccountMeta(r.at.proposal(p), False, False)]), a)


def wrong_owner(r: Rig) -> Outcome:
    """A proposal forged byte by byte, in an account of another program."""
    a, *_ = r.ready()
    p = r.propose(a)
    fake = Pubkey.new_unique()
    r.write(fake, bytes(r.svm.get_account(r.at.proposal(p)).data), owner=SYSTEM)  # pyright: ignore[reportOptionalMemberAccess]
    return r.send(swap(r.ix.vote(a.pubkey(), p, "for"), 2, fake), a)


def wrong_type(r: Rig) -> Outcome:
    """The governance account in place of a proposal."""
    a, *_ = r.ready()
    p = r.propose(a)
    return r.send(swap(r.ix.vote(a.pubkey(), p, "for"), 2, r.at.governance), a)


def invalid_pda(r: Rig) -> Outcome:
    """A true proposal's bytes, owned by the program, at an address that is not its own."""
    a, *_ = r.ready()
    p = r.propose(a)
    fake = Pubkey.new_unique()
    r.write(fake, bytes(r.svm.get_account(r.at.proposal(p)).data))  # pyright: ignore[reportOptionalMemberAccess]
    return r.send(swap(r.ix.vote(a.pubkey(), p, "for"), 2, fake), a)


def already_exists(r: Rig) -> Outcome:
    """Reinitialisation."""
    r.initialize()
    return r.send(r.ix.initialize(r.payer.pubkey(), r.authorities, Parameters(DAY), digest("mine")))


def wrong_rent_recipient(r: Rig) -> Outcome:
    members = r.ready()
    p = r.propose(members[0])
    for member in members[:2]:
        r.vote(member, p)
    return r.send(r.ix.finalize(p, r.key("thief").pubkey()))


def wrong_system_program(r: Rig) -> Outcome:
    a, *_ = r.ready()
    return r.send(swap(r.ix.propose(a.pubkey(), 0, "policy", digest("x"), digest("c"), DAY), 4, r.program), a)


def missing_account(r: Rig) -> Outcome:
    """A policy cannot be suspended without the policy's account."""
    r.ready()
    ix = r.ix.emergency_action(r.emergency.pubkey(), 0, "suspend_policy", digest("policy"), digest("why"), 60)
    return r.send(swap(ix, 3, r.program), r.emergency)


def unexpected_account(r: Rig) -> Outcome:
    """In the bootstrap there is no proposal to carry out."""
    r.initialize()
    return r.send(r.ix.register_member(r.council.pubkey(), r.key("a").pubkey(), 1, 0), r.council)


def invariant_violated(r: Rig) -> Outcome:
    """A total that the members do not add up to, which no instruction can produce."""
    r.initialize()
    a = r.register("a", 5)
    patched(r, r.at.governance, total_weight=("<Q", 4))
    return r.send(r.ix.remove_member(r.council.pubkey(), a.pubkey()), r.council)


def wrong_instructions_sysvar(r: Rig) -> Outcome:
    r.initialize()
    ix = r.ix.register_member(r.council.pubkey(), r.key("a").pubkey(), 1)
    metas = [*ix.accounts[:-1], AccountMeta(r.at.governance, False, True)]
    return r.send(Instruction(r.program, bytes(ix.data), metas), r.council)


def voting_has_begun(r: Rig) -> Outcome:
    a, b, _ = r.ready()
    p = r.propose(a)
    r.vote(b, p, "against")
    return r.send(r.ix.cancel(a.pubkey(), p), a)


def proposal_outdated(r: Rig) -> Outcome:
    """A weight that was voted on, and another one that was proposed and carried out after it."""
    members = r.ready((10, 10, 1))
    older, newer = (
        r.ix.set_weight(r.payer.pubkey(), members[2].pubkey(), weight, p) for p, weight in enumerate((9, 2))
    )
    for ix in (older, newer):
        r.carry(members[:2], r.propose(members[0], "membership", content_hash(ix)))
    r.must(newer)
    return r.send(older)


def emergency_cooling_down(r: Rig) -> Outcome:
    r.ready()
    freeze(r)
    r.set_time(START + 3600)
    return freeze(r, 1)


PROVOKED: dict[str, Callable[[Rig], Outcome]] = {
    "TooManyPrinciples": too_many_principles,
    "TitleTooLong": title_too_long,
    "ProposalNotActive": proposal_not_active,
    "VotingPeriodEnded": voting_period_ended,
    "VotingPeriodNotEnded": voting_period_not_ended,
    "UnauthorizedEmergencyAction": unauthorized_emergency,
    "AlreadyVoted": already_voted,
    "NotAMember": not_a_member,
    "Unauthorized": unauthorized,
    "ProposalRequired": proposal_required,
    "AlreadyRatified": already_ratified,
    "NotRatified": not_ratified,
    "BootstrapIncomplete": bootstrap_incomplete,
    "ProposalNotAccepted": proposal_not_accepted,
    "ProposalLapsed": proposal_lapsed,
    "WrongProposalKind": wrong_kind,
    "ContentMismatch": content_mismatch,
    "AttestationMissing": attestation_missing,
    "StaleAttestation": stale_attestation,
    "InvalidCertificate": invalid_certificate,
    "ActivationFrozen": activation_frozen,
    "ProposalNotClosable": not_closable,
    "InvalidVotingPeriod": invalid_voting_period,
    "InvalidThreshold": invalid_threshold,
    "InvalidQuorum": invalid_quorum,
    "InvalidWeight": invalid_weight,
    "WeightOverflow": weight_overflow,
    "AlreadyAMember": already_a_member,
    "MemberNotActive": member_not_active,
    "LastMember": last_member,
    "TooManyMembers": too_many_members,
    "WeightChangeLimit": weight_change_limit,
    "InvalidTitle": invalid_title,
    "PrincipleNotActive": principle_not_active,
    "InvalidChoice": invalid_choice,
    "InvalidProposalKind": invalid_proposal_kind,
    "InvalidEmergencyKind": invalid_emergency_kind,
    "InvalidExpiry": invalid_expiry,
    "EmergencyNotActive": emergency_not_active,
    "EmergencyAlreadyActive": emergency_already_active,
    "EmergencyStillActive": emergency_still_active,
    "AnchorNotGrowing": anchor_not_growing,
    "InvalidRole": invalid_role,
    "NoOffer": no_offer,
    "ZeroValue": zero_value,
    "WrongConstitutionVersion": wrong_version,
    "UnknownInstruction": unknown_instruction,
    "InvalidArguments": invalid_arguments,
    "WrongAccountCount": wrong_account_count,
    "AccountNotSigner": not_signer,
    "AccountNotWritable": not_writable,
    "WrongOwner": wrong_owner,
    "WrongAccountType": wrong_type,
    "InvalidPda": invalid_pda,
    "AlreadyExists": already_exists,
    "WrongRentRecipient": wrong_rent_recipient,
    "WrongSystemProgram": wrong_system_program,
    "MissingAccount": missing_account,
    "UnexpectedAccount": unexpected_account,
    "InvariantViolated": invariant_violated,
    "WrongInstructionsSysvar": wrong_instructions_sysvar,
    "VotingHasBegun": voting_has_begun,
    "ProposalOutdated": proposal_outdated,
    "EmergencyCoolingDown": emergency_cooling_down,
}


@pytest.mark.parametrize("name", PROVOKED)
def test_each_error_has_a_way_to_provoke_it(name: str) -> None:
    assert PROVOKED[name](Rig()).error == name


def test_no_declared_error_is_left_out() -> None:
    assert set(PROVOKED) == set(ERROR_CODES)


# From 6000 on. Codes are part of the interface: new names go to the end, none moves or goes.
CODES = (
    "TooManyPrinciples", "TitleTooLong", "ProposalNotActive", "VotingPeriodEnded", "VotingPeriodNotEnded",
    "UnauthorizedEmergencyAction", "AlreadyVoted", "NotAMember", "Unauthorized", "ProposalRequired",
    "AlreadyRatified", "NotRatified", "BootstrapIncomplete", "ProposalNotAccepted", "ProposalLapsed",
    "WrongProposalKind", "ContentMismatch", "AttestationMissing", "StaleAttestation", "InvalidCertificate",
    "ActivationFrozen", "ProposalNotClosable", "InvalidVotingPeriod", "InvalidThreshold", "InvalidQuorum",
    "InvalidWeight", "WeightOverflow", "AlreadyAMember", "MemberNotActive", "LastMember", "TooManyMembers",
    "WeightChangeLimit", "InvalidTitle", "PrincipleNotActive", "InvalidChoice", "InvalidProposalKind",
    "InvalidEmergencyKind", "InvalidExpiry", "EmergencyNotActive", "EmergencyAlreadyActive", "EmergencyStillActive",
    "AnchorNotGrowing", "InvalidRole", "NoOffer", "ZeroValue", "WrongConstitutionVersion", "UnknownInstruction",
    "InvalidArguments", "WrongAccountCount", "AccountNotSigner", "AccountNotWritable", "WrongOwner",
    "WrongAccountType", "InvalidPda", "AlreadyExists", "WrongRentRecipient", "WrongSystemProgram", "MissingAccount",
    "UnexpectedAccount", "InvariantViolated", "WrongInstructionsSysvar", "VotingHasBegun", "ProposalOutdated",
    "EmergencyCoolingDown",
)  # fmt: skip


def test_names_and_codes_are_stable() -> None:
    assert {name: 6000 + place for place, name in enumerate(CODES)} == ERROR_CODES
    assert IDL.address == str(PROGRAM)
