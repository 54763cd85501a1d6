"""What the governance program costs: compute units, fees and rent per instruction, against its budgets.

    python benchmarks/ledger/costs.py            measures, writes results/costs.{json,md}, exits with 1 over budget

Runs the shipped program in LiteSVM. Nothing depends on the clock or on chance: two runs of one build give equal tables.
"""

import json
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from record import context, keep, lower  # noqa: E402
from solders.instruction import Instruction  # noqa: E402
from solders.keypair import Keypair  # noqa: E402
from solders.message import Message  # noqa: E402
from solders.transaction import Transaction  # noqa: E402

from acgs1.ledger.instructions import Parameters, content_hash  # noqa: E402
from acgs1.ledger.model import COOL_DOWN  # noqa: E402
from program.rig import DAY, SHIPPED, Outcome, Rig, digest  # noqa: E402

RESULTS = Path(__file__).parent / "results"
MEMBERS = 256
VOTES = 20
# Addresses are as random as hashes: of what makes accounts, the worst of so many counts.
MADE = 512

MAX_UNITS = 5_000
# What makes an account searches for its address. The budget above holds where `exclude_bumps` shares that search out; these hold for
# the two of them together, and for one that stands alone, of so many addresses. (One in 2^k takes 350 more for each k.)
MAX_TOGETHER = 8_500
MAX_ALONE = 8_000
MAX_VOTE = 6_000  # lamports: 0.000006 SOL
MAX_LOCKED = 3_500_000  # 0.0035 SOL
MAX_SPENT = 150_000  # 0.00015 SOL
MAX_TRANSACTION = 10_000_000  # the plan's 0.01 SOL

# The account layout of the plan's original, an Anchor program: proposals of 1.7 KB with their texts, a record for each
# vote (discriminator, voter, proposal id, choice, weight, time, bump), a policy with its text.
ANCHOR_PROPOSAL = 1_700
ANCHOR_VOTE = 8 + 32 + 8 + 1 + 8 + 8 + 1


CONSUMED = re.compile(r"^Program (\S+) consumed (\d+) of")


@dataclass
class Row:
    """One instruction: units, lamports of fee, lamports of rent taken (negative: given back)."""

    instruction: str
    units: int
    fee: int
    rent: int


@dataclass
class Worst:
    """The worst of many: the instruction itself, `exclude_bumps` before it, both in one transaction, and the instruction where
    it stands alone."""

    instruction: str
    count: int = 0
    units: int = 0
    exclude_bumps: int = 0
    together: int = 0
    alone: int = 0

    def note(self, taken: list[int], alone: int) -> None:
        """`taken`: what each instruction of the transaction took, the maker last."""
        self.count += 1
        self.units = max(self.units, taken[-1])
        self.exclude_bumps = max([self.exclude_bumps, *taken[:-1]])
        self.together = max(self.together, sum(taken))
        self.alone = max(self.alone, alone)


def units(outcome: Outcome, program: str) -> list[int]:
    """What each instruction of the program took, in order. (It calls itself nowhere.)"""
    found = [CONSUMED.match(line) for line in outcome.logs]
    return [int(match[2]) for match in found if match and match[1] == program]


