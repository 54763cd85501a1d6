"""Every instruction from a state in which it succeeds, to change one thing about it."""

from collections.abc import Callable
from dataclasses import dataclass

from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction

from acgs1.ledger.instructions import Parameters, content_hash
from program.rig import DAY, ERROR_NAMES, IDL, Rig, digest, keypair

SYSVAR = Pubkey.from_string("Sysvar1nstructions1111111111111111111111111")


@dataclass
class Case:
    """An instruction that succeeds on the rig's state, and the keys that sign it."""

    name: str
    rig: Rig
    instruction: Instruction
    signers: list[Keypair]
    before: list[Instruction]


def bootstrap() -> tuple[Rig, list[Keypair]]:
    rig = Rig()
    rig.initialize()
    rig.add_principle()
    return rig, [rig.register(f"member {i}", 3 - i) for i in range(3)]


def governed() -> tuple[Rig, list[Keypair]]:
    """An account of every type, one proposal in each state, a policy in force and an action in effect."""
    rig, members = bootstrap()
    rig.ratify()
    rig.attest()
    rig.carry(members[:2], rig.propose(members[0]))
    assert rig.enact_policy(0).ok
    rig.propose(members[0], content=digest("open"))
    rig.must(rig.ix.cancel(members[0].pubkey(), rig.propose(members[0])), members[0])
    rig.must(
        rig.ix.emergency_action(rig.emergency.pubkey(), 0, "suspend_policy", digest("policy"), digest("w"), DAY),
        rig.emergency,
    )
    return rig, members


def carried(rig: Rig, members: list[Keypair], kind: str, content: str, certificate: str | None = None) -> int:
    index = rig.propose(members[0], kind, content, certificate)
    rig.carry(members[:2], index)
    return index


