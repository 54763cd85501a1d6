"""Solana's JSON-RPC error codes and the texts of its transaction errors.

Codes: `rpc-client-api/src/custom_error.rs` of Agave; texts: `TransactionError` and `InstructionError` in solana-sdk.
"""

from collections.abc import Mapping
from typing import Final

from solders.transaction_status import (
    InstructionErrorBorshIO,
    InstructionErrorCustom,
    TransactionErrorDuplicateInstruction,
    TransactionErrorInstructionError,
    TransactionErrorInsufficientFundsForRent,
    TransactionErrorProgramExecutionTemporarilyRestricted,
)

from acgs1.ledger.json_values import as_array, as_object

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
PREFLIGHT_FAILURE: Final = -32002
SIGNATURE_VERIFICATION_FAILURE: Final = -32003
BLOCK_NOT_AVAILABLE: Final = -32004
NODE_UNHEALTHY: Final = -32005
UNSUPPORTED_TRANSACTION_VERSION: Final = -32015
MIN_CONTEXT_SLOT_NOT_REACHED: Final = -32016

# What the JSON of a transaction error looks like: a name, or one name with its payload.
ErrorJson = str | dict[str, object]


class RpcError(Exception):
    """An answer of the kind `error`: a code of Solana's, a message, and data where the code has some."""

    def __init__(self, code: int, message: str, data: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def to_json(self) -> dict[str, object]:
        body: dict[str, object] = {"code": self.code, "message": self.message}
        if self.data is not None:
            body["data"] = dict(self.data)
        return body


def invalid_params(message: str) -> RpcError:
    return RpcError(INVALID_PARAMS, message)


def error_json(error: object) -> ErrorJson:
    """The serde JSON of a solders transaction error, e.g. `{"InstructionError": [0, {"Custom": 6001}]}`."""
    match error:
        case TransactionErrorInstructionError():
            return {"InstructionError": [error.index, _instruction_error_json(error.err)]}
        case TransactionErrorDuplicateInstruction():
            return {"DuplicateInstruction": error.index}
        case TransactionErrorInsufficientFundsForRent():
            return {"InsufficientFundsForRent": {"account_index": error.account_index}}
        case TransactionErrorProgramExecutionTemporarilyRestricted():
            return {"ProgramExecutionTemporarilyRestricted": {"account_index": error.account_index}}
        case _:
            return _variant(error)


def _instruction_error_json(error: object) -> ErrorJson:
    match error:
        case InstructionErrorCustom():
            return {"Custom": error.code}
        case InstructionErrorBorshIO():
            return {"BorshIoError": error.value}
        case _:
            return _variant(error)


def _variant(error: object) -> str:
    # The unit variants print as `TransactionErrorFieldless.BlockhashNotFound`.
    return str(error).rpartition(".")[2]


def describe(error: ErrorJson) -> str:
    """The sentence that Solana prints for the error."""
    if isinstance(error, str):
        return _TRANSACTION_TEXTS.get(error, error)
    ((name, payload),) = error.items()
    if name == "InstructionError" and (parts := as_array(payload)) is not None:
        index, inner = parts
        return f"Error processing Instruction {index}: {_describe_instruction(inner)}"
    if name == "InsufficientFundsForRent" and (which := as_object(payload)) is not None:
        return f"Transaction results in an account ({which['account_index']}) with insufficient funds for rent"
    if name == "DuplicateInstruction":
        return f"Transaction contains a duplicate instruction ({payload}) that is not allowed"
    return f"{name}: {payload}"


def _describe_instruction(error: object) -> str:
    if (tagged := as_object(error)) is not None:
        ((name, payload),) = tagged.items()
        if name == "Custom" and isinstance(payload, int):
            return f"custom program error: {payload:#x}"
        return f"{name}: {payload}"
    return _INSTRUCTION_TEXTS.get(str(error), str(error))


_TRANSACTION_TEXTS: Final[dict[str, str]] = {
    "AccountBorrowOutstanding": "Transaction processing left an account with an outstanding borrowed reference",
    "AccountInUse": "Account in use",
    "AccountLoadedTwice": "Account loaded twice",
    "AccountNotFound": "Attempt to debit an account but found no record of a prior credit.",
    "AddressLookupTableNotFound": "Transaction loads an address table account that doesn't exist",
    "AlreadyProcessed": "This transaction has already been processed",
    "BlockhashNotFound": "Blockhash not found",
    "CallChainTooDeep": "Loader call chain is too deep",
    "InsufficientFundsForFee": "Insufficient funds for fee",
    "InvalidAccountForFee": "This account may not be used to pay transaction fees",
    "InvalidAccountIndex": "Transaction contains an invalid account reference",
    "InvalidAddressLookupTableData": "Transaction loads an address table account with invalid data",
    "InvalidAddressLookupTableIndex": "Transaction address table lookup uses an invalid index",
    "InvalidAddressLookupTableOwner": "Transaction loads an address table account with an invalid owner",
    "InvalidLoadedAccountsDataSizeLimit": "LoadedAccountsDataSizeLimit set for transaction must be greater than 0.",
    "InvalidProgramForExecution": "This program may not be used for executing instructions",
    "InvalidRentPayingAccount": "Transaction leaves an account with a lower balance than rent-exempt minimum",
    "InvalidWritableAccount": "Transaction loads a writable account that cannot be written",
    "MaxLoadedAccountsDataSizeExceeded": "Transaction exceeded max loaded accounts data size cap",
    "MissingSignatureForFee": "Transaction requires a fee but has no signature present",
    "ProgramAccountNotFound": "Attempt to load a program that does not exist",
    "ProgramCacheHitMaxLimit": "Program cache hit max limit",
    "ResanitizationNeeded": "ResanitizationNeeded",
    "SanitizeFailure": "Transaction failed to sanitize accounts offsets correctly",
    "SignatureFailure": "Transaction did not pass signature verification",
    "TooManyAccountLocks": "Transaction locked too many accounts",
    "UnbalancedTransaction": "Sum of account balances before and after transaction do not match",
    "UnsupportedVersion": "Transaction version is unsupported",
}

_INSTRUCTION_TEXTS: Final[dict[str, str]] = {
    "AccountAlreadyInitialized": "instruction requires an uninitialized account",
    "AccountBorrowFailed": "instruction tries to borrow reference for an account which is already borrowed",
    "AccountDataSizeChanged": "program other than the account's owner changed the size of the account data",
    "AccountDataTooSmall": "account data too small for instruction",
    "AccountNotExecutable": "instruction expected an executable account",
    "AccountNotRentExempt": "An account does not have enough lamports to be rent-exempt",
    "ArithmeticOverflow": "Program arithmetic overflowed",
    "CallDepth": "Cross-program invocation call depth too deep",
    "ComputationalBudgetExceeded": "Computational budget exceeded",
    "DuplicateAccountIndex": "instruction contains duplicate accounts",
    "ExternalAccountDataModified": "instruction modified data of an account it does not own",
    "ExternalAccountLamportSpend": "instruction spent from the balance of an account it does not own",
    "GenericError": "generic instruction error",
    "IllegalOwner": "Provided owner is not allowed",
    "Immutable": "Account is immutable",
    "IncorrectAuthority": "Incorrect authority provided",
    "IncorrectProgramId": "incorrect program id for instruction",
    "InsufficientFunds": "insufficient funds for instruction",
    "InvalidAccountData": "invalid account data for instruction",
    "InvalidAccountOwner": "Invalid account owner",
    "InvalidArgument": "invalid program argument",
    "InvalidInstructionData": "invalid instruction data",
    "InvalidRealloc": "Failed to reallocate account data",
    "InvalidSeeds": "Provided seeds do not result in a valid address",
    "MaxSeedLengthExceeded": "Length of the seed is too long for address generation",
    "MissingAccount": "An account required by the instruction is missing",
    "MissingRequiredSignature": "missing required signature for instruction",
    "NotEnoughAccountKeys": "insufficient account keys for instruction",
    "PrivilegeEscalation": "Cross-program invocation with unauthorized signer or writable account",
    "ProgramFailedToCompile": "Program failed to compile",
    "ProgramFailedToComplete": "Program failed to complete",
    "ReadonlyDataModified": "instruction modified data of a read-only account",
    "ReadonlyLamportChange": "instruction changed the balance of a read-only account",
    "ReentrancyNotAllowed": "Cross-program invocation reentrancy not allowed for this instruction",
    "UnbalancedInstruction": "sum of account balances before and after instruction do not match",
    "UninitializedAccount": "instruction requires an initialized account",
    "UnsupportedProgramId": "Unsupported program id",
    "UnsupportedSysvar": "Unsupported sysvar",
}
