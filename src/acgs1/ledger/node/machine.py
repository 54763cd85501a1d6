"""The virtual machine: solders' LiteSVM, driven one transaction at a time at a given slot.

Everything that decides an outcome is an argument (the accounts held here, the transaction, the slot), so a
transaction that is executed again from the same accounts gives the same outcome. Signatures, blockhashes and
duplicates are judged by the caller, once, before a transaction gets here.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from solders.account import Account
from solders.clock import Clock
from solders.epoch_schedule import EpochSchedule
from solders.hash import Hash
from solders.litesvm import LiteSVM
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.sysvar import CLOCK, SLOT_HASHES
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import (
    FailedTransactionMetadata,
    InnerInstruction,
    SimulatedTransactionInfo,
    TransactionMetadata,
)

from acgs1.ledger.base58 import b58encode
from acgs1.ledger.node.errors import ErrorJson, error_json
from acgs1.ledger.node.slots import SLOTS_PER_EPOCH, SlotClock

R = TypeVar("R")

SYSVAR_OWNER: Final = Pubkey.from_string("Sysvar1111111111111111111111111111111111111")
# What `enter_slot` brings up to date.
TIME_SYSVARS: Final = frozenset({CLOCK, SLOT_HASHES})
_SLOT_HASHES: Final = 512
_NO_SIGNATURE: Final = Signature.default()
_NO_PROGRAM: Final = Pubkey.default()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one transaction. `landed` is false where it was refused before any fee was taken."""

    landed: bool
    err: ErrorJson | None
    meta: dict[str, object]
    keys: tuple[Pubkey, ...]
    writable: tuple[Pubkey, ...]


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a transaction would do; `accounts` are the accounts after it, by address."""

    err: ErrorJson | None
    logs: list[str]
    units: int
    fee: int
    return_data: dict[str, object] | None
    inner: list[dict[str, object]]
    accounts: dict[Pubkey, Account]


class LookupTableError(Exception):
    """A lookup table that the transaction names is absent, foreign or too short. `code` is Solana's error name."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Machine:
    """Accounts and the rules that change them. Not thread-safe: one owner, the node's event loop."""

    def __init__(self, slots: SlotClock) -> None:
        self._slots = slots
        self._svm = (
            LiteSVM()
            .with_mainnet_features()
            .with_sigverify(False)
            .with_blockhash_check(False)
            .with_transaction_history(0)
            .with_log_bytes_limit(10_000)
        )
        # LiteSVM's own faucet has a fresh key in every instance: take its money away, ours is in the genesis.
        foreign = self._svm.airdrop_pubkey()
        self._svm.set_account(foreign, Account(0, b"", _NO_PROGRAM))
        self._svm.set_epoch_schedule(EpochSchedule.without_warmup())
        self._slot = -1
        self.enter_slot(0)

    @property
    def slot(self) -> int:
        return self._slot

    def enter_slot(self, slot: int) -> None:
        """Bring the sysvars (clock, slot hashes) to `slot`."""
        if slot == self._slot:
            return
        self._slot = slot
        epoch = slot // SLOTS_PER_EPOCH
        self._svm.set_clock(
            Clock(
                slot=slot,
                epoch_start_timestamp=self._slots.unix_time(epoch * SLOTS_PER_EPOCH),
                epoch=epoch,
                leader_schedule_epoch=epoch + 1,
                unix_timestamp=self._slots.unix_time(slot),
            )
        )
        first = max(0, slot - _SLOT_HASHES)
        hashes = [(s, Hash(self._slots.blockhash(s))) for s in range(slot - 1, first - 1, -1)]
        self._svm.set_slot_hashes(hashes)

    def add_program(self, address: Pubkey, elf: bytes) -> None:
        """Install a program at `address`. Raises ValueError where the bytes are no loadable program."""
        try:
            self._svm.add_program(address, elf)
        except BaseException as error:  # a refused ELF surfaces as pyo3's PanicException, outside Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise ValueError(f"the program for `{address}` cannot be loaded: {error}") from None

    def account(self, address: Pubkey) -> Account | None:
        account = self._svm.get_account(address)
        return account if account is not None and account.lamports > 0 else None

    def balance(self, address: Pubkey) -> int:
        return self._svm.get_balance(address) or 0

    def put_account(self, address: Pubkey, account: Account) -> None:
        """Set an account past the rules: the genesis and the restoring of a snapshot."""
        self._svm.set_account(address, account)

    def program_accounts(self, owner: Pubkey) -> list[tuple[Pubkey, Account]]:
        return [(k, a) for k, a in self._svm.get_program_accounts(owner) if a.lamports > 0]

    def rent_exempt(self, size: int) -> int:
        return self._svm.minimum_balance_for_rent_exemption(size)

    def loaded_addresses(self, tx: VersionedTransaction) -> tuple[list[Pubkey], list[Pubkey]]:
        """The addresses that a v0 message takes from lookup tables: writable, then read-only."""
        writable: list[Pubkey] = []
        readonly: list[Pubkey] = []
        message = tx.message
        if not isinstance(message, MessageV0):
            return writable, readonly
        for lookup in message.address_table_lookups:
            table = self.account(lookup.account_key)
            if table is None:
                raise LookupTableError("AddressLookupTableNotFound")
            if table.owner != _LOOKUP_TABLE_PROGRAM:
                raise LookupTableError("InvalidAddressLookupTableOwner")
            # After a header of 56 bytes the table is nothing but addresses (address-lookup-table interface).
            body = table.data[56:]
            if len(table.data) < 56 or len(body) % 32:
                raise LookupTableError("InvalidAddressLookupTableData")
            for indexes, into in ((lookup.writable_indexes, writable), (lookup.readonly_indexes, readonly)):
                for index in indexes:
                    if index * 32 >= len(body):
                        raise LookupTableError("InvalidAddressLookupTableIndex")
                    into.append(Pubkey(body[index * 32 : index * 32 + 32]))
        return writable, readonly

    def attempt(self, tx: VersionedTransaction, slot: int) -> Outcome | Simulation:
        """Run `tx` at `slot` and keep its effects, unless it fails: then nothing is changed, as if it had been simulated.

        One run instead of a simulation and a run. What a failed transaction leaves behind is its fee and an advanced nonce
        (both in accounts that it writes), and that is taken back.
        """
        self.enter_slot(slot)
        try:
            extra_writable, _ = self.loaded_addresses(tx)
        except LookupTableError as error:
            return Simulation(error.code, [], 0, 0, None, [], {})
        static = tx.message.account_keys
        writable = (*(k for i, k in enumerate(static) if is_writable(tx, i)), *extra_writable)
        before = [(k, self._svm.get_account(k)) for k in writable]
        result, outcome = self._run(tx)
        if outcome.landed and outcome.err is None:
            return outcome
        for address, account in before:
            if self._svm.get_account(address) != account:
                self._svm.set_account(address, account or Account(0, b"", _NO_PROGRAM))
        return _simulation(result)

    def execute(self, tx: VersionedTransaction, slot: int) -> Outcome:
        """Run `tx` at `slot` and keep its effects (also the fee of a transaction that fails)."""
        self.enter_slot(slot)
        try:
            return self._run(tx)[1]
        except LookupTableError as error:
            return Outcome(False, error.code, {}, (), ())

    def _run(self, tx: VersionedTransaction) -> tuple[TransactionMetadata | FailedTransactionMetadata, Outcome]:
        """Raises LookupTableError before anything is done."""
        extra_writable, extra_readonly = self.loaded_addresses(tx)
        static = tx.message.account_keys
        keys = (*static, *extra_writable, *extra_readonly)
        writable = (*(k for i, k in enumerate(static) if is_writable(tx, i)), *extra_writable)
        pre = [self.balance(k) for k in keys]
        result = _guard(self._svm.send_transaction, tx)
        failed = isinstance(result, FailedTransactionMetadata)
        details = result.meta() if failed else result
        err = error_json(result.err()) if failed else None
        if failed and details.signature() == _NO_SIGNATURE:
            return result, Outcome(False, err, {}, keys, writable)
        meta: dict[str, object] = {
            "err": err,
            "status": {"Ok": None} if err is None else {"Err": err},
            "fee": details.fee(),
            "preBalances": pre,
            "postBalances": [self.balance(k) for k in keys],
            "innerInstructions": _inner_json(details),
            "logMessages": details.logs(),
            "preTokenBalances": [],
            "postTokenBalances": [],
            "rewards": [],
            "loadedAddresses": {
                "writable": [str(k) for k in extra_writable],
                "readonly": [str(k) for k in extra_readonly],
            },
            "computeUnitsConsumed": details.compute_units_consumed(),
        }
        returned = _return_json(details)
        if returned is not None:
            meta["returnData"] = returned
        return result, Outcome(True, err, meta, keys, writable)

    def simulate(self, tx: VersionedTransaction, slot: int) -> Simulation:
        """Run `tx` at `slot` and forget its effects."""
        self.enter_slot(slot)
        try:
            self.loaded_addresses(tx)
        except LookupTableError as error:
            return Simulation(error.code, [], 0, 0, None, [], {})
        return _simulation(_guard(self._svm.simulate_transaction, tx))