def cases() -> list[Case]:
    """Every instruction; those that a vote carries out, both ways."""
    found: list[Case] = []

    def add(rig: Rig, ix: Instruction, *signers: Keypair, before: list[Instruction] | None = None) -> None:
        name = IDL.instruction_name(bytes(ix.data))
        assert name is not None
        found.append(Case(name, rig, ix, list(signers), before or []))

    fresh = Rig()
    add(fresh, fresh.ix.initialize(fresh.payer.pubkey(), fresh.authorities, Parameters(DAY), digest("c")))
    r, members = bootstrap()
    council = r.council.pubkey()
    # A wallet whose address is not found at once, so that a search can be shared out.
    new = next(w for n in range(99) if r.at.origin(r.at.member(w := keypair(f"new {n}").pubkey()))[1] < 255)
    hash_ = r.read(r.at.governance)["constitution_hash"].hex()
    add(r, r.ix.add_principle(council, 1, "Title", digest("p"), digest("c")), r.council)
    add(r, r.ix.amend_principle(council, 0, "Title", digest("p"), digest("c")), r.council)
    add(r, r.ix.retire_principle(council, 0, digest("c")), r.council)
    add(r, r.ix.set_weight(council, members[0].pubkey(), 9), r.council)
    add(r, r.ix.remove_member(council, members[0].pubkey()), r.council)
    add(r, r.ix.set_parameters(council, Parameters(DAY)), r.council)
    add(r, r.ix.ratify(council, hash_), r.council)
    registration = r.ix.register_member(council, new, 5)
    add(r, registration, r.council)
    seeds, bump = r.at.origin(r.at.member(new))
    exclude = r.ix.exclude_bumps(seeds, bump + 1)
    add(r, exclude)
    metas = [*registration.accounts[:-1], AccountMeta(SYSVAR, False, False)]
    add(r, Instruction(r.program, bytes(registration.data), metas), r.council, before=[exclude])
    r, members = governed()
    first, payer, emergency = members[0], r.payer.pubkey(), r.emergency.pubkey()
    add(r, r.ix.propose(first.pubkey(), 3, "policy", digest("next"), digest("certificate"), DAY), first)
    add(r, r.ix.vote(first.pubkey(), 1, "for"), first)
    add(r, r.ix.cancel(first.pubkey(), 1), first)
    add(r, r.ix.close_proposal(first.pubkey(), 2), first)
    add(r, r.ix.attest(r.verifier.pubkey(), digest("other"), digest("open"), 1), r.verifier)
    add(r, r.ix.revoke_attestation(r.verifier.pubkey(), digest("certificate")), r.verifier)
    add(r, r.ix.anchor_root(r.log.pubkey(), 7, digest("root")), r.log)
    add(r, r.ix.emergency_action(emergency, 1, "revoke_agent", digest("a"), digest("w"), 600), r.emergency)
    add(r, r.ix.emergency_action(emergency, 1, "freeze_activation", None, digest("w"), 600), r.emergency)
    add(r, r.ix.end_emergency(emergency, 0, r.at.policy(digest("policy"))), r.emergency)
    add(r, r.ix.offer_authority(r.log.pubkey(), "log", first.pubkey()), r.log)
    r, members = governed()
    first = members[0]
    r.must(r.ix.offer_authority(r.log.pubkey(), "log", first.pubkey()), r.log)
    add(r, r.ix.accept_authority(first.pubkey(), "log"), first)
    for member in members[:2]:
        assert r.vote(member, 1).ok
    add(r, r.ix.finalize(1, first.pubkey()))
    policy, attestation = r.at.policy(digest("new")), r.at.attestation(digest("proved"))
    r.attest(digest("proved"), digest("new"))
    index = carried(r, members, "policy", digest("new"), digest("proved"))
    add(r, r.ix.enact(r.payer.pubkey(), index, policy=policy, attestation=attestation))
    add(r, r.ix.enact(r.payer.pubkey(), carried(r, members, "constitution", digest("text"))))
    emergency_account = r.at.emergency(0)
    index = carried(r, members, "emergency_ratification", bytes(emergency_account).hex())
    suspended = r.at.policy(digest("policy"))
    add(r, r.ix.enact(r.payer.pubkey(), index, policy=suspended, emergency=emergency_account))
    by_vote: list[tuple[str, Callable[[int], Instruction]]] = [
        ("principle", lambda n: r.ix.add_principle(payer, 1, "Title", digest("p"), digest("c"), n)),
        ("principle", lambda n: r.ix.amend_principle(payer, 0, "Title", digest("p"), digest("c"), n)),
        ("principle", lambda n: r.ix.retire_principle(payer, 0, digest("c"), n)),
        ("membership", lambda n: r.ix.register_member(payer, r.key("new").pubkey(), 5, n)),
        ("membership", lambda n: r.ix.set_weight(payer, first.pubkey(), 9, n)),
        ("membership", lambda n: r.ix.remove_member(payer, first.pubkey(), n)),
        ("parameters", lambda n: r.ix.set_parameters(payer, Parameters(2 * DAY), n)),
    ]
    for kind, build in by_vote:
        index = r.read(r.at.governance)["proposal_count"]
        ix = build(index)
        carried(r, members, kind, content_hash(ix))
        add(r, ix)
    late, _ = governed()
    late.set_time(late.now + 4 * DAY)  # one of the action, three of its cool-down
    add(late, late.ix.close_emergency(late.emergency.pubkey(), 0))
    r, members = governed()
    action = r.at.emergency(1, digest("a"))
    r.must(r.ix.emergency_action(emergency, 1, "revoke_agent", digest("a"), digest("w"), 2 * DAY), r.emergency)
    vote = r.ix.propose(members[0].pubkey(), 3, "emergency_ratification", bytes(action).hex(), None, DAY)
    add(r, vote, members[0])
    add(r, r.ix.end_emergency(emergency, 1, None, digest("a")), r.emergency)
    return found


def simulated(case: Case, instruction: Instruction, signers: list[Keypair]) -> tuple[str | None, list[str]]:
    """What would become of it, without its effects: the error's name."""
    rig = case.rig
    rig.svm.expire_blockhash()
    keys = {k.pubkey(): k for k in (rig.payer, *signers)}
    wanted = {m.pubkey for m in instruction.accounts if m.is_signer}
    batch = [*case.before, instruction]
    message = Message(batch, rig.payer.pubkey())
    present = [k for p, k in keys.items() if p == rig.payer.pubkey() or p in wanted]
    result = rig.svm.simulate_transaction(Transaction(present, message, rig.svm.latest_blockhash()))
    if not hasattr(result, "err"):
        return None, result.meta().logs()
    detail = getattr(result.err(), "err", result.err())
    code = getattr(detail, "code", None)
    return ERROR_NAMES.get(code, str(detail)) if isinstance(code, int) else str(detail), result.meta().logs()
