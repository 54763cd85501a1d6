"""What can go wrong between us and the ledger, told apart by what a caller can do about it."""

import re
from collections.abc import Sequence
from typing import ClassVar

from acgs1.core.errors import DomainError


class LedgerError(DomainError):
    """Base of every failure of a ledger call."""

    code: ClassVar[str] = "ledger_error"
    title: ClassVar[str] = "The ledger refused the request"


class LedgerUnavailableError(LedgerError):
    """The node does not answer, or answers that it is unhealthy. Nothing is known about what was sent."""

    code: ClassVar[str] = "ledger_unavailable"
    title: ClassVar[str] = "The ledger cannot be reached"


class RpcFailureError(LedgerError):
    """The node answered with an error that is not about a transaction. `rpc_code` is Solana's."""

    code: ClassVar[str] = "ledger_rpc_error"
    title: ClassVar[str] = "The ledger node refused the call"

    def __init__(self, detail: str, rpc_code: int, data: object = None) -> None:
        super().__init__(detail)
        self.rpc_code = rpc_code
        self.data = data


class TransactionExpiredError(LedgerError):
    """The transaction did not land while its blockhash was valid, in as many attempts as were allowed. It never will."""

    code: ClassVar[str] = "ledger_transaction_expired"
    title: ClassVar[str] = "The ledger did not take the transaction in time"


class TransactionUncertainError(LedgerUnavailableError):
    """After the transaction was handed over the node became unreachable, or told nothing certain while it could have: it may
    or may not have landed.

    `signature` tells: ask for its status before doing anything again.
    """

    code: ClassVar[str] = "ledger_transaction_uncertain"
    title: ClassVar[str] = "It is not known whether the ledger took the transaction"

    def __init__(self, detail: str, signature: str) -> None:
        super().__init__(detail)
        self.signature = signature


class TransactionFailedError(LedgerError):
    """The transaction was refused or failed, for a reason outside the program. `error` is Solana's JSON for it."""

    code: ClassVar[str] = "ledger_transaction_failed"
    title: ClassVar[str] = "The ledger refused the transaction"

    def __init__(self, detail: str, error: object, logs: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.error = error
        self.logs = tuple(logs)


class ProgramError(TransactionFailedError):
    """The governance program refused: `name` is its error's name (`AlreadyVoted`), `number` its code (6006).

    As a `DomainError` its `code` is the name in snake case behind `ledger_`, e.g. `ledger_already_voted`.
    """

    title: ClassVar[str] = "The governance program refused the transaction"

    @classmethod
    def codes(cls) -> tuple[str, ...]:
        return ("ledger_*",)

    def __init__(self, name: str, number: int, detail: str, error: object, logs: Sequence[str] = ()) -> None:
        super().__init__(detail, error, logs)
        self.name = name
        self.number = number
        self.code = f"ledger_{snake_case(name)}"  # pyright: ignore[reportAttributeAccessIssue]


class UnfundedError(LedgerError):
    """An account has too little SOL for what it has to pay, and the cluster has no faucet: somebody has to send some."""

    code: ClassVar[str] = "ledger_unfunded"
    title: ClassVar[str] = "An account has too little SOL"


class AccountMissingError(LedgerError):
    """There is no such account on the ledger (yet)."""

    code: ClassVar[str] = "ledger_account_missing"
    title: ClassVar[str] = "The ledger has no such account"


class CursorLostError(LedgerError):
    """The ledger does not know the transaction that a cursor stands behind, so what came after it cannot be told."""

    code: ClassVar[str] = "ledger_cursor_lost"
    title: ClassVar[str] = "The ledger does not know the cursor"


class KeyFileError(LedgerError):
    """A keypair file cannot be used."""

    code: ClassVar[str] = "ledger_key_file"
    title: ClassVar[str] = "The keypair file cannot be used"


def snake_case(name: str) -> str:
    """`TooManyPrinciples` -> `too_many_principles`, `NotAMember` -> `not_a_member`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
