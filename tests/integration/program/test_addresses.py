"""The search for addresses: canonical, cheap, and beyond the reach of what a caller claims."""

import re

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from acgs1.ledger.instructions import EXCLUDED_AT_ONCE, Instructions
from program.rig import DAY, IDL, SHIPPED, Rig, digest, keypair

SYSVAR = Pubkey.from_string("Sysvar1nstructions1111111111111111111111111")
BUDGET = 5_000


def with_account(ix: Instruction, position: int, address: Pubkey, *, writable: bool = False) -> Instruction:
    metas = list(ix.accounts)
    metas[position] = AccountMeta(address, False, writable)
    return Instruction(ix.program_id, bytes(ix.data), metas)


def seeds_of(wallet: Pubkey) -> bytes:
    return b"member" + bytes(wallet)


def low_bump(rig: Rig, least: int) -> Pubkey:
    """A wallet whose member address takes at least so many steps to find."""
    for number in range(100_000):
        wallet = keypair(f"wallet {number}").pubkey()
        if 255 - rig.at.origin(rig.at.member(wallet))[1] >= least:
            return wallet
    raise AssertionError("no such wallet")


def lower_address(rig: Rig, wallet: Pubkey) -> Pubkey:
    """The address at the next bump below the canonical one that gives any."""
    bump = rig.at.origin(rig.at.member(wallet))[1]
    while True:
        bump -= 1
        try:
            return Pubkey.create_program_address([b"member", bytes(wallet), bytes([bump])], rig.program)
        except Exception:  # noqa: BLE001 - on the curve
            continue


def test_the_longer_part_of_a_search_is_taken_over_by_the_instruction_before() -> None:
    rig = Rig()
    rig.initialize()
    wallet = low_bump(rig, 6)
    ix = rig.ix.register_member(rig.council.pubkey(), wallet, 1)
    exclude, cheap = rig.ix.cheaply(ix)
    alone = Rig()
    alone.initialize()
    dear = alone.must(ix, alone.council).units
    outcome = rig.must([exclude, cheap], rig.council)
    assert rig.exists(rig.at.member(wallet))
    assert all(taken < BUDGET for taken in consumed(rig, outcome.logs))
    assert consumed(rig, outcome.logs)[1] < dear - 1_000


def test_what_is_claimed_of_bumps_is_checked() -> None:
    rig = Rig()
    wallet = low_bump(rig, 3)
    seeds, bump = rig.at.origin(rig.at.member(wallet))
    assert rig.send(rig.ix.exclude_bumps(seeds, bump + 1)).ok
    for lowest in (bump, bump - 1, 0):
        assert rig.send(rig.ix.exclude_bumps(seeds, lowest)).error == "InvalidPda"
    assert rig.send(rig.ix.exclude_bumps(bytes(100), 255)).error == "InvalidArguments"
    one = rig.ix.exclude_bumps(seeds, bump + 1)
    assert rig.send(Instruction(rig.program, bytes(one.data) + b"x", [])).error == "InvalidArguments"
    assert rig.send(Instruction(rig.program, bytes(one.data)[:12], [])).error == "InvalidArguments"
    assert rig.send(with_extra(one)).error == "WrongAccountCount"


def with_extra(ix: Instruction) -> Instruction:
    return Instruction(ix.program_id, bytes(ix.data), [AccountMeta(SYSVAR, False, False)])


