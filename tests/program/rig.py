"""The shipped program in the virtual machine that Solana's own runtime uses (LiteSVM), without a node around it."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from solders.account import Account
from solders.clock import Clock
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction

from acgs1.ledger.idl import Idl
from acgs1.ledger.instructions import Authorities, Instructions, Parameters
from acgs1.ledger.program import shipped

SHIPPED = shipped()
assert SHIPPED is not None, "the built program is part of the package; run blockchain/build.sh"
IDL = Idl(SHIPPED.idl)
PROGRAM = Pubkey.from_string(SHIPPED.program_id)
ERROR_CODES = {fault.name: number for number, fault in IDL.errors.items()}
ERROR_NAMES = {number: fault.name for number, fault in IDL.errors.items()}
START = 1_800_000_000
DAY = 86_400


def digest(text: str) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def keypair(name: str) -> Keypair:
    """The same key for the same name."""
    return Keypair.from_seed(hashlib.sha256(name.encode()).digest())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a transaction: `error` is the program's own name of it, or the runtime's text."""

    error: str | None
    units: int
    events: list[tuple[str, dict[str, Any]]]
    logs: list[str]

    @property
    def ok(self) -> bool:
        return self.error is None


class Rig:
    """A fresh chain with the program and funded authorities."""

    def __init__(self, program: Pubkey = PROGRAM, *, mainnet: bool = False) -> None:
        self.program = program
        self.svm = LiteSVM().with_mainnet_features() if mainnet else LiteSVM()
        self.svm.add_program(program, SHIPPED.elf)  # pyright: ignore[reportOptionalMemberAccess]
        self.ix = Instructions(program, IDL)
        self.at = self.ix.at
        self.payer = self.key("payer")
        self.council = self.key("council")
        self.emergency = self.key("emergency")
        self.log = self.key("log")
        self.verifier = self.key("verifier")
        self.set_time(START)

    def key(self, name: str) -> Keypair:
        """A funded key."""
        pair = keypair(name)
        self.svm.airdrop(pair.pubkey(), 10**12)
        return pair

    @property
    def authorities(self) -> Authorities:
        return Authorities(self.council.pubkey(), self.emergency.pubkey(), self.log.pubkey(), self.verifier.pubkey())

    @property
    def now(self) -> int:
        return self.svm.get_clock().unix_timestamp

    def set_time(self, unix: int) -> None:
        clock = self.svm.get_clock()
        self.svm.set_clock(
            Clock(clock.slot + 1, clock.epoch_start_timestamp, clock.epoch, clock.leader_schedule_epoch, unix)
        )

    def send(
        self, instructions: Instruction | Sequence[Instruction], *signers: Keypair, payer: Keypair | None = None
    ) -> Outcome:
        """Sends one transaction; the fee payer is `payer`, or else the rig's."""
        batch = [instructions] if isinstance(instructions, Instruction) else list(instructions)
        fee_payer = payer or self.payer
        keys = {k.pubkey(): k for k in (fee_payer, *signers)}
        self.svm.expire_blockhash()
        message = Message(batch, fee_payer.pubkey())
        transaction = Transaction(list(keys.values()), message, self.svm.latest_blockhash())
        result = self.svm.send_transaction(transaction)
        meta = result.meta() if hasattr(result, "meta") else result
        error = _error(result.err()) if hasattr(result, "err") else None
        logs = meta.logs()
        return Outcome(error, meta.compute_units_consumed(), _events(logs), logs)

    def must(
        self, instructions: Instruction | Sequence[Instruction], *signers: Keypair, payer: Keypair | None = None
    ) -> Outcome:
        outcome = self.send(instructions, *signers, payer=payer)
        assert outcome.ok, (outcome.error, outcome.logs)
        return outcome

    def read(self, address: Pubkey) -> dict[str, Any]:
        """The decoded fields of an account of the program."""
        account = self.svm.get_account(address)
        assert account is not None, f"no account at {address}"
        decoded = IDL.decode_account(bytes(account.data))
        assert decoded is not None
        return decoded[1]

    def exists(self, address: Pubkey) -> bool:
        account = self.svm.get_account(address)
        return account is not None and account.lamports > 0

    def lamports(self, address: Pubkey) -> int:
        return self.svm.get_balance(address) or 0

    def write(self, address: Pubkey, data: bytes, owner: Pubkey | None = None, lamports: int | None = None) -> None:
        """Puts an account there, as only a test can."""
        lamports = self.svm.minimum_balance_for_rent_exemption(len(data)) if lamports is None else lamports
        self.svm.set_account(address, Account(lamports, data, owner or self.program, False, 0))

    def state(self) -> dict[Pubkey, tuple[int, bytes, Pubkey]]:
        """Every account of the program."""
        return {key: (a.lamports, bytes(a.data), a.owner) for key, a in self.svm.get_program_accounts(self.program)}

    # -- the usual steps ----------------------------------------------------------------------------------------

    def initialize(self, rules: Parameters | None = None, constitution: str = "constitution") -> Outcome:
        rules = rules or Parameters(voting_period=DAY)
        return self.must(self.ix.initialize(self.payer.pubkey(), self.authorities, rules, digest(constitution)))

    def add_principle(self, index: int = 0, title: str = "No harm") -> Outcome:
        return self.must(
            self.ix.add_principle(self.council.pubkey(), index, title, digest(title), digest(f"constitution {index}")),
            self.council,
        )

    def register(self, name: str, weight: int = 1) -> Keypair:
        pair = self.key(name)
        self.must(self.ix.register_member(self.council.pubkey(), pair.pubkey(), weight), self.council)
        return pair

    def ratify(self) -> Outcome:
        hash_ = self.read(self.at.governance)["constitution_hash"].hex()
        return self.must(self.ix.ratify(self.council.pubkey(), hash_), self.council)

    def ready(self, weights: Sequence[int] = (1, 1, 1), rules: Parameters | None = None) -> list[Keypair]:
        """A ratified constitution and members of these weights."""
        self.initialize(rules)
        self.add_principle()
        members = [self.register(f"member {i}", weight) for i, weight in enumerate(weights)]
        self.ratify()
        return members

    def propose(
        self,
        member: Keypair,
        kind: str = "policy",
        content: str | None = None,
        certificate: str | None = None,
        period: int = DAY,
    ) -> int:
        """Proposes, by default the policy `digest("policy")` with the certificate `digest("certificate")`."""
        index = self.read(self.at.governance)["proposal_count"]
        content = content or digest("policy")
        if kind == "policy":
            certificate = certificate or digest("certificate")
        self.must(
            self.ix.propose(member.pubkey(), index, kind, content, certificate, period),  # pyright: ignore[reportArgumentType]
            member,
        )
        return index

    def vote(self, member: Keypair, proposal: int, choice: str = "for") -> Outcome:
        return self.send(self.ix.vote(member.pubkey(), proposal, choice), member)  # pyright: ignore[reportArgumentType]

    def finalize(self, proposal: int) -> Outcome:
        proposer = self.read(self.at.proposal(proposal))["proposer"]
        return self.send(self.ix.finalize(proposal, proposer))

    def carry(self, members: Sequence[Keypair], proposal: int, choice: str = "for") -> None:
        """Every member votes `choice`; the vote is finalized."""
        for member in members:
            outcome = self.vote(member, proposal, choice)
            assert outcome.ok, outcome
        outcome = self.finalize(proposal)
        assert outcome.ok, outcome

    def attest(self, certificate: str | None = None, content: str | None = None) -> Outcome:
        version = self.read(self.at.governance)["constitution_version"]
        return self.must(
            self.ix.attest(
                self.verifier.pubkey(), certificate or digest("certificate"), content or digest("policy"), version
            ),
            self.verifier,
        )

    def enact_policy(self, proposal: int, content: str | None = None, certificate: str | None = None) -> Outcome:
        return self.send(
            self.ix.enact(
                self.payer.pubkey(),
                proposal,
                policy=self.at.policy(content or digest("policy")),
                attestation=self.at.attestation(certificate or digest("certificate")),
            )
        )


def _error(error: object) -> str:
    """The program's name of a custom error, or the runtime's text."""
    detail = getattr(error, "err", error)
    code = getattr(detail, "code", None)
    if isinstance(code, int):
        return ERROR_NAMES.get(code, f"custom {code}")
    return str(detail)


def _events(logs: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    found = [IDL.decode_event(base64.b64decode(line[14:])) for line in logs if line.startswith("Program data: ")]
    return [event for event in found if event is not None]
