"""Valid instructions with one thing wrong: never a panic, and never a change by what is refused.

Every instruction is taken from a state where it succeeds, so that a mutation meets the checks behind the first one too.
"""

import random
from collections import Counter
from collections.abc import Callable

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM

from program.cases import SYSVAR, Case, cases, simulated
from program.rig import ERROR_CODES, SHIPPED

QUICK, LONG = 120, 1_500
# The checks that come before anything is looked at: how many accounts, their flags, which instruction, how long its data.
FIRST = {
    "WrongAccountCount", "AccountNotSigner", "AccountNotWritable", "UnknownInstruction", "InvalidArguments",
    "WrongSystemProgram",
}  # fmt: skip
# Errors that are not the program's own: an account that is borrowed already, given twice.
RUNTIME = {"InstructionErrorFieldless.AccountBorrowFailed"}


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
