"""The program's addresses and instructions, typed. Pure: nothing here talks to a ledger.

After ratification the registers change only by an accepted proposal whose content hash is that of the very instruction
(`content_hash`): build the instruction with the proposal's index, propose its hash, and send the same one to enact it.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import TransferParams, transfer

from acgs1.ledger.idl import Idl

Choice = Literal["for", "against", "abstain"]
ProposalKind = Literal["policy", "principle", "membership", "parameters", "emergency_ratification", "constitution"]
EmergencyKind = Literal["suspend_policy", "freeze_activation", "revoke_agent"]
Role = Literal["council", "emergency", "log", "verifier"]

_ZERO: Final = bytes(32)
_INSTRUCTIONS_SYSVAR: Final = Pubkey.from_string("Sysvar1nstructions1111111111111111111111111")
# The instructions that make accounts, and which of theirs.
_MADE: Final = {
    "initialize": ("governance", "anchor"),
    "add_principle": ("principle",),
    "register_member": ("member",),
    "propose": ("proposal",),
    "enact": ("policy",),
    "attest": ("attestation",),
    "emergency_action": ("emergency",),
}
# How many bumps `exclude_bumps` looks at within 5,000 compute units.
EXCLUDED_AT_ONCE: Final = 14
_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class Authorities:
    """Who may do what on the ledger, by public key."""

    council: Pubkey
    emergency: Pubkey
    log: Pubkey
    verifier: Pubkey


@dataclass(frozen=True, slots=True)
class Parameters:
    """The rules of votes: the shortest window in seconds, threshold and quorum in basis points."""

    voting_period: int
    threshold_bp: int = 6000
    quorum_bp: int = 5000
    vote_change_allowed: bool = False


class Addresses:
    """The program-derived addresses of one deployment."""

    def __init__(self, program: Pubkey) -> None:
        self.program = program
        self._found: dict[bytes, Pubkey] = {}
        self._seeds: dict[Pubkey, tuple[bytes, int]] = {}
        self.governance = self._find(b"governance")
        self.anchor = self._find(b"anchor")

    def _find(self, *seeds: bytes) -> Pubkey:
        joined = b"".join(seeds)
        address = self._found.get(joined)
        if address is None:
            address, bump = Pubkey.find_program_address(list(seeds), self.program)
            if len(self._found) >= _REMEMBERED:
                oldest = next(iter(self._found))
                del self._seeds[self._found.pop(oldest)]
            self._found[joined] = address
            self._seeds[address] = (joined, bump)
        return address

    def origin(self, address: Pubkey) -> tuple[bytes, int] | None:
        """(seeds, bump) of an address that was derived here lately."""
        return self._seeds.get(address)

    def principle(self, index: int) -> Pubkey:
        return self._find(b"principle", index.to_bytes(2, "little"))

    def member(self, wallet: Pubkey) -> Pubkey:
        return self._find(b"member", bytes(wallet))

    def proposal(self, index: int) -> Pubkey:
        return self._find(b"proposal", index.to_bytes(8, "little"))

    def attestation(self, certificate_hash: str) -> Pubkey:
        return self._find(b"attestation", hash_bytes(certificate_hash))

    def policy(self, content_hash: str) -> Pubkey:
        return self._find(b"policy", hash_bytes(content_hash))

    def emergency(self, index: int, agent: str | None = None) -> Pubkey:
        """The account of an emergency action; of a revocation, for which `agent` is its target, there is one for each agent."""
        return self._find(b"emergency", index.to_bytes(8, "little") if agent is None else hash_bytes(agent))


def hash_bytes(text: str) -> bytes:
    """The 32 bytes of a SHA-256 in hex. Raises ValueError for anything else."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 32 or len(text) != 64:
        raise ValueError(f"a SHA-256 is 64 hex digits, got `{text}`")
    return raw


def content_hash(instruction: Instruction) -> str:
    """What a proposal of kind principle, membership or parameters names: the SHA-256 of the instruction's data."""
    return hashlib.sha256(bytes(instruction.data)).hexdigest()


