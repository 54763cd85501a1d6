"""Accounts in places that are not theirs: given twice, or of another type. Each with the error that it meets."""

from collections.abc import Iterator

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from program.cases import Case, cases, simulated
from program.rig import IDL, PROGRAM, SHIPPED

BORROWED = "AccountBorrowFailed"  # the runtime's word for an account that the instruction has in hand already

# instruction -> place -> other writable account that is given there as well = what it is refused with. Two errors where the
# account in that place is one time to be made and another time there.
TWICE = {
    "add_principle": {
        "governance": "authority=WrongOwner principle=WrongOwner proposal=WrongAccountType",
        "principle": "authority=InvalidPda governance=InvalidPda proposal=InvalidPda",
        "proposal": "authority=WrongOwner governance=AccountBorrowFailed principle=WrongOwner",
        "authority": "governance=AccountNotSigner principle=AccountNotSigner proposal=AccountNotSigner",
    },
    "amend_principle": {
        "principle": "governance=AccountBorrowFailed proposal=WrongAccountType",
        "proposal": "governance=AccountBorrowFailed principle=WrongAccountType",
        "governance": "principle=WrongAccountType proposal=WrongAccountType",
    },
    "attest": {
        "verifier": "attestation=AccountNotSigner",
        "attestation": "verifier=InvalidPda",
    },
    "cancel": {
        "proposal": "governance=WrongAccountType proposer=WrongOwner",
        "proposer": "governance=AccountNotSigner proposal=AccountNotSigner",
        "governance": "proposal=WrongAccountType proposer=WrongOwner",
    },
    "close_emergency": {
        "issuer": "emergency=WrongRentRecipient",
        "emergency": "issuer=WrongOwner",
    },
    "close_proposal": {
        "proposer": "proposal=AccountNotSigner",
        "proposal": "proposer=WrongOwner",
    },
    "emergency_action": {
        "emergency": "authority=InvalidPda governance=AccountBorrowFailed|InvalidPda",
        "governance": "authority=WrongOwner emergency=WrongOwner",
        "authority": "emergency=AccountNotSigner governance=AccountNotSigner",
    },
    "enact": {
        "governance": "emergency=WrongAccountType payer=WrongOwner policy=WrongAccountType|WrongOwner proposal=WrongAccountType",
        "payer": "emergency=AccountNotSigner governance=AccountNotSigner policy=AccountNotSigner proposal=AccountNotSigner",
        "policy": "emergency=AccountBorrowFailed governance=AccountBorrowFailed payer=InvalidPda|WrongOwner proposal=AccountBorrowFailed",
        "proposal": "emergency=WrongAccountType governance=WrongAccountType payer=WrongOwner policy=WrongAccountType|WrongOwner",
        "emergency": "governance=ContentMismatch payer=ContentMismatch policy=ContentMismatch proposal=ContentMismatch",
    },
    "end_emergency": {
        "governance": "emergency=WrongAccountType policy=WrongAccountType",
        "policy": "emergency=AccountBorrowFailed governance=AccountBorrowFailed",
        "emergency": "governance=AccountBorrowFailed policy=WrongAccountType",
    },
    "finalize": {
        "proposal": "governance=WrongAccountType proposer=WrongOwner",
        "proposer": "governance=WrongRentRecipient proposal=WrongRentRecipient",
        "governance": "proposal=WrongAccountType proposer=WrongOwner",
    },
    "initialize": {
        "governance": "anchor=InvalidPda payer=InvalidPda",
        "payer": "anchor=AccountNotSigner governance=AccountNotSigner",
        "anchor": "governance=InvalidPda payer=InvalidPda",
    },
    "propose": {
        "proposal": "governance=InvalidPda proposer=InvalidPda",
        "proposer": "governance=AccountNotSigner proposal=AccountNotSigner",
        "governance": "proposal=WrongOwner proposer=WrongOwner",
    },
    "register_member": {
        "governance": "authority=WrongOwner member=WrongOwner proposal=WrongAccountType",
        "member": "authority=InvalidPda governance=AccountBorrowFailed proposal=WrongAccountType",
        "proposal": "authority=WrongOwner governance=AccountBorrowFailed member=WrongOwner",
        "authority": "governance=AccountNotSigner member=AccountNotSigner proposal=AccountNotSigner",
    },
    "remove_member": {
        "member": "governance=AccountBorrowFailed proposal=WrongAccountType",
        "proposal": "governance=AccountBorrowFailed member=WrongAccountType",
        "governance": "member=WrongAccountType proposal=WrongAccountType",
    },
    "retire_principle": {
        "principle": "governance=AccountBorrowFailed proposal=WrongAccountType",
        "proposal": "governance=AccountBorrowFailed principle=WrongAccountType",
        "governance": "principle=WrongAccountType proposal=WrongAccountType",
    },
    "revoke_attestation": {
        "verifier": "attestation=AccountNotSigner",
        "attestation": "verifier=WrongOwner",
    },
    "set_parameters": {
        "proposal": "governance=AccountBorrowFailed",
        "governance": "proposal=WrongAccountType",
    },
    "set_weight": {
        "member": "governance=AccountBorrowFailed proposal=WrongAccountType",
        "proposal": "governance=AccountBorrowFailed member=WrongAccountType",
        "governance": "member=WrongAccountType proposal=WrongAccountType",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def every_case() -> list[Case]:
    return cases()


def refused(case: Case, place: int, address: Pubkey) -> str | None:
    """What becomes of the instruction with `address` in that place."""
    keys = [*case.signers, case.rig.payer, case.rig.council, case.rig.emergency, case.rig.log, case.rig.verifier]
    held = {key.pubkey() for key in keys}
    metas = list(case.instruction.accounts)
    metas[place] = AccountMeta(address, metas[place].is_signer, metas[place].is_writable)
    # Nobody can sign for an account whose key nobody has.
    metas = [AccountMeta(m.pubkey, m.is_signer and m.pubkey in held, m.is_writable) for m in metas]
    error, _ = simulated(case, Instruction(case.rig.program, bytes(case.instruction.data), metas), keys)
    return None if error is None else error.removeprefix("InstructionErrorFieldless.")


def type_at(case: Case, address: Pubkey) -> str | None:
    account = case.rig.svm.get_account(address)
    if account is None or account.owner != PROGRAM:
        return None
    decoded = IDL.decode_account(bytes(account.data))
    assert decoded is not None
    return decoded[0]


def typed_places(case: Case) -> Iterator[tuple[int, str, str]]:
    """Position, name and type of each account of the program's own that the instruction is given."""
    for place, name in enumerate(IDL.account_names(case.name)):
        kind = type_at(case, case.instruction.accounts[place].pubkey)
        if kind is not None:
            yield place, name, kind


@pytest.mark.parametrize("name", TWICE)
def test_an_account_in_two_writable_places_is_refused_for_what_it_is(name: str, every_case: list[Case]) -> None:
    expected = {
        (place, other): set(errors.split("|"))
        for place, listed in TWICE[name].items()
        for other, errors in (entry.split("=") for entry in listed.split())
    }
    seen: dict[tuple[str, str], set[str | None]] = {}
    for case in (case for case in every_case if case.name == name):
        labels, metas = IDL.account_names(name), case.instruction.accounts
        writable = [i for i, meta in enumerate(metas) if meta.is_writable]
        for place in writable:
            for other in writable:
                if other != place:
                    error = refused(case, place, metas[other].pubkey)
                    seen.setdefault((labels[place], labels[other]), set()).add(error)
    assert seen == expected


def test_every_instruction_with_two_writable_accounts_is_among_them() -> None:
    assert SHIPPED is not None
    several = {i["name"] for i in SHIPPED.idl["instructions"] if sum(1 for a in i["accounts"] if a.get("writable")) > 1}
    assert set(TWICE) == several


KINDS = tuple(kind["name"] for kind in SHIPPED.idl["accounts"]) if SHIPPED is not None else ()


@pytest.mark.parametrize("given", KINDS)
def test_an_account_of_another_type_is_refused_in_every_place(given: str, every_case: list[Case]) -> None:
    tried = 0
    for case in every_case:
        true = next((a for a in case.rig.state() if type_at(case, a) == given), None)
        for place, name, kind in typed_places(case):
            if true is None or kind == given:
                continue
            tried += 1
            allowed = {"WrongAccountType"}
            if any(meta.pubkey == true for meta in case.instruction.accounts):
                allowed.add(BORROWED)
            if (case.name, name) == ("enact", "emergency"):
                allowed = {"ContentMismatch"}  # the vote names the action's address
            assert refused(case, place, true) in allowed, (case.name, name, kind)
    assert tried > 20


@pytest.mark.parametrize("given", KINDS)
def test_the_right_address_and_length_do_not_make_up_for_another_type(given: str, every_case: list[Case]) -> None:
    """The account itself, with another type's discriminator."""
    tried = 0
    for case in every_case:
        for place, name, kind in typed_places(case):
            if kind == given:
                continue
            address = case.instruction.accounts[place].pubkey
            account = case.rig.svm.get_account(address)
            assert account is not None
            forged = IDL.account_discriminator(given) + bytes(account.data)[8:]
            case.rig.write(address, forged, lamports=account.lamports)
            try:
                assert refused(case, place, address) == "WrongAccountType", (case.name, name, kind)
            finally:
                case.rig.write(address, bytes(account.data), lamports=account.lamports)
            tried += 1
    assert tried > 20


@pytest.mark.parametrize("more", [-1, 1])
def test_an_account_of_another_length_than_it_says_is_refused(more: int, every_case: list[Case]) -> None:
    for case in every_case:
        for place, name, kind in typed_places(case):
            address = case.instruction.accounts[place].pubkey
            account = case.rig.svm.get_account(address)
            assert account is not None
            data = bytes(account.data)
            case.rig.write(address, data[:-1] if more < 0 else data + b"\0", lamports=account.lamports)
            try:
                assert refused(case, place, address) == "WrongAccountType", (case.name, name, kind)
            finally:
                case.rig.write(address, data, lamports=account.lamports)