def _simulation(
    result: TransactionMetadata | FailedTransactionMetadata | SimulatedTransactionInfo,
) -> Simulation:
    details = result if isinstance(result, TransactionMetadata) else result.meta()
    return Simulation(
        err=error_json(result.err()) if isinstance(result, FailedTransactionMetadata) else None,
        logs=details.logs(),
        units=details.compute_units_consumed(),
        fee=details.fee(),
        return_data=_return_json(details),
        inner=_inner_json(details),
        accounts=dict(result.post_accounts()) if isinstance(result, SimulatedTransactionInfo) else {},
    )


_LOOKUP_TABLE_PROGRAM: Final = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")


def is_writable(tx: VersionedTransaction, index: int) -> bool:
    """Whether the message asks to write to its static account `index` (message header, Solana docs)."""
    header = tx.message.header
    signers = header.num_required_signatures
    if index < signers:
        return index < signers - header.num_readonly_signed_accounts
    return index < len(tx.message.account_keys) - header.num_readonly_unsigned_accounts


def message_version(tx: VersionedTransaction) -> int | None:
    """None for a legacy message, else the version number."""
    return None if isinstance(tx.message, Message) else int(tx.version())


def _guard(call: Callable[[VersionedTransaction], R], tx: VersionedTransaction) -> R:
    try:
        return call(tx)
    except BaseException as error:
        if isinstance(error, Exception | KeyboardInterrupt | SystemExit):
            raise
        # A panic inside the machine: its state can no longer be trusted, so the node must not go on.
        raise MachinePanicError(f"the virtual machine panicked: {error}") from None


class MachinePanicError(Exception):
    """The virtual machine broke while it ran a transaction."""


def _inner_json(details: TransactionMetadata) -> list[dict[str, object]]:
    result: list[dict[str, object]] = []
    for index, group in enumerate(details.inner_instructions()):
        if group:
            result.append({"index": index, "instructions": [_compiled_json(i) for i in group]})
    return result


def _compiled_json(inner: InnerInstruction) -> dict[str, object]:
    instruction = inner.instruction()
    return {
        "programIdIndex": instruction.program_id_index,
        "accounts": list(instruction.accounts),
        "data": b58encode(bytes(instruction.data)),
        "stackHeight": inner.stack_height(),
    }


def _return_json(details: TransactionMetadata) -> dict[str, object] | None:
    returned = details.return_data()
    if returned.program_id == _NO_PROGRAM and not returned.data:
        return None
    return {"programId": str(returned.program_id), "data": [base64.b64encode(returned.data).decode(), "base64"]}
