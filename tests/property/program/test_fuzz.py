"""Valid instructions with one thing wrong: never a panic, and never a change by what is refused.

Every instruction is taken from a state where it succeeds, so that a mutation meets the checks behind the first one too.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM
from solders.transaction import Transaction

from acgs1.ledger.instructions import Parameters, content_hash
from program.rig import DAY, ERROR_CODES, ERROR_NAMES, IDL, SHIPPED, Rig, digest, keypair

SYSVAR = Pubkey.from_string("Sysvar1nstructions1111111111111111111111111")
QUICK, LONG = 120, 1_500
# The checks that come before anything is looked at: how many accounts, their flags, which instruction, how long its data.
FIRST = {
    "WrongAccountCount", "AccountNotSigner", "AccountNotWritable", "UnknownInstruction", "InvalidArguments",
    "WrongSystemProgram",
}  # fmt: skip
# Errors that are not the program's own: an account that is borrowed already, given twice.
RUNTIME = {"InstructionErrorFieldless.AccountBorrowFailed"}


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


def mutated(rng: random.Random, case: Case, keys: dict[Pubkey, Keypair]) -> tuple[str, Instruction]:
    """One thing changed."""
    data, metas = bytearray(bytes(case.instruction.data)), list(case.instruction.accounts)
    everything = [*case.rig.state(), SYSTEM, SYSVAR, case.rig.program, *keys]
    # What the first check finds, less often.
    ways = ["flip"] * 4 + ["value"] * 3 + ["cut", "extend"]
    if metas:
        ways += ["swap", "drop", "double", "flags"] + ["duplicate", "foreign"] * 2 + ["replace"] * 4
    way = rng.choice(ways)
    at = rng.randrange(len(metas)) if metas else 0
    match way:
        case "flip":
            # The discriminator is one place among many: a wrong one meets only the first check.
            place = rng.randrange(8, len(data)) if len(data) > 8 and rng.random() < 0.95 else rng.randrange(8)
            data[place] ^= 1 << rng.randrange(8)
        case "value":
            if len(data) > 8:
                place = rng.randrange(8, len(data))
                wide = rng.choice([1, 2, 4, 8, 32])
                filled = rng.choice([b"\xff" * 32, bytes(32), b"\xff" * 7 + b"\x7f" + bytes(24), rng.randbytes(32)])
                data[place : place + wide] = filled[: min(wide, len(data) - place)]
        case "cut":
            del data[rng.randrange(len(data)) :]
        case "extend":
            data += rng.randbytes(rng.randrange(1, 40))
        case "swap":
            other = rng.randrange(len(metas))
            metas[at], metas[other] = with_key(metas[at], metas[other]), with_key(metas[other], metas[at])
        case "replace":
            # Another account of the program's, or anybody's wallet.
            likely = list(keys) if metas[at].is_signer else everything
            metas[at] = AccountMeta(rng.choice(likely), metas[at].is_signer, metas[at].is_writable)
        case "duplicate":
            metas[at] = with_key(metas[at], rng.choice(metas))
        case "drop":
            del metas[at]
        case "double":
            metas.insert(at, rng.choice(metas))
        case "flags":
            signer, writable = metas[at].is_signer, metas[at].is_writable
            metas[at] = AccountMeta(metas[at].pubkey, not signer if rng.random() < 0.5 else signer, not writable)
        case "foreign":
            # The same bytes at another address, or the account in the hands of another program.
            source = case.rig.svm.get_account(metas[at].pubkey)
            target = Pubkey(rng.randbytes(32))
            owner = rng.choice([case.rig.program, SYSTEM, Pubkey(bytes([5] * 32))])
            case.rig.write(target, bytes(source.data) if source is not None else b"", owner=owner, lamports=10**9)
            metas[at] = AccountMeta(target, metas[at].is_signer, metas[at].is_writable)
    # Nobody can sign for an account whose key nobody has.
    metas = [AccountMeta(m.pubkey, m.is_signer and m.pubkey in keys, m.is_writable) for m in metas]
    return way, Instruction(case.rig.program, bytes(data), metas)


def with_key(meta: AccountMeta, other: AccountMeta) -> AccountMeta:
    return AccountMeta(other.pubkey, meta.is_signer, meta.is_writable)


def fuzz(budget: int, seed: int) -> tuple[Counter[str], Counter[str]]:
    """Runs the mutations and returns how many came to which end, and how many of each kind there were."""
    ends: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for number, case in enumerate(cases()):
        rng = random.Random(f"{seed}/{number}")
        rig = case.rig
        keys = {k.pubkey(): k for k in (*case.signers, rig.payer, rig.council, rig.emergency, rig.log, rig.verifier)}
        valid, logs = simulated(case, case.instruction, list(keys.values()))
        assert valid is None, (case.name, valid, logs)
        for _ in range(budget):
            way, instruction = mutated(rng, case, keys)
            error, logs = simulated(case, instruction, list(keys.values()))
            told = (case.name, way, error, bytes(instruction.data).hex(), instruction.accounts, logs)
            assert not any("panicked" in line or "exceeded CUs" in line for line in logs), told
            assert error is None or error in ERROR_CODES or error in RUNTIME, told
            kinds[way] += 1
            ends["accepted" if error is None else "first check" if error in FIRST else error] += 1
            if error is not None and rng.random() < 0.1:
                before = rig.state()
                wanted = {m.pubkey for m in instruction.accounts if m.is_signer} - {rig.payer.pubkey()}
                outcome = rig.send([*case.before, instruction], *(keys[w] for w in wanted))
                assert outcome.error == error, (outcome, told)
                assert rig.state() == before, told
    return ends, kinds


def behind_the_first_check(ends: Counter[str]) -> float:
    return 1 - ends["first check"] / ends.total()


def test_every_instruction_is_among_the_cases() -> None:
    assert SHIPPED is not None
    assert {case.name for case in cases()} == {i["name"] for i in SHIPPED.idl["instructions"]}


def test_nothing_panics_and_a_refusal_changes_nothing(record_property: Callable[[str, object], None]) -> None:
    ends, kinds = fuzz(QUICK, seed=1)
    share = behind_the_first_check(ends)
    record_property("behind_the_first_check", round(share, 3))
    print(f"{ends.total()} mutations, {share:.0%} behind the first check, {len(ends) - 2} different errors: {ends}")
    assert share > 0.4
    assert len(set(ends) & set(ERROR_CODES)) > 20
    assert min(kinds.values()) > 50


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 5))
def test_nothing_panics_in_a_longer_search(seed: int) -> None:
    ends, _ = fuzz(LONG, seed)
    assert behind_the_first_check(ends) > 0.4