def reference_address(intent: str) -> Pubkey:
    """The address that stands for an intent, so that the ledger's history can be asked for it."""
    return Pubkey(hashlib.sha256(b"acgs1/intent\0" + intent.encode()).digest())


def reference(payer: Pubkey, intent: str) -> Instruction:
    """Names the intent's address in a transaction, as Solana Pay's `reference` does: in a transfer of nothing."""
    nothing = transfer(TransferParams(from_pubkey=payer, to_pubkey=payer, lamports=0))
    mark = AccountMeta(reference_address(intent), is_signer=False, is_writable=False)
    return Instruction(nothing.program_id, nothing.data, [*nothing.accounts, mark])


class Instructions:
    """Builds every instruction of one deployment. Hashes are hex; a wrong value raises ValueError (IdlError)."""

    def __init__(self, program: Pubkey, idl: Idl) -> None:
        self.program = program
        self.at = Addresses(program)
        self._idl = idl

    def _make(self, name: str, args: dict[str, object], **accounts: Pubkey | None) -> Instruction:
        return self._idl.instruction(self.program, name, args, accounts)

    def _proposal(self, index: int | None) -> Pubkey | None:
        return None if index is None else self.at.proposal(index)

    def cheaply(self, instruction: Instruction) -> list[Instruction]:
        """`instruction` as it is, or, where it makes an account whose address takes long to search, with `exclude_bumps` before
        it: so that none needs more than 5,000 compute units. To be sent in one transaction."""
        name = self._idl.instruction_name(bytes(instruction.data))
        if instruction.program_id != self.program or name not in _MADE:
            return [instruction]
        labels = self._idl.account_names(name)
        before: list[Instruction] = []
        for made in _MADE[name]:
            origin = self.at.origin(instruction.accounts[labels.index(made)].pubkey)
            # One step more is no dearer than to look for `exclude_bumps`; `initialize` makes two accounts and has no room for it.
            if origin is not None and 255 - origin[1] > (0 if name == "initialize" else 1):
                lowest = max(origin[1] + 1, 256 - EXCLUDED_AT_ONCE)
                before.append(self.exclude_bumps(origin[0], lowest))
        if not before:
            return [instruction]
        metas = list(instruction.accounts)
        metas[labels.index("instructions")] = AccountMeta(_INSTRUCTIONS_SYSVAR, is_signer=False, is_writable=False)
        return [*before, Instruction(self.program, instruction.data, metas)]

    def exclude_bumps(self, seeds: bytes, lowest: int) -> Instruction:
        """States, and the program checks, that no bump from `lowest` up is the one of the address of `seeds`."""
        return self._make("exclude_bumps", {"lowest": lowest, "seeds": seeds})

    # -- bootstrap and registers ------------------------------------------------------------------------------

    def initialize(self, payer: Pubkey, who: Authorities, rules: Parameters, constitution_hash: str) -> Instruction:
        return self._make(
            "initialize",
            {
                "council": who.council,
                "emergency": who.emergency,
                "log": who.log,
                "verifier": who.verifier,
                "constitution_hash": hash_bytes(constitution_hash),
                **_parameters(rules),
            },
            payer=payer,
            governance=self.at.governance,
            anchor=self.at.anchor,
            system_program=SYSTEM_PROGRAM,
        )

    def ratify(self, council: Pubkey, constitution_hash: str) -> Instruction:
        return self._make(
            "ratify",
            {"constitution_hash": hash_bytes(constitution_hash)},
            council=council,
            governance=self.at.governance,
        )

    def add_principle(
        self,
        authority: Pubkey,
        index: int,
        title: str,
        content_hash: str,
        constitution_hash: str,
        proposal: int | None = None,
    ) -> Instruction:
        return self._make(
            "add_principle",
            {
                "content_hash": hash_bytes(content_hash),
                "constitution_hash": hash_bytes(constitution_hash),
                "title": title,
            },
            authority=authority,
            governance=self.at.governance,
            principle=self.at.principle(index),
            proposal=self._proposal(proposal),
            system_program=SYSTEM_PROGRAM,
        )

    def amend_principle(
        self,
        authority: Pubkey,
        index: int,
        title: str,
        content_hash: str,
        constitution_hash: str,
        proposal: int | None = None,
    ) -> Instruction:
        return self._make(
            "amend_principle",
            {
                "index": index,
                "content_hash": hash_bytes(content_hash),
                "constitution_hash": hash_bytes(constitution_hash),
                "title": title,
            },
            authority=authority,
            governance=self.at.governance,
            principle=self.at.principle(index),
            proposal=self._proposal(proposal),
        )

    def retire_principle(
        self, authority: Pubkey, index: int, constitution_hash: str, proposal: int | None = None
    ) -> Instruction:
        return self._make(
            "retire_principle",
            {"index": index, "constitution_hash": hash_bytes(constitution_hash)},
            authority=authority,
            governance=self.at.governance,
            principle=self.at.principle(index),
            proposal=self._proposal(proposal),
        )

    def register_member(
        self, authority: Pubkey, wallet: Pubkey, weight: int, proposal: int | None = None
    ) -> Instruction:
        return self._make(
            "register_member",
            {"wallet": wallet, "weight": weight},
            authority=authority,
            governance=self.at.governance,
            member=self.at.member(wallet),
            proposal=self._proposal(proposal),
            system_program=SYSTEM_PROGRAM,
        )

    def set_weight(self, authority: Pubkey, wallet: Pubkey, weight: int, proposal: int | None = None) -> Instruction:
        return self._make(
            "set_weight",
            {"wallet": wallet, "weight": weight},
            authority=authority,
            governance=self.at.governance,
            member=self.at.member(wallet),
            proposal=self._proposal(proposal),
        )

    def remove_member(self, authority: Pubkey, wallet: Pubkey, proposal: int | None = None) -> Instruction:
        return self._make(
            "remove_member",
            {"wallet": wallet},
            authority=authority,
            governance=self.at.governance,
            member=self.at.member(wallet),
            proposal=self._proposal(proposal),
        )

    def set_parameters(self, authority: Pubkey, rules: Parameters, proposal: int | None = None) -> Instruction:
        return self._make(
            "set_parameters",
            _parameters(rules),
            authority=authority,
            governance=self.at.governance,
            proposal=self._proposal(proposal),
        )

    def offer_authority(self, holder: Pubkey, role: Role, offered_to: Pubkey) -> Instruction:
        args: dict[str, object] = {"role": _variant(role), "offered_to": offered_to}
        return self._make("offer_authority", args, holder=holder, governance=self.at.governance)

    def accept_authority(self, candidate: Pubkey, role: Role) -> Instruction:
        return self._make(
            "accept_authority", {"role": _variant(role)}, candidate=candidate, governance=self.at.governance
        )

    # -- proposals --------------------------------------------------------------------------------------------

    def propose(
        self,
        proposer: Pubkey,
        index: int,
        kind: ProposalKind,
        content_hash: str,
        certificate_hash: str | None,
        voting_period: int,
    ) -> Instruction:
        emergency = Pubkey(hash_bytes(content_hash)) if kind == "emergency_ratification" else None
        return self._make(
            "propose",
            {
                "kind": _variant(kind),
                "content_hash": hash_bytes(content_hash),
                "certificate_hash": _ZERO if certificate_hash is None else hash_bytes(certificate_hash),
                "voting_period": voting_period,
            },
            proposer=proposer,
            governance=self.at.governance,
            member=self.at.member(proposer),
            proposal=self.at.proposal(index),
            system_program=SYSTEM_PROGRAM,
            emergency=emergency,
        )

    def vote(self, voter: Pubkey, proposal: int, choice: Choice) -> Instruction:
        return self._make(
            "vote",
            {"choice": _variant(choice)},
            voter=voter,
            member=self.at.member(voter),
            proposal=self.at.proposal(proposal),
        )

    def finalize(self, proposal: int, proposer: Pubkey) -> Instruction:
        return self._make(
            "finalize", {}, proposal=self.at.proposal(proposal), governance=self.at.governance, proposer=proposer
        )

    def enact(
        self,
        payer: Pubkey,
        proposal: int,
        *,
        policy: Pubkey | None = None,
        attestation: Pubkey | None = None,
        emergency: Pubkey | None = None,
    ) -> Instruction:
        return self._make(
            "enact",
            {},
            payer=payer,
            governance=self.at.governance,
            proposal=self.at.proposal(proposal),
            policy=policy,
            attestation=attestation,
            emergency=emergency,
            system_program=SYSTEM_PROGRAM,
        )

    def cancel(self, proposer: Pubkey, proposal: int) -> Instruction:
        return self._make(
            "cancel", {}, proposer=proposer, governance=self.at.governance, proposal=self.at.proposal(proposal)
        )

    def close_proposal(self, proposer: Pubkey, proposal: int) -> Instruction:
        return self._make("close_proposal", {}, proposer=proposer, proposal=self.at.proposal(proposal))

    # -- authorities ------------------------------------------------------------------------------------------

    def attest(
        self, verifier: Pubkey, certificate_hash: str, content_hash: str, constitution_version: int
    ) -> Instruction:
        return self._make(
            "attest",
            {
                "certificate_hash": hash_bytes(certificate_hash),
                "content_hash": hash_bytes(content_hash),
                "constitution_version": constitution_version,
            },
            verifier=verifier,
            governance=self.at.governance,
            attestation=self.at.attestation(certificate_hash),
            system_program=SYSTEM_PROGRAM,
        )

    def revoke_attestation(self, verifier: Pubkey, certificate_hash: str) -> Instruction:
        return self._make(
            "revoke_attestation",
            {},
            verifier=verifier,
            governance=self.at.governance,
            attestation=self.at.attestation(certificate_hash),
        )

    def anchor_root(self, log: Pubkey, tree_size: int, root: str) -> Instruction:
        return self._make(
            "anchor_root",
            {"tree_size": tree_size, "root": hash_bytes(root)},
            authority=log,
            governance=self.at.governance,
            anchor=self.at.anchor,
        )

    def emergency_action(
        self, authority: Pubkey, index: int, kind: EmergencyKind, target: str | None, reason_hash: str, duration: int
    ) -> Instruction:
        return self._make(
            "emergency_action",
            {
                "kind": _variant(kind),
                "target": _ZERO if target is None else hash_bytes(target),
                "reason_hash": hash_bytes(reason_hash),
                "duration": duration,
            },
            authority=authority,
            governance=self.at.governance,
            emergency=self.at.emergency(index, target if kind == "revoke_agent" else None),
            policy=self.at.policy(target) if kind == "suspend_policy" and target is not None else None,
            system_program=SYSTEM_PROGRAM,
        )

    def end_emergency(
        self, authority: Pubkey, index: int, policy: Pubkey | None, agent: str | None = None
    ) -> Instruction:
        """`policy`: the account of the suspended one; `agent`: the target of a revocation."""
        return self._make(
            "end_emergency",
            {},
            authority=authority,
            governance=self.at.governance,
            emergency=self.at.emergency(index, agent),
            policy=policy,
        )

    def close_emergency(self, issuer: Pubkey, index: int, agent: str | None = None) -> Instruction:
        """`issuer` gets the rent and need not sign; `agent`: the target of a revocation."""
        return self._make("close_emergency", {}, issuer=issuer, emergency=self.at.emergency(index, agent))


def _parameters(rules: Parameters) -> dict[str, object]:
    return {
        "voting_period": rules.voting_period,
        "threshold_bp": rules.threshold_bp,
        "quorum_bp": rules.quorum_bp,
        "vote_change_allowed": rules.vote_change_allowed,
    }


def _variant(name: str) -> str:
    """`emergency_ratification` -> `EmergencyRatification`."""
    return "".join(word.capitalize() for word in name.split("_"))