class Meter:
    """Runs instructions and books what each takes."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.rows: list[Row] = []

    def run(self, name: str, ix: Instruction, *signers: Keypair) -> Outcome:
        rig = self.rig
        payer = signers[0] if signers else rig.payer
        before = sum(account[0] for account in rig.state().values())
        touched = {payer.pubkey(), *(meta.pubkey for meta in ix.accounts)}
        funds = sum(rig.lamports(key) for key in touched)
        outcome = rig.must(rig.ix.cheaply(ix), *signers, payer=payer)
        rent = sum(account[0] for account in rig.state().values()) - before
        fee = funds - sum(rig.lamports(key) for key in touched)  # what no touched account has any more
        self.rows.append(Row(name, units(outcome, str(rig.program))[-1], fee, rent))
        return outcome


def measure() -> tuple[list[Row], dict[str, dict[str, int]]]:
    """Every instruction once, in a governance of 256 members; and whole proposals among 20 and among 256."""
    m = Meter()
    r, ix = m.rig, m.rig.ix
    council = r.council.pubkey()
    m.run("initialize", ix.initialize(r.payer.pubkey(), r.authorities, Parameters(DAY), digest("constitution")))
    m.run("add_principle", ix.add_principle(council, 0, "x" * 64, digest("p"), digest("c")), r.council)
    m.run("amend_principle", ix.amend_principle(council, 0, "y" * 64, digest("p2"), digest("c2")), r.council)
    m.run("add_principle (second)", ix.add_principle(council, 1, "x" * 64, digest("p"), digest("c3")), r.council)
    m.run("retire_principle", ix.retire_principle(council, 1, digest("c4")), r.council)
    members = [r.register(f"member {i}") for i in range(MEMBERS - 1)]
    members.append(r.key("last"))
    m.run("register_member", ix.register_member(council, members[-1].pubkey(), 1), r.council)
    m.run("set_weight", ix.set_weight(council, members[-1].pubkey(), 2), r.council)
    m.run("remove_member", ix.remove_member(council, members[-1].pubkey()), r.council)
    r.must(ix.register_member(council, members[-1].pubkey(), 1), r.council)
    m.run("set_parameters", ix.set_parameters(council, Parameters(DAY)), r.council)
    m.run("ratify", ix.ratify(council, digest("c4")), r.council)
    first = members[0]
    m.run("propose", ix.propose(first.pubkey(), 0, "policy", digest("policy"), digest("certificate"), DAY), first)
    taken = []
    for member in members[:-1]:
        taken.append(r.vote(member, 0).units)
        if r.read(r.at.proposal(0))["votes_for"] == 200:
            break
    m.run("vote", ix.vote(members[-1].pubkey(), 0, "for"), members[-1])
    m.rows[-1].units = max(m.rows[-1].units, *taken)
    m.run("finalize", ix.finalize(0, first.pubkey()))
    m.run("attest", ix.attest(r.verifier.pubkey(), digest("certificate"), digest("policy"), 1), r.verifier)
    policy, attestation = r.at.policy(digest("policy")), r.at.attestation(digest("certificate"))
    m.run("enact", ix.enact(r.payer.pubkey(), 0, policy=policy, attestation=attestation))
    m.run("close_proposal", ix.close_proposal(first.pubkey(), 0), first)
    m.run("revoke_attestation", ix.revoke_attestation(r.verifier.pubkey(), digest("certificate")), r.verifier)

    change = ix.set_weight(r.payer.pubkey(), members[1].pubkey(), 5, 1)
    decided(r, members, r.propose(first, "membership", content_hash(change)))
    m.run("set_weight (by vote)", change)
    addition = ix.add_principle(r.payer.pubkey(), 2, "z" * 64, digest("p3"), digest("c5"), 2)
    decided(r, members, r.propose(first, "principle", content_hash(addition)))
    m.run("add_principle (by vote)", addition)
    amendment = r.propose(first, "constitution", digest("c6"))
    decided(r, members, amendment)
    m.run("enact (constitution)", ix.enact(r.payer.pubkey(), amendment))
    cancelled = r.propose(first)
    m.run("cancel", ix.cancel(first.pubkey(), cancelled), first)

    chief = r.emergency.pubkey()
    m.run("emergency_action", ix.emergency_action(chief, 0, "suspend_policy", digest("policy"), digest("w"), 600), r.emergency)  # fmt: skip
    vote = r.propose(first, "emergency_ratification", bytes(r.at.emergency(0)).hex())
    decided(r, members, vote)
    m.run("enact (emergency)", ix.enact(r.payer.pubkey(), vote, policy=policy, emergency=r.at.emergency(0)))
    ratification = bytes(r.at.emergency(1)).hex()
    m.run("emergency_action (freeze)", ix.emergency_action(chief, 1, "freeze_activation", None, digest("w"), 600), r.emergency)  # fmt: skip
    index = r.read(r.at.governance)["proposal_count"]
    m.run(
        "propose (emergency)",
        ix.propose(first.pubkey(), index, "emergency_ratification", ratification, None, DAY),
        first,
    )
    revocation = ix.emergency_action(chief, 2, "revoke_agent", digest("agent"), digest("w"), 600)
    m.run("emergency_action (revocation)", revocation, r.emergency)
    m.run("end_emergency", ix.end_emergency(chief, 1, None), r.emergency)
    r.set_time(r.now + COOL_DOWN)
    m.run("close_emergency", ix.close_emergency(chief, 1), r.emergency)
    m.run("anchor_root", ix.anchor_root(r.log.pubkey(), 5, digest("root")), r.log)
    heir = r.key("heir")
    m.run("offer_authority", ix.offer_authority(r.log.pubkey(), "log", heir.pubkey()), r.log)
    m.run("accept_authority", ix.accept_authority(heir.pubkey(), "log"), heir)
    return m.rows, {str(n): whole_proposal(n) for n in (VOTES, MEMBERS)}


def many() -> list[Worst]:
    """Each instruction that makes an account, so often, by vote where that is the dearer way."""
    r = Rig()
    ix = r.ix
    members = r.ready([10**6] + [1] * (MEMBERS - 1))
    first, chief = members[0], r.emergency.pubkey()
    worst: dict[str, Worst] = {}

    def make(name: str, instruction: Instruction, *signers: Keypair) -> None:
        alone = simulated(r, instruction, *signers)
        taken = units(r.must(ix.cheaply(instruction), *signers), str(r.program))
        worst.setdefault(name, Worst(name)).note(taken, alone)

    def carried(kind: str, content: str, certificate: str | None = None) -> int:
        index = r.read(r.at.governance)["proposal_count"]
        proposed = ix.propose(first.pubkey(), index, kind, content, certificate, DAY)  # pyright: ignore[reportArgumentType]
        make("propose", proposed, first)
        assert r.vote(first, index).ok
        assert r.finalize(index).ok
        return index

    for number in range(MADE):
        certificate, content = digest(f"certificate {number}"), digest(f"policy {number}")
        version = r.read(r.at.governance)["constitution_version"]
        make("attest", ix.attest(r.verifier.pubkey(), certificate, content, version), r.verifier)
        index = carried("policy", content, certificate)
        policy, attestation = r.at.policy(content), r.at.attestation(certificate)
        make("enact", ix.enact(r.payer.pubkey(), index, policy=policy, attestation=attestation))
        r.must(ix.close_proposal(first.pubkey(), index), first)
        suspension = ix.emergency_action(chief, number, "suspend_policy", content, digest("w"), 600)
        make("emergency_action", suspension, r.emergency)
        wallet = Keypair.from_seed(bytes.fromhex(digest(f"wallet {number}"))).pubkey()
        index = r.read(r.at.governance)["proposal_count"]
        registration = ix.register_member(r.payer.pubkey(), wallet, 1, index)
        carried("membership", content_hash(registration))
        make("register_member (by vote)", registration)
        if number + 1 < MADE:  # one is there since the bootstrap
            index += 1
            principle = r.read(r.at.governance)["principle_count"]
            title = "z" * 64
            addition = ix.add_principle(r.payer.pubkey(), principle, title, digest("p"), digest(f"c {number}"), index)
            carried("principle", content_hash(addition))
            make("add_principle (by vote)", addition)
    for number in range(64):  # other deployments
        other = Rig(Keypair.from_seed(bytes.fromhex(digest(f"program {number}"))).pubkey())
        setup = other.ix.initialize(other.payer.pubkey(), other.authorities, Parameters(DAY), digest("c"))
        alone = simulated(other, setup)
        taken = units(other.must(other.ix.cheaply(setup)), str(other.program))
        worst.setdefault("initialize", Worst("initialize")).note(taken, alone)
    return list(worst.values())


def simulated(r: Rig, instruction: Instruction, *signers: Keypair) -> int:
    """The units of an instruction that stands alone, without its effects."""
    r.svm.expire_blockhash()
    message = Message([instruction], r.payer.pubkey())
    result = r.svm.simulate_transaction(Transaction([r.payer, *signers], message, r.svm.latest_blockhash()))
    return result.meta().compute_units_consumed()


def decided(r: Rig, members: list[Keypair], proposal: int) -> None:
    """Votes until nothing can change the outcome."""
    for member in members:
        outcome = r.vote(member, proposal)
        assert outcome.ok, outcome
        if r.finalize(proposal).ok:
            return


def whole_proposal(count: int) -> dict[str, int]:
    """Propose, 20 votes, finalize, enact, close: lamports locked at the peak, locked for good, spent on fees."""
    r = Rig()
    weights = [100] * VOTES + [1] * (count - VOTES)
    members = r.ready(weights)
    r.attest()

    def held() -> int:
        return sum(account[0] for account in r.state().values())

    def funds() -> int:
        keys = {r.payer.pubkey(), *(m.pubkey() for m in members)}
        return sum(r.lamports(key) for key in keys) + held()

    base, funded = held(), funds()
    proposal = 0
    r.must(
        r.ix.propose(members[0].pubkey(), 0, "policy", digest("policy"), digest("certificate"), DAY),
        members[0],
        payer=members[0],
    )
    peak = held() - base
    for member in members[:VOTES]:
        r.must(r.ix.vote(member.pubkey(), proposal, "for"), member, payer=member)
    r.finalize(proposal)
    peak = max(peak, held() - base)
    assert r.enact_policy(proposal).ok
    peak = max(peak, held() - base)
    r.must(r.ix.close_proposal(members[0].pubkey(), proposal), members[0], payer=members[0])
    return {"locked": peak, "kept": held() - base, "spent": funded - funds()}


def rent(r: Rig, size: int) -> int:
    return r.svm.minimum_balance_for_rent_exemption(size)


def over_budget(rows: list[Row], worst: list[Worst], whole: dict[str, dict[str, int]]) -> list[str]:
    """What exceeds a budget, in words."""
    over = [f"{row.instruction}: {row.units} CU > {MAX_UNITS}" for row in rows if row.units > MAX_UNITS]
    over += [
        f"{w.instruction}: {taken} CU > {MAX_UNITS}, the worst of {w.count}"
        for w in worst
        for taken in (w.units, w.exclude_bumps)
        if taken > MAX_UNITS
    ]
    over += [
        f"{w.instruction}: {taken} CU {how} > {most}, the worst of {w.count}"
        for w in worst
        for how, taken, most in (("with exclude_bumps", w.together, MAX_TOGETHER), ("alone", w.alone, MAX_ALONE))
        if taken > most
    ]
    over += [
        f"{row.instruction}: {row.fee + row.rent} lamports > {MAX_TRANSACTION}"
        for row in rows
        if row.fee + row.rent > MAX_TRANSACTION
    ]
    vote = next(row for row in rows if row.instruction == "vote")
    if vote.fee + vote.rent > MAX_VOTE:
        over.append(f"vote: {vote.fee + vote.rent} lamports > {MAX_VOTE}")
    for count, cost in whole.items():
        if cost["locked"] > MAX_LOCKED:
            over.append(f"proposal among {count}: {cost['locked']} lamports locked > {MAX_LOCKED}")
        if cost["spent"] > MAX_SPENT:
            over.append(f"proposal among {count}: {cost['spent']} lamports spent > {MAX_SPENT}")
    return over


def main() -> int:
    rows, whole = measure()
    rig = Rig()
    anchor = {
        "propose": rent(rig, ANCHOR_PROPOSAL),
        "vote": rent(rig, ANCHOR_VOTE),
        "whole": rent(rig, ANCHOR_PROPOSAL) + VOTES * rent(rig, ANCHOR_VOTE),
    }
    worst = many()
    over = over_budget(rows, worst, whole)
    assert SHIPPED is not None
    report = {
        "program_sha256": SHIPPED.sha256,
        "program_id": SHIPPED.program_id,
        "members": MEMBERS,
        "votes": VOTES,
        "instructions": [asdict(row) for row in rows],
        "worst_of_many": [asdict(row) for row in worst],
        "whole_proposal": whole,
        "anchor_layout": anchor,
        "over_budget": over,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "costs.json").write_text(json.dumps(report, indent=2) + "\n")
    (RESULTS / "costs.md").write_text(markdown(rows, worst, whole, anchor, over))
    print((RESULTS / "costs.md").read_text())
    costs = {f"{row.instruction}: units": lower(row.units, "CU") for row in rows}
    spent = {f"whole proposal among {n} members": lower(c["spent"], "lamports") for n, c in whole.items()}
    keep("ledger_costs", context(), {**costs, **spent})
    return 1 if over else 0


def markdown(
    rows: list[Row], worst: list[Worst], whole: dict[str, dict[str, int]], anchor: dict[str, int], over: list[str]
) -> str:
    lines = [
        f"# What the program costs ({MEMBERS} members)",
        "",
        "Lamports; 1 SOL is 1,000,000,000. Rent below zero comes back.",
        "",
        "| instruction | CU | fee | rent |",
        "|---|---:|---:|---:|",
        *(f"| {row.instruction} | {row.units:,} | {row.fee:,} | {row.rent:,} |" for row in rows),
        "",
        "What makes an account searches for its address, which takes 350 CU a step. Where that is more than one step,",
        f"`exclude_bumps` before it in the same transaction takes the longer part: each of the two within {MAX_UNITS:,} CU, not their sum.",
        f"Whoever leaves `exclude_bumps` out pays the last column. Bounds: {MAX_TOGETHER:,} together,",
        f"{MAX_ALONE:,} alone. The worst of many:",
        "",
        "| instruction | made | CU | of `exclude_bumps` before it | both together | alone, without it |",
        "|---|---:|---:|---:|---:|---:|",
        *(
            f"| {w.instruction} | {w.count} | {w.units:,} | {w.exclude_bumps:,} | {w.together:,} | {w.alone:,} |"
            for w in worst
        ),
        "",
        f"| whole proposal ({VOTES} votes) | locked at the peak | of it kept (policy) | spent |",
        "|---|---:|---:|---:|",
        *(f"| among {n} members | {c['locked']:,} | {c['kept']:,} | {c['spent']:,} |" for n, c in whole.items()),
        f"| an Anchor program with 1.7 KB proposals and an account per vote (rent alone) | {anchor['whole']:,} | | |",
        "",
        f"There, a proposal locks {anchor['propose']:,} and each vote {anchor['vote']:,}.",
        "",
        "Over budget: " + ("; ".join(over) if over else "nothing."),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