def test_no_claim_gives_a_name_a_second_account_or_one_that_nobody_finds() -> None:
    """A lower bump than the canonical one, behind everything that might make the program skip the canonical one."""
    assert SHIPPED is not None
    rig = Rig()
    rig.initialize()
    elsewhere = Pubkey(bytes([7] * 32))
    rig.svm.add_program(elsewhere, SHIPPED.elf)
    there = Instructions(elsewhere, IDL)
    wallet = keypair("double").pubkey()
    seeds, bump = rig.at.origin(rig.at.member(wallet))
    other = low_bump(rig, 5)
    # At the other deployment these very seeds have no address at the bumps that hold the canonical one here.
    foreign = next(
        (n, w)
        for n in range(10_000)
        if (w := keypair(f"foreign {n}").pubkey())
        and there.at.origin(there.at.member(w))[1] < rig.at.origin(rig.at.member(w))[1]
    )[1]
    ix = rig.ix.register_member(rig.council.pubkey(), wallet, 1)
    double = with_account(with_account(ix, 2, lower_address(rig, wallet), writable=True), 5, SYSVAR)
    noise = transfer(TransferParams(from_pubkey=rig.payer.pubkey(), to_pubkey=rig.payer.pubkey(), lamports=0))
    claim = rig.ix.exclude_bumps(seeds, bump)
    true_elsewhere = there.exclude_bumps(seeds_of(foreign), there.at.origin(there.at.member(foreign))[1] + 1)
    second = with_account(
        with_account(
            rig.ix.register_member(rig.council.pubkey(), foreign, 1), 2, lower_address(rig, foreign), writable=True
        ),
        5,
        SYSVAR,
    )
    before = rig.state()
    for batch in (
        [double],
        [claim, double],  # a false claim
        [double, claim],  # after the fact
        [rig.ix.exclude_bumps(seeds_of(other), 252), double],  # a true claim of another name
        [Instruction(noise.program_id, bytes(claim.data), noise.accounts), double],  # the claim to another program
        [true_elsewhere, second],  # true of another deployment's address
    ):
        assert rig.send(batch, rig.council).error is not None
        assert rig.state() == before
    assert rig.send(true_elsewhere).ok
    forged = Pubkey.new_unique()
    data = bytearray(2 + 2 + 2) + bytes(claim.data)
    rig.write(forged, bytes(data), owner=Pubkey.new_unique())
    assert rig.send(with_account(ix, 5, forged), rig.council).error == "WrongInstructionsSysvar"
    assert rig.state() == before
    # Where the claim stands too far away it is not looked for, and the search is made.
    assert rig.send(
        [rig.ix.exclude_bumps(seeds_of(other), 252), *[noise] * 5, with_account(ix, 5, SYSVAR)], rig.council
    ).ok


@pytest.mark.parametrize("position", [3])
def test_an_index_has_one_proposal_and_only_where_everybody_looks_for_it(position: int) -> None:
    rig = Rig()
    member = rig.ready()[0]
    canonical = rig.at.proposal(0)
    ix = rig.ix.propose(member.pubkey(), 0, "policy", digest("p"), digest("c"), DAY)
    tried = 0
    for bump in range(255, 200, -1):
        try:
            address = Pubkey.create_program_address([b"proposal", bytes(8), bytes([bump])], rig.program)
        except Exception:  # noqa: BLE001 - on the curve
            continue
        if address != canonical:
            tried += 1
            assert rig.send(with_account(ix, position, address, writable=True), member).error == "InvalidPda"
    assert tried > 10
    assert rig.propose(member) == 0
    assert rig.send(ix, member).error == "InvalidPda"  # the next index's turn
    closed = rig.ix.close_proposal(member.pubkey(), 0)
    assert rig.send([rig.ix.cancel(member.pubkey(), 0), closed], member).ok
    assert rig.send(ix, member).error == "InvalidPda"  # an index is not used again


def test_as_many_bumps_as_the_client_excludes_at_once_stay_within_the_budget() -> None:
    rig = Rig()
    least = 255 - EXCLUDED_AT_ONCE

    def bump(key: bytes) -> int:
        return Pubkey.find_program_address([b"proposal", key], rig.program)[1]

    seeds = next(key for n in range(10**6) if bump(key := n.to_bytes(8, "little")) <= least)
    outcome = rig.must(rig.ix.exclude_bumps(b"proposal" + seeds, least + 1))
    assert outcome.events == [("BumpsExcluded", {"lowest": least + 1})]
    assert outcome.units <= BUDGET


def test_the_worst_of_256_proposals_stays_within_the_budget() -> None:
    rig = Rig()
    member = rig.ready()[0]
    worst = 0
    for index in range(256):
        ix = rig.ix.propose(member.pubkey(), index, "policy", digest("p"), digest("c"), DAY)
        worst = max([worst, *consumed(rig, rig.must(rig.ix.cheaply(ix), member).logs)])
    assert worst <= BUDGET


def consumed(rig: Rig, logs: list[str]) -> list[int]:
    found = [re.match(rf"Program {rig.program} consumed (\d+) of", line) for line in logs]
    return [int(match[1]) for match in found if match]
